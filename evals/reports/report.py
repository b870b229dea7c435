"""The report of a study: its summary, its tables, its plots and its page, all from what lies in its folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from evals.reports.columns import BLOCK, COLUMNS, by_group
from evals.reports.costs import costs, payback, set_ups
from evals.reports.curves import plot_amounts, plot_groups
from evals.reports.page import page
from evals.reports.plot import plot_differences, plot_means
from evals.reports.results import Results
from evals.reports.summary import Line, summarise
from evals.reports.table import Column, Entry, Table, entries, fill, telling
from memp.errors import MissingExtra

log = logging.getLogger(__name__)

HEADLINE = (
    *("env_name", "agent", "fallback", "model", "models", "embedder", "key"),
    *("k", "train", "max_steps", "groups", "eras", "seed", "seeds", "commit"),
)
"""What of the manifest a table is headed with, where it is set."""

NOTE = (
    "Means with 95 % bootstrap intervals over tasks. `over none`: paired difference to no memory;"
    " `ns`: not significant at 5 % (two-sided sign-flip test over tasks, Holm-corrected over the arms compared),"
    " so no difference was shown."
)

PAYBACK_NOTE = (
    "Building a memory is paid back when the tasks done with it have taken as much less than without it as building"
    " took, counted in what chat models read and wrote; the interval is that of the difference. To build it is all"
    " that it took: practice, distilling and every update; of its own, where models differ: what the acting one took."
)


@dataclass(frozen=True)
class Report:
    """What a study has found, ready to be shown."""

    results: Results
    title: str
    facts: list[tuple[str, str]]
    """What decided the result, in short."""

    warnings: list[str]
    """What a reader has to know before anything else."""

    lines: list[Line]
    """The summary."""

    entries: list[Entry]
    """Of whole splits."""

    columns: list[Column]
    """Of the table of all splits."""

    groups: list[Entry]
    """Of the groups that tasks arrived in, where there were several."""

    group_columns: list[Column]
    """Of their table."""

    costs: list[str]
    payback: Table | None

    @property
    def table(self) -> Table:
        """All blocks in one table, but for those of groups."""
        return fill(self.columns, self.entries)

    @property
    def by_block(self) -> list[tuple[str, Table]]:
        """A table for each block."""
        columns = [column for column in self.columns if column not in BLOCK]
        blocks = groupby(self.entries, key=lambda entry: entry.block)
        return [(block.label, fill(columns, found)) for block, found in blocks]

    @property
    def by_group(self) -> Table | None:
        """A table of all groups; None where there was one."""
        return fill(self.group_columns, self.groups) if self.groups else None

    @property
    def explained(self) -> list[Column]:
        """Every column, once."""
        return list({column.head: column for column in (*self.columns, *self.group_columns)}.values())


def report(results: Results) -> Report:
    """Work out what results say."""
    price = results.price
    lines = summarise(results.rows, results.arms, price)
    shown = entries(line for line in lines if line.group is None)
    groups = entries(line for line in lines if line.group is not None)
    made = set_ups(results.manifests)
    facts = [(name, results.stated(name)) for name in HEADLINE]
    return Report(
        results=results,
        title=f"{results.stated('study')}: {results.stated('env_name')}, {results.stated('agent')}",
        facts=[(name, value) for name, value in facts if value] + ([("price", str(price))] if price else []),
        warnings=[f"Unfinished: {results.missing:,} episodes have not been run."] if results.missing else [],
        lines=lines,
        entries=shown,
        columns=telling((*BLOCK, *COLUMNS), shown),
        groups=groups,
        group_columns=telling(by_group(results.changes), groups),
        costs=costs(made, price),
        payback=payback(shown, results.arms, made, price),
    )


class Plot(NamedTuple):
    """A plot of a report, where it tells something."""

    file: str
    says: str
    draw: Callable[[Report], bytes]
    tells: Callable[[Report], bool] = bool


PLOTS = (
    Plot(
        "plot.png",
        "what each arm did, with 95 % intervals",
        lambda found: plot_means(found.title, found.entries),
    ),
    Plot(
        "over_none.png",
        "differences to no memory, with 95 % intervals",
        lambda found: plot_differences(found.title, found.entries),
    ),
    Plot(
        "groups.png",
        "differences to no memory, group by group, with 95 % intervals",
        lambda found: plot_groups(found.title, found.groups, found.results.changes),
        lambda found: bool(found.groups),
    ),
    Plot(
        "amounts.png",
        "what arms did by how many they have of something, with 95 % intervals",
        lambda found: plot_amounts(found.title, found.entries, found.results.arms),
        lambda found: any(arm.amounts for arm in found.results.arms),
    ),
)


def write(out: Path, results: Results) -> Report:
    """Write the report into a folder, and return it.

    `summary.json`, `table.md`, `report.html` and, where matplotlib is installed, those of `PLOTS` that tell
    something; of several folders also their manifests, in `manifests.json`.
    """
    found = report(results)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "summary.json", [line._asdict() for line in found.lines])
    if len(results.manifests) > 1:
        write_json(out / "manifests.json", results.manifests)
    (out / "table.md").write_text(_markdown(found))
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
        for plot in PLOTS:
            if plot.tells(found):
                plots[plot.says] = plot.draw(found)
                (out / plot.file).write_bytes(plots[plot.says])
    except MissingExtra as missing:
        log.warning("no plot: %s", missing)
    return plots


def _folded(found: Report) -> list[tuple[str, str]]:
    """A heading and the text of each manifest."""
    return [
        (f"manifest of seed {manifest['seed']}, commit {manifest['commit']}", json.dumps(manifest, indent=2))
        for manifest in found.results.manifests
    ]


def _markdown(found: Report) -> str:
    ran = ", ".join(f"{name} {value}" for name, value in found.facts)
    parts = [
        f"# {found.results.stated('study')}: {ran}",
        *(f"**{warning}**" for warning in found.warnings),
        found.table.markdown(),
        found.by_group.markdown() if found.by_group else "",
        "\n".join(f"- {line}" for line in found.costs),
        found.payback.markdown() if found.payback else "",
        NOTE,
        PAYBACK_NOTE if found.payback else "",
        "\n".join(f"- *{column.head}*: {column.means}" for column in found.explained),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def write_json(path: Path, value: object) -> None:
    """Write a value as the files of a report are written."""
    path.write_text(json.dumps(value, indent=2) + "\n")
