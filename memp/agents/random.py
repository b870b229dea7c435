"""An agent that knows nothing: the baseline below every other."""

from __future__ import annotations

import random
from collections.abc import Sequence

from memp.agents.base import Admissible, Policy
from memp.procedure import Match


class RandomAgent:
    """Takes admissible actions at random, whatever it is shown."""

    name = "random"

    def start(self, task: str, matches: Sequence[Match] = (), *, seed: int = 0) -> Policy:  # noqa: ARG002
        """Begin an episode; the seed and the task decide its actions."""
        return _RandomPolicy(random.Random(f"{seed}/{task}"))


class _RandomPolicy:
    def __init__(self, generator: random.Random) -> None:
        self.tokens_in = 0
        self.tokens_out = 0
        self._random = generator

    def act(self, observation: str, admissible: Admissible) -> str | None:  # noqa: ARG002
        options = admissible()
        return self._random.choice(options) if options else None
