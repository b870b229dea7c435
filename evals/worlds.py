"""Where a study takes place: environments by name, the sample of their tasks, and the worlds of its seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from random import Random

from evals.settings import Settings
from memp.errors import InputError, unknown_name
from tasks.base import Split, Task, TextEnv, spread

ENVIRONMENTS = ("gridworld", "scienceworld")

EXPERT_STEPS = 1000
"""Step budget of the experts whose trajectories fill the memories: none of them is to be cut short."""


@dataclass(frozen=True)
class Group:
    """Tasks that are all tested on before a memory learns from any of them."""

    tasks: tuple[Task, ...]

    open_env: Callable[[], TextEnv]
    """Opens the environment with the step budget of the study; each worker opens its own."""


@dataclass(frozen=True)
class World:
    """An environment with the tasks to learn from and to test on; its memories serve all its seeds."""

    name: str
    """Of the folder that holds what was learned here."""

    env_name: str
    """The environment's name and version."""

    open_for_experts: Callable[[], TextEnv]
    """Opens the environment with a step budget that cuts no expert short."""

    seeds: tuple[int, ...]
    train: tuple[Task, ...]

    groups: tuple[Group, ...]
    """The tasks to test on, in the order they arrive."""

    @property
    def test(self) -> tuple[Task, ...]:
        """All tasks that are tested on."""
        return tuple(task for group in self.groups for task in group.tasks)


def worlds(settings: Settings, *, groups: int = 1, eras: int = 1) -> tuple[World, ...]:
    """Return the worlds of a study: a universe a seed in the grid world, else one that all seeds share.

    Args:
        settings: Of the study.
        groups: How many groups the tasks of an era arrive in; where there are several, in an order that the
            seed decides, and every seed has a world of its own.
        eras: How many eras follow on each other; only the grid world has several.

    Raises:
        InputError: if there is no such environment, a split of it has no tasks, or it does not change.
    """
    if eras > 1 and settings.env != "gridworld":
        raise InputError(f"only the environment 'gridworld' can change half-way, not {settings.env!r}")
    if settings.env == "gridworld":
        named: dict[str, tuple[int, ...]] = {f"universe-{seed}": (seed,) for seed in settings.all_seeds}
    elif groups > 1:
        named = {f"{settings.env}-{seed}": (seed,) for seed in settings.all_seeds}
    else:
        named = {settings.env: settings.all_seeds}
    return tuple(_world(settings, name, seeds, groups, eras) for name, seeds in named.items())


def environment(
    name: str, *, max_steps: int | None = None, universe: int = 0, era: int = 0
) -> Callable[[], TextEnv]:
    """Return what opens the environment of a name; one without universes and eras takes no notice of them.

    Raises:
        InputError: if there is no such environment.
    """
    if name == "gridworld":
        from tasks.gridworld import GridWorld

        return lambda: GridWorld(universe, era=era, max_steps=max_steps)
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


def _world(settings: Settings, name: str, seeds: tuple[int, ...], groups: int, eras: int) -> World:
    opened = partial(environment, settings.env, universe=seeds[0])
    openers = [opened(max_steps=settings.max_steps, era=era) for era in range(eras)]
    with ExitStack() as stack:
        envs = [stack.enter_context(closing(open_env())) for open_env in openers]
        arriving = [
            Group(tasks, open_env)
            for env, open_env in zip(envs, openers, strict=True)
            for tasks in _divided(_tested(settings, env), groups, seeds[0])
        ]
        return World(
            name,
            envs[0].name,
            opened(max_steps=EXPERT_STEPS),
            seeds,
            tuple(sample(envs[0], "train", settings.train)),
            tuple(arriving),
        )


def _tested(settings: Settings, env: TextEnv) -> list[Task]:
    splits = dict.fromkeys(settings.splits)
    return [task for split in splits for task in sample(env, split, settings.episodes)]


def _divided(tasks: list[Task], count: int, seed: int) -> list[tuple[Task, ...]]:
    """Divide tasks into groups of about one size, in an order that the seed decides; one keeps its order."""
    if count > len(tasks):
        raise InputError(
            f"{len(tasks)} tasks cannot arrive in {count} groups; take more episodes or fewer groups"
        )
    if count > 1:
        tasks = Random(seed).sample(tasks, len(tasks))
    return [tuple(tasks[number::count]) for number in range(count)]
