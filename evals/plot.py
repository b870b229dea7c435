"""The plots of a summary: what each arm did, and what memory changed, all with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from evals.columns import GRADED, some
from evals.summary import Line, over_none
from evals.table import Entry, Tells
from memp.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart also by colour-blind readers
COLOURS = ("#999999", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")


class Panel(NamedTuple):
    """One column of a plot; left out where it tells nothing."""

    measure: str
    label: str
    scale: float = 1
    tells: Tells = bool


PANELS = (
    Panel("success", "success %", 100),
    Panel("reward", "score (0-100)", 100, GRADED),
    Panel("steps", "steps"),
    Panel("tokens", "tokens", tells=some("tokens")),
)

Bar = tuple[str, str, Line]
"""The name of an arm, its colour, and what to draw of it."""


def plot_means(title: str, shown: Sequence[Entry], panels: Sequence[Panel] = PANELS) -> bytes:
    """Draw what each arm did, as PNG: a row of panels for each split, a bar for each arm.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """

    def draw(axis: Axes, panel: Panel, bars: Sequence[Bar]) -> None:
        names, colours, lines = zip(*bars, strict=True)
        values = [line.mean * panel.scale for line in lines]
        axis.barh(names, values, xerr=_reach(lines, panel.scale), capsize=4, color=colours)
        axis.set_xlabel(panel.label)

    return _grid(f"{title} (95 % intervals)", shown, panels, lambda panel: panel.measure, draw)


def plot_differences(title: str, shown: Sequence[Entry], panels: Sequence[Panel] = PANELS) -> bytes:
    """Draw the differences to no memory, as PNG: a point for each arm, hollow where it could be luck.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """

    def draw(axis: Axes, panel: Panel, bars: Sequence[Bar]) -> None:
        axis.axvline(0, color="black", linewidth=0.8)
        for name, colour, line in bars:
            axis.errorbar(
                line.mean * panel.scale,
                name,
                xerr=_reach([line], panel.scale),
                fmt="o",
                capsize=4,
                color=colour,
                markerfacecolor=colour if line.significant else "white",
            )
        axis.margins(y=0.3)
        axis.set_xlabel(f"{panel.label}, over none")

    heading = f"{title}: differences to no memory (95 % intervals; hollow: ns)"
    return _grid(heading, shown, panels, lambda panel: over_none(panel.measure), draw)


def _grid(
    title: str,
    shown: Sequence[Entry],
    panels: Sequence[Panel],
    metric: Callable[[Panel], str],
    draw: Callable[[Axes, Panel, Sequence[Bar]], None],
) -> bytes:
    """Draw a panel for each split and metric, the arms from the top down in their order and colour."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "plots") from error
    arms = list(dict.fromkeys(entry.arm for entry in shown))
    splits = list(dict.fromkeys(entry.split for entry in shown))
    telling = [panel for panel in panels if panel.tells(shown)]
    size = 3.7 * len(telling), (1 + 0.45 * len(arms)) * len(splits) + 0.6
    figure = Figure(figsize=size, layout="tight")
    axes = figure.subplots(len(splits), len(telling), squeeze=False)
    for row, split in zip(axes, splits, strict=True):
        for axis, panel in zip(row, telling, strict=True):
            bars = [
                (entry.arm, COLOURS[arms.index(entry.arm) % len(COLOURS)], entry.lines[metric(panel)])
                for entry in shown
                if entry.split == split and metric(panel) in entry.lines
            ]
            if bars:
                draw(axis, panel, bars)
                axis.set_title(f"{split}, n = {bars[0][2].n} an arm")
            axis.invert_yaxis()
            axis.locator_params(axis="x", nbins=4)
            axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    return drawn.getvalue()


def _reach(lines: Sequence[Line], scale: float) -> list[list[float]]:
    """How far intervals reach below and above their means."""
    return [
        [(line.mean - line.low) * scale for line in lines],
        [(line.high - line.mean) * scale for line in lines],
    ]
