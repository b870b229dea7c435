"""`python -m evals STUDY`: run a study and print its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from evals.console import conduct, report_again
from evals.learners.commands import COMMANDS
from evals.learners.console import of_learners
from evals.learners.console import report_again as learned_again
from evals.options import common, counts, found_by, number, running
from evals.reports.compared import compared
from evals.settings import SCALES
from evals.studies import build as building
from evals.studies import compare as comparing
from evals.studies import retrieve as retrieving
from evals.studies import scaling as scaled
from evals.studies import transfer as transferred
from evals.studies import update as updating
from evals.study_file import as_words, read
from memp.errors import MempError

FOLDER = click.Path(file_okay=False, path_type=Path)


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
@found_by("build")
def build(**options: Any) -> None:
    """Compare no memory, scripts, trajectories, and both (the paper's Table 1)."""
    conduct(building.Build, building.plan, **options)


@main.command()
@common("update")
@found_by("update")
@number("update", "--groups", "Groups that the tasks arrive in, before each change of the world")
@number("update", "--eras", "How many times all tasks come, all places rearranged in between")
def update(**options: Any) -> None:
    """Compare updates after each group of tasks: none, vanilla, validation, reflection (the paper's Figure 3)."""
    conduct(updating.Update, updating.plan, **options)


@main.command()
@common("scaling")
@found_by("scaling")
@counts("--shown", scaled.Scaling.shown, "Procedures shown from the whole memory; an arm each.")
@counts(
    "--held", scaled.Scaling.held, "Training tasks in memory, of which -k procedures are shown; an arm each."
)
def scaling(**options: Any) -> None:
    """Compare numbers of procedures shown, and sizes of the memory (the paper's Figure 4b)."""
    conduct(scaled.Scaling, scaled.plan, **options)


@main.command()
@common("transfer")
def transfer(**options: Any) -> None:
    """Compare a model's own memory with those of others, inherited and rebuilt (the paper's Figure 4a)."""
    conduct(transferred.Transfer, transferred.plan, **options)


@main.command()
@common("compare")
@found_by("compare")
@click.option(
    "--task",
    help="The id of the task [default: the first that is tested on; with `--agent replay-first` all of them].",
)
def compare(**options: Any) -> None:
    """Do one task with and without memory, side by side (the paper's Figures 1 and 5).

    With `--agent replay-first`, do tasks again that the model did: without memory, with it, and replayed first.
    """
    conduct(comparing.Compare, comparing.plan, instead=compared, **options)


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


@main.command()
@click.argument("folders", nargs=-1, required=True, type=FOLDER)
@click.option("--out", type=FOLDER, help="Folder of the report [default: the one of the study].")
def report(folders: tuple[Path, ...], out: Path | None) -> None:
    """Write the report of a study again, from its folder alone; several of the same study are made one table."""
    (learned_again if of_learners(folders) else report_again)(folders, out)


for learners in COMMANDS:
    main.add_command(learners)

if __name__ == "__main__":
    main()
