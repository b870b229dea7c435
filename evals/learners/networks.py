"""The networks that studies of sequences train, and how they do."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from evals.learners.sequences import Sequences
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


def network(kind: str, sequences: Sequences, *, slots: int = 12, links: bool = True) -> nn.Module:
    """A network of a kind: a DNC, or an LSTM with about as many weights, which has neither slots nor links."""
    inputs, bits = sequences.inputs, sequences.bits
    if kind == "lstm":
        return Lstm(inputs, bits, hidden=80)
    return DNC(inputs, bits, slots=slots, width=8, read_heads=2, hidden=48, deallocate=True, links=links)


def scored(answers: Tensor, examples: Examples) -> dict[str, Any]:
    """What a cell says of answers: how many, the share without a mistake, and that of the bits that are right."""
    return {
        "episodes": answers.shape[1],
        "success": exact(answers, examples).float().mean().item(),
        "reward": bits_right(answers, examples).mean().item(),
    }
