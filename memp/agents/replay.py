"""An agent without a language model: it carries out a retrieved procedure, adapted to the task at hand."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from memp.agents.adapt import (
    Substitution,
    alike,
    choice,
    content_words,
    first_sentence,
    nearest,
    way_back,
    words,
)
from memp.agents.base import Admissible, Agent, Policy
from memp.procedure import Match
from memp.trajectory import Trajectory

PATIENCE = 8
"""After this many steps in a row that could not be done, a procedure no longer applies."""

SCENE_WORDS = 25
"""A reply of more words than this describes a scene, not just an effect."""

Acting = Generator[str, str, bool]
"""Yields actions, is sent the observation each led to, and returns whether what was wanted was done."""


class ReplayAgent:
    """Replays what was done for the most similar task.

    What the two tasks call differently is substituted. A step is done where its reply is like the recorded
    one. Where it is not, the agent answers if it is asked which thing was meant; else takes the nearest
    admissible action; else goes back to where the procedure took place and tries again; else does what
    another retrieved procedure did to the same effect; else passes the step over. A procedure of which too
    many steps in a row cannot be done no longer applies: the next one is tried, and after the last the
    fallback takes over.
    """

    def __init__(
        self, fallback: Agent | None = None, *, patience: int = PATIENCE, adapt: bool = True
    ) -> None:
        """Say how it replays.

        Args:
            fallback: The agent that goes on where no procedure applies; without one, the episode ends there.
            patience: How many steps in a row may be refused before a procedure no longer applies.
            adapt: False carries out the best match to the letter, the baseline that adapting must beat.
        """
        self._fallback = fallback
        self._patience = patience
        self._adapt = adapt

    @property
    def name(self) -> str:
        """`replay` (`verbatim` without adapting), with the fallback's name where there is one."""
        name = "replay" if self._adapt else "verbatim"
        return f"{name}+{self._fallback.name}" if self._fallback is not None else name

    def start(self, task: str, matches: Sequence[Match] = (), *, seed: int = 0) -> Policy:
        """Begin an episode; scripts cannot be replayed, so matches need a trajectory."""
        trajectories = [match.procedure.trajectory for match in matches]
        fallback = self._fallback.start(task, matches, seed=seed) if self._fallback is not None else None
        found = [trajectory for trajectory in trajectories if trajectory]
        return _ReplayPolicy(task, found, fallback, self._patience, self._adapt)


class _ReplayPolicy:
    """One episode: the procedures in order, then the fallback."""

    def __init__(
        self,
        task: str,
        trajectories: list[Trajectory],
        fallback: Policy | None,
        patience: int,
        adapt: bool,
    ) -> None:
        self._task = task
        self._trajectories = trajectories
        self._fallback = fallback
        self._patience = patience
        self._adapt = adapt
        self._admissible: Admissible = tuple
        self._acting: Generator[str, str, None] | None = None

    @property
    def tokens_in(self) -> int:
        return self._fallback.tokens_in if self._fallback is not None else 0

    @property
    def tokens_out(self) -> int:
        return self._fallback.tokens_out if self._fallback is not None else 0

    def act(self, observation: str, admissible: Admissible) -> str | None:
        self._admissible = admissible
        try:
            if self._acting is None:
                self._acting = self._replay(observation) if self._adapt else self._verbatim()
                return next(self._acting)
            return self._acting.send(observation)
        except StopIteration:
            return self._fallback.act(observation, admissible) if self._fallback is not None else None

    def _verbatim(self) -> Generator[str, str, None]:
        for step in self._trajectories[0].steps if self._trajectories else ():
            yield step.action

    def _replay(self, observation: str) -> Generator[str, str, None]:
        for number, trajectory in enumerate(self._trajectories):
            others = self._trajectories[:number] + self._trajectories[number + 1 :]
            replay = _Replay(self._task, trajectory, others, observation, lambda: self._admissible())
            if (yield from replay.run(self._patience)):
                return


class _Replay:
    """Carrying out one trajectory."""

    def __init__(
        self,
        task: str,
        trajectory: Trajectory,
        others: Sequence[Trajectory],
        scene: str,
        admissible: Admissible,
    ) -> None:
        self._task = task
        self._steps = trajectory.steps
        self._others = others
        self._admissible = admissible
        self._adapted = Substitution(trajectory.task, task)
        self._moves = [move for lived in (trajectory, *others) for move in moves(lived)]
        self._scene = scene
        self._expected_scene = self._adapted(trajectory.start)
        self._gone_back_to: set[str] = set()
        self._tried: set[str] = set()

    def run(self, patience: int) -> Acting:
        """Do step after step; return whether the trajectory applied to its end."""
        refused = 0
        for number, step in enumerate(self._steps):
            expected = self._adapted(step.observation)
            done = yield from self._step(number, self._adapted(step.action), expected)
            if done and len(words(expected)) > SCENE_WORDS:
                self._expected_scene = expected
            refused = 0 if done else refused + 1
            if refused >= patience:
                return False
        return True

    def _step(self, number: int, action: str, expected: str) -> Acting:
        reply = yield from self._try(action)
        which = choice(reply, action)
        if which is not None and choice(expected, action) is None:
            yield from self._try(which)
            return True
        if alike(reply, expected):
            return True
        to_come = " ".join(self._adapted(step.action) for step in self._steps[number:])
        instead = nearest(action, expected, self._admissible(), frozenset(words(to_come)))
        if instead in (None, action):
            if (yield from self._go_back()):
                reply = yield from self._try(action)
                if alike(reply, expected):
                    return True
            instead = self._as_others_did(action, expected)
        if instead is None:
            return False
        self._adapted.learn(action, instead)
        yield from self._try(instead)
        return True

    def _try(self, action: str) -> Generator[str, str, str]:
        reply = yield action
        self._tried.add(action)
        if len(words(reply)) > SCENE_WORDS:
            self._scene = reply
        return reply

    def _go_back(self) -> Acting:
        """Return to the place this part of the procedure took place in; once for each."""
        if self._expected_scene in self._gone_back_to:
            return False
        back = way_back(self._expected_scene, self._scene, self._admissible(), self._moves)
        if back is None:
            return False
        self._gone_back_to.add(self._expected_scene)
        yield from self._try(back)
        return True

    def _as_others_did(self, action: str, expected: str) -> str | None:
        """What another procedure did to the same effect, with something that is here and was not tried.

        What the task itself names is never exchanged.
        """
        possible = set(self._admissible()) - self._tried
        verb, named = words(action)[:1], set(content_words(action)) & set(words(self._task))
        for other in self._others:
            adapted = Substitution(other.task, self._task)
            for step in other.steps:
                instead = adapted(step.action)
                fits = instead in possible and words(instead)[:1] == verb and named <= set(words(instead))
                if fits and alike(adapted(step.observation), expected):
                    return instead
        return None


def moves(trajectory: Trajectory) -> list[str]:
    """The actions that led to another scene: the last one before each scene that shares a word with its name."""
    found = []
    for number, step in enumerate(trajectory.steps):
        if len(words(step.observation)) <= SCENE_WORDS:
            continue
        named = set(first_sentence(step.observation))
        before = (earlier.action for earlier in reversed(trajectory.steps[: number + 1]))
        found += [action for action in before if named & set(content_words(action))][:1]
    return found
