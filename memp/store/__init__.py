"""Where procedures live: the seam, its backends, and how one is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memp.errors import InputError
from memp.store.base import Counts, ProcedureStore, Quarantined
from memp.store.sqlite import SQLiteStore

__all__ = ["Counts", "ProcedureStore", "Quarantined", "SQLiteStore", "holding_store", "open_store"]


def open_store(target: str | Path | ProcedureStore, *, create: bool = True) -> ProcedureStore:
    """Open the store that `target` names: a path, `:memory:`, or a store as it is.

    Raises:
        StoreError: if it cannot be opened.
        InputError: if `target` names no store.
    """
    if isinstance(target, ProcedureStore):
        return target
    if "://" in str(target):
        raise InputError(f"{str(target)!r} is no store this version knows; give the path of a file")
    if not str(target).strip():
        raise InputError("the path of the memory is empty; give the path of a file, or ':memory:'")
    return SQLiteStore(target, create=create)


@contextmanager
def holding_store(target: str | Path | ProcedureStore, *, create: bool = True) -> Iterator[ProcedureStore]:
    """Hold a store for as long as it is needed; one that was given stays open. Raises as `open_store`."""
    store = open_store(target, create=create)
    try:
        yield store
    finally:
        if store is not target:
            store.close()
