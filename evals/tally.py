"""How the episodes of a study came out so far, told as they end."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

from evals.rows import Row
from evals.runner import Progress, SoFar


class Tally:
    """Adds up episodes as they end: to look at them costs the same however many there are."""

    def __init__(self, stage: str, rows: Iterable[Row], total: int, progress: Progress) -> None:
        """Take the stage, the episodes that there are, how many there will be, and who is told."""
        self._stage = stage
        self._total = total
        self._progress = progress
        self._lock = Lock()
        self._count = 0
        self._reward = 0.0
        self._successes = 0
        self._tokens = 0
        for row in rows:
            self._add(row)

    def add(self, row: Row) -> None:
        """Add an episode, and tell."""
        with self._lock:
            self._add(row)
            self._tell()

    def tell(self) -> None:
        """Tell how it stands."""
        with self._lock:
            self._tell()

    def _add(self, row: Row) -> None:
        self._count += 1
        self._reward += row.reward
        self._successes += row.success
        self._tokens += row.tokens_in + row.tokens_out

    def _tell(self) -> None:
        some = max(1, self._count)
        so_far = SoFar(self._reward / some, self._successes / some, self._tokens)
        self._progress(self._stage, self._count, self._total, so_far)
