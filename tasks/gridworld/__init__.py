"""The grid world: key, door, box and goal in seeded universes of places, as a text environment.

`tasks.gridworld.gym` has the classic world for Gymnasium; only that module imports it.
"""

from tasks.gridworld.env import GridWorld
from tasks.gridworld.layout import Layout
from tasks.gridworld.place import Place, Rule
from tasks.gridworld.task import GridTask
from tasks.gridworld.text import Names
from tasks.gridworld.universe import Universe
from tasks.gridworld.world import ACTIONS, CLASSIC_ACTIONS, KINDS, State, World

__all__ = [
    "ACTIONS",
    "CLASSIC_ACTIONS",
    "KINDS",
    "GridTask",
    "GridWorld",
    "Layout",
    "Names",
    "Place",
    "Rule",
    "State",
    "Universe",
    "World",
]
