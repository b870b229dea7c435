"""`python -m evals.neural_speed`: how fast the neural memory trains, beside other ways, all measured in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from evals.learners import sinusoids
from memp.neural.dnc import DNC

ROUNDS = 30
"""Each time is the best of so many, for another process can only make it worse; packages take turns."""

FEW_ROUNDS = 2
"""Of what takes seconds each time."""

BITS = 8
"""Numbers in an input, and in an output."""


class Sizes(NamedTuple):
    """Of a network and its batch."""

    slots: int
    width: int
    heads: int
    hidden: int
    steps: int
    batch: int

    def __str__(self) -> str:
        return f"N{self.slots} W{self.width} R{self.heads} H{self.hidden} T{self.steps} B{self.batch}"


COMPARED = (Sizes(16, 16, 4, 64, 16, 16), Sizes(64, 16, 4, 64, 32, 32), Sizes(128, 64, 4, 128, 8, 16))
"""What the public package is compared at."""

ALONE = (Sizes(16, 16, 4, 64, 16, 256), Sizes(128, 64, 4, 128, 1, 256))
"""What one sample at a time is compared at; the second are the sizes of the tutorial that this memory corrects."""


def ours(sizes: Sizes, *, links: bool = True) -> Callable[[Tensor], Tensor]:
    """A network of memp, from (T, B, inputs) to (T, B, outputs)."""
    network = _network(sizes, links=links)
    return lambda x: network(x)[0]


def one_at_a_time(sizes: Sizes, *, links: bool = True) -> Callable[[Tensor], Tensor]:
    """The same network, given the samples of a batch one after the other."""
    network = _network(sizes, links=links)
    return lambda x: torch.cat([network(one)[0] for one in x.split(1, 1)], 1)


def public(sizes: Sizes) -> Callable[[Tensor], Tensor] | None:
    """A network of the package `dnc` (1.1.0), whose controller is not given what was read; None without it."""
    try:
        import dnc
    except ImportError:
        return None
    network: Any = dnc.DNC(
        input_size=BITS,
        hidden_size=sizes.hidden,
        num_hidden_layers=1,
        nr_cells=sizes.slots,
        cell_size=sizes.width,
        read_heads=sizes.heads,
        batch_first=True,
    )

    def run(x: Tensor) -> Tensor:
        y: Tensor = network(x.transpose(0, 1), (None, None, None), reset_experience=True)[0]
        return y

    return run


def milliseconds(ways: Sequence[Callable[[Tensor], Tensor]], sizes: Sizes, *, rounds: int) -> list[float]:
    """The processor time of a training step without the optimizer, forward and backward, in each of several ways."""
    x = torch.rand(sizes.steps, sizes.batch, BITS)
    best = [float("inf")] * len(ways)
    for _, (number, run) in product(range(rounds), enumerate(ways)):
        began = time.process_time()
        run(x).square().mean().backward()
        best[number] = min(best[number], time.process_time() - began)
    return [1000 * seconds for seconds in best]


def _network(sizes: Sizes, *, links: bool) -> DNC:
    return DNC(
        BITS,
        BITS,
        slots=sizes.slots,
        width=sizes.width,
        read_heads=sizes.heads,
        hidden=sizes.hidden,
        links=links,
    )


@click.command()
def main() -> None:
    """Compare training in batches with one sample at a time, and with the public package `dnc` where it is installed.

    To install that: pip install --no-deps dnc==1.1.0 flann
    """
    torch.set_num_threads(1)
    table = Table("compared with", "sizes", "its ms a step", "memp's ms a step", "ratio")
    for sizes, links in product(ALONE, (True, False)):
        (slow,) = milliseconds([one_at_a_time(sizes, links=links)], sizes, rounds=FEW_ROUNDS)
        (fast,) = milliseconds([ours(sizes, links=links)], sizes, rounds=ROUNDS)
        name = "one at a time" if links else "one at a time, no links"
        table.add_row(name, str(sizes), f"{slow:.1f}", f"{fast:.1f}", f"{slow / fast:.1f}")
    for sizes in COMPARED:
        other = public(sizes)
        if other is not None:
            theirs, own = milliseconds((other, ours(sizes)), sizes, rounds=ROUNDS)
            table.add_row("dnc 1.1.0", str(sizes), f"{theirs:.1f}", f"{own:.1f}", f"{theirs / own:.2f}")
    meta = sinusoids.speed()
    table.add_row(
        "MAML task by task",
        f"{sinusoids.BATCH} sinusoids",
        f"{meta.loop_ms:.1f}",
        f"{meta.vmap_ms:.1f}",
        f"{meta.ratio:.1f}",
    )
    Console().print(table)


if __name__ == "__main__":
    main()
