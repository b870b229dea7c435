"""From the rows of a study to its summary and table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evals.arms import BASELINE
from evals.folder import MANIFEST
from evals.metrics import Estimate, bootstrap
from evals.plot import plot
from evals.rows import Row

HEADLINE = (
    *(
        "env_name",
        "agent",
        "fallback",
        "model",
        "embedder",
        "key",
        "k",
        "train",
        "max_steps",
        "seed",
        "seeds",
    ),
    "commit",
)
"""What of the manifest a table is headed with, where it is set."""

METRICS = ("success", "reward", "steps", "tokens_in", "tokens_out")

OVER_NONE = {f"{metric}_over_none": metric for metric in ("success", "reward", "steps")}
"""The metrics that are differences to the arm without memory, and what of."""

NOTE = (
    "Means with 95 % bootstrap intervals over tasks. `over none`: paired difference to no memory;"
    " `ns`: its interval includes 0, so no difference was shown. `won / lost`: by score."
)

HEAD = (
    *("split", "arm", "episodes", "success %", "success over none", "score (0-100)", "score over none"),
    *("won / lost", "steps", "tokens"),
)


class Line(NamedTuple):
    """One row of a summary."""

    arm: str
    split: str
    metric: str
    """One of `METRICS`, or of `OVER_NONE`: the mean paired difference to the arm without memory."""

    mean: float
    low: float
    high: float
    n: int


def summarise(rows: Sequence[Row], arms: Sequence[str]) -> list[Line]:
    """Estimate every metric of every arm and split, with 95 % intervals."""
    lines = []
    for split in dict.fromkeys(row.split for row in rows):
        for arm in arms:
            mine = sorted(_of(rows, split, arm), key=lambda row: row.key)
            if not mine:
                continue
            tasks = [row.task for row in mine]
            for metric in METRICS:
                values = [float(getattr(row, metric)) for row in mine]
                lines.append(Line(arm, split, metric, *bootstrap(values, tasks)))
            if arm != BASELINE:
                lines += _over_none(split, arm, _pairs(rows, split, arm))
    return lines


def cells(lines: Sequence[Line], rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The table as people read it: head and body, all in text."""
    found = {(line.split, line.arm, line.metric): Estimate(*line[3:]) for line in lines}
    body = []
    for split, arm in dict.fromkeys((line.split, line.arm) for line in lines):
        tokens = found[split, arm, "tokens_in"].mean + found[split, arm, "tokens_out"].mean
        body.append(
            [
                split,
                arm,
                str(found[split, arm, "reward"].n),
                _interval(found[split, arm, "success"], 100),
                _difference(found.get((split, arm, "success_over_none"))),
                _interval(found[split, arm, "reward"], 100),
                _difference(found.get((split, arm, "reward_over_none"))),
                "-" if arm == BASELINE else _won_and_lost(_pairs(rows, split, arm)),
                _interval(found[split, arm, "steps"]),
                f"{tokens:.0f}",
            ]
        )
    return list(HEAD), body


def costs(manifest: dict[str, Any]) -> list[str]:
    """What the memories hold and took to build, a line for each way of building."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for name, built in manifest.get("memories", {}).items():
        kinds.setdefault(name.rpartition("/")[2], []).append(built)
    lines = []
    for name, memories in kinds.items():
        procedures, aside, sent, got = (
            sum(memory[field] for memory in memories)
            for field in ("procedures", "set_aside", "setup_tokens_in", "setup_tokens_out")
        )
        where = f" in {len(memories)} memories" if len(memories) > 1 else ""
        lines.append(
            f"{name}: {procedures:,} procedures{where}, {aside:,} set aside, {sent + got:,} tokens to build"
        )
    return lines


def read_manifest(out: Path) -> dict[str, Any]:
    """The manifest of a study that has run."""
    manifest: dict[str, Any] = json.loads((out / MANIFEST).read_text())
    return manifest


def write(out: Path, rows: Sequence[Row], arms: Sequence[str]) -> list[Line]:
    """Write `summary.json`, `table.md` and, where matplotlib is installed, `plot.png`; return the summary."""
    lines = summarise(rows, arms)
    summary = [line._asdict() for line in lines]
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    manifest = read_manifest(out)
    (out / "table.md").write_text(_markdown(lines, rows, manifest))
    plot(out / "plot.png", summary, f"{manifest['study']}: {manifest['env_name']}, {manifest['agent']}")
    return lines


def _of(rows: Sequence[Row], split: str, arm: str) -> list[Row]:
    return [row for row in rows if (row.split, row.arm) == (split, arm)]


def _pairs(rows: Sequence[Row], split: str, arm: str) -> list[tuple[Row, Row]]:
    """The episodes of an arm, each with that of no memory in the same task with the same seed."""
    base = {(row.task, row.seed): row for row in _of(rows, split, BASELINE)}
    mine = sorted(_of(rows, split, arm), key=lambda row: row.key)
    return [(row, base[row.task, row.seed]) for row in mine if (row.task, row.seed) in base]


def _over_none(split: str, arm: str, pairs: Sequence[tuple[Row, Row]]) -> list[Line]:
    if not pairs:
        return []
    tasks = [row.task for row, _ in pairs]
    lines = []
    for name, metric in OVER_NONE.items():
        gains = [float(getattr(row, metric)) - float(getattr(base, metric)) for row, base in pairs]
        lines.append(Line(arm, split, name, *bootstrap(gains, tasks)))
    return lines


def _won_and_lost(pairs: Sequence[tuple[Row, Row]]) -> str:
    """In how many episodes the arm scored more, and less, than no memory did."""
    gains = [row.reward - base.reward for row, base in pairs]
    return f"{sum(gain > 0 for gain in gains)} / {sum(gain < 0 for gain in gains)}"


def _difference(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return _interval(estimate, 100, sign="+") + (" ns" if estimate.low <= 0 <= estimate.high else "")


def _interval(estimate: Estimate, scale: float = 1, sign: str = "") -> str:
    mean, low, high = (f"{value * scale:{sign}.1f}" for value in estimate[:3])
    return f"{mean} [{low}, {high}]"


def _markdown(lines: Sequence[Line], rows: Sequence[Row], manifest: dict[str, Any]) -> str:
    head, body = cells(lines, rows)
    table = [head, ["---"] * len(head), *body]
    ran = ", ".join(f"{name} {manifest[name]}" for name in HEADLINE if manifest.get(name) is not None)
    text = "\n".join("| " + " | ".join(row) + " |" for row in table)
    parts = [f"# {manifest['study']}: {ran}", text, "\n".join(f"- {line}" for line in costs(manifest)), NOTE]
    return "\n\n".join(filter(None, parts)) + "\n"
