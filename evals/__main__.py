"""`python -m evals STUDY`: run a study and print its table."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from evals.report import NOTE, cells, write
from evals.settings import AGENTS, ENVIRONMENTS
from evals.study import Settings, Study
from memp.errors import MempError

SPLITS = ("train", "dev", "test")


@click.group()
def main() -> None:
    """Measure whether procedural memory helps, with the baselines that can show that it does not."""


@main.command()
@click.option("--env", required=True, help=f"Environment: {', '.join(ENVIRONMENTS)}.")
@click.option("--agent", default="llm", show_default=True, help=f"Agent: {', '.join(AGENTS)}.")
@click.option("--model", help="Chat model, e.g. openai:gpt-4o; for the agent `llm`, and for AveFact's facts.")
@click.option(
    "--fallback", help="Agent that `replay` hands over to where no procedure applies [default: it stops]."
)
@click.option("--embedder", default="hash", show_default=True, help="Embedder, as in `memp build`.")
@click.option(
    "--split",
    "splits",
    multiple=True,
    default=("test",),
    show_default=True,
    type=click.Choice(SPLITS[1:]),
    help="Split to test on; may be given twice.",
)
@click.option(
    "--episodes", default=60, show_default=True, type=click.IntRange(1), help="Tasks per arm and split."
)
@click.option(
    "--train", default=150, show_default=True, type=click.IntRange(1), help="Training tasks in memory."
)
@click.option("-k", default=4, show_default=True, type=click.IntRange(1), help="Procedures shown.")
@click.option(
    "--max-steps", type=click.IntRange(1), help="Step budget of an episode [default: the environment's]."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of all that is random.")
@click.option("--concurrency", default=2, show_default=True, type=click.IntRange(1), help="Episodes at once.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the results [default: runs/...].")
def retrieve(out: Path | None, concurrency: int, **options: object) -> None:
    """Compare no memory, a random sample, and retrieval by query and by AveFact (the paper's Table 2).

    A run that was interrupted goes on where it stopped, when it is given the same options.
    """
    console = Console()
    settings = Settings(study="retrieve", **options)  # type: ignore[arg-type]
    out = out or Path("runs") / f"retrieve-{settings.env}-{settings.agent}-{settings.seed}"
    began = time.monotonic()
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("mean score {task.fields[score]:5.1f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=console) as bars:
            ids = {stage: bars.add_task(stage, total=None, score=0.0) for stage in ("memory", "episodes")}

            def progress(stage: str, done: int, total: int, mean: float) -> None:
                bars.update(ids[stage], completed=done, total=total, score=100 * mean)

            study = Study(settings, out, workers=concurrency, progress=progress)
            rows = study.run()
        lines = write(out, rows, study.arms)
    except MempError as error:
        raise click.ClickException(str(error)) from error
    head, body = cells(lines, rows)
    table = Table(*head, title=f"{settings.study}: {settings.env}, {settings.agent}", box=None)
    for line in body:
        table.add_row(*line)
    Console(width=max(console.width, 132)).print(table)
    click.echo(f"{NOTE} {time.monotonic() - began:.0f} s; everything is in {out}")


if __name__ == "__main__":
    main()
