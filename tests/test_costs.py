"""What memories took to build, and after how many tasks that is paid back."""

from __future__ import annotations

from typing import Any

import pytest

from evals.arms import ArmRecord
from evals.prices import Price, price_of
from evals.reports.costs import costs, paid_back, payback, set_ups
from evals.reports.summary import Line, summarise
from evals.reports.table import Table, entries
from evals.rows import Row
from memp.errors import InputError
from tests.episodes import built, row

PRICE = Price(per_million_in=2.0, per_million_out=10.0)


def manifest(**memories: dict[str, Any]) -> dict[str, Any]:
    """One where each memory is that of universe 0."""
    return {"memories": {f"universe-0/{name}": found for name, found in memories.items()}}


# --- what building took ---


def test_what_a_memory_holds_and_took_is_said_in_a_line() -> None:
    found = set_ups([manifest(script=built(64, 0, 30_000, 1_204), trajectory=built(64, 2, 0, 0))])
    assert costs(found, None) == [
        "script: 64 procedures, 0 set aside, 31,204 tokens to build",
        "trajectory: 64 procedures, 2 set aside, 0 tokens to build",
    ]


def test_the_memories_of_several_seeds_are_summed() -> None:
    memories = {f"universe-{seed}/script": built(60 + seed, 4 - seed, 100, 10) for seed in range(2)}
    expected = ["script: 121 procedures in 2 memories, 7 set aside, 220 tokens to build"]
    assert costs(set_ups([{"memories": memories}]), None) == expected


def test_the_memories_of_several_folders_are_summed() -> None:
    found = set_ups([manifest(script=built(8, 0, 100, 10)), manifest(script=built(8, 0, 80, 10))])
    assert costs(found, None) == ["script: 16 procedures in 2 memories, 0 set aside, 200 tokens to build"]


def test_what_building_cost_is_said_where_the_price_is_known() -> None:
    (said,) = costs(set_ups([manifest(script=built(8, 0, 1_000_000, 100_000))]), PRICE)
    assert said.endswith(", 1,100,000 tokens to build (USD 3.0000)")


def learned(arm: str, *tokens: int) -> dict[str, Any]:
    """The memories of an arm that learned between groups, each larger than the one before."""
    return {
        f"{arm}-{group}": built(8 + group, group, sent, 0, learner=arm)
        for group, sent in enumerate(tokens, 1)
    }


def test_the_memories_of_an_arm_that_learned_are_told_of_once_as_they_came_out_at_last() -> None:
    made = manifest(start=built(8, 0, 500, 0), **learned("vanilla", 100, 200, 50), **learned("validation", 7))
    assert costs(set_ups([made]), None) == [
        "start: 8 procedures, 0 set aside, 500 tokens to build",
        "vanilla: 11 procedures after 3 updates, 3 set aside, 350 tokens to learn",
        "validation: 9 procedures after 1 update, 1 set aside, 7 tokens to learn",
    ]


def test_the_memories_that_learned_in_several_worlds_are_summed_as_they_came_out_in_each() -> None:
    made = [manifest(**learned("vanilla", 100, 200)), manifest(**learned("vanilla", 10, 20))]
    assert costs(set_ups(made), None) == [
        "vanilla: 20 procedures in 2 memories after 4 updates, 4 set aside, 330 tokens to learn"
    ]


def practised(lived_by: str, built_by: str) -> dict[str, Any]:
    """A memory of what one model lived through, distilled by another."""
    return built(
        4, 0, 300, 30, built_by=built_by, lived_by=lived_by, practice_tokens_in=7_000, practice_tokens_out=70
    )


def test_practice_is_told_apart_from_building_with_the_models_of_both() -> None:
    found = set_ups([manifest(**{"weak-by-strong": practised("weak", "strong")})])
    (said,) = costs(found, None)
    assert said.endswith(", 330 tokens to build by strong from 7,070 tokens of practice by weak")
    assert costs(found, PRICE) == [f"{said} (USD 0.0156)"]


def test_a_study_without_memories_says_nothing_of_them() -> None:
    assert costs(set_ups([{}]), None) == []


# --- when it is paid back ---


def taking(mean: float, low: float, high: float) -> Line:
    """The difference to no memory in what a task takes."""
    return Line("script", "test", "tokens_over_none", mean, low, high, 9, 0.01)


@pytest.mark.parametrize(
    ("cost", "more", "said"),
    [
        (3700, taking(-100, -120, -80), "after 37 tasks [31, 47]"),
        (3701, taking(-100, -100, -100), "after 38 tasks [38, 38]"),
        (3700, taking(-100, -210, 10), "after 37 tasks [18, never]"),
        (90, taking(-100, -100, -80), "after 1 task [1, 2]"),
        (370_000, taking(-100, -120, -80), "after 3,700 tasks [3,084, 4,625]"),
        (3700, taking(120, 100, 140), "never: each task takes 120 tokens more"),
        (0, taking(120, 100, 140), "never: each task takes 120 tokens more"),
        (3700, taking(0, 0, 0), "never: each task takes as much"),
        (0, taking(-100, -120, -80), "at once: building took none"),
        (0, taking(0, 0, 0), "at once: building took none"),
    ],
)
def test_building_is_paid_back_when_tasks_have_saved_what_it_took(cost: float, more: Line, said: str) -> None:
    assert paid_back(cost, more, "tokens", ",.0f") == said


ARMS = (
    ArmRecord(name="none"),
    ArmRecord(name="script", recipe="script"),
    ArmRecord(name="random", recipe="trajectory"),
)


def episodes(**tokens: int) -> list[Row]:
    """Two tasks in each arm, which take three times its tokens."""
    return [row(arm, task, 0.0, tokens=count) for arm, count in tokens.items() for task in "ab"]


def paid(rows: list[Row], made: dict[str, Any], price: Price | None = None) -> Table | None:
    return payback(entries(summarise(rows, ARMS, price)), ARMS, set_ups([made]), price)


def test_each_arm_pays_back_the_memory_that_it_was_shown() -> None:
    made = manifest(script=built(8, 0, 3000, 300), trajectory=built(8, 0, 0, 0))
    found = paid(episodes(none=100, script=90, random=120), made)
    assert found == Table(
        ["split", "arm", "tokens to build", "tokens over none", "tokens paid back"],
        [
            ["test", "script", "3,300", "-30 [-30, -30] ns", "after 110 tasks [110, 110]"],
            ["test", "random", "0", "+60 [+60, +60] ns", "never: each task takes 60 tokens more"],
        ],
    )


def test_a_memory_is_paid_back_by_the_tasks_of_its_own_world() -> None:
    made = {"memories": {f"universe-{seed}/script": built(8, 0, 3000, 300) for seed in range(4)}}
    found = paid(episodes(none=100, script=90), made)
    assert found is not None
    assert found.body[0][2:] == ["3,300", "-30 [-30, -30] ns", "after 110 tasks [110, 110]"]


def test_money_may_be_paid_back_at_another_time_than_tokens() -> None:
    found = paid(episodes(none=100, script=90), manifest(script=built(8, 0, 0, 3300)), PRICE)
    assert found is not None
    assert found.head[5:] == ["USD to build", "USD over none", "USD paid back"]
    assert found.body[0][4:] == [
        "after 110 tasks [110, 110]",
        "0.0330",
        "-0.0002 [-0.0002, -0.0002] ns",
        "after 150 tasks [150, 150]",
    ]


def test_where_no_model_took_part_nothing_is_paid_back() -> None:
    assert paid(episodes(none=0, random=0), manifest(trajectory=built(8, 0, 0, 0))) is None


def test_an_agent_without_a_model_never_pays_back_what_scripts_took() -> None:
    found = paid(episodes(none=0, script=0), manifest(script=built(8, 0, 3000, 300)))
    assert found is not None
    assert found.body[0][-1] == "never: each task takes as much"


def test_an_arm_that_learns_pays_back_what_it_began_with_and_all_its_updates() -> None:
    arms = (ArmRecord(name="none"), *(ArmRecord(name=name, recipe="start") for name in ("fixed", "vanilla")))
    made = set_ups([manifest(start=built(8, 0, 3000, 0), **learned("vanilla", 200, 100))])
    rows = episodes(none=100, fixed=90, vanilla=90)
    found = payback(entries(summarise(rows, arms)), arms, made, None)
    assert found is not None
    assert [line[2] for line in found.body] == ["3,000", "3,300"]
    assert found.body[1][-1] == "after 110 tasks [110, 110]"


def test_what_a_model_received_is_paid_by_its_source() -> None:
    recipes = {"own": "weak-by-weak", "inherit": "strong-by-strong", "rebuild": "strong-by-weak"}
    arms = (
        ArmRecord(name="none", model="weak"),
        *(
            ArmRecord(name=name, model="weak", source="" if name == "own" else "strong", recipe=recipe)
            for name, recipe in recipes.items()
        ),
    )
    made = {recipe: practised(*recipe.split("-by-")) for recipe in recipes.values()}
    rows = [row(arm.name, "a", 0.0, tokens=9, model="weak", source=arm.source) for arm in arms]
    found = payback(entries(summarise(rows, arms)), arms, set_ups([manifest(**made)]), None)
    assert found is not None
    assert found.head[:6] == ["split", "model", "source", "arm", "tokens to build", "tokens of its own"]
    assert [line[3:6] for line in found.body] == [
        ["own", "7,400", "7,400"],
        ["inherit", "7,400", "0"],
        ["rebuild", "7,400", "330"],
    ]


def test_an_arm_without_a_baseline_yet_is_left_out() -> None:
    rows = [row("none", "a", 0.0, tokens=5), row("script", "b", 0.0, tokens=5)]
    assert paid(rows, manifest(script=built(8, 0, 10, 1))) is None


# --- prices ---


def test_a_price_is_of_both_ways() -> None:
    assert PRICE.of(500_000, 100_000) == 2.0


def test_the_price_is_that_of_the_manifest() -> None:
    found = price_of({"price": {"in": 2.5, "out": 10, "as_of": "2026-11-01"}})
    assert found == Price(per_million_in=2.5, per_million_out=10.0, as_of="2026-11-01")
    assert str(found) == "USD 2.5 in and 10 out for a million tokens (as of 2026-11-01)"


@pytest.mark.parametrize("found", [{}, {"price": None}])
def test_a_manifest_without_a_price_has_none(found: dict[str, Any]) -> None:
    assert price_of(found) is None


@pytest.mark.parametrize("stated", [3, {"in": 1}, {"in": -1, "out": 2}, {"in": "much", "out": 2}])
def test_what_is_no_price_is_refused(stated: object) -> None:
    with pytest.raises(InputError, match=r"the manifest's price .* is none"):
        price_of({"price": stated})
