"""How a learner does in one task at one point of a sequence of tasks: an entry of its matrix R."""

from __future__ import annotations

from memp.trajectory import Record
from tasks.base import Split

Rows = tuple[tuple[float, ...], ...]


class Look(Record):
    """A look into the memory of a DNC, while it answered one sequence."""

    written: Rows
    """Where it wrote at each step, (T, N)."""

    read: Rows
    """Where its first head read at each step, (T, N)."""

    memory: Rows
    """What the slots held when the answers began, (N, W)."""


class Cell(Record):
    """How a learner did in the held-out episodes of one task, after it had learned so many tasks."""

    arm: str
    seed: int

    after: int
    """How many tasks of the sequence it had learned."""

    number: int
    """Which task of the sequence this is, from 0 on."""

    task: str
    """The name of the task."""

    split: Split = "test"

    episodes: int
    """How many held-out episodes the means below are of."""

    success: float
    """The share of episodes that succeeded."""

    reward: float
    """The mean score: of bits the share that is right, of numbers the share of their variance that is
    explained, of episodes the return."""

    steps: float
    """The mean length of an episode."""

    look: Look | None = None
    """Into the memory, in the first of the episodes, where someone looked."""

    @property
    def unit(self) -> tuple[str, int]:
        """Which part of its study it belongs to: an arm with a seed."""
        return self.arm, self.seed

    @property
    def place(self) -> tuple[str, int, int, str]:
        """What makes a cell this one and no other."""
        return self.arm, self.seed, self.after, self.task
