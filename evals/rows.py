"""The results of a study on disk: a line an episode, appended as it ends, and read back to resume."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from io import BufferedWriter
from pathlib import Path
from typing import Generic, TypeVar
from weakref import finalize

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
        self._file: BufferedWriter | None = None
        self._held: list[R] = []
        whole, _, cut = (path.read_bytes() if path.exists() else b"").rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
            try:
                self._held.append(kind.model_validate_json(line))
            except ValidationError as error:
                raise InputError(f"{path} line {number} is no {kind.__name__.lower()}: {error}") from error
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
        line = record.model_dump_json().encode() + b"\n"
        with self._lock:
            self._file = self._file or self._opened()
            self._file.write(line)
            self._file.flush()
            self._held.append(record)

    def _opened(self) -> BufferedWriter:
        """The file, open as long as this object lives: to open it for every line took longer than all else."""
        file = self._path.open("ab")
        finalize(self, file.close)
        return file
