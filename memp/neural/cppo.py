"""Continual PPO: a rollout has a weight for what is learned from it, alpha, and one for what is retained, beta.

How they are found is in `memp.neural.weights`.

Source:
    Zhang et al. 2024, "CPPO: Continual Learning for Reinforcement Learning with Human Feedback" (ICLR).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from memp.errors import InputError, unknown_name
from memp.neural.policy import Policy
from memp.neural.ppo import PPO, Losses, PPOSettings, Retained
from memp.neural.rollouts import Per, Rollouts, joined, likelihood
from memp.neural.weights import (
    Weights,
    check_bounds,
    check_scale,
    closed,
    counted,
    gradient,
    heuristic,
    types,
    unmet,
)

Weighing = Literal["uniform", "zero", "heuristic", "closed", "gradient"]
"""How weights are found: all 1, all 0, by rule, or by the objective, solved or descended."""

Reference = Literal["rollout", "previous", "d2"]
"""Whose likelihoods are kept, and of which rollouts: the paper can be read in three ways.

- `rollout`: those of the policy that acted, of the rollouts that are learned from. It bounds an update, and keeps
  nothing of an earlier task.
- `previous`: those of the policy as it was when the last task ended, of the same rollouts.
- `d2`: those of the policies that acted in earlier tasks, of rollouts of those tasks, which are stored (Eq. 4).
"""


@dataclass(frozen=True, kw_only=True)
class CPPOSettings:
    """What CPPO is run with; with `alpha="uniform"` and `beta="zero"` it is PPO."""

    alpha: Weighing = "heuristic"
    beta: Weighing = "heuristic"
    reference: Reference = "d2"

    coefficient: float = 0.3
    """The weight of all that is retained beside what is learned."""

    threshold: float = 0.5
    """How many deviations from the mean are high or low: k."""

    low: float = 0.5
    """No weight is lower."""

    high: float = 2.0
    """No weight is higher."""

    tau: float = 0.05
    """How strongly the objective parts the types."""

    normalise: bool = True
    """Whether the weights by rule are divided by their mean: E[alpha] = E[beta] = 1."""

    per: Per = "step"
    """Of what likelihoods are: a step, in the mean over its rollout, or the rollout."""

    probability: bool = False
    """Whether types are told by P(x) itself and not by its logarithm."""

    def __post_init__(self) -> None:
        """Raise `InputError` if a name is unknown or a number out of its range."""
        for name, known in (("alpha", Weighing), ("beta", Weighing), ("reference", Reference), ("per", Per)):
            if getattr(self, name) not in get_args(known):
                raise unknown_name(name, getattr(self, name), get_args(known))
        if not self.coefficient >= 0:
            raise InputError(f"coefficient is {self.coefficient!r}; it must not be below 0")
        check_scale("threshold", self.threshold)
        check_scale("tau", self.tau)
        check_bounds(self.low, self.high)


class Weighed(NamedTuple):
    """What the rollouts of a batch were taken for."""

    weights: Weights

    counts: tuple[int, ...]
    """How many are of each type, in the order of `TYPES`."""

    unmet: tuple[str, ...]
    """Which order constraints the weights do not meet."""


def weigh(rollouts: Rollouts, settings: CPPOSettings) -> Weighed:
    """Judge n rollouts by the log-probabilities that they hold and by their returns.

    Raises:
        InputError: if the rollouts are no such; see `Rollouts.checked`.
    """
    rollouts.checked()
    likelihoods = likelihood(rollouts.log_probs, rollouts.mask, per=settings.per)
    if settings.probability:
        likelihoods = likelihoods.exp()
    kinds = types(likelihoods, rollouts.returns, threshold=settings.threshold)

    def by(weighing: Weighing) -> Weights:
        match weighing:
            case "uniform" | "zero":
                alike = torch.full((len(rollouts),), float(weighing == "uniform"))
                return Weights(alike, alike)
            case "heuristic":
                return heuristic(
                    likelihoods,
                    rollouts.returns,
                    threshold=settings.threshold,
                    low=settings.low,
                    high=settings.high,
                    normalise=settings.normalise,
                )
            case "closed":
                return closed(kinds, tau=settings.tau, low=settings.low, high=settings.high)
            case "gradient":
                return gradient(kinds, tau=settings.tau, low=settings.low, high=settings.high)

    found = {weighing: by(weighing) for weighing in {settings.alpha, settings.beta}}
    weights = Weights(found[settings.alpha].alpha, found[settings.beta].beta)
    return Weighed(weights, tuple(counted(kinds).tolist()), unmet(weights, kinds))


class Updated(NamedTuple):
    """What an update did."""

    losses: Losses

    weighed: Weighed | None
    """What the rollouts were taken for; None while there is nothing to retain, so that PPO learned."""


class CPPO:
    """Learns task after task: `update` with rollouts of the task, and `retain` when it is over.

    Until there is something to retain it is PPO; with the reference `rollout` there is from the first update on.
    """

    def __init__(
        self,
        policy: Policy,
        settings: CPPOSettings | None = None,
        *,
        ppo: PPOSettings | None = None,
        seed: int,
    ) -> None:
        """Take the policy that learns.

        Args:
            policy: It is changed in place.
            settings: How rollouts are weighed and retained.
            ppo: How the rest is learned.
            seed: Decides how batches are parted, and which stored rollouts are drawn.
        """
        self.policy = policy
        self.settings = settings or CPPOSettings()
        self.stored: Rollouts | None = None
        """The rollouts of earlier tasks, where the reference is `d2`."""
        self._beta = torch.zeros(0)
        self._previous: Policy | None = None
        self._ppo = PPO(policy, ppo, seed=seed)
        self._generator = torch.Generator().manual_seed(seed)  # its own, so that PPO parts batches as ever

    def update(self, rollouts: Rollouts) -> Updated:
        """Learn from rollouts of the policy as it is now.

        With `d2`, as many stored rollouts are retained beside each minibatch, and beta is theirs; otherwise alpha and
        beta are both of the rollouts that are learned from.

        Raises:
            InputError: if the rollouts are no such, or the loss is not finite.
        """
        settings = self.settings
        if settings.reference != "rollout" and self.stored is None and self._previous is None:
            return Updated(self._ppo.update(rollouts), None)
        weighed = weigh(rollouts, settings)
        kept, beta = rollouts, weighed.weights.beta
        if self._previous is not None:
            kept = replace(rollouts, log_probs=rollouts.log_probs_under(self._previous))
        elif self.stored is not None:
            kept, beta = self.stored, self._beta

        def retained(rows: Tensor) -> Retained:
            if kept is self.stored:
                rows = torch.randint(len(kept), (len(rows),), generator=self._generator)
            return Retained(kept[rows], beta[rows], settings.coefficient, settings.per)

        losses = self._ppo.update(rollouts, alpha=weighed.weights.alpha, retained=retained)
        return Updated(losses, weighed)

    def retain(self, rollouts: Rollouts) -> Weighed:
        """End a task: from now on keep what was done in it.

        Args:
            rollouts: Some of what was done. With `d2` they are stored with their weights, and the policy is held to
                the log-probabilities that they hold; for the other references they are not needed.

        Returns:
            What they are taken for, among themselves.

        Raises:
            InputError: if the rollouts are no such.
        """
        weighed = weigh(rollouts, self.settings)
        if self.settings.reference == "previous":
            self._previous = self.policy.frozen()
        if self.settings.reference == "d2":
            self.stored = joined([rollouts] if self.stored is None else [self.stored, rollouts])
            self._beta = torch.cat([self._beta, weighed.weights.beta])
        return weighed
