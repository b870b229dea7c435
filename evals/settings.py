"""What a study is run with: how large it is by default, and all that decides its result but the code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

from memp.errors import unknown_name
from memp.retrieve import Key, known_key
from tasks.base import Split


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large a study is."""

    splits: tuple[Split, ...] = ("test",)
    """Where it tests; each once, however often it is named."""

    episodes: int = 60
    """Tasks per arm, split and seed."""

    train: int = 150
    """Training tasks whose expert trajectories the memories are built from."""

    k: int = 4
    """Procedures shown."""

    max_steps: int | None = None
    """Step budget of an episode; None takes the environment's own."""

    seeds: int = 1
    """How many seeds, from `Settings.seed` on."""


@dataclass(frozen=True, kw_only=True)
class Keyed(Scale):
    """How large a study is, and by what it finds procedures, where that is chosen."""

    key: Key = "query"
    """What procedures are found by, in every arm but `random`."""

    def __post_init__(self) -> None:
        """Raise `InputError` if there is no such key."""
        known_key(self.key)


@dataclass(frozen=True, kw_only=True)
class Stream(Keyed):
    """How large a study is in which tasks arrive one group after the other."""

    groups: int = 4
    """Groups that the tasks of an era arrive in."""

    eras: int = 1
    """Eras that follow on each other; the world changes in between."""


GRIDWORLD_STEPS = 20
"""Step budget of the grid world where a model acts: exploring alone succeeds half of the time, so that arms can win
and lose."""

GRIDWORLD = Scale(episodes=32, train=64, k=2, max_steps=GRIDWORLD_STEPS, seeds=4)
"""All 32 tasks of a split, and all 64 training tasks, of each of four universes."""

GRIDWORLD_KEYED = Keyed(**asdict(GRIDWORLD), key="avefact")
"""By facts: tasks of one place differ in their wording, and those of two places may not."""

SMALL, BASE = "local:memp-small", "local:memp-base"
"""The bundled models."""

SCALES: Mapping[str, Mapping[str, Scale]] = {
    "retrieve": {"gridworld": GRIDWORLD, "scienceworld": Scale()},
    "build": {
        # as many tasks as three minutes allow
        "gridworld": replace(GRIDWORLD_KEYED, splits=("dev", "test"), episodes=28),
        # one seed: nothing there is random but an agent or a key that is
        "scienceworld": Keyed(splits=("dev", "test")),
    },
    "update": {
        # all tasks of both splits twice: before all is rearranged and after
        "gridworld": Stream(
            **asdict(replace(GRIDWORLD_KEYED, splits=("dev", "test"), train=16)),
            eras=2,
        ),
        "scienceworld": Stream(train=30),
    },
    "compare": {
        "gridworld": replace(GRIDWORLD_KEYED, episodes=Scale.episodes, seeds=1),
        "scienceworld": Keyed(),
    },
    "transfer": {"gridworld": GRIDWORLD, "scienceworld": Scale()},
    "scaling": {"gridworld": GRIDWORLD_KEYED, "scienceworld": Keyed()},
}
"""What is left unsaid, by study and environment: the one place of all defaults that depend on them."""


@dataclass(frozen=True, kw_only=True)
class Settings(Scale):
    """What every study is told; a study adds its own."""

    study: ClassVar[str]
    """The name of the study."""

    env: str

    agent: str = "llm"

    model: str | None = None
    """The chat model: of the agents `llm` and `replay-first`, of scripts, of AveFact's facts."""

    fallback: str | None = None
    """The agent that a replay agent hands over to; None ends the episode there."""

    embedder: str = "hash"

    seed: int = 0
    """The first seed."""

    @classmethod
    def of(cls, env: str, **given: Any) -> Self:
        """What was given, and for what is None or empty the defaults of the study in this environment.

        Raises:
            InputError: if there is no such environment.
        """
        scales = SCALES[cls.study]
        if env not in scales:
            raise unknown_name("environment", env, scales)
        chosen = {name: value for name, value in given.items() if value not in (None, ())}
        asks = {"llm", "replay-first"} & {chosen.get("agent", cls.agent), chosen.get("fallback")}
        bundled = cls.bundled() if env == "gridworld" and asks else {}
        return cls(env=env, **{**asdict(scales[env]), **bundled, **chosen})

    @classmethod
    def bundled(cls) -> dict[str, Any]:
        """The chat model where nobody says, in the one environment that the bundled models know."""
        return {"model": BASE}

    @property
    def all_models(self) -> tuple[str, ...]:
        """The names of every chat model."""
        return () if self.model is None else (self.model,)

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Every seed, in order."""
        return tuple(range(self.seed, self.seed + self.seeds))


def concurrency(settings: Settings) -> int:
    """How many episodes run at once where nobody says: as many as a local model likes to answer together."""
    return 32 if any(model.startswith("local:") for model in settings.all_models) else 2
