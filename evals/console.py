"""A study on the command line: its progress, its table, and what went wrong in one line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self, TypeVar

import click
from rich.console import Console
from rich.markdown import Markdown
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

from evals.chats.models import Models
from evals.chats.spending import BUDGET_SPENT, Budget, BudgetSpent, Spending, price_given
from evals.folder import MANIFEST, Folder
from evals.plan import OpenChat, Plan
from evals.reports.report import NOTE, Report, write
from evals.reports.results import read_results
from evals.reports.table import Table
from evals.runner import SoFar
from evals.settings import Settings, concurrency
from evals.study import run
from memp.errors import InputError, MempError

WIDTH = 1000
"""More than any table takes, in characters: one that wraps cannot be read."""

SPEED_S = 600.0
"""Over how long the time left is judged, in seconds: episodes may take minutes, and end many at once."""

S = TypeVar("S", bound=Settings)


class Bars:
    """A bar a stage, from its first report on: what fails before shows none."""

    def __init__(self, console: Console) -> None:
        """Take where to draw."""
        self._bars = Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[so_far]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=SPEED_S,
            refresh_per_second=4,
        )
        self._ids: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int, so_far: SoFar | None) -> None:
        """Draw how far a stage is."""
        if not self._ids:
            self._bars.start()
        if stage not in self._ids:
            self._ids[stage] = self._bars.add_task(stage, so_far="")
        self._bars.update(self._ids[stage], completed=done, total=total, so_far=_said(so_far))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ids:
            self._bars.stop()


def conduct(
    kind: type[S],
    plan: Callable[[S, OpenChat], Plan],
    *,
    out: Path | None,
    workers: int | None,
    instead: Callable[[Plan, Folder], str] | None = None,
    cache: Path | None,
    no_cache: bool,
    max_tokens: int | None,
    max_cost: float | None,
    price_in: float | None,
    price_out: float | None,
    **given: Any,
) -> None:
    """Run a study with what was given on the command line, and print its table, or a Markdown text instead."""
    began = time.monotonic()
    console = Console()
    try:
        settings = kind.of(**given)
        name = f"{settings.study}-{settings.env}-{settings.agent}-{settings.seed}"
        folder = Folder(out or Path("runs") / name)
        spending = Spending(Budget(max_tokens, max_cost), price_given(price_in, price_out))
        with closing(Models(spending, cache=cache, no_cache=no_cache)) as models:
            chosen = plan(settings, models.open)
            with folder.locked():
                stopped = _run(chosen, folder, spending, console, workers or concurrency(settings))
                found = write(folder.path, read_results([folder.path])) if folder.episodes().held else None
                text = None if instead is None or stopped else instead(chosen, folder)
    except MempError as error:
        raise click.ClickException(str(error)) from error
    if text is not None:
        console.print(Markdown(text))
    elif found is not None:
        _print(found)
    if said := str(spending):
        click.echo(said)
    click.echo(f"{time.monotonic() - began:.0f} s; everything is in {folder.path}")
    if stopped:
        click.echo(spending.over)
        raise click.exceptions.Exit(BUDGET_SPENT)


def _run(plan: Plan, folder: Folder, spending: Spending, console: Console, workers: int) -> bool:
    """Run a study to its end, or until its budget is spent; returns whether that stopped it."""
    spending.begin(folder.charges())
    stopped = False
    try:
        with Bars(console) as bars:
            run(plan, folder, workers=workers, progress=bars, allowed=spending.check)
    except BudgetSpent:
        stopped = True
    if spending.price is not None:
        folder.state(spending.price)
    return stopped


def _said(so_far: SoFar | None) -> str:
    if so_far is None:
        return ""
    parts = [f"score {100 * so_far.score:.1f}"]
    if so_far.success is not None:
        parts.append(f"success {100 * so_far.success:.1f} %")
    if so_far.tokens:
        parts.append(f"{so_far.tokens / 1e6:.2f}M tokens")
    return ", ".join(parts)


def report_again(folders: Sequence[Path], out: Path | None) -> None:
    """Write the report of what lies in folders, and print its tables."""
    try:
        target = report_target(folders, out)
        found = write(target, read_results(folders))
    except MempError as error:
        raise click.ClickException(str(error)) from error
    _print(found)
    click.echo(f"the report is in {target}")


def report_target(folders: Sequence[Path], out: Path | None) -> Path:
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
    print_table(found.title, found.table)
    if found.by_group is not None:
        print_table("Group by group", found.by_group)
    for line in found.costs:
        click.echo(line)
    if found.payback is not None:
        print_table("When building has paid", found.payback)
    click.echo(NOTE)


def print_table(title: str, table: Table) -> None:
    """Print a table in as much width as it takes."""
    shown = RichTable(*table.head, title=title, box=None)
    for texts in table.body:
        shown.add_row(*texts)
    Console(width=WIDTH, markup=False).print(shown)
