"""`python -m evals STUDY`: run a study and print its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from evals.console import conduct, report_again
from evals.options import common
from evals.studies import build as building
from evals.studies import retrieve as retrieving
from memp.retrieve import KEYS

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group()
def main() -> None:
    """Measure whether procedural memory helps, with the baselines that can show that it does not.

    A run that was interrupted goes on where it stopped, when it is given the same options.
    """


@main.command()
@common("retrieve")
def retrieve(**options: Any) -> None:
    """Compare no memory, a random sample, and retrieval by query and by AveFact (the paper's Table 2)."""
    conduct(retrieving.Retrieve, retrieving.plan, **options)


@main.command()
@common("build")
@click.option(
    "--key",
    default="query",
    show_default=True,
    type=click.Choice(KEYS),
    help="What procedures are found by, in every arm.",
)
def build(**options: Any) -> None:
    """Compare no memory, scripts, trajectories, and both (the paper's Table 1); needs --model."""
    conduct(building.Build, building.plan, **options)


@main.command()
@click.argument("folders", nargs=-1, required=True, type=FOLDER)
@click.option("--out", type=FOLDER, help="Folder of the report [default: the one of the study].")
def report(folders: tuple[Path, ...], out: Path | None) -> None:
    """Write the report of a study again, from its folder alone; several of the same study are made one table."""
    report_again(folders, out)


if __name__ == "__main__":
    main()
