"""An agent without a language model: it learns skills from what it lives through, and acts by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from memp.agents.base import Admissible
from memp.agents.explore import Explorer
from memp.agents.library import SkillLibrary
from memp.agents.skills import Lived, Skill, skills_in
from memp.errors import InputError
from memp.procedure import Match
from memp.situation import Situation
from memp.trajectory import Trajectory

Perceive = Callable[[str], Situation]
"""Reads what an environment says as what is the case; raises `InputError` where it cannot."""


HORIZON = 12
"""How many moves ahead the agent looks for a situation that it has a skill for."""

CONSIDERED = 8
"""How many skills are looked at for one that can be executed."""


class SkillAgent:
    """Executes a skill that applies, step by step; where none does, it goes to where one does, or explores.

    A skill is abandoned as soon as what it expects does not come about; which actions did nothing where is kept in
    mind until the episode ends. In one episode no skill is executed twice from the same situation, so that no episode
    loops. Where moves lead is known from the skills. Without a library it only explores.
    """

    def __init__(
        self,
        perceive: Perceive,
        explorer: Explorer,
        library: SkillLibrary | None = None,
        *,
        learns: bool = True,
    ) -> None:
        """Take what it sees by, how it explores, and where its skills are kept.

        Args:
            perceive: Reads the observations of the environment.
            explorer: Acts where no skill applies; knows all actions of the environment.
            library: Of skills of that environment.
            learns: False leaves library and explorer as they are.

        Raises:
            InputError: if the library holds a skill with an action that the environment does not know.
        """
        self._perceive = perceive
        self._explorer = explorer
        self._library = library
        self._learns = learns
        known = set(explorer.actions)
        for skill in library.skills if library is not None else ():
            if strange := [action for action in skill.actions if action not in known]:
                raise InputError(
                    f"the skill {skill.id!r} ({skill.name}) takes the action {strange[0]!r}, which the environment "
                    f"does not know; its actions are {', '.join(explorer.actions)}"
                )

    @property
    def name(self) -> str:
        """`skill+<explorer>`, or the explorer's name without a library."""
        return f"skill+{self._explorer.name}" if self._library is not None else self._explorer.name

    def start(self, task: str, matches: Sequence[Match] = (), *, seed: int = 0) -> SkillPolicy:  # noqa: ARG002
        """Begin an episode; the seed decides what is explored, so that each episode needs its own."""
        return SkillPolicy(self._perceive, self._explorer, self._library, self._learns, seed)


class SkillPolicy:
    """One episode of a skill agent; `finish` it to learn from it."""

    tokens_in = 0
    tokens_out = 0

    def __init__(
        self, perceive: Perceive, explorer: Explorer, library: SkillLibrary | None, learns: bool, seed: int
    ) -> None:
        self.decisions = 0
        """How often it has chosen: a skill, or an action where none applied."""

        self.attempts: list[Trajectory] = []
        """The executions of skills that have ended."""

        self.executed: list[tuple[str, Situation]] = []
        """Which skill was executed from where, by its id: none twice from the same situation."""

        self._perceive = perceive
        self._explorer = explorer
        self._library = library
        self._learns = learns
        self._random = np.random.default_rng(seed)
        self._situations: list[Situation] = []
        self._actions: list[str] = []
        self._skill: Skill | None = None
        self._done = 0
        self._blocked: set[tuple[Situation, str]] = set()

    def act(self, observation: str, admissible: Admissible) -> str:  # noqa: ARG002
        """Return the next action of the skill being executed, of another one, or of the explorer."""
        situation = self._see(observation)
        if self._skill is None:
            self.decisions += 1
            self._skill, self._done = self._choose(situation), 0
            if self._skill is not None:
                self.executed.append((self._skill.id, situation))
        if self._skill is None:
            action = self._approach(situation) or self._explorer.act(situation, self._random)
        else:
            action = self._skill.actions[self._done]
            self._done += 1
        self._actions.append(action)
        return action

    def finish(self, observation: str) -> None:
        """End the episode with what its last action led to, and learn from it.

        A skill that the end cuts short counts as no attempt.
        """
        self._see(observation)
        if not self._learns:
            return
        lived = Lived(self._situations, self._actions)
        self._explorer.learn(lived)
        if self._library is not None:
            self._library.learn(skills_in(self._library.environment, lived), self.attempts)

    def _see(self, observation: str) -> Situation:
        """Read what the last action led to, and judge it."""
        situation = self._perceive(observation)
        if self._actions and situation == self._situations[-1]:
            self._blocked.add((situation, self._actions[-1]))
        self._situations.append(situation)
        if self._skill is not None:
            self._judge(self._skill, situation)
        return situation

    def _judge(self, skill: Skill, situation: Situation) -> None:
        """End the execution of a skill where it has had its effect, or has not gone as expected."""
        success = skill.effect <= situation.flags
        if (
            success
            or self._done == len(skill.actions)
            or skill.expected[self._done - 1] not in situation.contexts()
        ):
            self.attempts.append(skill.attempt(self._done, success=success))
            self._skill = None

    def _choose(self, situation: Situation) -> Skill | None:
        """The best skill that applies, was not executed from here before, and takes no way known to be blocked."""
        for skill, _ in self._library.retrieve(situation, CONSIDERED) if self._library is not None else ():
            if (skill.id, situation) not in self.executed and self._open(skill, situation):
                return skill
        return None

    def _approach(self, situation: Situation) -> str | None:
        """The first move of the shortest way to where a skill applies, as far as is known; None if there is none.

        Where the way turns out to be blocked, the next one is around it.
        """
        if self._library is None or not self._library.serves(situation.flags):
            return None
        first: dict[Situation, str] = {situation: ""}
        edge = [situation]
        for _ in range(HORIZON):
            reached = []
            for here, (action, (dx, dy)) in product(edge, self._library.moves.items()):
                there = here.moved(dx, dy)
                if there in first or (here, action) in self._blocked:
                    continue
                first[there] = first[here] or action
                if self._choose(there):
                    return first[there]
                reached.append(there)
            edge = reached
        return None

    def _open(self, skill: Skill, situation: Situation) -> bool:
        """Whether no action of a skill is known to do nothing where it would be taken."""
        before = skill.preconditions
        for action, after in zip(skill.actions, (*skill.expected, before), strict=True):
            if (situation, action) in self._blocked:
                return False
            situation = situation.moved(before.dx - after.dx, before.dy - after.dy)
            before = after
        return True
