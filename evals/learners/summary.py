"""From the episodes of learners to a summary: means over seeds, with intervals that seeds decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from statistics import fmean, stdev
from typing import NamedTuple

from evals.learners.rows import LearnerRow
from evals.reports.metrics import Estimate, bootstrap, share
from tasks.base import Split

MEASURES: Mapping[str, Callable[[LearnerRow], float]] = {
    "success": lambda row: float(row.success),
    "steps": lambda row: row.steps,
    "steps_over_shortest": lambda row: row.steps / row.shortest,
    "decisions": lambda row: row.decisions,
    "return": lambda row: row.gained,
    "skills": lambda row: row.skills,
    "uses": lambda row: row.uses,
}
"""What is told of every episode, by the name of its metric."""

LIMITS: Mapping[str, tuple[float, float]] = {
    "success": (0, 1),
    "steps": (1, inf),
    "steps_over_shortest": (1, inf),
    "decisions": (1, inf),
    "return": (-inf, inf),
    "skills": (0, inf),
    "uses": (0, inf),
}
"""What no mean can leave; an interval ends there."""

T_975 = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
)
"""The 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom; with more, the last one is a little wide."""


class LearnerLine(NamedTuple):
    """One row of a summary."""

    arm: str
    split: str
    metric: str
    mean: float
    low: float
    high: float

    n: int
    """How many episodes."""

    regime: str


def summarise(rows: Iterable[LearnerRow], last: int) -> list[LearnerLine]:
    """Estimate every metric of every regime, split and arm; of training, over the last episodes alone.

    Args:
        rows: All episodes.
        last: How many episodes of training count, of each seed.
    """

    cells: dict[tuple[str, Split, str], list[LearnerRow]] = {}
    for row in sorted(rows, key=lambda row: (row.kind, row.split != "train")):
        cells.setdefault((row.kind, row.split, row.arm), []).append(row)
    lines = []
    for (regime, split, arm), episodes in cells.items():
        end = max(row.episode for row in episodes) + 1
        counted = [row for row in episodes if split != "train" or row.episode >= end - last]
        for metric, measure in MEASURES.items():
            found = _estimate([measure(row) for row in counted], counted, of=metric)
            lines.append(LearnerLine(arm, split, metric, *found, regime))
    return lines


def _estimate(values: Sequence[float], rows: Sequence[LearnerRow], *, of: str) -> Estimate:
    """Estimate a mean; where seeds say nothing of its interval, for there is one, or they agree, tasks do."""
    least, most = LIMITS[of]
    found = over_seeds(values, [row.seed for row in rows])
    if found.low < found.high:
        return found._replace(low=max(least, found.low), high=min(most, found.high))
    return (share if of == "success" else bootstrap)(values, [row.task for row in rows])


def over_seeds(values: Sequence[float], seeds: Sequence[int]) -> Estimate:
    """Estimate a mean, with Student's interval of the means of seeds: all of one seed is of one learner.

    With a single seed the interval is just the mean: nothing is known of other learners.
    """
    by_seed: dict[int, list[float]] = {}
    for value, seed in zip(values, seeds, strict=True):
        by_seed.setdefault(seed, []).append(value)
    means = [fmean(found) for found in by_seed.values()]
    mean, reach = fmean(means), 0.0
    if len(means) > 1:
        quantile = T_975[min(len(means) - 1, len(T_975)) - 1]
        reach = quantile * stdev(means) / len(means) ** 0.5
    return Estimate(mean, mean - reach, mean + reach, len(values))
