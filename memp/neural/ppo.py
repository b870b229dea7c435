"""Proximal policy optimisation over whole rollouts, with room for weights on each: what PPO and CPPO share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from memp.errors import InputError
from memp.neural.policy import Policy
from memp.neural.rollouts import Per, Rollouts, likelihood

Penalty = Callable[[Rollouts], Tensor]
"""What is added to the loss of a minibatch, a scalar."""


@dataclass(frozen=True, kw_only=True)
class PPOSettings:
    """What PPO is run with.

    Source:
        Schulman et al. 2017, arXiv:1707.06347; that Adam's epsilon is 1e-5, Huang et al. 2022, "The 37
        implementation details of PPO".
    """

    learning_rate: float = 3e-3

    discount: float = 0.95
    """Of what comes a step later, gamma."""

    trace: float = 0.95
    """How far advantages look ahead, lambda: 0 one step, 1 to the end."""

    clip: float = 0.2
    """How far a step's probability ratio may move from 1 and still be paid for."""

    value_clip: float | None = None
    """How far a value may move from that of the policy that acted and still be paid for; None: any way."""

    value_weight: float = 0.5
    entropy_weight: float = 0.02

    epochs: int = 4
    """How often a batch of rollouts is gone through."""

    minibatches: int = 4
    """Into how many a batch is parted, each of whole rollouts."""

    max_gradient: float = 0.5
    """The norm that gradients are cut to."""

    def __post_init__(self) -> None:
        """Raise `InputError` if a number is out of its range."""
        for name in ("learning_rate", "clip", "max_gradient", "epochs", "minibatches"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be above 0")
        for name in ("discount", "trace"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be in [0, 1]")
        for name in ("value_weight", "entropy_weight"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must not be below 0")
        if self.value_clip is not None and not self.value_clip > 0:
            raise InputError(f"value_clip is {self.value_clip!r}; it must be above 0, or None")


class Retained(NamedTuple):
    """What a policy is held to while it learns: rollouts, and how much each counts."""

    rollouts: Rollouts
    """m rollouts; their `log_probs` are those of the reference, of whom the policy is to keep them."""

    beta: Tensor
    """The weight of each, shape (m,)."""

    coefficient: float = 1.0
    """The weight of them all."""

    per: Per = "step"
    """Of what the likelihoods are that are compared."""

    def loss(self, policy: Policy) -> Tensor:
        """E[beta(x) (log P_theta(x) - log P_ref(x))^2], without the coefficient; a scalar."""
        mask = self.rollouts.mask
        now = self.rollouts.padded(policy.taken(*self.rollouts.steps))
        away = likelihood(now, mask, per=self.per) - likelihood(self.rollouts.log_probs, mask, per=self.per)
        return (self.beta * away**2).mean()


class Batch(NamedTuple):
    """What a step of optimisation learns from."""

    rollouts: Rollouts
    """n rollouts of the policy as it was when the update began."""

    advantages: Tensor
    """Shape (n, t)."""

    targets: Tensor
    """What the value function should say, shape (n, t)."""

    alpha: Tensor
    """How much each rollout counts in the clipped surrogate, shape (n,)."""

    retained: Retained | None = None


class Losses(NamedTuple):
    """The parts of the loss, before their weights."""

    surrogate: Tensor
    """-E[alpha L^CLIP]"""

    value: Tensor
    """E[L^VF]"""

    entropy: Tensor
    """E[entropy]"""

    retention: Tensor
    """E[beta L^KR]; 0 where nothing is retained."""

    total: Tensor
    """What is minimised: -J."""


def advantages(rollouts: Rollouts, *, discount: float, trace: float) -> Tensor:
    """Estimate how much better each step was than expected, shape (n, t); 0 in the padding.

    A rollout that was truncated would have gone on: its last step counts the value of where it was cut. One that
    terminated would not.

    Source:
        Generalised advantage estimation, Schulman et al. 2016, arXiv:1506.02438.
    """
    mask = rollouts.mask
    last = mask.clone()
    last[:, :-1] &= ~mask[:, 1:]
    following = torch.zeros_like(rollouts.values)
    following[:, :-1] = rollouts.values[:, 1:]
    following = torch.where(last, rollouts.last_values[:, None], following)
    surprises = (rollouts.rewards + discount * following - rollouts.values) * mask
    found = torch.zeros_like(surprises)
    ahead = torch.zeros_like(rollouts.last_values)
    for t in reversed(range(mask.shape[1])):
        ahead = surprises[:, t] + discount * trace * ahead  # behind a rollout's end both are 0
        found[:, t] = ahead
    return found


def loss(policy: Policy, batch: Batch, settings: PPOSettings) -> Losses:
    """-J = -E[alpha L^CLIP] + E[coefficient beta L^KR] + c E[L^VF] - e E[entropy].

    Means of steps are over all steps of the batch; a rollout's alpha is that of each of its steps. With alpha = 1 and
    beta = 0, or nothing retained, it is the loss of PPO.

    Source:
        Zhang et al. 2024, "CPPO: Continual Learning for Reinforcement Learning with Human Feedback" (ICLR).
    """
    rollouts = batch.rollouts
    mask = rollouts.mask
    now = policy.evaluate(*rollouts.steps)
    ratio = (now.log_probs - rollouts.log_probs[mask]).exp()
    gain = batch.advantages[mask]
    clipped = torch.minimum(ratio * gain, ratio.clamp(1 - settings.clip, 1 + settings.clip) * gain)
    alpha = batch.alpha.repeat_interleave(rollouts.lengths)
    surrogate = -(alpha * clipped).mean()
    value = _value_loss(now.values, rollouts.values[mask], batch.targets[mask], settings.value_clip)
    entropy = now.entropies.mean()
    total = surrogate + settings.value_weight * value - settings.entropy_weight * entropy
    if batch.retained is None:
        return Losses(surrogate, value, entropy, torch.zeros(()), total)
    retention = batch.retained.loss(policy)
    return Losses(surrogate, value, entropy, retention, total + batch.retained.coefficient * retention)


def _value_loss(values: Tensor, before: Tensor, targets: Tensor, clip: float | None) -> Tensor:
    """Half the squared error; with a clip, the larger one of the value and of what is left of it."""
    error = (values - targets) ** 2
    if clip is not None:
        held = before + (values - before).clamp(-clip, clip)
        error = torch.maximum(error, (held - targets) ** 2)
    return 0.5 * error.mean()


class PPO:
    """Improves a policy from batches of its own rollouts; the same seed and rollouts give the same policy."""

    def __init__(self, policy: Policy, settings: PPOSettings | None = None, *, seed: int) -> None:
        """Take the policy that learns.

        Args:
            policy: It is changed in place.
            settings: How it learns.
            seed: Decides how batches are parted.
        """
        self.policy = policy
        self.settings = settings or PPOSettings()
        self._generator = torch.Generator().manual_seed(seed)
        self._optimizer = torch.optim.Adam(
            policy.parameters(), lr=self.settings.learning_rate, eps=1e-5, fused=True
        )

    def update(
        self,
        rollouts: Rollouts,
        *,
        alpha: Tensor | None = None,
        retained: Callable[[Tensor], Retained] | None = None,
        penalty: Penalty | None = None,
    ) -> Losses:
        """Learn from rollouts of the policy as it is now.

        Args:
            rollouts: n of them.
            alpha: How much each counts, shape (n,); None: 1.
            retained: What is retained beside a minibatch, whose rows it is given; None: nothing.
            penalty: What is added to the loss of a minibatch; None: nothing.

        Returns:
            The mean loss over all minibatches.

        Raises:
            InputError: if the rollouts are no such (see `Rollouts.checked`), `alpha` is no finite weight for each, or
                the loss is not finite.
        """
        n = len(rollouts.checked())
        alpha = torch.ones(n) if alpha is None else alpha
        if tuple(alpha.shape) != (n,) or not torch.isfinite(alpha).all():
            raise InputError(f"alpha {alpha!r}: give a finite weight for each of {n} rollouts")
        found = advantages(rollouts, discount=self.settings.discount, trace=self.settings.trace)
        targets, normal = found + rollouts.values, _normalised(found, rollouts.mask)
        lost = []
        for _ in range(self.settings.epochs):
            for rows in torch.randperm(n, generator=self._generator).chunk(self.settings.minibatches):
                some = rollouts[rows]
                cut = some.mask.shape[1]
                batch = Batch(
                    some,
                    normal[rows, :cut],
                    targets[rows, :cut],
                    alpha[rows],
                    None if retained is None else retained(rows),
                )
                lost.append(self._step(batch, penalty))
        return Losses(*(torch.stack(part).mean() for part in zip(*lost, strict=True)))

    def _step(self, batch: Batch, penalty: Penalty | None) -> Losses:
        losses = loss(self.policy, batch, self.settings)
        if penalty is not None:
            losses = losses._replace(total=losses.total + penalty(batch.rollouts))
        if not torch.isfinite(losses.total):
            raise InputError(f"the loss is {losses.total.item()!r}: try a lower learning_rate")
        self._optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.settings.max_gradient)
        self._optimizer.step()
        return Losses(*(part.detach() for part in losses))


def _normalised(found: Tensor, mask: Tensor) -> Tensor:
    """Shift and scale the advantages of all steps of a batch to mean 0 and deviation 1."""
    steps = found[mask]
    return (found - steps.mean()) / (steps.std(correction=0) + 1e-8)


def kl_penalty(policy: Policy, reference: Policy, *, weight: float) -> Penalty:
    """Return the penalty of leaving a reference: the mean over steps of KL(policy || reference), times a weight.

    Args:
        policy: Who learns.
        reference: Whom it is held to, frozen.
        weight: How much that counts.
    """

    def penalty(rollouts: Rollouts) -> Tensor:
        observations = rollouts.observations[rollouts.mask]
        now, then = policy.log_probs(observations), reference.log_probs(observations)
        return weight * (now.exp() * (now - then)).sum(-1).mean()

    return penalty
