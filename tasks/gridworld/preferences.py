"""Preferences: three objects in a small room, and tasks that disagree on which of them to go to.

Many episodes are stepped at once, over arrays. To learn one task is to unlearn another: task t permutes what the
objects are worth, so what is sought in one is shunned in the next, and only a cue tells them apart.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from memp.errors import InputError, TaskError, unknown_name

Held = Literal["train", "test"]
"""Which arrangements of objects episodes are drawn from."""

SIZE = 5
"""Cells along each side of the room."""

WORTH = (1.0, 0.2, -0.5)
"""What reaching the objects of task 0 pays: the first is the preferred one."""

OBJECTS = len(WORTH)

PAYS = np.array(WORTH)[[(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1), (1, 0, 2), (2, 1, 0)]]
"""What each object pays in each task, shape (6, 3): first the rotations, in which each is preferred once."""

ACTIONS = ("move_up", "move_down", "move_left", "move_right")

MOVES = np.array([(0, 1), (0, -1), (-1, 0), (1, 0)])
"""What each action adds to (x, y), shape (4, 2)."""

MAX_STEPS = 12
"""The step budget of an episode: one and a half times the longest shortest way."""

TEST_SHARE = 5
"""One arrangement of so many is held out."""

_SPAN = 2 * SIZE - 1
"""How many distances along an axis there are, from -4 to 4."""

Rewards = NDArray[np.float64]
Flags = NDArray[np.bool_]
Observations = NDArray[np.float32]


class Stepped(NamedTuple):
    """What a step of n episodes led to; an episode that has ended stays as it is and pays nothing."""

    observations: Observations
    """What is seen after it, shape (n, width)."""

    rewards: Rewards
    """What it paid, shape (n,)."""

    terminated: Flags
    """Which episodes have ended because an object was reached, at this step or before; shape (n,)."""

    truncated: Flags
    """Which have ended because the step budget was spent, with no object reached; shape (n,)."""


class Preferences:
    """n episodes of one task, side by side; the same seed gives the same episodes.

    An episode begins with the agent and three objects in different cells. Reaching any object ends it, and pays
    what that object is worth in the task. About one episode in a thousand cannot be won, for the other objects
    stand in the way.

    An observation holds, for each object, its distance along each axis as a one-hot of 9, and then the task as a
    one-hot: shape (54 + tasks,). Arrangements are held out by where the objects are from one another, so nothing
    that is seen in an episode of the test can be seen in training.
    """

    name = "preferences-1"

    actions = ACTIONS

    def __init__(
        self,
        task: int,
        episodes: int,
        *,
        seed: int | np.random.Generator,
        tasks: int = 3,
        split: Held = "train",
        max_steps: int = MAX_STEPS,
    ) -> None:
        """Say which episodes.

        Args:
            task: Which one, from 0 on.
            episodes: n, how many are played side by side.
            seed: Decides all that is random, or what does.
            tasks: How many there are in the sequence, at most 6; the cue is so wide.
            split: Which arrangements of objects they are drawn from.
            max_steps: The step budget of each.

        Raises:
            InputError: if there is no such task or split, or nothing to play.
        """
        if not 1 <= tasks <= len(PAYS):
            raise InputError(f"there are 1 to {len(PAYS)} tasks, not {tasks!r}")
        if not 0 <= task < tasks:
            raise InputError(f"task {task!r} is none of the {tasks}: they are numbered from 0 to {tasks - 1}")
        if split not in get_args(Held):
            raise unknown_name("split", split, get_args(Held))
        if episodes < 1 or max_steps < 1:
            raise InputError(f"{episodes!r} episodes of {max_steps!r} steps: ask for at least 1 of each")
        self.task, self.episodes, self.max_steps = task, episodes, max_steps
        self._random = np.random.default_rng(seed)
        self._arrangements = arrangements(split)
        self._pays = PAYS[task]
        self._cue = np.eye(tasks, dtype=np.float32)[task]
        self._steps = 0
        self._reached: Flags | None = None

    @property
    def width(self) -> int:
        """How many numbers an observation holds."""
        return OBJECTS * 2 * _SPAN + len(self._cue)

    @property
    def success(self) -> Flags:
        """Which episodes have reached the preferred object, shape (n,); raises `TaskError` before `reset`."""
        won: Flags = self._begun()[:, self._pays.argmax()]
        return won

    def reset(self) -> Observations:
        """Begin n new episodes, and return what is seen first, shape (n, width)."""
        rows = self._random.integers(len(self._arrangements), size=self.episodes)
        objects = self._arrangements[rows]
        start = self._random.integers(SIZE * SIZE - OBJECTS, size=self.episodes)
        for taken in np.sort(objects, axis=1).T:
            start += start >= taken  # the free cells are numbered without those that are taken
        self._objects, self._agent = places(objects), places(start)
        self._steps = 0
        self._reached = np.zeros((self.episodes, OBJECTS), dtype=np.bool_)
        return self._seen()

    def step(self, actions: NDArray[np.int64]) -> Stepped:
        """Carry out an action in each episode that has not ended; walls hold the agent back.

        Args:
            actions: Positions in `ACTIONS`, shape (n,).

        Raises:
            InputError: if these are no actions of n episodes.
            TaskError: before `reset`.
        """
        reached = self._begun()
        if actions.shape != (self.episodes,):
            raise InputError(f"actions of shape {actions.shape!r}: give one for each episode")
        if actions.min() < 0 or actions.max() >= len(ACTIONS):
            raise InputError(f"{actions.tolist()!r}: actions are numbered from 0 to {len(ACTIONS) - 1}")
        live = ~(_any(reached) | (self._steps >= self.max_steps))[:, None]
        moved = np.clip(self._agent + MOVES[actions], 0, SIZE - 1)
        self._agent = np.where(live, moved, self._agent)
        self._steps += 1
        now = live & (self._objects == self._agent[:, None]).all(axis=2)
        self._reached = reached | now
        terminated = _any(self._reached)
        truncated = ~terminated & (self._steps >= self.max_steps)
        return Stepped(self._seen(), now @ self._pays, terminated, truncated)

    def _begun(self) -> Flags:
        """Which object each episode has reached, shape (n, objects)."""
        if self._reached is None:
            raise TaskError("no episode has begun: call reset() first")
        return self._reached

    def _seen(self) -> Observations:
        away = self._objects - self._agent[:, None] + SIZE - 1
        seen = np.eye(_SPAN, dtype=np.float32)[away].reshape(self.episodes, -1)
        return np.hstack([seen, np.tile(self._cue, (self.episodes, 1))])


def _any(reached: Flags) -> Flags:
    """Whether any object was reached; shape (n, objects) becomes (n,)."""
    found: Flags = np.any(reached, axis=1)
    return found


def places(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (x, y) of cells; shape (...) becomes (..., 2)."""
    return np.stack([cells % SIZE, cells // SIZE], axis=-1)


@cache
def arrangements(split: Held) -> NDArray[np.int64]:
    """Return the cells of the objects in every arrangement of a split, shape (m, 3)."""
    cells = np.array(list(permutations(range(SIZE * SIZE), OBJECTS)), dtype=np.int64)
    tested = (shapes(cells) * 2_654_435_761 % 2**32 >> 16) % TEST_SHARE == 0  # Knuth's multiplicative hash
    found: NDArray[np.int64] = cells[tested == (split == "test")]
    return found


def shapes(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number where objects are from one another; shape (m, 3) becomes (m,).

    Arrangements that differ in a shift alone have the same number: an agent sees the same in both.
    """
    where = places(cells)
    away = (where[:, 1:] - where[:, :1] + SIZE - 1).reshape(len(cells), -1)
    numbers: NDArray[np.int64] = away @ _SPAN ** np.arange(away.shape[1])
    return numbers
