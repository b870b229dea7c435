"""Whole rollouts, side by side: what a policy did in several episodes, padded to one length and masked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memp.errors import InputError, unknown_name
from memp.neural.policy import Policy

Per = Literal["step", "rollout"]
"""Of what a likelihood is: of a step, in the mean over a rollout, or of the whole rollout."""


class Episodes(Protocol):
    """n episodes of an environment, played side by side."""

    def reset(self) -> NDArray[np.float32]:
        """Begin n episodes, and return what is seen first, shape (n, width)."""
        ...

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Carry out an action in each episode, shape (n,).

        Returns:
            What is seen after, shape (n, width), the rewards, and which episodes have ended by themselves
            (terminated) or by their budget (truncated) so far, each of shape (n,). An episode that has ended stays
            as it is.
        """
        ...


@dataclass(frozen=True)
class Rollouts:
    """n rollouts of at most t steps; padding comes last, and what it holds is never read."""

    observations: Tensor
    """What was seen before each step, shape (n, t, width)."""

    actions: Tensor
    """What was done, shape (n, t), int64."""

    rewards: Tensor
    """What each step paid, shape (n, t)."""

    log_probs: Tensor
    """The log-probability of each action under the policy that took it, shape (n, t)."""

    values: Tensor
    """What that policy expected from there on, shape (n, t)."""

    mask: Tensor
    """True for a step, False for padding, shape (n, t)."""

    last_values: Tensor
    """What it expected where a rollout was truncated; 0 where it had terminated. Shape (n,)."""

    def checked(self) -> Self:
        """Return them, or raise `InputError` if shapes disagree, one is empty, or a number is not finite.

        Whoever takes rollouts from outside does it once: done for every minibatch it would cost a tenth of the time.
        """
        n, t = self.mask.shape if self.mask.dim() == 2 else (-1, -1)
        expected = {"observations": (n, t, self.observations.shape[-1]), "last_values": (n,)}
        for field in fields(self):
            found, shape = getattr(self, field.name), expected.get(field.name, (n, t))
            if tuple(found.shape) != shape:
                raise InputError(f"{field.name} of shape {tuple(found.shape)!r}; the mask asks for {shape!r}")
            if not torch.isfinite(found).all():
                raise InputError(f"{field.name} holds a number that is not finite")
        if n < 1 or not self.mask[:, :1].all() or (self.mask[:, 1:] & ~self.mask[:, :-1]).any():
            raise InputError("there must be a rollout, and each must have a step, and its padding last")
        return self

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, rows: Tensor) -> Rollouts:
        """Return some of them, cut to the longest of those."""
        longest = int(self.mask[rows].sum(1).max())
        return Rollouts(
            **{
                field.name: found[rows] if found.dim() == 1 else found[rows, :longest]
                for field in fields(self)
                for found in [getattr(self, field.name)]
            }
        )

    @property
    def lengths(self) -> Tensor:
        """How many steps each has, shape (n,)."""
        return self.mask.sum(1)

    @property
    def returns(self) -> Tensor:
        """What each was paid in all, not discounted: R(x), shape (n,)."""
        return (self.rewards * self.mask).sum(1)

    @property
    def steps(self) -> tuple[Tensor, Tensor]:
        """The observations, shape (s, width), and actions, shape (s,), of all s steps, rollout after rollout."""
        return self.observations[self.mask], self.actions[self.mask]

    def padded(self, steps: Tensor) -> Tensor:
        """Put numbers of all steps, shape (s,), where the steps stand, shape (n, t), with 0 for padding."""
        return steps.new_zeros(self.mask.shape).masked_scatter(self.mask, steps)

    @torch.no_grad()
    def log_probs_under(self, policy: Policy) -> Tensor:
        """Return the log-probabilities of what was done under another policy, shape (n, t)."""
        return self.padded(policy.taken(*self.steps))


def likelihood(log_probs: Tensor, mask: Tensor, *, per: Per = "step") -> Tensor:
    """Return the log-probability of each rollout, log P(x), of shape (n,).

    Args:
        log_probs: Of each step, shape (n, t).
        mask: True for a step, shape (n, t).
        per: `step`, the mean over steps, which does not depend on how long a rollout is; `rollout`, their sum.

    Raises:
        InputError: if it is per something else.
    """
    whole = (log_probs * mask).sum(1)
    if per == "rollout":
        return whole
    if per != "step":
        raise unknown_name("per", per, ("step", "rollout"))
    return whole / mask.sum(1)


def joined(parts: Sequence[Rollouts]) -> Rollouts:
    """Put rollouts of several collections below one another, padded to the longest.

    Raises:
        InputError: if there are none.
    """
    if not parts:
        raise InputError("there are no rollouts to join")
    longest = max(part.mask.shape[1] for part in parts)

    def widened(found: Tensor) -> Tensor:
        if found.dim() == 1:
            return found
        wide = found.new_zeros(len(found), longest, *found.shape[2:])
        wide[:, : found.shape[1]] = found
        return wide

    return Rollouts(
        **{
            field.name: torch.cat([widened(getattr(part, field.name)) for part in parts])
            for field in fields(Rollouts)
        }
    )


@torch.no_grad()
def collect(policy: Policy, episodes: Episodes, *, generator: torch.Generator) -> Rollouts:
    """Play n episodes to their ends, each action drawn from the policy.

    Args:
        policy: Who acts.
        episodes: Where; they are begun anew.
        generator: What the actions are drawn with.
    """
    seen = torch.from_numpy(episodes.reset())
    over = torch.zeros(len(seen), dtype=torch.bool)
    observations, actions, rewards, log_probs, mask = [], [], [], [], []
    while not over.all():
        found = policy.log_probs(seen)
        action = torch.multinomial(found.exp(), 1, generator=generator)
        observations.append(seen)
        actions.append(action.squeeze(1))
        log_probs.append(found.gather(1, action).squeeze(1))
        mask.append(~over)
        after, reward, terminated, truncated = episodes.step(actions[-1].numpy())
        rewards.append(torch.from_numpy(reward).float())
        seen, over = torch.from_numpy(after), torch.from_numpy(terminated | truncated)
    there = torch.stack(observations, 1)
    return Rollouts(
        observations=there,
        actions=torch.stack(actions, 1),
        rewards=torch.stack(rewards, 1),
        log_probs=torch.stack(log_probs, 1),
        values=policy.values(there),
        mask=torch.stack(mask, 1),
        last_values=torch.where(torch.from_numpy(truncated), policy.values(seen), 0.0),
    )
