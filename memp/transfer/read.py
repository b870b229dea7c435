"""Reading a bundle: once to check all of it, and once more to take it in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from memp import _json
from memp.embedding.base import Embedder, checked
from memp.trajectory import Record
from memp.transfer.archive import Archive, refused
from memp.transfer.form import (
    FORMAT,
    MANIFEST,
    MAX_LINE,
    PROCEDURES,
    TOMBSTONES,
    VECTORS,
    VERSION,
    KeysLine,
    Manifest,
    ProcedureLine,
    TombstoneLine,
    parsed,
)
from memp.transfer.ids import Ids

SAMPLE = 256
"""Of this many procedures, the vector of one is made anew, to see that the embedder is the one that is named."""

SAME_VECTOR = 0.99
"""The cosine from which it is: other machines round otherwise."""

LineT = TypeVar("LineT", bound=Record)


class Entry(NamedTuple):
    """What a bundle has of one procedure."""

    line: ProcedureLine

    keys: Sequence[KeysLine]
    """Empty where the bundle has no vectors, or they were not asked for."""

    size: int
    """How many bytes all of that takes in the bundle."""


class Bundle:
    """A bundle that was opened. Everything it says is to be checked, with `check`, before it is believed."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            InputError: if it cannot be a bundle.
        """
        self.path = path
        with refused(path):
            self._archive = Archive(path)
            try:
                self.manifest = _manifest(self._archive.manifest())
                if self._archive.names() != {MANIFEST, *self.manifest.members}:
                    raise ValueError("its members are others than its manifest says")
            except BaseException:
                self._archive.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    @property
    def sha256(self) -> str:
        """Of the whole file."""
        return self._archive.sha256

    @property
    def origin(self) -> str:
        """What is noted of everything that is taken from it."""
        name = self.path.name.encode("utf-8", "backslashreplace").decode()  # a file's name may be any bytes
        return f"imported from {name}, sha256 {self.sha256[:12]}"

    def entries(self, *, vectors: bool = False) -> Iterator[Entry]:
        """Yield the procedures, oldest first, with their vectors if those are asked for and there.

        Raises:
            InputError: if anything is wrong with the bundle.
        """
        with refused(self.path):
            yield from self._entries(vectors=vectors and VECTORS in self.manifest.members)

    def tombstones(self) -> Iterator[TombstoneLine]:
        """Yield why procedures are no longer in use where the bundle came from.

        Raises:
            InputError: if anything is wrong with the bundle.
        """
        with refused(self.path):
            for line, _ in self._lines(TOMBSTONES, TombstoneLine):
                yield line

    def check(self, embedder: Embedder) -> None:
        """Read all of it; nothing is kept but the ids.

        Args:
            embedder: Of the memory that is to take it in. If the bundle says that this one made its vectors,
                some of them are made again, and compared.

        Raises:
            InputError: if anything is wrong with the bundle.
            ModelError: if the embedder failed.
        """
        ids, columns = Ids(), set()
        for number, entry in enumerate(self.entries(vectors=True)):
            ids.append(entry.line.id)
            with refused(self.path):
                columns |= {keys.matrix.shape[1] for keys in entry.keys}
                if len(columns) > 1:
                    raise ValueError(f"its vectors have {' and '.join(map(str, sorted(columns)))} dimensions")
            if number % SAMPLE == 0 and embedder.name == self.manifest.embedder:
                self._compare(entry.keys, embedder)
        for stone in self.tombstones():
            ids.append(stone.id)
        with refused(self.path):
            if (again := ids.twice()) is not None:
                raise ValueError(f"the procedure {again!r} is there twice")

    def _compare(self, keys: Sequence[KeysLine], embedder: Embedder) -> None:
        """Refuse the bundle if the embedder makes other vectors than these."""
        for line in keys:
            made = checked(embedder.embed(line.texts, "key"), len(line.texts), embedder.name)
            with refused(self.path):
                if made.shape != line.matrix.shape or ((made * line.matrix).sum(axis=1) < SAME_VECTOR).any():
                    raise ValueError(f"its vectors of {line.id!r} are not those that {embedder.name!r} makes")

    def _entries(self, *, vectors: bool) -> Iterator[Entry]:
        rest = self._lines(VECTORS, KeysLine) if vectors else iter(())
        waiting = next(rest, None)
        for line, size in self._lines(PROCEDURES, ProcedureLine):
            keys, together = [], 0
            while waiting is not None and waiting[0].id == line.id:
                keys.append(waiting[0])
                together += waiting[1]
                if together > MAX_LINE:
                    raise ValueError(f"{VECTORS} has more than {MAX_LINE} bytes of {line.id!r}")
                waiting = next(rest, None)
            _fit(keys, line.current.task)
            yield Entry(line, keys, size + together)
        if waiting is not None:
            raise ValueError(
                f"{VECTORS} has {waiting[0].id!r} where no procedure has it; its order is that of theirs"
            )

    def _lines(self, name: str, kind: type[LineT]) -> Iterator[tuple[LineT, int]]:
        """Yield what the lines of a member say, each with its size."""
        for number, line in enumerate(self._archive.lines(name, self.manifest.members[name]), start=1):
            try:
                value = parsed(kind, line)
            except ValueError as error:
                raise ValueError(f"{name} line {number}: {error}") from error
            yield value, len(line)


def _manifest(text: bytes) -> Manifest:
    """Read the manifest, its version before all else: a later one may have other fields."""
    try:
        said = _json.loads(text)
        found = (said.get("format"), said.get("version")) if isinstance(said, dict) else (None, None)
        if found[0] != FORMAT:
            raise ValueError(f"its format is {found[0]!r:.100}, not {FORMAT!r}")
        if found[1] != VERSION:
            raise ValueError(f"its version is {found[1]!r:.100}, this memp reads {VERSION}; upgrade memp")
        return parsed(Manifest, text)
    except ValueError as error:
        raise ValueError(f"{MANIFEST}: {error}") from error


def _fit(keys: Sequence[KeysLine], task: str) -> None:
    """Raise `ValueError` unless keys can be those of a procedure."""
    kinds = [line.kind for line in keys]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"{VECTORS} has keys of one kind of {keys[0].id!r} twice")
    for line in keys:
        if line.kind == "query" and line.texts != (task,):
            raise ValueError(f"{VECTORS} has keys of {line.id!r} that are not made of its task")
