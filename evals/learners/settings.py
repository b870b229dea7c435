"""What the studies of neural learners are run with; nothing here needs torch."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any, ClassVar, NamedTuple

from evals.manifest import commit, versions
from memp.errors import InputError, unknown_name


@dataclass(frozen=True, kw_only=True)
class Neural(ABC):
    """What every such study is run with: its units are an arm with a seed."""

    study: ClassVar[str]
    """The name of the study."""

    quick: ClassVar[Mapping[str, Any]]
    """What a first look is run with."""

    known: ClassVar[tuple[str, ...]]
    """All arms, in the order of the table."""

    arms: tuple[str, ...] = ()
    """Those that are run; none are all."""

    seed: int = 0
    """The first seed."""

    seeds: int = 5

    def __post_init__(self) -> None:
        """Raise `InputError` if there is no such arm, or nothing to do; name each arm once, in one order."""
        for arm in self.arms:
            if arm not in self.known:
                raise unknown_name("arm", arm, self.known)
        chosen = tuple(arm for arm in self.known if arm in (self.arms or self.known))
        object.__setattr__(self, "arms", chosen)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and value < (field.name != "seed"):
                raise InputError(f"{field.name}={value!r} is too low: there must be at least 1")

    @property
    def folder(self) -> str:
        """The name of its folder, where none is given."""
        return f"{self.study}-{self.seed}"

    @property
    def units(self) -> list[tuple[str, int]]:
        """What can be run by itself: an arm with a seed."""
        return list(product(self.arms, range(self.seed, self.seed + self.seeds)))

    @abstractmethod
    def rows_of(self, unit: tuple[str, int]) -> int:
        """How many rows a unit has."""

    @property
    def manifest(self) -> dict[str, Any]:
        """All that decides the result, and the commit it is run at."""
        return {
            "study": self.study,
            **asdict(self),
            "arms": list(self.arms),
            "commit": commit(),
            "python": platform.python_version(),
            "versions": versions(("memp", "numpy", "torch")),
        }


TASKS: Mapping[str, tuple[str, ...]] = {
    "sequences": ("copy", "reverse", "invert", "rotate"),
    "functions": ("sine", "cosine", "magnitude", "sign"),
}
"""What is learned one after the other, in this order: of sequences of bits, or of 64 numbers."""

STRENGTHS = {"ewc": 100, "ewc-1": 1, "ewc-10": 10}
"""Of the penalty of elastic weight consolidation, swept; each is an arm."""


class Way(NamedTuple):
    """A way to learn one task after the other."""

    network: str = "dnc"

    replay: str = ""
    """How earlier tasks are drawn from the buffer; empty: there is none."""

    distil: float = 0.0
    """How much logits are held where they were (DER++); of 0.02, 0.1, 0.5 the first was best with seeds 100, 101."""

    strength: float = 0.0
    """Of the penalty on change."""

    joint: bool = False
    """Whether all tasks are learned at once."""

    times: int = 1
    """How many times as many steps it takes."""


WAYS: Mapping[str, Way] = {
    "finetune": Way(),
    **{name: Way(strength=strength) for name, strength in STRENGTHS.items()},
    "replay": Way(replay="uniform"),
    "prioritized": Way(replay="prioritized"),
    "derpp": Way(replay="uniform", distil=0.02),
    "lstm-replay": Way(network="lstm", replay="uniform", times=4),
    "joint": Way(joint=True),
}


@dataclass(frozen=True, kw_only=True)
class Continual(Neural):
    """What the study of learning in sequence is run with."""

    study = "continual"
    quick: ClassVar[Mapping[str, Any]] = {
        "arms": ("finetune", "ewc", "replay", "prioritized", "derpp", "lstm-replay", "joint"),
        "steps": 120,
        "longest": 3,
        "tested": 64,
        "seeds": 1,
    }
    known = tuple(WAYS)

    tasks: str = "sequences"
    """Which of `TASKS` are learned."""

    seeds: int = 4

    steps: int = 500
    """Of training, for each task."""

    batch: int = 32
    """Fresh examples in a step; as many of earlier tasks are replayed."""

    shortest: int = 2
    longest: int = 4
    """Items in a sequence."""

    buffer: int = 512
    """Examples that are kept, of all tasks together."""

    tested: int = 256
    """Held-out examples of each task."""

    def __post_init__(self) -> None:
        """Raise `InputError` also if there are no such tasks, or lengths are the wrong way round."""
        super().__post_init__()
        if self.tasks not in TASKS:
            raise unknown_name("tasks", self.tasks, TASKS)
        if self.longest < self.shortest:
            raise InputError(f"longest={self.longest!r} is below shortest={self.shortest!r}")

    def rows_of(self, unit: tuple[str, int]) -> int:
        """How many cells a unit has."""
        tasks = len(TASKS[self.tasks])
        return tasks * (1 if WAYS[unit[0]].joint else tasks + 1)

    @property
    def manifest(self) -> dict[str, Any]:
        """As of every study; the tasks are named only if they are not those of before there were others."""
        found = super().manifest
        if self.tasks == Continual.tasks:
            del found["tasks"]
        return found

    @property
    def folder(self) -> str:
        """The name of its folder, where none is given."""
        return super().folder if self.tasks == "sequences" else f"{self.study}-{self.tasks}-{self.seed}"


LONGER: Mapping[str, tuple[tuple[int, int], ...]] = {
    "copy": ((4, 1), (6, 1), (8, 1), (10, 1), (12, 1)),
    "repeat": ((4, 4), (6, 4), (8, 4), (4, 8)),
    "recall": ((6, 1), (8, 1), (10, 1), (12, 1)),
}
"""What is tested, for each family of tasks: how many items, and how many times they are asked for."""


FAMILIES: Mapping[str, tuple[str, ...]] = {
    "dnc": tuple(LONGER),
    "dnc-no-links": ("copy",),
    "lstm": tuple(LONGER),
}
"""What each arm is trained in, each by itself."""


@dataclass(frozen=True, kw_only=True)
class Algorithms(Neural):
    """What the study of algorithms on longer sequences than were trained on is run with."""

    study = "dnc"
    quick: ClassVar[Mapping[str, Any]] = {"steps": 300, "tested": 64, "seeds": 1}
    known = tuple(FAMILIES)

    steps: int = 1500
    """Of training; repeating takes 1.7 times as many, and an LSTM four times."""

    slots: int = 10
    """Of the memory in training."""

    more_slots: int = 24
    """Of the memory when it is tested."""

    tested: int = 256
    """Sequences of each length."""

    def rows_of(self, unit: tuple[str, int]) -> int:
        """How many cells a unit has."""
        tests = sum(len(LONGER[family]) for family in FAMILIES[unit[0]])
        return tests if unit[0] == "lstm" else tests + 1


@dataclass(frozen=True, kw_only=True)
class Sinusoids(Neural):
    """What the study of learning to learn is run with."""

    study = "maml"
    quick: ClassVar[Mapping[str, Any]] = {"iterations": 600, "tested": 100, "seeds": 1}
    known = ("maml", "fomaml", "pretrained", "scratch", "scratch-tuned")

    iterations: int = 6000
    """Of training."""

    tested: int = 600
    """Held-out sinusoids."""

    def rows_of(self, unit: tuple[str, int]) -> int:
        """How many rows a unit has: one for each number of gradient steps."""
        return 5 if unit[0] == "scratch-tuned" else 4
