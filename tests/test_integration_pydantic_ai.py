"""Agents of pydantic-ai with memory, on a model behind the OpenAI protocol."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent, ModelRetry, ToolFailed, ToolReturn, UnexpectedModelBehavior
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

from memp import ProceduralMemory, Trajectory
from memp.errors import MissingExtra
from memp.guidance import OPEN
from memp.integrations.pydantic_ai import Memory
from tests.kitchen import (
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
    texts,
)
from tests.openai_server import OpenAIServer
from tests.pages import printed

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def agent(
    server: OpenAIServer, tools: Sequence[Callable[..., Any]], *capabilities: Memory, retries: int = 1
) -> AsyncIterator[Agent]:
    """An agent whose connections are closed."""
    async with AsyncOpenAI(base_url=server.base_url, api_key="none") as client:
        model = OpenAIChatModel("test", provider=OpenAIProvider(openai_client=client))
        yield Agent(model, tools=tools, capabilities=capabilities, retries=retries)


async def run(
    server: OpenAIServer,
    tools: Sequence[Callable[..., Any]],
    *capabilities: Memory,
    thing: str = "mug",
    **options: Any,
) -> None:
    async with agent(server, tools, *capabilities) as made:
        await made.run(task(thing), **options)


async def live(
    memory: ProceduralMemory, server: OpenAIServer, capability: Memory, thing: str = "mug"
) -> Trajectory:
    """Bring a thing to the table with memory."""
    kitchen = Kitchen()
    async with memory.episode(task(thing)) as episode:
        await run(server, kitchen.tools(), capability, thing=thing)
        episode.finish(kitchen.reward(thing))
    return episode.trajectory


async def test_the_second_run_takes_five_steps_instead_of_eight(
    memory: ProceduralMemory, server: OpenAIServer
) -> None:
    assert actions(await live(memory, server, Memory())) == SEARCH + RIGHT_WAY
    assert actions(await live(memory, server, Memory())) == RIGHT_WAY


async def test_guidance_is_in_the_instructions_and_the_tools_answers_are_recorded(
    memory: ProceduralMemory, server: OpenAIServer
) -> None:
    await live(memory, server, Memory())
    asked = len(server.requests)
    second = await live(memory, server, Memory())

    assert all(OPEN in texts(request.body)["system"] for request in server.requests[asked:])
    assert second.steps[1].observation == "You hold the mug. It is dirty."


async def test_outside_an_episode_the_same_is_sent_as_without_the_capability(
    memory: ProceduralMemory, server: OpenAIServer
) -> None:
    await live(memory, server, Memory())
    before = len(server.requests)
    await run(server, Kitchen().tools())
    between = len(server.requests)
    await run(server, Kitchen().tools(), Memory())

    sent = [request.body for request in server.requests]
    assert sent[before:between] == sent[between:]


async def test_a_second_capability_records_nothing_twice(
    memory: ProceduralMemory, server: OpenAIServer
) -> None:
    async with (
        memory.episode(task()) as episode,
        agent(server, Kitchen().tools(), Memory(), Memory()) as made,
    ):
        await made.run(task(), capabilities=[Memory()])

    assert actions(episode.trajectory) == SEARCH + RIGHT_WAY


async def test_two_episodes_that_share_a_capability_at_once_do_not_mix(
    memory: ProceduralMemory, server: OpenAIServer
) -> None:
    shared = Memory()
    mug, pan = await asyncio.gather(*(live(memory, server, shared, thing) for thing in ("mug", "pan")))

    assert actions(mug) == SEARCH + RIGHT_WAY
    assert {thing for action in actions(pan) for thing in re.findall(r'thing="(\w+)"', action)} == {"pan"}
    assert mug.reward == pan.reward == 1


async def test_calls_asked_for_at_once_are_all_recorded(memory: ProceduralMemory) -> None:
    with KitchenServer(at_once=True) as server:
        lived = await live(memory, server, Memory())

    assert sorted(actions(lived)[:4]) == sorted([*SEARCH, RIGHT_WAY[0]])


async def test_a_run_that_hits_its_limit_leaves_its_steps_unfinished(
    memory: ProceduralMemory, server: OpenAIServer
) -> None:
    limits = UsageLimits(request_limit=2)
    with pytest.raises(UsageLimitExceeded):
        async with memory.episode(task()):
            await run(server, Kitchen().tools(), Memory(), usage_limits=limits)

    assert actions(kept(memory)) == SEARCH[:2]


async def test_a_run_that_is_cancelled_leaves_its_steps_unfinished(
    memory: ProceduralMemory, server: OpenAIServer
) -> None:
    third = asyncio.Event()

    async def open_door(place: str) -> str:
        """Open a door."""
        if place == "oven":
            third.set()
            await asyncio.sleep(60)
        return "It is empty."

    async def episode() -> None:
        async with memory.episode(task()):
            await run(server, [open_door], Memory())

    running = asyncio.create_task(episode())
    await third.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert actions(kept(memory)) == SEARCH[:2]


async def test_a_run_that_a_tool_breaks_leaves_its_steps_with_the_error(memory: ProceduralMemory) -> None:
    with KitchenServer(blunders=True) as server, pytest.raises(KitchenError):
        async with memory.episode(task()):
            await run(server, Kitchen().tools(), Memory())

    (step,) = kept(memory).steps
    assert (step.action, step.observation) == ('take(thing="mug")', "you see no mug")


class OneCall(KitchenServer):
    """A model that makes one call, and then is done."""

    def __init__(self, name: str, **arguments: str) -> None:
        super().__init__()
        self._call = Call(name, arguments)

    def move(self, asked: Asked) -> list[Call] | str:
        return "It is done." if len(self.requests) > 1 else [self._call]


def say(words: str) -> str:
    """Say something.

    Args:
        words: What to say.
    """
    if words == "wait":
        raise ModelRetry("say it again")
    if words == "stop":
        raise ToolFailed("nobody listens")
    return f"you say {words}"


@pytest.mark.parametrize(
    ("name", "arguments", "action", "observation"),
    [
        ("say", {"words": "wait"}, 'say(words="wait")', "say it again"),
        ("say", {"words": "stop"}, 'say(words="stop")', "nobody listens"),
        (
            "say",
            {"word": "go"},
            'say(word="go")',
            "words: Field required; word: Extra inputs are not permitted",
        ),
        ("sing", {"words": "la"}, 'sing(words="la")', "Unknown tool name: 'sing'. Available tools: 'say'"),
    ],
)
async def test_a_call_that_fails_is_a_step_with_the_error(
    memory: ProceduralMemory, name: str, arguments: dict[str, str], action: str, observation: str
) -> None:
    with OneCall(name, **arguments) as server:
        async with memory.episode(task()) as episode:
            await run(server, [say], Memory())

    (step,) = episode.trajectory.steps
    assert step.action == action
    assert observation in step.observation


async def test_a_tool_that_has_no_retries_left_leaves_its_step(memory: ProceduralMemory) -> None:
    with OneCall("say", words="wait") as server:
        async with memory.episode(task()) as episode, agent(server, [say], Memory(), retries=0) as made:
            with pytest.raises(UnexpectedModelBehavior, match="exceeded max retries"):
                await made.run(task())

    assert actions(episode.trajectory) == ('say(words="wait")',)


async def test_what_a_tool_returns_is_recorded_as_the_model_reads_it(memory: ProceduralMemory) -> None:
    def look() -> ToolReturn:
        """Look around."""
        return ToolReturn(return_value={"doors": 4}, metadata={"secret": 1})

    with OneCall("look") as server:
        async with memory.episode(task()) as episode:
            await run(server, [look], Memory())

    (step,) = episode.trajectory.steps
    assert (step.action, step.observation) == ("look()", '{"doors":4}')


def test_without_the_framework_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    monkeypatch.delitem(sys.modules, "memp.integrations.pydantic_ai")
    with pytest.raises(
        MissingExtra, match=re.escape("'pydantic-ai-slim'; install it with: pip install 'memp[pydantic-ai]'")
    ):
        import_module("memp.integrations.pydantic_ai")


def test_the_page_is_true(tmp_path: Path) -> None:
    with KitchenServer(offered_only=True) as server:
        out = printed("pydantic-ai.md", tmp_path, **server.environment)

    assert out.split() == ["5", "2"]
