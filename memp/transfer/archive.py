"""A zip file that nothing is believed of: neither its sizes nor its names nor its hashes."""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from memp.errors import InputError, MempError
from memp.transfer.form import (
    FREE,
    MANIFEST,
    MAX_BYTES,
    MAX_LINE,
    MAX_MANIFEST,
    MAX_RATIO,
    MEMBERS,
    VECTORS,
    Member,
)

CHUNK = 2**20
"""How much is read at once."""

MAX_READ = 2 * CHUNK
"""`zipfile` reads the list of members whole: one that is longer than this is no bundle's."""

PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    ValueError,
)
"""What `zipfile` raises over files that are none, and what we raise over lines."""


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Turn what is wrong with a bundle into `InputError`."""
    try:
        yield
    except MempError:
        raise
    except _BROKEN as error:
        raise InputError(f"the bundle {str(path)!r} is refused: {error or type(error).__name__}") from error


class Archive:
    """The members of a bundle, checked as far as the list of them allows, and read with their limits."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            ValueError, OSError, zipfile.BadZipFile: if it cannot be a bundle.
        """
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait for ever
            raise ValueError("it is no file")
        self._file = path.open("rb")
        try:
            self.sha256 = hashlib.file_digest(self._file, "sha256").hexdigest()
            if not zipfile.is_zipfile(self._file):
                raise ValueError("it is no zip file, or not all of one")
            self._zip = zipfile.ZipFile(_Guarded(self._file))
            self._members = _checked(self._zip.infolist(), self._file.seek(0, 2))
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()

    def manifest(self) -> bytes:
        """Return the manifest, as it stands there.

        Raises:
            ValueError: if it is too long.
        """
        with self._zip.open(self._members[MANIFEST]) as stream:
            text = stream.read(MAX_MANIFEST + 1)
        if len(text) > MAX_MANIFEST:
            raise ValueError(f"{MANIFEST} is longer than {MAX_MANIFEST} bytes")
        return text

    def names(self) -> set[str]:
        """Return what it holds."""
        return set(self._members)

    def lines(self, name: str, member: Member) -> Iterator[bytes]:
        """Yield the lines of a member, without their ends.

        Only after the last one it is known that they are what the manifest says.

        Raises:
            ValueError: if they are not, or one is too long.
        """
        packed = self._members[name].compress_size
        hashed, size, count, rest = hashlib.sha256(), 0, 0, b""
        with self._zip.open(self._members[name]) as stream:
            while chunk := stream.read(CHUNK):
                hashed.update(chunk)
                size += len(chunk)
                if size > member.bytes:
                    raise ValueError(f"{name} is longer than the {member.bytes} bytes that the manifest says")
                if size > FREE + MAX_RATIO * packed:
                    raise ValueError(
                        f"{name} unpacks to more than {MAX_RATIO} times its size, as a bomb does"
                    )
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    count += 1
                    _short(line, name, count)
                    yield line
                _short(rest, name, count + 1)
        found = Member(lines=count, bytes=size, sha256=hashed.hexdigest())
        if rest:
            raise ValueError(f"{name} does not end with the end of a line")
        if found != member:
            raise ValueError(f"{name} is not what the manifest says: {_difference(found, member)}")


class _Guarded:
    """A file that is read in small parts alone."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > MAX_READ or len(found := self._file.read(size if size >= 0 else MAX_READ + 1)) > MAX_READ:
            raise ValueError("its list of members is longer than a bundle's")
        return found


def _checked(listed: list[zipfile.ZipInfo], size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name, or raise `ValueError` over the first that is none of a bundle's."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in listed:
        if reason := _fault(info):
            raise ValueError(f"its member {info.orig_filename!r:.200} {reason}")
        if info.filename in members:
            raise ValueError(f"its member {info.filename!r} is there twice")
        members[info.filename] = info
    for name in MEMBERS:
        if name not in members and name != VECTORS:
            raise ValueError(f"it lacks {name}")
    if sum(info.compress_size for info in listed) > size:
        raise ValueError("its members are longer than all of it")
    if sum(info.file_size for info in listed) > MAX_BYTES:
        raise ValueError(f"its members unpack to more than {MAX_BYTES} bytes")
    return members


def _fault(info: zipfile.ZipInfo) -> str:
    """What makes a member none of a bundle's; empty if nothing does."""
    name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
    path = PurePosixPath(name.replace("\\", "/"))
    faults = {
        "would lie outside of it": path.is_absolute() or ".." in path.parts or ":" in name,
        f"is not one of {', '.join(MEMBERS)}": name not in MEMBERS,
        "is a link, or another thing that is no file": kind not in (0, stat.S_IFREG),
        "is encrypted": bool(info.flag_bits & 1),
        "is packed in a way that bundles do not use": info.compress_type not in PACKINGS,
        f"unpacks to more than {MAX_RATIO} times its size, as a bomb does": (
            info.file_size > FREE + MAX_RATIO * info.compress_size
        ),
    }
    return next((fault for fault, found in faults.items() if found), "")


def _short(line: bytes, name: str, number: int) -> None:
    if len(line) > MAX_LINE:
        raise ValueError(f"{name} line {number} is longer than {MAX_LINE} bytes")


def _difference(found: Member, member: Member) -> str:
    pairs: list[tuple[str, Any, Any]] = [
        (field, getattr(found, field), getattr(member, field)) for field in Member.model_fields
    ]
    return ", ".join(f"{field} {here}, not {said}" for field, here, said in pairs if here != said)
