"""The study of scaling: how much is shown, and how much is in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from evals.__main__ import main
from evals.reports.results import read_results
from evals.studies.scaling import Scaling
from memp import ProceduralMemory
from tests.studies import plan, rows_in, run

SMALL = Scaling(
    env="gridworld",
    agent="replay",
    fallback="random",
    episodes=4,
    train=16,
    k=2,
    max_steps=5,
    shown=(1, 3),
    held=(4, 8, 16, 32),
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that ran to its end."""
    found = tmp_path_factory.mktemp("scaling") / "out"
    run(found, SMALL)
    return found


def sources(out: Path, name: str) -> set[str]:
    with ProceduralMemory.open(out / "universe-0" / f"{name}.db", create=False) as memory:
        return {procedure.source for procedure in memory.procedures()}


def test_an_arm_shows_as_many_procedures_as_its_name_says(out: Path) -> None:
    shown = {(row.arm, len(row.shown)) for row in rows_in(out)}
    assert shown == {("none", 0), ("random", 2), ("k=1", 1), ("k=3", 3), ("n=4", 2), ("n=8", 2)}


def test_a_larger_memory_contains_the_smaller_ones(out: Path) -> None:
    sizes = [sources(out, name) for name in ("n=4", "n=8", "whole")]
    assert [len(found) for found in sizes] == [4, 8, 16]
    assert sizes[0] < sizes[1] < sizes[2]


def test_sizes_that_the_training_tasks_do_not_reach_are_left_out() -> None:
    assert [recipe.name for recipe in plan(SMALL).recipes] == ["n=4", "n=8", "whole"]


def test_arms_say_how_many_they_have_of_what_so_that_they_can_be_plotted_by_that(out: Path) -> None:
    shown, held = "procedures shown", "training tasks in memory"
    assert {arm.name: dict(arm.amounts) for arm in read_results([out]).arms} == {
        "none": {},
        "random": {shown: 2, held: 16},
        "k=1": {shown: 1},
        "k=3": {shown: 3},
        "n=4": {held: 4},
        "n=8": {held: 8},
    }


def test_an_arm_of_the_whole_memory_that_shows_as_much_as_the_parts_ends_their_row() -> None:
    (arm,) = [arm for arm in plan(replace(SMALL, shown=(2,))).arms if arm.name == "k=2"]
    assert dict(arm.amounts) == {"procedures shown": 2, "training tasks in memory": 16}


def test_arms_are_plotted_by_how_many_they_have(out: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    assert (out / "amounts.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "groups.png").exists()


@pytest.mark.parametrize("given", ["", "0", "1,,2", "1,x", "-1"])
def test_what_is_no_list_of_numbers_is_refused(given: str) -> None:
    result = CliRunner().invoke(main, ["scaling", "--env", "gridworld", "--shown", given])
    assert result.exit_code == 2
    assert "is no list of numbers" in result.output
