"""Commands on one memory: build, search, show, stats, retry, rollback, reembed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from memp import guidance
from memp.cli._effect import told
from memp.cli._shared import console, options, says_errors
from memp.formats import FORMATS, Source, read
from memp.keys import reembed
from memp.memory import ProceduralMemory
from memp.procedure import Procedure
from memp.update import MemoryUpdate


@click.command()
@click.argument("memory")
@click.argument("trajectories")
@click.option("--format", "form", default="memp", show_default=True, help=" | ".join(FORMATS))
@click.option("--skip-bad", is_flag=True, help="Keep the good lines and say how many were bad.")
@click.option(
    "--reward",
    type=float,
    help="How those ended that do not say it, from 0 to 1; else they wait in quarantine.",
)
@options("chat", "embedder", "build", "key", "update", "success_at", "concurrency")
@says_errors
def build(
    memory: str, trajectories: str, form: str, skip_bad: bool, reward: float | None, **options: Any
) -> None:
    """Add TRAJECTORIES (JSON lines; - is standard input) to MEMORY, making it where there is none.

    What could not be built is kept in quarantine. The exit status is 1 if that is all that came of it.
    """
    source: Source = sys.stdin if trajectories == "-" else trajectories
    found = read(source, form, skip_bad=skip_bad, reward=reward)
    for bad in found.bad:
        click.echo(f"line {bad.line} skipped: {bad.reason}", err=True)
    if found.bad:
        click.echo(f"{len(found.bad)} bad lines skipped, {len(found.trajectories)} kept", err=True)
    if unfinished := sum(not trajectory.finished for trajectory in found.trajectories):
        click.echo(
            f"{unfinished} without a reward wait in quarantine; --reward says how they ended", err=True
        )
    with ProceduralMemory.open(memory, **options) as opened:
        _learn(opened, lambda: opened.update(found.trajectories))


@click.command()
@click.argument("memory")
@click.argument("task")
@click.option("-k", default=5, show_default=True, help="How many procedures to print.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@options("chat", "embedder", "key", "seed")
@says_errors
def search(memory: str, task: str, k: int, as_json: bool, **options: Any) -> None:
    """Print the procedures in MEMORY that fit TASK, best first."""
    with ProceduralMemory.open(memory, create=False, **options) as opened:
        matches = opened.retrieve(task, k=k)
    if as_json:
        for match in matches:
            click.echo(match.model_dump_json())
        return
    table = Table("score", "id", "task", "steps", "reward", "used", box=None)
    for match in matches:
        table.add_row(f"{match.score:.3f}", *_cells(match.procedure))
    console().print(table)


@click.command()
@click.argument("memory")
@click.argument("id", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@says_errors
def show(memory: str, id: str | None, as_json: bool) -> None:  # noqa: A002
    """List the procedures of MEMORY, or print the one of this ID with its history."""
    with ProceduralMemory.open(memory, create=False) as opened:
        if id is None:
            _list(opened, as_json=as_json)
            return
        history = opened.history(id)
        current = history[-1].procedure
        if as_json:
            click.echo(current.model_dump_json())
            return
        click.echo(guidance.body(current))
        click.echo()
        for revision in history:
            click.echo(
                f"revision {revision.procedure.revision}"
                f" ({revision.procedure.provenance.created:%Y-%m-%d %H:%M}): {revision.reason}"
            )
        for stone in opened.tombstones():
            if stone.id == id:
                click.echo(f"retired ({stone.retired:%Y-%m-%d %H:%M}): {stone.reason}")


@click.command()
@click.argument("memory")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@says_errors
def stats(memory: str, as_json: bool) -> None:
    """Say how much MEMORY holds, how its procedures fared, and what it changed where `holdout` was used."""
    with ProceduralMemory.open(memory, create=False) as opened:
        counts = opened.stats().model_dump()
        about = opened.describe()
        effect = opened.effect()
    if as_json:
        found = None if effect is None else effect.model_dump()
        click.echo(json.dumps({**counts, "embedder": about["embedder"], "effect": found}))
        return
    for name, value in (*counts.items(), ("embedder", about["embedder"])):
        click.echo(f"{name:12} {value}")
    if effect is not None:
        click.echo("\n" + "\n".join(told(effect)))


@click.command()
@click.argument("memory")
@click.argument("ids", nargs=-1)
@click.option("--reward", type=float, help="For unfinished episodes: how they ended, from 0 to 1.")
@click.option("--list", "only_list", is_flag=True, help="Only list what is in quarantine.")
@options("chat", "build", "key", "update", "success_at", "concurrency")
@says_errors
def retry(memory: str, ids: tuple[str, ...], reward: float | None, only_list: bool, **options: Any) -> None:
    """Try again what MEMORY has in quarantine: IDS, or all but unfinished episodes.

    Options are not remembered: give the --chat and --build that it is to be built with. The exit status is 1
    if all of it failed again.
    """
    with ProceduralMemory.open(memory, create=False, **options) as opened:
        if only_list:
            for item in opened.quarantine():
                click.echo(f"{item.id} {item.kind} {item.added:%Y-%m-%d %H:%M}: {item.reason}")
            return
        _learn(opened, lambda: opened.retry(*ids, reward=reward))


@click.command()
@click.argument("memory")
@click.argument("id")
@click.argument("revision", type=int)
@says_errors
def rollback(memory: str, id: str, revision: int) -> None:  # noqa: A002
    """Make an earlier REVISION of the procedure ID of MEMORY the current one."""
    with ProceduralMemory.open(memory, create=False) as opened:
        click.echo(f"revision {opened.rollback(id, revision).revision} is revision {revision} again")


@click.command("reembed")
@click.argument("memory", type=click.Path(path_type=Path))
@click.option("--embedder", required=True, help="hash, sentence-transformers:NAME or openai:MODEL.")
@says_errors
def reembed_command(memory: Path, embedder: str) -> None:
    """Make all vectors of MEMORY anew with another embedder."""
    click.echo(f"{reembed(memory, embedder)} procedures re-embedded with {embedder}")


def _learn(opened: ProceduralMemory, update: Callable[[], MemoryUpdate]) -> None:
    """Update a memory, say what came of it, and fail where all that came of it was quarantine."""
    before = {item.id for item in opened.quarantine()}
    result = update()
    held = opened.quarantine()
    failed = [item for item in held if item.id not in before and item.kind != "unfinished"]
    click.echo(_said(result))
    if unfinished := sum(item.kind == "unfinished" for item in held):
        click.echo(
            f"{unfinished} without a reward in quarantine; `memp retry MEMORY ID --reward R` says how one ended",
            err=True,
        )
    for change in result.skipped:
        click.echo(f"skipped {change.task!r}: {change.reason}", err=True)
    if not failed:
        return
    click.echo(
        f"{len(failed)} failed and are kept in quarantine; the last: {failed[-1].reason}\n"
        f"`memp retry {opened.store.name}` with the same options tries again",
        err=True,
    )
    if not (result.added or result.revised):
        raise click.exceptions.Exit(1)


def _list(opened: ProceduralMemory, *, as_json: bool) -> None:
    table = Table("id", "task", "steps", "reward", "used", box=None)
    for procedure in opened.procedures():
        if as_json:
            click.echo(procedure.model_dump_json())
        else:
            table.add_row(*_cells(procedure))
    if not as_json:
        console().print(table)


def _cells(procedure: Procedure) -> tuple[str, ...]:
    usage = procedure.usage
    return (
        procedure.id,
        f"{procedure.task} [{procedure.namespace}]" if procedure.namespace else procedure.task,
        str(procedure.length),
        f"{procedure.reward:g}",
        f"{usage.successes}/{usage.uses}",
    )


def _said(result: MemoryUpdate) -> str:
    return ", ".join(
        f"{len(changes)} {name}"
        for name, changes in (
            ("added", result.added),
            ("revised", result.revised),
            ("retired", result.retired),
            ("skipped", result.skipped),
        )
    )
