"""One task with and without memory, side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from evals.__main__ import main
from evals.rows import Row
from tasks.gridworld import GridWorld
from tests.studies import rows_in

GIVEN = ("compare", "--env", "gridworld", "--agent", "replay", "--fallback", "random", "--train", "16")

TASK = GridWorld().tasks("test")[3].id


def compared(out: Path, *given: str) -> str:
    result = CliRunner().invoke(main, [*GIVEN, "--out", str(out), *given])
    assert result.exit_code == 0, result.output
    return (out / "compare.md").read_text()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("compare") / "out"
    compared(found, "--task", TASK)
    return found


def row_of(out: Path, arm: str) -> Row:
    (row,) = [row for row in rows_in(out) if row.arm == arm]
    return row


def test_one_task_is_done_with_and_without_memory(out: Path) -> None:
    assert [(row.arm, row.task) for row in sorted(rows_in(out), key=lambda row: row.arm)] == [
        ("memory", TASK),
        ("none", TASK),
    ]


def test_both_trajectories_stand_side_by_side_step_by_step(out: Path) -> None:
    lines = (out / "compare.md").read_text().rpartition("## What was done")[2].splitlines()
    longest = max(row_of(out, arm).steps for arm in ("none", "memory"))
    assert len([line for line in lines if line.startswith("| ") and line[2].isdigit()]) == longest + 1


def test_what_was_shown_is_named_with_its_similarity(out: Path) -> None:
    text = (out / "compare.md").read_text().partition("## What was retrieved")[2]
    assert text.count("(similarity 0.") == len(row_of(out, "memory").shown) > 0


def test_the_difference_is_that_of_the_rows(out: Path) -> None:
    saved = row_of(out, "memory").steps - row_of(out, "none").steps
    assert f"| {saved:+d} |" in (out / "compare.md").read_text()


def test_the_first_task_is_taken_where_none_is_named(tmp_path: Path) -> None:
    assert GridWorld().tasks("test")[0].id in compared(tmp_path / "out")


def test_a_task_that_there_is_not_is_refused_with_the_nearest(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [*GIVEN, "--out", str(tmp_path / "out"), "--task", TASK + "x"])
    assert result.exit_code == 1
    assert f"did you mean {TASK!r}?" in result.output
