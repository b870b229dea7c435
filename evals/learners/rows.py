"""One episode of a learner, as its study keeps it."""

from __future__ import annotations

from typing import NamedTuple

from evals.rows import Row
from tasks.base import Split


class Place(NamedTuple):
    """Where an episode stands among all of a study: no other stands there."""

    arm: str
    regime: str
    split: Split
    seed: int
    episode: int


class LearnerRow(Row):
    """One episode of a learner; `kind` is the regime that its tasks came by."""

    episode: int
    """Which one of its split and seed, from 0 on."""

    gained: float
    """The sum of the rewards of its steps: the return."""

    decisions: int
    """How often the agent chose what to do."""

    shortest: int
    """The fewest steps that the task takes."""

    skills: int = 0
    """How many skills the library held when it ended."""

    uses: int = 0
    """How many executions of skills ended in it."""

    @property
    def unit(self) -> tuple[str, int]:
        """Which part of its study it belongs to: a regime with a seed."""
        return self.kind, self.seed

    @property
    def place(self) -> Place:
        """What makes an episode this one and no other: a task may come again."""
        return Place(self.arm, self.kind, self.split, self.seed, self.episode)
