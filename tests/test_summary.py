"""From episodes to a summary: every metric, every difference to no memory, and whether it could be luck."""

from __future__ import annotations

import pytest

from evals.prices import Price
from evals.reports.metrics import bootstrap
from evals.reports.significance import holm, sign_flip
from evals.reports.summary import MEASURES, over_none, summarise
from tests.episodes import ARMS, NAMES, arm_rows, line, named, row

WON = arm_rows("none", [0.0, 0.25, 0.5, 0.0, 1.0]) + arm_rows("query", [1.0, 1.0, 1.0, 0.75, 1.0])

OVER_NONE = {over_none(measure) for measure in MEASURES}


# --- what an arm did ---


def test_a_summary_has_every_metric_of_every_arm_and_split() -> None:
    rows = [*WON, *arm_rows("none", [1.0], split="dev"), *arm_rows("query", [1.0], split="dev")]
    found = {(line.split, line.arm, line.metric) for line in summarise(rows, ARMS)}
    alone = {*MEASURES, "steps_solved"}
    compared = OVER_NONE | {
        f"{measure}_{how}" for measure in ("success", "reward") for how in ("won", "lost")
    }
    assert found == {
        (split, arm, metric)
        for split in ("test", "dev")
        for arm, metrics in (("none", alone), ("query", alone | compared))
        for metric in metrics
    }


def test_means_are_those_of_the_rows_with_their_bootstrap_interval() -> None:
    found = line(summarise(WON, ARMS), "query", "reward")
    assert found.estimate == bootstrap([1.0, 1.0, 1.0, 0.75, 1.0], list("abcde"))
    assert (found.mean, found.n, found.p) == (0.95, 5, None)


def test_repeats_of_one_task_are_one_cluster() -> None:
    rows = [row("none", "t", seed / 4, seed=seed) for seed in range(4)]
    found = line(summarise(rows, ARMS), "none", "reward")
    assert (found.low, found.high, found.n) == (found.mean, found.mean, 4)


def test_the_order_of_the_rows_changes_nothing() -> None:
    assert summarise(WON[::-1], ARMS) == summarise(WON, ARMS)


def test_an_arm_without_rows_is_left_out() -> None:
    assert {found.arm for found in summarise(WON, named(*NAMES, "avefact"))} == set(NAMES)


def test_steps_are_told_of_the_solved_episodes_alone_too() -> None:
    rows = [row("none", "a", 1.0, steps=4), row("none", "b", 1.0, steps=6), row("none", "c", 0.0, steps=50)]
    lines = summarise(rows, ARMS)
    assert (line(lines, "none", "steps").mean, line(lines, "none", "steps").n) == (20, 3)
    assert (line(lines, "none", "steps_solved").mean, line(lines, "none", "steps_solved").n) == (5, 2)


def test_an_arm_that_solved_nothing_has_no_steps_to_a_solution() -> None:
    assert "steps_solved" not in {found.metric for found in summarise(arm_rows("none", [0.0, 0.5]), ARMS)}


def test_tokens_are_told_both_ways_and_together() -> None:
    lines = summarise([row("none", "a", 0.0, tokens=10), row("none", "b", 0.0, tokens=20)], ARMS)
    assert [line(lines, "none", metric).mean for metric in ("tokens_in", "tokens_out", "tokens")] == [
        15,
        30,
        45,
    ]


def test_money_is_told_where_the_price_is_known() -> None:
    price = Price(per_million_in=2.0, per_million_out=10.0)
    rows = [row("none", "a", 0.0, tokens=1000), row("query", "a", 0.0, tokens=500)]
    lines = summarise(rows, ARMS, price)
    assert line(lines, "none", "usd").mean == pytest.approx((1000 * 2 + 2000 * 10) / 1e6)
    assert line(lines, "query", "usd_over_none").mean == pytest.approx(-(500 * 2 + 1000 * 10) / 1e6)


# --- the difference to no memory ---


def test_the_difference_to_no_memory_is_paired_by_task() -> None:
    rows = arm_rows("none", [0.0, 0.25, 0.5, 0.75]) + arm_rows("query", [0.25, 0.5, 0.75, 1.0])
    found = line(summarise(rows, ARMS), "query", "reward_over_none")
    assert found.estimate == (0.25, 0.25, 0.25, 4)  # unpaired it would be wide


def test_the_difference_is_paired_by_seed_too() -> None:
    rows = [row(arm, "t", seed / 4 + (arm == "query") / 4, seed=seed) for arm in NAMES for seed in range(3)]
    assert line(summarise(rows, ARMS), "query", "reward_over_none").mean == 0.25


def test_success_steps_and_tokens_are_compared_in_pairs_too() -> None:
    none = [
        row("none", task, reward, steps=10, tokens=9) for task, reward in zip("abc", (0.5, 1, 0), strict=True)
    ]
    query = [
        row("query", task, reward, steps=8, tokens=5) for task, reward in zip("abc", (1, 1, 0), strict=True)
    ]
    lines = summarise(none + query, ARMS)
    assert line(lines, "query", "success_over_none").mean == pytest.approx(1 / 3)
    assert line(lines, "query", "steps_over_none").estimate == (-2, -2, -2, 3)
    assert line(lines, "query", "tokens_over_none").estimate == (-12, -12, -12, 3)


def test_an_arm_whose_tasks_have_no_baseline_yet_has_no_difference() -> None:
    lines = summarise([row("none", "a", 0.0), row("query", "b", 1.0)], ARMS)
    assert {found.metric for found in lines if found.arm == "query"} == {*MEASURES, "steps_solved"}


def test_episodes_are_won_and_lost_by_success_and_by_reward() -> None:
    none, query = [0.0, 0.25, 1.0, 1.0, 0.5], [1.0, 0.75, 0.5, 1.0, 0.5]
    lines = summarise(arm_rows("none", none) + arm_rows("query", query), ARMS)
    shares = {
        metric: line(lines, "query", metric).mean
        for metric in ("success_won", "success_lost", "reward_won", "reward_lost")
    }
    assert shares == pytest.approx(
        {"success_won": 0.2, "success_lost": 0.2, "reward_won": 0.4, "reward_lost": 0.2}
    )


# --- significance ---


def test_differences_to_no_memory_have_a_p_and_nothing_else_has() -> None:
    assert {found.metric for found in summarise(WON, ARMS) if found.p is not None} == OVER_NONE


def test_the_p_is_that_of_flipping_the_gains_of_whole_tasks() -> None:
    rows = [
        row(arm, task, float(arm == "query" and task != "a"), seed=seed)
        for arm in NAMES
        for task in "abcdefg"
        for seed in range(2)
    ]
    found = line(summarise(rows, ARMS), "query", "success_over_none")
    assert found.p == sign_flip([0, 0, *[1] * 12], list("aabbccddeeffgg")) == 2 * 0.5**6
    assert found.significant


def test_the_ps_of_a_split_and_metric_are_corrected_for_the_number_of_arms() -> None:
    names = ("none", "random", "query", "avefact")
    none = arm_rows("none", [0.0] * 8)
    rows = [*none, *arm_rows("random", [1.0] * 5 + [0.0] * 3), *arm_rows("query", [1.0] * 8)]
    rows += arm_rows("avefact", [1.0] * 6 + [0.0] * 2)
    lines = summarise(rows, named(*names))
    raw = [2 * 0.5**count for count in (5, 8, 6)]
    assert [line(lines, arm, "success_over_none").p for arm in names[1:]] == holm(raw)


def test_what_is_significant_alone_may_not_be_among_several_arms() -> None:
    rows = arm_rows("none", [0.0] * 6) + arm_rows("query", [1.0] * 6)
    assert line(summarise(rows, ARMS), "query", "success_over_none").significant
    arms = named(*NAMES, "random", "avefact")
    rows += [*arm_rows("random", [0.0] * 6), *arm_rows("avefact", [0.0] * 6)]
    assert not line(summarise(rows, arms), "query", "success_over_none").significant


def test_each_split_is_corrected_by_itself() -> None:
    rows = [*WON, *arm_rows("none", [0.0] * 6, split="dev"), *arm_rows("query", [1.0] * 6, split="dev")]
    assert line(summarise(rows, ARMS), "query", "success_over_none", "dev").p == 2 * 0.5**6


def test_no_difference_at_all_has_the_p_of_1() -> None:
    rows = arm_rows("none", [0.5] * 5) + arm_rows("query", [0.5] * 5)
    assert line(summarise(rows, ARMS), "query", "reward_over_none").p == 1
