"""The keys of one kind in memory, ranked exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from memp.embedding.base import FloatMatrix
from memp.errors import SpaceMismatch

DENSE = 4
"""A query with fewer non-zero columns than d / DENSE is multiplied over those alone: hashed texts are sparse."""

DIGITS = 6
"""Scores are compared to this many digits, so that ties are ties whatever order BLAS adds in."""


Owner: TypeAlias = tuple[str, str, int]
"""Whose a key is: id, source and age."""


class KeyIndex:
    """Keys grouped by procedure, stored transposed: shape (d, capacity), so that a column is a key.

    The keys of one procedure lie side by side. Keys are added at the end, in amortised constant time.
    """

    def __init__(self) -> None:
        self._matrix: FloatMatrix = np.empty((0, 0), dtype=np.float32)
        self._rows: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._ids: list[str] = []
        self._ages: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._starts: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._of_source: defaultdict[str, list[int]] = defaultdict(list)
        self._owners: list[Owner] = []

    @property
    def rows(self) -> NDArray[np.int64]:
        """The numbers of the keys held, in the order held."""
        return self._rows

    @property
    def last(self) -> int:
        """The highest number of a key held; 0 without any."""
        return int(self._rows[-1]) if len(self._rows) else 0

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop every key that is not in `mask`, shape (n,)."""
        if mask.all():  # copying the matrix takes longer than searching it a hundred times
            return
        count = int(mask.sum())
        self._matrix[:, :count] = self._matrix[:, : len(self._rows)][:, mask]
        self._rows = self._rows[mask]
        owners, self._owners = self._owners, []
        self._own([owner for owner, kept in zip(owners, mask, strict=True) if kept])

    def extend(self, rows: NDArray[np.int64], vectors: FloatMatrix, owners: Sequence[Owner]) -> None:
        """Add keys, shape (m, d), with whose each is."""
        held, total = len(self._rows), len(self._rows) + len(rows)
        if self._matrix.shape[1] < total or len(self._matrix) != vectors.shape[1]:  # or another space
            grown = np.empty((vectors.shape[1], max(total, 2 * held, 64)), dtype=np.float32)
            grown[:, :held] = self._matrix[:, :held] if held else 0
            self._matrix = grown
        self._matrix[:, held:total] = vectors.T
        self._rows = np.concatenate([self._rows, rows])
        self._own(owners)

    def _own(self, owners: Sequence[Owner]) -> None:
        """Note whose the keys are that were added last."""
        if not self._owners:
            self._ids, self._of_source = [], defaultdict(list)
            self._starts = self._ages = np.empty(0, dtype=np.int64)
        starts, ages = [], []
        for owner in owners:
            if not self._owners or self._owners[-1][0] != owner[0]:
                starts.append(len(self._owners))
                ages.append(owner[2])
                self._of_source[owner[1]].append(len(self._ids))
                self._ids.append(owner[0])
            self._owners.append(owner)
        self._starts = np.concatenate([self._starts, np.array(starts, dtype=np.int64)])
        self._ages = np.concatenate([self._ages, np.array(ages, dtype=np.int64)])

    def top(self, queries: FloatMatrix, k: int, exclude: Collection[str]) -> list[tuple[str, float]]:
        """Return at most `k` pairs (id, score in [-1, 1]), best first, ties by age.

        Raises:
            SpaceMismatch: if the queries have another number of columns than the keys.
        """
        if not self._ids:
            return []
        if queries.shape[1] != len(self._matrix):
            raise SpaceMismatch(
                f"the query has {queries.shape[1]} dimensions, the stored keys {len(self._matrix)}; "
                "re-embed the memory with `memp reembed`"
            )
        scores = np.round(self._scores(queries), DIGITS).clip(-1, 1)
        hidden = [position for source in set(exclude) for position in self._of_source.get(source, ())]
        scores[hidden] = -np.inf
        k = min(k, len(scores) - len(hidden))
        if k <= 0:
            return []
        worst = np.partition(scores, len(scores) - k)[len(scores) - k]
        near = np.flatnonzero(scores >= worst)
        ranked = near[np.lexsort((self._ages[near], -scores[near]))][:k]
        return [(self._ids[position], float(scores[position])) for position in ranked]

    def _scores(self, queries: FloatMatrix) -> NDArray[np.float64]:
        """Return the mean over the queries of each procedure's best key, shape (procedures,)."""
        keys = self._matrix[:, : len(self._rows)]
        columns = np.flatnonzero(queries.any(axis=0))
        sparse = len(columns) * DENSE < len(keys)
        cosines = queries[:, columns] @ keys[columns] if sparse else queries @ keys
        if len(self._starts) < len(self._rows):
            cosines = np.maximum.reduceat(cosines, self._starts, axis=1)
        scores: NDArray[np.float64] = cosines.mean(axis=0, dtype=np.float64)
        return scores
