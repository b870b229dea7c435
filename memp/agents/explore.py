"""Explorers: what an agent does where it has no skill, and learns of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memp.agents.skills import Lived
from memp.situation import Situation


class Explorer(Protocol):
    """Chooses primitive actions."""

    @property
    def name(self) -> str:
        """What results are kept under."""
        ...

    @property
    def actions(self) -> Sequence[str]:
        """All actions that it chooses among."""
        ...

    def act(self, situation: Situation, random: np.random.Generator) -> str:
        """Return the next action."""
        ...

    def learn(self, lived: Lived) -> None:
        """Learn from an episode that has ended."""
        ...


class RandomExplorer:
    """Takes any action at any time; knows nothing and learns nothing."""

    name = "random"

    def __init__(self, actions: Sequence[str]) -> None:
        """Take all the actions there are."""
        self.actions = tuple(actions)

    def act(self, situation: Situation, random: np.random.Generator) -> str:  # noqa: ARG002
        """Return one at random."""
        return self.actions[random.integers(len(self.actions))]

    def learn(self, lived: Lived) -> None:
        """Learn nothing."""


class QLearner:
    """Tabular Q-learning; it pays itself 1 for every flag that comes to hold, and takes 0.1 for every step.

    Source:
        Watkins and Dayan 1992; an episode is swept backwards once it has ended (Lin 1992).
    """

    name = "q-learning"

    def __init__(
        self,
        actions: Sequence[str],
        key: Callable[[Situation], Hashable] = lambda situation: situation,
        *,
        rate: float = 0.2,
        discount: float = 0.97,
        epsilon: float = 0.2,
    ) -> None:
        """Say how it learns.

        Args:
            actions: All there are.
            key: What of a situation its table tells apart.
            rate: How far a value moves to its target.
            discount: Of what comes a step later.
            epsilon: How often it takes any action.
        """
        self.actions = tuple(actions)
        self._key = key
        self._rate, self._discount, self._epsilon = rate, discount, epsilon
        self._values: defaultdict[Hashable, NDArray[np.float64]] = defaultdict(
            lambda: np.zeros(len(self.actions))
        )

    def act(self, situation: Situation, random: np.random.Generator) -> str:
        """Return the action of the highest value, one of them at random where several have it."""
        if random.random() < self._epsilon:
            return self.actions[random.integers(len(self.actions))]
        values = self._values[self._key(situation)]
        return self.actions[int(random.choice(np.flatnonzero(values == values.max())))]

    def learn(self, lived: Lived) -> None:
        """Move the values of what was done, the last action first."""
        after = last = lived.situations[-1]
        for before, action in zip(reversed(lived.situations[:-1]), reversed(lived.actions), strict=True):
            gained = len(after.flags - before.flags)
            ended = after is last and gained  # otherwise its budget was spent, and more would have come
            to_come = 0.0 if ended else self._discount * self._values[self._key(after)].max()
            values = self._values[self._key(before)]
            place = self.actions.index(action)
            values[place] += self._rate * (gained - 0.1 + to_come - values[place])
            after = before
