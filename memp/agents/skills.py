"""Skills, and how they are cut out of what an agent lived through."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from memp.errors import InputError
from memp.procedure import Procedure, Usage
from memp.situation import Context, Situation, read, written
from memp.trajectory import Step, Trajectory


class Skill(NamedTuple):
    """A way to bring something about: actions that did so, from where they did, and how often they did since."""

    environment: str
    """The name of the environment it is of."""

    effect: frozenset[str]
    """The flags that hold afterwards and did not before; at least one."""

    preconditions: Context
    """What has to hold before: flags, and where the agent is from one thing."""

    actions: tuple[str, ...]
    """At least one."""

    expected: tuple[Context, ...]
    """What holds after each action but the last, after which the effect does."""

    usage: Usage = Usage()
    """Attempts, as `uses`, and successes: of executions alone."""

    id: str = ""
    """Of its procedure; empty while it has none."""

    @property
    def name(self) -> str:
        """What it is for, e.g. `door open`."""
        return written(self.effect)

    @property
    def task(self) -> str:
        """The task of its procedure: what a memory finds it by ends it."""
        return f"{self.environment}: {self.name} from {self.preconditions.text}"

    @property
    def move(self) -> tuple[int, int]:
        """Where its first action takes the agent, in cells to the right and up; a single action is not known to."""
        if not self.expected:
            return 0, 0
        before, after = self.preconditions, self.expected[0]
        return before.dx - after.dx, before.dy - after.dy

    @property
    def trajectory(self) -> Trajectory:
        """An episode that a memory builds its procedure from: each way is a task of its own."""
        after = [*(context.text for context in self.expected), self.name]
        steps = [
            Step(action=action, observation=seen) for action, seen in zip(self.actions, after, strict=True)
        ]
        return Trajectory(
            task=self.task, steps=tuple(steps), reward=1.0, task_id=f"{self.task} by {_digest(self.actions)}"
        )

    def attempt(self, done: int, *, success: bool) -> Trajectory:
        """The episode of its task in which it was executed, as far as its first `done` actions."""
        lived = self.trajectory
        return lived.model_copy(
            update={"steps": lived.steps[:done], "reward": float(success), "shown": (self.id,)}
        )

    @classmethod
    def of(cls, procedure: Procedure) -> Skill:
        """See a procedure as the skill that it is.

        Raises:
            InputError: if it is none.
        """
        environment, _, what = procedure.task.partition(": ")
        effect, _, _ = what.rpartition(" from ")
        if not effect or procedure.trajectory is None or not procedure.trajectory.steps:
            raise InputError(f"procedure {procedure.id!r} is no skill: its task is {procedure.task!r}")
        steps = procedure.trajectory.steps
        return cls(
            environment,
            read(effect),
            Context.parse(what),
            tuple(step.action for step in steps),
            tuple(Context.parse(step.observation) for step in steps[:-1]),
            procedure.usage,
            procedure.id,
        )


class Lived(NamedTuple):
    """What an agent did in an episode, with what it saw before each action and after the last."""

    situations: Sequence[Situation]
    actions: Sequence[str]


def skills_in(environment: str, lived: Lived) -> list[Skill]:
    """Cut skills out of an episode: from everywhere it came by, the shortest way it has shown to the next event.

    An event is a step after which a flag holds that did not before. The steps up to it are seen as a graph of
    situations, in which what led nowhere falls away. Episodes that failed teach as far as they came.
    """
    found, begin = [], 0
    for step, (before, after) in enumerate(zip(lived.situations, lived.situations[1:], strict=False)):
        if before.flags == after.flags:
            continue
        if after.flags - before.flags:
            segment = Lived(lived.situations[begin : step + 2], lived.actions[begin : step + 1])
            found += _segment_skills(environment, segment)
        begin = step + 1
    return found


def _segment_skills(environment: str, lived: Lived) -> list[Skill]:
    """The skills of steps of which the last one was an event."""
    *_, before, after = lived.situations
    thing = _nearest(before, after)
    effect = after.flags - before.flags
    found = []
    for way in _ways(lived):
        contexts = [_seen_from(thing, situation) for situation, _ in way]
        if None not in contexts:
            first, *rest = [context for context in contexts if context]
            found.append(Skill(environment, effect, first, tuple(action for _, action in way), tuple(rest)))
    return found


def _ways(lived: Lived) -> list[list[tuple[Situation, str]]]:
    """From each situation, the shortest way to the last: what to do where, by breadth-first search from the end."""
    came: dict[Situation, list[tuple[Situation, str]]] = {}
    for before, after, action in zip(lived.situations, lived.situations[1:], lived.actions, strict=False):
        if before != after:
            came.setdefault(after, []).append((before, action))
    last = lived.situations[-2], lived.actions[-1]
    ways = {last[0]: [last]}
    queue = deque(ways)
    while queue:
        situation = queue.popleft()
        for before, action in came.get(situation, ()):
            if before not in ways:
                ways[before] = [(before, action), *ways[situation]]
                queue.append(before)
    return list(ways.values())


def _nearest(before: Situation, after: Situation) -> str:
    """The name of the thing that an event happened at: the nearest one, before or after."""
    seen = [
        (abs(thing.dx) + abs(thing.dy), late, thing.name)
        for late, things in enumerate((after.things, before.things))
        for thing in things
    ]
    return min(seen)[2] if seen else ""


def _seen_from(thing: str, situation: Situation) -> Context | None:
    """A situation as the context of one thing; None where that is not in sight."""
    return next((context for context in situation.contexts() if context.thing == thing), None)


def _digest(actions: Sequence[str]) -> str:
    """What tells a way from others, however long it is."""
    return blake2b("\n".join(actions).encode(), digest_size=8).hexdigest()
