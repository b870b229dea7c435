"""The study `build`: a memory of each granularity from the same trajectories, and what each is worth and costs."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from evals.__main__ import main
from evals.runner import SoFar
from evals.studies.build import Build
from evals.worlds import sample
from memp import ProceduralMemory
from memp.errors import InputError, ModelError
from memp.procedure import Procedure
from tasks.base import expert_trajectory
from tasks.gridworld import GridWorld
from tests.factories import NOW
from tests.openai_server import Messages, Request, Response, error
from tests.studies import (
    DISTIL,
    FACTS,
    SCRIPT,
    Reply,
    answer,
    by_key,
    change_manifest,
    copied,
    manifest_in,
    rows_in,
    run,
    serving,
)

SMALL = Build(
    env="gridworld",
    model="openai:test",
    splits=("dev", "test"),
    episodes=4,
    train=8,
    k=1,
    max_steps=2,
)

BUILT = ("script", "trajectory", "proceduralization")

ARMS = ("none", "random", *BUILT)

SCRIPT_TOKENS = len(SCRIPT.split())  # as the server counts


def is_distil(messages: Messages) -> bool:
    return DISTIL in messages[-1]["content"]


def memory_of(out: Path, name: str, universe: int = 0) -> Path:
    return out / f"universe-{universe}" / f"{name}.db"


def procedures(out: Path, name: str, universe: int = 0) -> list[Procedure]:
    with ProceduralMemory.open(memory_of(out, name, universe), create=False) as memory:
        return list(memory.procedures())


def distilled(requests: list[Request]) -> list[Request]:
    return [request for request in requests if DISTIL in request.prompt]


class Whole:
    """A study that ran without interruption, and what it asked the model; left as it is by the tests."""

    def __init__(self, out: Path) -> None:
        self.out = out
        with serving() as server:
            self.summary = run(out, SMALL)
            self.requests = server.requests
        self.rows = rows_in(out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"))


# --- fair arms ---


def test_every_arm_runs_every_task_of_both_splits(whole: Whole) -> None:
    found = {
        arm: sorted((row.task, row.split, row.seed) for row in whole.rows if row.arm == arm) for arm in ARMS
    }
    assert {row.arm for row in whole.rows} == set(ARMS)
    assert [split for _, split, _ in found["none"]].count("dev") == 4
    assert len(set(found["none"])) == len(found["none"]) == 8
    assert all(tasks == found["none"] for tasks in found.values())


def test_each_memory_keeps_what_its_arm_is_named_for(whole: Whole) -> None:
    kept = {
        name: {
            (found.script is not None, found.trajectory is not None) for found in procedures(whole.out, name)
        }
        for name in BUILT
    }
    assert kept == {
        "script": {(True, False)},
        "trajectory": {(False, True)},
        "proceduralization": {(True, True)},
    }


def test_all_memories_are_built_from_the_same_training_tasks(whole: Whole) -> None:
    train = [task.id for task in sample(GridWorld(), "train", SMALL.train)]
    assert {name: [found.source for found in procedures(whole.out, name)] for name in BUILT} == dict.fromkeys(
        BUILT, train
    )


def test_the_built_arms_are_shown_the_same_procedures_each_in_its_form(whole: Whole) -> None:
    shown = {(row.arm, row.task): row.shown for row in whole.rows}
    assert all(shown[name, row.task] == shown["script", row.task] for row in whole.rows for name in BUILT)
    assert all(not row.shown for row in whole.rows if row.arm == "none")
    begun = [
        request.prompt
        for request in whole.requests
        if "Task:" in request.prompt and DISTIL not in request.prompt and len(request.body["messages"]) == 2
    ]
    forms = [("How to" in prompt, "What was done:" in prompt) for prompt in begun]
    assert {form: forms.count(form) for form in forms} == {
        (False, False): 8,
        (True, False): 8,
        (False, True): 8,
        (True, True): 16,  # also of `random`
    }


def test_the_random_arm_is_shown_as_much_chosen_by_chance(whole: Whole) -> None:
    shown = {(row.arm, row.task): row.shown for row in whole.rows}
    drawn = [found for (arm, _), found in shown.items() if arm == "random"]
    assert {len(found) for found in drawn} == {SMALL.k}
    assert drawn != [found for (arm, _), found in shown.items() if arm == "script"]


def test_differences_to_no_memory_are_summed_up_for_every_arm_and_split(whole: Whole) -> None:
    lines = json.loads((whole.out / "summary.json").read_text())
    for metric in ("success_over_none", "reward_over_none", "steps_over_none"):
        found = [(line["split"], line["arm"], line["n"]) for line in lines if line["metric"] == metric]
        assert found == [(split, arm, 4) for split in ("dev", "test") for arm in ARMS[1:]]


def test_two_seeds_are_two_universes_each_with_memories_of_its_own(tmp_path: Path) -> None:
    with serving():
        run(tmp_path, replace(SMALL, seed=1, seeds=2, train=4, splits=("test",), max_steps=1))
    rows = rows_in(tmp_path)
    for universe in (1, 2):
        known = {task.id for task in GridWorld(universe).tasks("test")}
        mine = [row for row in rows if row.seed == universe]
        assert len(mine) == 4 * len(ARMS)
        assert {row.task for row in mine} <= known
        for name in BUILT:
            held = procedures(tmp_path, name, universe)
            assert {found.source for found in held} <= {
                task.id for task in GridWorld(universe).tasks("train")
            }
            shown = {shown for row in mine if row.arm == name for shown in row.shown}
            assert shown <= {found.id for found in held}
    assert len(rows) == len({row.key for row in rows}) == 2 * 4 * len(ARMS)
    assert "universe-1/script" in manifest_in(tmp_path)["memories"]
    assert "script: 8 procedures in 2 memories" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("key", ["avefact", "random"])
def test_another_key_finds_the_procedures_of_every_arm(tmp_path: Path, key: Any) -> None:
    with serving() as server:
        run(tmp_path, replace(SMALL, key=key, splits=("test",), train=4, max_steps=1))
    assert {len(row.shown) for row in rows_in(tmp_path) if row.arm != "none"} == {1}
    asked = sum("List the facts" in request.prompt for request in server.requests)
    assert (asked > 0) == (key == "avefact")
    assert manifest_in(tmp_path)["key"] == key


def test_the_facts_that_an_episode_is_found_by_count_in_its_tokens(tmp_path: Path) -> None:
    with serving():
        run(tmp_path, replace(SMALL, key="avefact", splits=("test",), train=4, max_steps=1))
    acted, told = len("Action: wait".split()), len(FACTS.split())
    for row in rows_in(tmp_path):
        assert row.tokens_out == acted + (0 if row.arm in ("none", "random") else told)


def test_a_replay_agent_without_memory_acts_at_random(tmp_path: Path) -> None:
    with serving():
        run(tmp_path, replace(SMALL, agent="replay", splits=("dev",), max_steps=9))
    rows = rows_in(tmp_path)
    assert all(row.steps > 0 for row in rows if row.arm == "none")
    assert all(row.steps == 0 for row in rows if row.arm == "script")  # a script cannot be replayed
    assert all(row.steps > 0 for row in rows if row.arm == "trajectory")


# --- what building costs ---


def test_the_manifest_counts_the_tokens_of_each_memory(whole: Whole) -> None:
    memories = manifest_in(whole.out)["memories"]
    asked = distilled(whole.requests)
    assert len(asked) == 2 * SMALL.train
    sent = sum(len(request.prompt.split()) for request in asked)
    for name in ("script", "proceduralization"):
        found = memories[f"universe-0/{name}"]
        assert found["setup_tokens_in"] == sent // 2
        assert found["setup_tokens_out"] == SMALL.train * SCRIPT_TOKENS
    assert memories["universe-0/trajectory"]["setup_tokens_in"] == 0


def test_the_table_says_what_each_memory_holds_and_took_to_build(whole: Whole) -> None:
    found = manifest_in(whole.out)["memories"]["universe-0/script"]
    tokens = found["setup_tokens_in"] + found["setup_tokens_out"]
    text = (whole.out / "table.md").read_text()
    assert f"- script: 8 procedures, 0 set aside, {tokens:,} tokens to build\n" in text
    assert "- trajectory: 8 procedures, 0 set aside, 0 tokens to build\n" in text


def test_the_table_is_headed_with_what_decides_it(whole: Whole) -> None:
    head = (whole.out / "table.md").read_text().splitlines()[0]
    named = ("env_name gridworld-1", "agent llm", "model openai:test", "key query", "k 1", "max_steps 2")
    assert all(part in head for part in ("build", *named, "seed 0", "seeds 1", "commit"))


def test_what_the_model_could_not_distil_is_counted_and_named(tmp_path: Path) -> None:
    bad = [task.id for task in sample(GridWorld(), "train", SMALL.train)][:3]
    left = 3

    def reply(messages: Messages) -> str:
        nonlocal left
        if is_distil(messages) and left:
            left -= 1
            return "I would rather not."
        return answer(messages)

    with serving(reply):
        run(tmp_path, SMALL, workers=1)
    memories = manifest_in(tmp_path)["memories"]
    script = memories["universe-0/script"]
    assert (script["procedures"], script["set_aside"]) == (5, 3)
    assert script["set_aside_tasks"] == bad
    assert script["setup_tokens_out"] == 3 * len("I would rather not.".split()) + 5 * SCRIPT_TOKENS
    assert memories["universe-0/proceduralization"]["set_aside"] == 0
    assert "- script: 5 procedures, 3 set aside," in (tmp_path / "table.md").read_text()
    assert len(rows_in(tmp_path)) == 8 * len(ARMS)


def test_what_was_set_aside_is_not_tried_again_where_the_study_goes_on(tmp_path: Path) -> None:
    with serving(lambda messages: "no" if is_distil(messages) else answer(messages)):
        run(tmp_path, SMALL)
    before = manifest_in(tmp_path)
    (tmp_path / "episodes.jsonl").unlink()
    with serving() as server:
        run(tmp_path, SMALL)
    assert distilled(server.requests) == []
    assert manifest_in(tmp_path) == before
    assert before["memories"]["universe-0/script"]["procedures"] == 0


def refusing(count: int, *, of: Callable[[Messages], bool] = is_distil, status: int = 400) -> Reply:
    """Refuse the first requests of a kind; answer the others."""
    left = count

    def reply(messages: Messages) -> str | Response:
        nonlocal left
        if left and of(messages):
            left -= 1
            return error(status, "this one is too long")
        return answer(messages)

    return reply


def test_what_got_no_answer_is_asked_for_once_more(tmp_path: Path) -> None:
    with serving(refusing(2)) as server:
        run(tmp_path, SMALL, workers=1)
    assert manifest_in(tmp_path)["memories"]["universe-0/script"]["set_aside"] == 0
    assert len(distilled(server.requests)) == 2 * SMALL.train + 2


def test_what_gets_no_answer_from_a_model_that_answers_is_set_aside(tmp_path: Path) -> None:
    first = None

    def reply(messages: Messages) -> str | Response:
        nonlocal first
        if is_distil(messages):
            first = first or messages
            if messages == first:
                return error(400, "this one is too long")
        return answer(messages)

    with serving(reply):
        run(tmp_path, SMALL, workers=1)
    found = manifest_in(tmp_path)["memories"]["universe-0/script"]
    assert (found["procedures"], found["set_aside"]) == (7, 1)


def test_as_many_calls_build_a_memory_as_episodes_run(tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=10)  # breaks, and the test with it, where calls come one by one

    def reply(messages: Messages) -> str:
        if is_distil(messages):
            both.wait()
        return answer(messages)

    with serving(reply):
        run(tmp_path, replace(SMALL, train=4, splits=("test",), max_steps=1), workers=2)
    assert manifest_in(tmp_path)["memories"]["universe-0/script"]["set_aside"] == 0


def test_progress_is_told_of_every_distilled_procedure(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with serving():
        run(tmp_path, SMALL, workers=1, progress=lambda *at: told.append(at[:3]))
    done = [at for stage, at, _ in told if stage == "memory"]
    assert {total for stage, _, total in told if stage == "memory"} == {3 * SMALL.train}
    assert done == sorted(done)
    assert set(done) == {*range(1, 9), 16, *range(17, 25)}


# --- interruptions ---


def test_a_study_stopped_in_the_episodes_goes_on_and_asks_for_nothing_twice(
    whole: Whole, tmp_path: Path
) -> None:
    left = 60

    def reply(messages: Messages) -> str | Response:
        nonlocal left
        left -= 1
        return answer(messages) if left >= 0 else error(401, "no more credit")

    with serving(reply), pytest.raises(ModelError, match="no more credit"):
        run(tmp_path, SMALL)
    begun = rows_in(tmp_path)
    noted = manifest_in(tmp_path)["memories"]
    with serving() as server:
        run(tmp_path, SMALL)

    rows = rows_in(tmp_path)
    assert 0 < len(begun) < len(rows)
    assert rows[: len(begun)] == begun
    assert by_key(rows) == by_key(whole.rows)
    assert distilled(server.requests) == []
    assert manifest_in(tmp_path)["memories"] == noted == manifest_in(whole.out)["memories"]
    assert (tmp_path / "summary.json").read_text() == (whole.out / "summary.json").read_text()


@pytest.mark.parametrize("calls", [0, 3, 10])
def test_an_outage_while_memories_are_built_stops_the_study_which_then_goes_on(
    whole: Whole, tmp_path: Path, calls: int
) -> None:
    left = calls

    def reply(messages: Messages) -> str | Response:
        nonlocal left
        left -= 1
        return answer(messages) if left >= 0 else error(401, "no more credit")

    with serving(reply), pytest.raises(ModelError, match="no more credit"):
        run(tmp_path, SMALL)
    assert rows_in(tmp_path) == []
    noted = manifest_in(tmp_path).get("memories", {})
    assert list(noted) == (["universe-0/script", "universe-0/trajectory"] if calls == 10 else [])
    with serving():
        run(tmp_path, SMALL)
    assert by_key(rows_in(tmp_path)) == by_key(whole.rows)
    assert manifest_in(tmp_path)["memories"] == manifest_in(whole.out)["memories"]
    assert not list(tmp_path.rglob("*.new.db*"))


def test_a_memory_built_but_not_noted_is_built_again(whole: Whole, tmp_path: Path) -> None:
    out = copied(whole.out, tmp_path / "out")
    noted = manifest_in(out)["memories"]
    change_manifest(out, memories={name: noted[name] for name in noted if "script" not in name})
    with serving() as server:
        run(out, SMALL)
    assert len(distilled(server.requests)) == SMALL.train
    assert manifest_in(out)["memories"] == noted


def test_a_lost_memory_is_built_again_and_keeps_its_note(whole: Whole, tmp_path: Path) -> None:
    out = copied(whole.out, tmp_path / "out")
    noted = manifest_in(out)["memories"]
    memory_of(out, "script").unlink()
    with serving():
        run(out, SMALL)
    assert manifest_in(out)["memories"] == noted


def test_a_lost_memory_that_comes_out_differently_is_refused(whole: Whole, tmp_path: Path) -> None:
    out = copied(whole.out, tmp_path / "out")
    memory_of(out, "script").unlink()
    with (
        serving(lambda messages: answer(messages).replace("key", "lock")),
        pytest.raises(InputError, match=r"script\.db is not the one this study began with"),
    ):
        run(out, SMALL)


# --- no leaks, frozen memories ---


@pytest.mark.parametrize("name", BUILT)
def test_a_test_procedure_planted_in_any_memory_is_refused(whole: Whole, tmp_path: Path, name: str) -> None:
    out = copied(whole.out, tmp_path / "out")
    env = GridWorld()
    with ProceduralMemory.open(memory_of(out, name)) as memory:
        memory.update([expert_trajectory(env, sample(env, "test", SMALL.episodes)[0].id)])
    with serving(), pytest.raises(InputError, match=rf"{name}\.db holds a procedure of .* had not done"):
        run(out, SMALL)


@pytest.mark.parametrize("name", BUILT)
def test_any_memory_changed_during_the_run_is_noticed(tmp_path: Path, name: str) -> None:
    def progress(stage: str, done: int, total: int, so_far: SoFar | None) -> None:
        if stage == "episodes" and done == 3:
            with ProceduralMemory.open(memory_of(tmp_path, name)) as memory:
                memory.store.retire(next(memory.procedures()).id, "for the test", NOW)

    with serving(), pytest.raises(InputError, match=rf"{name}\.db is not the one this study began with"):
        run(tmp_path, replace(SMALL, splits=("test",), train=4, max_steps=1), workers=1, progress=progress)


def test_training_on_what_is_tested_is_refused(tmp_path: Path) -> None:
    with serving(), pytest.raises(InputError, match=r"\d+ tasks are both in the memory and under test"):
        run(tmp_path / "out", replace(SMALL, splits=("train",)))
    assert not (tmp_path / "out").exists()


def test_the_folder_of_another_way_of_finding_is_refused(whole: Whole) -> None:
    with serving(), pytest.raises(InputError, match="it differs in key, arms; give another --out"):
        run(whole.out, replace(SMALL, key="avefact"))


def test_the_folder_of_another_study_is_refused(whole: Whole, tmp_path: Path) -> None:
    out = copied(whole.out, tmp_path / "out")
    options = ["--env", "gridworld", "--agent", "random", "--episodes", "4", "--out", str(out)]
    result = CliRunner().invoke(main, ["retrieve", *options])
    assert result.exit_code == 1
    assert result.stdout == ""  # no bars of what never began
    assert "holds another study: it differs in study" in result.stderr


def test_memories_without_their_manifest_are_refused(whole: Whole, tmp_path: Path) -> None:
    shutil.copytree(whole.out / "universe-0", tmp_path / "out" / "universe-0")
    with serving(), pytest.raises(InputError, match=r"proceduralization\.db without its manifest\.json"):
        run(tmp_path / "out", SMALL)


# --- the command ---


def test_without_a_chat_model_the_command_says_at_once_that_it_needs_one(tmp_path: Path) -> None:
    for env, agent in (("scienceworld", "llm"), ("gridworld", "replay")):
        options = ["--env", env, "--agent", agent, "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(main, ["build", *options])
        assert result.exit_code == 1
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("Error: the arms 'script' and 'proceduralization' need a chat model")
        assert "--model" in line
    assert not (tmp_path / "out").exists()


def test_the_command_runs_the_study_and_prints_its_table_and_costs(tmp_path: Path) -> None:
    options = ["--env", "gridworld", "--model", "openai:test", "--split", "test", "--episodes", "4"]
    options += ["--train", "4", "--max-steps", "1", "--seeds", "1", "--no-cache", "--out", str(tmp_path)]
    with serving():
        result = CliRunner().invoke(main, ["build", *options])
    assert result.exit_code == 0, result.output
    assert re.findall(r"^ test +(\w+) +4 ", result.stdout, re.MULTILINE) == list(ARMS)
    assert "\nscript: 4 procedures, 0 set aside, " in result.stdout
    assert re.findall(r"^ test +(\w+) .+ never: each task takes ", result.stdout, re.MULTILINE) == list(
        ARMS[1:]
    )
    assert all(stage in result.stdout for stage in ("experts", "memory", "episodes"))
    assert manifest_in(tmp_path)["k"] == 2  # of the grid world


def test_an_unknown_environment_is_named_before_the_model_is_missed() -> None:
    result = CliRunner().invoke(main, ["build", "--env", "gridwrld"])
    assert "unknown environment 'gridwrld'. Did you mean 'gridworld'?" in result.stderr
