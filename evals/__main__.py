"""`python -m evals STUDY`: run a study and print its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from evals.console import conduct, report_again
from evals.learners.console import conduct as learn
from evals.learners.console import of_learners
from evals.learners.console import report_again as learned_again
from evals.learners.skills import QUICK, REGIMES, Regime, Skills
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
@click.option("--task", help="The id of the task [default: the first that is tested on].")
def compare(**options: Any) -> None:
    """Do one task with and without memory, side by side (the paper's Figures 1 and 5)."""
    conduct(comparing.Compare, comparing.plan, instead=compared, **options)


@main.command()
@click.option("--episodes", type=click.IntRange(1), help=f"Of training [default: {Skills.episodes}].")
@click.option(
    "--tested",
    type=click.IntRange(1),
    help=f"Episodes of the test, and of the end of training, that the table tells of [default: {Skills.tested}].",
)
@click.option("--seed", type=click.IntRange(0), help=f"The first seed [default: {Skills.seed}].")
@click.option("--seeds", type=click.IntRange(1), help=f"How many, from --seed on [default: {Skills.seeds}].")
@click.option(
    "--regime",
    "regimes",
    multiple=True,
    type=click.Choice(REGIMES),
    help="One layout, eight that come again, or a new one every episode; may be given twice [default: all].",
)
@click.option(
    "--quick", is_flag=True, help="One seed and shorter training: a first look, in under half a minute."
)
@click.option("--out", type=FOLDER, help="Folder of the results [default: runs/...].")
@click.option(
    "--concurrency", "workers", default=2, show_default=True, type=click.IntRange(1), help="Processes."
)
def skills(
    regimes: tuple[Regime, ...], quick: bool, out: Path | None, workers: int, **given: int | None
) -> None:
    """Compare a skill agent, which has no language model, with exploring, Q-learning and the shortest way."""
    said = {name: number for name, number in given.items() if number is not None}
    learn(Skills(regimes=regimes or REGIMES, **{**(QUICK if quick else {}), **said}), out, workers)


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


if __name__ == "__main__":
    main()
