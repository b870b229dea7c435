"""The seam to where procedures live."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from memp.embedding.base import FloatMatrix
from memp.procedure import Match, Procedure, Revision, Tombstone
from memp.trajectory import Record
from memp.trial import Trial

_PASSING: Any = {"usage": True, "namespace": True, "provenance": {"created"}}  # the id says the namespace

QuarantineKind = Literal["build", "reflect", "facts", "unfinished"]


class Quarantined(Record):
    """Something that could not be made use of, kept so that nothing is lost."""

    id: str

    kind: QuarantineKind
    """What was being done; `unfinished` is an episode that ended without a reward."""

    reason: str
    """Why it could not be used, with the beginning of the model's reply where there was one."""

    payload: dict[str, Any]
    """What is needed to try again: the `trajectory`, or of `facts` the `procedure` id and the kind of `keys`.
    Also the whole `reply` of a model, where that could not be read."""

    added: datetime


class Counts(Record):
    """How much a store holds."""

    procedures: int = Field(ge=0)
    """In use."""

    revisions: int = Field(ge=0)
    retired: int = Field(ge=0)
    uses: int = Field(ge=0)
    successes: int = Field(ge=0)
    quarantined: int = Field(ge=0)
    """Of every kind, unfinished episodes included."""

    unfinished: int = Field(ge=0)


class ProcedureStore(ABC):
    """Keeps procedures, their history and their keys, and searches the keys.

    Writes happen inside `transaction()`, all or none. Every backend passes `tests/store_contract.py`.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Where it lives, for messages."""

    @property
    @abstractmethod
    def version(self) -> object:
        """A value that is another one after every write, of this process or another."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Begin a write that no other writer can interleave with; an exception undoes all of it."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[object]:
        """Hold one state for several reads, whatever others write meanwhile; other threads wait.

        A write within it is a `StoreError`, unless it stands in a transaction as a whole.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the connection; calling it twice does no harm."""

    @abstractmethod
    def setting(self, name: str) -> str | None:
        """Return what was stored under `name` about the memory as a whole."""

    @abstractmethod
    def set(self, name: str, value: str) -> None:
        """Store something about the memory as a whole."""

    @abstractmethod
    def get(self, procedure_id: str) -> Procedure | None:
        """Return a procedure in use, in its newest revision."""

    @abstractmethod
    def procedures(self) -> Iterator[Procedure]:
        """Yield all procedures in use, oldest first, a few at a time; hold a `snapshot` for one state of all."""

    @abstractmethod
    def ids(self) -> Sequence[tuple[str, str]]:
        """Return id and source of all procedures in use, oldest first."""

    @abstractmethod
    def put(self, procedure: Procedure, reason: str) -> Procedure:
        """Append a revision, bringing the procedure into use if it is not; returns it as stored.

        The number of the revision is given here. Usage is kept, unless the procedure was retired: then
        it starts anew; one that is new brings its own. Keys are kept, unless the task's text changed.
        """

    @abstractmethod
    def history(self, procedure_id: str) -> Sequence[Revision]:
        """Return every revision, oldest first; empty if there is no such procedure."""

    @abstractmethod
    def credit(self, procedure_id: str, *, success: bool, episode_id: str = "") -> bool:
        """Count one use; False if that episode has been counted for it already, or it is not in use.

        The counts stay as they are from `MOST_USES` on.
        """

    @abstractmethod
    def retire(self, procedure_id: str, reason: str, now: datetime) -> None:
        """Take a procedure out of use and leave a tombstone; its history stays.

        Raises:
            NotFound: if there is no such procedure in use.
        """

    @abstractmethod
    def tombstones(self, procedure_id: str | None = None) -> Sequence[Tombstone]:
        """Return the tombstones, of one procedure or of all, oldest first."""

    @abstractmethod
    def unindexed(self, kind: str) -> Sequence[Procedure]:
        """Return the procedures in use that have no keys of this kind, oldest first."""

    @abstractmethod
    def index(self, procedure_id: str, kind: str, texts: Sequence[str], vectors: FloatMatrix) -> None:
        """Store the keys of one procedure.

        Args:
            procedure_id: Whose keys they are.
            kind: Which way of finding they serve, e.g. `query`.
            texts: What was embedded, at least one.
            vectors: Unit rows, shape (len(texts), d).

        Raises:
            NotFound: if there is no such procedure in use.
            SpaceMismatch: if d differs from the keys already stored.
        """

    @abstractmethod
    def keys(self, procedure_id: str) -> Sequence[tuple[str, Sequence[str], FloatMatrix]]:
        """Return the keys of one procedure, in the order they were stored: kind, texts, and a row for each text."""

    @abstractmethod
    def key_texts(self) -> Sequence[tuple[str, str, Sequence[str]]]:
        """Return procedure id, kind and texts of all keys, in the order they were stored."""

    @abstractmethod
    def drop_keys(self) -> None:
        """Remove all keys, so that they can be made anew in another vector space."""

    @abstractmethod
    def search(
        self, kind: str, queries: FloatMatrix, *, k: int, exclude: Collection[str] = ()
    ) -> Sequence[Match]:
        """Return at most `k` procedures, best first, ties by age (oldest first).

        A procedure scores the mean, over the queries, of its best-matching key's cosine.

        Args:
            kind: The kind of keys to compare with.
            queries: Unit rows, shape (q, d), q at least 1.
            k: At least 1.
            exclude: Sources whose procedures are passed over.

        Raises:
            SpaceMismatch: if d differs from that of the stored keys.
        """

    @abstractmethod
    def quarantine(self, item: Quarantined) -> None:
        """Keep what could not be used."""

    @abstractmethod
    def quarantined(self) -> Sequence[Quarantined]:
        """Return all that is in quarantine, oldest first."""

    @abstractmethod
    def release(self, item_id: str) -> None:
        """Take one thing out of quarantine."""

    @abstractmethod
    def put_trial(self, trial: Trial) -> None:
        """Store what became of a trial, in the place of what was known of this episode before."""

    @abstractmethod
    def trials(self, episode_id: str | None = None) -> Sequence[Trial]:
        """Return the trials, oldest first; of one episode there is at most one."""

    @abstractmethod
    def count_trials(self, source: str) -> int:
        """Return how many trials of a task there are."""

    @abstractmethod
    def counts(self) -> Counts:
        """Return how much there is."""

    def digest(self) -> str:
        """Return a hash of all procedures in use, but for when they were built and how they fared."""
        hashed = hashlib.sha256()
        with self.snapshot():
            procedures = sorted(self.procedures(), key=lambda procedure: procedure.id)
        for procedure in procedures:
            hashed.update(procedure.model_dump_json(exclude=_PASSING).encode() + b"\n")
        return hashed.hexdigest()
