"""The studies of learners, as commands of `python -m evals`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from evals.learners.console import conduct
from evals.learners.cppo_arms import Cppo
from evals.learners.settings import TASKS, Algorithms, Continual, Neural, Sinusoids
from evals.learners.skills import REGIMES, Regime, Skills
from evals.options import together

C = TypeVar("C", bound=Callable[..., Any])


def number(kind: type[Any], option: str, says: str) -> Callable[[C], C]:
    """An option that takes a number, with the default of the study in its help."""
    default = getattr(kind, option.removeprefix("--"))
    return click.option(option, type=click.IntRange(1), help=f"{says} [default: {default}].")


def common(kind: type[Any], quick: str) -> Callable[[C], C]:
    """The options of every study of learners.

    Args:
        kind: What the study is run with.
        quick: What `--quick` does.
    """
    return together(
        (
            click.option("--seed", type=click.IntRange(0), help=f"The first seed [default: {kind.seed}]."),
            click.option(
                "--seeds", type=click.IntRange(1), help=f"How many, from --seed on [default: {kind.seeds}]."
            ),
            click.option("--quick", is_flag=True, help=quick),
            click.option(
                "--out",
                type=click.Path(file_okay=False, path_type=Path),
                help="Folder of the results [default: runs/...].",
            ),
            click.option(
                "--concurrency",
                "workers",
                default=2,
                show_default=True,
                type=click.IntRange(1),
                help="Processes.",
            ),
        )
    )


def chosen(given: Mapping[str, Any], quick: Mapping[str, Any]) -> dict[str, Any]:
    """What a study is run with: what was given on the command line goes before what `--quick` asks for."""
    return {**quick, **{name: value for name, value in given.items() if value is not None}}


@click.command()
@number(Skills, "--episodes", "Of training")
@number(Skills, "--tested", "Episodes of the test, and of the end of training, that the table tells of")
@click.option(
    "--regime",
    "regimes",
    multiple=True,
    type=click.Choice(REGIMES),
    help="One layout, eight that come again, or a new one every episode; may be given twice [default: all].",
)
@common(Skills, "One seed and shorter training: a first look, in under half a minute.")
def skills(
    regimes: tuple[Regime, ...], quick: bool, out: Path | None, workers: int, **given: int | None
) -> None:
    """Compare a skill agent, which has no language model, with exploring, Q-learning and the shortest way."""
    study = Skills(regimes=regimes or REGIMES, **chosen(given, Skills.quick if quick else {}))
    conduct(study, out, workers)


def neural(kind: type[Neural], quick: str) -> Callable[[C], C]:
    """The options of every study of neural learners."""
    arm = click.option(
        "--arm",
        "arms",
        multiple=True,
        type=click.Choice(kind.known),
        help="May be given again [default: all].",
    )
    return lambda command: arm(common(kind, quick)(command))


def learn(kind: type[Neural], quick: bool, out: Path | None, workers: int, given: Mapping[str, Any]) -> None:
    """Run a study of neural learners."""
    said = {**given, "arms": given["arms"] or None}
    conduct(kind(**chosen(said, kind.quick if quick else {})), out, workers)


@click.command()
@number(Continual, "--steps", "Of training, for each task")
@number(Continual, "--buffer", "Examples of earlier tasks that are kept")
@number(Continual, "--tested", "Held-out examples of each task")
@click.option(
    "--tasks",
    type=click.Choice(list(TASKS)),
    help=f"Sequences of bits, or functions of 64 numbers [default: {Continual.tasks}].",
)
@neural(Continual, "One seed, shorter training and sequences: a first look, in under a minute.")
def continual(quick: bool, out: Path | None, workers: int, **given: Any) -> None:
    """Compare ways to learn four tasks one after the other, without forgetting (extra `neural`)."""
    learn(Continual, quick, out, workers, given)


@click.command()
@number(Algorithms, "--steps", "Of training; repeating takes 1.7 times as many, an LSTM four times")
@number(Algorithms, "--tested", "Sequences of each length")
@neural(Algorithms, "One seed and shorter training: a first look, in under a minute.")
def dnc(quick: bool, out: Path | None, workers: int, **given: Any) -> None:
    """Copy, repeat and recall longer sequences than were trained on, with more slots (extra `neural`)."""
    learn(Algorithms, quick, out, workers, given)


@click.command()
@number(Sinusoids, "--iterations", "Of training")
@number(Sinusoids, "--tested", "Held-out sinusoids")
@neural(Sinusoids, "One seed and a tenth of the training: a first look, in seconds.")
def maml(quick: bool, out: Path | None, workers: int, **given: Any) -> None:
    """Compare learning to learn with pre-training and with learning from scratch (extra `neural`)."""
    learn(Sinusoids, quick, out, workers, given)


@click.command()
@number(Cppo, "--iterations", "Batches of rollouts, for each task")
@number(Cppo, "--stored", "Rollouts of each task that are kept")
@number(Cppo, "--tested", "Held-out episodes of each task")
@neural(Cppo, "One seed and seven arms: a first look, in under a minute.")
def cppo(quick: bool, out: Path | None, workers: int, **given: Any) -> None:
    """Compare PPO and continual PPO on tasks with conflicting preferences, one after the other (extra `neural`)."""
    learn(Cppo, quick, out, workers, given)


COMMANDS = (skills, continual, dnc, maml, cppo)
