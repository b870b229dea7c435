"""A study of learners on the command line: its units, several at once, and its table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from evals.console import Bars, print_table, report_target
from evals.folder import EPISODES, MANIFEST, Folder
from evals.learners.kinds import Kind, Study, kind_of
from evals.learners.report import Report
from evals.rows import Lines
from memp.errors import MempError


def conduct(study: Study, out: Path | None, workers: int) -> None:
    """Run what is not yet run of a study, and print its table."""
    began = time.monotonic()
    folder = Folder(out or Path("runs") / study.folder)
    try:
        kind = _kind(study.study)
        with folder.locked():
            folder.claim(study.manifest)
            rows: Lines[Any] = Lines(folder.path / EPISODES, kind.row)
            _run(study, kind, rows, workers)
            found = kind.write(folder.path, rows.held, folder.manifest())
    except MempError as error:
        raise click.ClickException(str(error)) from error
    _print(study.study, found)
    click.echo(f"{time.monotonic() - began:.0f} s; everything is in {folder.path}")


def of_learners(folders: Sequence[Path]) -> bool:
    """Whether any of some folders holds a study of learners."""
    manifests = (Folder(folder).manifest() for folder in folders if (folder / MANIFEST).exists())
    return any(kind_of(str(manifest.get("study"))) for manifest in manifests)


def report_again(folders: Sequence[Path], out: Path | None) -> None:
    """Write the report of a folder again, and print its table."""
    if len(folders) > 1:
        raise click.ClickException("a study of learners is reported folder by folder: give one")
    folder = Folder(folders[0])
    try:
        manifest = folder.manifest()
        kind = _kind(manifest["study"])
        target = report_target(folders, out)
        target.mkdir(parents=True, exist_ok=True)
        found = kind.write(target, Lines(folder.path / EPISODES, kind.row).held, manifest)
    except MempError as error:
        raise click.ClickException(str(error)) from error
    _print(manifest["study"], found)
    click.echo(f"the report is in {target}")


def _kind(study: str) -> Kind:
    kind = kind_of(study)
    assert kind is not None
    return kind


def _print(study: str, found: Report) -> None:
    print_table(study, found.table)
    click.echo(found.note)


def _run(study: Study, kind: Kind, rows: Lines[Any], workers: int) -> None:
    """Add the rows that are not there: a unit of which some are missing is run again, and comes out the same."""
    there = {row.place for row in rows.held}
    counts = Counter(row.unit for row in rows.held)
    missing = [unit for unit in study.units if counts[tuple(unit)] < study.rows_of(unit)]
    total = sum(map(study.rows_of, study.units))
    with Bars(Console()) as bars, ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        bars("episodes", len(there), total, None)
        running = [pool.submit(kind.live, study, unit) for unit in missing]
        try:
            for lived in as_completed(running):
                for row in lived.result():
                    if row.place not in there:
                        rows.add(row)
                bars("episodes", len(rows.held), total, None)
        except BaseException:  # an interrupt must not wait for all that is left
            pool.shutdown(wait=False, cancel_futures=True)
            raise
