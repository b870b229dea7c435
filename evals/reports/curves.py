"""The plots of studies in which something grows: the groups of a stream, or what an arm has how many of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from evals.arms import ArmRecord
from evals.reports.blocks import arm_in
from evals.reports.figure import COLOURS, PANELS, Panel, colours, grid, reach
from evals.reports.summary import Line, over_none
from evals.reports.table import Entry, telling

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 3.0
"""Of a row of panels, in inches."""

APART = 0.08
"""What lies between points at the same place, so that their intervals can be told apart."""


def plot_groups(title: str, shown: Sequence[Entry], changes: Collection[int]) -> bytes:
    """Draw the differences to no memory group by group, as PNG: a line for each arm, hollow where it could be luck.

    Args:
        title: Of the study.
        shown: The entries of the groups.
        changes: Before which groups all places were rearranged: a dashed line.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    colour = colours(entry.arm for entry in shown)

    def draw(axis: Axes, row: Sequence[Entry], panel: Panel) -> None:
        axis.axhline(0, color="black", linewidth=0.8)
        for change in changes:
            axis.axvline(change - 0.5, color="black", linewidth=0.8, linestyle="--")
        for place, arm in enumerate(colour):
            lines = {
                entry.block.group or 0: entry.lines[over_none(panel.measure)]
                for entry in row
                if entry.arm == arm and over_none(panel.measure) in entry.lines
            }
            if lines:
                apart = APART * (place - len(colour) / 2)
                _line(axis, {group + apart: line for group, line in lines.items()}, panel, arm, colour[arm])
        axis.set_xticks(sorted({entry.block.group or 0 for entry in row}))
        axis.set_xlabel("group of tasks")
        axis.set_ylabel(f"{panel.label}, over none")

    rows = {
        block.label: list(found)
        for block, found in groupby(shown, key=lambda entry: entry.block._replace(group=None))
    }
    dashed = "; dashed: all places rearranged" if changes else ""
    heading = f"{title}: differences to no memory (95 % intervals; hollow: ns{dashed})"
    return grid(heading, rows, telling(PANELS, shown), draw, height=HEIGHT, legend=True)


class Growing(NamedTuple):
    """What arms of one block did, by how many they have of something."""

    amount: str
    """Of what."""

    curves: Mapping[str, Mapping[float, Entry]]
    """By what procedures are found by, and by how many there are."""

    bands: Sequence[Entry]
    """Of the arms that have nothing."""


def plot_amounts(title: str, shown: Sequence[Entry], arms: Sequence[ArmRecord]) -> bytes:
    """Draw what arms did by how many they have of something, as PNG; one that has nothing is a band.

    Args:
        title: Of the study.
        shown: The entries of the splits.
        arms: Which say how many they have of what.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    # baselines stand first among the arms: it is they that step aside
    keys = list(dict.fromkeys(str(arm.key) for arm in reversed(arms) if arm.amounts))

    def draw(axis: Axes, row: Growing, panel: Panel) -> None:
        for entry in row.bands:
            line = entry.lines[panel.measure]
            axis.axhspan(line.low * panel.scale, line.high * panel.scale, color=COLOURS[0], alpha=0.25)
            axis.axhline(line.mean * panel.scale, color=COLOURS[0], label=entry.arm)
        for key, curve in row.curves.items():
            aside = 1 + APART * keys.index(key)
            lines = {amount * aside: entry.lines[panel.measure] for amount, entry in curve.items()}
            _line(axis, lines, panel, key, COLOURS[1 + keys.index(key)])
        ticks = sorted({amount for curve in row.curves.values() for amount in curve})
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{amount:g}" for amount in ticks], minor=False)
        axis.set_xlabel(row.amount)
        axis.set_ylabel(panel.label)

    heading = f"{title} (95 % intervals)"
    return grid(heading, _growing(shown, arms), telling(PANELS, shown), draw, height=HEIGHT, legend=True)


def _growing(shown: Sequence[Entry], arms: Sequence[ArmRecord]) -> dict[str, Growing]:
    """What grows in each block, by what is said over it."""
    rows = {}
    for block, found in groupby(shown, key=lambda entry: entry.block):
        of = [(entry, arm_in(block, entry.arm, arms)) for entry in found]
        bands = [entry for entry, arm in of if not arm.amounts]
        for amount in dict.fromkeys(amount for arm in arms for amount in arm.amounts):
            curves: dict[str, dict[float, Entry]] = {}
            for entry, arm in sorted(of, key=lambda pair: pair[1].amounts.get(amount, 0)):
                if amount in arm.amounts:
                    curves.setdefault(str(arm.key), {})[arm.amounts[amount]] = entry
            rows[f"{block.label}: {amount}"] = Growing(amount, curves, bands)
    return rows


def _line(axis: Axes, lines: Mapping[float, Line], panel: Panel, label: str, colour: str) -> None:
    """Draw a line through points with intervals."""
    values = [line.mean * panel.scale for line in lines.values()]
    yerr = reach(lines.values(), panel.scale)
    axis.errorbar(list(lines), values, yerr=yerr, fmt="-", capsize=2, linewidth=1, color=colour, label=label)
    luck = [line.p is not None and not line.significant for line in lines.values()]
    filled = ["white" if hollow else colour for hollow in luck]
    axis.scatter(list(lines), values, s=25, facecolors=filled, edgecolors=colour, zorder=3)
