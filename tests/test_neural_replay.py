"""Replay: what the buffers hold, what they draw, and the masses that decide it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from memp.errors import InputError
from memp.neural.replay import Batch, Prioritized, Replay, Reservoir, Task
from memp.neural.sum_tree import FLAT_BELOW, FlatMasses, Masses, SumTree, masses

Item = tuple[Task, int]
Make = Callable[[int, int], Replay[Item]]

EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
"""For tests that several classes inherit, or that run with several buffers."""

REPEATABLE = settings(max_examples=20, deadline=None, derandomize=True)
"""For tests of chance, which would fail once in many runs."""

STREAMS = st.lists(st.integers(0, 3), max_size=80)


def reservoir(capacity: int, seed: int = 0) -> Replay[Item]:
    return Reservoir(capacity, seed=seed)


def prioritized(capacity: int, seed: int = 0) -> Replay[Item]:
    return Prioritized(capacity, beta_steps=10, seed=seed)


BUFFERS = pytest.mark.parametrize("make", [reservoir, prioritized])


def filled(buffer: Replay[Item], counts: dict[Task, int]) -> Replay[Item]:
    """A buffer to which so many items of each task were added, one task after another."""
    for task, count in counts.items():
        for number in range(count):
            buffer.add((task, number), task)
    return buffer


def learned(losses: list[float], *, alpha: float = 0.6, beta: float = 0.4) -> Prioritized[Item]:
    """A buffer whose items have had these losses."""
    buffer: Prioritized[Item] = Prioritized(
        len(losses), beta_steps=10**9, alpha=alpha, beta=beta, eps=1e-9, seed=3
    )
    filled(buffer, {"a": len(losses)})
    batch = whole(buffer)
    buffer.update(batch.handles, [losses[number] for _, number in batch.items])
    return buffer


def whole(buffer: Replay[Item]) -> Batch[Item]:
    """A batch that has each item in it."""
    batch = buffer.sample(60 * len(buffer))
    assert len(set(batch.items)) == len(buffer)
    return batch


class MassesContract:
    """What every implementation of masses does; the subclasses say which one."""

    make: Callable[[int], Masses]

    @EXAMPLES
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.integers(0, 2**32))
    def test_it_finds_what_a_plain_walk_over_the_masses_finds(self, values: list[int], seed: int) -> None:
        if not any(values):
            return
        tree, shares = type(self).make(len(values)), np.random.default_rng(seed).random(20)
        tree.put(np.arange(len(values)), np.array(values, float))

        laid = np.repeat(np.arange(len(values)), values)
        assert tree.find(shares).tolist() == laid[(shares * len(laid)).astype(int)].tolist()

    @EXAMPLES
    @given(
        st.integers(1, 3000),
        st.lists(
            st.tuples(st.integers(0, 10**6), st.floats(0, 1e6, allow_subnormal=False)),
            min_size=1,
            max_size=30,
        ),
    )
    def test_a_slot_without_a_mass_is_never_found(self, capacity: int, puts: list[tuple[int, float]]) -> None:
        tree, expected = type(self).make(capacity), {}
        for place, mass in puts:
            tree.put(np.array([place % capacity]), np.array([mass]))
            expected[place % capacity] = mass
        shares = np.array([0.0, 0.25, 0.5, 0.75, 1 - 2**-53])

        if any(expected.values()):
            found = tree.find(shares).tolist()
            assert all(expected.get(slot, 0) > 0 for slot in found)
            assert found == sorted(found)
        else:
            with pytest.raises(InputError, match="no slot has a mass"):
                tree.find(shares)

    @pytest.mark.parametrize("mass", [-1.0, float("nan"), float("inf"), -float("inf")])
    def test_a_mass_that_is_no_finite_positive_number_is_refused(self, mass: float) -> None:
        tree = type(self).make(4)
        tree.put(np.array([2]), np.array([1.0]))
        with pytest.raises(InputError, match=rf"slot 2 cannot have the mass {mass!r}"):
            tree.put(np.array([1, 2]), np.array([1.0, mass]))
        assert tree.at(np.array([1, 2])).tolist() == [0.0, 1.0]

    def test_all_implementations_find_the_same_slots_after_many_changes(self) -> None:
        random = np.random.default_rng(5)
        mine, plain = type(self).make(20_000), FlatMasses(20_000)
        for size in (20_000, *[64] * 200):
            slots, values = random.integers(20_000, size=size), random.random(size) ** 4
            mine.put(slots, values)
            plain.put(slots, values)
            shares = random.random(64)
            assert mine.find(shares).tolist() == plain.find(shares).tolist()


class TestFlatMasses(MassesContract):
    make = FlatMasses


class TestSumTree(MassesContract):
    make = SumTree


def test_the_capacity_decides_which_masses_are_kept() -> None:
    assert isinstance(masses(FLAT_BELOW - 1), FlatMasses)
    assert isinstance(masses(FLAT_BELOW), SumTree)


@BUFFERS
class TestHolding:
    @EXAMPLES
    @given(st.integers(4, 20), STREAMS)
    def test_it_holds_all_that_there_is_room_for_and_never_more(
        self, make: Make, capacity: int, stream: list[int]
    ) -> None:
        buffer = make(capacity, 0)
        for number, task in enumerate(stream):
            buffer.add((task, number), task)
            assert len(buffer) == sum(buffer.counts.values()) == min(capacity, number + 1)

    @EXAMPLES
    @given(st.integers(4, 20), STREAMS)
    def test_a_task_has_fewer_than_another_by_two_only_where_all_of_it_is_held(
        self, make: Make, capacity: int, stream: list[int]
    ) -> None:
        buffer, seen = make(capacity, 0), Counter[Task]()
        for number, task in enumerate(stream):
            buffer.add((task, number), task)
            seen[task] += 1
            largest = max(buffer.counts.values())
            assert all(count >= largest - 1 or count == seen[task] for task, count in buffer.counts.items())
            assert buffer.counts.keys() == seen.keys()

    def test_long_tasks_share_the_room_equally(self, make: Make) -> None:
        buffer = filled(make(32, 0), {"a": 100, "b": 100, "c": 100})
        assert sorted(buffer.counts.values()) == [10, 11, 11]

    @EXAMPLES
    @given(st.integers(4, 12), STREAMS.filter(bool))
    def test_what_it_draws_are_items_that_were_added_of_the_tasks_that_it_counts(
        self, make: Make, capacity: int, stream: list[int]
    ) -> None:
        buffer = make(capacity, 0)
        for number, task in enumerate(stream):
            buffer.add((task, number), task)
        drawn = set(buffer.sample(400).items)

        assert all(stream[number] == task for task, number in drawn)
        assert Counter(task for task, _ in drawn) == buffer.counts

    @pytest.mark.parametrize(
        "stream", ["a" * 8, "a" * 8 + "b" * 8, "a" * 8 + "bb" + "c" * 8, "abaacbabacbcbacbcaacb"]
    )
    def test_of_a_task_each_item_ever_added_is_held_equally_often(self, make: Make, stream: str) -> None:
        held: Counter[tuple[Task, int]] = Counter()
        for seed in range(1000):
            buffer = make(5, seed)
            for number, task in enumerate(stream):
                buffer.add((task, number), task)
            held.update(set(whole(buffer).items))
        for task in set(stream):
            frequencies = [held[task, number] for number, owner in enumerate(stream) if owner == task]
            assert chisquare(frequencies).pvalue > 1e-3

    def test_more_tasks_than_room_are_refused(self, make: Make) -> None:
        buffer = filled(make(2, 0), {"a": 3, "b": 3})
        with pytest.raises(InputError, match=r"no room for task 'c': the buffer has a capacity of 2"):
            buffer.add(("c", 0), "c")
        assert buffer.counts == {"a": 1, "b": 1}

    def test_a_capacity_of_nothing_is_refused(self, make: Make) -> None:
        with pytest.raises(InputError, match="the capacity is 0"):
            make(0, 0)


@BUFFERS
class TestDrawing:
    def test_more_can_be_drawn_than_is_held(self, make: Make) -> None:
        batch = filled(make(10, 0), {"a": 3}).sample(8)
        assert len(batch.items) == len(batch.handles) == len(batch.weights) == 8
        assert batch.weights.dtype == np.float32

    def test_an_excluded_task_is_not_drawn_and_all_others_are(self, make: Make) -> None:
        buffer = filled(make(12, 0), {"a": 6, "b": 6, "c": 6})
        assert {task for task, _ in buffer.sample(200, exclude="c").items} == {"a", "b"}
        assert {task for task, _ in buffer.sample(200, exclude="a").items} == {"b", "c"}
        assert {task for task, _ in buffer.sample(200).items} == {"a", "b", "c"}

    def test_an_excluded_task_stays_undrawn_while_its_items_are_added_and_updated(self, make: Make) -> None:
        buffer = filled(make(12, 0), {"a": 12})
        buffer.sample(1, exclude="b")
        filled(buffer, {"b": 40})
        assert {task for task, _ in buffer.sample(100, exclude="b").items} == {"a"}

        batch = buffer.sample(100)
        buffer.sample(1, exclude="b")
        buffer.update(batch.handles, np.full(100, 9.0))
        assert {task for task, _ in buffer.sample(100, exclude="b").items} == {"a"}

    def test_what_takes_the_place_of_an_excluded_item_is_drawn(self, make: Make) -> None:
        buffer = filled(make(12, 0), {"a": 8, "b": 4})
        buffer.sample(1, exclude="a")
        filled(buffer, {"c": 4})
        assert set(buffer.sample(300, exclude="a").items) == {(task, n) for task in "bc" for n in range(4)}

    def test_an_empty_buffer_cannot_be_drawn_from(self, make: Make) -> None:
        with pytest.raises(InputError, match="the buffer holds nothing"):
            make(5, 0).sample(1)

    def test_a_buffer_with_nothing_but_the_excluded_task_cannot_be_drawn_from(self, make: Make) -> None:
        with pytest.raises(InputError, match="only items of task 'a', which is excluded"):
            filled(make(5, 0), {"a": 3}).sample(1, exclude="a")

    @pytest.mark.parametrize("n", [0, -1])
    def test_drawing_nothing_is_refused(self, make: Make, n: int) -> None:
        with pytest.raises(InputError, match=f"{n} items were asked for"):
            filled(make(5, 0), {"a": 3}).sample(n)

    def test_the_same_seed_draws_the_same_and_another_one_does_not(self, make: Make) -> None:
        first, again, other = (filled(make(8, seed), {"a": 30, "b": 30}).sample(40) for seed in (1, 1, 2))
        assert first.items == again.items != other.items


@BUFFERS
class TestState:
    def test_a_loaded_buffer_goes_on_as_the_saved_one(self, make: Make) -> None:
        saved = filled(make(12, 0), {"a": 30, "b": 9})
        batch = saved.sample(20, exclude="b")
        saved.update(batch.handles, np.linspace(0, 3, 20))
        file = BytesIO()
        torch.save(saved.state_dict(), file)
        file.seek(0)
        loaded = make(12, 99)
        loaded.load_state_dict(torch.load(file, weights_only=True))

        for buffer in (saved, loaded):
            filled(buffer, {"b": 20, "c": 20})
        for exclude in (None, "c", "a", None):
            mine, other = saved.sample(30, exclude=exclude), loaded.sample(30, exclude=exclude)
            assert mine.items == other.items
            assert mine.handles.tolist() == other.handles.tolist()
            assert mine.weights.tolist() == other.weights.tolist()

    def test_a_state_is_a_copy(self, make: Make) -> None:
        buffer = filled(make(4, 0), {"a": 4})
        state = buffer.state_dict()
        filled(buffer, {"b": 40})
        again = make(4, 0)
        again.load_state_dict(state)
        assert again.counts == {"a": 4}

    def test_a_state_of_another_capacity_is_refused(self, make: Make) -> None:
        with pytest.raises(InputError, match=r"of capacity 5, but this is a .* of capacity 6"):
            make(6, 0).load_state_dict(make(5, 0).state_dict())

    def test_a_state_of_another_kind_is_refused(self, make: Make) -> None:
        other = prioritized if make is reservoir else reservoir
        with pytest.raises(InputError, match="load it into a buffer like the one that was saved"):
            make(5, 0).load_state_dict(other(5, 0).state_dict())


class TestReservoir:
    def test_all_items_are_drawn_equally_often_with_a_weight_of_1(self) -> None:
        batch = filled(reservoir(9), {"a": 9, "b": 2}).sample(9000)
        assert chisquare(list(Counter(batch.items).values())).pvalue > 1e-3
        assert set(batch.weights.tolist()) == {1.0}

    def test_what_it_is_told_of_losses_changes_nothing(self) -> None:
        told, untold = (filled(reservoir(9), {"a": 9}) for _ in range(2))
        told.update(told.sample(5).handles, [float("nan")] * 5)
        untold.sample(5)
        assert told.sample(50).items == untold.sample(50).items


class TestPrioritized:
    @REPEATABLE
    @given(
        st.lists(st.floats(0.05, 5), min_size=2, max_size=6),
        st.floats(0, 1),
        st.integers(1, 40),
    )
    def test_items_are_drawn_in_proportion_to_their_priorities_to_the_power_of_alpha(
        self, losses: list[float], alpha: float, n: int
    ) -> None:
        buffer = learned(losses, alpha=alpha)
        drawn = Counter(number for _ in range(3000 // n + 1) for _, number in buffer.sample(n).items)
        shares = np.array(losses) ** alpha / np.sum(np.array(losses) ** alpha)

        found = np.array([drawn[number] for number in range(len(losses))])
        assert chisquare(found, shares * found.sum()).pvalue > 1e-4

    def test_a_batch_is_stratified(self) -> None:
        found = Counter(number for _, number in learned([1.0, 1.0, 1.0, 1.0]).sample(400).items)
        assert all(abs(count - 100) <= 1 for count in found.values())

    @REPEATABLE
    @given(st.lists(st.floats(0.05, 5), min_size=2, max_size=6), st.floats(0.1, 1))
    def test_at_a_beta_of_1_the_weighted_mean_of_what_is_drawn_is_that_of_what_is_held(
        self, losses: list[float], alpha: float
    ) -> None:
        batch = learned(losses, alpha=alpha, beta=1.0).sample(20_000)
        drawn = np.array([losses[number] for _, number in batch.items])

        assert np.average(drawn, weights=batch.weights) == pytest.approx(np.mean(losses), rel=0.01)

    def test_at_a_beta_of_0_it_is_not(self) -> None:
        batch = learned([0.1, 5.0], beta=0.0).sample(1000)
        drawn = np.array([(0.1, 5.0)[number] for _, number in batch.items])
        assert set(batch.weights.tolist()) == {1.0}
        assert np.average(drawn, weights=batch.weights) > 4

    def test_weights_are_those_of_the_paper_over_the_largest_of_the_batch(self) -> None:
        losses = [0.5, 1.0, 4.0]
        batch = learned(losses, alpha=0.7, beta=0.5).sample(100)
        shares = np.array(losses) ** 0.7 / np.sum(np.array(losses) ** 0.7)
        weights = (3 * shares) ** -0.5

        expected = [weights[number] / weights[0] for _, number in batch.items]
        assert batch.weights == pytest.approx(expected, rel=1e-5)
        assert max(batch.weights) == 1

    def test_beta_rises_to_1_over_the_stated_number_of_batches(self) -> None:
        buffer: Prioritized[Item] = Prioritized(5, beta_steps=4, beta=0.4)
        filled(buffer, {"a": 5})
        betas = []
        for _ in range(6):
            betas.append(buffer.beta)
            buffer.sample(2)
        assert betas == pytest.approx([0.4, 0.55, 0.7, 0.85, 1.0, 1.0])

    def test_a_new_item_has_the_highest_priority_of_all_that_are_held(self) -> None:
        buffer: Prioritized[Item] = Prioritized(50, beta_steps=1, alpha=1.0)
        filled(buffer, {"a": 49})
        batch = whole(buffer)
        buffer.update(batch.handles, [2.0 if number == 7 else 0.01 for _, number in batch.items])
        buffer.add(("a", 49), "a")

        found = Counter(number for _, number in buffer.sample(4000).items)
        assert found[49] == pytest.approx(found[7], rel=0.05)
        assert found[49] > 20 * found[0]

    def test_the_sign_of_a_delta_does_not_count(self) -> None:
        first, second = (learned([1.0, 1.0]) for _ in range(2))
        batch = first.sample(2)
        second.sample(2)
        first.update(batch.handles, [-3.0, 0.1])
        second.update(batch.handles, torch.tensor([3.0, -0.1], dtype=torch.float64))
        assert first.sample(100).items == second.sample(100).items

    @pytest.mark.parametrize("delta", [float("nan"), float("inf"), -float("inf")])
    def test_a_delta_that_is_not_finite_is_refused_and_nothing_is_set(self, delta: float) -> None:
        buffer, untouched = learned([1.0, 1.0]), learned([1.0, 1.0])
        batch = buffer.sample(2)
        untouched.sample(2)
        with pytest.raises(InputError, match=r"a delta is (nan|inf); deltas have to be finite"):
            buffer.update(batch.handles, [5.0, delta])
        assert buffer.sample(50).items == untouched.sample(50).items

    def test_as_many_deltas_as_handles_are_needed(self) -> None:
        buffer = learned([1.0, 1.0])
        with pytest.raises(InputError, match=r"handles of shape \(2,\), but deltas of shape \(3,\)"):
            buffer.update(buffer.sample(2).handles, [1.0, 1.0, 1.0])

    def test_a_handle_whose_item_is_held_no_longer_is_ignored_and_counted(self) -> None:
        buffer: Prioritized[Item] = Prioritized(4, beta_steps=1, alpha=1.0)
        filled(buffer, {"a": 4})
        batch = whole(buffer)
        filled(buffer, {"b": 4})
        assert buffer.counts == {"a": 2, "b": 2}
        buffer.update(batch.handles, np.full(len(batch.items), 1e6))

        held = {number for task, number in buffer.sample(300).items if task == "a"}
        gone = sum(number not in held for _, number in batch.items)
        assert buffer.stale == gone > 0
        assert {task for task, _ in buffer.sample(100).items} == {"a"}

    def test_a_handle_that_was_never_given_is_ignored(self) -> None:
        buffer: Prioritized[Item] = Prioritized(8, beta_steps=1)
        filled(buffer, {"a": 2})
        buffer.update(np.arange(-8, 8), np.ones(16))
        assert buffer.stale == 14
        assert {number for _, number in buffer.sample(50).items} == {0, 1}

    def test_a_large_buffer_draws_what_a_small_one_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def drawn() -> list[list[Item]]:
            buffer = filled(prioritized(300), {"a": 400, "b": 400})
            batches = []
            for step in range(60):
                batch = buffer.sample(16, exclude="ab"[step % 2] if step < 20 else "b")
                buffer.update(batch.handles, np.random.default_rng(step).random(16))
                buffer.add(("b", 400 + step), "b")
                batches.append(batch.items)
            return batches

        flat = drawn()
        monkeypatch.setattr("memp.neural.replay.masses", SumTree)
        assert drawn() == flat

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"alpha": 1.1}, "alpha is 1.1"),
            ({"alpha": -0.1}, "alpha is -0.1"),
            ({"beta": float("nan")}, "beta is nan"),
            ({"eps": 0.0}, "eps is 0.0"),
            ({"beta_steps": 0}, "beta_steps is 0"),
        ],
    )
    def test_an_option_out_of_its_range_is_refused(self, wrong: dict[str, float], said: str) -> None:
        with pytest.raises(InputError, match=said):
            Prioritized(5, **{"beta_steps": 1, **wrong})  # type: ignore[arg-type]
