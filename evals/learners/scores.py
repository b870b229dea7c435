"""From what is measured of learners, an arm and a seed at a time, to a table: means over seeds, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import NamedTuple, Protocol, TypeVar

from evals.learners.report import Column, Report, meanings
from evals.learners.summary import over_seeds
from evals.reports.table import Table, interval


class Measured(Protocol):
    """A row of a study whose learners are told apart by arm and seed."""

    @property
    def arm(self) -> str:
        """The way to learn."""
        ...

    @property
    def seed(self) -> int:
        """The learner."""
        ...


M = TypeVar("M", bound=Measured)

Measure = Callable[[Sequence[M]], Mapping[str, float]]
"""From the rows of one learner to its metrics; what an arm does not have is left out."""


class Score(NamedTuple):
    """One row of a summary."""

    arm: str
    split: str
    metric: str
    mean: float
    low: float
    high: float

    n: int
    """How many learners."""


def by_learner(rows: Sequence[M]) -> dict[str, dict[int, list[M]]]:
    """The rows of each arm and seed, in the order of the arms."""
    found: dict[str, dict[int, list[M]]] = {}
    for row in rows:
        found.setdefault(row.arm, {}).setdefault(row.seed, []).append(row)
    return found


def summarise(
    rows: Sequence[M], measure: Measure[M], limits: Mapping[str, tuple[float, float]]
) -> list[Score]:
    """Estimate every metric of every arm, with Student's interval over seeds, which ends at its limits."""
    lines = []
    for arm, seeds in by_learner(rows).items():
        found = {seed: measure(of_one) for seed, of_one in seeds.items()}
        for metric in dict.fromkeys(name for metrics in found.values() for name in metrics):
            values = {seed: metrics[metric] for seed, metrics in found.items() if metric in metrics}
            mean, low, high, n = over_seeds([*values.values()], [*values])
            least, most = limits.get(metric, (-inf, inf))
            lines.append(Score(arm, "test", metric, mean, max(least, low), min(most, high), n))
    return lines


def report(
    rows: Sequence[M],
    measure: Measure[M],
    columns: Sequence[Column],
    *,
    arms: Sequence[str],
    limits: Mapping[str, tuple[float, float]],
    note: str,
) -> Report:
    """Make the table: a line an arm, in the order of `arms`, and a column for each metric that is told."""
    lines = sorted(summarise(rows, measure, limits), key=lambda line: arms.index(line.arm))
    by_arm: dict[str, dict[str, Score]] = {}
    for line in lines:
        by_arm.setdefault(line.arm, {})[line.metric] = line
    body = [
        [
            arm,
            str(max(line.n for line in found.values())),
            *(interval(found[c.metric], c.scale, c.form) if c.metric in found else "" for c in columns),
        ]
        for arm, found in by_arm.items()
    ]
    table = Table(["arm", "seeds", *(column.head for column in columns)], body)
    means = "Means over seeds with Student's 95 % intervals; with one seed the interval says nothing."
    return Report(lines, table, f"{means} {note}\n\n{meanings(columns)}")
