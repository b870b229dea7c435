"""One task with and without memory, side by side; and tasks that come again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from evals.__main__ import main
from evals.arms import agent
from evals.rows import Row
from evals.studies.compare import Compare
from memp.errors import InputError
from tasks.gridworld import GridWorld
from tests.openai_server import Messages
from tests.studies import answer, ran, rows_in, serving

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


# --- tasks that come again ---

AGAIN = Compare(
    env="gridworld",
    agent="replay-first",
    model="openai:test",
    task=TASK,
    splits=("test",),
    episodes=32,
    train=16,
    k=2,
)


def solves(messages: Messages) -> str:
    """Do `TASK` as its expert does, and in every other the first action possible."""
    env = GridWorld()
    _, info = env.reset(0, {"task": TASK})
    done = sum(message["role"] == "assistant" for message in messages)
    if messages[1]["content"].rpartition("Task: ")[2].startswith(info["task"]):
        return f"Action: {env.expert(TASK)[done]}"
    return answer(messages)


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A study of a task that is solved the first time."""
    with serving(solves):
        yield ran(tmp_path_factory.mktemp("again") / "out", AGAIN)


def test_a_task_comes_again_without_memory_with_its_procedure_and_with_that_done_first(again: Path) -> None:
    assert {(row.arm, row.task) for row in rows_in(again)} == {
        (arm, f"{TASK}/again") for arm in ("none", "memory", "replay-first")
    }


def test_what_was_solved_once_takes_no_token_when_it_comes_again(again: Path) -> None:
    none, memory, first = (row_of(again, arm) for arm in ("none", "memory", "replay-first"))
    assert none.success
    assert memory.success
    assert first.success
    assert (first.tokens_in, first.tokens_out, first.steps) == (0, 0, none.steps)
    assert min(none.tokens_in, memory.tokens_in) > 0


def test_what_failed_the_first_time_is_left_to_the_model(tmp_path: Path) -> None:
    with serving():
        out = ran(tmp_path / "out", replace(AGAIN, max_steps=3))
    none, first = (row_of(out, arm) for arm in ("none", "replay-first"))
    assert not first.success
    assert (first.steps, first.tokens_in, first.shown) == (none.steps, none.tokens_in, ())


def test_all_tasks_come_again_where_none_is_named(tmp_path: Path) -> None:
    with serving():
        out = ran(tmp_path / "out", replace(AGAIN, task=None, episodes=4, max_steps=1))
    assert len({row.task for row in rows_in(out)}) == 4


def test_the_command_tells_what_was_solved_the_first_time_apart(tmp_path: Path) -> None:
    given = (
        "compare --env gridworld --agent replay-first --model openai:test --key query --no-cache --episodes 4"
    )
    with serving(solves):
        result = CliRunner().invoke(main, [*given.split(), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "compare.md").read_text()
    assert re.search(
        r"^\| solved \| replay-first \| 1 \| 100\.0 \[.*\] \| \d+\.\d \[.*\] \| 0 \[0, 0\] \|$",
        text,
        re.MULTILINE,
    )
    assert "| not solved | replay-first | 3 | 0.0 [" in text


def test_to_do_a_task_again_takes_a_model_that_did_it() -> None:
    with pytest.raises(InputError, match="the agent 'llm' needs a chat model"):
        agent("replay-first", None)
