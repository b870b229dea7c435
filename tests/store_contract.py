"""What every procedure store does: inherit `StoreContract`, return a store from `make`.

One that several processes share inherits `SharedStoreContract`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from memp.embedding.base import FloatMatrix, unit
from memp.errors import NotFound, SpaceMismatch, StoreError
from memp.procedure import MOST_USES, Procedure, Script, Usage, procedure_id
from memp.store.base import ProcedureStore, Quarantined
from memp.trial import Trial
from tests.factories import NOW, procedure, vectors

EAST, NORTH, NORTHEAST = (1, 0), (0, 1), (1, 1)

TASKS = ("heat an egg", "cool a mug", "open the door", "find the key")

EXAMPLES = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


def added(store: ProcedureStore, task: str, *keys: tuple[float, ...], source: str = "") -> Procedure:
    """Put a procedure, with keys if there are any."""
    stored = store.put(procedure(task, source=source), "built")
    if keys:
        store.index(stored.id, "query", [f"{task} {number}" for number, _ in enumerate(keys)], vectors(*keys))
    return stored


def found(store: ProcedureStore, query: tuple[float, ...], k: int = 9, **options: Any) -> list[str]:
    """The tasks of what a search finds, in order."""
    return [match.procedure.task for match in store.search("query", vectors(query), k=k, **options)]


class Undone(Exception):
    """What ends a transaction that is to leave nothing."""


@contextmanager
def undone(store: ProcedureStore) -> Iterator[None]:
    """A transaction that ends with an exception."""
    with suppress(Undone), store.transaction():
        yield
        raise Undone


def quarantined(item_id: str = "a", kind: Any = "build") -> Quarantined:
    return Quarantined(id=item_id, kind=kind, reason="no goal", payload={"reply": "{\u0000é"}, added=NOW)


class StoreContract:
    persistent = False
    """Whether a store that is opened again holds what it held."""

    def make(self, path: Path) -> ProcedureStore:
        """Return a store; the same path is the same store."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ProcedureStore]:
        store = self.make(tmp_path / "memory")
        yield store
        store.close()

    # Revisions

    def test_a_procedure_comes_back_as_it_was_put(self, store: ProcedureStore) -> None:
        put = procedure("加热 \u0000 🍳 {$x}", script=Script(goal="heat", steps=("a", "b")))

        assert store.put(put, "built") == put
        assert store.get(put.id) == put

    def test_an_unknown_procedure_is_none_and_has_no_history(self, store: ProcedureStore) -> None:
        assert store.get("nobody") is None
        assert list(store.history("nobody")) == []

    def test_each_put_appends_a_revision(self, store: ProcedureStore) -> None:
        first = store.put(procedure(reward=0.5), "built")
        second = store.put(procedure(reward=1.0), "better")

        assert [first.revision, second.revision] == [1, 2]
        assert store.get(first.id) == second
        assert [(entry.procedure, entry.reason) for entry in store.history(first.id)] == [
            (first, "built"),
            (second, "better"),
        ]

    def test_the_number_of_a_revision_is_given_by_the_store(self, store: ProcedureStore) -> None:
        assert store.put(procedure().model_copy(update={"revision": 7}), "built").revision == 1

    def test_an_earlier_revision_can_be_put_again(self, store: ProcedureStore) -> None:
        store.put(procedure(reward=0.5), "built")
        store.put(procedure(reward=1.0), "better")

        restored = store.put(store.history(procedure().id)[0].procedure, "rolled back")

        assert (restored.revision, restored.reward) == (3, 0.5)
        assert len(store.history(procedure().id)) == 3

    def test_procedures_are_listed_oldest_first_whatever_was_revised(self, store: ProcedureStore) -> None:
        for task in (*TASKS, TASKS[0]):
            store.put(procedure(task), "built")

        assert [listed.task for listed in store.procedures()] == list(TASKS)
        assert list(store.ids()) == [(procedure(task).id, task) for task in TASKS]

    # Usage

    def test_credit_counts_uses_and_successes(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg")
        for success in (True, False, True):
            assert store.credit(stored.id, success=success)

        assert store.get(stored.id) == stored.model_copy(update={"usage": Usage(uses=3, successes=2)})

    def test_an_episode_is_credited_once_for_each_procedure(self, store: ProcedureStore) -> None:
        heat, cool = added(store, "heat an egg"), added(store, "cool a mug")

        assert store.credit(heat.id, success=True, episode_id="e")
        assert not store.credit(heat.id, success=False, episode_id="e")
        assert store.credit(cool.id, success=True, episode_id="e")
        assert store.counts().uses == 2
        assert store.counts().successes == 2

    def test_the_counts_of_many_procedures_used_most_can_be_added_up(self, store: ProcedureStore) -> None:
        most = Usage(uses=MOST_USES, successes=MOST_USES)
        with store.transaction():
            for number in range(1100):
                store.put(procedure(f"task {number}").model_copy(update={"usage": most}), "brought in")

        assert store.counts().uses == store.counts().successes == 1100 * MOST_USES

    def test_what_was_used_most_is_counted_no_further(self, store: ProcedureStore) -> None:
        most = Usage(uses=MOST_USES, successes=MOST_USES)
        store.put(procedure("heat an egg").model_copy(update={"usage": most}), "brought in")
        store.credit(procedure("heat an egg").id, success=True, episode_id="e")

        assert [held.usage for held in store.procedures()] == [most]

    def test_nothing_is_credited_that_is_not_in_use(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg")
        store.retire(stored.id, "it failed", NOW)

        assert not store.credit(stored.id, success=True, episode_id="e")
        assert not store.credit("nobody", success=True)

    def test_a_revision_keeps_usage(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg")
        store.credit(stored.id, success=True)

        assert store.put(stored, "again").usage == Usage(uses=1, successes=1)

    def test_a_revival_starts_usage_anew(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg")
        store.credit(stored.id, success=True)
        store.retire(stored.id, "it failed", NOW)

        assert store.put(stored, "again").usage == Usage()
        assert store.get(stored.id) == stored.model_copy(update={"revision": 2})

    # Retirement

    def test_what_is_retired_is_out_of_use_and_keeps_its_history(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg", EAST)
        store.retire(stored.id, "it failed", NOW)

        assert store.get(stored.id) is None
        assert list(store.procedures()) == []
        assert list(store.ids()) == []
        assert list(store.unindexed("query")) == []
        assert found(store, EAST) == []
        assert len(store.history(stored.id)) == 1

    def test_a_tombstone_says_why(self, store: ProcedureStore) -> None:
        for task in TASKS[:2]:
            store.retire(added(store, task).id, f"no more of {task}", NOW)

        first, second = store.tombstones()
        assert (first.id, first.source, first.reason, first.retired) == (
            procedure(TASKS[0]).id,
            TASKS[0],
            f"no more of {TASKS[0]}",
            NOW,
        )
        assert list(store.tombstones(second.id)) == [second]
        assert list(store.tombstones("nobody")) == []

    def test_only_what_is_in_use_can_be_retired(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg")
        store.retire(stored.id, "it failed", NOW)

        for gone in (stored.id, "nobody"):
            with pytest.raises(NotFound, match=gone):
                store.retire(gone, "again", NOW)
        assert len(store.tombstones()) == 1

    def test_what_is_revived_needs_keys_anew(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg", EAST)
        store.retire(stored.id, "it failed", NOW)
        store.put(stored, "again")

        assert [needs.id for needs in store.unindexed("query")] == [stored.id]
        assert found(store, EAST) == []

    # Keys and search

    def test_an_empty_store_finds_nothing(self, store: ProcedureStore) -> None:
        assert found(store, EAST) == []

    def test_search_returns_the_closest_first(self, store: ProcedureStore) -> None:
        added(store, "north", NORTH)
        added(store, "northeast", NORTHEAST)
        added(store, "east", EAST)
        added(store, "west", (-1, 0))

        matches = store.search("query", vectors(EAST), k=9)

        assert [match.procedure.task for match in matches] == ["east", "northeast", "north", "west"]
        assert [match.score for match in matches] == pytest.approx([1, 0.5**0.5, 0, -1], abs=1e-6)

    def test_search_returns_at_most_k_and_all_where_k_is_larger(self, store: ProcedureStore) -> None:
        for task in TASKS:
            added(store, task, EAST)

        assert [len(found(store, EAST, k)) for k in (1, 3, 4, 1000)] == [1, 3, 4, 4]

    def test_search_loads_any_number_of_procedures(self, store: ProcedureStore) -> None:
        with store.transaction():
            for number in range(1500):
                added(store, f"task {number}", EAST)

        assert len(found(store, EAST, k=100_000)) == 1500

    def test_ties_go_by_age(self, store: ProcedureStore) -> None:
        for task in TASKS:
            added(store, task, NORTHEAST)
        for task in reversed(TASKS):  # the rows of their keys are now younger the older they are
            store.index(procedure(task).id, "query", [task], vectors(NORTHEAST))

        assert found(store, EAST) == list(TASKS)
        assert found(store, EAST, 2) == list(TASKS[:2])

    def test_search_passes_over_excluded_sources(self, store: ProcedureStore) -> None:
        added(store, "heat an egg", EAST, source="kitchen-1")
        added(store, "cool a mug", NORTH, source="kitchen-2")

        assert found(store, EAST, 1, exclude=["kitchen-1"]) == ["cool a mug"]
        assert found(store, EAST, exclude=["kitchen-1", "kitchen-1", "elsewhere"]) == ["cool a mug"]
        assert found(store, EAST, exclude={"kitchen-1", "kitchen-2"}) == []
        assert found(store, EAST) == ["heat an egg", "cool a mug"]

    def test_a_procedure_scores_the_mean_over_the_queries_of_its_best_key(
        self, store: ProcedureStore
    ) -> None:
        added(store, "both", EAST, NORTH)
        added(store, "between", NORTHEAST)
        added(store, "east", EAST)

        matches = store.search("query", vectors(EAST, NORTH), k=3)

        assert [match.procedure.task for match in matches] == ["both", "between", "east"]
        assert [match.score for match in matches] == pytest.approx([1, 0.5**0.5, 0.5], abs=1e-6)

    @given(data=st.data())
    @EXAMPLES
    def test_search_agrees_with_the_plain_formula(self, data: st.DataObject, tmp_path: Path) -> None:
        numbers = st.integers(-3, 3)
        dims = data.draw(st.sampled_from([2, 3, 9, 40]))

        def rows(least: int, most: int) -> FloatMatrix:
            count = data.draw(st.integers(least, most))
            drawn = data.draw(arrays.arrays(np.int64, (count, dims), elements=numbers))
            drawn[:, 0] += ~drawn.any(axis=1)  # no row without a direction
            return unit(drawn)

        keys = [rows(1, 3) for _ in range(data.draw(st.integers(0, 6)))]
        queries = rows(1, 3)
        k = data.draw(st.integers(1, 8))
        scores = [float((queries @ part.T).max(axis=1).mean()) for part in keys]

        store = self.make(tmp_path / f"memory-{next(COUNTER)}")
        with store.transaction():
            for number, part in enumerate(keys):
                stored = added(store, f"task {number}")
                store.index(stored.id, "query", [""] * len(part), part)
        matches = store.search("query", queries, k=k)
        store.close()

        assert len(matches) == min(k, len(keys))
        assert [match.score for match in matches] == pytest.approx(sorted(scores, reverse=True)[:k], abs=1e-5)
        for match in matches:
            number = int(match.procedure.task.removeprefix("task "))
            assert match.score == pytest.approx(scores[number], abs=1e-5)

    def test_each_kind_of_key_is_searched_for_itself(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg", EAST)

        assert list(store.search("avefact", vectors(EAST), k=9)) == []
        assert list(store.unindexed("avefact")) == [stored]
        assert list(store.unindexed("query")) == []

    def test_what_needs_keys_is_listed_oldest_first(self, store: ProcedureStore) -> None:
        for task in TASKS:
            added(store, task)
        added(store, TASKS[1], EAST)

        assert [needs.task for needs in store.unindexed("query")] == [TASKS[0], *TASKS[2:]]

    def test_new_keys_replace_those_of_the_same_kind(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg", EAST, NORTH)
        store.index(stored.id, "query", ["west"], vectors((-1, 0)))

        assert store.search("query", vectors(EAST), k=1)[0].score == -1

    def test_a_revision_keeps_keys_unless_the_text_of_the_task_changed(self, store: ProcedureStore) -> None:
        added(store, "heat an egg", EAST, source="kitchen-1")
        store.put(procedure("heat an egg", 0.5, source="kitchen-1"), "again")
        assert found(store, EAST) == ["heat an egg"]

        store.put(procedure("heat the egg", source="kitchen-1"), "again")
        assert found(store, EAST) == []
        assert [needs.task for needs in store.unindexed("query")] == ["heat the egg"]

    def test_keys_of_another_space_are_refused(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg", EAST)

        with pytest.raises(SpaceMismatch, match="memp reembed"):
            store.index(stored.id, "query", ["heat"], vectors((1, 0, 0)))
        assert found(store, EAST) == ["heat an egg"]

    def test_a_query_of_another_space_is_refused(self, store: ProcedureStore) -> None:
        added(store, "heat an egg", EAST)

        with pytest.raises(SpaceMismatch, match="memp reembed"):
            store.search("query", vectors((1, 0, 0)), k=1)

    def test_only_what_is_in_use_gets_keys(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg", EAST)
        store.retire(stored.id, "it failed", NOW)

        for gone in (stored.id, "nobody"):
            with pytest.raises(NotFound, match=gone):
                store.index(gone, "query", ["heat"], vectors(EAST))
        assert found(store, EAST) == []

    def test_keys_are_listed_with_their_texts(self, store: ProcedureStore) -> None:
        heat, cool = added(store, "heat an egg", EAST, NORTH), added(store, "cool a mug", EAST)
        store.index(heat.id, "avefact", ["egg"], vectors(EAST))

        assert [(owner, kind, list(texts)) for owner, kind, texts in store.key_texts()] == [
            (heat.id, "query", ["heat an egg 0", "heat an egg 1"]),
            (cool.id, "query", ["cool a mug 0"]),
            (heat.id, "avefact", ["egg"]),
        ]

    def test_dropped_keys_make_room_for_another_space(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg", EAST)
        assert found(store, EAST) == ["heat an egg"]

        store.drop_keys()

        assert found(store, EAST) == []
        assert list(store.unindexed("query")) == [stored]
        store.index(stored.id, "query", ["heat"], vectors((0, 0, 1)))
        assert found(store, (0, 0, 1)) == ["heat an egg"]

    # Quarantine, settings, counts, digest

    def test_quarantine_gives_back_what_was_put_in_oldest_first(self, store: ProcedureStore) -> None:
        first, second = quarantined("z"), quarantined("a", "unfinished")
        store.quarantine(first)
        store.quarantine(second)
        assert list(store.quarantined()) == [first, second]

        store.release("z")
        assert list(store.quarantined()) == [second]

    def test_a_setting_is_what_was_set_last(self, store: ProcedureStore) -> None:
        assert store.setting("embedder") is None
        store.set("embedder", "hash")
        store.set("embedder", "other")

        assert store.setting("embedder") == "other"

    def test_counts_count(self, store: ProcedureStore) -> None:
        heat, cool = added(store, "heat an egg"), added(store, "cool a mug")
        store.put(heat, "again")
        store.credit(heat.id, success=True)
        store.credit(cool.id, success=False)
        store.retire(cool.id, "it failed", NOW)
        store.quarantine(quarantined("a"))
        store.quarantine(quarantined("b", "unfinished"))

        assert store.counts().model_dump() == {
            "procedures": 1,
            "revisions": 3,
            "retired": 1,
            "uses": 2,
            "successes": 1,
            "quarantined": 2,
            "unfinished": 1,
        }

    def test_the_digest_is_that_of_the_procedures_alone(self, store: ProcedureStore) -> None:
        heat, cool = added(store, "heat an egg"), added(store, "cool a mug")
        before = store.digest()

        store.credit(heat.id, success=True)
        store.index(heat.id, "query", ["heat"], vectors(EAST))
        store.quarantine(quarantined())
        assert store.digest() == before

        store.retire(cool.id, "it failed", NOW)
        retired = store.digest()
        store.put(heat, "again")
        assert len({before, retired, store.digest()}) == 3

    def test_the_digest_does_not_depend_on_the_order_of_building(
        self, store: ProcedureStore, tmp_path: Path
    ) -> None:
        another = self.make(tmp_path / "another")
        for task in TASKS:
            added(store, task)
        for task in reversed(TASKS):
            added(another, task)

        assert store.digest() == another.digest()
        another.close()

    # Transactions

    def test_an_exception_undoes_the_whole_transaction(self, store: ProcedureStore) -> None:
        heat = added(store, "heat an egg", EAST)
        store.credit(heat.id, success=True)
        store.quarantine(quarantined())
        before = everything(store)

        with undone(store):
            store.put(heat, "again")
            store.credit(heat.id, success=True, episode_id="e")
            store.retire(heat.id, "it failed", NOW)
            added(store, "cool a mug", EAST)
            store.release("a")
            store.quarantine(quarantined("b"))
            store.set("embedder", "other")
            assert found(store, EAST) == ["cool a mug"]

        assert everything(store) == before
        assert found(store, EAST) == ["heat an egg"]
        assert store.credit(heat.id, success=True, episode_id="e")

    def test_search_is_right_after_keys_that_were_undone(self, store: ProcedureStore) -> None:
        added(store, "heat an egg", EAST)
        assert found(store, EAST) == ["heat an egg"]
        with undone(store):
            added(store, "cool a mug", NORTH)
            assert found(store, NORTH) == ["cool a mug", "heat an egg"]

        added(store, "open the door", (-1, 0))

        assert found(store, NORTH) == ["heat an egg", "open the door"]
        assert store.search("query", vectors((-1, 0)), k=1)[0].score == 1

    def test_search_inside_a_transaction_sees_its_writes(self, store: ProcedureStore) -> None:
        with store.transaction():
            for count, task in enumerate(TASKS, 1):
                added(store, task, EAST)
                assert len(found(store, EAST)) == count

    def test_a_transaction_inside_another_joins_it(self, store: ProcedureStore) -> None:
        with undone(store):
            with store.transaction():
                added(store, "heat an egg")
            assert store.counts().procedures == 1

        assert store.counts().procedures == 0

    def test_a_transaction_may_follow_one_that_failed(self, store: ProcedureStore) -> None:
        with pytest.raises(Undone), store.transaction():
            raise Undone
        with store.transaction():
            added(store, "heat an egg")

        assert store.counts().procedures == 1

    def test_the_version_changes_with_every_write_and_with_nothing_else(self, store: ProcedureStore) -> None:
        heat = added(store, "heat an egg")
        writes: list[Callable[[], object]] = [
            lambda: store.put(heat, "again"),
            lambda: store.index(heat.id, "query", ["heat"], vectors(EAST)),
            lambda: store.credit(heat.id, success=True),
            lambda: store.quarantine(quarantined()),
            lambda: store.release("a"),
            lambda: store.set("embedder", "hash"),
            lambda: store.drop_keys(),
            lambda: store.retire(heat.id, "it failed", NOW),
        ]
        seen = [store.version]
        for write in writes:
            write()
            assert store.version not in seen
            seen.append(store.version)
            found(store, EAST)
            store.get(heat.id)
            assert store.version == seen[-1]

    def test_what_is_new_brings_how_it_fared(self, store: ProcedureStore) -> None:
        fared = procedure().model_copy(update={"usage": Usage(uses=5, successes=4)})

        assert store.put(fared, "built elsewhere") == fared
        assert store.put(fared.model_copy(update={"usage": Usage()}), "again").usage == fared.usage
        assert store.counts().uses == 5

    def test_any_number_of_procedures_can_be_gone_through(self, store: ProcedureStore) -> None:
        with store.transaction():
            stored = [store.put(procedure(f"task {number}"), "built") for number in range(600)]
            store.retire(stored[255].id, "at the end of a page", NOW)
            store.retire(stored[-1].id, "at the end of all", NOW)

        assert list(store.procedures()) == [*stored[:255], *stored[256:-1]]

    def test_keys_come_back_as_they_were_stored(self, store: ProcedureStore) -> None:
        stored = added(store, "heat an egg", EAST, NORTH)
        store.index(stored.id, "avefact", ["egg"], vectors(NORTHEAST))

        kept = [(kind, list(texts), rows.tolist()) for kind, texts, rows in store.keys(stored.id)]

        assert kept == [
            ("query", ["heat an egg 0", "heat an egg 1"], vectors(EAST, NORTH).tolist()),
            ("avefact", ["egg"], vectors(NORTHEAST).tolist()),
        ]
        assert list(store.keys("nobody")) == []

    def test_the_same_source_in_another_namespace_is_another_procedure(self, store: ProcedureStore) -> None:
        ours = added(store, "heat an egg", EAST)
        there = {"namespace": "vendor", "id": procedure_id("heat an egg", "vendor")}
        theirs = store.put(ours.model_copy(update=there), "brought in")
        store.index(theirs.id, "query", ["heat an egg"], vectors(EAST))

        assert list(store.procedures()) == [ours, theirs]
        assert found(store, EAST, exclude=["heat an egg"]) == []

    def test_a_trial_is_what_was_stored_last(self, store: ProcedureStore) -> None:
        begun = Trial(episode_id="1", source="heat an egg", held_out=True, holdout=0.1, begun=NOW)
        other = begun.model_copy(update={"episode_id": "2", "source": "cool a mug"})
        store.put_trial(begun)
        store.put_trial(other)
        ended = begun.model_copy(update={"success": True, "reward": 1.0, "steps": 3})
        store.put_trial(ended)

        assert store.trials() == [ended, other]
        assert store.trials("1") == [ended]
        assert store.trials("3") == []
        assert store.count_trials("cool a mug") == 1
        assert store.count_trials("something else") == 0

    def test_closing_twice_does_no_harm(self, store: ProcedureStore) -> None:
        store.close()
        store.close()

    # Anything

    def test_any_sequence_of_operations_agrees_with_a_dict(self, tmp_path: Path) -> None:
        make, persistent = self.make, self.persistent

        class Operations(StoreMachine):
            def __init__(self) -> None:
                self.path = tmp_path / f"memory-{next(COUNTER)}"
                self.make, self.persistent = make, persistent
                super().__init__()

        run_state_machine_as_test(
            Operations, settings=settings(max_examples=50, stateful_step_count=40, deadline=None)
        )


class SharedStoreContract(StoreContract):
    """What a store does besides, that outlives its process and that several may open at once."""

    persistent = True

    @pytest.fixture
    def other(self, tmp_path: Path, store: ProcedureStore) -> Iterator[ProcedureStore]:
        """The same store, opened by somebody else."""
        other = self.make(tmp_path / "memory")
        yield other
        other.close()

    def test_the_version_changes_with_the_writes_of_others(
        self, store: ProcedureStore, other: ProcedureStore
    ) -> None:
        before = store.version
        added(other, "heat an egg")

        assert store.version != before

    def test_search_follows_what_others_write(self, store: ProcedureStore, other: ProcedureStore) -> None:
        for task, key in zip(TASKS, (EAST, NORTH, NORTHEAST, EAST), strict=True):
            added(store, task, key)
            assert found(other, EAST) == found(store, EAST)

        other.retire(procedure(TASKS[0]).id, "it failed", NOW)
        assert found(store, EAST) == [TASKS[3], TASKS[2], TASKS[1]]

        store.index(procedure(TASKS[1]).id, "query", ["moved"], vectors(EAST))
        assert found(other, EAST) == [TASKS[1], TASKS[3], TASKS[2]]

        other.put(procedure(TASKS[3], 0.5), "revised")
        assert [match.procedure.reward for match in store.search("query", vectors(EAST), k=2)] == [1.0, 0.5]

        added(store, TASKS[0], EAST)
        assert found(other, EAST) == [TASKS[0], TASKS[1], TASKS[3], TASKS[2]]

    def test_search_follows_another_into_a_larger_space(
        self, store: ProcedureStore, other: ProcedureStore
    ) -> None:
        stored = added(store, "heat an egg", EAST)
        assert found(store, EAST) == ["heat an egg"]

        other.drop_keys()
        other.index(stored.id, "query", ["heat"], vectors((0, 0, 1)))

        assert found(store, (0, 0, 1)) == ["heat an egg"]

    def test_a_snapshot_does_not_see_what_others_write(
        self, store: ProcedureStore, other: ProcedureStore
    ) -> None:
        heat = added(store, "heat an egg")
        with store.snapshot():
            assert list(store.procedures()) == [heat]
            added(other, "cool a mug")
            other.retire(heat.id, "it failed", NOW)
            assert list(store.procedures()) == [heat]

        assert [now.task for now in store.procedures()] == ["cool a mug"]

    def test_a_write_within_a_snapshot_is_refused_and_not_lost_in_silence(
        self, store: ProcedureStore
    ) -> None:
        with store.snapshot():
            with (
                store.snapshot(),
                pytest.raises(StoreError, match="a snapshot is being read; write after it"),
            ):
                added(store, "heat an egg")
            with pytest.raises(StoreError, match="write after it"), store.transaction():
                pass

        kept = added(store, "cool a mug")
        assert list(store.procedures()) == [kept]

    def test_a_snapshot_within_a_transaction_lets_it_write(self, store: ProcedureStore) -> None:
        with store.transaction(), store.snapshot():
            kept = added(store, "heat an egg")

        assert list(store.procedures()) == [kept]

    def test_what_is_not_committed_is_not_seen_by_others(
        self, store: ProcedureStore, other: ProcedureStore
    ) -> None:
        with store.transaction():
            added(store, "heat an egg", EAST)
            assert found(other, EAST) == []
            assert other.counts().procedures == 0

        assert found(other, EAST) == ["heat an egg"]

    def test_what_is_written_is_there_when_it_is_opened_again(
        self, store: ProcedureStore, tmp_path: Path
    ) -> None:
        added(store, "heat an egg", EAST)
        before = everything(store)
        store.close()

        again = self.make(tmp_path / "memory")
        assert everything(again) == before
        assert found(again, EAST) == ["heat an egg"]
        again.close()


COUNTER = itertools.count()
"""Numbers the stores of one test, where each example needs its own."""

CIRCLE = unit([(np.cos(angle), np.sin(angle)) for angle in np.arange(12) * np.pi / 7])
"""Keys and queries for the machine; no three of them are alike, some pairs tie."""


def everything(store: ProcedureStore) -> dict[str, Any]:
    """All that a store can be asked for."""
    ids = {entry.id for entry in store.procedures()} | {stone.id for stone in store.tombstones()}
    return {
        "procedures": list(store.procedures()),
        "histories": {procedure_id: list(store.history(procedure_id)) for procedure_id in sorted(ids)},
        "tombstones": list(store.tombstones()),
        "quarantined": list(store.quarantined()),
        "counts": store.counts(),
        "embedder": store.setting("embedder"),
        "keys": [(owner, kind, list(texts)) for owner, kind, texts in store.key_texts()],
        "digest": store.digest(),
    }


@dataclass
class Known:
    """What the machine expects of one procedure."""

    age: int
    revisions: list[float] = field(default_factory=list)
    uses: int = 0
    successes: int = 0
    retired: bool = False
    key: int | None = None
    episodes: set[str] = field(default_factory=set)


class StoreMachine(RuleBasedStateMachine):
    """Does anything to a store and to a dict, and compares."""

    path: Path
    make: Any
    persistent: bool

    def __init__(self) -> None:
        super().__init__()
        self.store: ProcedureStore = self.make(self.path)
        self.known: dict[str, Known] = {}

    def teardown(self) -> None:
        self.store.close()

    @rule(task=st.sampled_from(TASKS), reward=st.sampled_from([0.0, 0.5, 1.0]))
    def put(self, task: str, reward: float) -> None:
        known = self.known.setdefault(task, Known(age=len(self.known)))
        known.revisions.append(reward)
        if known.retired:
            known.retired, known.uses, known.successes = False, 0, 0

        stored = self.store.put(procedure(task, reward), "because")

        assert (stored.revision, stored.reward) == (len(known.revisions), reward)
        assert stored.usage == Usage(uses=known.uses, successes=known.successes)

    @rule(task=st.sampled_from(TASKS))
    def retire(self, task: str) -> None:
        known = self.known.get(task)
        if known is None or known.retired:
            with pytest.raises(NotFound):
                self.store.retire(procedure(task).id, "because", NOW)
            return
        self.store.retire(procedure(task).id, "because", NOW)
        known.retired, known.key = True, None

    @rule(task=st.sampled_from(TASKS), success=st.booleans(), episode=st.sampled_from(["", "a", "b"]))
    def credit(self, task: str, success: bool, episode: str) -> None:
        known = self.known.get(task)
        counts = known is not None and not known.retired and episode not in known.episodes

        assert self.store.credit(procedure(task).id, success=success, episode_id=episode) == counts

        if known is not None and counts:
            known.uses += 1
            known.successes += success
            known.episodes |= {episode} - {""}

    @rule(task=st.sampled_from(TASKS), key=st.integers(0, len(CIRCLE) - 1))
    def index(self, task: str, key: int) -> None:
        known = self.known.get(task)
        if known is not None and not known.retired:
            self.store.index(procedure(task).id, "query", [str(key)], CIRCLE[[key]])
            known.key = key

    @rule(query=st.integers(0, len(CIRCLE) - 1), k=st.integers(1, 5), hidden=st.sampled_from(TASKS))
    def search(self, query: int, k: int, hidden: str) -> None:
        def rank(task: str) -> tuple[float, int]:
            known = self.known[task]
            return -round(float(CIRCLE[query] @ CIRCLE[known.key]), 5), known.age

        ranked = sorted(
            (task for task, known in self.known.items() if known.key is not None and task != hidden), key=rank
        )

        matches = self.store.search("query", CIRCLE[[query]], k=k, exclude=[hidden])

        assert [match.procedure.task for match in matches] == ranked[:k]

    @rule(task=st.sampled_from(TASKS))
    def undo(self, task: str) -> None:
        before = everything(self.store)
        with undone(self.store):
            stored = self.store.put(procedure(task), "undone")
            self.store.index(stored.id, "query", ["undone"], CIRCLE[:1])
            self.store.search("query", CIRCLE[:1], k=3)
        assert everything(self.store) == before

    @precondition(lambda self: self.persistent)
    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.make(self.path)

    @rule()
    def compare(self) -> None:
        in_use = [task for task, known in self.known.items() if not known.retired]
        assert [stored.task for stored in self.store.procedures()] == in_use
        assert [needs.task for needs in self.store.unindexed("query")] == [
            task for task in in_use if self.known[task].key is None
        ]
        for task, known in self.known.items():
            history = self.store.history(procedure(task).id)
            assert [entry.procedure.reward for entry in history] == known.revisions
            assert history[-1].procedure.usage == Usage(uses=known.uses, successes=known.successes)
