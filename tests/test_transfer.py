"""Bundles: what one memory writes, another takes in; what becomes of procedures that both have."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from memp.cli.transfer import export_command, import_command
from memp.embedding import HashEmbedder
from memp.embedding.base import FloatMatrix, Role
from memp.errors import InputError, ModelError, SpaceMismatch, StoreError
from memp.memory import ProceduralMemory
from memp.procedure import Procedure, Revision, Script, Usage, procedure_id
from memp.trajectory import MAX_TEXT
from memp.transfer import Ids, ImportResult, OnConflict, export_bundle, import_bundle
from memp.transfer.form import PROCEDURES, TOMBSTONES, ProcedureLine
from memp.transfer.write import write_members
from tests.factories import NOW, id_of, procedure, trajectory
from tests.store_contract import everything, quarantined

ROOT = Path(__file__).parent.parent

SMALL = HashEmbedder(dims=64)

SCRIPTED = Script(goal="heat things", steps=("open the oven", "put it in"))


def memory(path: Path | str = ":memory:", embedder: Any = SMALL) -> ProceduralMemory:
    return ProceduralMemory.open(path, embedder=embedder)


def made(path: Path, *procedures: Procedure, embedder: Any = SMALL) -> Path:
    """A memory with these procedures, and keys for them."""
    with memory(path, embedder) as held:
        for entry in procedures:
            held.store.put(entry, "built")
        if procedures:
            held.retrieve("anything", k=1)
    return path


def bundle(folder: Path, *procedures: Procedure, name: str = "theirs", **options: Any) -> Path:
    """A bundle of these procedures."""
    export_bundle(made(folder / f"{name}.db", *procedures), folder / f"{name}.zip", **options)
    return folder / f"{name}.zip"


def contents(path: Path, embedder: Any = SMALL) -> dict[str, Any]:
    with memory(path, embedder) as held:
        return everything(held.store)


def changed(reward: float = 1.0, *, source: str = "", **change: Any) -> Procedure:
    """A procedure of the same task as every other of these, with something changed."""
    return procedure(reward=reward, source=source).model_copy(update=change)


def fates(result: ImportResult) -> dict[str, int]:
    """How many procedures became of what, where any did."""
    counted = ("added", "replaced", "same", "kept", "refused", "retired_there")
    return {name: len(getattr(result, name)) for name in counted if getattr(result, name)}


# --- there and back ---

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
WORDS = TEXT.filter(str.strip)


@st.composite
def lives(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What befell some procedures: their revisions, how they fared, and whether they were retired."""
    return [
        {
            "revisions": draw(
                st.lists(
                    st.tuples(st.floats(0, 1), st.none() | st.tuples(WORDS, TEXT), TEXT),
                    min_size=1,
                    max_size=3,
                )
            ),
            "task": draw(WORDS),
            "source": source,
            "outcomes": draw(st.lists(st.booleans(), max_size=3)),
            "retired": draw(st.booleans()),
        }
        for source in draw(st.lists(WORDS, max_size=5, unique=True))
    ]


def lived(held: ProceduralMemory, happened: Sequence[dict[str, Any]]) -> None:
    for life in happened:
        for number, (reward, told, reason) in enumerate(life["revisions"]):
            entry = procedure(
                life["task"],
                reward,
                source=life["source"],
                script=None if told is None else Script(goal=told[0], steps=(told[1],)),
            )
            when = entry.provenance.model_copy(update={"created": NOW + timedelta(days=number)})
            held.store.put(entry.model_copy(update={"provenance": when}), reason)
        for success in life["outcomes"]:
            held.store.credit(procedure_id(life["source"]), success=success)
        if life["retired"]:
            held.store.retire(procedure_id(life["source"]), "it failed", NOW)


@given(happened=lives(), with_vectors=st.booleans(), dims=st.sampled_from([64, 32]))
@settings(max_examples=40, deadline=None)
def test_what_is_exported_is_imported_as_it_was(
    happened: list[dict[str, Any]], with_vectors: bool, dims: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("transfer")
    with memory() as source, memory(embedder=HashEmbedder(dims=dims)) as target:
        lived(source, happened)
        source.retrieve("anything")
        export_bundle(source.store, folder / "a.zip", vectors=with_vectors)

        result = import_bundle(target.store, folder / "a.zip", embedder=HashEmbedder(dims=dims))

        assert list(result.added) == [entry.id for entry in source.procedures()]
        assert list(target.procedures()) == list(source.procedures())
        assert target.digest() == source.digest()
        for entry in source.procedures():
            assert [
                Revision(
                    procedure=revision.procedure,
                    reason=revision.reason.rpartition(" (imported from a.zip, ")[0],
                )
                for revision in target.history(entry.id)
            ] == source.history(entry.id)
        assert list(target.store.unindexed("query")) == []
        if dims == 64:
            assert target.retrieve("an egg", k=3) == source.retrieve("an egg", k=3)


def test_an_import_again_changes_nothing(tmp_path: Path) -> None:
    theirs = bundle(tmp_path, procedure("heat an egg"), procedure("cool a mug"))
    import_bundle(tmp_path / "ours.db", theirs, embedder=SMALL)
    before = contents(tmp_path / "ours.db")

    assert fates(import_bundle(tmp_path / "ours.db", theirs)) == {"same": 2}
    assert contents(tmp_path / "ours.db") == before


def test_another_embedder_makes_vectors_of_its_own(tmp_path: Path) -> None:
    theirs = bundle(tmp_path, procedure("heat some potato"), procedure("clean the mug"), vectors=True)
    other = HashEmbedder(dims=512)

    import_bundle(tmp_path / "ours.db", theirs, embedder=other)

    with memory(tmp_path / "ours.db", other) as ours:
        assert ours.retrieve("heat a potato", k=1)[0].procedure.task == "heat some potato"
        assert ours.describe()["embedder"] == other.name


class Counting(HashEmbedder):
    """Counts what it embeds."""

    embedded = 0

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
        self.embedded += len(texts)
        return super().embed(texts, role)


def test_vectors_of_the_same_embedder_are_taken_as_they_are(tmp_path: Path) -> None:
    procedures = [procedure(f"task {number}") for number in range(5)]
    counting = Counting(dims=64)

    import_bundle(tmp_path / "ours.db", bundle(tmp_path, *procedures, vectors=True), embedder=counting)

    assert counting.embedded == 1  # the sample
    with memory(tmp_path / "ours.db") as ours:
        for entry in procedures:
            ((kind, texts, rows),) = ours.store.keys(entry.id)
            assert (kind, list(texts)) == ("query", [entry.task])
            np.testing.assert_array_equal(rows, SMALL.embed([entry.task]))


def test_keys_of_every_kind_travel(tmp_path: Path) -> None:
    path = made(tmp_path / "theirs.db", procedure("heat an egg"))
    with ProceduralMemory.open(path, embedder=SMALL, key="avefact") as theirs:
        theirs.retrieve("heat an egg")
        kinds = [kind for kind, _, _ in theirs.store.keys(id_of("heat an egg"))]
    export_bundle(path, tmp_path / "theirs.zip", vectors=True)

    import_bundle(tmp_path / "ours.db", tmp_path / "theirs.zip", embedder=SMALL)

    with memory(tmp_path / "ours.db") as ours:
        assert len(kinds) == 2
        assert [kind for kind, _, _ in ours.store.keys(id_of("heat an egg"))] == kinds


class Slow(Counting):
    """One whose vectors are made before the memory is held for writing."""

    def __init__(self, path: Path) -> None:
        super().__init__(dims=64)
        self._path = path

    @property
    def name(self) -> str:
        return "slow:64"

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
        with closing(sqlite3.connect(self._path, timeout=0, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")  # an error if somebody holds it
        return super().embed(texts, role)


def test_nobody_waits_for_a_slow_embedder(tmp_path: Path) -> None:
    theirs = bundle(tmp_path, *[procedure(f"task {number}") for number in range(300)])
    slow = Slow(tmp_path / "ours.db")
    memory(tmp_path / "ours.db", slow).close()

    import_bundle(tmp_path / "ours.db", theirs, embedder=slow)

    assert slow.embedded == 300
    with memory(tmp_path / "ours.db", slow) as ours:
        assert list(ours.store.unindexed("query")) == []


class Failing(HashEmbedder):
    @property
    def name(self) -> str:
        return "failing:64"

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
        raise ModelError("out of reach")


def test_an_embedder_that_fails_leaves_no_memory_behind(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="out of reach"):
        import_bundle(tmp_path / "ours.db", bundle(tmp_path, procedure()), embedder=Failing())

    assert not (tmp_path / "ours.db").exists()


def test_a_memory_of_another_embedder_is_not_written(tmp_path: Path) -> None:
    ours = made(tmp_path / "ours.db", procedure("cool a mug"))
    before = contents(ours)

    with pytest.raises(SpaceMismatch, match="memp reembed"):
        import_bundle(ours, bundle(tmp_path, procedure()), embedder=HashEmbedder(dims=32))
    assert contents(ours) == before


# --- both sides have it ---


def met(
    folder: Path, ours: Procedure, theirs: Procedure, **options: Any
) -> tuple[dict[str, int], list[Revision]]:
    """Import one over the other; returns what became of it, and the history here."""
    path = made(folder / "ours.db", ours)
    became = fates(import_bundle(path, bundle(folder, theirs), **options))
    with memory(path) as held:
        return became, held.history(ours.id)


WORSE, BETTER = changed(reward=0.5), changed(reward=1.0)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (changed(reward=1.0, length=9), changed(reward=0.5, length=2)),
        (changed(length=2), changed(length=3)),
        (changed(script=SCRIPTED), changed()),
        (changed(script=SCRIPTED), changed(script=SCRIPTED, trajectory=None)),
    ],
    ids=["more reward", "fewer steps", "a script", "a trajectory beside the script"],
)
def test_the_better_one_stays(theirs: Procedure, ours: Procedure, tmp_path: Path) -> None:
    for name, here, there, became in (("a", ours, theirs, "replaced"), ("b", theirs, ours, "kept")):
        folder = tmp_path / name
        folder.mkdir()
        fate, history = met(folder, here, there)
        assert fate == {became: 1}
        assert history[0].procedure == here
        assert history[-1].procedure.model_copy(update={"revision": 1}) == theirs


def test_a_replaced_procedure_keeps_its_history_and_says_where_the_new_one_is_from(tmp_path: Path) -> None:
    became, history = met(tmp_path, WORSE, BETTER)
    digest = hashlib.sha256((tmp_path / "theirs.zip").read_bytes()).hexdigest()

    assert became == {"replaced": 1}
    assert [(entry.procedure.revision, entry.procedure.reward) for entry in history] == [(1, 0.5), (2, 1.0)]
    assert history[1].reason == (
        f"imported from theirs.zip, sha256 {digest[:12]}: reward 1 in 2 steps, in the place of 0.5 in 2"
    )


def test_of_two_that_are_equally_good_ours_stays(tmp_path: Path) -> None:
    other = changed(trajectory=trajectory(actions="open oven, wait"))

    assert met(tmp_path, changed(), other)[0] == {"kept": 1}


def test_what_was_given_up_here_does_not_come_back(tmp_path: Path) -> None:
    path = made(tmp_path / "ours.db", BETTER, WORSE)  # rolled back, say, because it did harm

    assert fates(import_bundle(path, bundle(tmp_path, BETTER))) == {"kept": 1}
    assert fates(import_bundle(path, tmp_path / "theirs.zip", on_conflict="theirs")) == {"replaced": 1}


def test_how_it_fared_and_when_it_was_built_make_no_difference(tmp_path: Path) -> None:
    later = BETTER.provenance.model_copy(update={"created": NOW + timedelta(days=1)})
    theirs = BETTER.model_copy(update={"usage": Usage(uses=9, successes=1), "provenance": later})

    assert met(tmp_path, BETTER, theirs)[0] == {"same": 1}


@pytest.mark.parametrize(("theirs", "ours"), [(WORSE, BETTER), (BETTER, WORSE)], ids=["worse", "better"])
def test_one_may_say_which_side_wins(theirs: Procedure, ours: Procedure, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    assert met(tmp_path, ours, theirs, on_conflict="ours")[0] == {"kept": 1}
    assert met(tmp_path / "a", ours, theirs, on_conflict="theirs")[0] == {"replaced": 1}


def test_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'theirs'"):
        import_bundle(tmp_path / "ours.db", bundle(tmp_path), on_conflict="their")  # type: ignore[arg-type]


def test_what_both_have_keeps_our_counts_and_what_is_new_brings_its_own(tmp_path: Path) -> None:
    fared = Usage(uses=9, successes=8)
    new = procedure("cool a mug").model_copy(update={"usage": fared})
    both = BETTER.model_copy(update={"usage": fared})
    path = made(tmp_path / "ours.db", WORSE)
    with memory(path) as ours:
        ours.store.credit(WORSE.id, success=True)

    import_bundle(path, bundle(tmp_path, both, new))

    with memory(path) as ours:
        assert ours.get(both.id).usage == Usage(uses=1, successes=1)
        assert ours.get(new.id).usage == fared


@pytest.mark.parametrize("on_conflict", ["better", "theirs"])
def test_what_was_retired_here_is_not_brought_back(on_conflict: OnConflict, tmp_path: Path) -> None:
    path = made(tmp_path / "ours.db", WORSE)
    with memory(path) as ours:
        ours.store.retire(WORSE.id, "it failed", NOW)

    assert fates(import_bundle(path, bundle(tmp_path, BETTER), on_conflict=on_conflict)) == {"refused": 1}
    with memory(path) as ours:
        assert list(ours.procedures()) == []
        assert len(ours.history(WORSE.id)) == 1


def retired_there(folder: Path) -> Path:
    """A bundle of three procedures: one retired, one brought back since, one that never was."""
    path = made(folder / "theirs.db", *map(procedure, ("heat an egg", "cool a mug", "open the door")))
    with memory(path) as theirs:
        theirs.store.retire(id_of("heat an egg"), "it failed", NOW)
        theirs.store.retire(id_of("cool a mug"), "it failed", NOW)
        theirs.rollback(id_of("cool a mug"), 1)
    result = export_bundle(path, folder / "theirs.zip")
    assert (result.procedures, result.tombstones) == (2, 1)
    return folder / "theirs.zip"


def test_what_was_retired_there_is_kept_here_and_reported(tmp_path: Path) -> None:
    theirs = retired_there(tmp_path)
    path = made(tmp_path / "ours.db", procedure("heat an egg"), procedure("cool a mug"))

    result = import_bundle(path, theirs)

    assert fates(result) == {"added": 1, "same": 1, "retired_there": 1}
    assert list(result.retired_there) == [id_of("heat an egg")]
    with memory(path) as ours:
        assert ours.get(id_of("heat an egg")).task == "heat an egg"
        assert ours.tombstones() == []


def test_what_was_retired_there_and_is_unknown_here_may_be_learned_here(tmp_path: Path) -> None:
    import_bundle(tmp_path / "ours.db", retired_there(tmp_path), embedder=SMALL)

    with memory(tmp_path / "ours.db") as ours:
        assert [change.task for change in ours.update([trajectory("heat an egg")]).added] == ["heat an egg"]


# --- namespaces ---


def test_a_namespace_keeps_what_is_imported_apart(tmp_path: Path) -> None:
    path = made(tmp_path / "ours.db", WORSE)
    theirs = bundle(tmp_path, BETTER)

    result = import_bundle(path, theirs, namespace="vendor")

    assert fates(result) == {"added": 1}
    assert fates(import_bundle(path, theirs, namespace="vendor")) == {"same": 1}
    with memory(path) as ours:
        assert [(held.namespace, held.reward) for held in ours.procedures()] == [("", 0.5), ("vendor", 1.0)]
        assert [match.procedure.id for match in ours.retrieve(BETTER.task)] == [WORSE.id, *result.added]
        assert ours.get(result.added[0]).id == procedure_id(BETTER.source, "vendor")


def test_what_is_in_a_namespace_is_excluded_with_its_task(tmp_path: Path) -> None:
    path = made(tmp_path / "ours.db")
    import_bundle(path, bundle(tmp_path, BETTER), namespace="vendor")

    with memory(path) as ours:
        assert ours.retrieve(BETTER.task, exclude=[BETTER.source]) == []


def test_what_is_learned_here_leaves_namespaces_alone(tmp_path: Path) -> None:
    path = made(tmp_path / "ours.db")
    (theirs,) = import_bundle(path, bundle(tmp_path, WORSE), namespace="vendor").added

    with memory(path) as ours:
        ours.update([trajectory(WORSE.task, "open oven", shown=[theirs])])

        assert [(held.namespace, held.usage.uses) for held in ours.procedures()] == [("vendor", 1), ("", 0)]


def test_an_export_may_be_of_one_namespace(tmp_path: Path) -> None:
    path = made(tmp_path / "ours.db", procedure("open the door"))
    theirs = bundle(tmp_path, procedure("heat an egg"))
    for namespace in ("vendor", "vendor.v2", "vendors"):
        (moved,) = import_bundle(path, theirs, namespace=namespace).added
    with memory(path) as ours:
        ours.store.retire(moved, "it failed", NOW)

    def exported(name: str, namespace: str | None) -> list[str]:
        export_bundle(path, tmp_path / name, namespace=namespace)
        import_bundle(tmp_path / f"{name}.db", tmp_path / name)
        with memory(tmp_path / f"{name}.db", HashEmbedder()) as there:
            return [held.namespace for held in there.procedures()]

    assert exported("all", None) == ["", "vendor", "vendor.v2"]
    assert exported("own", "") == [""]
    assert exported("vendor", "vendor") == ["vendor", "vendor.v2"]
    assert exported("vendors", "vendors") == []
    assert fates(import_bundle(path, tmp_path / "all")) == {"same": 3}


def test_a_namespace_may_lie_within_another(tmp_path: Path) -> None:
    made(tmp_path / "theirs.db", BETTER)
    import_bundle(tmp_path / "theirs.db", bundle(tmp_path, WORSE, name="first"), namespace="v1")
    with memory(tmp_path / "theirs.db") as theirs:
        theirs.store.retire(BETTER.id, "it failed", NOW)
    export_bundle(tmp_path / "theirs.db", tmp_path / "theirs.zip")
    path = made(tmp_path / "ours.db")
    import_bundle(path, bundle(tmp_path, BETTER, name="second"), namespace="laptop")

    result = import_bundle(path, tmp_path / "theirs.zip", namespace="laptop")

    assert list(result.added) == [procedure_id(WORSE.source, "laptop.v1")]
    assert list(result.retired_there) == [procedure_id(BETTER.source, "laptop")]


@pytest.mark.parametrize("name", ["a b", "..", "a/b", "é", "a" * 65, "a\n", ".a"])
def test_a_name_that_is_no_namespace_is_refused(name: str, tmp_path: Path) -> None:
    theirs = bundle(tmp_path, BETTER)
    with pytest.raises(InputError, match="is no namespace"):
        import_bundle(tmp_path / "ours.db", theirs, namespace=name)
    with pytest.raises(InputError, match="is no namespace"):
        export_bundle(tmp_path / "theirs.db", tmp_path / "x", namespace=name)


@pytest.mark.parametrize("namespace", ["a..b", ".", "a.", ".a", "a" * 65, "a\n", "ä"])
def test_a_procedure_has_no_namespace_that_a_bundle_would_refuse(namespace: str) -> None:
    with pytest.raises(ValidationError, match="namespace"):
        Procedure.model_validate({**BETTER.model_dump(), "namespace": namespace})


@pytest.mark.parametrize("script", [{"goal": "x" * (MAX_TEXT + 1)}, {"steps": ("x" * (MAX_TEXT + 1),)}])
def test_a_script_has_no_text_that_a_bundle_would_refuse(script: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="at most 1000000 characters"):
        Script(**{"goal": "heat", "steps": ("wait",), **script})


def test_namespaces_that_are_too_long_together_are_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "ours.db")
    import_bundle(path, bundle(tmp_path, BETTER), namespace="a" * 40)
    export_bundle(path, tmp_path / "ours.zip")
    before = contents(path)

    with pytest.raises(InputError, match="is no namespace"):
        import_bundle(path, tmp_path / "ours.zip", namespace="b" * 40)
    assert contents(path) == before


# --- a dry run ---


def test_a_dry_run_says_what_an_import_would_do_and_writes_nothing(tmp_path: Path) -> None:
    path = made(tmp_path / "ours.db", WORSE, procedure("cool a mug"))
    theirs = bundle(tmp_path, BETTER, procedure("cool a mug"), procedure("open the door"))
    before = path.read_bytes()

    would = import_bundle(path, theirs, dry_run=True)

    assert path.read_bytes() == before
    assert fates(would) == {"added": 1, "replaced": 1, "same": 1}
    assert import_bundle(path, theirs) == would


def test_a_dry_run_makes_no_memory(tmp_path: Path) -> None:
    result = import_bundle(tmp_path / "ours.db", bundle(tmp_path, BETTER), dry_run=True)

    assert list(result.added) == [BETTER.id]
    assert not (tmp_path / "ours.db").exists()


# --- export ---


def test_the_same_memory_gives_the_same_bytes(tmp_path: Path) -> None:
    first = bundle(tmp_path, BETTER, procedure("cool a mug"), vectors=True)
    with memory(tmp_path / "theirs.db") as theirs:
        theirs.retrieve("anything")
    export_bundle(tmp_path / "theirs.db", tmp_path / "again.zip", vectors=True)

    assert first.read_bytes() == (tmp_path / "again.zip").read_bytes()


def manifest_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        found: dict[str, Any] = json.loads(archive.read("manifest.json"))
    return found


def test_a_bundle_is_as_old_as_the_newest_thing_in_it(tmp_path: Path) -> None:
    theirs = bundle(tmp_path, BETTER)
    assert manifest_of(theirs)["as_of"] == "2026-01-02T03:04:05Z"

    with memory(tmp_path / "theirs.db") as held:
        held.store.retire(BETTER.id, "it failed", NOW + timedelta(days=1))
    export_bundle(tmp_path / "theirs.db", theirs, force=True)
    assert manifest_of(theirs)["as_of"] == "2026-01-03T03:04:05Z"

    assert manifest_of(bundle(tmp_path, name="empty"))["as_of"] is None


def test_an_empty_memory_travels_too(tmp_path: Path) -> None:
    assert fates(import_bundle(tmp_path / "ours.db", bundle(tmp_path, vectors=True))) == {}


def test_quarantine_is_left_out_and_counted(tmp_path: Path) -> None:
    with memory(tmp_path / "theirs.db") as theirs:
        theirs.store.quarantine(quarantined())

    assert export_bundle(tmp_path / "theirs.db", tmp_path / "theirs.zip").quarantined == 1
    assert b"no goal" not in (tmp_path / "theirs.zip").read_bytes()


def test_a_file_that_is_there_is_replaced_only_if_that_is_said(tmp_path: Path) -> None:
    theirs = bundle(tmp_path, BETTER)
    theirs.write_bytes(b"precious")

    with pytest.raises(InputError, match="--force"):
        export_bundle(tmp_path / "theirs.db", theirs)
    assert theirs.read_bytes() == b"precious"

    export_bundle(tmp_path / "theirs.db", theirs, force=True)
    assert zipfile.is_zipfile(theirs)


def test_a_memory_is_never_replaced_by_its_bundle(tmp_path: Path) -> None:
    path = made(tmp_path / "theirs.db", BETTER)
    (tmp_path / "x").mkdir()

    with pytest.raises(InputError, match="the memory itself"):
        export_bundle(path, tmp_path / "x" / ".." / "theirs.db", force=True)
    assert len(contents(path)["procedures"]) == 1


def test_an_export_that_fails_leaves_no_file_behind(tmp_path: Path) -> None:
    texts = [f"{number}{'x' * (MAX_TEXT - 9)}" for number in range(17)]
    revised = [changed(script=Script(goal=text, steps=("go",))) for text in texts]
    path = made(tmp_path / "theirs.db", *revised)
    old = tmp_path / "theirs.zip"
    old.write_bytes(b"the last good one")

    with pytest.raises(InputError, match=f"{BETTER.id}.*with its history it takes 17"):
        export_bundle(path, old, force=True)

    assert old.read_bytes() == b"the last good one"
    assert {found.name for found in tmp_path.iterdir()} == {"theirs.db", "theirs.zip"}


@pytest.mark.parametrize("name", ["missing/theirs.zip", "", "x" * 300])
def test_a_file_that_cannot_be_written_is_refused(name: str, tmp_path: Path) -> None:
    path = made(tmp_path / "theirs.db", BETTER)

    with pytest.raises(InputError, match=r"cannot be written|is there already"):
        export_bundle(path, tmp_path / name)


def test_only_a_memory_that_is_there_is_exported(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no memory"):
        export_bundle(tmp_path / "nothing.db", tmp_path / "theirs.zip")
    assert list(tmp_path.iterdir()) == []


def test_text_that_packs_as_well_as_a_bomb_is_not_packed(tmp_path: Path) -> None:
    dull = [
        changed(source=f"{number}", script=Script(goal="x" * MAX_TEXT, steps=("go",))) for number in range(24)
    ]
    theirs = bundle(tmp_path, *dull)

    assert theirs.stat().st_size > 24 * MAX_TEXT
    assert fates(import_bundle(tmp_path / "ours.db", theirs, dry_run=True)) == {"added": 24}


# --- a million ---


class Many:
    """Lines that no memory had to hold."""

    as_of = None
    embedder = None

    def __init__(self, count: int) -> None:
        self._count = count
        self.lines = {PROCEDURES: self._procedures, TOMBSTONES: lambda: iter(())}

    def _procedures(self) -> Iterator[str]:
        usage = Usage(uses=3, successes=2)
        for number in range(self._count):
            told = procedure(f"heat egg number {number} in the microwave of kitchen {number % 97}")
            yield ProcedureLine(usage=usage, revisions=(Revision(procedure=told, reason="built"),)).written()


def big(path: Path, lines: int) -> Path:
    """A bundle of many procedures."""

    with path.open("w+b") as out:
        write_members(out, Many(lines))
    return path


MEASURED = """
import resource, sys
from memp.embedding import HashEmbedder
from memp.transfer import export_bundle, import_bundle
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
small, large, folder, dry = *sys.argv[1:4], sys.argv[4] == "dry"
def through(bundle, name):
    result = import_bundle(f"{folder}/{name}.db", bundle, embedder=HashEmbedder(dims=64), dry_run=dry)
    if not dry:
        export_bundle(f"{folder}/{name}.db", f"{folder}/{name}.out", vectors=True)
    return len(result.added)
through(small, "small")
before = peak()
print(through(large, "large"), peak() - before)
"""


def growth(folder: Path, lines: int, mode: str) -> tuple[int, int]:
    """How many procedures were taken in, and by how many MB the most memory used grew over that of 1000."""
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            MEASURED,
            big(folder / "small", 1000),
            big(folder / "large", lines),
            folder,
            mode,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    added, grown = map(int, ran.stdout.split())
    return added, grown


@pytest.mark.slow
@pytest.mark.parametrize(("lines", "mode"), [(20_000, "dry"), (5_000, "both ways")])
def test_a_transfer_takes_little_memory_however_long_it_is(lines: int, mode: str, tmp_path: Path) -> None:
    added, grown = growth(tmp_path, lines, mode)

    assert added == lines
    assert grown < 20


# --- killed ---

KILLED = """
import sys
from memp.embedding import HashEmbedder
from memp.transfer import import_bundle
class Halting(HashEmbedder):
    batches = 0
    def embed(self, texts, role="key"):
        self.batches += len(texts) > 1  # the sample is one text
        if self.batches == 3:
            print("in the middle", flush=True)
            sys.stdin.read()
        return super().embed(texts, role)
import_bundle(sys.argv[1], sys.argv[2], embedder=Halting(dims=64))
"""


def test_an_import_that_is_killed_leaves_the_memory_as_it_was(tmp_path: Path) -> None:
    path = made(tmp_path / "ours.db", WORSE)
    theirs = bundle(tmp_path, BETTER, *[procedure(f"task {number}") for number in range(1000)])
    before = contents(path)

    with subprocess.Popen(
        [sys.executable, "-c", KILLED, path, theirs],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"in the middle\n"
        child.send_signal(signal.SIGKILL)

    assert contents(path) == before
    assert fates(import_bundle(path, theirs)) == {"added": 1000, "replaced": 1}


# --- the commands ---


def run(command: click.Command, *args: object) -> Result:
    result = CliRunner().invoke(command, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_commands_move_a_memory(tmp_path: Path) -> None:
    path = made(tmp_path / "theirs.db", BETTER)
    with memory(path) as theirs:
        theirs.store.quarantine(quarantined())

    exported = run(export_command, path, tmp_path / "theirs.zip")
    would = run(import_command, tmp_path / "ours.db", tmp_path / "theirs.zip", "--dry-run")
    imported = run(import_command, tmp_path / "ours.db", tmp_path / "theirs.zip")

    digest = hashlib.sha256((tmp_path / "theirs.zip").read_bytes()).hexdigest()
    assert exported.stdout.splitlines() == [
        f"1 procedures and 0 tombstones in {tmp_path / 'theirs.zip'}",
        f"sha256 {digest}",
    ]
    assert exported.stderr == "1 items in quarantine are not exported\n"
    counts = "1 added, 0 replaced, 0 same, 0 kept, 0 refused, 0 retired there"
    assert would.stdout.splitlines() == [f"would be: {counts}", f"added {BETTER.id}"]
    assert imported.stdout == f"{counts}\n"


def test_the_command_prints_all_of_the_result_as_json(tmp_path: Path) -> None:
    theirs = bundle(tmp_path, *[procedure(f"task {number}") for number in range(30)])

    said = json.loads(run(import_command, tmp_path / "ours.db", theirs, "--json").stdout)
    listed = run(import_command, tmp_path / "new.db", theirs, "--dry-run").stdout.splitlines()

    assert list(said) == [
        "dry_run", "bundle", "sha256", "added", "replaced", "same", "kept", "refused", "retired_there",
    ]  # fmt: skip
    assert said["added"] == [id_of(f"task {number}") for number in range(30)]
    assert (len(listed), listed[-1]) == (22, "added: and 10 more, --json prints all")


def test_the_commands_say_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no zip")

    for result in (
        run(import_command, tmp_path / "ours.db", tmp_path / "x"),
        run(import_command, tmp_path / "ours.db", tmp_path / "missing"),
        run(export_command, tmp_path / "ours.db", tmp_path / "y"),
    ):
        assert (result.exit_code, result.stdout) == (1, "")
        assert len(result.stderr.splitlines()) == 1


# --- the page ---


def test_the_page_reads_a_bundle_without_memp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    bundle(tmp_path, changed(script=SCRIPTED), vectors=True)

    exec(code.replace("memory.bundle", str(tmp_path / "theirs.zip")), {})

    assert capsys.readouterr().out.splitlines() == ["heat an egg: 2 steps, reward 1.0, 0 of 0 successes"]
    assert "memp" not in code.replace("memp-bundle", "")


# --- ids ---


@given(numbers=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=20))
def test_ids_are_a_list_that_knows_what_is_there_twice(numbers: list[int]) -> None:
    written = [f"{number:016x}" for number in numbers]
    ids = Ids(written)

    assert (list(ids), ids[1:], len(ids)) == (written, written[1:], len(written))
    assert ids == Ids(written)
    assert (ids.twice() is None) == (len(set(written)) == len(written))
    assert ids.twice() is None or written.count(str(ids.twice())) > 1
