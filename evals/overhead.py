"""`python -m evals.overhead`: what running a study costs, beside its very episodes in a bare loop."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

from evals.arms import Arm
from evals.folder import EPISODES, LIVED, Folder
from evals.plan import Plan
from evals.runner import Found, run_episode
from evals.studies import retrieve
from evals.study import run
from evals.worlds import World
from memp.memory import ProceduralMemory
from tasks.base import Task

LIMIT_S = 0.0005
"""The most that a study may take for itself in an episode: under 5 % of any with a language model, whose episodes
take 10 milliseconds or more even where a small one answers many at once."""

AGENTS = ("replay", "random")
"""Who acts in what is measured: both are much faster than any language model, so that the harness shows."""


class Overhead(NamedTuple):
    """How long a study took with one episode at a time, the least of some tries, in seconds."""

    episodes: int

    study_s: float
    """The episodes, as the study runs them: told of, written down, guarded."""

    bare_s: float
    """The same in a bare loop: environment, agent and memory alone."""

    fixed_s: float
    """To find that nothing is left to do: what a study takes beside its episodes."""

    @property
    def added_s(self) -> float:
        """What the study takes for itself in each episode."""
        return (self.study_s - self.bare_s) / self.episodes


def overhead(folder: Folder, agent: str = "replay", *, episodes: int = 32, tries: int = 5) -> Overhead:
    """Run `retrieve` in the grid world as a study and in a bare loop, `tries` times in turn."""
    fallback = "random" if agent == "replay" else None
    settings = retrieve.Retrieve(
        env="gridworld", agent=agent, fallback=fallback, episodes=episodes, train=64, max_steps=50
    )
    plan = retrieve.plan(settings)
    run(plan, folder)  # builds the memories
    whole_s, bare_s, fixed_s = [], [], []
    for _ in range(tries):
        for name in (EPISODES, LIVED):
            (folder.path / name).unlink()
        whole_s.append(_timed(partial(run, plan, folder, workers=1)))
        fixed_s.append(_timed(partial(run, plan, folder, workers=1)))
        bare_s.append(_bare_s(plan, folder))
    least_s = min(fixed_s)
    return Overhead(len(folder.episodes().held), min(whole_s) - least_s, min(bare_s), least_s)


def _bare_s(plan: Plan, folder: Folder) -> float:
    """Run the episodes of a study and keep nothing; memories are opened before, as without anything left to do."""
    taken_s = 0.0
    for world in plan.worlds:
        with ExitStack() as stack:
            memories = {
                arm.name: stack.enter_context(
                    ProceduralMemory.open(folder.memory(world.name, arm.recall.recipe), key=arm.recall.key)
                )
                for arm in plan.arms
                if arm.recall is not None
            }
            taken_s += _timed(partial(_episodes, plan.arms, world, memories))
    return taken_s


def _episodes(arms: Sequence[Arm], world: World, memories: Mapping[str, ProceduralMemory]) -> None:
    with closing(world.groups[0].open_env()) as env:
        for seed, task, arm in product(world.seeds, world.test, arms):
            run_episode(env, task.id, arm.agent, partial(_find, memories.get(arm.name), arm, task), seed=seed)


def _find(memory: ProceduralMemory | None, arm: Arm, task: Task, text: str) -> Found:
    if memory is None or arm.recall is None:
        return Found(())
    return Found(memory.retrieve(text, arm.recall.k, exclude=[task.id]))


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@click.command()
@click.option("--episodes", default=32, show_default=True, type=click.IntRange(1), help="Tasks per arm.")
@click.option("--tries", default=10, show_default=True, type=click.IntRange(1), help="The least of how many.")
def main(episodes: int, tries: int) -> None:
    """Time the studies of agents without a model on the grid world, beside a bare loop."""
    table = Table(
        "agent", "episodes", "bare, each", "study, each", "added", "limit", "study beside", box=None
    )
    for agent in AGENTS:
        with tempfile.TemporaryDirectory() as folder:
            found = overhead(Folder(Path(folder)), agent, episodes=episodes, tries=tries)
        bare_ms, study_ms = (1000 * taken / found.episodes for taken in (found.bare_s, found.study_s))
        table.add_row(
            agent,
            str(found.episodes),
            f"{bare_ms:.2f} ms",
            f"{study_ms:.2f} ms",
            f"{1000 * found.added_s:.2f} ms",
            f"{1000 * LIMIT_S:.2f} ms",
            f"{1000 * found.fixed_s:.0f} ms",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
