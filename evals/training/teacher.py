"""The teacher: acts as a sensible reader of the guidance would, and explores where that tells nothing.

It is what the models imitate. It believes what guidance says of its own place, and of the style of its place;
what it then sees counts for more. It never looks at the world behind the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from evals.training.experience import BESIDE, Knowledge
from tasks.gridworld import GridWorld
from tasks.gridworld.layout import Cell, cells, neighbours, region
from tasks.gridworld.task import GridTask
from tasks.gridworld.world import SIGNS

CLEAR, LIKELY, ANYWHERE = range(3)
"""How well a reader knows where a thing is."""

VERBS = ("Go to", "Find", "Search everywhere for")
"""What is thought, by how well it is known where to go."""


class Decision(NamedTuple):
    """What the teacher would answer."""

    thought: str
    """Where it goes, and what for."""

    action: str

    @property
    def reply(self) -> str:
        """In the form that the prompt asks for."""
        return f"{self.thought}\nAction: {self.action}"


@dataclass
class Teacher:
    """The teacher in the middle of one episode."""

    task: GridTask
    knowledge: Knowledge
    seen: set[Cell] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    """Signs that failed in this episode."""

    held: set[str] = field(default_factory=set)
    """What is done: `key` and `box` in hand, `bar` lifted, `door` open."""

    def look(self, at: Cell) -> None:
        """See a cell and those around it."""
        self.seen |= {at, *neighbours(self.task.place.size, at)}

    def saw(self, action: str, observation: str, at: Cell) -> None:
        """Take note of what an action did, and of what is seen where it led."""
        self.look(at)
        if "sends you back" in observation:
            self.wrong.add(action)
        carried = observation.partition("You carry ")[2].partition(".")[0]
        self.held -= {"box"}
        self.held |= {thing for thing in ("key", "box") if f"the {thing}" in carried}
        if "The door is barred" not in observation:
            self.held.add("bar")
        if "The door is open" in observation:
            self.held.add("door")

    def act(self, at: Cell) -> str:
        """Decide on the next action."""
        return self.decide(at).action

    def decide(self, at: Cell) -> Decision:
        """Decide where to go, and on the action that does it."""
        ways = [(*self._way(thing, at), thing, deed) for thing, deed in self._open_goals()]
        clarity, _, cell, thing, deed = min(ways, key=lambda way: way[:3])
        return Decision(_thought(clarity, thing, cell), deed if cell == at else _toward(at, cell))

    def _open_goals(self) -> list[tuple[str, str]]:
        """The things worth going to now, each with what is to be done there."""
        kind, held = self.task.kind, self.held
        if kind == "fetch":
            return [("start", "")] if "box" in held else [("box", "pickup_box")]
        if kind == "greet":
            return [("start", "")] if "bar" in held else [("door", self._sign())]
        if "door" in held:
            if kind == "unlock":
                return [("goal", "")]
            return [("goal", "drop_box")] if "box" in held else [("box", "pickup_box")]
        goals = []
        if "key" not in held:
            goals.append(("key", "pickup_key"))
        if "bar" not in held:
            goals.append(("door", self._sign()))
        return goals or [("door", "open_door")]

    def _sign(self) -> str:
        """The sign to try: the one guidance names, or else the first that is not known to be wrong."""
        known = self.knowledge.sign
        if known and known not in self.wrong:
            return known
        avoided = self.knowledge.wrong | self.wrong
        return next((sign for sign in SIGNS if sign not in avoided), SIGNS[0])

    def _way(self, thing: str, at: Cell) -> tuple[int, int, Cell]:
        """How well it is known where a thing is, how far that is, and where to go."""
        task = self.task
        if thing == "start":
            return CLEAR, _distance(at, task.start), task.start
        true = task.place.things[thing]
        if true in self.seen:
            return CLEAR, _distance(at, true), true
        told = self.knowledge.cells.get(thing)
        if told is not None and told not in self.seen:
            return CLEAR, _distance(at, told), told
        hidden = [cell for cell in cells(task.place.size) if cell not in self.seen]
        likely = [cell for cell in hidden if self._fits(thing, cell)]
        distance, (y, x) = min((_distance(at, cell), cell[::-1]) for cell in likely or hidden)
        return LIKELY if likely else ANYWHERE, distance, (x, y)

    def _fits(self, thing: str, cell: Cell) -> bool:
        """Whether a thing may be in a cell, as guidance tells it."""
        spot, place = self.knowledge.spots.get(thing, ""), self.task.place
        beside = BESIDE.get(spot)
        if beside is None:
            return region(place.size, cell) == spot
        other = place.things[beside]
        return other in self.seen and cell in neighbours(place.size, other)


def lesson(env: GridWorld, task: GridTask, knowledge: Knowledge) -> Teacher:
    """Begin a task with the teacher; the environment's episode must have begun."""
    teacher = Teacher(task, knowledge)
    teacher.look(env.at)
    return teacher


def stray_thought(random: Random, size: int) -> str:
    """A thought that is as good as any other."""
    thing = random.choice(("key", "door", "box", "goal", "start"))
    return _thought(random.choice((CLEAR, LIKELY, ANYWHERE)), thing, random.choice(list(cells(size))))


def _thought(clarity: int, thing: str, cell: Cell) -> str:
    return f"{VERBS[clarity]} the {thing} ({cell[0]}, {cell[1]})."


def _distance(one: Cell, other: Cell) -> int:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _toward(at: Cell, to: Cell) -> str:
    """One step on the way: along the row first."""
    if at[0] != to[0]:
        return "move_right" if to[0] > at[0] else "move_left"
    return "move_up" if to[1] > at[1] else "move_down"
