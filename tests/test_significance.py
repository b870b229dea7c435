"""Whether a difference could be luck: ps that hold what they promise, alone and together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evals.reports.significance import ALPHA, FLIPS, holm, sign_flip

GAINS = st.lists(st.floats(-1e6, 1e6).map(lambda gain: round(gain, 3)), min_size=1, max_size=12)

PS = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=8)


def alone(gains: list[float], seed: int = 0) -> float:
    """Test with every gain in a task of its own."""
    return sign_flip(gains, [str(number) for number in range(len(gains))], seed=seed)


# --- one comparison ---


def test_five_wins_and_no_loss_have_the_p_of_five_throws_of_a_coin() -> None:
    assert alone([1.0] * 5) == 2 * 0.5**5


def test_gains_that_sum_to_nothing_are_no_evidence() -> None:
    assert alone([1.0, -1.0, 0.5, -0.5]) == 1


def test_gains_that_are_equal_but_for_rounding_count_as_equal() -> None:
    assert alone([0.1, 0.2, -0.3]) == 1  # 5.6e-17 in floating point


def test_tasks_that_do_not_differ_change_nothing() -> None:
    assert alone([1.0] * 5 + [0.0] * 40) == alone([1.0] * 5)


def test_repeats_of_a_task_are_one_piece_of_evidence() -> None:
    assert sign_flip([1.0] * 12, list("aaabbbcccddd")) == alone([1.0] * 4) == 0.125


def test_taken_as_a_whole_a_task_that_wins_as_often_as_it_loses_says_nothing() -> None:
    assert sign_flip([1.0, -1.0, 1.0, -1.0], list("aabb")) == 1


@pytest.mark.parametrize("count", [2, 4, 9, 13])
def test_few_tasks_have_the_exact_p_of_scipy(count: int) -> None:
    gains = np.random.default_rng(count).normal(0.3, size=count)
    found = stats.permutation_test((gains,), np.sum, permutation_type="samples", n_resamples=FLIPS)
    assert alone(list(gains)) == pytest.approx(found.pvalue)


def test_many_tasks_have_nearly_the_p_of_the_normal_distribution() -> None:
    gains = np.random.default_rng(0).normal(0.2, size=80)
    z = gains.sum() / np.sqrt((gains**2).sum())
    assert alone(list(gains)) == pytest.approx(2 * stats.norm.sf(z), abs=0.01)


def test_however_clear_the_p_of_many_tasks_is_never_zero() -> None:
    assert alone([1.0] * 500) == 1 / (1 + FLIPS)


def test_the_same_seed_gives_the_same_p() -> None:
    gains = list(np.random.default_rng(0).normal(0.2, size=40))
    assert alone(gains, 1) == alone(gains, 1) != alone(gains, 2)


@settings(max_examples=40, deadline=None)
@given(GAINS, st.data())
def test_a_p_lies_above_0_and_not_above_1(gains: list[float], data: st.DataObject) -> None:
    tasks = data.draw(
        st.lists(st.sampled_from("abcd"), min_size=len(gains), max_size=len(gains)), label="tasks"
    )
    assert 0 < sign_flip(gains, tasks) <= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 100), st.integers(1, 30))
def test_no_gain_anywhere_has_the_p_of_1(count: int, tasks: int) -> None:
    assert sign_flip([0.0] * count, [str(number % tasks) for number in range(count)]) == 1


@settings(max_examples=40, deadline=None)
@given(GAINS, st.floats(0.01, 100))
def test_neither_the_direction_nor_the_unit_of_the_gains_matters(gains: list[float], unit: float) -> None:
    assert alone(gains) == alone([-gain for gain in gains])
    assert alone(gains) == pytest.approx(alone([unit * gain for gain in gains]))


def found_in_luck(runs: int, *, taken_for_tasks: bool) -> float:
    """How often a difference is found between arms that do not differ, with two much alike repeats of 9 tasks."""
    generator = np.random.default_rng(0)
    names = [str(number if taken_for_tasks else number // 2) for number in range(18)]
    found = 0
    for _ in range(runs):
        gains = generator.normal(size=(9, 1)) + 0.3 * generator.normal(size=(9, 2))
        found += sign_flip(gains.ravel(), names) < ALPHA
    return found / runs


def test_where_nothing_differs_something_is_found_1_time_in_20() -> None:
    assert found_in_luck(1000, taken_for_tasks=False) == pytest.approx(0.05, abs=0.02)


def test_repeats_taken_for_tasks_would_find_something_in_luck_far_too_often() -> None:
    assert found_in_luck(200, taken_for_tasks=True) > 0.1


# --- several comparisons ---


def test_holm_corrects_the_smallest_for_all_and_the_largest_for_none() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_a_single_comparison_needs_no_correction() -> None:
    assert holm([0.04]) == [0.04]


def test_no_comparison_is_corrected_to_none() -> None:
    assert holm([]) == []


@settings(max_examples=80, deadline=None)
@given(PS)
def test_a_corrected_p_is_never_below_the_raw_one_nor_above_1(ps: list[float]) -> None:
    assert all(raw <= corrected <= 1 for raw, corrected in zip(ps, holm(ps), strict=True))


@settings(max_examples=80, deadline=None)
@given(PS)
def test_correction_keeps_the_order(ps: list[float]) -> None:
    corrected = [after for _, after in sorted(zip(ps, holm(ps), strict=True))]
    assert corrected == sorted(corrected)


@settings(max_examples=80, deadline=None)
@given(PS, st.data())
def test_the_order_of_the_arms_does_not_matter(ps: list[float], data: st.DataObject) -> None:
    places = data.draw(st.permutations(range(len(ps))), label="places")
    assert holm([ps[place] for place in places]) == [holm(ps)[place] for place in places]


def test_of_three_arms_that_do_not_differ_one_is_found_different_1_time_in_20_at_most() -> None:
    generator = np.random.default_rng(0)
    tasks = [str(number) for number in range(9)]
    found = 0
    for _ in range(500):
        ps = [sign_flip(gains, tasks) for gains in generator.normal(size=(3, 9))]
        found += min(holm(ps)) < ALPHA
    assert found / 500 <= 0.07
