"""Tasks of reading a sequence and writing it down again, changed: what a neural memory is tried on.

A task reads items of some bits, then a mark, and is then asked for as many answers. Inputs are bits, two marks, and a
cue of the task where there are several. Sizes: T steps, B sequences, b bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from memp.errors import InputError
from memp.neural.continual import Examples

Change = Callable[[Tensor], Tensor]
"""From items, (length, B, b), to what is to be answered, of the same shape."""

CHANGES: dict[str, Change] = {
    "copy": lambda items: items,
    "reverse": lambda items: items.flip(0),
    "invert": lambda items: 1 - items,
    "rotate": lambda items: items.roll(1, -1),
}
"""What each task changes."""


@dataclass(frozen=True)
class Sequences:
    """Draws sequences of some tasks."""

    tasks: tuple[str, ...] = ("copy",)
    """Which there are; each has its cue, where there are several."""

    bits: int = 4

    @property
    def inputs(self) -> int:
        """Numbers in an input: the bits, two marks, the cues."""
        return self.bits + 2 + (len(self.tasks) if len(self.tasks) > 1 else 0)

    def mixed(
        self, task: str, longest: int, batch: int, random: torch.Generator, *, shortest: int
    ) -> Examples:
        """Draw sequences of mixed lengths; the shorter ones end in steps at which nothing is asked for."""
        lengths = torch.randint(shortest, longest + 1, (batch,), generator=random)
        steps = 2 * longest + 1
        parts = [
            self.draw(task, length, count, random).padded(steps)
            for length, count in enumerate(lengths.bincount().tolist())
            if count
        ]
        return Examples.joined(parts)

    def draw(
        self, task: str, length: int, batch: int, random: torch.Generator, *, times: int = 1
    ) -> Examples:
        """Draw sequences of a length, to be answered so many times over; the second mark says how many times."""
        items = self._items(length, batch, random)
        answers = CHANGES[task](items).repeat(times, 1, 1)
        x, y, asked = self._silence(length + 1 + len(answers), batch)
        x[:length, :, : self.bits] = items
        x[length, :, self.bits] = 1
        x[length, :, self.bits + 1] = times / 10
        if len(self.tasks) > 1:
            x[:, :, self.bits + 2 + self.tasks.index(task)] = 1
        y[length + 1 :] = answers
        asked[length + 1 :] = 1
        return Examples(x, y, asked)

    def recall(self, items: int, batch: int, random: torch.Generator, *, size: int = 1) -> Examples:
        """Draw associative recall: items, each behind a mark, then one of them again; the one behind it is asked for.

        No two items of a sequence are the same, so that there is one answer.

        Args:
            items: How many are shown, at least 2.
            batch: B.
            random: Decides the items, and which is shown again.
            size: Vectors of bits in an item.

        Raises:
            InputError: if there are not so many different items.
        """
        bits = size * self.bits
        if not 2 <= items <= 2**bits:
            raise InputError(f"items={items!r} must be from 2 to {2**bits}, which differ in {bits} bits")
        codes = torch.rand(2**bits, batch, generator=random).argsort(0)[:items]
        shown = (codes.unsqueeze(-1) >> torch.arange(bits) & 1).float().unflatten(-1, (size, self.bits))
        shown = shown.transpose(1, 2)
        again = torch.randint(items - 1, (batch,), generator=random)
        x, y, asked = self._silence((items + 2) * (size + 1), batch)
        blocks = x.unflatten(0, (items + 2, size + 1))
        blocks[:items, 0, :, self.bits] = 1
        blocks[:items, 1:, :, : self.bits] = shown
        blocks[items:, 0, :, self.bits + 1] = 1
        blocks[items, 1:, :, : self.bits] = shown[again, :, torch.arange(batch)].transpose(0, 1)
        y[-size:] = shown[again + 1, :, torch.arange(batch)].transpose(0, 1)
        asked[-size:] = 1
        return Examples(x, y, asked)

    def _items(self, length: int, batch: int, random: torch.Generator) -> Tensor:
        return torch.randint(2, (length, batch, self.bits), generator=random).float()

    def _silence(self, steps: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Steps in which nothing is said and nothing asked for."""
        x, y = torch.zeros(steps, batch, self.inputs), torch.zeros(steps, batch, self.bits)
        return x, y, torch.zeros(steps, batch)
