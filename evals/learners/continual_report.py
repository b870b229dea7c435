"""The report of the study of learning tasks one after the other: its table, and the matrix R of every arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.learners.cells import Cell
from evals.learners.matrix import (
    Matrix,
    accuracy,
    backward_transfer,
    forgetting,
    forward_transfer,
    matrix,
    plasticity,
)
from evals.learners.networks import NEAR
from evals.learners.report import Column, Report, publish
from evals.learners.scores import by_learner, report
from evals.learners.settings import Continual
from evals.reports.figure import Panel, colours, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADLINE = ("tasks", "steps", "batch", "buffer", "tested", "seed", "seeds", "commit")

COLUMNS = (
    Column("BWT", "bwt", "what learning the later tasks did to the earlier ones, in accuracy", 100, "+.1f"),
    Column("forgetting", "forgetting", "how far below its best accuracy an earlier task ends", 100),
    Column(
        "FWT", "fwt", "the accuracy in a task before it was learned, over that of random weights", 100, "+.1f"
    ),
    Column("learned %", "plasticity", "accuracy in each task right after learning it", 100),
)

FIRST = {
    "sequences": (
        Column(
            "accuracy %", "accuracy", "sequences answered without a mistake, in all tasks at the end", 100
        ),
        Column("bits %", "bits", "bits that are right, in all tasks at the end", 100),
    ),
    "functions": (
        Column("accuracy %", "accuracy", f"answers to within {NEAR}, in all tasks at the end", 100),
        Column("explained %", "explained", "of the variance of the answers, in all tasks at the end", 100),
    ),
}
"""The columns before those, for each kind of task; the last one is of the score of an answer."""

LIMITS = {
    "accuracy": (0.0, 1.0),
    "bits": (0.0, 1.0),
    "explained": (-inf, 1.0),
    "plasticity": (0.0, 1.0),
    "forgetting": (-1.0, 1.0),
    "bwt": (-1.0, 1.0),
    "fwt": (-1.0, 1.0),
}

NOTE = "Held-out examples; each arm learns the tasks in the same order, with as many fresh examples."


def measure(cells: Sequence[Cell], *, score: str) -> dict[str, float]:
    """The metrics of one learner, with the name of its mean score; those of a sequence only if it learned one."""
    exact = matrix(cells, lambda cell: cell.success)
    found = {"accuracy": accuracy(exact), score: accuracy(matrix(cells, lambda cell: cell.reward))}
    if isnan(exact[0, 0]):
        return found
    return {
        **found,
        "bwt": backward_transfer(exact),
        "forgetting": forgetting(exact),
        "fwt": forward_transfer(exact),
        "plasticity": plasticity(exact),
    }


def write(out: Path, rows: Sequence[Cell], manifest: Mapping[str, Any]) -> Report:
    """Write the report of a study, and return what it says."""
    arms = [arm for arm in manifest["arms"] if any(row.arm == arm for row in rows)]
    manifest = {"tasks": Continual.tasks, **manifest}
    first = FIRST[manifest["tasks"]]
    measured = partial(measure, score=first[-1].metric)
    found = report(rows, measured, (*first, *COLUMNS), arms=arms, limits=LIMITS, note=NOTE)
    draw = partial(_plot, "accuracy in every task after every task (means over seeds)", rows, arms)
    return publish(out, manifest, found, headline=HEADLINE, pictures={"plot.png": draw})


def _plot(title: str, rows: Sequence[Cell], arms: Sequence[str]) -> bytes:
    """Draw for every arm its matrix, and its errors task by task."""
    names = list(dict.fromkeys(row.task for row in sorted(rows, key=lambda row: row.number)))
    seeds = by_learner(rows)
    means: dict[str, Matrix] = {
        arm: np.mean([matrix(cells, lambda cell: cell.success) for cells in seeds[arm].values()], 0)
        for arm in arms
    }
    colour = colours(names)

    def draw(axis: Axes, r: Matrix, panel: Panel) -> None:
        if panel.measure == "matrix":
            axis.imshow(r, vmin=0, vmax=1, cmap="viridis", aspect="auto")
            for (after, number), value in np.ndenumerate(r):
                if not isnan(value):
                    dark = "black" if value > 0.6 else "white"
                    axis.text(number, after, f"{100 * value:.0f}", ha="center", va="center", color=dark)
            axis.set_xticks(range(len(names)), names)
            axis.set_yticks(range(len(names) + 1), ["none", *names])
        else:
            for number, name in enumerate(names):
                axis.plot(
                    range(len(names) + 1), 100 * (1 - r[:, number]), "o-", color=colour[name], label=name
                )
            axis.set_xticks(range(len(names) + 1), ["none", *names])
            axis.set_ylim(-3, 103)
            axis.set_xlabel("learned last")
        axis.set_ylabel(panel.label)

    panels = (Panel("matrix", "learned last"), Panel("errors", "wrong %"))
    return grid(title, means, panels, draw, height=2.6, legend=True)
