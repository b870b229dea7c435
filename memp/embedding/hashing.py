"""Embeddings without a model: hashed character n-grams. No key, no download, the same everywhere."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from math import sqrt
from typing import Self

import numpy as np
from numpy.typing import NDArray

from memp.embedding.base import FloatMatrix, Role
from memp.errors import InputError
from memp.keywords import FUNCTION_WORDS, LETTER

VERSION = 1  # raised with every change that moves a vector, also of FUNCTION_WORDS; part of the name

SIZES = (3, 4, 5)
"""Lengths of the n-grams, in characters, with the marks at the ends of a word."""

CONTENT_WEIGHT, FUNCTION_WEIGHT = 64, 16
"""Function words count a quarter: without that, a shared 'and put it in' hides the object (measured by
`evals.alfworld_retrieval`). Not zero, so that texts of nothing else differ too."""

TOKEN = re.compile(rf"{LETTER}{{1,64}}|[^\w\s.,:;!?'\"()]{{1,64}}")
"""A word, or a run of signs that mean something; longer ones are cut, so that none fills the cache."""

NAME = re.compile(r"hash(?::char\d-\d-(\d{1,6})-v\d+)?")


class HashEmbedder:
    """Texts that share words, or parts of words, lie close: 'cup' and 'cups', but not 'cup' and 'mug'.

    Each character n-gram of each word adds to or takes from one of `dims` numbers; a hash says which.

    Source:
        Feature hashing (Weinberger et al. 2009, arXiv:0902.2206) of the subwords of fastText
        (Bojanowski et al. 2017, arXiv:1607.04606), without any training.
    """

    def __init__(self, dims: int = 2048) -> None:
        """Raise `InputError` if `dims` is below 1; below some hundreds, unlike texts grow alike."""
        if dims < 1:
            raise InputError(f"{dims=} must be at least 1")
        self.dims = dims

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the embedder of that name: `hash`, or one in full, as a memory stores it.

        Raises:
            InputError: if no embedder of this version has that name.
        """
        match = NAME.fullmatch(name)
        made = cls(int(match[1])) if match and match[1] else cls()
        if match is None or name not in ("hash", made.name):
            raise InputError(
                f"unknown embedder {name!r}; this version of memp has 'hash', that is {cls().name!r}"
            )
        return made

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
        words = TOKEN.findall(folded) or folded.split()  # a text of commas alone is a text, too
        sums = np.zeros(2 * self.dims)
        for word in words:
            places, weight = _grams(word, self.dims)
            np.add.at(sums, places, weight)
        row = sums[: self.dims] - sums[self.dims :]
        if not row.any():  # blank, or all of it cancelled: the text as a whole is what is left
            row[_places([" ".join(words)], self.dims) % self.dims] = 1
        # All sums are whole numbers, so that every machine computes exactly the same row.
        unit: NDArray[np.float64] = row / np.sqrt(row @ row)
        return unit


@lru_cache(maxsize=50_000)
def _grams(word: str, dims: int) -> tuple[NDArray[np.int64], int]:
    """Return the places of a word's n-grams, and what each of them weighs."""
    marked = f" {word} "  # no word holds a space, so that ends are never taken for middles
    grams = [marked[start : start + n] for n in SIZES for start in range(len(marked) - n + 1)]
    # A word of n grams has length sqrt(n); divided by n^(1/4), long words weigh more, but not much more.
    weight = FUNCTION_WEIGHT if word in FUNCTION_WORDS else CONTENT_WEIGHT
    return _places(grams, dims), round(weight / sqrt(sqrt(len(grams))))


def _places(features: Sequence[str], dims: int) -> NDArray[np.int64]:
    """Return where each feature counts: in [0, dims) as a plus, in [dims, 2 * dims) as a minus."""
    digests = [
        blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest() for feature in features
    ]
    return (np.frombuffer(b"".join(digests), dtype="<u8") % (2 * dims)).astype(np.int64)
