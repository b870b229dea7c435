"""Studies: fair arms, no leaks, nothing lost by an interruption, and a manifest that says it all."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from evals.__main__ import main
from evals.arms import AGENTS
from evals.folder import Folder
from evals.reports.summary import Line
from evals.rows import Lines, Row
from evals.runner import Found, Progress, SoFar, for_each, run_episode
from evals.studies import retrieve
from evals.studies.retrieve import Retrieve
from evals.study import run as run_plan
from evals.worlds import ENVIRONMENTS, sample
from memp import Match, ProceduralMemory, ScriptedChat, Trajectory
from memp.agents import LLMAgent, RandomAgent
from memp.errors import InputError, TaskError
from memp.procedure import procedure_id
from tasks.base import TextEnv, expert_trajectory, spread
from tasks.gridworld import GridWorld
from tests.openai_server import Messages, OpenAIServer, Response, error
from tests.studies import FACTS, by_key, change_manifest, copied, manifest_in, rows_in
from tests.studies import run as run_study

CHECKOUT = Path(__file__).parent.parent

SMALL = Retrieve(env="gridworld", agent="replay", episodes=8, train=16)

ARMS = ("none", "random", "query", "avefact")

MEMORY = Path("universe-0") / "trajectory.db"

EXPERTS = "universe-0/trajectories.jsonl"


def run(out: Path, settings: Retrieve = SMALL, *, workers: int = 2) -> list[Line]:
    return run_study(out, settings, workers=workers)


def ran(out: Path, settings: Retrieve) -> list[Row]:
    """Run a study without a report; return its episodes."""
    run_plan(retrieve.plan(settings), Folder(out))
    return rows_in(out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that ran without interruption; left as it is by the tests."""
    out = tmp_path_factory.mktemp("whole")
    run(out)
    return out


# --- fair arms ---


def test_all_arms_have_the_same_tasks_and_seeds(whole: Path) -> None:
    by_arm = {
        arm: sorted((row.task, row.split, row.seed) for row in rows_in(whole) if row.arm == arm)
        for arm in ARMS
    }
    assert len(by_arm["none"]) == 8
    assert all(tasks == by_arm["none"] for tasks in by_arm.values())


def test_arms_are_those_of_the_paper(whole: Path) -> None:
    assert {row.arm for row in rows_in(whole)} == {"none", "random", "query", "avefact"}


def test_all_arms_have_the_same_step_budget(tmp_path: Path) -> None:
    rows = ran(tmp_path, replace(SMALL, agent="random", max_steps=7))
    assert {(arm, max(row.steps for row in rows if row.arm == arm)) for arm in ARMS} == {
        (arm, 7) for arm in ARMS
    }


def test_an_agent_that_ignores_its_memory_does_the_same_in_every_arm(tmp_path: Path) -> None:
    rows = ran(tmp_path, replace(SMALL, agent="random"))
    found: dict[str, set[tuple[float, int]]] = {}
    for row in rows:
        found.setdefault(row.task, set()).add((row.reward, row.steps))
    assert all(len(outcomes) == 1 for outcomes in found.values())


def test_only_the_arm_without_memory_is_shown_nothing(whole: Path) -> None:
    assert {(row.arm, len(row.shown)) for row in rows_in(whole)} == {
        ("none", 0),
        ("random", 4),
        ("query", 4),
        ("avefact", 4),
    }


def test_k_procedures_are_shown(tmp_path: Path) -> None:
    rows = ran(tmp_path, replace(SMALL, k=3))
    assert {len(set(row.shown)) for row in rows if row.arm != "none"} == {3}


def test_seeds_that_share_a_world_share_its_memory_and_draw_other_samples_of_it(tmp_path: Path) -> None:
    plan = retrieve.plan(SMALL)
    shared = replace(plan, worlds=(replace(plan.worlds[0], seeds=(0, 1)),))
    rows = run_plan(shared, Folder(tmp_path))

    assert {row.task for row in rows if row.seed == 0} == {row.task for row in rows if row.seed == 1}
    shown = {(row.arm, row.task, row.seed): row.shown for row in rows}
    tasks = {row.task for row in rows}
    assert all(shown["query", task, 0] == shown["query", task, 1] for task in tasks)
    assert all(shown["random", task, 0] != shown["random", task, 1] for task in tasks)
    assert len(list(tmp_path.rglob("*.db"))) == 1


def test_memory_of_the_same_place_helps(tmp_path: Path) -> None:
    settings = replace(SMALL, splits=("dev",), train=64, fallback="random")
    lines = run(tmp_path, settings)
    reward = {line.arm: line.mean for line in lines if line.metric == "reward"}
    assert reward["query"] > reward["none"]


def test_each_split_is_run_once_however_often_it_is_named(tmp_path: Path) -> None:
    rows = ran(tmp_path, replace(SMALL, splits=("test", "dev", "test")))
    assert len(rows) == len({row.key for row in rows}) == 2 * 8 * 4


# --- rows ---


def test_a_row_holds_the_documented_fields(whole: Path) -> None:
    fields = {
        "arm",
        "task",
        "split",
        "seed",
        "success",
        "reward",
        "steps",
        "tokens_in",
        "tokens_out",
        "shown",
    }
    for line in (whole / "episodes.jsonl").read_text().splitlines():
        assert json.loads(line).keys() == fields | {"kind", "model", "source", "group"}


def test_shown_procedures_are_those_of_the_memory(whole: Path) -> None:
    with ProceduralMemory.open(whole / MEMORY, create=False) as memory:
        known = {procedure.id for procedure in memory.procedures()}
    assert {shown for row in rows_in(whole) for shown in row.shown} <= known


def test_running_again_adds_nothing(whole: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "again")
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".json", ".jsonl")}
    run(out)
    assert {name: (out / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("workers", [1, 4])
def test_any_concurrency_gives_the_same_rows(whole: Path, tmp_path: Path, workers: int) -> None:
    summary = run(tmp_path, workers=workers)
    assert by_key(rows_in(tmp_path)) == by_key(rows_in(whole))
    assert [line._asdict() for line in summary] == json.loads((whole / "summary.json").read_text())


# --- interruptions ---


def resumed(out: Path, whole: Path) -> None:
    """Run what an interruption left, and compare with a study that was not interrupted."""
    run(out)
    rows = rows_in(out)
    assert len(rows) == len({row.key for row in rows})
    assert by_key(rows) == by_key(rows_in(whole))
    assert (out / "summary.json").read_text() == (whole / "summary.json").read_text()


@pytest.mark.parametrize("left", [0, 1, 300, 2000, -1, -2])
def test_a_study_cut_off_at_any_byte_resumes_to_the_same_summary(
    whole: Path, tmp_path: Path, left: int
) -> None:
    out = copied(whole, tmp_path / "cut", "manifest.json", EXPERTS, "episodes.jsonl")
    data = (out / "episodes.jsonl").read_bytes()
    (out / "episodes.jsonl").write_bytes(data[:left])
    resumed(out, whole)


def test_expert_trajectories_cut_off_in_a_line_are_made_again(whole: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "cut", "manifest.json", EXPERTS)
    data = (out / EXPERTS).read_bytes()
    (out / EXPERTS).write_bytes(data[: len(data) // 2])
    resumed(out, whole)


def command(out: Path, *more: str) -> list[str]:
    options = ["--env", "gridworld", "--agent", "random", "--out", str(out), *more]
    return [sys.executable, "-m", "evals", "retrieve", *options]


LONG = ("--episodes", "32", "--train", "16", "--split", "dev", "--split", "test")


def when_begun(process: subprocess.Popen[bytes], out: Path) -> None:
    """Wait until a study has some rows."""
    path = out / "episodes.jsonl"
    while process.poll() is None and not (path.exists() and path.stat().st_size > 2000):
        time.sleep(0.002)


def test_ctrl_c_ends_the_study_at_once_and_keeps_its_rows(tmp_path: Path) -> None:
    with subprocess.Popen(
        command(tmp_path, *LONG), cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        when_begun(process, tmp_path)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert process.returncode == 1
    assert said.strip().splitlines()[-1] == b"Aborted!"
    assert 0 < len(rows_in(tmp_path)) < 64 * 4


def test_an_interrupt_waits_for_no_episode_that_has_not_begun() -> None:
    done: list[int] = []
    interrupt = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT])

    def work(env: TextEnv, job: int) -> None:
        time.sleep(0.05)
        done.append(job)

    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        for_each(range(200), work, GridWorld, workers=2)
    interrupt.join()
    assert 0 < len(done) < 20


class Failing(GridWorld):
    """Breaks in one place."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if options is not None and "unlock" not in options["task"]:
            raise TaskError("the environment broke")
        return super().reset(seed, options)


@pytest.mark.parametrize("workers", [1, 4])
def test_an_environment_that_raises_stops_the_run_and_keeps_what_was_done(
    tmp_path: Path, workers: int
) -> None:
    lines = Lines(tmp_path / "t.jsonl", Trajectory)
    tasks = sample(GridWorld(), "train", 32)

    with pytest.raises(TaskError, match="the environment broke"):
        for_each(
            tasks, lambda env, task: lines.add(expert_trajectory(env, task.id)), Failing, workers=workers
        )

    kept = Lines(tmp_path / "t.jsonl", Trajectory).held
    assert 0 < len(kept) < 32
    assert all("unlock" in found.task_id for found in kept)


def test_an_environment_that_cannot_be_opened_stops_the_run() -> None:
    def broken() -> TextEnv:
        raise TaskError("no Java")

    with pytest.raises(TaskError, match="no Java"):
        for_each([1, 2, 3], lambda *_: None, broken, workers=2)


def test_every_worker_closes_its_environment() -> None:
    closed: list[object] = []

    class Closing(GridWorld):
        def close(self) -> None:
            closed.append(self)

    for_each(range(9), lambda *_: time.sleep(0.01), Closing, workers=3)
    assert len(set(closed)) == len(closed) == 3


def test_no_jobs_open_no_environment() -> None:
    def never() -> TextEnv:
        raise AssertionError

    for_each([], lambda *_: None, never, workers=2)


# --- another study's folder ---


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed, split_digest"),
        ({"k": 2}, "k"),
        ({"agent": "random"}, "agent"),
        ({"episodes": 4}, "episodes, split_digest, episodes_per_arm"),
        ({"max_steps": 9}, "max_steps"),
    ],
)
def test_the_folder_of_another_study_is_refused_naming_what_differs(
    whole: Path, change: dict[str, Any], named: str
) -> None:
    before = (whole / "episodes.jsonl").read_bytes()
    with pytest.raises(InputError, match=f"holds another study: it differs in {named}; give another --out"):
        run(whole, replace(SMALL, **change))
    assert (whole / "episodes.jsonl").read_bytes() == before


def test_a_folder_whose_rows_are_no_episodes_is_refused_with_the_line(whole: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "odd", "manifest.json", EXPERTS)
    first = (whole / "episodes.jsonl").read_bytes().splitlines(keepends=True)[0]
    (out / "episodes.jsonl").write_bytes(first + b'{"arm": 1}\n' + first)
    with pytest.raises(InputError, match=r"episodes\.jsonl line 2 is no row"):
        run(out)


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="is no manifest"):
        run(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="cannot hold the results"):
        run(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"env": "gridwrld"}, r"unknown environment 'gridwrld'. Did you mean 'gridworld'\?"),
        ({"agent": "replai"}, r"unknown agent 'replai'. Did you mean 'replay'\?"),
        ({"fallback": "randm"}, r"unknown agent 'randm'. Did you mean 'random'\?"),
        ({"embedder": "hsh"}, r"unknown embedder 'hsh'. Did you mean 'hash'\?"),
        ({"model": "opnai:m"}, r"unknown chat model provider 'opnai'. Did you mean 'openai'\?"),
        ({"agent": "llm"}, "the agent 'llm' needs a chat model: --model openai:<model>"),
        ({"agent": "random", "fallback": "random"}, "only the agent 'replay' hands over"),
        ({"splits": ("train",)}, r"\d+ tasks are both in the memory and under test"),
    ],
)
def test_a_study_that_cannot_run_says_why_and_leaves_nothing_behind(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        run(tmp_path / "out", replace(SMALL, **change))
    assert not (tmp_path / "out").exists()


# --- no leaks, a frozen memory ---


def planted() -> Trajectory:
    """The expert's trajectory of the first task under test."""
    env = GridWorld()
    return expert_trajectory(env, sample(env, "test", SMALL.episodes)[0].id)


def test_a_test_trajectory_planted_among_the_experts_is_not_built(whole: Path, tmp_path: Path) -> None:
    leak = planted()
    (tmp_path / EXPERTS).parent.mkdir()
    (tmp_path / EXPERTS).write_text(leak.model_dump_json() + "\n")
    run(tmp_path)
    assert all(procedure_id(leak.source) not in row.shown for row in rows_in(tmp_path))
    assert (tmp_path / "summary.json").read_text() == (whole / "summary.json").read_text()


def test_a_test_procedure_planted_in_the_memory_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "episodes.jsonl").unlink()
    with ProceduralMemory.open(tmp_path / MEMORY) as memory:
        memory.update([planted()])
    with pytest.raises(InputError, match="which this study had not done"):
        run(tmp_path)
    assert rows_in(tmp_path) == []


def test_results_without_their_manifest_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"without its manifest\.json"):
        run(tmp_path)


def test_the_memory_holds_the_training_tasks_and_no_other(whole: Path) -> None:
    env = GridWorld()
    with ProceduralMemory.open(whole / MEMORY, create=False) as memory:
        sources = {procedure.source for procedure in memory.procedures()}
    assert sources == {task.id for task in sample(env, "train", SMALL.train)}
    assert sources.isdisjoint(row.task for row in rows_in(whole))


def tamper(path: Path) -> None:
    with ProceduralMemory.open(path / MEMORY) as memory:
        procedure = next(memory.procedures())
        assert procedure.trajectory is not None
        memory.update([procedure.trajectory.model_copy(update={"steps": procedure.trajectory.steps[:1]})])


def test_a_memory_changed_between_two_runs_is_refused(whole: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "out")
    tamper(out)
    with pytest.raises(InputError, match=r"the memory in .* is not the one this study began with"):
        run(out)


def test_a_memory_changed_during_a_run_is_noticed(tmp_path: Path) -> None:
    def progress(stage: str, done: int, total: int, so_far: SoFar | None) -> None:
        if stage == "episodes" and done == 5:
            tamper(tmp_path)

    with pytest.raises(InputError, match=r"the memory in .* is not the one this study began with"):
        run_study(tmp_path, SMALL, workers=1, progress=progress)


# --- the manifest ---


def test_the_manifest_names_all_that_decided_the_result(whole: Path) -> None:
    manifest = manifest_in(whole)
    with ProceduralMemory.open(whole / MEMORY, create=False) as memory:
        digest = memory.digest()
    assert manifest["memories"]["universe-0/trajectory"]["digest"] == digest
    assert manifest["memory"] == {"embedder": "hash:char3-5-2048-v1", "facts": "keywords-1"}
    assert manifest["prompts"].keys() == {"act", "distil", "facts", "reflect"}
    assert all(isinstance(version, int) for version in manifest["prompts"].values())
    assert re.fullmatch(r"[0-9a-f]{64}", manifest["split_digest"])
    assert (manifest["study"], manifest["env"], manifest["env_name"]) == (
        "retrieve",
        "gridworld",
        "gridworld-1",
    )
    assert (manifest["seed"], manifest["k"], manifest["episodes"], manifest["train"]) == (0, 4, 8, 16)
    assert (manifest["agent"], manifest["model"], manifest["splits"]) == ("replay", None, ["test"])
    assert manifest["commit"]
    assert {"memp", "numpy"} <= manifest["versions"].keys()


def test_the_manifest_says_which_chat_model_extracts_the_facts(tmp_path: Path, server: OpenAIServer) -> None:
    settings = replace(SMALL, episodes=1, train=1, model="openai:test")
    ran(tmp_path, settings)
    assert re.fullmatch(r"openai:test/facts-\d+", manifest_in(tmp_path)["memory"]["facts"])


def test_a_machine_without_git_runs_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run(tmp_path / "out", replace(SMALL, episodes=1, train=1))
    assert manifest_in(tmp_path / "out")["commit"] == "unknown"


def test_progress_is_told_of_every_trajectory_and_episode(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    progress: Progress = lambda *at: told.append(at[:3])  # noqa: E731
    run_study(tmp_path, SMALL, workers=1, progress=progress)
    assert [at for at in told if at[0] == "experts"] == [("experts", done, 16) for done in range(17)]
    assert [at for at in told if at[0] == "memory"] == [("memory", 16, 16)]
    assert [at for at in told if at[0] == "episodes"] == [("episodes", done, 32) for done in range(33)]


# --- language models ---


def answer(messages: Messages) -> str:
    """Act, or list facts, whatever is asked for."""
    return FACTS if "List the facts" in messages[-1]["content"] else "Action: move_right"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer(answer) as found:
        monkeypatch.setenv("OPENAI_BASE_URL", found.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        yield found


def test_an_llm_runs_in_every_arm_and_its_tokens_are_counted(tmp_path: Path, server: OpenAIServer) -> None:
    settings = replace(SMALL, agent="llm", model="openai:test", episodes=4, train=4, max_steps=2)
    rows = ran(tmp_path, settings)

    assert len(rows) == 4 * 4
    told = {"avefact": len(FACTS.split())}
    assert all(row.tokens_in > 0 for row in rows)
    assert all(row.tokens_out == 2 * row.steps + told.get(row.arm, 0) for row in rows)
    asked = [request.prompt for request in server.requests if "List the facts" not in request.prompt]
    assert len(asked) == sum(row.steps for row in rows)
    with_guidance = sum("<procedural-memory>" in prompt for prompt in asked)
    assert with_guidance == sum(row.steps for row in rows if row.arm != "none")


def test_a_chat_server_that_fails_stops_the_study_which_then_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "--env",
        "gridworld",
        "--agent",
        "llm",
        "--model",
        "openai:test",
        "--episodes",
        "4",
        "--seeds",
        "1",
    ]
    options += [
        "--train",
        "4",
        "--max-steps",
        "2",
        "--concurrency",
        "1",
        "--no-cache",
        "--out",
        str(tmp_path),
    ]
    left = 5

    def reply(messages: Messages) -> str | Response:
        nonlocal left
        left -= 1
        return error(401, "no more credit") if left < 0 else answer(messages)

    with OpenAIServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        failed = CliRunner().invoke(main, ["retrieve", *options])
        begun = rows_in(tmp_path)
        left = 1000
        done = CliRunner().invoke(main, ["retrieve", *options])

    assert failed.exit_code == 1
    assert "Error: openai:test: the server answered 401: 'no more credit'" in failed.stderr
    assert done.exit_code == 0
    rows = rows_in(tmp_path)
    assert begun
    assert rows[: len(begun)] == begun
    assert len(rows) == len({row.key for row in rows}) == 16


def test_an_episode_reports_what_its_agent_was_shown_and_cost() -> None:
    env, chat = GridWorld(), ScriptedChat(lambda _: "Action: move_right")
    task = env.tasks("test")[0].id
    asked: list[str] = []

    def find(text: str, tokens: int = 0) -> Found:
        asked.append(text)
        return Found((), tokens, tokens)

    outcome = run_episode(env, task, LLMAgent(chat), find, seed=0, episode_id="e")
    assert len(outcome.trajectory.steps) == len(chat.calls) == env.max_steps
    assert outcome.tokens_in > 0
    dearer = run_episode(env, task, LLMAgent(chat), partial(find, tokens=7), seed=0)
    assert dearer.tokens_in - outcome.tokens_in == dearer.tokens_out - outcome.tokens_out == 7
    assert (outcome.trajectory.shown, outcome.trajectory.episode_id) == ((), "e")
    assert asked == 2 * [env.reset(0, {"task": task})[1]["task"]]


def test_an_episode_ends_where_the_agent_gives_up() -> None:
    class GivesUp:
        name = "gives-up"

        def start(self, task: str, matches: Sequence[Match] = (), *, seed: int = 0) -> Any:
            policy = RandomAgent().start(task)
            policy.act = lambda observation, admissible: None  # type: ignore[method-assign]
            return policy

    env = GridWorld()
    outcome = run_episode(env, env.tasks("test")[0].id, GivesUp(), lambda _: Found(()), seed=0)
    assert (outcome.trajectory.steps, outcome.success) == ((), False)


# --- the sample of tasks ---


def test_a_sample_takes_as_many_of_each_kind() -> None:
    kinds = [task.kind for task in sample(GridWorld(), "test", 8)]
    assert {kinds.count(kind) for kind in kinds} == {2}


def test_a_sample_leaves_out_no_kind() -> None:
    assert len({task.kind for task in sample(GridWorld(), "test", 1)}) == 4


def test_a_sample_larger_than_the_split_takes_all_of_it_once() -> None:
    env = GridWorld()
    assert sorted(task.id for task in sample(env, "dev", 10_000)) == sorted(
        task.id for task in env.tasks("dev")
    )


def test_a_split_without_tasks_is_refused() -> None:
    class Empty(GridWorld):
        def tasks(self, split: Any) -> Any:
            return []

    with pytest.raises(InputError, match="gridworld-1 has no tasks in the split 'dev'"):
        sample(Empty(), "dev", 5)


def test_spread_takes_evenly_and_never_twice() -> None:
    tasks = list(GridWorld().tasks("train"))
    taken = spread(tasks, 5)
    gaps = [tasks.index(after) - tasks.index(before) for before, after in pairwise(taken)]
    assert len(taken) == 5
    assert max(gaps) - min(gaps) <= 1


# --- the command ---


def test_the_command_prints_the_table_with_every_arm_and_says_where_it_is(tmp_path: Path) -> None:
    options = ["--env", "gridworld", "--agent", "replay", "--episodes", "4", "--train", "4"]
    result = CliRunner().invoke(main, ["retrieve", *options, "--out", str(tmp_path / "[x]")])
    assert result.exit_code == 0, result.output
    assert re.findall(r"^ test +(\w+) ", result.stdout, re.MULTILINE) == list(ARMS)
    assert f"everything is in {tmp_path / '[x]'}\n" in result.stdout
    assert {path.name for path in (tmp_path / "[x]").iterdir()} >= {
        *("episodes.jsonl", "manifest.json", "summary.json", "table.md", "universe-0"),
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--env", "gridwrld", "--agent", "random"], "Did you mean 'gridworld'?"),
        (["--env", "gridworld", "--agent", "randon"], "Did you mean 'random'?"),
    ],
)
def test_the_command_fails_with_one_line(tmp_path: Path, given: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["retrieve", *given, "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert result.stdout == ""  # no bars of what never began
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: unknown ")
    assert said in line


def test_the_command_names_all_environments_and_agents() -> None:
    text = CliRunner().invoke(main, ["retrieve", "--help"]).stdout
    assert all(name in text for name in (*ENVIRONMENTS, *AGENTS))


def test_results_go_to_runs_where_no_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--env", "gridworld", "--agent", "random", "--episodes", "1", "--train", "1", "--seed", "3"]
    assert CliRunner().invoke(main, ["retrieve", *options]).exit_code == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["retrieve-gridworld-random-3"]


def test_a_run_that_goes_on_at_another_commit_names_both(tmp_path: Path) -> None:
    run(tmp_path)
    manifest = manifest_in(tmp_path)
    change_manifest(tmp_path, commit="earlier")
    run(tmp_path)
    assert manifest_in(tmp_path)["commit"] == f"earlier, {manifest['commit']}"


def test_a_run_that_goes_on_with_other_libraries_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    change_manifest(tmp_path, versions={"numpy": "0.1"})
    with pytest.raises(InputError, match="it differs in versions"):
        run(tmp_path)
