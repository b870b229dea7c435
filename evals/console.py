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
from rich.table import Table

from evals.folder import Folder
from evals.models import Models
from evals.plan import OpenChat, Plan
from evals.report import NOTE, Line, cells, costs, read_manifest, write
from evals.rows import Row
from evals.runner import SoFar
from evals.settings import Settings, concurrency
from evals.spending import BUDGET_SPENT, Budget, BudgetSpent, Spending, price_given
from evals.study import run
from memp.errors import MempError

WIDTH = 180
"""Of the widest table, in characters: one that wraps cannot be read."""

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
                rows = folder.episodes().held
                lines = write(folder.path, rows, [arm.name for arm in chosen.arms]) if rows else []
                text = None if instead is None or stopped else instead(chosen, folder)
    except MempError as error:
        raise click.ClickException(str(error)) from error
    if text is not None:
        console.print(Markdown(text))
    elif lines:
        _print(console, folder.path, lines, rows)
        click.echo(NOTE)
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


def _print(console: Console, out: Path, lines: list[Line], rows: Sequence[Row]) -> None:
    manifest = read_manifest(out)
    head, body = cells(lines, rows)
    table = Table(*head, title=f"{manifest['study']}: {manifest['env']}, {manifest['agent']}", box=None)
    for texts in body:
        table.add_row(*texts)
    Console(width=max(console.width, WIDTH)).print(table)
    for line in costs(manifest):
        click.echo(line)
