"""What all plots share: a row of panels for each of several things, drawn as PNG."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from io import BytesIO
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from evals.reports.columns import GRADED, some
from evals.reports.table import Interval, Tells
from memp.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart also by colour-blind readers
COLOURS = ("#999999", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")

LETTERS = 9
"""How many of them fit into an inch of a title."""

T = TypeVar("T")


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


def grid(
    title: str,
    rows: Mapping[str, T],
    panels: Sequence[Panel],
    draw: Callable[[Axes, T, Panel], None],
    *,
    height: float,
    legend: bool = False,
) -> bytes:
    """Draw a row of panels for each thing.

    Args:
        title: Of the whole.
        rows: What to draw in each row, by what is said above it.
        panels: From left to right.
        draw: Draws one panel.
        height: Of a row, in inches.
        legend: Whether to name below, once, what panels name.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "plots") from error
    size = 3.7 * len(panels), (height + 0.3) * len(rows) + 0.6
    figure = Figure(figsize=size, layout="constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, (label, row) in zip(parts, rows.items(), strict=True):
        part.suptitle(fill(label, int(size[0] * LETTERS)), fontsize="medium", fontweight="bold")
        for axis, panel in zip(part.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw(axis, row, panel)
            axis.spines[["top", "right"]].set_visible(False)
    if legend:
        named = {
            name: handle
            for axis in figure.axes
            for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(named.values(), named, loc="outside lower center", ncols=7, frameon=False)
    figure.suptitle(fill(title, int(size[0] * LETTERS)))
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    return drawn.getvalue()


def colours(arms: Iterable[str]) -> dict[str, str]:
    """Give each arm its colour, the same wherever it is drawn."""
    return {arm: COLOURS[place % len(COLOURS)] for place, arm in enumerate(dict.fromkeys(arms))}


def reach(lines: Collection[Interval], scale: float) -> list[list[float]]:
    """How far intervals reach below and above their means."""
    return [
        [(line.mean - line.low) * scale for line in lines],
        [(line.high - line.mean) * scale for line in lines],
    ]
