"""The results of a study on disk: a line an episode, appended as it ends, and read back to resume."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from memp.errors import InputError
from memp.trajectory import Record
from tasks.base import Split

R = TypeVar("R", bound=Record)


class Row(Record):
    """One episode of a study."""

    arm: str
    task: str
    """The id of the task."""

    kind: str
    split: Split
    seed: int
    success: bool
    reward: float
    """The benchmark's final score, in [0, 1]."""

    steps: int
    tokens_in: int
    tokens_out: int
    shown: tuple[str, ...]
    """Ids of the procedures shown."""

    @property
    def key(self) -> tuple[str, str, Split, int]:
        """What makes an episode this one and no other."""
        return self.arm, self.task, self.split, self.seed


def read(path: Path, kind: type[R]) -> tuple[list[R], bytes]:
    """Read the records of a file, and what a kill left of a last line; the file stays as it is.

    Raises:
        InputError: if a line other than a last one cut short is no record of this kind.
    """
    whole, _, cut = (path.read_bytes() if path.exists() else b"").rpartition(b"\n")
    records = []
    for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
        try:
            records.append(kind.model_validate_json(line))
        except ValidationError as error:
            raise InputError(f"{path} line {number} is no {kind.__name__.lower()}: {error}") from error
    return records, cut


class Lines(Generic[R]):
    """Records in a file of JSON lines, appended by several threads and read back.

    A line that a kill cut short is dropped: its episode is run again.
    """

    def __init__(self, path: Path, kind: type[R]) -> None:
        """Read what is there.

        Raises:
            InputError: if a line other than a last one cut short is no record of this kind.
        """
        self._path = path
        self._lock = threading.Lock()
        self._held, cut = read(path, kind)
        if cut:
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size - len(cut))

    @property
    def held(self) -> Sequence[R]:
        """All records, in the order of the file."""
        with self._lock:
            return tuple(self._held)

    def add(self, record: R) -> None:
        """Append a record; the file has it when this returns."""
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
            self._held.append(record)
