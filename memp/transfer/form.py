"""The form of a bundle: its members, what a line of each says, and how large all of it may be.

Written and read by these same values, so that what is exported can be imported.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal, Self, TypeVar

import numpy as np
from pydantic import Field, ValidationError, model_validator

from memp import _json
from memp.embedding.base import FloatMatrix, checked
from memp.errors import InputError, ModelError, first_fault
from memp.procedure import MAX_NAMESPACE, NAMESPACE, Procedure, Revision, Tombstone, Usage, procedure_id
from memp.trajectory import MAX_TEXT, Record

FORMAT: Final = "memp-bundle"

VERSION: Final = 1
"""Raised with every change that an older reader would misread."""

MANIFEST, PROCEDURES, TOMBSTONES, VECTORS = (
    "manifest.json",
    "procedures.jsonl",
    "tombstones.jsonl",
    "vectors.jsonl",
)
MEMBERS = (MANIFEST, PROCEDURES, TOMBSTONES, VECTORS)
"""All that a bundle may hold; vectors may be missing."""

MAX_MANIFEST = 64 * 2**10
MAX_LINE = 16 * 2**20
"""Most bytes of a line: a procedure with all its history."""

MAX_PARTS = 1_000_000
"""Most commas, brackets and braces of a line, also within texts: a line of nothing else takes 50 times its size
of memory to read."""

MAX_LINES = 10_000_000
MAX_BYTES = 64 * 2**30
"""Most bytes of all members together, unpacked."""

MAX_RATIO = 200
"""How many times its packed size a member may be ..."""

FREE = 16 * 2**20
"""... beyond these first bytes. Text that repeats itself packs 10 to 50 times; only a bomb needs more."""

LineT = TypeVar("LineT", bound=Record)


class Member(Record):
    """What a member must turn out to be."""

    lines: int = Field(ge=0, le=MAX_LINES)
    bytes: int = Field(ge=0, le=MAX_BYTES)
    """Unpacked."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Record):
    """What a bundle says of itself."""

    format: Literal["memp-bundle"]
    version: Literal[1]
    memp: str = Field(max_length=100)
    """The version that wrote it."""

    as_of: datetime | None
    """When the newest revision or tombstone in it was written; None where there is none. Not when the bundle
    was: the same memory gives the same bytes."""

    embedder: str | None = Field(max_length=1000)
    """Whose vectors are in it; None where there are none."""

    members: dict[str, Member]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        expected = {PROCEDURES, TOMBSTONES} | ({VECTORS} if self.embedder is not None else set())
        if set(self.members) != expected:
            raise ValueError(f"its members are {sorted(self.members)}, not {sorted(expected)}")
        return self


class ProcedureLine(Record):
    """A procedure in use, with its history."""

    usage: Usage
    revisions: tuple[Revision, ...] = Field(min_length=1)
    """Oldest first; the last one is in use. `usage` stands in the line, not in each of them."""

    @property
    def id(self) -> str:
        """Of the procedure."""
        return self.revisions[0].procedure.id

    @property
    def current(self) -> Procedure:
        """The procedure as it is in use."""
        return self.revisions[-1].procedure.model_copy(update={"usage": self.usage})

    def moved(self, namespace: str) -> ProcedureLine:
        """The same procedure in a namespace, with the id that it has there; as it is if that is empty."""
        if not namespace:
            return self
        first = self.revisions[0].procedure
        within = joined(namespace, first.namespace)
        there = {"namespace": within, "id": procedure_id(first.source, within)}
        revisions = tuple(
            entry.model_copy(update={"procedure": entry.procedure.model_copy(update=there)})
            for entry in self.revisions
        )
        return self.model_copy(update={"revisions": revisions})

    def written(self) -> str:
        """The line as it stands in the bundle."""
        return self.model_dump_json(exclude={"revisions": {"__all__": {"procedure": {"usage"}}}})

    @model_validator(mode="after")
    def _one_procedure(self) -> Self:
        first = self.revisions[0].procedure
        _follows(first.id, first.source, first.namespace)
        for number, entry in enumerate(self.revisions, start=1):
            procedure = entry.procedure
            if (procedure.id, procedure.source, procedure.namespace) != (
                first.id,
                first.source,
                first.namespace,
            ):
                raise ValueError(f"revision {number} is of another procedure, {procedure.id!r}")
            if procedure.revision != number:
                raise ValueError(f"revision {number} is numbered {procedure.revision}")
        return self


class TombstoneLine(Tombstone):
    """Why a procedure is no longer in use; one line for each such procedure."""

    namespace: str = ""

    def moved(self, namespace: str) -> TombstoneLine:
        """The same tombstone in a namespace, with the id that it has there."""
        within = joined(namespace, self.namespace)
        return self.model_copy(update={"namespace": within, "id": procedure_id(self.source, within)})

    @model_validator(mode="after")
    def _of_its_source(self) -> Self:
        _follows(self.id, self.source, self.namespace)
        return self


class KeysLine(Record):
    """The keys of one kind of one procedure, in the order of the procedures."""

    id: str
    kind: str = Field(min_length=1, max_length=1000)
    texts: tuple[str, ...] = Field(min_length=1)
    """What was embedded."""

    vectors: tuple[str, ...]
    """A unit row for each text: its numbers as float32, little endian, in base64."""

    @classmethod
    def of(cls, procedure_id: str, kind: str, texts: Sequence[str], vectors: FloatMatrix) -> KeysLine:
        """Write keys down."""
        rows = [base64.b64encode(row.tobytes()).decode("ascii") for row in vectors.astype("<f4")]
        return cls(id=procedure_id, kind=kind, texts=tuple(texts), vectors=tuple(rows))

    @property
    def matrix(self) -> FloatMatrix:
        """The vectors, shape (len(texts), d).

        Raises:
            ValueError: if they are no unit rows, one for each text.
        """
        rows = [np.frombuffer(base64.b64decode(row, validate=True), dtype="<f4") for row in self.vectors]
        try:
            return checked(rows, len(self.texts), "the bundle")
        except ModelError as error:
            raise ValueError(str(error)) from None


def joined(namespace: str, inner: str) -> str:
    """A namespace within a namespace; either may be empty.

    Raises:
        InputError: if together they are too long.
    """
    both = ".".join(filter(None, (namespace, inner)))
    if both:
        known_namespace(both)
    return both


def known_namespace(name: str) -> None:
    """Raise `InputError` unless it is a namespace."""
    if not 0 < len(name) <= MAX_NAMESPACE or not re.fullmatch(NAMESPACE, name):
        raise InputError(
            f"{name!r} is no namespace: 1 to {MAX_NAMESPACE} letters of a-z, digits, '_' and '-', "
            "with '.' between parts"
        )


def parsed(kind: type[LineT], line: bytes) -> LineT:
    """Read one line, or the manifest.

    Raises:
        ValueError: if it is not what `kind` says, in strict JSON.
    """
    if len(line) > MAX_PARTS and (parts := sum(map(line.count, (b",", b"[", b"{")))) > MAX_PARTS:
        raise ValueError(f"{parts} commas, brackets and braces; the most is {MAX_PARTS}")
    value = _json.loads(line)
    if len(line) > MAX_TEXT:
        _no_long_text(value)
    try:
        return kind.model_validate_json(line, strict=True)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None


def _no_long_text(value: Any) -> None:
    """Raise `ValueError` if any text in it is longer than a trajectory's may be."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting += [*found, *found.values()]
        elif isinstance(found, list):
            waiting += found
        elif isinstance(found, str) and len(found) > MAX_TEXT:
            raise ValueError(f"a text of {len(found)} characters, {found[:40]!r}...; the most is {MAX_TEXT}")


def _follows(claimed: str, source: str, namespace: str) -> None:
    """Raise `ValueError` unless an id is the one of its source."""
    if namespace:
        known_namespace(namespace)
    if claimed != procedure_id(source, namespace):
        raise ValueError(f"the id {claimed!r} does not follow from its source {source!r:.100}")
