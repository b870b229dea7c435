"""Means with bootstrap intervals, resampling tasks: repeats of one task are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000

LEVEL = 0.95


class Estimate(NamedTuple):
    """A mean with its interval."""

    mean: float
    low: float
    high: float
    n: int
    """How many episodes."""


def bootstrap(values: ArrayLike, clusters: Sequence[str], *, seed: int = 0) -> Estimate:
    """Estimate a mean over episodes, with a percentile interval from resampling clusters.

    Args:
        values: One per episode, shape (n,), n at least 1.
        clusters: The task of each episode; tasks are drawn, with all their episodes.
        seed: Decides the resampling.

    Source:
        Efron and Tibshirani 1993, chapter 13; cluster bootstrap: Field and Welsh 2007.
    """
    data = np.asarray(values, dtype=np.float64)
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    origin = data[0]  # differences to it are exactly 0 for constant data, so that their interval has no width
    sums = np.bincount(member, weights=data - origin)
    sizes = np.bincount(member)
    drawn = _drawn(len(names), seed)
    means = (drawn @ sums) / (drawn @ sizes)
    low, high = origin + np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    mean = origin + (data - origin).mean()
    return Estimate(float(mean), float(min(low, mean)), float(max(high, mean)), len(data))


def share(hits: ArrayLike, clusters: Sequence[str], *, seed: int = 0) -> Estimate:
    """Estimate how often something happens, from whether it did in each episode.

    As `bootstrap`; but where it always or never happened, resampling sees nothing else, and its interval would have
    no width: it is the exact one of as many independent tasks as there are.

    Source:
        Clopper and Pearson 1934.
    """
    found = bootstrap(hits, clusters, seed=seed)
    width = 1 - ((1 - LEVEL) / 2) ** (1 / len(set(clusters)))
    if found.mean == 0:
        return found._replace(high=width)
    if found.mean == 1:
        return found._replace(low=1 - width)
    return found


@lru_cache(maxsize=2)
def _drawn(count: int, seed: int) -> NDArray[np.float64]:
    """How often each of `count` clusters is in each resample, shape (RESAMPLES, count); most metrics share it."""
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    places = drawn + count * np.arange(RESAMPLES)[:, None]
    return np.bincount(places.ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count).astype(float)
