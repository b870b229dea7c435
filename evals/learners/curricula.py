"""What is learned one after the other: how its examples are drawn, what they ask for, and how answers are scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evals.learners.functions import Functions
from evals.learners.networks import scored, scored_numbers
from evals.learners.sequences import Sequences
from evals.learners.settings import TASKS, Continual
from memp.neural.continual import BITS, NUMBERS, Answers, Examples


class Curriculum(NamedTuple):
    """The tasks of a study, and all that a learner needs to know of them."""

    tasks: tuple[str, ...]
    """In the order they are learned in."""

    inputs: int
    outputs: int
    answers: Answers

    draw: Callable[[str, int, torch.Generator], Examples]
    """Draws so many examples of a task."""

    scored: Callable[[Tensor, Examples], dict[str, Any]]
    """What a cell says of answers."""


def curriculum(study: Continual) -> Curriculum:
    """The curriculum of a study."""
    tasks = TASKS[study.tasks]
    if study.tasks == "functions":
        functions = Functions(tasks)
        return Curriculum(tasks, functions.inputs, functions.outputs, NUMBERS, functions.draw, scored_numbers)
    sequences = Sequences(tasks)

    def mixed(task: str, batch: int, random: torch.Generator) -> Examples:
        return sequences.mixed(task, study.longest, batch, random, shortest=study.shortest)

    return Curriculum(tasks, sequences.inputs, sequences.bits, BITS, mixed, scored)
