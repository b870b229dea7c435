"""The studies of learners: what each brings along to be run and reported."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from evals.learners import skills, skills_report
from evals.learners.report import Report
from evals.learners.rows import LearnerRow
from memp.trajectory import Record


class Study(Protocol):
    """What a study is run with."""

    @property
    def study(self) -> str:
        """The name of the study."""
        ...

    @property
    def folder(self) -> str:
        """The name of its folder, where none is given."""
        ...

    @property
    def units(self) -> Sequence[tuple[str, int]]:
        """What can be run by itself, each with a seed."""
        ...

    @property
    def manifest(self) -> dict[str, Any]:
        """All that decides the result, and the commit it is run at."""
        ...

    def rows_of(self, unit: tuple[str, int]) -> int:
        """How many rows a unit has."""
        ...


class Placed(Protocol):
    """A row of such a study."""

    @property
    def unit(self) -> tuple[str, int]:
        """Which part of its study it belongs to."""
        ...

    @property
    def place(self) -> Hashable:
        """What makes it this one and no other."""
        ...


class Kind(NamedTuple):
    """A study, as the command line knows it; all its functions can be named in another process."""

    row: type[Record]
    """What is kept of a unit; each is `Placed`."""

    live: Callable[[Any, Any], Sequence[Placed]]
    """From the study and a unit to its rows."""

    write: Callable[[Path, Sequence[Any], Mapping[str, Any]], Report]
    """Writes the report into a folder, from the rows and the manifest."""


def kind_of(study: str) -> Kind | None:
    """Return what a study of learners brings along; None if it is no study of learners.

    What needs torch is imported only when it is asked for.
    """
    if study == "skills":
        return Kind(LearnerRow, skills.live, skills_report.write)
    if study == "continual":
        from evals.learners import cells, continual, continual_report

        return Kind(cells.Cell, continual.live, continual_report.write)
    if study == "dnc":
        from evals.learners import algorithms, cells

        return Kind(cells.Cell, algorithms.live, algorithms.write)
    if study == "maml":
        from evals.learners import fits

        return Kind(fits.Fit, fits.live, fits.write)
    if study == "cppo":
        from evals.learners import cells, cppo, cppo_report

        return Kind(cells.Cell, cppo.live, cppo_report.write)
    return None
