"""`python -m evals STUDY`: run a study and print its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from evals.console import conduct
from evals.options import common, running
from evals.settings import SCALES
from evals.studies import build as building
from evals.studies import retrieve as retrieving
from evals.study_file import as_words, read
from memp.errors import MempError
from memp.retrieve import KEYS


@click.group()
def main() -> None:
    """Measure whether procedural memory helps, with the baselines that can show that it does not.

    A run that was interrupted goes on where it stopped, when it is given the same options. It exits with 0 when
    the study is done, 1 at an error, 2 at a wrong option, and 3 when its budget is spent.
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
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@running
@click.pass_context
def run(context: click.Context, /, file: Path, **given: Any) -> None:
    """Run the study that FILE.toml describes, as in studies/; options given here go before those in it.

    The file holds the name of the study (study = "build") and its options by their names here.
    """
    try:
        command, words = read(file, {name: main.commands[name] for name in SCALES})
    except MempError as error:
        raise click.ClickException(str(error)) from error
    for option in context.command.params:
        if isinstance(option, click.Option) and given.get(str(option.name)) is not None:
            words += as_words(option, given[str(option.name)])
    with command.make_context(command.name, words, parent=context.parent) as described:
        command.invoke(described)


if __name__ == "__main__":
    main()
