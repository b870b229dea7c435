"""An agent without a language model: it carries out a retrieved procedure, adapted to the task at hand."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from memp.agents.adapt import (
    FUNCTION_WORDS,
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

Replay = Generator[str, str, None]
"""Yields actions; is sent the observation each led to."""


class ReplayAgent:
    """Replays what was done for the most similar task.

    What the two tasks call differently is substituted. A step whose reply is not what it was is done by the
    nearest admissible action instead, or after going back to where the procedure took place, or is passed
    over. A procedure of which too many steps in a row cannot be done no longer applies: the next one is
    tried, and after the last the fallback takes over.
    """

    def __init__(self, fallback: Agent | None = None, *, patience: int = PATIENCE) -> None:
        """Take the agent that goes on where no procedure applies; without one, the episode ends there."""
        self._fallback = fallback
        self._patience = patience

    @property
    def name(self) -> str:
        """`replay`, with the fallback's name where there is one."""
        return f"replay+{self._fallback.name}" if self._fallback is not None else "replay"

    def start(self, task: str, matches: Sequence[Match] = (), *, seed: int = 0) -> Policy:
        """Begin an episode; scripts cannot be replayed, so matches need a trajectory."""
        trajectories = [match.procedure.trajectory for match in matches]
        fallback = self._fallback.start(task, matches, seed=seed) if self._fallback is not None else None
        return _ReplayPolicy(task, [found for found in trajectories if found], fallback, self._patience)


class _ReplayPolicy:
    """One episode: the procedures in order, then the fallback."""

    def __init__(
        self, task: str, trajectories: list[Trajectory], fallback: Policy | None, patience: int
    ) -> None:
        self._task = task
        self._named = set(words(task)) - FUNCTION_WORDS
        self._trajectories = trajectories
        self._fallback = fallback
        self._patience = patience
        self._admissible: Admissible = tuple
        self._running: Replay | None = None

    @property
    def tokens_in(self) -> int:
        return self._fallback.tokens_in if self._fallback is not None else 0

    @property
    def tokens_out(self) -> int:
        return self._fallback.tokens_out if self._fallback is not None else 0

    def act(self, observation: str, admissible: Admissible) -> str | None:
        self._admissible = admissible
        try:
            if self._running is None:
                self._running = self._replay_all(observation)
                return next(self._running)
            return self._running.send(observation)
        except StopIteration:
            return self._fallback.act(observation, admissible) if self._fallback is not None else None

    def _replay_all(self, observation: str) -> Replay:
        for number, trajectory in enumerate(self._trajectories):
            others = self._trajectories[:number] + self._trajectories[number + 1 :]
            applied = yield from self._replay(trajectory, others, observation)
            if applied:
                return

    def _replay(
        self, trajectory: Trajectory, others: Sequence[Trajectory], scene: str
    ) -> Generator[str, str, bool]:
        """Carry out one trajectory; return whether it applied to its end."""
        adapted = Substitution(trajectory.task, self._task)
        actions = [step.action for step in trajectory.steps]
        known_moves = [move for lived in (trajectory, *others) for move in moves(lived)]
        expected_scene = adapted(trajectory.start)
        went_back: set[str] = set()
        refused = 0
        for number, step in enumerate(trajectory.steps):
            action, expected = adapted(step.action), adapted(step.observation)
            reply = yield action
            done = alike(reply, expected)
            if not done and (which := choice(reply, action)):
                reply = yield which
                done = True
            if not done:
                options = self._admissible()
                to_come = frozenset(words(adapted(" ".join(actions[number:]))))
                instead = (
                    nearest(action, expected, options, to_come)
                    or _as_it_was(step.action, action, options)
                    or self._as_others_did(action, expected, others, options)
                )
                if instead is not None and instead != action:
                    adapted.learn(action, instead)
                    reply = yield instead
                    done = True
                elif expected_scene not in went_back and (
                    back := way_back(expected_scene, scene, options, known_moves)
                ):
                    went_back.add(expected_scene)
                    yield back
                    reply = yield action
                    done = alike(reply, expected)
            if len(words(reply)) > SCENE_WORDS:
                scene = reply
            if done and len(words(expected)) > SCENE_WORDS:
                expected_scene = expected
            refused = 0 if done else refused + 1
            if refused >= self._patience:
                return False
        return True

    def _as_others_did(
        self, action: str, expected: str, others: Sequence[Trajectory], admissible: Sequence[str]
    ) -> str | None:
        """What another procedure did to the same effect, with something that is here.

        What the task itself names is never exchanged.
        """
        verb, possible = words(action)[:1], set(admissible)
        asked_for = set(words(action)) & self._named
        for other in others:
            adapted = Substitution(other.task, self._task)
            for step in other.steps:
                instead = adapted(step.action)
                if (
                    instead in possible
                    and words(instead)[:1] == verb
                    and asked_for <= set(words(instead))
                    and alike(adapted(step.observation), expected)
                ):
                    return instead
        return None


def _as_it_was(original: str, adapted: str, admissible: Sequence[str]) -> str | None:
    """The recorded action itself, where what was substituted in it was not meant."""
    return original if original != adapted and original in admissible else None


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
