"""`python -m evals.stepping`: how fast the grid world steps, alone and in batches, beside Minigrid's DoorKey."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from memp.errors import MissingExtra
from tasks.gridworld.batch import Worlds
from tasks.gridworld.doorkey import SIZE, DoorKey
from tasks.gridworld.world import CLASSIC_ACTIONS

ROUNDS = 3
"""Each pace is the best of so many: another process can only make it worse."""


def steps_per_s(run: Callable[[], int]) -> float:
    """Return the pace of something that returns how many steps it took."""
    best = 0.0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        steps = run()
        best = max(best, steps / (time.perf_counter() - began))
    return best


def batch_pace(count: int, steps: int = 200) -> float:
    """Steps a second of `count` worlds at once, with random actions."""
    generator = np.random.default_rng(0)
    tasks = cycle(DoorKey(size=SIZE).splits["train"])
    worlds = Worlds.of([task.world() for task in islice(tasks, count)])
    actions = generator.integers(len(CLASSIC_ACTIONS), size=(steps, count)).astype(np.int16)

    def run() -> int:
        states = worlds.initial()
        for those in actions:
            states, _, _ = worlds.step(states, those)
        return steps * count

    return steps_per_s(run)


def gym_pace(name: str | None = None, steps: int = 20_000) -> float:
    """Steps a second of one Gymnasium environment with random actions: of a name, or our own.

    Raises:
        MissingExtra: if Minigrid is not installed.
    """
    env: Any
    if name is None:
        from tasks.gridworld.gym import GridWorldEnv

        env = GridWorldEnv(SIZE)
    else:
        try:
            import minigrid  # noqa: F401 - registers its environments
        except ImportError as error:
            raise MissingExtra("minigrid", "dev") from error
        import gymnasium

        env = gymnasium.make(name).unwrapped  # without the checks that wrap it
    actions = np.random.default_rng(0).integers(env.action_space.n, size=steps)

    def run() -> int:
        env.reset(seed=0)
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return steps

    return steps_per_s(run)


@click.command()
@click.option("--batch", default=4096, show_default=True, help="How many worlds step at once.")
def main(batch: int) -> None:
    """Time steps with random actions, each pace the best of three."""
    alone, together = gym_pace(), batch_pace(batch)
    minigrid = gym_pace(f"MiniGrid-DoorKey-{SIZE}x{SIZE}-v0")
    table = Table("what", "steps a second", "a batch is faster by", box=None)
    table.add_row(f"grid world, {batch:,} at once", f"{together:,.0f}", "")
    table.add_row("grid world, one", f"{alone:,.0f}", f"{together / alone:,.0f} times")
    table.add_row(
        f"Minigrid DoorKey {SIZE}x{SIZE}, one", f"{minigrid:,.0f}", f"{together / minigrid:,.0f} times"
    )
    Console().print(table)


if __name__ == "__main__":
    main()
