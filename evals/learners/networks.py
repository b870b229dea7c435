"""The networks that studies of sequences train."""

from __future__ import annotations

from torch import Tensor, nn

from evals.learners.sequences import Sequences
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


def network(kind: str, sequences: Sequences) -> nn.Module:
    """A network of a kind: a DNC of 12 slots, or an LSTM with about as many weights."""
    if kind == "lstm":
        return Lstm(sequences.inputs, sequences.bits, hidden=80)
    return DNC(sequences.inputs, sequences.bits, slots=12, width=8, read_heads=2, hidden=48, deallocate=True)
