"""Doing a task again without a model, as long as all is as it was; a model takes over as soon as it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from memp.agents.base import Admissible, Agent, Policy
from memp.episode import Episode
from memp.procedure import Match
from memp.trajectory import Step, Trajectory

PROVEN = 0.5
"""The least smoothed success rate of a procedure that is done again. One that was never shown has it: that it did
this very task is proof enough. One that was shown, and failed more often than it helped, is none."""

Same = Callable[[str, str], bool]
"""Whether what is seen, the first, is what was seen then, the second."""


def equal(seen: str, then: str) -> bool:
    """Whether two texts are equal but for their white space."""
    return seen.split() == then.split()


def proven(match: Match, *, success_at: float = 1.0) -> Trajectory | None:
    """Return what can be done again: steps that were kept, led to success, and have not failed since; else None.

    What was brought in under a namespace is not: nobody here has seen it work.

    Args:
        match: What was found.
        success_at: The reward from which an episode is a success.
    """
    procedure, trajectory = match.procedure, match.procedure.trajectory
    succeeded = procedure.reward >= success_at - 1e-9 and procedure.usage.success >= PROVEN
    succeeded = succeeded and not procedure.namespace
    return trajectory if succeeded and trajectory is not None and trajectory.steps else None


@runtime_checkable
class TakesOver(Policy, Protocol):
    """A policy that can go on in the middle of an episode as if it had acted itself until then."""

    def lived(self, observation: str, admissible: Sequence[str], action: str) -> None:
        """Take over a turn that was done for it; no model is asked.

        Args:
            observation: What there was to see.
            admissible: The actions that were possible; empty where that is not known.
            action: What was done.
        """
        ...


class ReplayFirst:
    """Does a task again as the proven procedure of it says; another agent acts where there is none that holds.

    Steps are done as recorded, as long as every observation is the recorded one, that before the first step
    included, and every action is admissible. At the first difference the other agent takes over for good. If its
    policy `TakesOver`, it is told of all steps as if it had done them.

    A task is the same where its text is. Nothing is adapted to another one (`ReplayAgent` does that): observations
    show that the world is another one, never that something else is wanted.
    """

    def __init__(self, agent: Agent, *, success_at: float = 1.0, same: Same = equal) -> None:
        """Take the other agent, and what is to count.

        Args:
            agent: Acts where nothing is replayed.
            success_at: The reward from which an episode is a success.
            same: Compares observations; to forgive what changes every time, such as the date.
        """
        self._agent = agent
        self._success_at = success_at
        self._same = same

    @property
    def name(self) -> str:
        """`replay-first+<the other agent>`."""
        return f"replay-first+{self._agent.name}"

    def start(self, task: str, matches: Sequence[Match] = (), *, seed: int = 0) -> Policy:
        """Begin an episode."""
        trajectories = [
            trajectory
            for match in matches
            if equal(task, match.procedure.task)
            and (trajectory := proven(match, success_at=self._success_at)) is not None
        ]
        return _ReplayFirstPolicy(self._agent.start(task, matches, seed=seed), trajectories, self._same)


class _ReplayFirstPolicy:
    """One episode: a proven trajectory as far as it holds, then the policy of the other agent."""

    def __init__(self, policy: Policy, trajectories: list[Trajectory], same: Same) -> None:
        self._policy = policy
        self._holding = trajectories
        self._same = same
        self._done = 0

    @property
    def tokens_in(self) -> int:
        return self._policy.tokens_in

    @property
    def tokens_out(self) -> int:
        return self._policy.tokens_out

    def act(self, observation: str, admissible: Admissible) -> str | None:
        step = self._next(observation)
        if step is None:
            return self._policy.act(observation, admissible)
        possible = admissible()
        if possible and step.action not in possible:
            self._holding = []
            return self._policy.act(observation, lambda: possible)
        if isinstance(self._policy, TakesOver):
            self._policy.lived(observation, possible, step.action)
        self._done += 1
        return step.action

    def _next(self, observation: str) -> Step | None:
        """The next step of the first trajectory that began as this episode did, as long as it holds."""
        self._holding = [
            trajectory
            for trajectory in self._holding
            if self._done < len(trajectory.steps) and self._same(observation, _seen(trajectory, self._done))
        ][:1]
        return self._holding[0].steps[self._done] if self._holding else None


def _seen(trajectory: Trajectory, done: int) -> str:
    """What was seen when so many steps were done."""
    return trajectory.steps[done - 1].observation if done else trajectory.start


@dataclass(frozen=True)
class Replayed:
    """What was done again, and why it ended."""

    ended: Literal["unproven", "inadmissible", "diverged", "completed"]
    """`unproven`: there was nothing to do again; `inadmissible`: a step was not possible; `diverged`: a step had
    another effect; `completed`: all steps were done, and had the effect they had before."""

    observation: str
    """What is seen now: where to go on from."""

    steps: tuple[Step, ...] = ()
    """What was done; all of it is recorded in the episode."""

    procedure_id: str = ""
    """Of the procedure that was carried out; empty where there was none."""

    expected: Step | None = None
    """The recorded step that was not possible, or had another effect."""

    @property
    def completed(self) -> bool:
        """Whether the procedure went through to its end; whether the task is done, only the world can say."""
        return self.ended == "completed"


def replay(
    episode: Episode,
    execute: Callable[[str], str],
    *,
    actions: Admissible | None = None,
    start: str | None = None,
    success_at: float = 1.0,
    same: Same = equal,
) -> Replayed:
    """Carry out the proven procedure of an episode's task, as long as all is as it was then.

    Every step is recorded in the episode. What `execute` raises is passed on; what was done before stays recorded.

    Args:
        episode: Whose task is to be done. Of its `matches`, the first one counts that is proven, is of the same
            task (`Trajectory.source`) and began with what is seen now.
        execute: Does an action, and returns what it led to.
        actions: Lists the actions that are possible now; one that is not among them is not done. None: not known.
        start: What is seen now; None: what the episode began with, or saw last.
        success_at: The reward from which an episode is a success.
        same: Compares observations; to forgive what changes every time, such as the date.

    Raises:
        InputError: if the episode has ended, or what `execute` returned cannot be recorded.
    """
    lived = episode.trajectory
    seen = _seen(lived, len(lived.steps)) if start is None else start
    found = _to_do_again(episode, seen, success_at=success_at, same=same)
    if found is None:
        return Replayed("unproven", seen)
    procedure_id, trajectory = found
    done: list[Step] = []
    for expected in trajectory.steps:
        if actions is not None and expected.action not in actions():
            return Replayed("inadmissible", seen, tuple(done), procedure_id, expected)
        seen = execute(expected.action)
        episode.record(expected.action, seen)
        done.append(Step(action=expected.action, observation=seen))
        if not same(seen, expected.observation):
            return Replayed("diverged", seen, tuple(done), procedure_id, expected)
    return Replayed("completed", seen, tuple(done), procedure_id)


def _to_do_again(
    episode: Episode, seen: str, *, success_at: float, same: Same
) -> tuple[str, Trajectory] | None:
    """The id of a procedure and what is proven of it: the best of the episode's task that began as now."""
    source = episode.trajectory.source
    for match in episode.matches:
        trajectory = proven(match, success_at=success_at)
        if trajectory is not None and match.procedure.source == source and same(seen, trajectory.start):
            return match.procedure.id, trajectory
    return None
