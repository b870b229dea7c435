"""Means and their intervals: exact where they must be, and as wide as they claim."""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.reports.metrics import RESAMPLES, Estimate, bootstrap, share

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12)


def alone(values: list[float], seed: int = 0) -> Estimate:
    """Estimate with every value in a cluster of its own."""
    return bootstrap(values, [str(number) for number in range(len(values))], seed=seed)


def near(a: float, b: float, scale: float = 1.0) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9 * max(1.0, scale))


def test_the_mean_is_that_of_the_episodes_and_n_their_number() -> None:
    found = bootstrap([1, 0, 0, 1], ["a", "a", "a", "b"])
    assert (found.mean, found.n) == (0.5, 4)


def test_one_value_is_its_own_interval() -> None:
    assert alone([0.3]) == Estimate(0.3, 0.3, 0.3, 1)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 47.0])
def test_constant_data_has_an_interval_without_width(value: float) -> None:
    clusters = ["a", "a", "b", "c", "c", "c", "d"]
    assert bootstrap([value] * 7, clusters) == Estimate(value, value, value, 7)


def test_what_never_happened_in_ten_tasks_may_still_happen_in_up_to_31_of_100() -> None:
    tasks = [str(number) for number in range(10)] * 2  # repeats of a task are no further evidence
    assert share([False] * 20, tasks) == pytest.approx((0.0, 0.0, 0.3085, 20), abs=1e-4)
    assert share([True] * 20, tasks) == pytest.approx((1.0, 0.6915, 1.0, 20), abs=1e-4)


def test_what_happened_at_times_has_the_interval_of_resampling() -> None:
    hits, tasks = [True, False, False, True, True], list("abcde")
    assert share(hits, tasks) == bootstrap(hits, tasks)


def test_the_same_seed_gives_the_same_interval_and_another_one_another() -> None:
    values = list(np.random.default_rng(0).random(20))
    assert alone(values, 1) == alone(values, 1) != alone(values, 2)


def test_a_different_seed_hardly_moves_the_interval() -> None:
    values = list(np.random.default_rng(0).random(50))
    first, second = alone(values, 1), alone(values, 2)
    assert abs(first.low - second.low) < 0.1 * (first.high - first.low)


def test_the_interval_is_that_of_the_binomial_for_coin_throws() -> None:
    found = alone([0.0, 1.0] * 50)
    assert found.low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.011)  # 1 throw of 100 is a step of 0.01
    assert found.high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.011)


def test_copies_of_a_task_do_not_narrow_the_interval() -> None:
    values = list(np.random.default_rng(0).random(10))
    tasks = [str(number) for number in range(10)]
    once, copied = bootstrap(values, tasks), bootstrap(values * 4, tasks * 4)
    assert (near(once.low, copied.low), near(once.high, copied.high)) == (True, True)


def test_copies_taken_for_tasks_of_their_own_would_narrow_it() -> None:
    values = list(np.random.default_rng(0).random(10))
    clustered, independent = bootstrap(values * 4, [str(n) for n in range(10)] * 4), alone(values * 4)
    assert clustered.high - clustered.low > 1.5 * (independent.high - independent.low)


def test_the_order_of_the_episodes_does_not_matter() -> None:
    values, tasks = list(np.random.default_rng(0).random(12)), list("aabbbcddeeff")
    there, back = bootstrap(values, tasks), bootstrap(values[::-1], tasks[::-1])
    assert all(near(a, b) for a, b in zip(there, back, strict=True))


def test_an_interval_covers_the_truth_about_95_times_in_100() -> None:
    generator = np.random.default_rng(0)
    runs = 400
    names = [str(number) for number in range(60) for _ in range(2)]
    covered = 0
    for run in range(runs):
        tasks = generator.normal(size=60)  # what tasks differ by; repeats of a task differ less
        values = (tasks[:, None] + 0.3 * generator.normal(size=(60, 2))).ravel()
        found = bootstrap(values, names, seed=run)
        covered += found.low <= 0 <= found.high
    assert 0.92 <= covered / runs <= 0.98  # 0.942 +- 0.011 expected: percentile intervals are a little narrow


def test_values_and_tasks_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        bootstrap([1.0, 2.0], ["a"])


def test_the_interval_is_made_of_enough_resamples_to_be_steady() -> None:
    assert RESAMPLES >= 10_000


@settings(max_examples=40, deadline=None)
@given(VALUES, st.data())
def test_the_interval_holds_the_mean_and_lies_within_the_data(
    values: list[float], data: st.DataObject
) -> None:
    clusters = data.draw(
        st.lists(st.sampled_from("abc"), min_size=len(values), max_size=len(values)), label="clusters"
    )
    found = bootstrap(values, clusters)
    scale = max(map(abs, values))
    assert found.low <= found.mean <= found.high
    assert near(found.mean, fmean(values), scale)
    assert min(values) - 1e-9 * scale <= found.low
    assert found.high <= max(values) + 1e-9 * scale


@settings(max_examples=40, deadline=None)
@given(VALUES, st.floats(-1e3, 1e3), st.floats(0.01, 100))
def test_an_interval_moves_and_stretches_with_the_data(
    values: list[float], shift: float, factor: float
) -> None:
    plain, changed = alone(values), alone([factor * value + shift for value in values])
    scale = factor * max(map(abs, values)) + abs(shift)
    assert all(
        near(factor * before + shift, after, scale)
        for before, after in zip(plain[:3], changed[:3], strict=True)
    )


@settings(max_examples=40, deadline=None)
@given(VALUES)
def test_the_interval_of_the_negated_data_is_the_mirror_image(values: list[float]) -> None:
    plain, mirrored = alone(values), alone([-value for value in values])
    scale = max(map(abs, values))
    assert near(mirrored.low, -plain.high, scale)
    assert near(mirrored.high, -plain.low, scale)
