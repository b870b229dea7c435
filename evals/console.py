"""A study on the command line: its progress, its table, and what went wrong in one line."""

from __future__ import annotations

import time
from collections.abc import Callable
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
from evals.plan import Plan
from evals.report import NOTE, Line, cells, costs, read_manifest, write
from evals.rows import Row
from evals.settings import Settings, concurrency
from evals.study import run
from memp.errors import MempError

WIDTH = 180
"""Of the widest table, in characters: one that wraps cannot be read."""

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
    instead: Callable[[Plan, Folder], str] | None = None,
    **given: Any,
) -> None:
    """Run a study with what was given on the command line, and print its table, or a Markdown text instead."""
    began = time.monotonic()
    console = Console()
    try:
        settings = kind.of(**given)
        name = f"{settings.study}-{settings.env}-{settings.agent}-{settings.seed}"
        folder = Folder(out or Path("runs") / name)
        chosen = plan(settings)
        with Bars(console) as bars:
            rows = run(chosen, folder, workers=workers or concurrency(settings), progress=bars)
        lines = write(folder.path, rows, [arm.name for arm in chosen.arms])
    except MempError as error:
        raise click.ClickException(str(error)) from error
    if instead is None:
        _print(console, folder.path, lines, rows)
    else:
        console.print(Markdown(instead(chosen, folder)))
    click.echo(f"{NOTE} {time.monotonic() - began:.0f} s; everything is in {folder.path}")


def _print(console: Console, out: Path, lines: list[Line], rows: list[Row]) -> None:
    manifest = read_manifest(out)
    head, body = cells(lines, rows)
    table = Table(*head, title=f"{manifest['study']}: {manifest['env']}, {manifest['agent']}", box=None)
    for texts in body:
        table.add_row(*texts)
    Console(width=max(console.width, WIDTH)).print(table)
    for line in costs(manifest):
        click.echo(line)
