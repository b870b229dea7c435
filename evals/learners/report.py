"""What the reports of all studies of learners share: a summary, a table with what its columns mean, pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evals.reports.report import write_json
from evals.reports.table import Table
from memp.errors import MissingExtra

log = logging.getLogger(__name__)


class Column(NamedTuple):
    """A column of the table, and what it means."""

    head: str
    metric: str
    means: str
    scale: float = 1
    form: str = ".1f"


class Report(NamedTuple):
    """What a study found."""

    lines: Sequence[Any]
    """Named tuples: the rows of the summary."""

    table: Table
    note: str


def meanings(columns: Sequence[Column]) -> str:
    """Say what columns mean, a line each."""
    return "\n".join(f"- *{column.head}*: {column.means}" for column in columns)


def publish(
    out: Path,
    manifest: Mapping[str, Any],
    found: Report,
    *,
    headline: Sequence[str],
    pictures: Mapping[str, Callable[[], bytes]],
) -> Report:
    """Write `summary.json`, `table.md` and, where matplotlib is installed, pictures.

    Args:
        out: The folder.
        manifest: Of the study.
        found: What goes into the files.
        headline: What of the manifest the table is headed with.
        pictures: What draws each, as PNG, by the name of its file.

    Returns:
        `found`.
    """
    write_json(out / "summary.json", [line._asdict() for line in found.lines])
    facts = ", ".join(f"{name} {manifest[name]}" for name in headline)
    (out / "table.md").write_text(
        f"# {manifest['study']}: {facts}\n\n{found.table.markdown()}\n\n{found.note}\n"
    )
    try:
        for name, draw in pictures.items():
            (out / name).write_bytes(draw())
    except MissingExtra as missing:
        log.warning("no plot: %s", missing)
    return found
