"""Whether a difference could be luck: a test that flips whole tasks, corrected for how many arms are tested."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FLIPS = 10_000
"""How many ways to flip are looked at; where there are no more, all of them."""

ALPHA = 0.05
"""What a p has to be below for its difference to count as shown."""

TIE = 1e-9
"""What two sums may differ by and be taken for equal, as a share of all that was summed."""


def sign_flip(gains: ArrayLike, clusters: Sequence[str], *, seed: int = 0) -> float:
    """Return the two-sided p of differences to a baseline, if luck alone gave them their signs.

    All differences of a task are flipped together, so repeats of a task count as one piece of evidence.
    `scipy.stats.permutation_test` gives the same on the sums of the tasks, at twenty times the time.

    Args:
        gains: One per pair of episodes, shape (n,), n at least 1.
        clusters: The task of each pair.
        seed: Decides the flips, where not all of them are looked at.

    Returns:
        In (0, 1]: the flips that change nothing are among those counted.

    Source:
        Fisher 1935, chapter 3; random flips: Phipson and Smyth 2010.
    """
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(member, weights=np.asarray(gains, dtype=np.float64))
    sums = sums[sums != 0]  # to flip nothing changes nothing
    least = abs(sums.sum()) - TIE * np.abs(sums).sum()
    if 2 ** len(sums) <= FLIPS:
        return float(np.mean(np.abs(_all_signs(len(sums)) @ sums) >= least))
    signs = 2 * np.random.default_rng(seed).integers(2, size=(FLIPS, len(sums)), dtype=np.int8) - 1
    return float((1 + np.count_nonzero(np.abs(signs @ sums) >= least)) / (1 + FLIPS))


def holm(ps: Sequence[float]) -> list[float]:
    """Correct the ps of several comparisons, so that they all together find something in luck 1 time in 20.

    Source:
        Holm 1979.
    """
    raw = np.asarray(ps, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    corrected = np.empty_like(raw)
    corrected[order] = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    return [float(p) for p in np.minimum(corrected, 1.0)]


def _all_signs(count: int) -> NDArray[np.int64]:
    """Every way to flip `count` things, shape (2 ** count, count)."""
    return 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
