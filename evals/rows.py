"""The results of a study on disk: a line an episode, appended as it ends, and read back to resume."""

from __future__ import annotations

import threading
from pathlib import Path

from pydantic import ValidationError

from memp.errors import InputError
from memp.trajectory import Record
from tasks.base import Split


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


class Rows:
    """The rows of one study, in a file of JSON lines. A line that a kill cut short is dropped and run again."""

    def __init__(self, path: Path) -> None:
        """Read what is there.

        Raises:
            InputError: if a line other than a last one cut short is no row.
        """
        self._path = path
        self._lock = threading.Lock()
        self.rows: list[Row] = []
        kept = b""
        for number, line in enumerate(
            path.read_bytes().splitlines(keepends=True) if path.exists() else [], 1
        ):
            try:
                row = Row.model_validate_json(line)
            except ValidationError as error:
                if line.endswith(b"\n"):
                    raise InputError(f"{path} line {number} is no episode: {error}") from error
                break
            self.rows.append(row)
            kept += line if line.endswith(b"\n") else line + b"\n"
        if path.exists() and kept != path.read_bytes():
            path.write_bytes(kept)

    def add(self, row: Row) -> None:
        """Append a row; it is on disk when this returns."""
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(row.model_dump_json() + "\n")
            self.rows.append(row)
