"""What the studies of neural learners are run with; nothing here needs torch."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, ClassVar, NamedTuple

from evals.manifest import commit, versions
from memp.errors import InputError, unknown_name

TASKS = ("copy", "reverse", "invert", "rotate")
"""In the order in which they are learned."""

STRENGTHS = (1, 10, 100, 1000)
"""Of the penalty of `ewc`, swept."""

REPORTED = 100
"""The strength that is reported as `ewc`; the others bear theirs in their names."""


class Arm(NamedTuple):
    """A way to learn."""

    network: str = "dnc"
    replay: str = ""
    distil: float = 0.0
    strength: float = 0.0
    joint: bool = False
    """Whether all tasks are learned at once."""

    times: int = 1
    """How many times as many steps it takes."""


ARMS: Mapping[str, Arm] = {
    "finetune": Arm(),
    **{f"ewc-{s}" if s != REPORTED else "ewc": Arm(strength=s) for s in STRENGTHS},
    "replay": Arm(replay="uniform"),
    "prioritized": Arm(replay="prioritized"),
    "derpp": Arm(replay="uniform", distil=0.5),
    "lstm-replay": Arm(network="lstm", replay="uniform", times=4),
    "joint": Arm(joint=True),
}


@dataclass(frozen=True, kw_only=True)
class Continual:
    """What the study is run with."""

    study: ClassVar[str] = "continual"

    quick: ClassVar[Mapping[str, Any]] = {
        "arms": ("finetune", "replay", "lstm-replay"),
        "steps": 250,
        "longest": 3,
        "tested": 64,
        "seeds": 1,
    }
    """What a first look is run with."""

    steps: int = 300
    """Of training, for each task."""

    batch: int = 32
    """Fresh sequences in a step; as many of earlier tasks are replayed."""

    shortest: int = 2
    longest: int = 4
    """Items in a sequence."""

    buffer: int = 512
    """Sequences that are kept, of all tasks together."""

    tested: int = 256
    """Held-out sequences of each task."""

    arms: tuple[str, ...] = tuple(ARMS)
    seed: int = 0
    seeds: int = 5

    def __post_init__(self) -> None:
        """Raise `InputError` if there is nothing to do, or lengths are the wrong way round; order the arms."""
        for arm in self.arms:
            if arm not in ARMS:
                raise unknown_name("arm", arm, ARMS)
        object.__setattr__(self, "arms", tuple(arm for arm in ARMS if arm in self.arms))
        if min(self.steps, self.batch, self.shortest, self.buffer, self.tested, self.seeds) < 1:
            raise InputError("steps, batch, shortest, buffer, tested and seeds must be at least 1")
        if self.longest < self.shortest:
            raise InputError(f"longest={self.longest!r} is below shortest={self.shortest!r}")

    @property
    def folder(self) -> str:
        """The name of its folder, where none is given."""
        return f"{self.study}-{self.steps}-{self.buffer}-{self.seed}"

    @property
    def units(self) -> list[tuple[str, int]]:
        """What can be run by itself: an arm with a seed."""
        return list(product(self.arms, range(self.seed, self.seed + self.seeds)))

    def rows_of(self, unit: tuple[str, int]) -> int:
        """How many cells a unit has."""
        return len(TASKS) * (1 if ARMS[unit[0]].joint else len(TASKS) + 1)

    @property
    def manifest(self) -> dict[str, Any]:
        """All that decides the result, and the commit it is run at."""
        return {
            "study": self.study,
            **asdict(self),
            "arms": {name: ARMS[name]._asdict() for name in self.arms},
            "tasks": list(TASKS),
            "commit": commit(),
            "python": platform.python_version(),
            "versions": versions(("memp", "numpy", "torch")),
        }
