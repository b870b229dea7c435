"""Where a study takes place: environments by name, the sample of their tasks, and the worlds of its seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from evals.settings import Settings
from memp.errors import InputError, unknown_name
from tasks.base import Split, Task, TextEnv, spread

ENVIRONMENTS = ("gridworld", "scienceworld")

EXPERT_STEPS = 1000
"""Step budget of the experts whose trajectories fill the memories: none of them is to be cut short."""


@dataclass(frozen=True)
class World:
    """An environment with the tasks to learn from and to test on; its memories serve all its seeds."""

    name: str
    """Of the folder that holds what was learned here."""

    env_name: str
    """The environment's name and version."""

    open_env: Callable[[], TextEnv]
    """Opens the environment with the step budget of the study; each worker opens its own."""

    open_for_experts: Callable[[], TextEnv]
    """The same, with a step budget that cuts no expert short."""

    seeds: tuple[int, ...]
    train: tuple[Task, ...]
    test: tuple[Task, ...]


def worlds(settings: Settings) -> tuple[World, ...]:
    """Return the worlds of a study: a universe a seed in the grid world, else one that all seeds share.

    Raises:
        InputError: if there is no such environment, or a split of it has no tasks.
    """
    if settings.env == "gridworld":
        return tuple(_world(settings, f"universe-{seed}", (seed,)) for seed in settings.all_seeds)
    return (_world(settings, settings.env, settings.all_seeds),)


def environment(name: str, *, max_steps: int | None = None, universe: int = 0) -> Callable[[], TextEnv]:
    """Return what opens the environment of a name.

    Raises:
        InputError: if there is no such environment.
    """
    if name == "gridworld":
        from tasks.gridworld import GridWorld

        return lambda: GridWorld(universe, max_steps=max_steps)
    if name == "scienceworld":
        from tasks.scienceworld import ScienceWorld

        return lambda: ScienceWorld() if max_steps is None else ScienceWorld(max_steps=max_steps)
    raise unknown_name("environment", name, ENVIRONMENTS)


def sample(env: TextEnv, split: Split, count: int) -> list[Task]:
    """Take about `count` tasks of a split: as many of each kind, spread evenly over the kind's tasks.

    At least one of each kind is taken, so that no kind is left out of a table.

    Raises:
        InputError: if the split has no tasks.
    """
    kinds: dict[str, list[Task]] = {}
    for task in env.tasks(split):
        kinds.setdefault(task.kind, []).append(task)
    if not kinds:
        raise InputError(f"{env.name} has no tasks in the split {split!r}")
    each = max(1, round(count / len(kinds)))
    return [task for tasks in kinds.values() for task in spread(tasks, each)]


def refuse_leaks(found: Sequence[World]) -> None:
    """Refuse worlds where a task is both learned from and tested on.

    Raises:
        InputError: if one is; it is named.
    """
    train = {task.id for world in found for task in world.train}
    test = {task.id for world in found for task in world.test}
    if leaked := train & test:
        raise InputError(f"{len(leaked)} tasks are both in the memory and under test, e.g. {min(leaked)!r}")


def _world(settings: Settings, name: str, seeds: tuple[int, ...]) -> World:
    # an environment without universes takes no notice of the number
    opened = partial(environment, settings.env, universe=seeds[0])
    open_env = opened(max_steps=settings.max_steps)
    with closing(open_env()) as env:
        splits = dict.fromkeys(settings.splits)
        return World(
            name,
            env.name,
            open_env,
            opened(max_steps=EXPERT_STEPS),
            seeds,
            train=tuple(sample(env, "train", settings.train)),
            test=tuple(task for split in splits for task in sample(env, split, settings.episodes)),
        )
