"""The weights of continual PPO: of which type a rollout is, and what follows from that for alpha and beta.

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

from typing import NamedTuple

import torch
from torch import Tensor

from memp.errors import InputError

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
    check_scale("threshold", threshold)
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
    check_bounds(low, high)
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
    counts = counted(kinds).double()
    check_scale("tau", tau)
    check_bounds(low, high)
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
    counted(kinds)
    check_scale("tau", tau)
    check_bounds(low, high)
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


def counted(kinds: Tensor) -> Tensor:
    """How many rollouts are of each type, shape (5,); raises `InputError` if these are no types."""
    if kinds.dim() != 1 or len(kinds) < 1 or kinds.is_floating_point():
        raise InputError(f"{kinds!r}: give a row of at least one type")
    if kinds.min() < 0 or kinds.max() > NORMAL:
        raise InputError(f"{kinds.tolist()!r}: types are numbered from 0 to {NORMAL}")
    return torch.bincount(kinds, minlength=len(TYPES))


def check_scale(name: str, value: float) -> None:
    """Raise `InputError` unless a number is above 0, and finite."""
    if not 0 < value < float("inf"):
        raise InputError(f"{name} is {value!r}; it must be above 0")


def check_bounds(low: float, high: float) -> None:
    """Raise `InputError` unless 1 lies between the bounds, and none is below 0."""
    if not 0 <= low < 1 < high < float("inf"):
        raise InputError(f"the bounds are {low!r} and {high!r}; there must be 0 <= low < 1 < high")
