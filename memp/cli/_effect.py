"""What memory changed, in words."""

from __future__ import annotations

from collections.abc import Iterator

from memp.trial import Difference, Effect, Side


def told(effect: Effect) -> Iterator[str]:
    """Say it line by line: both sides, the differences with their intervals, and what it takes to be sure."""
    yield f"Episodes that chance decided on, {effect.holdout:.0%} of them without memory:"
    yield _side("with memory", effect.with_memory)
    yield _side("without", effect.without)
    if effect.success is not None:
        yield f"  success      {_difference(effect.success, 100, ' points')}"
    if effect.steps is not None:
        yield f"  steps        {_difference(effect.steps, 1, '')}"
    yield f"  {_verdict(effect)}"
    if effect.others:
        yield f"  {effect.others} episodes with another share are not counted"


def _side(name: str, side: Side) -> str:
    if side.success is None or side.steps is None:
        return f"  {name:12} no finished episode yet, {side.unfinished} unfinished"
    shares = f"{side.successes} of {side.episodes} succeeded ({side.success:.1%})"
    return f"  {name:12} {shares}, {side.steps:.1f} steps, {side.unfinished} unfinished"


def _difference(found: Difference, scale: float, unit: str) -> str:
    mean, low, high = (scale * value for value in (found.mean, found.low, found.high))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]{unit}"


def _verdict(effect: Effect) -> str:
    if effect.success is None:
        return "Nothing can be said before both sides have a finished episode."
    if effect.needed is None:
        return "There is no difference in success so far."
    if effect.needed:
        return (
            f"Not sure yet: some {effect.needed:,} more episodes would show a difference like this one "
            "(with 80 % probability)."
        )
    return (
        f"Memory {'helps' if effect.success.mean > 0 else 'harms'}: the 95 % interval of success excludes 0."
    )
