"""Embeddings of the contexts of skills: made of where things are, not of words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import ClassVar, Self

import numpy as np

from memp.embedding.base import FloatMatrix, FloatVector, Role, unit
from memp.errors import InputError, ModelError
from memp.situation import Context, written

REACH = 32
"""Distances beyond so many cells are not told apart."""

WIDTH = 0.6
"""Of the bump that stands for a distance, in cells: contexts one cell apart have a cosine of 0.87."""

SIGNS = 64
"""Numbers in each of the blocks that flags and things are hashed to."""

DIMS = 2 * (2 * REACH + 1) + 2 * SIGNS


class SkillEmbedder:
    """Contexts lie close where their flags and their thing are the same and the agent is near the same place.

    A vector has four blocks of the same length: distance across and distance up, each a bump on a line; the
    thing; the flags. The last two are signs that a hash decides: the same in every
    process.
    """

    name: ClassVar[str] = "skill:context-v1"

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the embedder of that name: `skill`, or the one in full, as a memory stores it.

        Raises:
            InputError: if it is of another version.
        """
        if name not in ("skill", cls.name):
            raise InputError(f"no embedder is called {name!r}; this version has {cls.name!r}")
        return cls()

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:  # noqa: ARG002
        """Return a unit row for each text that is, or ends in, a context; shape (n, 258).

        Raises:
            ModelError: if a text is no such thing.
        """
        try:
            rows = [vector(Context.parse(text)) for text in texts]
        except InputError as error:
            raise ModelError(str(error)) from error
        return np.stack(rows) if rows else np.empty((0, DIMS), np.float32)


@lru_cache(maxsize=65_536)
def vector(context: Context) -> FloatVector:
    """The unit vector of a context, shape (258,)."""
    places, names = (context.dx, context.dy), (context.thing, written(context.flags))
    blocks = [*map(_bump, places), *map(_direction, names)]
    row: FloatVector = unit(np.hstack(blocks))[0]
    return row


def _bump(distance: int) -> FloatMatrix:
    """A distance as a unit row: a smoothed one-hot."""
    cells = np.arange(-REACH, REACH + 1)
    away = cells - np.clip(distance, -REACH, REACH)
    return unit([np.exp(-0.5 * (away / WIDTH) ** 2)])


def _direction(text: str) -> FloatMatrix:
    """A text as a unit row: the signs that its hash decides."""
    bits = np.unpackbits(np.frombuffer(blake2b(text.encode(), digest_size=SIGNS // 8).digest(), np.uint8))
    return unit([2.0 * bits - 1])
