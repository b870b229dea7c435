"""The report of the study of continual PPO: its table, and what is learned against what is kept, arm by arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.learners.cells import Cell
from evals.learners.cppo import measure
from evals.learners.cppo_arms import ARMS, FAMILIES
from evals.learners.report import Column, Report, publish
from evals.learners.scores import Score, report
from evals.reports.figure import Panel, grid, reach

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADLINE = ("tasks", "iterations", "rollouts", "stored", "tested", "seed", "seeds", "commit")

COLUMNS = (
    Column(
        "success %", "success", "episodes that reached the preferred object, in all tasks at the end", 100
    ),
    Column("return", "return", "mean return, in all tasks at the end", form=".2f"),
    Column(
        "forgetting", "forgetting", "by how much the return of an earlier task has fallen (SFR)", form=".2f"
    ),
    Column("lost %", "forgetting_ratio", "share of the success in earlier tasks that was lost", 100),
    Column("learned %", "plasticity", "success in each task right after learning it", 100),
)

LIMITS = {
    "success": (0.0, 1.0),
    "plasticity": (0.0, 1.0),
    "forgetting": (-inf, inf),
    "forgetting_ratio": (-inf, 1.0),
}

NOTE = (
    "Held-out layouts; all arms meet the same episodes. The number behind an arm's name is the weight of what"
    " retains; an arm without one has the weight that was best with seeds 100 to 104, which are not reported."
)


def write(out: Path, rows: Sequence[Cell], manifest: Mapping[str, Any]) -> Report:
    """Write the report of a study, and return what it says."""
    found = report(rows, measure, COLUMNS, arms=manifest["arms"], limits=LIMITS, note=NOTE)
    draw = partial(_plot, "what is learned against what is kept (means over seeds)", found.lines)
    return publish(out, manifest, found, headline=HEADLINE, pictures={"plot.png": draw})


def _plot(title: str, lines: Sequence[Score]) -> bytes:
    """Draw every arm as a point, and the sweep of each family as a line: up and to the right is better."""
    found = {(line.arm, line.metric): line for line in lines}
    arms = dict.fromkeys(line.arm for line in lines)

    def draw(axis: Axes, families: Sequence[str], panel: Panel) -> None:
        for number, family in enumerate(families):
            swept = sorted(
                (arm for arm in arms if ARMS[arm].family == family), key=lambda a: ARMS[a].coefficient
            )
            learned = [found[arm, "plasticity"] for arm in swept]
            lost = [found[arm, "forgetting_ratio"] for arm in swept]
            axis.errorbar(
                [100 * line.mean for line in learned],
                [100 * (1 - line.mean) for line in lost],
                xerr=reach(learned, 100),
                yerr=reach(lost, 100)[::-1],
                fmt="o-",
                markersize=4,
                linewidth=1,
                color=f"C{number}",
                label=family,
            )
        axis.set_xlabel("learned: success right after each task, %")
        axis.set_ylabel(panel.label)
        axis.legend(frameon=False, fontsize="small")

    groups = {
        "without rollouts of earlier tasks": [
            name for name in FAMILIES if "d2" not in name and "logged" not in name
        ],
        "with stored rollouts of the end of each task": [name for name in FAMILIES if "d2" in name],
        "with stored rollouts of all of its learning": [name for name in FAMILIES if "logged" in name],
    }
    there = {
        label: [name for name in names if name in {ARMS[arm].family for arm in arms}]
        for label, names in groups.items()
    }
    panel = Panel("kept", "kept: success in earlier tasks, % of what it was")
    return grid(title, {label: names for label, names in there.items() if names}, [panel], draw, height=4.5)
