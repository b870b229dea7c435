"""Blocks: which episodes are compared with each other."""

from __future__ import annotations

from evals.arms import ArmRecord
from evals.reports.blocks import ALL, Block, blocks
from evals.reports.significance import holm
from evals.reports.summary import summarise
from tasks.base import Split
from tests.episodes import ARMS, NAMES, arm_rows, line, named, row

TRANSFERRED = (
    *(ArmRecord(name=name, model=model) for name in ("none", "own") for model in "abc"),
    *(ArmRecord(name="inherit", model="a", source=source) for source in "bc"),
    ArmRecord(name="inherit", model="b", source="a"),
)

SPLITS: tuple[Split, ...] = ("dev", "test")

GIVEN = [
    *(row("none", task, 0.0, model="a") for task in "wxyz"),
    *(row("own", task, float(task > "w"), model="a") for task in "wxyz"),
    *(row("inherit", task, float(task > "x"), model="a", source="b") for task in "wxyz"),
    *(row("inherit", task, float(task > "y"), model="a", source="c") for task in "wxyz"),
]


# --- models and sources ---


def test_a_block_is_a_split_where_there_is_one_model_and_one_group() -> None:
    rows = [*arm_rows("none", [0.0]), *arm_rows("none", [0.0], split="dev")]
    assert blocks(rows, ARMS) == [Block("dev"), Block("test")]
    assert [block.label for block in blocks(rows, ARMS)] == ["dev", "test"]


def test_a_model_has_a_block_with_each_source_and_one_without_where_it_has_none() -> None:
    found = blocks(GIVEN, TRANSFERRED)
    assert found == [Block("test", *pair) for pair in (("a", "b"), ("a", "c"), ("b", "a"), ("c", ""))]
    assert [block.label for block in found] == [
        "test, a, given memories of b",
        "test, a, given memories of c",
        "test, b, given memories of a",
        "test, c",
    ]


def test_what_has_no_source_is_compared_in_every_block_of_its_model_alone() -> None:
    lines = [found for found in summarise(GIVEN, TRANSFERRED) if found.metric == "success"]
    assert {(found.arm, found.model, found.source): found.mean for found in lines} == {
        ("none", "a", "b"): 0,
        ("own", "a", "b"): 0.75,
        ("inherit", "a", "b"): 0.5,
        ("none", "a", "c"): 0,
        ("own", "a", "c"): 0.75,
        ("inherit", "a", "c"): 0.25,
    }


def test_a_difference_is_to_no_memory_of_the_same_model() -> None:
    arms = tuple(ArmRecord(name=name, model=model) for name in NAMES for model in "ab")
    rows = [
        row(arm, "t", reward, model=model)
        for arm, model, reward in (("none", "a", 0), ("query", "a", 0.5), ("none", "b", 1), ("query", "b", 1))
    ]
    lines = summarise(rows, arms)
    assert [line(lines, "query", "reward_over_none", model=model).mean for model in "ab"] == [0.5, 0]


def test_each_block_is_corrected_by_itself() -> None:
    tasks = "abcdefgh"
    rows = [
        *(row("none", task, 0.0, model="a") for task in tasks),
        *(row("own", task, 1.0, model="a") for task in tasks),
        *(row("inherit", task, float(task > "b"), model="a", source="b") for task in tasks),
        *(row("inherit", task, 0.0, model="a", source="c") for task in tasks),
    ]
    lines = summarise(rows, TRANSFERRED)
    for source, gained in (("b", 6), ("c", 0)):
        found = [line(lines, arm, "success_over_none", source=source).p for arm in ("own", "inherit")]
        assert found == holm([2 * 0.5**8, min(1, 2 * 0.5**gained)])


# --- groups ---


def test_a_stream_is_told_of_as_a_whole_and_group_by_group_over_all_splits() -> None:
    rows = [
        row(arm, f"{split}/{group}", float(arm == "query") * group / 4, split=split, group=group)
        for arm in NAMES
        for split in SPLITS
        for group in range(3)
    ]
    lines = summarise(rows, ARMS)
    gains = [found for found in lines if (found.arm, found.metric) == ("query", "reward_over_none")]
    assert {(found.split, found.group): (found.mean, found.n) for found in gains} == {
        ("dev", None): (0.25, 3),
        ("test", None): (0.25, 3),
        (ALL, 0): (0, 2),
        (ALL, 1): (0.25, 2),
        (ALL, 2): (0.5, 2),
    }


def test_tasks_that_came_in_one_group_are_told_of_once() -> None:
    rows = arm_rows("none", [0.0, 1.0])
    assert {found.group for found in summarise(rows, named("none"))} == {None}
