"""Masses of slots, from which slots are drawn in proportion: a flat array, and a sum tree for large buffers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from memp.errors import InputError

FloatVector = NDArray[np.float64]
IntVector = NDArray[np.int64]

FLAT_BELOW = 15_000
"""Below which capacity the flat array is faster than the tree, as measured for batches of 32."""

FAN = 32
"""How many children a node of the tree has: numpy sums 32 numbers in about the time of 2, so that few levels win."""


class Masses(ABC):
    """One finite, non-negative mass for each slot; slots without one have 0, and are never found."""

    def put(self, slots: IntVector, masses: FloatVector) -> None:
        """Set masses of some slots; of a slot given twice the last one counts.

        Args:
            slots: Shape (n,).
            masses: Shape (n,).

        Raises:
            InputError: if a mass is negative, infinite or NaN; nothing is set then.
        """
        wrong = ~((masses >= 0) & np.isfinite(masses))
        if wrong.any():
            raise InputError(
                f"slot {slots[wrong][0]} cannot have the mass {float(masses[wrong][0])!r}: "
                "it has to be finite, and 0 or more"
            )
        self._put(slots, masses)

    @abstractmethod
    def at(self, slots: IntVector) -> FloatVector:
        """Return the masses of some slots, shape (n,)."""

    @abstractmethod
    def find(self, shares: FloatVector) -> IntVector:
        """Return the slots that lie at shares of the total mass, the masses laid end to end.

        Uniform shares give each slot in proportion to its mass. Every implementation finds the same slots, but
        for a share that lies on a border within the rounding of a sum.

        Args:
            shares: In [0, 1), shape (n,).

        Returns:
            Shape (n,); each has a mass above 0.

        Raises:
            InputError: if no slot has a mass.
        """

    @abstractmethod
    def _put(self, slots: IntVector, masses: FloatVector) -> None: ...


class FlatMasses(Masses):
    """An array, summed up anew for each draw: O(1) to put, O(capacity) to find."""

    def __init__(self, capacity: int) -> None:
        """Begin with nothing in any of the slots `0 ... capacity - 1`."""
        self._masses = np.zeros(capacity)

    def at(self, slots: IntVector) -> FloatVector:
        """Return the masses of some slots, shape (n,)."""
        return self._masses[slots]

    def find(self, shares: FloatVector) -> IntVector:
        """Return the slots that lie at shares of the total mass, shape (n,)."""
        ends = self._masses.cumsum()
        return ends.searchsorted(_points(shares, ends[-1]), side="right").astype(np.int64)

    def _put(self, slots: IntVector, masses: FloatVector) -> None:
        self._masses[slots] = masses


class SumTree(Masses):
    """A tree whose nodes hold the sums of their children: O(log capacity) to put and to find.

    The sums of touched nodes are taken anew, never moved by a difference, so that no rounding piles up.

    Source:
        Schaul et al. 2016 (arXiv:1511.05952), appendix B.2.1, there with 2 children to a node.
    """

    def __init__(self, capacity: int) -> None:
        """Begin with nothing in any of the slots `0 ... capacity - 1`."""
        self._levels = [np.zeros((-(-capacity // FAN), FAN))]
        while len(self._levels[-1]) > 1:
            self._levels.append(np.zeros((-(-len(self._levels[-1]) // FAN), FAN)))

    def at(self, slots: IntVector) -> FloatVector:
        """Return the masses of some slots, shape (n,)."""
        return self._levels[0].ravel()[slots]

    def find(self, shares: FloatVector) -> IntVector:
        """Return the slots that lie at shares of the total mass, shape (n,)."""
        points = _points(shares, self._levels[-1].sum())
        found = np.zeros(len(points), np.int64)
        each = np.arange(len(points))
        for level in reversed(self._levels):
            ends = level[found].cumsum(axis=1)  # shape (n, FAN)
            points = _below(points, ends[:, -1])
            child = (ends <= points[:, None]).sum(axis=1)
            points = points - np.where(child > 0, ends[each, child - 1], 0.0)
            found = found * FAN + child
        return found

    def _put(self, slots: IntVector, masses: FloatVector) -> None:
        self._levels[0].ravel()[slots] = masses
        for lower, upper in pairwise(self._levels):
            slots = slots // FAN if len(slots) < len(lower) else np.arange(len(lower))
            upper.ravel()[slots] = lower[slots].sum(axis=1)


def masses(capacity: int) -> Masses:
    """Return the faster implementation for so many slots."""
    return FlatMasses(capacity) if capacity < FLAT_BELOW else SumTree(capacity)


def _points(shares: FloatVector, total: float) -> FloatVector:
    """Turn shares of a total into points below it; raise `InputError` if it is 0."""
    if total == 0:
        raise InputError("no slot has a mass, so none can be drawn; put one first")
    return _below(shares * total, total)


def _below(points: FloatVector, end: FloatVector | float) -> FloatVector:
    """Keep points below an end that rounding may have put them on: behind it lies no slot with a mass."""
    return np.minimum(points, np.nextafter(end, 0.0))
