"""Whether memory helps on the user's own tasks: episodes it is left out of by chance, and what that made of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from statistics import NormalDist, fmean, variance

from pydantic import Field

from memp.trajectory import Record

CONFIDENCE = 0.95
"""Of every interval here."""

POWER = 0.8
"""How sure one wants to be that the interval will exclude 0, where the effect is what it seems."""

FEWEST = 5
"""Of fewer episodes no interval of a mean is given: their variance says next to nothing."""

_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_Z_POWER = NormalDist().inv_cdf(POWER)


class Trial(Record):
    """One episode that could have gone without memory: something was found for it, and chance decided."""

    episode_id: str
    source: str
    """The identity of its task."""

    held_out: bool
    """Whether memory was left out."""

    holdout: float = Field(gt=0, lt=1)
    """How likely that was."""

    begun: datetime
    reward: float | None = None
    """None where the episode was not finished, or not yet."""

    success: bool | None = None
    steps: int | None = None


class Side(Record):
    """The finished episodes with memory, or those without."""

    episodes: int
    unfinished: int
    successes: int
    success: float | None
    """The share of successes; None where there is no episode."""

    steps: float | None
    """The mean."""


class Difference(Record):
    """What memory changed: with it, less without it."""

    mean: float
    low: float
    high: float
    """The ends of the 95 % interval."""

    @property
    def shown(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


class Effect(Record):
    """What memory did on the user's own tasks, as far as chance decided who had it."""

    holdout: float
    """The share of episodes that went without. Where several were used: the one with the most episodes."""

    others: int
    """Episodes with another share, which are not counted here: what they were is another time and other tasks."""

    with_memory: Side
    without: Side

    success: Difference | None
    """Of the shares of successes. Newcombe's interval; None before each side has a finished episode."""

    steps: Difference | None
    """Of the steps. Welch's interval; None before each side has five finished episodes, and where none differ."""

    needed: int | None
    """How many more episodes it takes until the interval of success excludes 0 with 80 % probability, where the
    effect is what it seems; 0 where it does so now, None where nothing can be said: no difference, or no data."""


def effect(trials: Sequence[Trial]) -> Effect | None:
    """Compare the episodes with memory to those without; None where there are none of either."""
    if not trials:
        return None
    (holdout, _), *_ = Counter(trial.holdout for trial in trials).most_common(1)
    counted = [trial for trial in trials if trial.holdout == holdout]
    treated = [trial for trial in counted if not trial.held_out]
    control = [trial for trial in counted if trial.held_out]
    with_memory, without = _side(treated), _side(control)
    success = _newcombe(with_memory, without)
    return Effect(
        holdout=holdout,
        others=len(trials) - len(counted),
        with_memory=with_memory,
        without=without,
        success=success,
        steps=_welch(_steps(treated), _steps(control)),
        needed=_needed(with_memory, without, success, holdout),
    )


def _side(trials: Sequence[Trial]) -> Side:
    finished = [trial for trial in trials if trial.success is not None]
    successes = sum(bool(trial.success) for trial in finished)
    steps = _steps(trials)
    return Side(
        episodes=len(finished),
        unfinished=len(trials) - len(finished),
        successes=successes,
        success=successes / len(finished) if finished else None,
        steps=fmean(steps) if steps else None,
    )


def _steps(trials: Sequence[Trial]) -> list[int]:
    return [trial.steps for trial in trials if trial.steps is not None]


def _wilson(successes: int, n: int) -> tuple[float, float]:
    """The interval of one share. Source: Wilson 1927."""
    share, spread = successes / n, _Z * math.sqrt(successes * (n - successes) / n + _Z**2 / 4)
    middle = share * n + _Z**2 / 2
    return (middle - spread) / (n + _Z**2), (middle + spread) / (n + _Z**2)


def _newcombe(one: Side, other: Side) -> Difference | None:
    """The difference of two shares. Source: Newcombe 1998, method 10."""
    if one.success is None or other.success is None:
        return None
    low, high = _wilson(one.successes, one.episodes)
    other_low, other_high = _wilson(other.successes, other.episodes)
    mean = one.success - other.success
    return Difference(
        mean=mean,
        low=mean - math.hypot(one.success - low, other_high - other.success),
        high=mean + math.hypot(high - one.success, other.success - other_low),
    )


def _welch(one: Sequence[int], other: Sequence[int]) -> Difference | None:
    """The difference of two means, of variances that may differ. Source: Welch 1947."""
    if min(len(one), len(other)) < FEWEST:
        return None
    mean = fmean(one) - fmean(other)
    parts = [(variance(side) / len(side), len(side) - 1) for side in (one, other)]
    total = sum(part for part, _ in parts)
    if not total:  # all alike: how much they vary cannot be told from them
        return None
    freedom = total**2 / sum(part**2 / degrees for part, degrees in parts)
    half = _student(freedom) * math.sqrt(total)
    return Difference(mean=mean, low=mean - half, high=mean + half)


def _student(freedom: float) -> float:
    """The 97.5 % quantile of Student's t. Source: Abramowitz and Stegun 1964, 26.7.5, three terms."""
    z = _Z
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def _needed(one: Side, other: Side, success: Difference | None, holdout: float) -> int | None:
    """How many more episodes make a difference like this one visible."""
    if success is None or not success.mean:
        return None
    if success.shown:
        return 0
    # Smoothed shares: two that are 0 and 1 after three episodes have no variance to go by.
    p, q = ((side.successes + 1) / (side.episodes + 2) for side in (one, other))
    spread = p * (1 - p) / (1 - holdout) + q * (1 - q) / holdout
    total = (_Z + _Z_POWER) ** 2 * spread / success.mean**2
    return max(1, math.ceil(total) - one.episodes - other.episodes)
