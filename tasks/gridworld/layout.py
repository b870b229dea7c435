"""Where things stand in a grid.

A cell is `(x, y)`: x counts columns from the left, y counts rows from the bottom, so *up* is y + 1 and
*right* is x + 1, and only up and right lead from the start (0, 0) to the goal of the classic world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from memp.errors import InputError

Cell = tuple[int, int]
"""`(x, y)`, each in 0..size-1."""

CLASSIC_SIZE = 5

MIN_SIZE = 3
"""The smallest grid with a cell for each of the five places of a layout."""

CORNERS = ("upper left", "upper right", "lower left", "lower right")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A square grid with an agent, a key, a door, a box and a goal in it, each in a cell of its own.

    Without an inner wall the door does not bar the way: it decides whether the goal counts.
    """

    size: int
    """Cells along one side."""

    start: Cell
    key: Cell
    door: Cell
    box: Cell
    goal: Cell

    wall: int | None = None
    """The column of an inner wall, which is passed at the door alone, and there only once it is open. Start and
    key are left of it. None: there is none."""

    def __post_init__(self) -> None:
        if self.size < MIN_SIZE:
            raise InputError(f"size is {self.size!r}; a grid needs at least {MIN_SIZE} cells a side")
        places = {name: getattr(self, name) for name in ("start", "key", "door", "box", "goal")}
        for name, cell in places.items():
            if cell not in self:
                last = self.size - 1
                raise InputError(
                    f"{name} is at {cell!r}, outside the grid: cells go from (0, 0) to {(last, last)}"
                )
        for (name, cell), (other, taken) in combinations(places.items(), 2):
            if cell == taken:
                raise InputError(f"{name} and {other} are both at {cell!r}; give each a cell of its own")
        if self.wall is not None:
            self._check_wall(self.wall)

    @classmethod
    def classic(cls, size: int = CLASSIC_SIZE) -> Layout:
        """Return the tutorial's world: start in the lower left corner, goal in the upper right one."""
        return cls(size=size, start=(0, 0), key=(2, 2), door=(3, 3), box=(1, 3), goal=(size - 1, size - 1))

    def _check_wall(self, wall: int) -> None:
        if not 0 < wall < self.size - 1:
            raise InputError(
                f"the wall is column {wall!r}; it needs a column on either side, 1 to {self.size - 2}"
            )
        if self.door[0] != wall:
            raise InputError(f"the door is at {self.door!r}, not in the wall, which is column {wall}")
        for name, cell in (("start", self.start), ("key", self.key)):
            if cell[0] >= wall:
                raise InputError(f"{name} is at {cell!r}: it must be left of the wall, column {wall}")
        for name, cell in (("box", self.box), ("goal", self.goal)):
            if cell[0] == wall:
                raise InputError(f"{name} is at {cell!r}, in the wall, which is column {wall}")

    def __contains__(self, cell: Cell) -> bool:
        x, y = cell
        return 0 <= x < self.size and 0 <= y < self.size

    def number(self, cell: Cell) -> int:
        """Return the number of a cell: row by row from the lower left, y * size + x."""
        x, y = cell
        return y * self.size + x


def cells(size: int) -> Iterator[Cell]:
    """Yield every cell of a grid in the order of its number."""
    return ((x, y) for y in range(size) for x in range(size))


def neighbours(size: int, cell: Cell) -> list[Cell]:
    """Return the cells one step up, down, left and right of `cell`, those inside the grid."""
    x, y = cell
    near = ((x, y + 1), (x, y - 1), (x - 1, y), (x + 1, y))
    return [(x, y) for x, y in near if 0 <= x < size and 0 <= y < size]


def region(size: int, cell: Cell) -> str:
    """Name the part of the grid a cell lies in, e.g. `upper left`.

    A grid is halved both ways; the middle row and column of an odd one belong to neither half.
    """
    x, y = cell
    half, rest = size // 2, size - size // 2
    row = "lower" if y < half else "upper" if y >= rest else "middle"
    column = "left" if x < half else "right" if x >= rest else "center"
    return f"{row} {column}"
