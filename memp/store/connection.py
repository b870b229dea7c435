"""Opening the SQLite file of a memory, and saying what SQLite's errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memp._sqlite import WAIT_S, switch_to_wal
from memp.errors import StoreError
from memp.store.migrations import APPLICATION_ID, MIGRATIONS

WAYS_OUT = {
    "full": "the disk is full; nothing of this change was written: free space and try again",
    "readonly": "the file or its folder cannot be written; check its permissions",
    "unable to open": "the file cannot be opened; check the path and its permissions",
    "locked": f"another process held the memory for {WAIT_S:g} s; try again",
    "not a database": "this is not a memory of memp; give another path",
    "malformed": "the file is damaged; restore it from a copy",
    "disk I/O error": "the disk could not be read or written; nothing of this change was written",
}
"""What to do, by a part of what SQLite says."""


def connect(path: str, *, create: bool) -> sqlite3.Connection:
    """Open a memory for every thread, with write-ahead log and full sync, its schema up to date.

    Raises:
        StoreError: if it is no memory, is of a newer version, cannot be read or written, or is missing
            while `create` is False.
    """
    if path != ":memory:":
        _check_path(path, create=create)
    with translated(path):
        db = sqlite3.connect(path, isolation_level=None, timeout=WAIT_S, check_same_thread=False)
        try:
            _prepare(db, path)
        except BaseException:
            db.close()
            raise
    return db


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn SQLite's errors into `StoreError`, with the way out."""
    try:
        yield
    except sqlite3.Error as error:
        words = str(error)
        way_out = next((way_out for part, way_out in WAYS_OUT.items() if part in words), None)
        raise StoreError(f"{path}: {words if way_out is None else f'{way_out} ({words})'}") from error


def _check_path(path: str, *, create: bool) -> None:
    if "\0" in path:
        raise StoreError(f"{path!r} cannot be opened: no file has a NUL in its name")
    file = Path(path)
    try:
        if file.is_dir():
            raise StoreError(f"{path} is a folder; give the path of a file")
        if not file.exists():
            if not create:
                raise StoreError(f"there is no memory at {path}; `memp build` makes one")
            if not file.parent.is_dir():
                raise StoreError(f"the folder {file.parent} does not exist; create it first")
    except OSError as error:  # a name too long, a folder that is closed to us
        raise StoreError(f"{path!r} cannot be opened: {error}") from error


def _prepare(db: sqlite3.Connection, path: str) -> None:
    """Check that the file is a memory, and bring its schema up to date."""
    version = _version(db, path)
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer memp (schema {version}, this one knows {len(MIGRATIONS)}); "
            "upgrade memp to open it"
        )
    if db.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
        switch_to_wal(db)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    if version < len(MIGRATIONS):
        _migrate(db, path)


def _migrate(db: sqlite3.Connection, path: str) -> None:
    """Take the steps that are missing, all or none; another process may have taken them meanwhile."""
    db.execute("BEGIN IMMEDIATE")
    try:
        taken = _version(db, path)
        for number, migration in enumerate(MIGRATIONS[taken:], taken + 1):
            for statement in filter(str.strip, migration.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection, path: str) -> int:
    # In this order: another process may be making the memory between these lines.
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise StoreError(f"{path} is an SQLite file, but not a memory of memp; give another path")
    return int(db.execute("PRAGMA user_version").fetchone()[0])
