"""Continual PPO: a rollout has a weight for what is learned from it, alpha, and one for what is retained, beta.

A rollout x is judged by how likely the policy that acted was to do it, P(x), and by what it was paid, R(x). Either
is high or low where it is at least `threshold` deviations from the mean of its batch; that makes five types:

    type  P(x)   R(x)   alpha  beta
    r1    high   high   > 1    > 1     what the policy does well: learn it, and keep it
    r2    high   low    > 1    < 1     what it is wrongly sure of: change it
    r3    low    high   > 1    < 1     luck: learn it, there is little to keep
    r4    low    low    < 1    < 1     noise
    r5    otherwise     1      1       in the mean of all rollouts

The weights are found by rule (`heuristic`), or as the minimum of an objective, solved (`closed`) or descended
(`gradient`).

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

Weighing = Literal["uniform", "zero", "heuristic", "closed", "gradient"]
"""How weights are found: all 1, all 0, by rule, or by the objective, solved or descended."""

Reference = Literal["rollout", "previous", "d2"]
"""Whose likelihoods are kept, and of which rollouts: the paper can be read in three ways.

- `rollout`: those of the policy that acted, of the rollouts that are learned from. It bounds an update, and keeps
  nothing of an earlier task.
- `previous`: those of the policy as it was when the last task ended, of the same rollouts.
- `d2`: those of the policies that acted in earlier tasks, of rollouts of those tasks, which are stored (Eq. 4).
"""

TYPES = ("r1", "r2", "r3", "r4", "r5")

NORMAL = TYPES.index("r5")

ALPHA_SIGNS = (1, 1, 1, -1)
"""Whether the alpha of r1 to r4 is to be above that of r5, or below."""

BETA_SIGNS = (1, -1, -1, -1)
"""The same of beta."""

NO_SPREAD = 1e-6
"""What is not told apart: a deviation of this share of the largest value, and weights that differ by this."""


class Weights(NamedTuple):
    """The weights of n rollouts, each of shape (n,)."""

    alpha: Tensor
    """What counts in learning."""

    beta: Tensor
    """What counts in retention."""


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
        _check_scale("threshold", self.threshold)
        _check_scale("tau", self.tau)
        _check_bounds(self.low, self.high)


def standings(found: Tensor, *, threshold: float) -> Tensor:
    """Return how far each value is from the mean, in thresholds of so many deviations: z, shape (n,).

    Where all are equal each is at the mean. The deviation is that of the batch itself (divided by n).

    Args:
        found: Shape (n,).
        threshold: How many deviations are 1, k.

    Raises:
        InputError: if these are no finite values in one row, or the threshold is not above 0.
    """
    if found.dim() != 1 or len(found) < 1 or not torch.isfinite(found).all():
        raise InputError(f"{found!r}: give a row of at least one finite number")
    _check_scale("threshold", threshold)
    found = found.double()
    away = found - found.mean()
    deviation = away.square().mean().sqrt()
    if deviation <= NO_SPREAD * found.abs().max():
        return torch.zeros_like(found)
    return away / (threshold * deviation)


def types(likelihoods: Tensor, returns: Tensor, *, threshold: float) -> Tensor:
    """Tell of which type each rollout is.

    Args:
        likelihoods: log P(x) or P(x), shape (n,).
        returns: R(x), shape (n,).
        threshold: How many deviations from the mean are high or low.

    Returns:
        Positions in `TYPES`, shape (n,).

    Raises:
        InputError: if these are not n finite numbers each.
    """
    return _types(*_both(likelihoods, returns, threshold))


def heuristic(
    likelihoods: Tensor,
    returns: Tensor,
    *,
    threshold: float,
    low: float,
    high: float,
    normalise: bool = False,
) -> Weights:
    """Return weights by rule: 1 at the threshold, and from there as steep as the standing z; clipped to the bounds.

        type  alpha            beta
        r1    min(high, zP)    min(high, zR)
        r2    min(high, zP)    max(low, 2 + zR)
        r3    min(high, -zP)   max(low, 2 - zR)
        r4    max(low, 2 + zP) max(low, 2 + zR)

    Alpha is continuous in P, and beta in R. With the forms of r2, r3 would have an alpha below 0 and a beta above 1,
    against the constraints of its type; mirrored, as here, they are met.

    Args:
        likelihoods: log P(x) or P(x), shape (n,).
        returns: R(x), shape (n,).
        threshold: How many deviations from the mean are high or low.
        low: The lowest weight, in [0, 1).
        high: The highest, above 1.
        normalise: Whether both are divided by their means, after the bounds.

    Raises:
        InputError: if these are not n finite numbers each, or a bound is out of its range.
    """
    _check_bounds(low, high)
    p, r = _both(likelihoods, returns, threshold)
    kinds, one = _types(p, r), torch.ones_like(p)
    alpha = torch.where(kinds == NORMAL, one, torch.where((p < 0) & (r < 0), 2 + p, p.abs()))
    beta = torch.where(kinds == NORMAL, one, torch.where((p > 0) & (r > 0), r, 2 - r.abs()))
    weights = [found.clamp(low, high) for found in (alpha, beta)]
    if normalise:  # where all are 0 there is nothing to share out
        weights = [found / found.mean() if found.any() else found for found in weights]
    return Weights(*(found.float() for found in weights))


def objective(weights: Weights, kinds: Tensor, *, tau: float) -> Tensor:
    """E[(alpha - 1)^2] + E[(beta - 1)^2] - tau (how far the types' means are parted, in the ways that they should).

    Args:
        weights: Of n rollouts.
        kinds: Their types, shape (n,).
        tau: How much the second part counts.

    Returns:
        A scalar; types without rollouts, and all of them where no rollout is normal, part nothing.
    """
    total = ((weights.alpha - 1) ** 2).mean() + ((weights.beta - 1) ** 2).mean()
    for parted in _parted(weights, kinds).values():
        total = total - tau * parted
    return total


def closed(kinds: Tensor, *, tau: float, low: float, high: float) -> Weights:
    """Return the weights that minimise `objective` within the bounds.

    With n_j of N rollouts of type j, and s_j = 1 where the type's weight is to be above that of r5, else -1:

        w_j = 1 + s_j tau N / (2 n_j)        w_5 = 1 - (sum of s_j) tau N / (2 n_5)

    The sum is over types that have rollouts; where no rollout is normal all weights are 1. Their means are 1 before
    the bounds. Where n_5 <= 2 n_1, and all types have rollouts, beta of r1 is not above that of r5: see `unmet`.

    Args:
        kinds: Positions in `TYPES`, shape (n,).
        tau: How strongly types are parted.
        low: The lowest weight, in [0, 1).
        high: The highest, above 1.

    Raises:
        InputError: if these are no types, or a number is out of its range.
    """
    counts = _counts(kinds).double()
    _check_scale("tau", tau)
    _check_bounds(low, high)
    present = (counts[:NORMAL] > 0) & (counts[NORMAL] > 0)
    found = []
    for signs in (ALPHA_SIGNS, BETA_SIGNS):
        signed = torch.tensor(signs).double() * present
        strengths = torch.cat([signed, -signed.sum(0, keepdim=True)])
        of_type = 1 + strengths * tau * len(kinds) / (2 * counts.clamp(min=1))
        found.append(of_type.clamp(low, high)[kinds].float())
    return Weights(*found)


def gradient(
    kinds: Tensor, *, tau: float, low: float, high: float, steps: int = 300, rate: float = 0.2
) -> Weights:
    """Descend `objective` with Adam, from weights of 1; each is low + (high - low) sigmoid(its parameter).

    It is the form of the paper, and finds what `closed` gives at once; near a bound, where sigmoids are flat, more
    steps are needed.

    Args:
        kinds: Positions in `TYPES`, shape (n,).
        tau: How strongly types are parted.
        low: The lowest weight, in [0, 1).
        high: The highest, above 1.
        steps: How many, at least 1.
        rate: How long they are at first; they shorten to 0.

    Raises:
        InputError: as `closed`.
    """
    _counts(kinds)
    _check_scale("tau", tau)
    _check_bounds(low, high)
    if steps < 1:
        raise InputError(f"{steps!r} steps: take at least 1")
    begin = torch.logit(torch.tensor((1 - low) / (high - low), dtype=torch.float64)).item()
    meta = torch.full((2, len(kinds)), begin, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([meta], lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        weights = Weights(*(low + (high - low) * torch.sigmoid(meta)))
        objective(weights, kinds, tau=tau).backward()
        optimizer.step()
    return Weights(*(low + (high - low) * torch.sigmoid(meta.detach())).float())


def unmet(weights: Weights, kinds: Tensor) -> tuple[str, ...]:
    """Return which order constraints the mean weights of the types do not meet, e.g. `beta r1 > r5`.

    The objective does not see to all of its constraints: what parts r2, r3 and r4 from r5 raises r5 itself. Types
    without rollouts are not judged.
    """
    return tuple(name for name, parted in _parted(weights, kinds).items() if parted <= NO_SPREAD)


def _parted(weights: Weights, kinds: Tensor) -> dict[str, Tensor]:
    """How far the mean of each type is from that of r5, in the way that it should be, by its constraint."""
    there = [bool((kinds == kind).any()) for kind in range(len(TYPES))]
    found = {}
    for name, signs in (("alpha", ALPHA_SIGNS), ("beta", BETA_SIGNS)):
        weight = getattr(weights, name)
        for kind, sign in enumerate(signs):
            if there[kind] and there[NORMAL]:
                constraint = f"{name} {TYPES[kind]} {'>' if sign > 0 else '<'} {TYPES[NORMAL]}"
                found[constraint] = sign * (weight[kinds == kind].mean() - weight[kinds == NORMAL].mean())
    return found


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
    return Weighed(weights, tuple(_counts(kinds).tolist()), unmet(weights, kinds))


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


def _both(likelihoods: Tensor, returns: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    if likelihoods.shape != returns.shape:
        raise InputError(
            f"likelihoods of shape {tuple(likelihoods.shape)!r} and returns of shape {tuple(returns.shape)!r}: "
            "give one of each for every rollout"
        )
    return standings(likelihoods, threshold=threshold), standings(returns, threshold=threshold)


def _types(p: Tensor, r: Tensor) -> Tensor:
    """The types by the standings of likelihoods and returns."""
    kinds = 2 * (p < 0).long() + (r < 0).long()  # high or low in each: r1, r2, r3, r4
    return kinds.masked_fill((p.abs() < 1) | (r.abs() < 1), NORMAL)


def _counts(kinds: Tensor) -> Tensor:
    """How many rollouts are of each type, shape (5,); raises `InputError` if these are no types."""
    if kinds.dim() != 1 or len(kinds) < 1 or kinds.is_floating_point():
        raise InputError(f"{kinds!r}: give a row of at least one type")
    if kinds.min() < 0 or kinds.max() > NORMAL:
        raise InputError(f"{kinds.tolist()!r}: types are numbered from 0 to {NORMAL}")
    return torch.bincount(kinds, minlength=len(TYPES))


def _check_scale(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise InputError(f"{name} is {value!r}; it must be above 0")


def _check_bounds(low: float, high: float) -> None:
    if not 0 <= low < 1 < high < float("inf"):
        raise InputError(f"the bounds are {low!r} and {high!r}; there must be 0 <= low < 1 < high")
