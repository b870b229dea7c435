"""The study of learning to learn: its rows, each arm's life, and its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import torch

from evals.learners import sinusoids
from evals.learners.report import Column, Report, publish
from evals.learners.scores import report
from evals.learners.settings import Sinusoids
from memp.trajectory import Record

HEADLINE = ("iterations", "tested", "seed", "seeds", "commit")

COLUMNS = tuple(
    Column(f"after {steps}", f"mse-{steps}", f"mean squared error after {steps} gradient steps", form=".2f")
    for steps in (*sinusoids.STEPS, sinusoids.LONG)
)

NOTE = "Held-out sinusoids, each learned from ten points."


class Fit(Record):
    """How well a learner fits held-out sinusoids after so many gradient steps on each."""

    arm: str
    seed: int
    steps: int

    error: float
    """The mean squared error."""

    @property
    def unit(self) -> tuple[str, int]:
        """Which part of its study it belongs to: an arm with a seed."""
        return self.arm, self.seed

    @property
    def place(self) -> tuple[str, int, int]:
        """What makes it this one and no other."""
        return self.arm, self.seed, self.steps


def live(study: Sinusoids, unit: tuple[str, int]) -> list[Fit]:
    """Train one arm with one seed, and test it."""
    torch.set_num_threads(1)
    arm, seed = unit
    found = sinusoids.run(arm, seed, iterations=study.iterations, tested=study.tested)
    return [Fit(arm=arm, seed=seed, steps=steps, error=error) for steps, error in found.items()]


def write(out: Path, rows: Sequence[Fit], manifest: Mapping[str, Any]) -> Report:
    """Write the report of a study, and return what it says."""
    limits = {column.metric: (0.0, inf) for column in COLUMNS}
    found = report(rows, _measure, COLUMNS, arms=manifest["arms"], limits=limits, note=NOTE)
    return publish(out, manifest, found, headline=HEADLINE, pictures={})


def _measure(rows: Sequence[Fit]) -> dict[str, float]:
    return {f"mse-{row.steps}": row.error for row in rows}
