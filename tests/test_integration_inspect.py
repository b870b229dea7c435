"""Evals of Inspect AI with memory, on a model behind the OpenAI protocol."""

from __future__ import annotations

import gc
import re
import sys
from asyncio import sleep
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import anyio
import pytest
from inspect_ai import Task, eval_async
from inspect_ai import eval as run_eval
from inspect_ai.agent import as_solver, react
from inspect_ai.dataset import Sample
from inspect_ai.hooks import RunEnd
from inspect_ai.log import EvalLog
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    ChatMessageUser,
    ModelName,
    get_model,
)
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer
from inspect_ai.solver import Generate, Solver, TaskState, chain, solver
from inspect_ai.tool import ToolCall, ToolDef, ToolError

from memp import ProceduralMemory, Step, Trajectory
from memp.errors import InputError, MissingExtra
from memp.guidance import OPEN
from memp.integrations import inspect_ai
from memp.integrations.inspect_ai import MemoryHooks, first_score, memory_solver
from memp.trajectory import MAX_TEXT
from tests.kitchen import RIGHT_WAY, SEARCH, Asked, Call, Kitchen, KitchenError, KitchenServer, plan, task
from tests.openai_server import OpenAIServer, Request, Response, error
from tests.pages import printed

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]


class BreaksOnce(KitchenServer):
    """A model that fails once, when two calls were made."""

    broken = False

    def move(self, asked: Asked) -> list[Call] | str:
        if len(asked.made) == 1 and not self.broken:
            self.broken = True
            self._faults.append(error(400, "out of order"))
        return super().move(asked)


@pytest.fixture(scope="module", autouse=True)
def _streams_collected() -> Iterator[None]:
    """The framework leaves streams behind; here that is expected, in the tests that follow it is not."""
    yield
    with catch_warnings():
        simplefilter("ignore", ResourceWarning)
        gc.collect()


def waited(function: Callable[..., str]) -> Callable[..., Awaitable[str]]:
    """A tool as Inspect wants it."""

    @wraps(function)
    async def call(**arguments: str) -> str:
        try:
            return function(**arguments)
        except KitchenError as wrong:
            raise ToolError(str(wrong)) from wrong

    return call


kitchens: dict[str, Kitchen] = {}
"""By the id of the sample's run."""


@solver
def cook() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        kitchens[state.uuid] = kitchen = Kitchen()
        made = [ToolDef(waited(function)) for function in kitchen.tools()]
        return await as_solver(react(tools=made))(state, generate)

    return solve


@scorer(metrics=[mean()])
def on_the_table() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=kitchens[state.uuid].reward(target.text))

    return score


def arguments(
    server: OpenAIServer,
    directory: Path,
    solved_by: Solver,
    *samples: Sample,
    scored_by: Scorer | None = None,
) -> dict[str, Any]:
    """What to call an eval with."""
    dataset = list(samples) or [sample("mug")]
    return {
        "tasks": Task(dataset=dataset, solver=solved_by, scorer=scored_by or on_the_table()),
        "model": get_model(
            "openai/test", base_url=server.base_url, api_key="none", memoize=False, responses_api=False
        ),
        "log_dir": str(directory / "logs"),
        "log_realtime": False,
    }


def run(
    server: OpenAIServer,
    solved_by: Solver,
    directory: Path,
    *samples: Sample,
    scored_by: Scorer | None = None,
    **options: Any,
) -> EvalLog:
    (log,) = run_eval(
        **arguments(server, directory, solved_by, *samples, scored_by=scored_by), display="none", **options
    )
    assert not inspect_ai._runs
    return log


def sample(thing: str) -> Sample:
    return Sample(task(thing), target=thing, id=thing)


def kept(memory: ProceduralMemory) -> list[Trajectory]:
    """The unfinished episodes."""
    return [
        Trajectory.model_validate(item.payload["trajectory"])
        for item in memory.quarantine()
        if item.kind == "unfinished"
    ]


def actions(lived: Trajectory | None) -> tuple[str, ...]:
    assert lived is not None
    return tuple(step.action for step in lived.steps)


def calls(log: EvalLog) -> list[int]:
    """How many calls each sample took."""
    assert log.status == "success", log.error
    return [kitchens[str(ran.uuid)].calls for ran in log.samples or ()]


def test_the_second_eval_takes_five_steps_instead_of_eight(
    memory: ProceduralMemory, server: OpenAIServer, tmp_path: Path
) -> None:
    assert calls(run(server, memory_solver(memory, cook(), exclude_own=False), tmp_path)) == [8]
    (procedure,) = memory.procedures()
    assert actions(procedure.trajectory) == SEARCH + RIGHT_WAY
    assert calls(run(server, memory_solver(memory, cook(), exclude_own=False), tmp_path)) == [5]


def test_what_a_sample_taught_is_not_shown_to_itself(
    memory: ProceduralMemory, server: OpenAIServer, tmp_path: Path
) -> None:
    for _ in range(2):
        assert calls(run(server, memory_solver(memory, cook()), tmp_path)) == [8]
        assert OPEN not in str([request.body for request in server.requests])


def test_guidance_is_a_system_message_and_a_memory_that_only_helps_stays_as_it_is(
    memory: ProceduralMemory, server: OpenAIServer, tmp_path: Path
) -> None:
    memory.update([bring("pan"), bring("mug")])
    before = memory.digest(), memory.stats()
    log = run(server, memory_solver(memory, cook(), learn=False), tmp_path, sample("lemon"))

    first, second, third = (log.samples or [])[0].messages[:3]
    assert (first.role, second.role, third.role) == ("system", "system", "user")
    assert second.text.startswith(OPEN)
    assert (memory.digest(), memory.stats()) == before


def bring(thing: str) -> Trajectory:
    """A good episode."""
    steps = [Step(action=f'{call.name}(x="{thing}")', observation="ok") for call in plan(thing, "")]
    return Trajectory(task=task(thing), steps=steps, reward=1)


def test_epochs_and_samples_at_once_do_not_mix(
    memory: ProceduralMemory, server: OpenAIServer, tmp_path: Path
) -> None:
    log = run(
        server, memory_solver(memory, cook()), tmp_path, sample("mug"), sample("pan"), epochs=2, score=False
    )

    lived = kept(memory)
    assert sorted(episode.task for episode in lived) == sorted([task("mug"), task("pan")] * 2)
    assert sum(len(episode.steps) for episode in lived) == sum(calls(log))
    for episode in lived:
        assert set(re.findall(r'thing="(\w+)"', str(actions(episode)))) == set(
            re.findall(r"clean (\w+)", episode.task)
        )


def test_a_sample_that_hits_a_limit_is_learned_from_with_its_score(
    server: OpenAIServer, tmp_path: Path
) -> None:
    with ProceduralMemory.open(tmp_path / "agent.db", update="vanilla") as memory:
        run(server, memory_solver(memory, cook()), tmp_path, message_limit=6)
        (procedure,) = memory.procedures()

    assert actions(procedure.trajectory) == SEARCH[:2]
    assert procedure.reward == 0


@solver
def dawdle(begun: Callable[[], None] = lambda: None) -> Solver:
    """Looks around once, says that it has begun, and never ends."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        kitchens[state.uuid] = Kitchen()
        look = ToolCall(id="call_0", function="look", arguments={})
        state.messages.append(ChatMessageAssistant(content="", tool_calls=[look]))
        state.messages.append(ChatMessageTool(content="It is dark.", tool_call_id="call_0", function="look"))
        begun()
        await sleep(60)
        return state

    return solve


def test_a_sample_out_of_time_is_learned_from_with_its_score(server: OpenAIServer, tmp_path: Path) -> None:
    with ProceduralMemory.open(tmp_path / "agent.db", update="vanilla") as memory:
        run(server, memory_solver(memory, dawdle()), tmp_path, time_limit=1)
        (procedure,) = memory.procedures()

    assert actions(procedure.trajectory) == ("look()",)
    assert procedure.reward == 0


def test_an_eval_that_is_cancelled_leaves_its_steps_unfinished(
    memory: ProceduralMemory, server: OpenAIServer, tmp_path: Path
) -> None:
    async def cancelled() -> None:
        with anyio.CancelScope() as scope:
            await eval_async(**arguments(server, tmp_path, memory_solver(memory, dawdle(scope.cancel))))

    anyio.run(cancelled)
    assert not inspect_ai._runs

    (episode,) = kept(memory)
    assert actions(episode) == ("look()",)


def test_a_sample_that_fails_leaves_its_steps_unfinished(memory: ProceduralMemory, tmp_path: Path) -> None:
    with BreaksOnce() as server:
        log = run(server, memory_solver(memory, cook()), tmp_path)

    assert log.status == "error"
    (episode,) = kept(memory)
    assert actions(episode) == SEARCH[:2]


def test_an_attempt_that_fails_is_kept_and_the_next_one_learned_from(
    memory: ProceduralMemory, tmp_path: Path
) -> None:
    with BreaksOnce() as server:
        log = run(server, memory_solver(memory, cook()), tmp_path, retry_on_error=1)

    assert log.status == "success"
    (episode,) = kept(memory)
    assert actions(episode) == SEARCH[:2]
    (procedure,) = memory.procedures()
    assert actions(procedure.trajectory) == SEARCH + RIGHT_WAY


def test_a_call_that_fails_is_a_step_with_the_error(memory: ProceduralMemory, tmp_path: Path) -> None:
    with KitchenServer(blunders=True) as server:
        run(server, memory_solver(memory, cook()), tmp_path)

    (procedure,) = memory.procedures()
    assert procedure.trajectory is not None
    assert actions(procedure.trajectory) == ('take(thing="mug")', *SEARCH, *RIGHT_WAY)
    assert procedure.trajectory.steps[0].observation == "you see no mug"


def test_calls_that_a_sample_brings_along_are_no_steps(
    memory: ProceduralMemory, server: OpenAIServer, tmp_path: Path
) -> None:
    earlier = ToolCall(id="call_0", function="look", arguments={})
    messages: list[ChatMessage] = [
        ChatMessageUser(content=task("pan")),
        ChatMessageAssistant(content="", tool_calls=[earlier]),
        ChatMessageTool(content="It is dark.", tool_call_id="call_0", function="look"),
        ChatMessageUser(content=task("mug")),
    ]
    run(server, memory_solver(memory, cook()), tmp_path, Sample(messages, target="mug"))

    (procedure,) = memory.procedures()
    assert actions(procedure.trajectory) == SEARCH + RIGHT_WAY


def test_samples_of_the_same_input_are_told_apart_by_task_id(
    memory: ProceduralMemory, server: OpenAIServer, tmp_path: Path
) -> None:
    def house(state: TaskState) -> str:
        return f"house {state.sample_id}"

    twins = [Sample(task("mug"), target="mug", id=number) for number in (1, 2)]
    run(server, memory_solver(memory, cook(), task_id=house), tmp_path, *twins)

    assert sorted(procedure.source for procedure in memory.procedures()) == ["house 1", "house 2"]


@pytest.mark.parametrize("value", [2.0, "very good"])
def test_an_episode_whose_score_is_no_reward_is_kept_unfinished(
    memory: ProceduralMemory,
    server: OpenAIServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    value: float | str,
) -> None:
    @scorer(metrics=[mean()])
    def praise() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            return Score(value=value)

        return score

    run(server, memory_solver(memory, cook()), tmp_path, scored_by=praise())

    (episode,) = kept(memory)
    assert actions(episode) == SEARCH + RIGHT_WAY
    assert repr(value) in caplog.text


def test_the_reward_can_be_made_from_all_scores(
    memory: ProceduralMemory, server: OpenAIServer, tmp_path: Path
) -> None:
    run(server, memory_solver(memory, cook(), reward=lambda scores: len(scores) / 2), tmp_path)

    assert memory.quarantine() == []
    assert list(memory.procedures()) == []  # half a reward is no success


@pytest.mark.parametrize(
    ("value", "reward"), [("C", 1), ("I", 0), ("P", 0.5), ("N", 0), (True, 1), (0.25, 0.25), ("0.75", 0.75)]
)
def test_a_score_is_read_as_inspect_means_it(value: Any, reward: float) -> None:
    assert first_score({"first": Score(value=value), "second": Score(value=0)}) == reward


@pytest.mark.parametrize("value", ["A", [1, 0], {"a": 1}])
def test_a_score_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="which is no number; pass reward= to memory_solver"):
        first_score({"grade": Score(value=value)})


def test_what_inspect_never_ended_is_kept_at_the_end_of_the_run_also_of_one_that_is_cancelled(
    memory: ProceduralMemory,
) -> None:
    @solver
    def idle() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            return state

        return solve

    async def abandoned() -> None:
        state = TaskState(ModelName("openai/test"), "mug", 1, task(), [ChatMessageUser(content=task())])
        await memory_solver(memory, idle())(state, None)  # type: ignore[arg-type]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await MemoryHooks().on_run_end(RunEnd(None, "run", None, []))  # type: ignore[arg-type]

    anyio.run(abandoned)

    (episode,) = kept(memory)
    assert episode.task == task()


def test_each_solver_with_memory_of_a_sample_keeps_its_own_steps(
    memory: ProceduralMemory, server: OpenAIServer, tmp_path: Path
) -> None:
    @solver
    def look() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            asked = ToolCall(id="call_x", function="look", arguments={})
            state.messages.append(ChatMessageAssistant(content="", tool_calls=[asked]))
            state.messages.append(ChatMessageTool(content="?" * (MAX_TEXT + 1), tool_call_id="call_x"))
            return state

        return solve

    both = chain(memory_solver(memory, look()), memory_solver(memory, cook()))
    run(server, both, tmp_path, score=False)

    looked, cooked = kept(memory)
    assert actions(looked) == ("look()",)
    assert len(looked.steps[0].observation) <= MAX_TEXT
    assert actions(cooked) == SEARCH + RIGHT_WAY


def test_a_run_that_cannot_be_ended_loses_no_other(
    memory: ProceduralMemory, server: OpenAIServer, tmp_path: Path
) -> None:
    twice = memory_solver(memory, memory_solver(memory, cook()), reward=lambda scores: 2.0)
    run(server, twice, tmp_path)

    (unfinished,) = kept(memory)
    (procedure,) = memory.procedures()
    assert actions(unfinished) == actions(procedure.trajectory) == SEARCH + RIGHT_WAY


def test_samples_can_be_held_out(memory: ProceduralMemory, server: OpenAIServer, tmp_path: Path) -> None:
    memory.update([bring("pan")])
    run(server, memory_solver(memory, cook(), holdout=0.999999), tmp_path)

    assert OPEN not in str([request.body for request in server.requests])
    (trial,) = memory.store.trials()
    assert (trial.held_out, trial.success) == (True, True)


def test_nothing_is_held_out_where_nothing_is_learned(memory: ProceduralMemory) -> None:
    with pytest.raises(InputError, match=re.escape("holdout is 0.1, which needs learn=True")):
        memory_solver(memory, cook(), holdout=0.1, learn=False)


def test_what_is_no_memory_is_refused() -> None:
    with pytest.raises(InputError, match="takes an open memory, and 'ProceduralMemory' is none"):
        memory_solver("ProceduralMemory", cook())  # type: ignore[arg-type]


def test_without_the_framework_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.agent", None)
    monkeypatch.delitem(sys.modules, "memp.integrations.inspect_ai")
    with pytest.raises(
        MissingExtra, match=re.escape("'inspect-ai'; install it with: pip install 'memp[inspect]'")
    ):
        import_module("memp.integrations.inspect_ai")


class InspectServer(KitchenServer):
    """The model of the kitchen, which Inspect may ask what it can do."""

    def respond(self, request: Request) -> Response:
        if "hello, world" in str(request.body):
            return error(400, "no reasoning here")
        return super().respond(request)


def test_the_page_is_true(tmp_path: Path) -> None:
    with InspectServer(offered_only=True) as server:
        out = printed("inspect.md", tmp_path, **server.environment, INSPECT_DISPLAY="none")

    assert re.findall(r"(\d+) messages", out) == ["13", "8"]
