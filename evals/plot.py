"""The plot of a summary: a bar an arm, with its interval."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memp.errors import MissingExtra

log = logging.getLogger(__name__)

# Okabe and Ito's colours, told apart also by colour-blind readers
COLOURS = ("#999999", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")

PANELS = (("reward", "score (0-100)", 100), ("success", "success %", 100), ("steps", "steps", 1))
"""Metric, label and scale of each column of the plot."""


def plot(path: Path, summary: Sequence[Mapping[str, Any]], title: str) -> None:
    """Draw the rows of `summary.json`, a row of panels a split; without matplotlib, say that there is no plot."""
    try:
        import matplotlib as mpl
    except ImportError:
        log.warning("no plot: %s", MissingExtra("matplotlib", "plots"))
        return
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    splits = list(dict.fromkeys(line["split"] for line in summary))
    figure, axes = plt.subplots(len(splits), len(PANELS), figsize=(11, 3.2 * len(splits)), squeeze=False)
    for row, split in zip(axes, splits, strict=True):
        for axis, (metric, label, scale) in zip(row, PANELS, strict=True):
            shown = [line for line in summary if (line["split"], line["metric"]) == (split, metric)]
            means = [line["mean"] * scale for line in shown]
            reach = [
                [(line["mean"] - line["low"]) * scale for line in shown],
                [(line["high"] - line["mean"]) * scale for line in shown],
            ]
            names = [line["arm"] for line in shown]
            axis.bar(names, means, yerr=reach, capsize=4, color=COLOURS[: len(shown)])
            axis.set_ylabel(label)
            axis.set_title(f"{split}, n = {shown[0]['n']} an arm")
            axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{title} (95 % intervals)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
