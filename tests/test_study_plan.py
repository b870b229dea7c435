"""What a study is told and makes of it: defaults, worlds, the identity of its model, and the tokens it counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from evals.__main__ import main
from evals.chats.counted import Counted
from evals.folder import Folder
from evals.manifest import describe, fingerprint
from evals.plan import Plan
from evals.settings import GRIDWORLD_STEPS, SCALES, concurrency
from evals.studies import build, retrieve
from evals.studies.build import Build
from evals.studies.retrieve import Retrieve
from evals.studies.transfer import Transfer
from evals.study import run
from evals.worlds import ENVIRONMENTS, worlds
from memp import ScriptedChat
from memp.errors import InputError, ModelError
from tasks.gridworld import GridWorld
from tests.studies import manifest_in

SMALL = Retrieve(env="gridworld", agent="random", episodes=4, train=4, max_steps=1)


# --- settings ---


def test_retrieve_has_the_defaults_of_its_published_figures() -> None:
    for env, scale, seeds in (("gridworld", (32, 64, 2, 20), 4), ("scienceworld", (60, 150, 4, None), 1)):
        found = Retrieve.of(env)
        assert (found.episodes, found.train, found.k, found.max_steps) == scale
        assert (found.splits, found.seeds, found.agent) == (("test",), seeds, "llm")


def test_build_takes_over_a_hundred_tasks_of_four_universes_of_the_grid_world() -> None:
    found = Build.of("gridworld", model="openai:test")
    env = GridWorld()
    assert found.train == len(env.tasks("train"))
    assert [len(world.test) for world in worlds(found)] == [2 * 28] * 4
    assert (found.splits, found.seeds, found.k, found.key) == (("dev", "test"), 4, 2, "avefact")
    assert found.max_steps == GRIDWORLD_STEPS
    assert [world.name for world in worlds(found)] == [f"universe-{seed}" for seed in range(4)]


def test_build_samples_scienceworld_as_retrieve_does() -> None:
    found = Build.of("scienceworld", model="openai:test")
    assert (found.episodes, found.train, found.k, found.max_steps) == (60, 150, 4, None)
    assert found.splits == ("dev", "test")


def test_what_is_given_goes_before_the_defaults() -> None:
    given = Build.of("gridworld", k=7, max_steps=None, splits=(), seeds=1, seed=3)
    assert (given.k, given.max_steps, given.splits) == (7, GRIDWORLD_STEPS, ("dev", "test"))
    assert given.all_seeds == (3,)


def test_every_study_has_defaults_in_every_environment() -> None:
    assert {study: tuple(found) for study, found in SCALES.items()} == dict.fromkeys(SCALES, ENVIRONMENTS)


def test_the_help_names_the_defaults_of_each_environment() -> None:
    text = " ".join(CliRunner().invoke(main, ["build", "--help"]).stdout.split())
    assert "Tasks per arm, split and seed [default: gridworld 28, scienceworld 60]" in text
    assert f"[default: gridworld {GRIDWORLD_STEPS}, scienceworld the environment's]" in text
    assert "may be given twice [default: dev and test]" in text


def test_where_nobody_names_a_model_the_grid_world_takes_the_bundled_ones() -> None:
    assert Build.of("gridworld").model == "local:memp-base"
    assert Build.of("gridworld", model="openai:x").model == "openai:x"
    assert Build.of("gridworld", agent="replay", fallback="llm").model == "local:memp-base"
    assert Transfer.of("gridworld").all_models == ("local:memp-small", "local:memp-base")
    assert Build.of("gridworld", agent="replay").model is None
    assert Build.of("scienceworld").model is None


@pytest.mark.parametrize(("model", "at_once"), [(None, 2), ("openai:local:x", 2), ("local:memp-base", 32)])
def test_a_local_model_answers_many_episodes_at_once(model: str | None, at_once: int) -> None:
    assert concurrency(replace(SMALL, model=model)) == at_once


# --- worlds ---


def test_the_universe_of_a_seed_is_tested_with_that_seed_alone() -> None:
    found = worlds(replace(SMALL, seed=5, seeds=2))
    assert [(world.name, world.seeds) for world in found] == [("universe-5", (5,)), ("universe-6", (6,))]
    tasks = [{task.id for task in (*world.train, *world.test)} for world in found]
    assert tasks[0].isdisjoint(tasks[1])


def test_only_experts_may_take_longer_than_the_step_budget() -> None:
    (world,) = worlds(SMALL)
    env, expert_env = world.groups[0].open_env(), world.open_for_experts()
    assert isinstance(env, GridWorld)
    assert isinstance(expert_env, GridWorld)
    assert (env.max_steps, expert_env.max_steps) == (1, 1000)


# --- plans ---


def test_the_arms_of_a_study_differ_in_one_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    found = build.plan(Build.of("gridworld", model="openai:test", agent="random", seeds=1))
    drawn, *recalls = [arm.recall for arm in found.arms if arm.recall is not None]
    assert [recall.recipe for recall in recalls] == [recipe.name for recipe in found.recipes]
    assert len({(recall.key, recall.k) for recall in recalls}) == 1
    assert drawn == replace(recalls[-1], key="random")

    found = retrieve.plan(SMALL)
    recalls = [arm.recall for arm in found.arms if arm.recall is not None]
    assert len({(recall.recipe, recall.k) for recall in recalls}) == 1
    assert len({recall.key for recall in recalls}) == 3


# --- the identity of a model ---


def model_in(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_a_model_is_another_one_after_training(tmp_path: Path) -> None:
    before = model_in(tmp_path / "a")
    same, trained = model_in(tmp_path / "b"), model_in(tmp_path / "c", b"trained")
    assert fingerprint(before) == fingerprint(same) != fingerprint(trained)
    (same / "tokenizer.json").write_text('{"new": 1}')
    assert fingerprint(before) != fingerprint(same)


def test_what_does_not_decide_the_answers_is_no_part_of_a_model(tmp_path: Path) -> None:
    model = model_in(tmp_path / "a")
    before = fingerprint(model)
    (model / "README.md").write_text("news")
    assert fingerprint(model) == before


def test_a_folder_without_a_model_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        fingerprint(tmp_path)


class InFolder(ScriptedChat):
    """A chat model that lies in a folder."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(lambda _: "- a fact")
        self.path = path


def with_model(path: Path | str) -> Plan:
    return replace(retrieve.plan(SMALL), chat=InFolder(path))


def test_the_manifest_says_which_weights_answered(tmp_path: Path) -> None:
    model = model_in(tmp_path / "model")
    run(with_model(str(model)), Folder(tmp_path / "out"))
    manifest = manifest_in(tmp_path / "out")
    assert list(manifest["model_sha256"].values()) == [fingerprint(model)]
    assert {"torch", "transformers"} <= manifest["versions"].keys()

    (model / "model.safetensors").write_bytes(b"trained")
    with pytest.raises(InputError, match="it differs in model_sha256; give another --out"):
        run(with_model(model), Folder(tmp_path / "out"))


@pytest.mark.parametrize("path", ["hub/model", Path("/nowhere")])
def test_a_model_that_lies_in_no_folder_has_its_name_alone(path: Path | str) -> None:
    assert describe(with_model(path))["model_sha256"] == {}


# --- counted tokens ---


def test_counting_changes_neither_name_nor_answer_and_sums_the_tokens() -> None:
    plain, told = ScriptedChat(["one", "two two"]), list[int]()
    chat = Counted(plain, told.append)
    replies = [chat.reply([{"role": "user", "content": "hello"}], max_tokens=9) for _ in range(2)]
    assert chat.name == plain.name
    assert [reply.text for reply in replies] == ["one", "two two"]
    assert (chat.tokens_in, chat.tokens_out) == (
        sum(reply.tokens_in for reply in replies),
        sum(reply.tokens_out for reply in replies),
    )
    assert told == [1, 2]
    assert plain.calls[0].max_tokens == 9


def test_what_was_not_answered_is_not_counted() -> None:
    chat = Counted(ScriptedChat([]))
    with pytest.raises(ModelError):
        chat.reply([{"role": "user", "content": "hello"}])
    assert (chat.replies, chat.tokens_in) == (0, 0)
