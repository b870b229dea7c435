"""The report of the study of the skill agent: its summary, its table and its plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.learners.report import Column, Report, meanings, publish
from evals.learners.rows import LearnerRow
from evals.learners.summary import MEASURES, LearnerLine, over_seeds, summarise
from evals.reports.figure import Panel, colours, grid
from evals.reports.metrics import Estimate
from evals.reports.table import Table, interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLOCK = 10
"""Episodes that make one point of a curve."""

HEADLINE = ("env_name", "episodes", "tested", "seed", "seeds", "commit")
"""What of the manifest the table is headed with."""

PANELS = (
    Panel("return", "return"),
    Panel("steps", "steps"),
    Panel("decisions", "decisions"),
    Panel("skills", "skills in the library"),
    Panel("uses", "skills used so far"),
)
"""What is drawn over training."""


COLUMNS = (
    Column("success %", "success", "episodes that reached the goal", 100),
    Column("steps", "steps", "actions an episode, solved or not"),
    Column("over shortest", "steps_over_shortest", "steps over the fewest that the task takes", form=".2f"),
    Column("decisions", "decisions", "choices an episode: of a skill, or of an action where none applied"),
    Column("return", "return", "sum of rewards an episode"),
    Column("skills", "skills", "in the library"),
)


def write(out: Path, rows: Sequence[LearnerRow], manifest: Mapping[str, Any]) -> Report:
    """Write the report of a study, and return what it says."""
    last = min(manifest["tested"], manifest["episodes"])
    lines = summarise(rows, last)
    title = f"{manifest['study']} over training (95 % intervals)"
    return publish(
        out,
        manifest,
        Report(lines, _table(lines), _note(last)),
        headline=HEADLINE,
        pictures={"plot.png": lambda: _plot(title, rows)},
    )


def _table(lines: Sequence[LearnerLine]) -> Table:
    """A line for each regime, split and arm."""
    cells: dict[tuple[str, str, str], dict[str, LearnerLine]] = {}
    for line in lines:
        cells.setdefault((line.regime, line.split, line.arm), {})[line.metric] = line
    head = ["regime", "split", "arm", "episodes", *(column.head for column in COLUMNS)]
    body = [
        [
            *key,
            str(by_metric["success"].n),
            *(interval(by_metric[c.metric], c.scale, c.form) for c in COLUMNS),
        ]
        for key, by_metric in cells.items()
    ]
    return Table(head, body)


def _note(last: int) -> str:
    return (
        "Means with 95 % intervals: Student's, over seeds, of which each is one learner; over tasks where there is"
        " one seed, or all agree."
        f" Split `train`: the last {last} episodes of training; `dev`: in the same layouts from other starts;"
        " `test`: in layouts that training never visited."
        f"\n\n{meanings(COLUMNS)}"
    )


def _plot(title: str, rows: Sequence[LearnerRow]) -> bytes:
    """Draw every measure over training, a row of panels a regime."""
    trained = [row for row in rows if row.split == "train"]
    colour = colours(row.arm for row in trained)
    regimes: dict[str, list[LearnerRow]] = {}
    for row in trained:
        regimes.setdefault(row.kind, []).append(row)

    def draw(axis: Axes, found: Sequence[LearnerRow], panel: Panel) -> None:
        for arm in colour:
            places, estimates = _curve([row for row in found if row.arm == arm], panel.measure)
            if any(estimate.mean for estimate in estimates):
                low, high = (
                    [estimate.low for estimate in estimates],
                    [estimate.high for estimate in estimates],
                )
                axis.plot(places, [estimate.mean for estimate in estimates], color=colour[arm], label=arm)
                axis.fill_between(places, low, high, color=colour[arm], alpha=0.2, linewidth=0)
        axis.set_xlabel("episode")
        axis.set_ylabel(panel.label)

    return grid(title, regimes, PANELS, draw, height=2.6, legend=True)


def _curve(rows: Sequence[LearnerRow], metric: str) -> tuple[list[int], list[Estimate]]:
    """The points of a curve: how many episodes there were, and the mean over the last block of them.

    Of uses it is not the mean but the sum of all until then.
    """
    ends: dict[int, int] = {}
    blocks: dict[int, list[tuple[float, int]]] = {}
    used: dict[int, float] = {}
    for row in sorted(rows, key=lambda row: row.episode):
        block, value = row.episode // BLOCK, MEASURES[metric](row)
        ends[block] = row.episode + 1
        blocks.setdefault(block, []).append((value, row.seed))
        used[row.seed] = used.get(row.seed, 0) + value
        if metric == "uses":
            blocks[block] = [(total, seed) for seed, total in used.items()]
    return list(ends.values()), [over_seeds(*zip(*found, strict=True)) for found in blocks.values()]
