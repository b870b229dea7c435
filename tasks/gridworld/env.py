"""The grid world as a text environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import get_args

from tasks.base import Split
from tasks.gridworld import text
from tasks.gridworld.base import GridEnv
from tasks.gridworld.layout import CLASSIC_SIZE
from tasks.gridworld.task import GridTask
from tasks.gridworld.universe import Universe
from tasks.gridworld.world import State, World


class GridWorld(GridEnv[GridTask]):
    """Seeded universes of named places with a key, a door, a box and a goal; see `Universe`.

    The layout is hidden: an agent sees its own cell and the four around it.
    """

    name = "gridworld-1"

    def __init__(
        self,
        universe: int = 0,
        size: int = CLASSIC_SIZE,
        *,
        style_count: int = 8,
        places: int = 2,
        names: text.Names | None = None,
        era: int = 0,
        max_steps: int | None = None,
    ) -> None:
        """Take the arguments of `Universe`, and the step budget (None: 10 per cell of a side)."""
        self.universe = Universe(universe, size, style_count, places, names or text.Names(), era)
        super().__init__(size, max_steps)

    @cached_property
    def splits(self) -> Mapping[Split, Sequence[GridTask]]:
        """The tasks of every split."""
        return {split: self.universe.tasks(split) for split in get_args(Split)}

    def greeting(self, task: GridTask) -> str:
        """Say which place it is."""
        return text.arrival(task.place.name)

    def look(self, world: World, state: State) -> str:
        """Say what is in the agent's cell and in the four around it."""
        return text.view(world, state)
