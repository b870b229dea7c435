"""From the rows of a study to its summary, table and plot."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evals.metrics import Estimate, bootstrap
from evals.rows import Row
from memp.errors import MissingExtra

log = logging.getLogger(__name__)

BASELINE = "none"

HEADLINE = ("env_name", "agent", "fallback", "model", "embedder", "k", "train", "max_steps", "seed", "commit")
"""What of the manifest a table is headed with, where it is set."""

METRICS = ("success", "reward", "steps", "tokens_in", "tokens_out")

# Okabe and Ito's colours, told apart also by colour-blind readers
COLOURS = ("#999999", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")


NOTE = (
    "Means with 95 % bootstrap intervals over tasks. `over none`: paired difference of the score to no memory;"
    " `ns`: its interval includes 0, so no difference was shown."
)


class Line(NamedTuple):
    """One row of a summary."""

    arm: str
    split: str
    metric: str
    """One of `METRICS`, or `reward_over_none`: the mean paired difference to the arm without memory."""

    mean: float
    low: float
    high: float
    n: int


def summarise(rows: Sequence[Row], arms: Sequence[str]) -> list[Line]:
    """Estimate every metric of every arm and split, with 95 % intervals."""
    lines = []
    for split in dict.fromkeys(row.split for row in rows):
        base = {(row.task, row.seed): row.reward for row in rows if (row.arm, row.split) == (BASELINE, split)}
        for arm in arms:
            mine = sorted(
                (row for row in rows if (row.arm, row.split) == (arm, split)), key=lambda row: row.key
            )
            if not mine:
                continue
            for metric in METRICS:
                estimate = bootstrap(
                    [float(getattr(row, metric)) for row in mine], [row.task for row in mine]
                )
                lines.append(Line(arm, split, metric, *estimate))
            pairs = [row for row in mine if (row.task, row.seed) in base]
            if arm != BASELINE and pairs:
                gains = [row.reward - base[row.task, row.seed] for row in pairs]
                estimate = bootstrap(gains, [row.task for row in pairs])
                lines.append(Line(arm, split, "reward_over_none", *estimate))
    return lines


def cells(lines: Sequence[Line], rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The table as people read it: head and body, all in text."""
    head = [
        "split",
        "arm",
        "episodes",
        "success %",
        "score (0-100)",
        "over none",
        "won / lost",
        "steps",
        "tokens",
    ]
    found = {(line.split, line.arm, line.metric): line for line in lines}
    body = []
    for split, arm in dict.fromkeys((line.split, line.arm) for line in lines):

        def of(metric: str, split: str = split, arm: str = arm) -> Estimate | None:
            line = found.get((split, arm, metric))
            return None if line is None else Estimate(*line[3:])

        gain = of("reward_over_none")
        tokens_in, tokens_out = of("tokens_in"), of("tokens_out")
        assert tokens_in is not None
        assert tokens_out is not None
        body.append(
            [
                split,
                arm,
                str(tokens_in.n),
                _interval(of("success"), 100),
                _interval(of("reward"), 100),
                _interval(gain, 100, sign="+") + (" ns" if gain and gain.low <= 0 <= gain.high else ""),
                _won_and_lost(rows, split, arm),
                _interval(of("steps")),
                f"{tokens_in.mean + tokens_out.mean:.0f}",
            ]
        )
    return head, body


def write(out: Path, rows: Sequence[Row], arms: Sequence[str]) -> list[Line]:
    """Write `summary.json`, `table.md` and, where matplotlib is installed, `plot.png`; return the summary."""
    lines = summarise(rows, arms)
    summary = [line._asdict() for line in lines]
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "table.md").write_text(_markdown(lines, rows, manifest))
    _plot(out / "plot.png", lines, manifest)
    return lines


def _interval(estimate: Estimate | None, scale: float = 1, sign: str = "") -> str:
    if estimate is None:
        return "-"
    mean, low, high = (f"{value * scale:{sign}.1f}" for value in estimate[:3])
    return f"{mean} [{low}, {high}]"


def _won_and_lost(rows: Sequence[Row], split: str, arm: str) -> str:
    """In how many tasks the arm scored more, and less, than no memory did."""
    if arm == BASELINE:
        return "-"
    base = {(row.task, row.seed): row.reward for row in rows if (row.arm, row.split) == (BASELINE, split)}
    gains = [
        row.reward - base[row.task, row.seed]
        for row in rows
        if (row.arm, row.split) == (arm, split) and (row.task, row.seed) in base
    ]
    return f"{sum(gain > 0 for gain in gains)} / {sum(gain < 0 for gain in gains)}"


def _markdown(lines: Sequence[Line], rows: Sequence[Row], manifest: dict[str, Any]) -> str:
    head, body = cells(lines, rows)
    table = [head, ["---"] * len(head), *body]
    ran = ", ".join(f"{name} {manifest[name]}" for name in HEADLINE if manifest.get(name) is not None)
    text = "\n".join("| " + " | ".join(row) + " |" for row in table)
    return f"# {manifest['study']}: {ran}\n\n{text}\n\n{NOTE}\n"


def _plot(path: Path, lines: Sequence[Line], manifest: dict[str, Any]) -> None:
    try:
        import matplotlib as mpl
    except ImportError:
        log.warning("no plot: %s", MissingExtra("matplotlib", "plots"))
        return
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    splits = list(dict.fromkeys(line.split for line in lines))
    panels = [("reward", "score (0-100)", 100), ("success", "success %", 100), ("steps", "steps", 1)]
    figure, axes = plt.subplots(len(splits), len(panels), figsize=(11, 3.2 * len(splits)), squeeze=False)
    for row, split in zip(axes, splits, strict=True):
        for axis, (metric, label, scale) in zip(row, panels, strict=True):
            shown = [line for line in lines if line.split == split and line.metric == metric]
            means = [line.mean * scale for line in shown]
            reach = [
                [(line.mean - line.low) * scale for line in shown],
                [(line.high - line.mean) * scale for line in shown],
            ]
            names = [line.arm for line in shown]
            axis.bar(names, means, yerr=reach, capsize=4, color=COLOURS[: len(shown)])
            axis.set_ylabel(label)
            axis.set_title(f"{split}, n = {shown[0].n} an arm")
            axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{manifest['study']}: {manifest['env_name']}, {manifest['agent']} (95 % intervals)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
