"""What the study of continual PPO is run with, and its arms; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from evals.learners.settings import Neural
from memp.errors import InputError
from tasks.gridworld.preferences import PAYS

if TYPE_CHECKING:
    from memp.neural.cppo import Reference, Weighing


class Family(NamedTuple):
    """Arms that differ in one coefficient alone: a line in a plot of what is learned against what is forgotten."""

    coefficient: float = 0.0
    """How much retention counts in the arm that has the family's name: of those swept, what had the highest success
    with the seeds 100 to 104, of which no result is."""

    swept: tuple[float, ...] = ()
    """The coefficients that are tried."""

    by: Literal["cppo", "kl", "ewc"] = "cppo"
    """What holds the policy to the tasks before: CPPO, the divergence from its policy when the last one ended, or a
    penalty on moving its parameters."""

    alpha: Weighing = "uniform"
    beta: Weighing = "uniform"
    reference: Reference = "d2"

    logged: bool = False
    """Whether what is stored was done all through a task, by policies good and bad, instead of at its end."""

    paid: bool = False
    """Whether of that only what was paid at least the mean is stored: weights of 1 and 0, by the return alone."""

    threshold: float = 0.5
    """How many deviations from the mean are high or low."""

    low: float = 0.5
    high: float = 2.0
    """The bounds of the weights."""


_SHARP = Family(beta="heuristic", threshold=0.25, low=0.0, high=4.0)
"""A few rollouts decide what is retained, and some have no say."""

_STORED: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)

FAMILIES: Mapping[str, Family] = {
    "ppo": Family(beta="zero"),
    "ppo-kl": Family(0.3, (0.1, 0.3, 1.0), by="kl"),
    "ewc": Family(30.0, (3.0, 10.0, 30.0, 100.0), by="ewc"),
    "cppo": Family(0.03, (0.03, 0.1, 0.3), alpha="heuristic", beta="heuristic", reference="previous"),
    "cppo-learned": Family(0.03, alpha="closed", beta="closed", reference="previous"),
    "uniform-d2": Family(0.3, _STORED),
    "cppo-d2": Family(0.3, _STORED, alpha="heuristic", beta="heuristic"),
    "cppo-learned-d2": Family(0.3, alpha="closed", beta="closed"),
    "cppo-d2-alpha1": Family(0.3, beta="heuristic"),
    "cppo-d2-beta1": Family(0.3, alpha="heuristic"),
    "cppo-d2-beta0": Family(0.3, alpha="heuristic", beta="zero"),
    "cppo-d2-sharp": _SHARP._replace(coefficient=0.3),
    "uniform-logged": Family(0.3, _STORED, logged=True),
    "paid-logged": Family(0.3, logged=True, paid=True),
    "cppo-logged": Family(0.3, _STORED, alpha="heuristic", beta="heuristic", logged=True),
    "cppo-logged-sharp": _SHARP._replace(coefficient=0.3, swept=_STORED, logged=True),
}
"""What is compared; all else is the same. The first task is learned by PPO in all, and comes out the same."""


class Arm(NamedTuple):
    """A way to learn one task after the other."""

    family: str
    coefficient: float


ARMS: Mapping[str, Arm] = {
    name: arm
    for family, of in FAMILIES.items()
    for name, arm in (
        (family, Arm(family, of.coefficient)),
        *((f"{family}-{swept:g}", Arm(family, swept)) for swept in of.swept if swept != of.coefficient),
    )
}
"""A family's own arm, and then the rest of its sweep, e.g. `ewc-3`."""


@dataclass(frozen=True, kw_only=True)
class Cppo(Neural):
    """What the study is run with."""

    study = "cppo"
    quick: ClassVar[Mapping[str, Any]] = {
        "arms": ("ppo", "ppo-kl", "ewc", "cppo", "cppo-learned", "uniform-d2", "cppo-d2"),
        "seeds": 1,
    }
    known = tuple(ARMS)

    tasks: int = 3
    """How many are learned, one after the other."""

    iterations: int = 40
    """Batches of rollouts, for each task."""

    rollouts: int = 128
    """In a batch."""

    stored: int = 256
    """Rollouts of each task that are there when it has ended, for whatever retains."""

    tested: int = 500
    """Held-out episodes of each task."""

    def __post_init__(self) -> None:
        """Raise `InputError` also if there are too few tasks to forget one, or too many."""
        super().__post_init__()
        if not 2 <= self.tasks <= len(PAYS):
            raise InputError(f"tasks={self.tasks!r}: there must be 2 to {len(PAYS)}")

    def rows_of(self, unit: tuple[str, int]) -> int:  # noqa: ARG002 - of all units as many
        """How many cells a unit has."""
        return (self.tasks + 1) * self.tasks
