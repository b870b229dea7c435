"""`python -m evals.training MODEL`: train a bundled model from nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from evals.training.card import write_card
from evals.training.train import RECIPES, Point, train
from memp.errors import MempError


@click.command()
@click.argument("model", type=click.Choice(list(RECIPES)))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the model [default: runs/MODEL].")
@click.option("--steps", type=click.IntRange(1), help="Training steps [default: the recipe's].")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0, 9), help="Of all that is random."
)
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(0), help="Processes that make lessons."
)
def main(model: str, out: Path | None, steps: int | None, seed: int, workers: int) -> None:
    """Train MODEL from nothing.

    The folder can be used at once, as local:FOLDER; `--out models/MODEL` replaces the bundled one. A training that
    was broken off goes on where it was last written down, when it is given the same options.
    """
    recipe = replace(RECIPES[model], seed=seed, steps=steps or RECIPES[model].steps)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}, answers right {task.fields[right]:.1%}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bars:
        bar = bars.add_task(model, total=recipe.steps, loss=0.0, right=0.0)

        def tell(step: int, curve: list[Point]) -> None:
            bars.update(bar, completed=step)
            if curve:
                bars.update(bar, loss=curve[-1].loss, right=curve[-1].held_out)

        folder = out or Path("runs") / model
        try:
            train(recipe, folder, workers=workers, tell=tell)
        except MempError as error:
            raise click.ClickException(str(error)) from error
        write_card(model, folder)


if __name__ == "__main__":
    main()
