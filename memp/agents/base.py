"""The seam to agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from memp.procedure import Match

Admissible = Callable[[], Sequence[str]]
"""Lists the actions the environment would carry out now. Asking may be slow: ask only when it matters."""


class Policy(Protocol):
    """An agent in the middle of one episode: pi_m(a | s) of the paper."""

    @property
    def tokens_in(self) -> int:
        """Tokens sent to a chat model so far; 0 for agents without one."""
        ...

    @property
    def tokens_out(self) -> int:
        """Tokens a chat model answered with so far."""
        ...

    def act(self, observation: str, admissible: Admissible) -> str | None:
        """Return the next action, or None to end the episode.

        Args:
            observation: What the last action led to; at first, what the environment shows.
            admissible: Lists the actions possible now.

        Raises:
            ModelError: if the agent's chat model could not answer.
        """
        ...


class Agent(Protocol):
    """Begins episodes. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """Says which agent this is, with its model where it has one; results are kept under it."""
        ...

    def start(self, task: str, matches: Sequence[Match] = (), *, seed: int = 0) -> Policy:
        """Begin an episode.

        Args:
            task: What is asked for.
            matches: Procedures retrieved for it, best first.
            seed: Decides all that is random.
        """
        ...
