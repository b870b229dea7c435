"""One task: a place, a kind, a start and a wording, and the id that says them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from memp.errors import TaskError
from tasks.base import Split, Task
from tasks.gridworld import text
from tasks.gridworld.layout import CLASSIC_SIZE, Cell
from tasks.gridworld.place import MIN_UNIVERSE_SIZE, Place
from tasks.gridworld.world import KINDS, World

_ID = re.compile(r"u(\d+)(?:x(\d+))?(?:e(\d+))?/([a-z]+)-([a-z]+)/([a-z]+)/start-(\d+)/p(\d+)")


@dataclass(frozen=True)
class GridTask:
    """All that decides a task; its id says the same in words."""

    place: Place
    kind: str

    start: Cell
    """Where the agent begins."""

    phrase: int
    """Which wording of the kind is used."""

    @property
    def id(self) -> str:
        """E.g. `u0/amber-barn/unlock/start-3/p2`: cell number 3, wording 2.

        `u0x8/...` in an 8 by 8 grid, `u0e1/...` after all was rearranged once.
        """
        place, (x, y) = self.place, self.start
        size = "" if place.size == CLASSIC_SIZE else f"x{place.size}"
        era = f"e{place.era}" if place.era else ""
        universe = f"u{place.universe}{size}{era}"
        start = f"start-{y * place.size + x}"
        return f"{universe}/{place.adjective}-{place.style}/{self.kind}/{start}/p{self.phrase}"

    @classmethod
    def parse(cls, task_id: str) -> GridTask:
        """Read an id.

        Raises:
            TaskError: if it is not one, or names what there is not.
        """
        found = _ID.fullmatch(task_id)
        if not found:
            raise TaskError(f"{task_id!r} is no task id; one reads like 'u0/amber-barn/unlock/start-3/p2'")
        universe, size, era, adjective, style, kind, start, phrase = found.groups()
        place = Place(int(universe), int(size or CLASSIC_SIZE), adjective, style, era=int(era or 0))
        y, x = divmod(int(start), place.size)
        task = cls(place, kind, (x, y), int(phrase))
        if not task._exists() or task.id != task_id:
            raise TaskError(f"there is no task {task_id!r}: a name, a number or the start cell is not in use")
        return task

    def _exists(self) -> bool:
        return (
            self.place.size >= MIN_UNIVERSE_SIZE
            and self.place.adjective in text.ADJECTIVES
            and self.place.style in text.STYLES
            and self.start in self.place.starts
            and self.kind in KINDS
            and self.phrase < len(text.PHRASES[self.kind])
        )

    @property
    def words(self) -> str:
        """The task in words."""
        return text.ask(self.kind, self.phrase, self.place.name)

    def world(self) -> World:
        """Return the core of the task."""
        return World.of(self.place.layout(self.start), self.kind, self.place.rule.sign)

    def named(self, split: Split) -> Task:
        """Return it as the seam lists it."""
        return Task(self.id, self.kind, split)
