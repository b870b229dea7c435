"""The report of a study: its summary, its tables, its plots and its page, all from what lies in its folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from evals.columns import COLUMNS, SPLIT
from evals.costs import costs, payback, set_ups
from evals.page import page
from evals.plot import plot_differences, plot_means
from evals.results import Results
from evals.summary import Line, summarise
from evals.table import Column, Entry, Table, entries, fill, telling
from memp.errors import MissingExtra

log = logging.getLogger(__name__)

HEADLINE = (
    *("env_name", "agent", "fallback", "model", "embedder", "key"),
    *("k", "train", "max_steps", "seed", "seeds", "commit"),
)
"""What of the manifest a table is headed with, where it is set."""

PLOTS = {
    "plot.png": ("what each arm did, with 95 % intervals", plot_means),
    "over_none.png": ("differences to no memory, with 95 % intervals", plot_differences),
}
"""What each file shows, and who draws it."""

NOTE = (
    "Means with 95 % bootstrap intervals over tasks. `over none`: paired difference to no memory;"
    " `ns`: not significant at 5 % (two-sided sign-flip test over tasks, Holm-corrected over the arms of a split),"
    " so no difference was shown."
)

PAYBACK_NOTE = (
    "Building a memory is paid back when the tasks done with it have taken as much less than without it as building"
    " took, counted in what the chat model read and wrote; the interval is that of the difference."
)


@dataclass(frozen=True)
class Report:
    """What a study has found, ready to be shown."""

    title: str
    facts: list[tuple[str, str]]
    """What decided the result, in short."""

    warnings: list[str]
    """What a reader has to know before anything else."""

    lines: list[Line]
    """The summary."""

    entries: list[Entry]
    columns: list[Column]
    costs: list[str]
    payback: Table | None
    manifests: tuple[Mapping[str, Any], ...]

    @property
    def table(self) -> Table:
        """All splits in one table."""
        return fill([SPLIT, *self.columns], self.entries)

    @property
    def by_split(self) -> list[tuple[str, Table]]:
        """A table for each split."""
        splits = groupby(self.entries, key=lambda entry: entry.split)
        return [(split, fill(self.columns, found)) for split, found in splits]


def report(results: Results) -> Report:
    """Work out what results say."""
    price = results.price
    lines = summarise(results.rows, results.arms, price)
    shown = entries(lines)
    built = set_ups(results.manifests)
    facts = [(name, results.stated(name)) for name in HEADLINE]
    return Report(
        title=f"{results.stated('study')}: {results.stated('env_name')}, {results.stated('agent')}",
        facts=[(name, value) for name, value in facts if value] + ([("price", str(price))] if price else []),
        warnings=[f"Unfinished: {results.missing:,} episodes have not been run."] if results.missing else [],
        lines=lines,
        entries=shown,
        columns=telling(COLUMNS, shown),
        costs=costs(built, price),
        payback=payback(shown, results.arms, built, price),
        manifests=results.manifests,
    )


def markdown(found: Report) -> str:
    """The tables as Markdown, with what they mean."""
    ran = ", ".join(f"{name} {value}" for name, value in found.facts)
    parts = [
        f"# {found.manifests[0]['study']}: {ran}",
        *(f"**{warning}**" for warning in found.warnings),
        found.table.markdown(),
        "\n".join(f"- {line}" for line in found.costs),
        found.payback.markdown() if found.payback else "",
        NOTE,
        PAYBACK_NOTE if found.payback else "",
        "\n".join(f"- *{column.head}*: {column.means}" for column in found.columns),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def write(out: Path, results: Results) -> Report:
    """Write the report into a folder, and return it.

    `summary.json`, `table.md`, `report.html` and, where matplotlib is installed, `plot.png` and `over_none.png`;
    of several folders also their manifests, in `manifests.json`.
    """
    found = report(results)
    out.mkdir(parents=True, exist_ok=True)
    _write_json(out / "summary.json", [line._asdict() for line in found.lines])
    if len(found.manifests) > 1:
        _write_json(out / "manifests.json", found.manifests)
    (out / "table.md").write_text(markdown(found))
    plots = _drawn(out, found)
    try:
        text = page(plots, report=found, note=NOTE, payback_note=PAYBACK_NOTE, manifests=_folded(found))
    except MissingExtra as missing:
        log.warning("no page: %s", missing)
    else:
        (out / "report.html").write_text(text, encoding="utf-8")
    return found


def _drawn(out: Path, found: Report) -> dict[str, bytes]:
    """Write the plots, and return them by what they say; without matplotlib, say that there are none."""
    plots = {}
    try:
        for name, (says, draw) in PLOTS.items():
            plots[says] = draw(found.title, found.entries)
            (out / name).write_bytes(plots[says])
    except MissingExtra as missing:
        log.warning("no plot: %s", missing)
    return plots


def _folded(found: Report) -> list[tuple[str, str]]:
    """A heading and the text of each manifest."""
    return [
        (f"manifest of seed {manifest['seed']}, commit {manifest['commit']}", json.dumps(manifest, indent=2))
        for manifest in found.manifests
    ]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
