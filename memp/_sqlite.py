"""What every SQLite file of ours shares, and the simplest of them: values by key, for caches."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

from memp.errors import StoreError

WAIT_S = 60.0
"""How long a writer waits for another process's transaction."""


def switch_to_wal(db: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; SQLite does not wait for other processes here, so this does."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class CacheFile:
    """Values by key in one file, for several threads and processes at once.

    A kill loses nothing that was written; a power cut may lose the last values, and nothing else.
    """

    def __init__(self, path: Path, table: str, *, what: str, way_out: str) -> None:
        """Open the file, or make it; `what` it is and the `way_out` stand in the errors.

        Raises:
            StoreError: if it cannot be opened or made, or is something else.
        """
        self._path = path
        self._table = table
        self._what = what
        self._way_out = way_out
        self._lock = Lock()
        try:
            self._db = sqlite3.connect(path, timeout=WAIT_S, check_same_thread=False)
        except sqlite3.Error as error:
            raise self.broken(error) from error
        try:
            switch_to_wal(self._db)
            self._db.execute("PRAGMA synchronous = NORMAL")
            with self._db:
                self._db.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, value BLOB NOT NULL)"
                )
        except sqlite3.Error as error:
            self._db.close()
            raise self.broken(error) from error

    def read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values there are.

        The value is the second column whatever it is called: older files of ours had another name for it.

        Raises:
            StoreError: if the file cannot be read.
        """
        found = {}
        try:
            with self._lock:
                for key in keys:
                    row = self._db.execute(
                        f"SELECT * FROM {self._table} WHERE key = ?",  # noqa: S608 - our own name
                        (key,),
                    ).fetchone()
                    if row is not None:
                        found[key] = row[1]
        except sqlite3.Error as error:
            raise self.broken(error) from error
        return found

    def write(self, values: Mapping[bytes, bytes]) -> None:
        """Keep values, in one short transaction.

        Raises:
            StoreError: if the file cannot be written.
        """
        try:
            with self._lock, self._db:
                self._db.executemany(
                    f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?)",  # noqa: S608 - our own name
                    values.items(),
                )
        except sqlite3.Error as error:
            raise self.broken(error) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def broken(self, why: object) -> StoreError:
        """Say what is wrong with the file, or with a value in it, and the way out."""
        return StoreError(f"the {self._what} {str(self._path)!r}: {why}; {self._way_out}")
