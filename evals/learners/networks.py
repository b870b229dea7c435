"""The networks that studies of sequences train, and how they do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memp.neural.continual import Examples, bits_right, exact
from memp.neural.dnc import DNC


class Lstm(nn.Module):
    """An LSTM with a linear layer: what there is without a memory to write to."""

    def __init__(self, inputs: int, outputs: int, *, hidden: int) -> None:
        """Make a network with random weights."""
        super().__init__()
        self._lstm = nn.LSTM(inputs, hidden)
        self._output = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """From (T, B, inputs) to (T, B, outputs), and no state."""
        return self._output(self._lstm(x)[0]), None


def network(kind: str, inputs: int, outputs: int, *, slots: int = 12, links: bool = True) -> nn.Module:
    """A network of a kind: a DNC, or an LSTM with 1.7 times as many weights, which has neither slots nor links."""
    if kind == "lstm":
        return Lstm(inputs, outputs, hidden=80)
    return DNC(inputs, outputs, slots=slots, width=8, read_heads=2, hidden=48, deallocate=True, links=links)


NEAR = 0.1
"""How far a number may be from the right one to count as right."""


def scored(answers: Tensor, examples: Examples) -> dict[str, Any]:
    """What a cell says of answers: how many, the share without a mistake, and that of the bits that are right."""
    return {
        "episodes": answers.shape[1],
        "success": exact(answers, examples).float().mean().item(),
        "reward": bits_right(answers, examples).mean().item(),
    }


def scored_numbers(answers: Tensor, examples: Examples) -> dict[str, Any]:
    """The same of numbers, all asked for: the share that is right, and that of their variance that is explained.

    To answer with the mean explains nothing of it; what explains less than nothing is worse than that.
    """
    apart = answers - examples.y
    return {
        "episodes": answers.shape[1],
        "success": (apart.abs() <= NEAR).float().mean().item(),
        "reward": 1 - (apart.square().mean() / torch.var(examples.y, correction=0)).item(),
    }
