"""The plots: what they draw where, and that nothing written on them is over something else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from evals.arms import ArmRecord
from evals.reports.curves import plot_amounts, plot_groups
from evals.reports.plot import plot_differences, plot_means
from evals.reports.summary import summarise
from evals.reports.table import Entry, entries
from tests.episodes import ARMS, NAMES, row

pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")

TITLE = "transfer: gridworld-1, llm"

LONG = ("local:a-model-with-a-long-name", "openai:another-one-of-such-a-name")

Drawn = Callable[[], Any]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Returns the figure that was drawn last."""
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return lambda: figures[-1]


def refuse_overlaps(figure: Any) -> None:
    """Check that everything written is on the figure, and nothing is over something else."""
    from matplotlib.text import Text

    ticks = {tick for axis in figure.axes for tick in (*axis.get_xticklabels(), *axis.get_yticklabels())}
    written = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    texts = [text for text in written if text not in ticks]
    boxes = {text: text.get_window_extent() for text in texts}
    for one, other in combinations(texts, 2):
        assert not boxes[one].overlaps(boxes[other]), (one, other)
    for text, box in boxes.items():
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text


def transferred() -> list[Entry]:
    """Two models with long names that receive from each other."""
    arms = [ArmRecord(name=name, model=model) for model in LONG for name in ("none", "own")]
    arms += [ArmRecord(name="inherit", model=LONG[0], source=LONG[1])]
    arms += [ArmRecord(name="inherit", model=LONG[1], source=LONG[0])]
    rows = [
        row(arm.name, task, 0.5, tokens=99, model=arm.model, source=arm.source)
        for arm in arms
        for task in "ab"
    ]
    return entries(summarise(rows, arms))


def streamed() -> list[Entry]:
    """Four groups of two tasks, which memory does better and better."""
    rows = [
        row(arm, f"{group}/{task}", float(arm == "query" and task < group), group=group)
        for arm in NAMES
        for group in range(4)
        for task in range(4)
    ]
    return [entry for entry in entries(summarise(rows, ARMS)) if entry.block.group is not None]


SCALED = (
    ArmRecord(name="none"),
    ArmRecord(name="random", key="random", amounts={"shown": 2, "held": 16}),
    *(ArmRecord(name=f"k={count}", key="query", amounts={"shown": count}) for count in (4, 8)),
    ArmRecord(name="n=8", key="query", amounts={"held": 8}),
)


def scaled() -> list[Entry]:
    """Four tasks; the more an arm has, the more of them are done."""
    rows = [
        row(arm.name, str(task), float(task < sum(arm.amounts.values()) / 4))
        for arm in SCALED
        for task in range(4)
    ]
    return entries(summarise(rows, SCALED))


def test_long_names_leave_everything_readable(drawn: Drawn) -> None:
    for draw in (plot_means, plot_differences):
        draw(TITLE, transferred())
        refuse_overlaps(drawn())


def test_each_model_and_source_has_a_row_of_panels(drawn: Drawn) -> None:
    plot_means(TITLE, transferred())
    assert [part.get_suptitle() for part in drawn().subfigs] == [
        f"test, {LONG[0]}, given memories of {LONG[1]}",
        f"test, {LONG[1]}, given memories of {LONG[0]}",
    ]


def test_groups_are_a_line_an_arm_and_a_change_a_dashed_one(drawn: Drawn) -> None:
    plot_groups(TITLE, streamed(), (2,))
    refuse_overlaps(drawn())
    panel = drawn().axes[0]
    (bars,) = panel.containers
    assert [round(group) for group in bars.lines[0].get_xdata()] == [0, 1, 2, 3]
    assert list(bars.lines[0].get_ydata()) == [0, 25, 50, 75]
    assert [line.get_xdata()[0] for line in panel.lines if line.get_linestyle() == "--"] == [1.5]


def test_arms_lie_at_what_they_have_and_no_memory_is_a_band(drawn: Drawn) -> None:
    plot_amounts(TITLE, scaled(), SCALED)
    refuse_overlaps(drawn())
    shown, held = (part.axes[0] for part in drawn().subfigs)
    for panel, amounts in ((shown, [4, 8]), (held, [8])):
        lines = {bars.get_label(): bars.lines[0] for bars in panel.containers}
        assert list(lines["query"].get_xdata()) == amounts
        assert len(lines["random"].get_xdata()) == 1
        assert len(panel.patches) == 1
    assert [text.get_text() for text in drawn().legends[0].get_texts()] == ["none", "random", "query"]


def test_an_arm_has_one_colour_wherever_it_is(drawn: Drawn) -> None:
    plot_amounts(TITLE, scaled(), SCALED)
    found = {
        (bars.get_label(), bars.lines[0].get_color()) for axis in drawn().axes for bars in axis.containers
    }
    assert len(found) == 2
