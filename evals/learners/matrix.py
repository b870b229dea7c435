"""What the matrix R of a learner tells: R[i, j] is how it does in task j after it has learned i tasks.

Source: Lopez-Paz and Ranzato 2017 (arXiv:1706.08840) for accuracy, backward and forward transfer; Chaudhry et al.
2018 (arXiv:1801.10112), section 3, for forgetting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from evals.learners.cells import Cell

Matrix = NDArray[np.float64]
"""Shape (tasks + 1, tasks); NaN where nothing was measured."""


def matrix(cells: Sequence[Cell], score: Callable[[Cell], float]) -> Matrix:
    """Return the matrix of one learner."""
    tasks = 1 + max(cell.number for cell in cells)
    found = np.full((tasks + 1, tasks), np.nan)
    for cell in cells:
        found[cell.after, cell.number] = score(cell)
    return found


def accuracy(r: Matrix) -> float:
    """ACC = mean_j R[T, j]: how it does in all tasks in the end."""
    return float(r[-1].mean())


def backward_transfer(r: Matrix) -> float:
    """BWT = mean over all tasks but the last of R[T, j] - R[j, j]: what learning others did to a task."""
    return float(np.mean(r[-1, :-1] - _learned(r)[:-1]))


def forgetting(r: Matrix) -> float:
    """The mean over all tasks but the last of max_{i<T} R[i, j] - R[T, j]: how far below its best a task ends."""
    best = [r[number + 1 : -1, number].max() for number in range(r.shape[1] - 1)]
    return float(np.mean(best - r[-1, :-1]))


def forward_transfer(r: Matrix) -> float:
    """FWT = mean over all tasks but the first of R[j-1, j] - R[0, j]: what a task gained before it was learned."""
    return float(np.mean(np.diagonal(r)[1:] - r[0, 1:]))


def plasticity(r: Matrix) -> float:
    """The mean of R[j, j]: how it does in each task right after learning it."""
    return float(_learned(r).mean())


def _learned(r: Matrix) -> Matrix:
    """R[j, j], with as many tasks learned as the task is the number of; shape (tasks,)."""
    return np.diagonal(r[1:])
