"""Reading results back: rows that are of their manifest, and folders that are of one study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from evals.manifest import POOLED, describe
from evals.reports.results import read_results
from evals.rows import Row
from evals.studies import retrieve
from evals.studies.retrieve import Retrieve
from memp.errors import InputError
from tests.episodes import arm_rows, folder, named, row
from tests.studies import by_key, change_manifest, copied, manifest_in, ran, rows_in

SMALL = Retrieve(env="gridworld", agent="random", episodes=4, train=4, max_steps=2)

ARMS = ("none", "random", "query", "avefact")


@pytest.fixture(scope="module")
def universes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A study in two universes, each in a folder of its own; left as they are by the tests."""
    return [ran(tmp_path_factory.mktemp("universe"), replace(SMALL, seed=seed)) for seed in (0, 1)]


# --- one folder ---


def test_the_episodes_of_a_folder_are_read_with_its_manifest(universes: list[Path]) -> None:
    found = read_results(universes[:1])
    assert list(found.rows) == rows_in(universes[0])
    assert found.manifests == (manifest_in(universes[0]),)
    assert found.missing == 0
    assert found.price is None


def test_arms_are_in_the_order_of_the_plan_with_the_memory_of_each(universes: list[Path]) -> None:
    found = read_results(universes[:1]).arms
    assert tuple(arm.name for arm in found) == ARMS
    assert [arm.recipe for arm in found] == ["", "trajectory", "trajectory", "trajectory"]
    assert [arm.key for arm in found] == [None, "random", "query", "avefact"]


@pytest.mark.parametrize("before", [None, {"none": None, "query": "trajectory", "avefact": "trajectory"}])
def test_a_folder_of_before_arms_were_described_is_read_with_no_memory_first(
    tmp_path: Path, before: object
) -> None:
    rows = [*arm_rows("query", [1.0]), *arm_rows("none", [0.0]), *arm_rows("avefact", [0.0])]
    found = read_results([folder(tmp_path, rows, arms=before)])
    assert found.arms == named("none", "avefact", "query")
    assert found.missing is None


def test_what_has_not_been_run_is_counted(universes: list[Path], tmp_path: Path) -> None:
    out = copied(universes[0], tmp_path / "out")
    lines = (out / "episodes.jsonl").read_bytes().splitlines(keepends=True)
    (out / "episodes.jsonl").write_bytes(b"".join(lines[:-3]))
    assert read_results([out]).missing == 3


def test_a_line_that_a_kill_cut_short_is_passed_over_and_stays(universes: list[Path], tmp_path: Path) -> None:
    out = copied(universes[0], tmp_path / "out")
    cut = (out / "episodes.jsonl").read_bytes()[:-9]
    (out / "episodes.jsonl").write_bytes(cut)
    assert len(read_results([out]).rows) == 15
    assert (out / "episodes.jsonl").read_bytes() == cut


def test_a_manifest_whose_arms_are_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the manifest's arms are none"):
        read_results([folder(tmp_path, [row("none", "a", 0.0)], arms=[{"called": "none"}])])


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (row("avefact", "a", 1.0), "an episode of the arm 'avefact', which is not in its manifest"),
        (row("none", "a", 1.0, split="train"), "an episode of the split 'train', which is not in its"),
        (row("none", "a", 1.0, seed=3), "an episode of the seed 3, which is not in its manifest"),
    ],
)
def test_an_episode_that_is_not_of_the_manifest_is_refused(tmp_path: Path, odd: Row, said: str) -> None:
    out = folder(tmp_path, [row("none", "b", 0.0), odd])
    with pytest.raises(InputError, match=said):
        read_results([out])


def test_an_episode_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    out = folder(tmp_path, [row("none", "a", 0.0), row("none", "a", 1.0)])
    with pytest.raises(InputError, match=r"holds too: \('none', 'a', 'test', 0, '', ''\)"):
        read_results([out])


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no study: there is no manifest\.json"):
        read_results([tmp_path])


def test_a_study_that_has_no_episode_yet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no episode yet"):
        read_results([folder(tmp_path, [])])


def test_a_manifest_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "app"}')
    with pytest.raises(InputError, match="is no manifest of a study"):
        read_results([tmp_path])


# --- several folders ---


def test_folders_of_other_seeds_are_pooled(universes: list[Path]) -> None:
    found = read_results(universes)
    assert by_key(list(found.rows)) == by_key(rows_in(universes[0]) + rows_in(universes[1]))
    assert found.stated("seed") == "0 and 1"
    assert found.stated("study") == "retrieve"
    assert found.stated("fallback") == ""
    assert found.stated("splits") == "test"
    assert (found.arms, found.missing) == (read_results(universes[:1]).arms, 0)


def test_two_folders_hold_what_one_study_of_both_seeds_holds(universes: list[Path], tmp_path: Path) -> None:
    both = read_results([ran(tmp_path, replace(SMALL, seeds=2))])
    assert by_key(list(both.rows)) == by_key(list(read_results(universes).rows))


def test_the_same_episode_in_two_folders_is_refused(universes: list[Path], tmp_path: Path) -> None:
    again = copied(universes[0], tmp_path / "again")
    with pytest.raises(InputError, match=rf"{again} holds an episode that {universes[0]} holds too"):
        read_results([universes[0], again])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "openai:other"}, "model is None here and 'openai:other' there"),
        ({"model_sha256": {"m": "0" * 64}}, "model_sha256.m is None here and '0000"),
        ({"env_name": "gridworld-2"}, "env_name is 'gridworld-1' here and 'gridworld-2' there"),
        ({"agent": "replay"}, "agent is 'random' here and 'replay' there"),
        ({"k": 1}, "k is 4 here and 1 there"),
        ({"max_steps": None}, "max_steps is 2 here and None there"),
        ({"price": {"in": 1, "out": 2}}, "price is None here and {'in': 1, 'out': 2} there"),
    ],
)
def test_folders_that_differ_in_what_decides_the_result_are_refused(
    universes: list[Path], tmp_path: Path, changes: Mapping[str, object], said: str
) -> None:
    other = copied(universes[1], tmp_path / "other")
    change_manifest(other, **changes)
    with pytest.raises(InputError, match=rf"are not of one study, .*: {said}"):
        read_results([universes[0], other])


def test_another_version_of_a_prompt_or_a_library_is_named_alone(
    universes: list[Path], tmp_path: Path
) -> None:
    other = copied(universes[1], tmp_path / "other")
    manifest = manifest_in(other)
    change_manifest(
        other,
        prompts={**manifest["prompts"], "act": 99},
        versions={**manifest["versions"], "numpy": "0.1"},
    )
    with pytest.raises(
        InputError, match=r"both: prompts\.act is \d+ here and 99 there; versions\.numpy is .* '0\.1' there$"
    ):
        read_results([universes[0], other])


def test_every_name_that_a_pool_may_differ_in_is_one_of_the_manifest() -> None:
    assert set(POOLED) <= {*describe(retrieve.plan(SMALL)), "memories"}


def test_another_commit_and_python_may_be_pooled(universes: list[Path], tmp_path: Path) -> None:
    other = copied(universes[1], tmp_path / "other")
    change_manifest(other, commit="abc1234", python="3.99")
    assert read_results([universes[0], other]).stated("commit").endswith(" and abc1234")
