"""The study of the skill agent: against exploring alone, Q-learning and the shortest way, in three regimes."""

from __future__ import annotations

import platform
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from evals.learners.rows import LearnerRow
from evals.manifest import commit, digest, versions
from memp.agents import QLearner, RandomExplorer, SkillAgent, SkillLibrary
from memp.agents.base import Admissible
from memp.errors import InputError, unknown_name
from memp.situation import Situation
from memp.trajectory import Trajectory
from tasks.base import Split, Task
from tasks.gridworld.doorkey import DOOR_OPEN, KEY, SIZE, DoorKey, perceive

Regime = Literal["fixed", "recurring", "random"]

REGIMES: tuple[Regime, ...] = get_args(Regime)

LAYOUTS: dict[Regime, int] = {"fixed": 1, "recurring": 8}
"""How many layouts training visits; in the third regime every episode has its own."""

STARTS = 5
"""From how many cells of a layout training starts, where layouts come again; it is tested from as many others."""

MAX_STEPS = 216
"""The step budget: enough for exploring alone to succeed now and then, as in the measurements it is compared with."""

LEARNERS = ("random", "q-learning", "skills", "oracle")
"""The arms of training."""

FROZEN = {"skills": "skills-frozen"}
"""What an arm is called where it is tested without learning any more, if not by its own name."""


@dataclass(frozen=True, kw_only=True)
class Skills:
    """What the study is run with."""

    study: ClassVar[str] = "skills"
    """The name of the study."""

    quick: ClassVar[Mapping[str, int]] = {"episodes": 100, "tested": 30, "seeds": 1}
    """What a first look is run with."""

    episodes: int = 300
    """Of training, for each regime, arm and seed."""

    tested: int = 100
    """Episodes of the test, for each regime, arm and seed; and the last ones of training that the table tells of."""

    seed: int = 0
    """The first seed."""

    seeds: int = 5
    regimes: tuple[Regime, ...] = REGIMES

    def __post_init__(self) -> None:
        """Raise `InputError` if there is no such regime, or nothing to do; name each regime once, in one order."""
        for regime in self.regimes:
            if regime not in REGIMES:
                raise unknown_name("regime", regime, REGIMES)
        object.__setattr__(self, "regimes", tuple(regime for regime in REGIMES if regime in self.regimes))
        if min(self.episodes, self.tested, self.seeds) < 1:
            raise InputError("there must be at least 1 episode, 1 tested and 1 seed")

    @property
    def units(self) -> list[Unit]:
        """What can be run by itself."""
        return [Unit(*unit) for unit in product(self.regimes, range(self.seed, self.seed + self.seeds))]

    def rows_of(self, unit: tuple[str, int]) -> int:  # noqa: ARG002 - of all units as many
        """How many episodes a unit has."""
        return len(LEARNERS) * (self.episodes + self.tested)

    @property
    def folder(self) -> str:
        """The name of its folder, where none is given."""
        return f"{self.study}-{self.episodes}-{self.tested}-{self.seed}"

    @property
    def manifest(self) -> dict[str, Any]:
        """All that decides the result, and the commit it is run at."""
        return {
            "study": self.study,
            "env": "gridworld",
            "env_name": DoorKey.name,
            **asdict(self),
            "regimes": list(self.regimes),
            "arms": sorted({*LEARNERS, *FROZEN.values()}),
            "starts": STARTS,
            "size": SIZE,
            "max_steps": MAX_STEPS,
            "split_digest": digest(task.id for unit in self.units for task in tasks_of(self, unit)),
            "commit": commit(),
            "python": platform.python_version(),
            "versions": versions(("memp", "numpy")),
        }


class Unit(NamedTuple):
    """All arms in one regime with one seed: they meet the same tasks in the same order."""

    regime: Regime
    seed: int


def live(study: Skills, unit: Unit) -> list[LearnerRow]:
    """Train every learner of a unit, and test it."""
    env = world(study, unit)
    return [row for arm in LEARNERS for row in _Learner(study, unit, arm, env).live()]


def world(study: Skills, unit: Unit) -> DoorKey:
    """Make the environment of a unit."""
    again = unit.regime in LAYOUTS
    layouts = LAYOUTS.get(unit.regime, max(study.episodes, study.tested))
    return DoorKey(unit.seed, layouts=layouts, starts=STARTS if again else 1, max_steps=MAX_STEPS)


def tasks_of(study: Skills, unit: Unit) -> Iterator[Task]:
    """All tasks of a unit."""
    env = world(study, unit)
    return (task for split in get_args(Split) for task in env.tasks(split))


class _Learner:
    """One learner in the environment of its unit."""

    def __init__(self, study: Skills, unit: Unit, arm: str, env: DoorKey) -> None:
        """Begin with nothing learned."""
        self._study, self._unit, self._arm, self._env = study, unit, arm, env
        self._held_out: Split = "dev" if unit.regime in LAYOUTS else "test"
        self._library = SkillLibrary.open(":memory:", self._env.name) if arm == "skills" else None
        actions = self._env.actions
        self._explorer = QLearner(actions, sub_goal) if arm == "q-learning" else RandomExplorer(actions)

    def live(self) -> list[LearnerRow]:
        """Learn from the tasks of training, then do the held-out ones without learning."""
        learns = partial(SkillAgent, perceive, self._explorer, self._library)
        try:
            return self._all("train", self._study.episodes, learns()) + self._all(
                self._held_out, self._study.tested, learns(learns=False)
            )
        finally:
            if self._library is not None:
                self._library.close()

    def _all(self, split: Split, count: int, agent: SkillAgent) -> list[LearnerRow]:
        """Do so many tasks of a split: each once where every episode has a layout of its own, else drawn anew."""
        random = Random(f"{self._unit.seed}/{self._unit.regime}/{split}")
        tasks = self._env.tasks(split)
        chosen = random.choices(tasks, k=count) if self._unit.regime in LAYOUTS else tasks[:count]
        return [
            self._episode(task, number, agent, random.getrandbits(32)) for number, task in enumerate(chosen)
        ]

    def _episode(self, task: Task, number: int, agent: SkillAgent, seed: int) -> LearnerRow:
        env, library = self._env, self._library
        expert = env.expert(task.id)
        observation, info = env.reset(0, {"task": task.id})
        policy = Oracle(expert) if self._arm == "oracle" else agent.start(info["task"], seed=seed)
        steps, gained, over = 0, 0.0, False
        while not over:
            action = policy.act(observation, env.admissible)
            observation, reward, terminated, truncated, info = env.step(action)
            steps, gained, over = steps + 1, gained + reward, terminated or truncated
        policy.finish(observation)
        return LearnerRow(
            arm=self._arm if task.split == "train" else FROZEN.get(self._arm, self._arm),
            task=task.id,
            kind=self._unit.regime,
            split=task.split,
            seed=self._unit.seed,
            success=info["success"],
            reward=info["score"],
            steps=steps,
            tokens_in=0,
            tokens_out=0,
            shown=tuple(dict.fromkeys(used for attempt in policy.attempts for used in attempt.shown)),
            episode=number,
            gained=gained,
            decisions=policy.decisions,
            shortest=len(expert),
            skills=0 if library is None else len(library),
            uses=len(policy.attempts),
        )


class Oracle:
    """Does what the environment's expert does, which knows everything: the upper bound, and no learner."""

    attempts: Sequence[Trajectory] = ()

    def __init__(self, actions: Sequence[str]) -> None:
        """Take a shortest way."""
        self._actions = actions
        self.decisions = 0

    def act(self, observation: str, admissible: Admissible) -> str:  # noqa: ARG002
        """Return the next action."""
        self.decisions += 1
        return self._actions[self.decisions - 1]

    def finish(self, observation: str) -> None:
        """Learn nothing."""


def sub_goal(situation: Situation) -> Hashable:
    """What Q-learning tells apart: what holds, and where the next thing to go to is.

    That it is told the order of the sub-goals is an advantage that the skill agent does not have.
    """
    goal = "goal" if DOOR_OPEN in situation.flags else "door" if KEY in situation.flags else "key"
    return situation.flags, next((thing for thing in situation.things if thing.name == goal), None)
