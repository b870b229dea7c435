"""A room, a wall with a locked door, a goal behind it, and all of it in sight: for agents that see, not read.

The task is that of Minigrid's DoorKey: take the key, open the door, reach the goal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from typing import TypeVar

from memp.errors import InputError
from memp.situation import Situation, Thing
from tasks.base import Split, Task
from tasks.gridworld import text
from tasks.gridworld.base import GridEnv
from tasks.gridworld.layout import Cell, Layout, cells
from tasks.gridworld.place import shuffled
from tasks.gridworld.world import CLASSIC_ACTIONS, State, World

SIZE = 6

ROOM = 2
"""Columns left of the wall, at least."""

KEY, DOOR_OPEN, GOAL = "key", "door open", "goal"
"""The flags of its situations: the key is taken, the door is open, the goal is reached."""

SAID = {KEY: "You carry the key.", DOOR_OPEN: "The door is open.", GOAL: text.DONE}
"""What an observation says where a flag holds."""

T = TypeVar("T")

Room = tuple[int, Cell, Cell, Cell]
"""The column of the wall, and the cells of key, door and goal."""

_SEEN = re.compile(r"(You are|The (\w+) is) at column (\d+) row (\d+)\.")


@dataclass(frozen=True)
class DoorKeyTask:
    """One layout and a start in it; numbers decide both."""

    seed: int
    size: int

    number: int
    """Of the layout."""

    turn: int
    """Which of the free cells left of the wall it starts in."""

    words = "Take the key, open the locked door and reach the goal."

    @property
    def id(self) -> str:
        """E.g. `doorkey0x6/layout-3/start-1`."""
        return f"doorkey{self.seed}x{self.size}/layout-{self.number}/start-{self.turn}"

    @property
    def room(self) -> Room:
        """What tells its layout from others."""
        layout = self.layout
        return layout.wall or 0, layout.key, layout.door, layout.goal

    @cached_property
    def layout(self) -> Layout:
        """Where things are; the box is out of the way, for nobody needs it."""
        wall = self._drawn("wall", range(ROOM, self.size - 1))[0]
        key, box, *free = self._drawn("left", (cell for cell in cells(self.size) if cell[0] < wall))
        return Layout(
            size=self.size,
            start=free[self.turn],
            key=key,
            door=(wall, self._drawn("door", range(self.size))[0]),
            box=box,
            goal=self._drawn("right", (cell for cell in cells(self.size) if cell[0] > wall))[0],
            wall=wall,
        )

    def world(self) -> World:
        """Return the core of the task."""
        return World.of(self.layout)

    def named(self, split: Split) -> Task:
        """Return it as the seam lists it."""
        return Task(self.id, "unlock", split)

    def _drawn(self, what: str, among: Iterable[T]) -> list[T]:
        return shuffled(among, "doorkey", self.seed, self.size, self.number, what)


class DoorKey(GridEnv[DoorKeyTask]):
    """Numbered layouts of DoorKey, with all that matters in sight.

    Training starts from some cells of each layout, `dev` from other cells of the same layouts, `test` in layouts
    that training never visits.
    """

    name = "doorkey-1"
    actions = CLASSIC_ACTIONS

    def __init__(
        self,
        seed: int = 0,
        size: int = SIZE,
        *,
        layouts: int = 8,
        starts: int = 5,
        max_steps: int | None = None,
    ) -> None:
        """Say which layouts there are.

        Args:
            seed: Decides the layouts.
            size: Cells along one side.
            layouts: How many layouts training visits; `test` has as many others. Together at most half of all.
            starts: From how many cells of each it starts in each split.
            max_steps: Step budget of an episode; None: 10 per cell of a side.

        Raises:
            InputError: if the grid is too small for that, or there is nothing in it.
        """
        if size < ROOM + 2:
            raise InputError(
                f"size is {size!r}; a room, a wall and a goal behind it take at least {ROOM + 2}"
            )
        super().__init__(size, max_steps)
        most_starts = (ROOM * size - 2) // 2
        most_layouts = sum(wall * (size - 1 - wall) for wall in range(ROOM, size - 1)) * size**3 // 4
        if not (1 <= layouts <= most_layouts and 1 <= starts <= most_starts):
            raise InputError(
                f"{layouts=} and {starts=}: there must be at least 1 of each, and in a grid of size {size!r} at most "
                f"{most_layouts} layouts and {most_starts} starts"
            )
        self._seed, self._size, self._layouts, self._starts = seed, size, layouts, starts

    @cached_property
    def splits(self) -> Mapping[Split, Sequence[DoorKeyTask]]:
        """The tasks of every split."""
        numbers = list(islice(self._numbers(), 2 * self._layouts))
        seen, unseen = numbers[: self._layouts], numbers[self._layouts :]
        first, second = range(self._starts), range(self._starts, 2 * self._starts)
        return {
            "train": self._tasks(seen, first),
            "dev": self._tasks(seen, second),
            "test": self._tasks(unseen, first),
        }

    def _numbers(self) -> Iterator[int]:
        """The numbers of layouts, without those that are the same as an earlier one."""
        met = set()
        for number in count():
            room = DoorKeyTask(self._seed, self._size, number, 0).room
            if room not in met:
                met.add(room)
                yield number

    def look(self, world: World, state: State) -> str:
        """Say where everything is, what the agent carries, and whether the door is open."""
        things = {"key": world.key, "door": world.door, "goal": world.goal}
        if state.key:
            del things["key"]
        sentences = [f"You are at {_cell(world, state.at)}."]
        sentences += [f"The {name} is at {_cell(world, cell)}." for name, cell in things.items()]
        sentences.append(f"You carry {'the key' if state.key else 'nothing'}.")
        sentences.append(f"The door is {'open' if state.door else 'locked'}.")
        return " ".join(sentences)

    def _tasks(self, numbers: Iterable[int], turns: Sequence[int]) -> list[DoorKeyTask]:
        return [DoorKeyTask(self._seed, self._size, number, turn) for number in numbers for turn in turns]


def perceive(observation: str) -> Situation:
    """Read an observation of `DoorKey` as a situation.

    Raises:
        InputError: if it is none.
    """
    cell_of = {name: (int(x), int(y)) for _, name, x, y in _SEEN.findall(observation)}
    if "" not in cell_of:
        raise InputError(
            f"{observation!r} is no observation of {DoorKey.name}: it does not say where the agent is"
        )
    x, y = cell_of.pop("")
    flags = frozenset(flag for flag, sentence in SAID.items() if sentence in observation)
    things = tuple(Thing(name, there[0] - x, there[1] - y) for name, there in sorted(cell_of.items()))
    return Situation(flags, things)


def _cell(world: World, number: int) -> str:
    y, x = divmod(number, world.size)
    return f"column {x} row {y}"
