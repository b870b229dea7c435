"""Functions of 64 numbers, as tasks that contradict each other: those of the tutorial of a neural memory, put right.

The tutorial's tasks take the mean of 64 standard normal numbers, which hardly varies: a constant has an error of
0.0154 in the first, sin(mean), and of 0.00003 in the second, cos(mean) / 2. Here the sum is scaled to a standard
deviation of 1, each task is announced by a cue, and what is tested was never trained on. The tutorial's other two
tasks are not known to us; ours are in their place. An example is a sequence of one step, as there, so that a memory
has nothing to keep within it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from memp.neural.continual import Examples

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sine": lambda total: torch.sin(2 * total),
    "cosine": lambda total: torch.cos(2 * total),
    "magnitude": torch.abs,
    "sign": lambda total: torch.tanh(4 * total),
}
"""Of the scaled sum, what each task asks for."""


@dataclass(frozen=True)
class Functions:
    """Draws examples of some tasks; all draw their inputs alike, and only the cue tells the task."""

    tasks: tuple[str, ...] = tuple(FUNCTIONS)

    numbers: int = 64
    """In an input, beside the cues."""

    outputs: int = 1

    @property
    def inputs(self) -> int:
        """Numbers in an input: those of the function, and a cue for each task."""
        return self.numbers + len(self.tasks)

    def draw(self, task: str, batch: int, random: torch.Generator) -> Examples:
        """Draw examples of a task, sequences of one step."""
        numbers = torch.randn(1, batch, self.numbers, generator=random)
        cue = torch.zeros(1, batch, len(self.tasks))
        cue[..., self.tasks.index(task)] = 1
        answers = FUNCTIONS[task](numbers.sum(-1, keepdim=True) / sqrt(self.numbers))
        return Examples(torch.cat((numbers, cue), -1), answers, torch.ones(1, batch))
