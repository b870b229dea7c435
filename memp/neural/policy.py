"""A policy over discrete actions and its value function: two small nets that share nothing."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from memp.errors import InputError


class Evaluated(NamedTuple):
    """What a policy makes of steps that were done, each of shape (s,)."""

    log_probs: Tensor
    """The log-probability of the action that was taken."""

    entropies: Tensor
    """Of the actions, in nats."""

    values: Tensor
    """The discounted rewards that it expects from here on."""


class Policy(nn.Module):
    """An actor and a critic, each a tanh net of its own; so what is retained of one does not bind the other.

    Source:
        Orthogonal weights of gain sqrt 2, of 0.01 for the actions and 1 for the value: Andrychowicz et al. 2021.
    """

    def __init__(self, width: int, actions: int, *, hidden: Sequence[int] = (64, 64), seed: int) -> None:
        """Draw its weights.

        Args:
            width: How many numbers an observation holds.
            actions: How many actions there are.
            hidden: The width of each hidden layer.
            seed: Decides its weights.

        Raises:
            InputError: if any of these widths is none.
        """
        super().__init__()
        if min(width, actions, *hidden) < 1:
            raise InputError(f"widths {width!r}, {hidden!r} and {actions!r}: each must be at least 1")
        generator = torch.Generator().manual_seed(seed)
        self.actor = _net((width, *hidden, actions), 0.01, generator)
        self.critic = _net((width, *hidden, 1), 1.0, generator)

    def values(self, observations: Tensor) -> Tensor:
        """Return what is expected of observations, shape (..., width), as values of shape (...)."""
        values: Tensor = self.critic(observations).squeeze(-1)
        return values

    def evaluate(self, observations: Tensor, actions: Tensor) -> Evaluated:
        """Evaluate s steps: observations of shape (s, width), actions of shape (s,)."""
        found = self.log_probs(observations)
        return Evaluated(_taken(found, actions), -(found.exp() * found).sum(-1), self.values(observations))

    def taken(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the log-probability of what was done in s steps, shape (s,); the critic is not asked."""
        return _taken(self.log_probs(observations), actions)

    def log_probs(self, observations: Tensor) -> Tensor:
        """Return the log-probability of every action, shape (..., actions)."""
        return torch.log_softmax(self.actor(observations), dim=-1)

    def frozen(self) -> Self:
        """Return a copy that no longer learns."""
        return deepcopy(self).requires_grad_(requires_grad=False)


def _taken(log_probs: Tensor, actions: Tensor) -> Tensor:
    return log_probs.gather(-1, actions[:, None]).squeeze(-1)


def _net(widths: Sequence[int], gain: float, generator: torch.Generator) -> nn.Sequential:
    """Make a net; the last layer has a gain of its own, and no activation follows it."""
    layers: list[nn.Module] = []
    last = len(widths) - 2
    for depth, (inputs, outputs) in enumerate(pairwise(widths)):
        linear = skip_init(nn.Linear, inputs, outputs)  # which would draw from the global generator
        nn.init.orthogonal_(linear.weight, gain if depth == last else 2**0.5, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])
