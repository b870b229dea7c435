"""The options that all studies share, declared once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from evals.arms import AGENTS
from evals.chats.models import CACHE
from evals.chats.spending import BUDGET_SPENT
from evals.settings import BASE, SCALES
from evals.worlds import ENVIRONMENTS
from memp.retrieve import KEYS

SPLITS = ("dev", "test")
"""Where a study may test; the third split is what it learns from."""

Command = TypeVar("Command", bound=Callable[..., Any])


RUNNING = (
    click.option(
        "--concurrency",
        "workers",
        type=click.IntRange(1),
        help="Episodes, and calls of the model, at once [default: 2; 32 with a local: model].",
    ),
    click.option("--out", type=click.Path(path_type=Path), help="Folder of the results [default: runs/...]."),
    click.option(
        "--cache",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File that remembers the model's replies, for all studies; replies drawn at a temperature above 0"
        f" are never taken from it [default: {CACHE} for openai: models; none for local: ones, where asking"
        " again is as cheap].",
    ),
    click.option("--no-cache", is_flag=True, help="Remember no reply."),
    click.option(
        "--max-tokens",
        type=click.IntRange(1),
        help="Tokens, both ways, at which the study stops: all its runs together, what the memories take to"
        " build included, remembered replies not. What is under way ends; the command then exits with"
        f" {BUDGET_SPENT}, and goes on where it stopped when it is given more.",
    ),
    click.option(
        "--max-cost",
        type=click.FloatRange(0, min_open=True),
        help="The same in US dollars; needs --price-in and --price-out.",
    ),
    click.option("--price-in", type=click.FloatRange(0), help="US dollars for a million tokens sent."),
    click.option("--price-out", type=click.FloatRange(0), help="US dollars for a million tokens answered."),
)
"""How a study is run: what decides nothing of its result."""


def common(study: str) -> Callable[[Command], Command]:
    """Add the options of every study, with the defaults of this one in their help."""
    options = (
        click.option("--env", required=True, help=f"Environment: {', '.join(ENVIRONMENTS)}."),
        click.option("--agent", default="llm", show_default=True, help=f"Agent: {', '.join(AGENTS)}."),
        _model(study),
        click.option(
            "--fallback",
            help="Agent that `replay` hands over to where no procedure applies [default: it stops].",
        ),
        click.option("--embedder", default="hash", show_default=True, help="Embedder, as in `memp build`."),
        click.option(
            "--split",
            "splits",
            multiple=True,
            type=click.Choice(SPLITS),
            help=f"Split to test on; may be given twice{_unsaid(study, 'splits')}.",
        ),
        number(study, "--episodes", "Tasks per arm, split and seed"),
        number(study, "--train", "Training tasks in memory"),
        number(study, "-k", "Procedures shown"),
        number(study, "--max-steps", "Step budget of an episode"),
        click.option(
            "--seed",
            default=0,
            show_default=True,
            type=click.IntRange(0),
            help="Of all that is random; in the grid world also the universe.",
        ),
        number(study, "--seeds", "How many seeds, from --seed on"),
    )

    return together((*options, *RUNNING))


def running(command: Command) -> Command:
    """Add the options that say how a study is run, and decide nothing of its result."""
    return together(RUNNING)(command)


def together(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Put several options on a command, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _model(study: str) -> Callable[[Command], Command]:
    if study == "transfer":
        return click.option(
            "--model",
            "models",
            multiple=True,
            help="Chat model; given twice or more: all that share memories [default: gridworld the bundled ones].",
        )
    return click.option(
        "--model",
        help="Chat model, e.g. openai:gpt-4o; for the agents `llm` and `replay-first`, for scripts, and for AveFact's"
        f" facts [default: {BASE} for these agents in gridworld].",
    )


def number(study: str, name: str, says: str) -> Callable[[Command], Command]:
    """Make an option of a study that counts something, with its defaults in its help."""
    default = _unsaid(study, name.lstrip("-").replace("-", "_"))
    return click.option(name, type=click.IntRange(1), help=f"{says}{default}.")


def found_by(study: str) -> Callable[[Command], Command]:
    """Make the option that says what procedures are found by, with its defaults in its help."""
    return click.option(
        "--key",
        type=click.Choice(KEYS),
        help=f"What procedures are found by, where an arm does not say{_unsaid(study, 'key')}.",
    )


def counts(name: str, default: Sequence[int], says: str) -> Callable[[Command], Command]:
    """Make an option that takes several numbers, as 1,2,4."""

    def read(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
        found = tuple(int(part) for part in text.split(",") if part.strip().isdecimal())
        if len(found) != len(text.split(",")) or 0 in found:
            raise click.BadParameter(f"{text!r} is no list of numbers from 1 on, as 1,2,4")
        return found

    written = ",".join(map(str, default))
    return click.option(name, default=written, show_default=True, callback=read, help=says)


def _unsaid(study: str, field: str) -> str:
    """What an option is where it is not given, in every environment."""
    found = {env: _text(getattr(scale, field)) for env, scale in SCALES[study].items()}
    said = list(dict.fromkeys(found.values()))
    if len(said) > 1:
        said = [f"{env} {text}" for env, text in found.items()]
    return f" [default: {', '.join(said)}]"


def _text(value: object) -> str:
    if value is None:
        return "the environment's"
    return " and ".join(value) if isinstance(value, tuple) else str(value)
