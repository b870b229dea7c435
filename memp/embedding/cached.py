"""An embedder that remembers: each text is embedded once."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np

from memp.embedding.base import Embedder, FloatMatrix, FloatVector, Role, checked
from memp.errors import InputError, StoreError

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
        self._path = path
        self._lock = Lock()
        try:
            self._connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._broken(error) from error
        try:
            with self._connection:
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"
                )
        except sqlite3.Error as error:
            self._connection.close()
            raise self._broken(error) from error

    def read(self, keys: Sequence[bytes]) -> dict[bytes, FloatVector]:
        found = {}
        try:
            with self._lock:
                for key in keys:
                    row = self._connection.execute(
                        "SELECT vector FROM vectors WHERE key = ?", (key,)
                    ).fetchone()
                    if row is not None:
                        found[key] = np.frombuffer(row[0], dtype="<f4")
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise self._broken(error) from error
        return found

    def write(self, vectors: Mapping[bytes, FloatVector]) -> None:
        rows = [(key, vector.astype("<f4").tobytes()) for key, vector in vectors.items()]
        try:
            with self._lock, self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _broken(self, error: Exception) -> StoreError:
        return StoreError(
            f"the embedding cache {str(self._path)!r}: {error}; delete the file to start afresh"
        )
