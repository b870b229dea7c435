"""The default store: one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from memp.embedding.base import FloatMatrix
from memp.errors import NotFound, SpaceMismatch, StoreError
from memp.procedure import MOST_USES, Match, Procedure, Revision, Tombstone, Usage
from memp.store.base import Counts, ProcedureStore, Quarantined
from memp.store.connection import connect, translated
from memp.store.index import KeyIndex
from memp.trial import Trial

PAGE = 256
"""How many procedures are read at a time where all of them are gone through."""


class SQLiteStore(ProcedureStore):
    """Procedures in one file (or in memory), safe with several threads and processes.

    Write-ahead log with full sync: a committed update survives a crash of the process or the machine.
    Vectors are float32 blobs; they are ranked exactly, in numpy, from a copy in memory that follows what
    this and other processes write.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        """Open the file, bringing its schema up to date.

        Raises:
            StoreError: if it is no memory, is of a newer version, cannot be read or written, or is missing
                while `create` is False.
        """
        self._path = str(path)
        self._lock = threading.RLock()
        self._indexes: dict[str, tuple[object, KeyIndex]] = {}
        self._undone = 0
        self._reading = False
        self._connection: sqlite3.Connection | None = connect(self._path, create=create)

    @property
    def name(self) -> str:
        """The path."""
        return self._path

    @property
    def version(self) -> object:
        """Changes with every write, of this process or another."""
        with self._translated() as db:
            return db.execute("PRAGMA data_version").fetchone()[0], db.total_changes, self._undone

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the write lock of the file; nested use joins the transaction that is open."""
        with self._translated() as db:
            if self._reading:
                raise StoreError(f"{self._path}: a snapshot is being read; write after it")
            if db.in_transaction:
                yield
                return
            db.execute("BEGIN IMMEDIATE")
            try:
                yield
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # a full disk rolls back by itself
                    db.execute("ROLLBACK")
                self._indexes.clear()  # row numbers that were rolled back are given again
                self._undone += 1
                raise

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Hold one state of the file for several reads, whatever other processes write meanwhile."""
        with self._translated() as db:
            if db.in_transaction:
                yield db
                return
            db.execute("BEGIN")
            self._reading = True
            try:
                yield db
            finally:
                self._reading = False
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def setting(self, name: str) -> str | None:
        """Return a setting of the memory as a whole."""
        with self._translated() as db:
            row = db.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set(self, name: str, value: str) -> None:
        """Store a setting of the memory as a whole."""
        with self.transaction(), self._translated() as db:
            db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def get(self, procedure_id: str) -> Procedure | None:
        """Return a procedure in use."""
        return self._load([procedure_id]).get(procedure_id)

    def procedures(self) -> Iterator[Procedure]:
        """Yield all procedures in use, oldest first."""
        age = 0
        while True:
            with self._translated() as db:
                rows = db.execute(
                    "SELECT age, document, uses, successes FROM procedures JOIN revisions USING (id, revision)"
                    " WHERE retired = 0 AND age > ? ORDER BY age LIMIT ?",
                    (age, PAGE),
                ).fetchall()
            yield from (_procedure(*row[1:]) for row in rows)
            if len(rows) < PAGE:
                return
            age = rows[-1][0]

    def ids(self) -> Sequence[tuple[str, str]]:
        """Return id and source of all procedures in use, oldest first."""
        with self._translated() as db:
            return db.execute("SELECT id, source FROM procedures WHERE retired = 0 ORDER BY age").fetchall()

    def put(self, procedure: Procedure, reason: str) -> Procedure:
        """Append a revision."""
        with self.transaction(), self._translated() as db:
            old = db.execute(
                "SELECT revision, uses, successes, retired FROM procedures WHERE id = ?", (procedure.id,)
            ).fetchone()
            revision, usage = 1, procedure.usage
            if old is None:
                db.execute(
                    "INSERT INTO procedures (id, source, revision, uses, successes) VALUES (?, ?, 1, ?, ?)",
                    (procedure.id, procedure.source, usage.uses, usage.successes),
                )
            else:
                revision = old[0] + 1
                usage = Usage() if old[3] else Usage(uses=old[1], successes=old[2])
                stale = self.get(procedure.id)
                db.execute(
                    "UPDATE procedures SET revision = ?, uses = ?, successes = ?, retired = 0 WHERE id = ?",
                    (revision, usage.uses, usage.successes, procedure.id),
                )
                if stale is not None and stale.task != procedure.task:
                    db.execute("DELETE FROM keys WHERE id = ?", (procedure.id,))
            stored = procedure.model_copy(update={"revision": revision, "usage": usage})
            db.execute(
                "INSERT INTO revisions VALUES (?, ?, ?, ?)",
                (procedure.id, revision, stored.model_dump_json(exclude={"usage"}), reason),
            )
        return stored

    def history(self, procedure_id: str) -> Sequence[Revision]:
        """Return every revision; usage is that of the procedure as it stands."""
        with self._translated() as db:
            rows = db.execute(
                "SELECT document, reason, uses, successes FROM revisions JOIN procedures USING (id)"
                " WHERE id = ? ORDER BY revisions.revision",
                (procedure_id,),
            ).fetchall()
        return [Revision(procedure=_procedure(row[0], *row[2:]), reason=row[1]) for row in rows]

    def credit(self, procedure_id: str, *, success: bool, episode_id: str = "") -> bool:
        """Count one use."""
        with self.transaction(), self._translated() as db:
            known = db.execute(
                "SELECT 1 FROM procedures WHERE id = ? AND retired = 0", (procedure_id,)
            ).fetchone()
            if known is None:
                return False
            if episode_id:
                first = db.execute(
                    "INSERT OR IGNORE INTO credits VALUES (?, ?, ?)",
                    (episode_id, procedure_id, int(success)),
                )
                if first.rowcount == 0:
                    return False
            db.execute(
                "UPDATE procedures SET uses = uses + 1, successes = successes + ? WHERE id = ? AND uses < ?",
                (int(success), procedure_id, MOST_USES),
            )
        return True

    def retire(self, procedure_id: str, reason: str, now: datetime) -> None:
        """Take a procedure out of use."""
        with self.transaction(), self._translated() as db:
            source = self._source(procedure_id)
            db.execute("UPDATE procedures SET retired = 1 WHERE id = ?", (procedure_id,))
            db.execute("DELETE FROM keys WHERE id = ?", (procedure_id,))
            db.execute(
                "INSERT INTO tombstones (id, source, reason, retired) VALUES (?, ?, ?, ?)",
                (procedure_id, source, reason, now.isoformat()),
            )

    def tombstones(self, procedure_id: str | None = None) -> Sequence[Tombstone]:
        """Return the tombstones, oldest first."""
        with self._translated() as db:
            rows = db.execute(
                "SELECT id, source, reason, retired FROM tombstones WHERE ?1 IS NULL OR id = ?1 ORDER BY number",
                (procedure_id,),
            ).fetchall()
        return [
            Tombstone(id=row[0], source=row[1], reason=row[2], retired=datetime.fromisoformat(row[3]))
            for row in rows
        ]

    def unindexed(self, kind: str) -> Sequence[Procedure]:
        """Return the procedures in use without keys of this kind."""
        return self._select(
            "retired = 0 AND NOT EXISTS (SELECT 1 FROM keys WHERE keys.id = procedures.id AND kind = ?)",
            (kind,),
        )

    def index(self, procedure_id: str, kind: str, texts: Sequence[str], vectors: FloatMatrix) -> None:
        """Store the keys of one procedure."""
        with self.transaction(), self._translated() as db:
            self._source(procedure_id)
            dims = self.setting("dims")
            if dims is None:
                self.set("dims", str(vectors.shape[1]))
            elif int(dims) != vectors.shape[1]:
                raise SpaceMismatch(
                    f"{self._path} holds keys of {dims} dimensions, but these have {vectors.shape[1]}; "
                    "re-embed it with `memp reembed`"
                )
            db.execute("DELETE FROM keys WHERE id = ? AND kind = ?", (procedure_id, kind))
            db.executemany(
                "INSERT INTO keys (id, kind, text, vector) VALUES (?, ?, ?, ?)",
                [
                    (procedure_id, kind, text, vector.astype("<f4").tobytes())
                    for text, vector in zip(texts, vectors, strict=True)
                ],
            )

    def keys(self, procedure_id: str) -> Sequence[tuple[str, Sequence[str], FloatMatrix]]:
        """Return the keys of one procedure: kind, texts and vectors."""
        with self._translated() as db:
            rows = db.execute(
                "SELECT kind, text, vector FROM keys WHERE id = ? ORDER BY row", (procedure_id,)
            ).fetchall()
        keys = []
        for kind, group in groupby(rows, key=itemgetter(0)):
            _, texts, blobs = zip(*group, strict=True)
            vectors = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), -1)
            keys.append((kind, texts, vectors))
        return keys

    def key_texts(self) -> Sequence[tuple[str, str, Sequence[str]]]:
        """Return whose the keys are, of which kind, and their texts."""
        with self._translated() as db:
            rows = db.execute("SELECT id, kind, text FROM keys ORDER BY row").fetchall()
        return [
            (procedure_id, kind, [row[2] for row in group])
            for (procedure_id, kind), group in groupby(rows, key=itemgetter(0, 1))
        ]

    def drop_keys(self) -> None:
        """Remove all keys."""
        with self.transaction(), self._translated() as db:
            db.execute("DELETE FROM keys")
            db.execute("DELETE FROM settings WHERE name = 'dims'")

    def search(
        self, kind: str, queries: FloatMatrix, *, k: int, exclude: Collection[str] = ()
    ) -> Sequence[Match]:
        """Rank the procedures in use."""
        with self.snapshot():
            ranked = self._index(kind).top(queries, k, exclude)
            found = self._load([procedure_id for procedure_id, _ in ranked])
        return [Match(procedure=found[procedure_id], score=score) for procedure_id, score in ranked]

    def quarantine(self, item: Quarantined) -> None:
        """Keep what could not be used."""
        with self.transaction(), self._translated() as db:
            db.execute(
                "INSERT INTO quarantine (id, document, kind) VALUES (?, ?, ?)",
                (item.id, item.model_dump_json(), item.kind),
            )

    def quarantined(self) -> Sequence[Quarantined]:
        """Return all that is in quarantine."""
        with self._translated() as db:
            rows = db.execute("SELECT document FROM quarantine ORDER BY number").fetchall()
        return [Quarantined.model_validate_json(row[0]) for row in rows]

    def release(self, item_id: str) -> None:
        """Take one thing out of quarantine."""
        with self.transaction(), self._translated() as db:
            db.execute("DELETE FROM quarantine WHERE id = ?", (item_id,))

    def put_trial(self, trial: Trial) -> None:
        """Store what became of a trial."""
        with self.transaction(), self._translated() as db:
            db.execute(
                "INSERT INTO trials (episode, source, document) VALUES (?, ?, ?)"
                " ON CONFLICT (episode) DO UPDATE SET document = excluded.document",
                (trial.episode_id, trial.source, trial.model_dump_json()),
            )

    def trials(self, episode_id: str | None = None) -> Sequence[Trial]:
        """Return the trials, oldest first."""
        condition, values = ("", ()) if episode_id is None else (" WHERE episode = ?", (episode_id,))
        with self._translated() as db:
            rows = db.execute(f"SELECT document FROM trials{condition} ORDER BY number", values).fetchall()  # noqa: S608
        return [Trial.model_validate_json(row[0]) for row in rows]

    def count_trials(self, source: str) -> int:
        """Return how many trials of a task there are."""
        with self._translated() as db:
            return int(db.execute("SELECT count(*) FROM trials WHERE source = ?", (source,)).fetchone()[0])

    def counts(self) -> Counts:
        """Return how much there is."""
        with self._translated() as db:
            row = db.execute(
                "SELECT (SELECT count(*) FROM procedures WHERE retired = 0), (SELECT count(*) FROM revisions),"
                " (SELECT count(*) FROM procedures WHERE retired = 1),"
                " (SELECT coalesce(sum(uses), 0) FROM procedures),"
                " (SELECT coalesce(sum(successes), 0) FROM procedures),"
                " (SELECT count(*) FROM quarantine),"
                " (SELECT count(*) FROM quarantine WHERE kind = 'unfinished')"
            ).fetchone()
        return Counts(**dict(zip(Counts.model_fields, row, strict=True)))

    def _index(self, kind: str) -> KeyIndex:
        """Return the keys of one kind, as they stand in the file."""
        with self.snapshot() as db:
            version = self.version
            held_version, index = self._indexes.get(kind, (None, KeyIndex()))
            if held_version == version:
                return index
            # A number of a key is never given twice, so that this says whether any was added or dropped.
            count, last = db.execute(
                "SELECT count(*), coalesce(max(row), 0) FROM keys WHERE kind = ?", (kind,)
            ).fetchone()
            if (count, last) != (len(index.rows), index.last):
                self._follow(db, kind, index, count)
            self._indexes[kind] = (version, index)
            return index

    def _follow(self, db: sqlite3.Connection, kind: str, index: KeyIndex, count: int) -> None:
        """Drop from an index what is gone from the file, which has `count` keys, and add what is new."""
        fresh = db.execute(
            "SELECT row, vector, procedures.id, source, age FROM keys JOIN procedures USING (id)"
            " WHERE kind = ? AND row > ? ORDER BY row",
            (kind, index.last),
        ).fetchall()
        if count != len(index.rows) + len(fresh):
            held = db.execute("SELECT row FROM keys WHERE kind = ?", (kind,)).fetchall()
            index.keep(np.isin(index.rows, np.array([row for (row,) in held], dtype=np.int64)))
        if fresh:
            vectors = np.frombuffer(b"".join(key[1] for key in fresh), dtype="<f4").reshape(len(fresh), -1)
            rows = np.array([key[0] for key in fresh], dtype=np.int64)
            index.extend(rows, vectors, [key[2:] for key in fresh])

    def _source(self, procedure_id: str) -> str:
        """Return the source of a procedure in use, or raise `NotFound`."""
        with self._translated() as db:
            row = db.execute(
                "SELECT source FROM procedures WHERE id = ? AND retired = 0", (procedure_id,)
            ).fetchone()
        if row is None:
            raise NotFound(f"there is no procedure {procedure_id!r} in use in {self._path}")
        return str(row[0])

    def _load(self, ids: Sequence[str]) -> dict[str, Procedure]:
        listed = "retired = 0 AND procedures.id IN (SELECT value FROM json_each(?))"
        return {found.id: found for found in self._select(listed, (json.dumps(ids),))}

    def _select(self, condition: str, values: Sequence[str]) -> list[Procedure]:
        # `condition` is one of the literals above, with a mark for every value
        with self._translated() as db:
            rows = db.execute(
                "SELECT document, uses, successes FROM revisions JOIN procedures USING (id, revision)"  # noqa: S608
                f" WHERE {condition} ORDER BY age",
                values,
            ).fetchall()
        return [_procedure(*row) for row in rows]

    @contextmanager
    def _translated(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection, and say what SQLite's errors mean for the caller."""
        with self._lock, translated(self._path):
            if self._connection is None:
                raise StoreError(f"{self._path} is closed; open it again")
            yield self._connection


def _procedure(document: str, uses: int, successes: int) -> Procedure:
    procedure = Procedure.model_validate_json(document)
    return procedure.model_copy(update={"usage": Usage(uses=uses, successes=successes)})
