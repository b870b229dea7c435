"""Universes: which places a seed has, and how their tasks are split."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from memp.errors import InputError
from tasks.base import Split
from tasks.gridworld import text
from tasks.gridworld.layout import CLASSIC_SIZE, Cell
from tasks.gridworld.place import MIN_UNIVERSE_SIZE, Place, shuffled
from tasks.gridworld.task import GridTask
from tasks.gridworld.world import KINDS


@dataclass(frozen=True)
class Universe:
    """The styles, places and tasks of one seed, in one era.

    Training visits `places` places of each style and does every kind of task in each. `dev` does every kind
    in places that training visited, from starts it did not use there. `test` does every kind in places that
    training never visited, of the same styles; their adjectives are those of training places of *other*
    styles, so that an adjective in common says nothing.

    Every split holds each pair of style and kind equally often, and so, nearly, does the beginning of each.
    """

    seed: int = 0
    size: int = CLASSIC_SIZE

    style_count: int = 8
    """How many styles are in use."""

    places: int = 2
    """Places of each style that training visits."""

    names: text.Names = field(default_factory=text.Names)

    era: int = 0
    """How often all has been rearranged: every place keeps its name, and all in it is elsewhere."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"universe is {self.seed!r}; it must be 0 or more")
        if self.era < 0:
            raise InputError(f"era is {self.era!r}; it must be 0 or more")
        if self.size < MIN_UNIVERSE_SIZE:
            raise InputError(
                f"size is {self.size!r}; the places of a universe need at least {MIN_UNIVERSE_SIZE}"
            )
        if not 2 <= self.style_count <= len(self.names.styles):
            raise InputError(f"style_count is {self.style_count!r}; choose 2 to {len(self.names.styles)}")
        if self.places < 1:
            raise InputError(f"places is {self.places!r}; training needs at least 1 of each style")
        if self.style_count * self.places > len(self.names.adjectives):
            raise InputError(
                f"{self.style_count} styles with {self.places} places each need as many adjectives, "
                f"but there are {len(self.names.adjectives)}; use fewer places or styles"
            )

    @cached_property
    def styles(self) -> list[str]:
        """The styles in use."""
        return shuffled(self.names.styles, self.seed, "styles")[: self.style_count]

    @cached_property
    def seen(self) -> list[list[Place]]:
        """The places training visits, a row a style."""
        return [
            [self._place(style, row, turn) for turn in range(self.places)]
            for row, style in enumerate(self.styles)
        ]

    @cached_property
    def unseen(self) -> list[list[Place]]:
        """The places of the test split, a row a style; each has the adjective of another row of `seen`."""
        others = self.style_count - 1
        return [
            [
                self._place(style, (row + 1 + turn % others) % self.style_count, turn)
                for turn in range(self.places)
            ]
            for row, style in enumerate(self.styles)
        ]

    def tasks(self, split: Split) -> list[GridTask]:
        """Return the tasks of a split in their fixed order."""
        visited = self.unseen if split == "test" else self.seen
        rounds = len(KINDS) * (self.places if split == "train" else 1)
        tasks = []
        for turn in range(rounds):
            for row, places in enumerate(visited):
                kind = (row + turn) % len(KINDS)
                # training does all kinds in one place before the next; the others take turns
                place = places[turn // len(KINDS) if split == "train" else turn % self.places]
                start = len(KINDS) + kind if split == "dev" else kind
                tasks.append(self._task(place, KINDS[kind], place.starts[start]))
        return tasks

    @cached_property
    def _adjectives(self) -> list[str]:
        return shuffled(self.names.adjectives, self.seed, "adjectives")

    def _place(self, style: str, row: int, turn: int) -> Place:
        adjective = self._adjectives[row * self.places + turn]
        return Place(self.seed, self.size, adjective, style, era=self.era)

    def _task(self, place: Place, kind: str, start: Cell) -> GridTask:
        wordings = range(len(text.PHRASES[kind]))
        wording = shuffled(wordings, self.seed, self.size, place.name, kind, start, "phrase")[0]
        return GridTask(place, kind, start, wording)
