"""The results of a study on disk: a line an episode, appended as it ends, and read back to resume."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from io import BufferedWriter
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar
from weakref import finalize

from pydantic import ValidationError

from memp.errors import InputError
from memp.trajectory import Record, Trajectory
from tasks.base import Split

R = TypeVar("R", bound=Record)


class EpisodeKey(NamedTuple):
    """What makes an episode this one and no other."""

    arm: str
    task: str
    split: Split
    seed: int
    model: str = ""
    source: str = ""


class Row(Record):
    """One episode of a study."""

    arm: str

    model: str = ""
    """Who acted, in a study that compares chat models."""

    source: str = ""
    """Whose trajectories the memory is of, where they are another model's."""

    task: str
    """The id of the task."""

    kind: str
    split: Split
    seed: int

    group: int = 0
    """Which group of tasks it was in: memories that learn do so between groups."""

    success: bool
    reward: float
    """The benchmark's final score, in [0, 1]."""

    steps: int
    tokens_in: int
    tokens_out: int
    shown: tuple[str, ...]
    """Ids of the procedures shown."""

    @property
    def key(self) -> EpisodeKey:
        """What makes an episode this one and no other."""
        return EpisodeKey(self.arm, self.task, self.split, self.seed, self.model, self.source)


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

    The file is read when it is first asked for or added to. A line that a kill cut short is dropped: its episode
    is run again.
    """

    def __init__(self, path: Path, kind: type[R]) -> None:
        """Take the file, which need not exist; nothing is read yet."""
        self._path = path
        self._kind = kind
        self._lock = threading.Lock()
        self._file: BufferedWriter | None = None
        self._read: list[R] | None = None

    @property
    def held(self) -> Sequence[R]:
        """All records, in the order of the file.

        Raises:
            InputError: if a line other than a last one cut short is no record of this kind.
        """
        with self._lock:
            return tuple(self._records())

    def add(self, record: R) -> None:
        """Append a record; the file has it when this returns.

        Raises:
            InputError: as `held`.
        """
        line = record.model_dump_json().encode() + b"\n"
        with self._lock:
            records = self._records()
            self._file = self._file or self._opened()
            self._file.write(line)
            self._file.flush()
            records.append(record)

    def _records(self) -> list[R]:
        if self._read is None:
            self._read, cut = read(self._path, self._kind)
            if cut:
                with self._path.open("r+b") as file:
                    file.truncate(self._path.stat().st_size - len(cut))
        return self._read

    def _opened(self) -> BufferedWriter:
        """The file, open as long as this object lives: to open it for every line took longer than all else."""
        file = self._path.open("ab")
        finalize(self, file.close)
        return file


class Episodes:
    """The episodes of a study: of each a row, and what was lived through."""

    def __init__(self, rows: Lines[Row], lived: Lines[Trajectory]) -> None:
        """Take what there is of both; a trajectory without a row is of an episode that is run again."""
        self._rows = rows
        self._lived = lived

    @property
    def held(self) -> Sequence[Row]:
        """All rows, in the order in which the episodes ended."""
        return self._rows.held

    def add(self, row: Row, trajectory: Trajectory) -> None:
        """Append an episode; it counts once its row is there."""
        self._lived.add(trajectory)
        self._rows.add(row)

    def rows(self, keys: Sequence[EpisodeKey]) -> list[Row]:
        """Return the rows of some episodes, all of which have ended."""
        found = {row.key: row for row in self.held}
        return [found[key] for key in keys]

    def lived(self, keys: Sequence[EpisodeKey]) -> list[Trajectory]:
        """Return what was lived through in some episodes, all of which have ended."""
        found = {trajectory.episode_id: trajectory for trajectory in self._lived.held}
        return [found[episode_id(key)] for key in keys]


def episode_id(key: EpisodeKey) -> str:
    """What the trajectory of an episode is found by."""
    return "/".join(map(str, key))
