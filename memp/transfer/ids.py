"""Ids of procedures, kept small: a transfer reports on millions of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np


class Ids(Sequence[str]):
    """Ids of procedures in order, in 8 bytes each."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._numbers = array("Q", (int(procedure_id, 16) for procedure_id in ids))

    def append(self, procedure_id: str) -> None:
        """Add one at the end."""
        self._numbers.append(int(procedure_id, 16))

    def twice(self) -> str | None:
        """Return an id that is there more than once, or None."""
        ordered = np.sort(np.frombuffer(self._numbers, dtype=np.uint64)) if self._numbers else np.empty(0)
        again = np.flatnonzero(ordered[1:] == ordered[:-1])
        return _written(int(ordered[again[0]])) if len(again) else None

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [_written(number) for number in self._numbers[index]]
        return _written(self._numbers[index])

    def __len__(self) -> int:
        return len(self._numbers)

    def __eq__(self, other: object) -> bool:
        return self._numbers == other._numbers if isinstance(other, Ids) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        shown = ", ".join(self[:3])
        return f"Ids({shown}{', ...' if len(self) > 3 else ''}; {len(self)})"


def _written(number: int) -> str:
    return f"{number:016x}"
