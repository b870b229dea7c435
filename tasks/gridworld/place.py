"""Places, and the rules that all places of one style follow.

In a universe (a seed) every *style* (barn, tower, ...) has a `Rule`: where the key is kept, where the box
stands, which sign lifts the bar of the door. A *place* (the amber barn) follows the rule of its style and
fixes the exact cells. The adjective decides nothing else. Another universe has other rules; so has another
*era* of the same universe, in which all places keep their names.

Everything is drawn by ordering SHA-256 digests, so a task is the same in every process, on every machine
and under every version of any library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import count
from typing import TypeVar

from tasks.gridworld import text
from tasks.gridworld.layout import CORNERS, Cell, Layout, cells, neighbours, region
from tasks.gridworld.world import SIGNS

T = TypeVar("T")

KEY_SPOTS = (*CORNERS, "beside the door", "beside the box")
"""Where the places of a style may keep the key: in a corner region, or one step from something."""

MIN_UNIVERSE_SIZE = 4
"""From this size on a corner region has room for the key, the box and the door at once."""


def shuffled(items: Iterable[T], *seed: object) -> list[T]:
    """Return `items` in an order that `seed` decides, the same in every process."""
    prefix = "/".join(map(str, seed))

    def rank(numbered: tuple[int, T]) -> bytes:
        return hashlib.sha256(f"{prefix}/{numbered[0]}".encode()).digest()

    return [item for _, item in sorted(enumerate(items), key=rank)]


@dataclass(frozen=True)
class Rule:
    """What all places of one style have in common in one universe."""

    key: str
    """Where the key is kept, one of `KEY_SPOTS`."""

    box: str
    """The corner region the box stands in, one of `CORNERS`."""

    sign: str
    """What lifts the bar of the door, one of `SIGNS`."""


@cache
def rules(universe: int, era: int = 0) -> Mapping[str, Rule]:
    """Return the rule of every style there is: each option equally often, no two rules the same.

    Styles that a caller holds out keep theirs, so a rule depends on nothing but universe and style.
    """
    when = _when(universe, era)
    for attempt in count():
        drawn = [
            Rule(*options)
            for options in zip(
                _dealt(KEY_SPOTS, *when, attempt, "key"),
                _dealt(CORNERS, *when, attempt, "box"),
                _dealt(SIGNS, *when, attempt, "sign"),
                strict=True,
            )
        ]
        if len(set(drawn)) == len(drawn):
            break
    return dict(zip(text.STYLES, drawn, strict=True))


def _when(universe: int, era: int) -> tuple[object, ...]:
    """What decides all that an era changes; the first is that of the universe alone."""
    return (universe, f"era-{era}") if era else (universe,)


def _dealt(options: tuple[str, ...], *seed: object) -> list[str]:
    """Deal `options` out to the styles, evenly."""
    dealt = [options[number % len(options)] for number in range(len(text.STYLES))]
    return shuffled(dealt, *seed)


@dataclass(frozen=True)
class Place:
    """A named place; its cells follow from the universe, the size and the name."""

    universe: int
    size: int
    adjective: str
    style: str

    era: int = field(default=0, kw_only=True)
    """How often all has been rearranged."""

    @property
    def name(self) -> str:
        """What the task text calls it, e.g. `amber barn`."""
        return f"{self.adjective} {self.style}"

    @cached_property
    def rule(self) -> Rule:
        """The rule of its style."""
        return rules(self.universe, self.era)[self.style]

    @cached_property
    def things(self) -> dict[str, Cell]:
        """The cells of box, door, key and goal."""
        box = self._draw(
            "box", (cell for cell in cells(self.size) if region(self.size, cell) == self.rule.box)
        )
        door = self._draw("door", cells(self.size), box)
        near = {"beside the door": neighbours(self.size, door), "beside the box": neighbours(self.size, box)}
        corner = (cell for cell in cells(self.size) if region(self.size, cell) == self.rule.key)
        key = self._draw("key", near.get(self.rule.key, corner), box, door)
        goal = self._draw("goal", cells(self.size), box, door, key)
        return {"box": box, "door": door, "key": key, "goal": goal}

    @cached_property
    def starts(self) -> list[Cell]:
        """The cells an episode may begin in, in the order tasks use them."""
        free = [cell for cell in cells(self.size) if cell not in self.things.values()]
        return shuffled(free, *self._seed, "start")

    def layout(self, start: Cell) -> Layout:
        """Return the place with the agent in `start`."""
        things = self.things
        return Layout(
            size=self.size,
            start=start,
            key=things["key"],
            door=things["door"],
            box=things["box"],
            goal=things["goal"],
        )

    @property
    def _seed(self) -> tuple[object, ...]:
        return *_when(self.universe, self.era), self.size, self.name

    def _draw(self, thing: str, among: Iterable[Cell], *taken: Cell) -> Cell:
        return shuffled((cell for cell in among if cell not in taken), *self._seed, thing)[0]
