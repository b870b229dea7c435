"""Agents of LangChain with memory, on a model behind the OpenAI protocol."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ToolRetryMiddleware, dynamic_prompt
from langchain.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain.tools import BaseTool, InjectedToolCallId, tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, interrupt
from pydantic import SecretStr

from memp import ProceduralMemory, Trajectory
from memp.episode import current
from memp.errors import MissingExtra
from memp.guidance import OPEN
from memp.integrations.langchain import MemoryMiddleware
from tests.kitchen import (
    DONE,
    RIGHT_WAY,
    SEARCH,
    Asked,
    Call,
    Kitchen,
    KitchenError,
    KitchenServer,
    actions,
    kept,
    task,
    told,
)
from tests.pages import shown

pytestmark = pytest.mark.anyio

PROMPT = "You work in a kitchen."

LIMIT: Any = {"recursion_limit": 30}
"""Without one, an agent of LangChain that never ends takes 10,000 steps."""

Tools = Sequence[Callable[..., Any] | BaseTool]


def model(server: KitchenServer, *, responses: bool = False) -> ChatOpenAI:
    return ChatOpenAI(
        model="test", base_url=server.base_url, api_key=SecretStr("none"), use_responses_api=responses
    )


def cook(
    server: KitchenServer,
    tools: Tools,
    *middleware: AgentMiddleware[Any, Any],
    prompt: str | SystemMessage | None = PROMPT,
    responses: bool = False,
    **options: Any,
) -> Any:
    asked = model(server, responses=responses)
    return create_agent(asked, list(tools), system_prompt=prompt, middleware=middleware, **options)


def said(thing: str = "mug") -> dict[str, Any]:
    """What the agent is invoked with."""
    return {"messages": [HumanMessage(task(thing))]}


def live(memory: ProceduralMemory, server: KitchenServer, **options: Any) -> Trajectory:
    """Bring the mug to the table with memory."""
    kitchen = Kitchen()
    with memory.episode(task()) as episode:
        cook(server, kitchen.tools(), MemoryMiddleware(), **options).invoke(said(), LIMIT)
        episode.finish(kitchen.reward())
    return episode.trajectory


@pytest.mark.parametrize("responses", [False, True])
def test_the_second_run_takes_five_steps_instead_of_eight(
    memory: ProceduralMemory, server: KitchenServer, responses: bool
) -> None:
    first = live(memory, server, responses=responses)
    second = live(memory, server, responses=responses)

    assert (actions(first), first.reward) == (SEARCH + RIGHT_WAY, 1)
    assert (actions(second), second.reward) == (RIGHT_WAY, 1)
    assert second.steps[1].observation == "You hold the mug. It is dirty."


async def test_asynchronous_and_streamed_runs_are_as_any_other(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    live(memory, server)
    agent = cook(server, Kitchen().tools(), MemoryMiddleware())
    async with memory.episode(task()) as waited:
        await agent.ainvoke(said())
    async with memory.episode(task()) as streamed:
        assert [part async for part in agent.astream(said(), stream_mode="messages")]
    with memory.episode(task()) as streamed_in_threads:
        assert list(agent.stream(said(), stream_mode="messages"))

    for episode in (waited, streamed, streamed_in_threads):
        assert actions(episode.trajectory) == RIGHT_WAY


def test_guidance_is_in_the_system_message_and_neither_in_the_state_nor_in_what_is_learned(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    live(memory, server)
    before = len(server.requests)
    agent = cook(server, Kitchen().tools(), MemoryMiddleware(), checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    with memory.episode(task()) as episode:
        result = agent.invoke(said(), thread)
        episode.finish(1)

    assert all(text.startswith(f"{PROMPT}\n\n{OPEN}") for text in told(server)[before:])
    assert result["messages"][-1].text == DONE
    assert OPEN not in repr([result, list(agent.get_state_history(thread))])
    (procedure,) = memory.procedures()
    assert procedure.length == 5
    assert OPEN not in procedure.model_dump_json()


@pytest.mark.parametrize(
    ("prompt", "start"),
    [(None, OPEN), ("", OPEN), (SystemMessage([{"type": "text", "text": PROMPT}]), f"{PROMPT}\n{OPEN}")],
)
def test_system_messages_of_every_kind_stay(
    memory: ProceduralMemory, server: KitchenServer, prompt: Any, start: str
) -> None:
    live(memory, server)
    live(memory, server, prompt=prompt)

    assert told(server)[-1].startswith(start)


def test_last_of_several_it_joins_the_system_message_that_another_made(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    @dynamic_prompt
    def hurry(request: ModelRequest[Any]) -> str:
        return "Be quick."

    live(memory, server)
    with memory.episode(task()):
        cook(server, Kitchen().tools(), hurry, MemoryMiddleware()).invoke(said())

    assert told(server)[-1].startswith(f"Be quick.\n\n{OPEN}")


def test_outside_an_episode_the_same_is_sent_as_without_memory(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    live(memory, server)
    before = len(server.requests)
    cook(server, Kitchen().tools()).invoke(said())
    between = len(server.requests)
    cook(server, Kitchen().tools(), MemoryMiddleware()).invoke(said())

    sent = [request.body for request in server.requests]
    assert sent[before:between] == sent[between:]


async def test_two_episodes_of_one_agent_at_once_do_not_mix(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    agent = cook(server, Kitchen().tools(), MemoryMiddleware())

    async def bring(thing: str) -> Trajectory:
        async with memory.episode(task(thing)) as episode:
            await agent.ainvoke(said(thing))
        return episode.trajectory

    mug, pan = await asyncio.gather(bring("mug"), bring("pan"))

    assert actions(mug) == SEARCH + RIGHT_WAY
    assert {thing for action in actions(pan) for thing in re.findall(r'thing="(\w+)"', action)} == {"pan"}
    assert len(pan.steps) == 8


LATE = {"drawer": 0.15, "fridge": 0.1, "oven": 0.05, "cupboard": 0}
"""Doors open the later, in seconds, the earlier they are asked for."""


async def test_calls_that_go_on_at_once_are_recorded_in_the_order_of_the_reply(
    memory: ProceduralMemory,
) -> None:
    @tool
    def open_door(place: str) -> str:
        """Open a door."""
        time.sleep(LATE[place])
        return f"You open the {place}."

    @tool("open_door")
    async def open_door_later(place: str) -> str:
        """Open a door."""
        await asyncio.sleep(LATE[place])
        return f"You open the {place}."

    with KitchenServer(at_once=True, offered_only=True) as server:
        with memory.episode(task()) as in_threads:
            cook(server, [open_door], MemoryMiddleware()).invoke(said())
        async with memory.episode(task()) as in_tasks:
            await cook(server, [open_door_later], MemoryMiddleware()).ainvoke(said())

    for episode in (in_threads, in_tasks):
        assert actions(episode.trajectory) == (*SEARCH, RIGHT_WAY[0])
        assert episode.trajectory.steps[0].observation == "You open the drawer."


def test_a_run_that_hits_its_limit_leaves_its_steps_unfinished(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    with pytest.raises(GraphRecursionError), memory.episode(task()):
        cook(server, Kitchen().tools(), MemoryMiddleware()).invoke(said(), {"recursion_limit": 4})

    assert actions(kept(memory)) == SEARCH[:2]


def test_a_run_cut_short_can_be_finished_by_hand(memory: ProceduralMemory, server: KitchenServer) -> None:
    with memory.episode(task()) as episode:
        with pytest.raises(GraphRecursionError):
            cook(server, Kitchen().tools(), MemoryMiddleware()).invoke(said(), {"recursion_limit": 4})
        episode.finish(0.25)

    assert (episode.trajectory.finished, episode.trajectory.reward) == (True, 0.25)
    assert actions(episode.trajectory) == SEARCH[:2]


async def test_a_run_that_a_tool_breaks_leaves_its_steps_with_the_error(memory: ProceduralMemory) -> None:
    with KitchenServer(blunders=True) as server:
        agent = cook(server, Kitchen().tools(), MemoryMiddleware())
        with pytest.raises(KitchenError), memory.episode(task()) as called:
            agent.invoke(said())
        with pytest.raises(KitchenError):
            async with memory.episode(task()) as waited:
                await agent.ainvoke(said())

    for episode in (called, waited):
        (step,) = episode.trajectory.steps
        assert (step.action, step.observation) == ('take(thing="mug")', "you see no mug")
        assert not episode.trajectory.finished


def test_calls_beside_one_that_breaks_the_run_are_steps_too(memory: ProceduralMemory) -> None:
    def open_door(place: str) -> str:
        """Open a door."""
        time.sleep(LATE["drawer"] - LATE[place])  # the first fails at once
        if place == "drawer":
            raise KitchenError("it is stuck")
        return f"You open the {place}."

    with KitchenServer(at_once=True) as server, pytest.raises(KitchenError), memory.episode(task()):
        cook(server, [open_door], MemoryMiddleware()).invoke(said())

    assert actions(kept(memory)) == (*SEARCH, RIGHT_WAY[0])


async def test_a_call_that_is_cancelled_is_no_step(memory: ProceduralMemory, server: KitchenServer) -> None:
    third = asyncio.Event()

    async def open_door(place: str) -> str:
        """Open a door."""
        if place == "oven":
            third.set()
            await asyncio.sleep(60)
        return "It is empty."

    async def episode() -> None:
        async with memory.episode(task()):
            await cook(server, [open_door], MemoryMiddleware()).ainvoke(said())

    running = asyncio.create_task(episode())
    await third.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert actions(kept(memory)) == SEARCH[:2]


def test_each_try_of_a_call_is_a_step_where_the_middleware_is_inside_of_the_retries(
    memory: ProceduralMemory,
) -> None:
    retries = ToolRetryMiddleware(max_retries=1, initial_delay=0, jitter=False, on_failure="continue")
    with KitchenServer(blunders=True) as server, memory.episode(task()) as episode:
        cook(server, Kitchen().tools(), retries, MemoryMiddleware()).invoke(said())

    take = 'take(thing="mug")'
    assert actions(episode.trajectory) == (take, take, *SEARCH, *RIGHT_WAY)
    assert episode.trajectory.steps[1].observation == "you see no mug"


class OneReply(KitchenServer):
    """A model that makes some calls at once, and then is done."""

    def __init__(self, *calls: Call) -> None:
        super().__init__()
        self._calls = list(calls)

    def move(self, asked: Asked) -> list[Call] | str:
        return DONE if len(self.requests) > 1 else self._calls


def test_a_call_of_no_tool_and_one_with_wrong_arguments_are_steps_with_the_error(
    memory: ProceduralMemory,
) -> None:
    wrong = Call("take", {"object": "mug"}), Call("sing", {"song": "la"})
    with OneReply(*wrong) as server, memory.episode(task()) as episode:
        cook(server, Kitchen().tools(), MemoryMiddleware()).invoke(said())

    assert actions(episode.trajectory) == ('take(object="mug")', 'sing(song="la")')
    assert "Field required" in episode.trajectory.steps[0].observation
    assert "sing is not a valid tool" in episode.trajectory.steps[1].observation


def test_a_command_is_recorded_by_what_it_tells_the_model(memory: ProceduralMemory) -> None:
    @tool
    def look(call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Look around."""
        return Command(update={"messages": [ToolMessage("four doors", tool_call_id=call_id)]})

    @tool
    def peek() -> list[dict[str, str]]:
        """Look through the keyhole."""
        return [{"type": "text", "text": "a mug"}]

    with OneReply(Call("look", {}), Call("peek", {})) as server, memory.episode(task()) as episode:
        cook(server, [look, peek], MemoryMiddleware()).invoke(said())

    steps = [(step.action, step.observation) for step in episode.trajectory.steps]
    assert steps == [("look()", "four doors"), ("peek()", "a mug")]


def test_a_call_that_waits_for_a_human_is_a_step_once_it_is_made(memory: ProceduralMemory) -> None:
    @tool
    def ask(question: str) -> str:
        """Ask the guest."""
        return str(interrupt(question))

    @tool
    def look() -> str:
        """Look around."""
        return "four doors"

    with OneReply(Call("look", {}), Call("ask", {"question": "tea?"})) as server:
        agent = cook(server, [ask, look], MemoryMiddleware(), checkpointer=InMemorySaver())
        thread: Any = {"configurable": {"thread_id": "1"}}
        with memory.episode(task()) as before:
            agent.invoke(said(), thread)
        with memory.episode(task()) as after:
            agent.invoke(Command(resume="yes"), thread)

    assert actions(before.trajectory) == ("look()",)
    assert [(step.action, step.observation) for step in after.trajectory.steps] == [
        ('ask(question="tea?")', "yes")
    ]


def test_in_a_graph_of_your_own_the_tool_node_records(
    memory: ProceduralMemory, server: KitchenServer
) -> None:
    live(memory, server)
    kitchen, middleware = Kitchen(), MemoryMiddleware()
    asked = model(server).bind_tools(kitchen.tools())

    def think(state: MessagesState) -> dict[str, list[AIMessage]]:
        episode = current()
        assert episode is not None
        return {"messages": [asked.invoke([SystemMessage(episode.guidance), *state["messages"]])]}

    nodes = ToolNode(
        kitchen.tools(),
        wrap_tool_call=middleware.wrap_tool_call,
        awrap_tool_call=middleware.awrap_tool_call,
    )
    graph = StateGraph(MessagesState).add_node(think).add_node("tools", nodes).add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition).add_edge("tools", "think")
    with memory.episode(task()) as episode:
        graph.compile().invoke({"messages": [HumanMessage(task())]})
        episode.finish(kitchen.reward())

    assert (actions(episode.trajectory), episode.trajectory.reward) == (RIGHT_WAY, 1)


async def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "memp.integrations.langchain")
    monkeypatch.setitem(sys.modules, "langchain.agents.middleware", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'memp[langchain]'")):
        __import__("memp.integrations.langchain")


def test_the_page_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with KitchenServer(offered_only=True) as server:
        monkeypatch.chdir(tmp_path)
        for variable, value in server.environment.items():
            monkeypatch.setenv(variable, value)
        names: dict[str, Any] = {}
        exec(shown("langchain.md"), names)
        names["memory"].close()

    assert capsys.readouterr().out.split() == ["5", "2"]
