"""The plots of every study: what each arm did, and what memory changed, all with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from evals.reports.figure import PANELS, Panel, colours, grid, reach
from evals.reports.summary import Line, over_none
from evals.reports.table import Entry, telling

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_means(title: str, shown: Sequence[Entry]) -> bytes:
    """Draw what each arm did, as PNG: a row of panels for each block, a bar for each arm.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    colour = colours(entry.arm for entry in shown)

    def draw(axis: Axes, row: Sequence[Entry], panel: Panel) -> None:
        bars = _bars(axis, row, panel.measure)
        values = [line.mean * panel.scale for line in bars.values()]
        xerr = reach(bars.values(), panel.scale)
        axis.barh(list(bars), values, xerr=xerr, capsize=4, color=[colour[arm] for arm in bars])
        axis.set_xlabel(panel.label)

    return _by_block(f"{title} (95 % intervals)", shown, draw)


def plot_differences(title: str, shown: Sequence[Entry]) -> bytes:
    """Draw the differences to no memory, as PNG: a point for each arm, hollow where it could be luck.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    colour = colours(entry.arm for entry in shown)

    def draw(axis: Axes, row: Sequence[Entry], panel: Panel) -> None:
        axis.axvline(0, color="black", linewidth=0.8)
        for arm, line in _bars(axis, row, over_none(panel.measure)).items():
            axis.errorbar(
                line.mean * panel.scale,
                arm,
                xerr=reach([line], panel.scale),
                fmt="o",
                capsize=4,
                color=colour[arm],
                markerfacecolor=colour[arm] if line.significant else "white",
            )
        axis.margins(y=0.3)
        axis.set_xlabel(f"{panel.label}, over none")

    return _by_block(f"{title}: differences to no memory (95 % intervals; hollow: ns)", shown, draw)


def _by_block(
    title: str, shown: Sequence[Entry], draw: Callable[[Axes, Sequence[Entry], Panel], None]
) -> bytes:
    """Draw a row of panels for each block, the arms from the top down in their order."""
    rows = {block.label: list(found) for block, found in groupby(shown, key=lambda entry: entry.block)}
    height = 1 + 0.45 * max(map(len, rows.values()))

    def downwards(axis: Axes, row: Sequence[Entry], panel: Panel) -> None:
        draw(axis, row, panel)
        axis.invert_yaxis()
        axis.locator_params(axis="x", nbins=4)

    return grid(title, rows, telling(PANELS, shown), downwards, height=height)


def _bars(axis: Axes, row: Sequence[Entry], metric: str) -> Mapping[str, Line]:
    """What to draw of each arm; over it is said of how many episodes it is."""
    found = {entry.arm: entry.lines[metric] for entry in row if metric in entry.lines}
    if found:
        axis.set_title(f"n = {next(iter(found.values())).n} an arm")
    return found
