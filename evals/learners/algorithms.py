"""The study of algorithms on longer sequences than were trained on: copy, repeat and recall, with more slots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from evals.learners.cells import Cell, Look, Rows
from evals.learners.networks import network, scored
from evals.learners.report import Column, Report, publish
from evals.learners.scores import report
from evals.learners.sequences import Sequences
from evals.learners.settings import FAMILIES, LONGER, Algorithms
from evals.reports.figure import Panel, colours, grid
from memp.neural.continual import BITS, Examples
from memp.neural.dnc import DNC

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEQUENCES = Sequences()

BATCH = 64

RATES = {"dnc": 1e-2, "lstm": 3e-3}

TRAINED = {"copy": ((1, 6), (1, 1)), "repeat": ((1, 4), (1, 4)), "recall": ((2, 6), (1, 1))}
"""From how few to how many items, and times, each family is trained on."""


class Few(NamedTuple):
    """A test with the slots of training."""

    name: str
    family: str
    items: int


FEW = Few("copy-12-few", "copy", 12)

LONG = {"repeat": 1.7}
"""How many times as many steps a family is trained for, where it is not once."""

HEADLINE = ("steps", "slots", "more_slots", "tested", "seed", "seeds", "commit")

NOTE = (
    "Sequences answered without a mistake, in percent. Trained on up to 6 items (copy and recall), and up to 4 items"
    " up to 4 times (repeat)."
)


def live(study: Algorithms, unit: tuple[str, int]) -> list[Cell]:
    """Train one network of an arm for each family of tasks, and test it on longer sequences."""
    torch.set_num_threads(1)
    arm, seed = unit
    cells = []
    for family in FAMILIES[arm]:
        trainee = trained(study, arm, family, seed)
        random = torch.Generator().manual_seed(2 * seed + 1)
        if isinstance(trainee, DNC):
            if family == FEW.family:
                examples = draw(family, (FEW.items, 1), study.tested, random)
                cells.append(_cell(unit, FEW.name, 0, trainee, examples))
            trainee.slots = study.more_slots
        for number, amounts in enumerate(LONGER[family], 1):
            examples = draw(family, amounts, study.tested, random)
            cells.append(_cell(unit, _name(family, *amounts), number, trainee, examples))
        if isinstance(trainee, DNC) and family == FEW.family:
            cells[-1] = cells[-1].model_copy(update={"look": look_into(trainee, examples.only(0))})
    return cells


@torch.no_grad()
def _cell(unit: tuple[str, int], task: str, number: int, trainee: nn.Module, examples: Examples) -> Cell:
    """How a network does in the sequences of a test."""
    answers = trainee(examples.x)[0]
    return Cell(
        arm=unit[0],
        seed=unit[1],
        after=1,
        number=number,
        task=task,
        steps=float(len(examples.x)),
        **scored(answers, examples),
    )


@torch.no_grad()
def look_into(dnc: DNC, examples: Examples) -> Look:
    """Look into the memory of a network while it answers a sequence; rounded to thousandths."""
    state, states = None, []
    for x in examples.x:
        _, state = dnc(x.unsqueeze(0), state)
        states.append(state)
    first = int(examples.asked.argmax())
    return Look(
        written=_rows(torch.stack([state.written[0, 0] for state in states])),
        read=_rows(torch.stack([state.read[0, 0] for state in states])),
        memory=_rows(states[first - 1].memory[0]),
    )


def _rows(matrix: Tensor) -> Rows:
    return tuple(tuple(round(number, 3) for number in row) for row in matrix.tolist())


def trained(study: Algorithms, arm: str, family: str, seed: int) -> nn.Module:
    """Train a network from nothing on the short sequences of a family."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(2 * seed)
    kind = "lstm" if arm == "lstm" else "dnc"
    trainee = network(kind, SEQUENCES.inputs, SEQUENCES.bits, slots=study.slots, links=arm != "dnc-no-links")
    steps = int(study.steps * LONG.get(family, 1) * (4 if kind == "lstm" else 1))
    optimizer = torch.optim.Adam(trainee.parameters(), lr=RATES[kind])
    schedule = LambdaLR(optimizer, partial(_rate, steps=steps))
    for _ in range(steps):
        (fewest, most), (once, often) = TRAINED[family]
        items = int(torch.randint(fewest, most + 1, (), generator=random))
        times = int(torch.randint(once, often + 1, (), generator=random))
        examples = draw(family, (items, times), BATCH, random)
        optimizer.zero_grad()
        BITS.losses(trainee(examples.x)[0], examples).mean().backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    return trainee


def draw(family: str, amounts: tuple[int, int], batch: int, random: torch.Generator) -> Examples:
    """Draw sequences of a family: of how many items, asked for how many times."""
    items, times = amounts
    if family == "recall":
        return SEQUENCES.recall(items, batch, random)
    return SEQUENCES.draw("copy", items, batch, random, times=times)


def write(out: Path, rows: Sequence[Cell], manifest: Mapping[str, Any]) -> Report:
    """Write the report of a study, and return what it says."""
    columns = [
        Column(name, name, f"{family} of {items} items" + (f", {times} times" if times > 1 else ""), 100)
        for family, tests in LONGER.items()
        for items, times in tests
        for name in [_name(family, items, times)]
    ]
    few = f"{FEW.family} of {FEW.items} items with the slots of training, by the same weights"
    columns.append(Column(FEW.name, FEW.name, few, 100))
    limits = {column.metric: (0.0, 1.0) for column in columns}
    found = report(rows, _measure, columns, arms=manifest["arms"], limits=limits, note=NOTE)
    draw_all = partial(_plot, "sequences longer than were trained on (means over seeds, and each seed)", rows)
    pictures = {"plot.png": draw_all}
    if seen := {
        f"{row.arm}: {row.task}": row.look for row in rows if row.look and row.seed == manifest["seed"]
    }:
        pictures["memory.png"] = partial(_plot_memory, "the memory in one sequence", seen)
    return publish(out, manifest, found, headline=HEADLINE, pictures=pictures)


def _name(family: str, items: int, times: int) -> str:
    return f"{family}-{items}" + (f"x{times}" if family == "repeat" else "")


def _measure(cells: Sequence[Cell]) -> dict[str, float]:
    return {cell.task: cell.success for cell in cells}


def _rate(step: int, *, steps: int) -> float:
    """Linear warm-up over 100 steps, then half a cosine down to a fiftieth."""
    return min(1.0, (step + 1) / 100) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)


def _plot(title: str, rows: Sequence[Cell]) -> bytes:
    """Draw, for each family, how many sequences of each length are right."""
    colour = colours(row.arm for row in rows)

    def show(axis: Axes, found: Sequence[Cell], panel: Panel) -> None:
        names = [_name(panel.measure, items, times) for items, times in LONGER[panel.measure]]
        for arm in colour:
            mine = [row for row in found if row.arm == arm and row.task in names]
            axis.scatter(
                [row.number for row in mine], [100 * row.success for row in mine], s=8, color=colour[arm]
            )
            if mine:
                means = [fmean(100 * row.success for row in mine if row.task == name) for name in names]
                axis.plot(range(len(names)), means, color=colour[arm], label=arm)
        axis.set_xticks(range(len(names)), names)
        axis.set_ylim(-3, 103)
        axis.set_ylabel(panel.label)

    panels = [Panel(family, "right sequences %") for family in LONGER]
    return grid(title, {"": rows}, panels, show, height=2.8, legend=True)


def _plot_memory(title: str, looks: Mapping[str, Look]) -> bytes:
    """Draw where a memory was written to and read from, step by step, and what it held."""

    def show(axis: Axes, look: Look, panel: Panel) -> None:
        matrix = getattr(look, panel.measure)
        axis.imshow(list(zip(*matrix, strict=True)) if panel.measure != "memory" else matrix, aspect="auto")
        axis.set_xlabel("number" if panel.measure == "memory" else "step")
        axis.set_ylabel(panel.label)

    panels = [
        Panel("written", "slot written to"),
        Panel("read", "slot read from"),
        Panel("memory", "slot, after the items"),
    ]
    return grid(title, looks, panels, show, height=2.8)
