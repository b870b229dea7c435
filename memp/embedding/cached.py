"""An embedder that remembers: each text is embedded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np

from memp._sqlite import CacheFile
from memp.embedding.base import Embedder, FloatMatrix, FloatVector, Role, checked
from memp.errors import InputError

LIMIT = 20_000
"""Most vectors kept in memory: 160 MB at 2048 numbers each."""


class CachedEmbedder:
    """Asks `inner` only for texts it was never asked before. Safe to call from several threads."""

    def __init__(self, inner: Embedder, path: str | Path | None = None, *, limit: int = LIMIT) -> None:
        """Remember in memory, the `limit` vectors used last; or all of them in one SQLite file at `path`.

        One file may serve several embedders, and several processes. It holds no text, only hashes.

        Raises:
            InputError: if `limit` is below 1.
            StoreError: if there is no such file and it cannot be made, or it is no cache.
        """
        if limit < 1:
            raise InputError(f"{limit=} must be at least 1")
        self._inner = inner
        self._cache: _Cache = _InMemory(limit) if path is None else _InFile(Path(path))

    @property
    def name(self) -> str:
        """The name of `inner`: a remembered vector lies in the same space."""
        return self._inner.name

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
        """Return one unit row per text, in order, as `inner` does; what it was never asked goes in one call.

        Raises:
            ModelError: if `inner` failed; nothing of that call is remembered.
            StoreError: if the file cannot be read or written.
        """
        if not texts:
            return self._inner.embed(texts, role)
        keys = [self._key(text, role) for text in texts]
        known = self._cache.read(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            rows = checked(self._inner.embed(list(missing.values()), role), len(missing), self.name)
            fresh = dict(zip(missing, rows, strict=True))
            self._cache.write(fresh)
            known |= fresh
        # Rows of several lengths would mean that `inner` changed under its name.
        return checked([known[key] for key in keys], len(texts), self.name)

    def close(self) -> None:
        """Close the file; the inner embedder is its owner's to close."""
        self._cache.close()

    def _key(self, text: str, role: Role) -> bytes:
        whole = "\0".join((self.name, role, text))
        return blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class _Cache(Protocol):
    def read(self, keys: Sequence[bytes]) -> dict[bytes, FloatVector]: ...

    def write(self, vectors: Mapping[bytes, FloatVector]) -> None: ...

    def close(self) -> None: ...


class _InMemory:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._vectors: OrderedDict[bytes, FloatVector] = OrderedDict()  # used last, last
        self._lock = Lock()

    def read(self, keys: Sequence[bytes]) -> dict[bytes, FloatVector]:
        with self._lock:
            known = {key: self._vectors[key] for key in keys if key in self._vectors}
            for key in known:
                self._vectors.move_to_end(key)
        return known

    def write(self, vectors: Mapping[bytes, FloatVector]) -> None:
        with self._lock:
            # Copied: a row is a view that would keep its whole matrix alive.
            self._vectors.update((key, vector.copy()) for key, vector in vectors.items())
            while len(self._vectors) > self._limit:
                self._vectors.popitem(last=False)

    def close(self) -> None:
        """Nothing is open."""


class _InFile:
    def __init__(self, path: Path) -> None:
        self._file = CacheFile(
            path, "vectors", what="embedding cache", way_out="delete the file to start afresh"
        )

    def read(self, keys: Sequence[bytes]) -> dict[bytes, FloatVector]:
        try:
            return {key: np.frombuffer(value, dtype="<f4") for key, value in self._file.read(keys).items()}
        except (ValueError, TypeError) as error:
            raise self._file.broken(error) from error

    def write(self, vectors: Mapping[bytes, FloatVector]) -> None:
        self._file.write({key: vector.astype("<f4").tobytes() for key, vector in vectors.items()})

    def close(self) -> None:
        self._file.close()
