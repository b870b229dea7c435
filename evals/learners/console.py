"""A study of learners on the command line: its units, several at once, and its table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import click
from rich.console import Console

from evals.console import Bars, print_table, report_target
from evals.folder import EPISODES, MANIFEST, Folder
from evals.learners.report import Report, write
from evals.learners.rows import LearnerRow
from evals.learners.skills import Skills, live
from evals.rows import Lines
from memp.errors import MempError


def conduct(study: Skills, out: Path | None, workers: int) -> None:
    """Run what is not yet run of a study, and print its table."""
    began = time.monotonic()
    folder = Folder(out or Path("runs") / f"skills-{study.episodes}-{study.tested}-{study.seed}")
    try:
        with folder.locked():
            folder.claim(study.manifest)
            rows = Lines(folder.path / EPISODES, LearnerRow)
            _run(study, rows, workers)
            found = write(folder.path, rows.held, folder.manifest())
    except MempError as error:
        raise click.ClickException(str(error)) from error
    _print(found)
    click.echo(f"{time.monotonic() - began:.0f} s; everything is in {folder.path}")


def of_learners(folders: Sequence[Path]) -> bool:
    """Whether any of some folders holds a study of learners."""
    manifests = (Folder(folder).manifest() for folder in folders if (folder / MANIFEST).exists())
    return any(manifest.get("study") == Skills.study for manifest in manifests)


def report_again(folders: Sequence[Path], out: Path | None) -> None:
    """Write the report of a folder again, and print its table."""
    if len(folders) > 1:
        raise click.ClickException("a study of learners is reported folder by folder: give one")
    folder = Folder(folders[0])
    try:
        target = report_target(folders, out)
        target.mkdir(parents=True, exist_ok=True)
        found = write(target, Lines(folder.path / EPISODES, LearnerRow).held, folder.manifest())
    except MempError as error:
        raise click.ClickException(str(error)) from error
    _print(found)
    click.echo(f"the report is in {target}")


def _print(found: Report) -> None:
    print_table(Skills.study, found.table)
    click.echo(found.note)


def _run(study: Skills, rows: Lines[LearnerRow], workers: int) -> None:
    """Add the episodes that are not there: a unit of which some are missing is run again, and comes out the same."""
    there = {row.place for row in rows.held}
    counts = Counter((place.regime, place.seed) for place in there)
    missing = [unit for unit in study.units if counts[unit.regime, unit.seed] < study.per_unit]
    with Bars(Console()) as bars, ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        bars("episodes", len(there), study.per_unit * len(study.units), None)
        running = [pool.submit(live, study, unit) for unit in missing]
        try:
            for lived in as_completed(running):
                for row in lived.result():
                    if row.place not in there:
                        rows.add(row)
                bars("episodes", len(rows.held), study.per_unit * len(study.units), None)
        except BaseException:  # an interrupt must not wait for all that is left
            pool.shutdown(wait=False, cancel_futures=True)
            raise
