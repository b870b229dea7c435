"""What was lived through in a lesson, and what can be known from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from memp.trajectory import Step, Trajectory
from tasks.gridworld import GridWorld
from tasks.gridworld.layout import Cell, neighbours, region
from tasks.gridworld.task import GridTask

BESIDE = {"beside the door": "door", "beside the box": "box"}


@dataclass(frozen=True)
class Knowledge:
    """What guidance tells about a place, true or not."""

    cells: dict[str, Cell] = field(default_factory=dict)
    """Where things stand, by name."""

    spots: dict[str, str] = field(default_factory=dict)
    """In which region, or beside what, a key or box is to be found."""

    sign: str = ""
    """What lifts the bar."""

    wrong: frozenset[str] = frozenset()
    """Signs that do not."""

    def under(self, other: Knowledge) -> Knowledge:
        """Both together; where they differ, `other` holds."""
        return Knowledge(
            {**self.cells, **other.cells},
            {**self.spots, **other.spots},
            other.sign or self.sign,
            self.wrong | other.wrong,
        )

    def of_the_style(self) -> Knowledge:
        """What of it holds in other places of the style."""
        return Knowledge({}, self.spots, self.sign, self.wrong)


@dataclass(frozen=True)
class Lived:
    """One episode, with the cells behind its words."""

    task: GridTask
    trajectory: Trajectory
    visited: tuple[Cell, ...]
    """The agent's cell at the beginning and after every step."""

    @cached_property
    def seen(self) -> frozenset[Cell]:
        """The cells that the agent stood on or next to."""
        size = self.task.place.size
        return frozenset(cell for at in self.visited for cell in (at, *neighbours(size, at)))

    @cached_property
    def known(self) -> Knowledge:
        """What an attentive reader knows from it: of things, where the agent stood on them."""
        things = self.task.place.things
        cells = {thing: cell for thing, cell in things.items() if cell in self.visited}
        spots = {thing: self._spot(thing) for thing in cells if thing in ("key", "box")}
        steps = self.trajectory.steps
        wrong = frozenset(step.action for step in steps if "sends you back" in step.observation)
        sign = next((step.action for step in steps if "lifts the bar" in step.observation), "")
        return Knowledge(cells, spots, sign, wrong)

    def _spot(self, thing: str) -> str:
        """Where a thing is, in words that may hold elsewhere."""
        things, size = self.task.place.things, self.task.place.size
        if thing == "key":
            for spot, other in BESIDE.items():
                if things[other] in self.seen and things[other] in neighbours(size, things["key"]):
                    return spot
        return region(size, things[thing])


def live(
    env: GridWorld,
    task: GridTask,
    actions: Iterable[str],
    saw: Callable[[str, str, Cell], None] = lambda *_: None,
) -> Lived:
    """Carry out actions in a task, to the end of the episode or of the actions.

    `saw` is told of each action, of what it led to, and where, before the next action is asked for.
    """
    start, info = env.begin(task)
    steps: list[Step] = []
    visited = [env.at]
    for action in actions:
        observation, _, terminated, truncated, info = env.step(action)
        steps.append(Step(action=action, observation=observation))
        visited.append(env.at)
        saw(action, observation, env.at)
        if terminated or truncated:
            break
    trajectory = Trajectory(
        task=info["task"], steps=tuple(steps), reward=info["score"], start=start, task_id=info["task_id"]
    )
    return Lived(task, trajectory, tuple(visited))
