"""Writing a bundle, line by line."""

from __future__ import annotations

import hashlib
import os
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedRandom
from pathlib import Path
from typing import IO, Protocol

from memp import __version__
from memp.errors import InputError
from memp.store import ProcedureStore, holding_store
from memp.trajectory import MAX_TEXT
from memp.transfer.form import (
    FORMAT,
    FREE,
    MANIFEST,
    MAX_LINE,
    MAX_RATIO,
    PROCEDURES,
    TOMBSTONES,
    VECTORS,
    VERSION,
    KeysLine,
    Manifest,
    Member,
    ProcedureLine,
    TombstoneLine,
    known_namespace,
    parsed,
)
from memp.transfer.ids import Ids

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time that zip files say of their members: the first they can say, so that it depends on nothing."""


@dataclass(frozen=True)
class ExportResult:
    """What was written."""

    sha256: str
    """Of the whole file."""

    bytes: int
    procedures: int
    tombstones: int
    vectors: int
    """How many lines of each."""

    quarantined: int
    """How much is in the memory's quarantine: that is never exported."""


def export_bundle(
    memory: str | Path | ProcedureStore,
    file: str | Path,
    *,
    vectors: bool = False,
    namespace: str | None = None,
    force: bool = False,
) -> ExportResult:
    """Write a memory to one portable file; docs/bundle.md describes it.

    The same memory gives the same bytes. What is in quarantine is left out, and so is which episodes were
    counted. A store that is given is held while it is read: other threads that use it wait.

    Args:
        memory: The path of a memory, or a store, which stays open.
        file: What to write. It is there whole, or not at all.
        vectors: Write the vectors too: a memory of the same embedder need not make them again.
        namespace: Only procedures of this namespace, or within it; the empty text is what was learned here.
        force: Replace a file that is there.

    Raises:
        InputError: if the file cannot be written, or is there already, or a procedure is too long for a line.
        StoreError: if there is no such memory, or it cannot be read.
    """
    if namespace:
        known_namespace(namespace)
    with holding_store(memory, create=False) as store:
        _not_itself(Path(file), store)
        with _replacing(Path(file), force=force) as out, store.snapshot():
            members = write_members(out, _OfMemory(store, namespace=namespace, vectors=vectors))
            quarantined = store.counts().quarantined
            size = out.tell()
            out.seek(0)
            digest = hashlib.file_digest(out, "sha256").hexdigest()
    return ExportResult(
        sha256=digest,
        bytes=size,
        procedures=members[PROCEDURES].lines,
        tombstones=members[TOMBSTONES].lines,
        vectors=members[VECTORS].lines if vectors else 0,
        quarantined=quarantined,
    )


class Contents(Protocol):
    """What a bundle is written from."""

    @property
    def lines(self) -> Mapping[str, Callable[[], Iterator[str]]]:
        """What gives the lines of each member, in the order the members are written."""
        ...

    @property
    def as_of(self) -> datetime | None:
        """When the newest of the lines given so far was written."""
        ...

    @property
    def embedder(self) -> str | None:
        """Whose vectors are among them."""
        ...


def write_members(out: IO[bytes], contents: Contents) -> dict[str, Member]:
    """Write a whole bundle; returns what its members are."""
    members = _written(out, contents, zipfile.ZIP_DEFLATED)
    if members is None:
        out.seek(0)
        out.truncate()
        members = _written(out, contents, zipfile.ZIP_STORED)
    assert members is not None
    return members


class _OfMemory:
    """The lines of a bundle, as a memory gives them."""

    def __init__(self, store: ProcedureStore, *, namespace: str | None, vectors: bool) -> None:
        self._store = store
        self._namespace = namespace
        self._ids = Ids()
        self.as_of: datetime | None = None
        self.lines = {PROCEDURES: self._procedures, TOMBSTONES: self._tombstones}
        self.embedder: str | None = None
        if vectors:
            self.embedder = store.setting("embedder") or ""
            self.lines[VECTORS] = self._vectors

    def _procedures(self) -> Iterator[str]:
        self._ids = Ids()
        for procedure in self._store.procedures():
            if not self._wanted(procedure.namespace):
                continue
            history = self._store.history(procedure.id)
            try:
                line = _short(ProcedureLine(usage=procedure.usage, revisions=tuple(history)).written())
            except ValueError as error:
                raise InputError(f"the procedure {procedure.id!r} cannot be exported: {error}") from error
            self._ids.append(procedure.id)
            self._saw(procedure.provenance.created)
            yield line

    def _tombstones(self) -> Iterator[str]:
        newest = {stone.id: stone for stone in self._store.tombstones()}
        for stone in newest.values():
            if self._store.get(stone.id) is not None:  # it was brought back since
                continue
            namespace = self._store.history(stone.id)[-1].procedure.namespace
            if self._wanted(namespace):
                self._saw(stone.retired)
                yield TombstoneLine(**stone.model_dump(), namespace=namespace).model_dump_json()

    def _vectors(self) -> Iterator[str]:
        for procedure_id in self._ids:
            for kind, texts, vectors in self._store.keys(procedure_id):
                yield KeysLine.of(procedure_id, kind, texts, vectors).model_dump_json()

    def _wanted(self, namespace: str) -> bool:
        wanted = self._namespace
        return wanted is None or namespace == wanted or (wanted != "" and namespace.startswith(f"{wanted}."))

    def _saw(self, when: datetime) -> None:
        known = when if when.tzinfo else when.replace(tzinfo=UTC)
        self.as_of = known if self.as_of is None else max(self.as_of, known)


def _written(out: IO[bytes], contents: Contents, packing: int) -> dict[str, Member] | None:
    """Write all members; None where one packs so well that a reader would take it for a bomb."""
    members = {}
    with zipfile.ZipFile(out, "w") as archive:
        for name, lines in contents.lines.items():
            info = _info(name, packing)
            with archive.open(info, "w", force_zip64=True) as stream:
                members[name] = _copy(lines(), stream)
            if packing == zipfile.ZIP_DEFLATED and info.file_size > FREE + MAX_RATIO * info.compress_size:
                return None
        manifest = Manifest(
            format=FORMAT,
            version=VERSION,
            memp=__version__,
            as_of=contents.as_of,
            embedder=contents.embedder,
            members=members,
        )
        archive.writestr(_info(MANIFEST, packing), manifest.model_dump_json(indent=1) + "\n")
    return members


def _copy(lines: Iterator[str], stream: IO[bytes]) -> Member:
    """Write lines, and say what they are."""
    hashed, size, count = hashlib.sha256(), 0, 0
    for line in lines:
        raw = f"{line}\n".encode()
        stream.write(raw)
        hashed.update(raw)
        size += len(raw)
        count += 1
    return Member(lines=count, bytes=size, sha256=hashed.hexdigest())


def _info(name: str, packing: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, EPOCH)
    info.compress_type = packing
    info.create_system = 3  # Unix, wherever it is written
    info.external_attr = 0o100644 << 16
    return info


def _short(line: str) -> str:
    """The line, or `ValueError` if no reader would take it."""
    raw = line.encode()
    if len(raw) > MAX_LINE:
        raise ValueError(f"with its history it takes {len(raw)} bytes, and the most is {MAX_LINE}")
    if len(raw) > MAX_TEXT:
        parsed(ProcedureLine, raw)
    return line


@contextmanager
def _replacing(target: Path, *, force: bool) -> Iterator[BufferedRandom]:
    """Write beside `target`, and put it in its place once all of it is on the disk."""
    if not target.name or "\0" in target.name:
        raise InputError(f"{str(target)!r} is not the name of a file")
    beside = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        _vacant(target, force=force)
        with beside.open("x+b") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        _vacant(target, force=force)
        beside.replace(target)
    except OSError as error:
        raise InputError(f"{str(target)!r} cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _vacant(target: Path, *, force: bool) -> None:
    if not force and target.exists():
        raise InputError(f"{str(target)!r} is there already; --force replaces it")


def _not_itself(target: Path, store: ProcedureStore) -> None:
    own = Path(store.name)
    try:
        itself = target.samefile(own)
    except (OSError, ValueError):  # one of them is no file
        return
    if itself:
        raise InputError(f"{str(target)!r} is the memory itself; give its bundle another name")
