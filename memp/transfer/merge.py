"""Taking a bundle in: what becomes of each procedure, and all of it in one transaction."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from memp.embedding import CachedEmbedder
from memp.embedding import embedder as embedder_of
from memp.embedding.base import Embedder
from memp.errors import unknown_name
from memp.keys import BATCH, Keys, stored_embedder
from memp.procedure import Procedure, rank
from memp.retrieve import Retriever
from memp.store import ProcedureStore, holding_store
from memp.transfer.form import MAX_LINE, known_namespace
from memp.transfer.ids import Ids
from memp.transfer.read import Bundle, Entry

OnConflict = Literal["better", "ours", "theirs"]

ON_CONFLICT: tuple[OnConflict, ...] = get_args(OnConflict)

Fate = Literal["added", "replaced", "same", "kept", "refused"]

QUICK = ("hash", "skill")
"""Embedders that make a vector faster than it could be looked up."""


@dataclass(frozen=True)
class ImportResult:
    """What became of each procedure of a bundle; or would, in a dry run."""

    bundle: str
    """The name of the file."""

    sha256: str
    """Of the whole file: its first 12 digits stand in the reason of each revision that came from it."""

    added: Ids = field(default_factory=Ids)
    """Not known here: taken in with all their history, and how they fared."""

    replaced: Ids = field(default_factory=Ids)
    """Here and there, and theirs was taken: it is the newest revision of ours."""

    same: Ids = field(default_factory=Ids)
    """Here and there, and no different."""

    kept: Ids = field(default_factory=Ids)
    """Here and there, and ours was kept."""

    refused: Ids = field(default_factory=Ids)
    """Retired here: not brought back."""

    retired_there: Ids = field(default_factory=Ids)
    """Retired where the bundle came from, in use here: left as they are."""


def import_bundle(
    memory: str | Path | ProcedureStore,
    file: str | Path,
    *,
    embedder: str | Embedder | None = None,
    namespace: str = "",
    on_conflict: OnConflict = "better",
    dry_run: bool = False,
) -> ImportResult:
    """Take in a bundle, all of it or, where anything is wrong with it, nothing.

    What was retired here is never brought back. Of a procedure that both sides have, the local history and
    the local counts stay: theirs may count the same episodes.

    Args:
        memory: The path of a memory, made where there is none; or a store, which stays open.
        file: The bundle.
        embedder: As for `ProceduralMemory.open`; None takes the one that the memory was made with.
        namespace: Keep what is taken in apart, under this name; empty: with what was learned here.
        on_conflict: Which stays where both sides have a procedure, and they differ. `better`: the one with
            more reward, then fewer steps, then a script, then a trajectory; ours where they are equal, and
            where theirs is an earlier revision of ours that was given up. `ours` or `theirs`: always that.
        dry_run: Only say what would change.

    Raises:
        InputError: if the bundle is refused, or an option is unknown; then nothing was changed.
        ModelError: if the embedder failed; then nothing was changed.
        StoreError: if the memory cannot be read or written; `SpaceMismatch` if it has another embedder.
    """
    if on_conflict not in ON_CONFLICT:
        raise unknown_name("on_conflict", on_conflict, ON_CONFLICT)
    if namespace:
        known_namespace(namespace)
    with ExitStack() as stack:
        bundle = stack.enter_context(Bundle(Path(file)))
        missing = not isinstance(memory, ProcedureStore) and not Path(memory).exists()
        # A memory that is not there is made when nothing can go wrong any more but the writing.
        store = stack.enter_context(holding_store(":memory:" if missing else memory))
        chosen = stored_embedder(store) if embedder is None else embedder_of(embedder)
        bundle.check(chosen)
        quick = stack.enter_context(_remembering(chosen))
        merge = _Merge(bundle, store, quick, namespace=namespace, on_conflict=on_conflict)
        if dry_run:
            return merge.preview()
        if quick is not chosen:
            merge.make_ahead()
        if missing:
            store = stack.enter_context(holding_store(memory))
            merge = _Merge(bundle, store, quick, namespace=namespace, on_conflict=on_conflict)
        return merge.write()


class _Merge:
    """One bundle and the memory that takes it in."""

    def __init__(
        self,
        bundle: Bundle,
        store: ProcedureStore,
        embedder: Embedder,
        *,
        namespace: str,
        on_conflict: OnConflict,
    ) -> None:
        self._bundle = bundle
        self._store = store
        self._embedder = embedder
        self._namespace = namespace
        self._on_conflict = on_conflict

    def preview(self) -> ImportResult:
        """Say what would become of each procedure."""
        with self._store.snapshot():
            return self._result(keys=None)

    def make_ahead(self) -> None:
        """Have the embedder make what vectors it must, so that nobody has to wait for it while we write."""
        keys = self._keys()
        for batch in self._batches():
            keys.make(_without_vectors(_taken(batch)), may_wait=False)

    def write(self) -> ImportResult:
        """Take in what is to be taken in, in one transaction."""
        keys = self._keys()
        with self._store.transaction():
            keys.claim_space()
            return self._result(keys)

    def _keys(self) -> Keys:
        retriever = Retriever("query", self._store, self._embedder, None)
        return Keys(self._store, self._embedder, retriever, concurrency=1)

    def _result(self, keys: Keys | None) -> ImportResult:
        """Decide on every procedure, and, with keys, write."""
        result = ImportResult(bundle=self._bundle.path.name, sha256=self._bundle.sha256)
        for batch in self._batches():
            for fate, entry in batch:
                getattr(result, fate).append(entry.line.id)
            if keys is not None:
                self._write(_taken(batch), keys)
        for stone in self._bundle.tombstones():
            moved = stone.moved(self._namespace)
            if self._store.get(moved.id) is not None:
                result.retired_there.append(moved.id)
        return result

    def _batches(self) -> Iterator[list[tuple[Fate, Entry]]]:
        """Decide on every procedure; yield as many at once as are few."""
        same_space = self._bundle.manifest.embedder == self._embedder.name
        batch, size = [], 0
        for entry in self._bundle.entries(vectors=same_space):
            moved = entry._replace(line=entry.line.moved(self._namespace))
            batch.append((self._fate(moved.line.current), moved))
            size += entry.size
            if len(batch) == BATCH or size > MAX_LINE:
                yield batch
                batch, size = [], 0
        yield batch

    def _fate(self, theirs: Procedure) -> Fate:
        ours = self._store.get(theirs.id)
        if ours is None:
            return "refused" if self._store.history(theirs.id) else "added"
        if _content(ours) == _content(theirs):
            return "same"
        if self._on_conflict != "better":
            return "kept" if self._on_conflict == "ours" else "replaced"
        if _worth(theirs) <= _worth(ours):
            return "kept"
        earlier = (revision.procedure for revision in self._store.history(theirs.id))
        given_up = any(_content(procedure) == _content(theirs) for procedure in earlier)
        return "kept" if given_up else "replaced"

    def _write(self, taken: Sequence[tuple[Fate, Entry]], keys: Keys) -> None:
        for fate, entry in taken:
            if fate == "added":
                self._add(entry)
            else:
                self._replace(entry.line.current)
        lacking = _without_vectors(taken)
        keys.write(keys.make(lacking, may_wait=False), {procedure.id for procedure in lacking})
        for _, entry in taken:
            for line in entry.keys:
                self._store.index(entry.line.id, line.kind, line.texts, line.matrix)

    def _add(self, entry: Entry) -> None:
        for revision in entry.line.revisions:
            procedure = revision.procedure.model_copy(update={"usage": entry.line.usage})
            self._store.put(procedure, f"{revision.reason} ({self._bundle.origin})")

    def _replace(self, theirs: Procedure) -> None:
        ours = self._store.get(theirs.id)
        assert ours is not None
        self._store.put(
            theirs,
            f"{self._bundle.origin}: reward {theirs.reward:g} in {theirs.length} steps,"
            f" in the place of {ours.reward:g} in {ours.length}",
        )


def _taken(batch: Sequence[tuple[Fate, Entry]]) -> list[tuple[Fate, Entry]]:
    return [(fate, entry) for fate, entry in batch if fate in ("added", "replaced")]


def _without_vectors(taken: Sequence[tuple[Fate, Entry]]) -> list[Procedure]:
    """The procedures whose vectors have to be made."""
    return [entry.line.current for _, entry in taken if not any(line.kind == "query" for line in entry.keys)]


def _content(procedure: Procedure) -> tuple[object, ...]:
    """What makes a procedure another one, wherever it is and however it fared."""
    return procedure.task, procedure.reward, procedure.length, procedure.trajectory, procedure.script


def _worth(procedure: Procedure) -> tuple[float, int, bool, bool]:
    """The rank of a procedure; of two with the same, the one that says more is worth more."""
    return *rank(procedure), procedure.script is not None, procedure.trajectory is not None


@contextmanager
def _remembering(embedder: Embedder) -> Iterator[Embedder]:
    """The embedder or, where it is slow, one that makes each vector once, beside the memory."""
    if embedder.name.partition(":")[0] in QUICK:
        yield embedder
        return
    with tempfile.TemporaryDirectory(prefix="memp-") as folder:
        cached = CachedEmbedder(embedder, Path(folder) / "vectors.db")
        try:
            yield cached
        finally:
            cached.close()
