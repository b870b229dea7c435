"""The seam to embedding models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memp.errors import ModelError

FloatMatrix: TypeAlias = NDArray[np.float32]
"""One vector a row, shape (n, d)."""

FloatVector: TypeAlias = NDArray[np.float32]
"""One vector, shape (d,)."""

Role: TypeAlias = Literal["query", "key"]
"""What a text is embedded for: to ask with, or to be found by."""

TOLERANCE = 1e-3
"""How far from 1 the length of a unit row may be: half-precision models round that much."""


class Embedder(Protocol):
    """Turns text into unit vectors. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """`provider:model`; stored with every vector so that spaces never mix."""
        ...

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
        """Return one unit row per text, in order: float32, shape (len(texts), d).

        Without texts the shape is (0, d), or (0, 0) where d is not known before the first text.

        Raises:
            ModelError: if the backend fails, after its own retries.
        """
        ...


def unit(rows: ArrayLike) -> FloatMatrix:
    """Scale rows of numbers, shape (n, d), to unit length.

    Raises:
        ValueError: if a row has no direction: it is zero, or not finite.
    """
    wide = np.asarray(rows, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise ValueError("a vector that is zero or not finite")
    scaled: FloatMatrix = (wide / norms).astype(np.float32)
    return scaled


def checked(vectors: ArrayLike, n: int, name: str) -> FloatMatrix:
    """Return what an embedder answered, if it kept the contract.

    Args:
        vectors: The answer, of any embedder.
        n: How many texts it was given.
        name: The embedder's, for the message.

    Raises:
        ModelError: unless there is one row per text, finite and of unit length.
    """
    try:
        matrix = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name} returned no matrix of numbers: {error}") from error
    if matrix.ndim != 2 or len(matrix) != n:
        raise ModelError(f"{name} returned vectors of shape {matrix.shape} for {n} texts")
    # Written so that a length of NaN fails too.
    if not (abs(np.linalg.norm(matrix.astype(np.float64), axis=1) - 1) <= TOLERANCE).all():
        raise ModelError(f"{name} returned a vector that is not finite or not of unit length")
    return matrix
