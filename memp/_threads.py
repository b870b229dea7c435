"""Calls that wait, made side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(function: Callable[[T], R], items: Sequence[T], concurrency: int) -> list[tuple[T, R]]:
    """Return every item with what `function` makes of it, in order, `concurrency` of them made at once.

    The first error is raised, once the calls under way have ended.
    """
    if concurrency == 1 or len(items) < 2:
        return [(item, function(item)) for item in items]
    with ThreadPoolExecutor(min(concurrency, len(items))) as pool:
        return list(zip(items, pool.map(function, items), strict=True))
