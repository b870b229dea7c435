"""Agents of the OpenAI Agents SDK with memory, on a model behind the OpenAI protocol."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    AgentHooks,
    MaxTurnsExceeded,
    Model,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunContextWrapper,
    Runner,
    ShellCommandRequest,
    ShellTool,
    SQLiteSession,
    Tool,
    ToolOutputImage,
    ToolOutputText,
    UserError,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

from memp import ProceduralMemory, Trajectory
from memp.errors import InputError, MissingExtra
from memp.guidance import OPEN
from memp.integrations.openai_agents import attach
from tests.kitchen import (
    DONE,
    RIGHT_WAY,
    SEARCH,
    Asked,
    Call,
    Kitchen,
    KitchenServer,
    actions,
    kept,
    task,
    told,
)
from tests.openai_server import Request, Response, answer
from tests.pages import printed

pytestmark = pytest.mark.anyio

PROTOCOLS = (OpenAIChatCompletionsModel, OpenAIResponsesModel)


@pytest.fixture(autouse=True)
def _no_tracing() -> Iterator[None]:
    set_tracing_disabled(True)
    yield
    set_tracing_disabled(False)


@asynccontextmanager
async def model(server: KitchenServer, protocol: Any = OpenAIChatCompletionsModel) -> AsyncIterator[Model]:
    """A model whose connections are closed."""
    async with AsyncOpenAI(base_url=server.base_url, api_key="none") as client:
        yield protocol("test", openai_client=client)


def tools(kitchen: Kitchen) -> list[Tool]:
    return [function_tool(tool) for tool in kitchen.tools()]


def cook(model: Model, tools: Iterable[Tool], **options: Any) -> Agent[Any]:
    """An agent without memory."""
    return Agent(
        "Cook", **{"instructions": "You work in a kitchen."} | options, model=model, tools=list(tools)
    )


async def live(
    memory: ProceduralMemory, server: KitchenServer, thing: str = "mug", *, protocol: Any = PROTOCOLS[0]
) -> Trajectory:
    """Bring a thing to the table with memory."""
    kitchen = Kitchen()
    async with model(server, protocol) as asked, memory.episode(task(thing)) as episode:
        await Runner.run(attach(cook(asked, tools(kitchen))), task(thing))
        episode.finish(kitchen.reward(thing))
    return episode.trajectory


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_second_run_takes_five_steps_instead_of_eight(
    memory: ProceduralMemory, server: KitchenServer, protocol: type[Model]
) -> None:
    first = await live(memory, server, protocol=protocol)
    second = await live(memory, server, protocol=protocol)

    assert (actions(first), first.reward) == (SEARCH + RIGHT_WAY, 1)
    assert (actions(second), second.reward) == (RIGHT_WAY, 1)
    assert second.steps[1].observation == "You hold the mug. It is dirty."


async def test_guidance_is_in_the_instructions_and_neither_in_the_session_nor_in_what_is_learned(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    await live(memory, server)
    before = len(server.requests)
    session = SQLiteSession("one")
    async with model(server) as asked, memory.episode(task()) as episode:
        result = await Runner.run(attach(cook(asked, tools(Kitchen()))), task(), session=session)
        episode.finish(1)

    assert all(f"You work in a kitchen.\n\n{OPEN}" in said for said in told(server)[before:])
    assert result.final_output == DONE
    assert OPEN not in repr([result.to_input_list(), await session.get_items()])
    session.close()
    (procedure,) = memory.procedures()
    assert procedure.length == 5
    assert OPEN not in procedure.model_dump_json()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_streamed_run_is_as_any_other(
    memory: ProceduralMemory, server: KitchenServer, protocol: type[Model]
) -> None:
    await live(memory, server)
    async with model(server, protocol) as asked, memory.episode(task()) as episode:
        streamed = Runner.run_streamed(attach(cook(asked, tools(Kitchen()))), task())
        assert [event async for event in streamed.stream_events()]
        episode.finish(1)

    assert actions(episode.trajectory) == RIGHT_WAY


async def test_outside_an_episode_the_same_is_sent_as_without_memory(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    await live(memory, server)
    before = len(server.requests)
    async with model(server) as asked:
        for instructions in ("You work in a kitchen.", None):
            agent = cook(asked, tools(Kitchen()), instructions=instructions)
            await Runner.run(agent, task())
            await Runner.run(attach(agent), task())

    sent = [request.body for request in server.requests[before:]]
    assert sent[:9] == sent[9:18]
    assert sent[18:27] == sent[27:]


async def test_two_episodes_of_one_agent_at_once_do_not_mix(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    async with model(server) as asked:
        agent = attach(cook(asked, tools(Kitchen())))

        async def bring(thing: str) -> Trajectory:
            async with memory.episode(task(thing)) as episode:
                await Runner.run(agent, task(thing))
            return episode.trajectory

        mug, pan = await asyncio.gather(bring("mug"), bring("pan"))

    assert actions(mug) == SEARCH + RIGHT_WAY
    assert {thing for action in actions(pan) for thing in re.findall(r'thing="(\w+)"', action)} == {"pan"}
    assert len(pan.steps) == 8


def slow_doors() -> Tool:
    """Doors that open the later the earlier they were asked for."""

    @function_tool
    async def open_door(place: str) -> str:
        """Open a door."""
        await asyncio.sleep({"drawer": 0.15, "fridge": 0.1, "oven": 0.05}.get(place, 0))
        return f"You open the {place}."

    return open_door


async def test_calls_that_go_on_at_once_are_recorded_in_the_order_of_the_reply(
    memory: ProceduralMemory,
) -> None:
    doors, *others = slow_doors(), *tools(Kitchen())[1:]
    with KitchenServer(at_once=True) as server:
        async with model(server) as asked, memory.episode(task()) as episode:
            await Runner.run(attach(cook(asked, [doors, *others])), task())

    assert actions(episode.trajectory) == SEARCH + RIGHT_WAY
    assert episode.trajectory.steps[0].observation == "You open the drawer."


async def test_a_run_that_hits_its_limit_leaves_its_steps_unfinished(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    async with model(server) as asked:
        with pytest.raises(MaxTurnsExceeded):
            async with memory.episode(task()):
                await Runner.run(attach(cook(asked, tools(Kitchen()))), task(), max_turns=2)

    assert actions(kept(memory)) == SEARCH[:2]


async def test_a_run_cut_short_can_be_finished_by_hand(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    async with model(server) as asked, memory.episode(task()) as episode:
        with pytest.raises(MaxTurnsExceeded):
            await Runner.run(attach(cook(asked, tools(Kitchen()))), task(), max_turns=2)
        episode.finish(0.25)

    assert (episode.trajectory.finished, episode.trajectory.reward) == (True, 0.25)
    assert actions(episode.trajectory) == SEARCH[:2]


async def test_a_call_that_fails_is_a_step_with_the_error(memory: ProceduralMemory) -> None:
    with KitchenServer(blunders=True) as server:
        lived = await live(memory, server)

    assert lived.steps[0].action == 'take(thing="mug")'
    assert lived.steps[0].observation.startswith("An error occurred while running the tool")
    assert actions(lived)[1:] == SEARCH + RIGHT_WAY


async def test_a_tool_that_ends_the_run_leaves_the_steps_before_it(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    @function_tool(failure_error_function=None)
    def take(thing: str) -> str:
        """Take a thing."""
        raise ValueError(f"the {thing} is stuck")

    doors, *_ = tools(Kitchen())
    async with model(server) as asked:
        with pytest.raises((UserError, ValueError), match="the mug is stuck"):
            async with memory.episode(task()):
                await Runner.run(attach(cook(asked, [doors, take])), task())

    assert actions(kept(memory)) == (*SEARCH, RIGHT_WAY[0])


async def test_calls_held_up_by_one_that_ended_its_run_come_with_the_next_run(
    memory: ProceduralMemory,
) -> None:
    @function_tool(failure_error_function=None)
    async def open_door(place: str) -> str:
        """Open a door."""
        if place == "drawer":
            await asyncio.sleep(0.1)
            raise ValueError("the drawer is stuck")
        return f"You open the {place}."

    with KitchenServer(at_once=True) as server:
        async with model(server) as asked, memory.episode(task()) as episode:
            with pytest.raises((UserError, ValueError), match="stuck"):
                await Runner.run(attach(cook(asked, [open_door])), task())
            await Runner.run(attach(cook(asked, tools(Kitchen()))), task("fork"))

    assert actions(episode.trajectory)[:3] == (*SEARCH[1:], RIGHT_WAY[0])


async def test_both_agents_of_a_handoff_have_memory(memory: ProceduralMemory, server: KitchenServer) -> None:
    await live(memory, server)
    before = len(server.requests)
    async with model(server) as asked, memory.episode(task()) as episode:
        host = Agent("Host", instructions="You welcome guests.", model=asked)
        host.handoffs.append(attach(cook(asked, tools(Kitchen()))))
        await Runner.run(attach(host), task())
        episode.finish(1)

    said = told(server)[before:]
    assert said[0].startswith("You welcome guests.\n\n" + OPEN)
    assert said[1].startswith("You work in a kitchen.\n\n" + OPEN)
    assert actions(episode.trajectory) == RIGHT_WAY


class Diary(AgentHooks[Any]):
    """Hooks of the user's own."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def on_start(self, context: Any, agent: Any) -> None:
        self.heard.append("start")

    async def on_end(self, context: Any, agent: Any, output: Any) -> None:
        self.heard.append("end")

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        self.heard.append("reply")

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        self.heard.append(tool.name)

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        self.heard.append(str(result))


async def test_the_agents_own_hooks_hear_all_they_heard_before(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    alone, with_memory = Diary(), Diary()
    async with model(server) as asked:
        await Runner.run(cook(asked, tools(Kitchen()), hooks=alone), task())
        async with memory.episode(task()):
            await Runner.run(attach(cook(asked, tools(Kitchen()), hooks=with_memory)), task())

    assert with_memory.heard == alone.heard
    assert {"start", "end", "reply", "take"} < set(alone.heard)


def instructed(context: RunContextWrapper[Any], agent: Agent[Any]) -> str:
    return f"You are {agent.name}."


async def instructed_later(context: RunContextWrapper[Any], agent: Agent[Any]) -> str:
    return f"You are {agent.name}."


@pytest.mark.parametrize(
    ("own", "start"), [(instructed, "You are Cook.\n\n"), (instructed_later, "You are Cook.\n\n"), (None, "")]
)
async def test_instructions_of_every_kind_stay(
    memory: ProceduralMemory, server: KitchenServer, own: Any, start: str
) -> None:
    await live(memory, server)
    async with model(server) as asked, memory.episode(task()):
        await Runner.run(attach(cook(asked, tools(Kitchen()), instructions=own)), task())

    assert told(server)[-1].startswith(start + OPEN)


async def test_attaching_again_changes_nothing_but_new_instructions_are_guided_too(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    await live(memory, server)
    async with model(server) as asked, memory.episode(task()) as episode:
        agent = attach(attach(cook(asked, tools(Kitchen()))))
        await Runner.run(attach(agent.clone(instructions="Be quick.")), task())

    assert actions(episode.trajectory) == RIGHT_WAY
    assert told(server)[-1].startswith("Be quick.\n\n" + OPEN)
    assert told(server)[-1].count(OPEN) == 1


class OneReply(KitchenServer):
    """A model that first gives one reply of the protocol of responses, and then is done."""

    def __init__(self, *output: dict[str, Any]) -> None:
        super().__init__(offered_only=True)
        self._output = output

    def respond(self, request: Request) -> Response:
        usual = super().respond(request)
        if len(self.requests) > 1:
            return usual
        said = {"id": "resp_0", "object": "response", "created_at": 0, "model": "test", "status": "completed"}
        offered = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        return answer(said | offered | {"output": list(self._output)})


def shell_call(number: int, command: str) -> dict[str, Any]:
    return {
        "type": "shell_call",
        "id": f"sh_{number}",
        "call_id": f"call_{number}",
        "status": "completed",
        "action": {"commands": [command], "timeout_ms": None, "max_output_length": None},
    }


async def test_commands_of_a_shell_are_steps(memory: ProceduralMemory) -> None:
    async def carry_out(request: ShellCommandRequest) -> str:
        return f"did {request.data.action.commands}"

    with OneReply(shell_call(1, "ls"), shell_call(2, "pwd")) as server:
        async with model(server, OpenAIResponsesModel) as asked, memory.episode(task()) as episode:
            await Runner.run(attach(cook(asked, [ShellTool(executor=carry_out)])), task())

    assert [(step.action, step.observation) for step in episode.trajectory.steps] == [
        ('shell(commands=["ls"])', "did ['ls']"),
        ('shell(commands=["pwd"])', "did ['pwd']"),
    ]


class OneCall(KitchenServer):
    """A model that looks around, and then is done."""

    def move(self, asked: Asked) -> list[Call] | str:
        return DONE if len(self.requests) > 1 else [Call("look", {})]


@pytest.mark.parametrize(
    ("result", "observation"),
    [
        (ToolOutputText(text="four doors"), "four doors"),
        ([ToolOutputText(text="a photo:"), ToolOutputImage(image_url="data:,")], "a photo:\n[image]"),
        ({"doors": 4}, "{'doors': 4}"),
        (None, "None"),
    ],
)
async def test_what_a_tool_returns_is_recorded_as_the_model_reads_it(
    memory: ProceduralMemory, result: Any, observation: str
) -> None:
    @function_tool
    def look() -> Any:
        """Look around."""
        return result

    with OneCall() as server:
        async with model(server, OpenAIResponsesModel) as asked, memory.episode(task()) as episode:
            await Runner.run(attach(cook(asked, [look])), task())

    assert [(step.action, step.observation) for step in episode.trajectory.steps] == [("look()", observation)]


@pytest.mark.parametrize("wrong", [None, "agent", Agent])
async def test_what_is_no_agent_cannot_be_attached(wrong: Any) -> None:
    with pytest.raises(InputError, match="takes an agent of the OpenAI Agents SDK"):
        attach(wrong)


async def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "memp.integrations.openai_agents")
    monkeypatch.setitem(sys.modules, "agents", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'memp[openai-agents]'")):
        __import__("memp.integrations.openai_agents")


def test_the_page_is_true(tmp_path: Path) -> None:
    with KitchenServer(offered_only=True) as server:
        # A process of its own: `run_sync` never closes its event loop.
        out = printed("openai-agents.md", tmp_path, **server.environment, OPENAI_AGENTS_DISABLE_TRACING="1")

    assert out.split() == ["5", "2"]
