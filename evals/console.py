"""A study on the command line: its progress, its table, and what went wrong in one line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table as RichTable

from evals.folder import MANIFEST, Folder
from evals.plan import Plan
from evals.report import NOTE, Report, write
from evals.results import read_results
from evals.settings import Settings, concurrency
from evals.study import run
from evals.table import Table
from memp.errors import InputError, MempError

WIDTH = 1000
"""More than any table takes, in characters: one that wraps cannot be read."""

S = TypeVar("S", bound=Settings)


class Bars:
    """A bar a stage, from its first report on: what fails before shows none."""

    def __init__(self, console: Console) -> None:
        """Take where to draw."""
        self._bars = Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[mean]:>16}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._ids: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int, mean: float | None) -> None:
        """Draw how far a stage is."""
        if not self._ids:
            self._bars.start()
        if stage not in self._ids:
            self._ids[stage] = self._bars.add_task(stage, mean="")
        said = "" if mean is None else f"mean score {100 * mean:5.1f}"
        self._bars.update(self._ids[stage], completed=done, total=total, mean=said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ids:
            self._bars.stop()


def conduct(
    kind: type[S],
    plan: Callable[[S], Plan],
    *,
    out: Path | None,
    workers: int | None,
    **given: Any,
) -> None:
    """Run a study with what was given on the command line, and print its table."""
    began = time.monotonic()
    console = Console()
    try:
        settings = kind.of(**given)
        name = f"{settings.study}-{settings.env}-{settings.agent}-{settings.seed}"
        folder = Folder(out or Path("runs") / name)
        chosen = plan(settings)
        with Bars(console) as bars:
            run(chosen, folder, workers=workers or concurrency(settings.model), progress=bars)
        found = write(folder.path, read_results([folder.path]))
    except MempError as error:
        raise click.ClickException(str(error)) from error
    _print(found)
    click.echo(f"{time.monotonic() - began:.0f} s; everything is in {folder.path}")


def report_again(folders: Sequence[Path], out: Path | None) -> None:
    """Write the report of what lies in folders, and print its tables."""
    try:
        target = _target(folders, out)
        found = write(target, read_results(folders))
    except MempError as error:
        raise click.ClickException(str(error)) from error
    _print(found)
    click.echo(f"the report is in {target}")


def _target(folders: Sequence[Path], out: Path | None) -> Path:
    """Where to write a report: beside the episodes of one study, else where no study is."""
    if out is None and len(folders) > 1:
        raise InputError("several folders make one report: say with --out where to write it")
    target = out or folders[0]
    if (target / MANIFEST).exists() and [target] != list(folders):
        raise InputError(f"{target} holds a study, whose own report would be lost; give another --out")
    return target


def _print(found: Report) -> None:
    for warning in found.warnings:
        click.echo(warning)
    _print_table(found.title, found.table)
    for line in found.costs:
        click.echo(line)
    if found.payback is not None:
        _print_table("When building has paid", found.payback)
    click.echo(NOTE)


def _print_table(title: str, table: Table) -> None:
    shown = RichTable(*table.head, title=title, box=None)
    for texts in table.body:
        shown.add_row(*texts)
    Console(width=WIDTH, markup=False).print(shown)
