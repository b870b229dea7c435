"""The transition of `tasks.gridworld.world` over arrays: many worlds step at once, for learners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memp.errors import InputError
from tasks.gridworld.world import (
    ACTIONS,
    BOX_HELD,
    BOX_HOME,
    BOX_PLACED,
    DELIVER,
    DOOR_REWARD,
    DROP_BOX,
    FETCH,
    FIRST_SIGN,
    GOAL_REWARD,
    KEY_REWARD,
    MOVE_RIGHT,
    NO_SIGN,
    NO_WALL,
    OPEN_DOOR,
    PICKUP_BOX,
    PICKUP_KEY,
    STEP_REWARD,
    UNLOCK,
    World,
    move,
)

Numbers = NDArray[np.int16]
"""A small integer for each world, shape (n,)."""

Flags = NDArray[np.bool_]
"""A yes or no for each world, shape (n,)."""

REWARDS = np.array(
    [
        STEP_REWARD + KEY_REWARD * key + DOOR_REWARD * door + GOAL_REWARD * done
        for done in (0, 1)
        for door in (0, 1)
        for key in (0, 1)
    ]
)
"""The reward of a step by what it did, key + 2 door + 4 goal: added in the order of the core, so equal to the bit."""


class States(NamedTuple):
    """What changes in the episodes, field by field as in `State`; each of shape (n,)."""

    at: Numbers
    key: Flags
    unbarred: Flags
    door: Flags
    box: Numbers


@dataclass(frozen=True)
class Worlds:
    """Worlds of one size, field by field as in `World`; each of shape (n,)."""

    size: int
    start: Numbers
    key: Numbers
    door: Numbers
    box: Numbers
    goal: Numbers
    sign: Numbers
    kind: Numbers
    wall: Numbers

    @classmethod
    def of(cls, worlds: Sequence[World]) -> Worlds:
        """Put worlds side by side.

        Raises:
            InputError: if there is none, or their sizes differ.
        """
        sizes = {world.size for world in worlds}
        if len(sizes) != 1:
            raise InputError(f"a batch takes worlds, all of one size, not of the sizes {sorted(sizes)}")
        return cls(sizes.pop(), *np.array(worlds, dtype=np.int16).T[1:].copy())

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def _walled(self) -> bool:
        return bool((self.wall != NO_WALL).any())

    @cached_property
    def _kinds(self) -> dict[int, Flags]:
        """Of each kind there is, which worlds are of it."""
        return {kind: self.kind == kind for kind in map(int, np.unique(self.kind))}

    def initial(self) -> States:
        """Return the states that episodes begin in."""
        no = np.zeros(len(self), dtype=np.bool_)
        return States(self.start, no, self.sign == NO_SIGN, no, np.full(len(self), BOX_HOME, np.int16))

    def step(self, states: States, actions: Numbers) -> tuple[States, NDArray[np.float64], Flags]:
        """Carry out an action in each world; see `tasks.gridworld.world.step`.

        Args:
            states: Where the episodes stand.
            actions: Positions in `ACTIONS`, shape (n,).

        Returns:
            The states after, the rewards of this step, and which goals are now met; each of shape (n,).
        """
        at, box, unbarred = self._moved(states, actions), self._boxes(states, actions), states.unbarred
        at_door = states.at == self.door
        key = states.key | ((actions == PICKUP_KEY) & (states.at == self.key))
        door = states.door | ((actions == OPEN_DOOR) & at_door & states.key & unbarred)
        signing = (actions >= FIRST_SIGN) & at_door & ~unbarred
        if signing.any():
            unbarred = unbarred | (signing & (actions == self.sign))
            wrong = signing & ~unbarred
            at, box = np.where(wrong, self.start, at), np.where(wrong, np.int16(BOX_HOME), box)
        after = States(at, key, unbarred, door, box)
        done = self.met(after)
        paid = (
            (key ^ states.key).view(np.int8) + 2 * (door ^ states.door).view(np.int8) + 4 * done.view(np.int8)
        )
        return after, REWARDS[paid], done

    def met(self, states: States) -> Flags:
        """Whether the goals of the tasks are fully met, shape (n,)."""
        found = np.zeros(len(self), dtype=np.bool_)
        for kind, those in self._kinds.items():
            found |= those & self._met(kind, states)
        return found

    def _met(self, kind: int, states: States) -> Flags:
        """Which goals would be met if all tasks were of one kind."""
        found: Flags
        if kind == UNLOCK:
            found = states.door & (states.at == self.goal)
        elif kind == FETCH:
            found = (states.box == BOX_HELD) & (states.at == self.start)
        elif kind == DELIVER:
            found = states.box == BOX_PLACED
        else:
            found = states.unbarred & (states.at == self.start)
        return found

    def _moved(self, states: States, actions: Numbers) -> Numbers:
        """Where the agents are after their moves."""
        cells = _targets(self.size)[actions, states.at]
        if not self._walled:
            return cells
        column = cells % np.int16(self.size)
        into = (column == self.wall) & (cells != self.door)
        beyond = (states.at == self.door) & (column > self.wall) & ~states.door
        return np.where((self.wall != NO_WALL) & (into | beyond), states.at, cells)

    def _boxes(self, states: States, actions: Numbers) -> Numbers:
        """Where the boxes are after they were picked up or put down."""
        box = states.box
        lifting, dropping = actions == PICKUP_BOX, actions == DROP_BOX
        if lifting.any():
            cell = np.where(box == BOX_HOME, self.box, self.goal)
            box = np.where(lifting & (states.at == cell) & (box != BOX_HELD), np.int16(BOX_HELD), box)
        if dropping.any():
            placed = dropping & (states.at == self.goal) & (box == BOX_HELD) & states.door
            box = np.where(placed, np.int16(BOX_PLACED), box)
        return box


@cache
def _targets(size: int) -> Numbers:
    """The cell after each action in each cell of a grid without inner walls, shape (actions, cells)."""
    cells = range(size * size)
    return np.array(
        [
            [move(size, cell, action) if action <= MOVE_RIGHT else cell for cell in cells]
            for action in range(len(ACTIONS))
        ],
        dtype=np.int16,
    )
