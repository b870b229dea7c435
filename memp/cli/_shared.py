"""What the commands share: options of `ProceduralMemory.open`, errors as one line, and the terminal."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

import click
from rich.console import Console

from memp.build import GRANULARITIES
from memp.errors import MempError
from memp.retrieve import KEYS
from memp.update import POLICIES

P = ParamSpec("P")


def options(*names: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Add options of `ProceduralMemory.open` to a command, under the same names."""
    known = {
        "chat": click.option("--chat", help="Chat model, e.g. openai:gpt-4o (OPENAI_BASE_URL is honoured)."),
        "embedder": click.option(
            "--embedder", help="hash, sentence-transformers:NAME or openai:MODEL [default: the memory's own]."
        ),
        "build": click.option(
            "--build",
            default="trajectory",
            show_default=True,
            help=f"What a procedure keeps: {' | '.join(GRANULARITIES)}.",
        ),
        "key": click.option(
            "--key",
            default="query",
            show_default=True,
            help=f"What procedures are found by: {' | '.join(KEYS)}.",
        ),
        "update": click.option(
            "--update",
            default="validation",
            show_default=True,
            help=f"What is learned from: {' | '.join(POLICIES)}.",
        ),
        "success_at": click.option(
            "--success-at", default=1.0, show_default=True, help="Reward from which an episode is a success."
        ),
        "concurrency": click.option(
            "--concurrency", default=1, show_default=True, help="Calls of the chat model at once."
        ),
        "seed": click.option(
            "--seed", default=0, show_default=True, help="Decides what --key random samples."
        ),
    }

    def decorate(command: Callable[P, None]) -> Callable[P, None]:
        for name in reversed(names):
            command = known[name](command)
        return command

    return decorate


def says_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn memp's errors into one line on stderr and exit status 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except MempError as error:
            raise click.ClickException(str(error)) from error
        except UnicodeEncodeError as error:  # the shell passes on bytes of any kind
            raise click.ClickException(f"{error.object!r} is not UTF-8") from error

    return wrapped


def console() -> Console:
    """Wide where the output is no terminal, so that nothing is cut off in a pipe; a task is no markup."""
    width = None if sys.stdout.isatty() else 200
    return Console(width=width, highlight=False, markup=False, emoji=False)
