"""Keys: what procedures are found by, made for each of them, and all by one embedder."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memp._threads import side_by_side
from memp.embedding import HashEmbedder, NamedEmbedder
from memp.embedding import embedder as embedder_of
from memp.embedding.base import Embedder, FloatMatrix, checked
from memp.errors import ModelError, ReplyFormatError, SpaceMismatch
from memp.procedure import Procedure
from memp.retrieve import Retriever
from memp.store import ProcedureStore, Quarantined, holding_store
from memp.update import set_aside

BATCH = 256
"""How many tasks are embedded at once when keys are made."""


class MadeKeys(NamedTuple):
    """Keys that are not stored yet."""

    found: list[tuple[Procedure, Sequence[str], FloatMatrix]]
    """Procedures, each with the texts it is found by, and a unit row for each text."""

    failed: list[Quarantined]
    """Procedures whose facts could not be read, as the quarantine keeps them."""


class Keys:
    """The keys of the procedures in a store, of the kind that a retriever looks for."""

    def __init__(
        self, store: ProcedureStore, embedder: Embedder, retriever: Retriever, *, concurrency: int
    ) -> None:
        """Take what keys are made with, and how many calls of a chat model may wait at once.

        Raises:
            SpaceMismatch: if another embedder made those that there are.
        """
        self._store = store
        self._embedder = embedder
        self._retriever = retriever
        self._concurrency = concurrency
        self._complete_at: object = None
        self._completing = threading.Lock()
        self.claim_space()

    def claim_space(self) -> None:
        """Refuse a store whose vectors another embedder made.

        Raises:
            SpaceMismatch: if it is one.
        """
        store, name = self._store, self._embedder.name
        if store.setting("embedder") is None:
            with store.transaction():
                if store.setting("embedder") is None:  # of two processes, the first one decides
                    store.set("embedder", name)
        made_by = store.setting("embedder")
        if made_by != name:
            raise SpaceMismatch(
                f"{store.name} holds vectors of {made_by!r}, not of {name!r}; open it "
                f"with that embedder, or re-embed it: memp reembed {store.name} --embedder NAME"
            )

    def make(self, procedures: Sequence[Procedure], *, may_wait: bool) -> MadeKeys:
        """Make keys; nothing is written.

        Args:
            procedures: To be found.
            may_wait: Leave out those whose facts a model could not be reached for: the next retrieval makes
                their keys. An outage passes, so that nothing is set aside for it.

        Raises:
            ModelError: if a model could not be reached, and it may not wait.
        """
        if not self._retriever.indexes:
            return MadeKeys([], [])
        found: list[tuple[Procedure, Sequence[str]]] = []
        failed = []

        def extracted(procedure: Procedure) -> Sequence[str] | ModelError:
            try:
                return self._retriever.texts(procedure.task)
            except ReplyFormatError as error:
                return error
            except ModelError as error:
                if not may_wait:
                    raise
                return error

        at_once = self._concurrency if self._retriever.asks else 1
        for procedure, texts in side_by_side(extracted, procedures, at_once):
            if isinstance(texts, ReplyFormatError):
                payload = {"procedure": procedure.id, "keys": self._retriever.kind}
                failed.append(set_aside("facts", texts, payload, datetime.now(UTC)))
            elif not isinstance(texts, ModelError):
                found.append((procedure, texts))
        vectors = _embedded(self._embedder, [texts for _, texts in found])
        return MadeKeys([(*pair, part) for pair, part in zip(found, vectors, strict=True)], failed)

    def write(self, made: MadeKeys, ids: Collection[str]) -> None:
        """Store those keys that are of some procedures, within a transaction."""
        for procedure, texts, vectors in made.found:
            if procedure.id in ids:
                self._store.index(procedure.id, self._retriever.kind, texts, vectors)
        for item in made.failed:
            if item.payload["procedure"] in ids:
                self._store.quarantine(item)

    def complete(self) -> None:
        """Make the keys of procedures that have none of this kind, where anything was written since.

        Raises:
            ModelError: if a model could not be reached.
            SpaceMismatch: if the memory was re-embedded meanwhile.
        """
        if not self._retriever.indexes or self._complete_at == self._store.version:
            return
        with self._completing:  # so that no two threads extract the same facts
            version = self._store.version
            if self._complete_at != version:
                self._complete_now(version)

    def _complete_now(self, version: object) -> None:
        self.claim_space()
        aside = {
            item.payload["procedure"]
            for item in self._store.quarantined()
            if item.kind == "facts" and item.payload["keys"] == self._retriever.kind
        }
        missing = [found for found in self._store.unindexed(self._retriever.kind) if found.id not in aside]
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            made = self.make(batch, may_wait=False)
            with self._store.transaction():
                self.claim_space()
                self.write(made, {procedure.id for procedure in batch if self._unchanged(procedure)})
        if not missing:  # otherwise the next call looks again
            self._complete_at = version

    def _unchanged(self, procedure: Procedure) -> bool:
        """Whether nobody changed a procedure's task, or retired it, meanwhile."""
        current = self._store.get(procedure.id)
        return current is not None and current.task == procedure.task


def reembed(path: str | Path, embedder: str | Embedder) -> int:
    """Make all vectors of a memory anew with another embedder; returns the number of procedures.

    Raises:
        StoreError: if the memory cannot be opened or written; then it is unchanged.
        ModelError: if the embedder failed; then it is unchanged.
    """
    chosen = embedder_of(embedder)
    with holding_store(path, create=False) as store, store.transaction():
        keys = store.key_texts()
        store.drop_keys()
        store.set("embedder", chosen.name)
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            vectors = _embedded(chosen, [texts for _, _, texts in batch])
            for (procedure_id, kind, texts), part in zip(batch, vectors, strict=True):
                store.index(procedure_id, kind, texts, part)
        return store.counts().procedures


def stored_embedder(store: ProcedureStore) -> Embedder:
    """The embedder that made a store's vectors; `hash` for a new one."""
    name = store.setting("embedder")
    return HashEmbedder() if name is None else NamedEmbedder(name)


def _embedded(embedder: Embedder, texts: Sequence[Sequence[str]]) -> list[FloatMatrix]:
    """Embed the keys of several procedures at once; returns one matrix for each."""
    if not texts:
        return []
    every = [text for part in texts for text in part]
    vectors = checked(embedder.embed(every, "key"), len(every), embedder.name)
    return np.split(vectors, np.cumsum([len(part) for part in texts])[:-1])
