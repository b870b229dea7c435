"""Embeddings without a model: hashed character n-grams. No key, no download, the same everywhere."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from memp.embedding.base import FloatMatrix, Role
from memp.errors import InputError

VERSION = 1  # raised with every change that moves a vector; part of the name

SIZES = (3, 4, 5)
"""Lengths of the n-grams, in characters, with the marks at the ends of a word."""

TOKEN = re.compile(r"\w{1,64}|[^\w\s.,:;!?'\"()]{1,64}")
"""A word, or a run of signs that mean something; longer runs are cut, so that none fills the cache."""


class HashEmbedder:
    """Texts that share parts of words lie close: 'cup' and 'cups', but not 'cup' and 'mug'.

    Each character n-gram of each word adds 1 or -1 to one of `dims` numbers; a hash says which.

    Source:
        Feature hashing (Weinberger et al. 2009, arXiv:0902.2206) of subword n-grams as in
        fastText (Bojanowski et al. 2017, arXiv:1607.04606), without any training.
    """

    def __init__(self, dims: int = 2048) -> None:
        """Raise `InputError` if `dims` is below 1; below some hundreds, unlike texts grow alike."""
        if dims < 1:
            raise InputError(f"{dims=} must be at least 1")
        self.dims = dims

    @property
    def name(self) -> str:
        """`hash:char3-5-<dims>-v<version>`; stored with every vector so that spaces never mix."""
        return f"hash:char{SIZES[0]}-{SIZES[-1]}-{self.dims}-v{VERSION}"

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:  # noqa: ARG002  both alike
        """Return one unit row per text, in order: float32, shape (len(texts), dims).

        A blank text has a row too, the same for every blank text.
        """
        rows = np.zeros((len(texts), self.dims), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = self._row(text)
        return rows

    def _row(self, text: str) -> NDArray[np.float64]:
        folded = unicodedata.normalize("NFKC", text).lower()
        # A text of commas alone has no tokens, yet is a text.
        words = TOKEN.findall(folded) or folded.split()
        parts = [_grams(word, self.dims) for word in words]
        row = _counts(np.concatenate(parts), self.dims) if parts else np.zeros(self.dims)
        if not row.any():  # blank, or all n-grams cancelled: the text as a whole is what is left
            row = _counts(_places([" ".join(words)], self.dims), self.dims)
        # Counts are whole numbers, so that every machine computes exactly the same row.
        unit: NDArray[np.float64] = row / np.sqrt(row @ row)
        return unit


@lru_cache(maxsize=50_000)
def _grams(word: str, dims: int) -> NDArray[np.int64]:
    marked = f" {word} "  # no word holds a space, so that ends are never taken for middles
    return _places([marked[i : i + n] for n in SIZES for i in range(len(marked) - n + 1)], dims)


def _places(features: Sequence[str], dims: int) -> NDArray[np.int64]:
    """Return where each feature counts: a place in [0, dims), or in [dims, 2 * dims) to count as -1."""
    hashes = [blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8) for feature in features]
    return np.array([int.from_bytes(h.digest(), "little") % (2 * dims) for h in hashes], dtype=np.int64)


def _counts(places: NDArray[np.int64], dims: int) -> NDArray[np.float64]:
    plus_and_minus = np.bincount(places, minlength=2 * dims).astype(np.float64)
    counts: NDArray[np.float64] = plus_and_minus[:dims] - plus_and_minus[dims:]
    return counts
