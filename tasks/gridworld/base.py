"""What the text environments of grids share: tasks by their ids, and episodes in worlds of the core."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from memp.errors import InputError, TaskError, unknown_name
from tasks.base import Info, Split, Task
from tasks.gridworld import text
from tasks.gridworld.layout import Cell
from tasks.gridworld.solver import solve
from tasks.gridworld.world import ACTIONS, STEP_REWARD, State, World, initial, met, score, step, useful

STEPS_PER_SIDE = 10
"""Steps allowed per cell of a side: 50 in the classic size. The longest shortest way, four crossings of
the grid and five deeds, is under 8 per cell."""


class WorldTask(Protocol):
    """A task that is done in a world of the core."""

    @property
    def id(self) -> str:
        """As `Task.id`."""
        ...

    @property
    def words(self) -> str:
        """The task in words."""
        ...

    def world(self) -> World:
        """Return its world."""
        ...

    def named(self, split: Split) -> Task:
        """Return it as the seam lists it."""
        ...


T = TypeVar("T", bound=WorldTask)


class GridEnv(ABC, Generic[T]):
    """A text environment of grids; who inherits it says which tasks there are, and what is seen of a world.

    The reward of a step is that of the classic world, `info["score"]` the share of the task's sub-goals that hold
    (`tasks.gridworld.world`). Nothing is random once the task is chosen: the seed decides the task alone.
    """

    actions: Sequence[str] = ACTIONS
    """Those that it carries out."""

    def __init__(self, size: int, max_steps: int | None) -> None:
        """Take the size of its grids, and the step budget of an episode (None: 10 per cell of a side)."""
        self.max_steps = STEPS_PER_SIDE * size if max_steps is None else max_steps
        if self.max_steps < 1:
            raise InputError(f"max_steps is {self.max_steps!r}; an episode needs at least 1")
        self._over = True

    @property
    @abstractmethod
    def splits(self) -> Mapping[Split, Sequence[T]]:
        """The tasks of every split."""

    @abstractmethod
    def look(self, world: World, state: State) -> str:
        """Say what is seen."""

    def greeting(self, task: T) -> str:  # noqa: ARG002
        """Say how an episode begins, before what is seen."""
        return ""

    def tasks(self, split: Split) -> Sequence[Task]:
        """Every task of `split`, in a fixed order."""
        if split not in self.splits:
            raise unknown_name("split", split, self.splits)
        return tuple(task.named(split) for task in self.splits[split])

    def task(self, task_id: str) -> T:
        """Return all that decides a task.

        Raises:
            TaskError: if there is no such task; names the nearest one.
        """
        if task_id not in self._by_id:
            near = get_close_matches(task_id, self._by_id, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TaskError(f"there is no task {task_id!r}.{hint} `tasks(split)` lists them.")
        return self._by_id[task_id]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, Info]:
        """Begin an episode, of the task named in `options` or of a training task that the seed draws."""
        options = options or {}
        if strange := sorted(set(options) - {"task"}):
            raise unknown_name("option", strange[0], ["task"])
        task_id = options.get("task")
        if task_id is None:
            train = self.splits["train"]
            task_id = train[int(np.random.default_rng(seed).integers(len(train)))].id
        return self.begin(self.task(task_id))

    def begin(self, task: T) -> tuple[str, Info]:
        """Begin an episode of any task, also of one that no split lists."""
        self._task, self._world = task, task.world()
        self._state = initial(self._world)
        self._steps, self._over = 0, False
        return " ".join(
            filter(None, (self.greeting(task), self.look(self._world, self._state)))
        ), self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, Info]:
        """Act, by the name of an action; what is of no use here changes nothing but costs its step."""
        world, before = self._running()
        self._steps += 1
        if action in self.actions:
            number = ACTIONS.index(action)
            self._state, reward, terminated = step(world, before, number)
            said = text.effect(world, before, number, self._state)
        else:
            reward, terminated, said = STEP_REWARD, False, text.NO_ACTION
        truncated = not terminated and self._steps >= self.max_steps
        self._over = terminated or truncated
        sentences = [said, self.look(world, self._state)]
        if self._over:
            sentences.append(text.DONE if terminated else text.OUT_OF_STEPS)
        return " ".join(sentences), reward, terminated, truncated, self._info()

    def admissible(self) -> tuple[str, ...]:
        """The actions that would change something now, in the order of `ACTIONS`.

        They tell no more than the observation does: at a barred door every sign is among them, for a wrong
        one has an effect too.
        """
        names = (ACTIONS[action] for action in useful(*self._running()))
        return tuple(name for name in names if name in self.actions)

    @property
    def at(self) -> Cell:
        """The agent's cell: what its observation calls column and row."""
        world, state = self._world, self._state
        y, x = divmod(state.at, world.size)
        return x, y

    def expert(self, task_id: str) -> tuple[str, ...]:
        """A shortest sequence of actions that does the task; leaves the environment needing a `reset`."""
        self.close()
        return tuple(ACTIONS[action] for action in solve(self.task(task_id).world()))

    def shortest(self, task_id: str) -> int:
        """The number of steps of `expert`."""
        return len(self.expert(task_id))

    def close(self) -> None:
        """End the episode; there is nothing to free."""
        self._over = True

    def _running(self) -> tuple[World, State]:
        if self._over:
            raise TaskError("no episode is running; call `reset` first")
        return self._world, self._state

    def _info(self) -> Info:
        world, state = self._world, self._state
        return Info(
            task=self._task.words,
            task_id=self._task.id,
            score=score(world, state),
            success=met(world, state),
        )

    @cached_property
    def _by_id(self) -> dict[str, T]:
        return {task.id: task for tasks in self.splits.values() for task in tasks}
