"""The wrapped OpenAI client: guidance goes in, steps come out, and nothing else changes."""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import json
import logging
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner
from openai import (
    APIError,
    AsyncAzureOpenAI,
    AsyncOpenAI,
    AzureOpenAI,
    BadRequestError,
    LengthFinishReasonError,
    OpenAI,
)
from pydantic import BaseModel

from evals.benchmark import trajectory as past_run
from evals.wrap_overhead import main, measure, serving
from memp.episode import Episode
from memp.errors import InputError
from memp.guidance import OPEN
from memp.integrations.openai import wrap
from memp.memory import ProceduralMemory
from memp.trajectory import MAX_TEXT
from tests.factories import trajectory
from tests.kitchen import RIGHT_WAY, SEARCH, Kitchen, KitchenServer, task
from tests.openai_server import OpenAIServer, Request, Response, answer, completion, error
from tests.pages import shown

TASK = "put a clean mug in the coffee machine"

Steps = list[tuple[str, str]]


# --- a server that answers by a script, and keeps what it received to the byte ---


class Script(OpenAIServer):
    """Answers one after the other, at every path."""

    def __init__(self, *answers: Response) -> None:
        super().__init__()
        self._answers = list(answers)
        self.raw: list[tuple[dict[str, str], bytes]] = []

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def respond(self, request: Request) -> Response:
        with self._lock:
            self._requests.append(request)
            return self._answers.pop(0) if self._answers else chat("ok")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server, kind = self, super()._handler()

        class Handler(kind):  # type: ignore[misc,valid-type]
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                server.raw.append((dict(self.headers.items()), body))
                self.rfile: Any = io.BytesIO(body)
                super().do_POST()

        return Handler

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [request.body for request in self.requests]


def call(name: str, call_id: str, **arguments: object) -> dict[str, Any]:
    """A call of a tool in a chat message."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": call_id, "type": "function", "function": function}


def chat(content: object = None, *calls: dict[str, Any], **message: object) -> Response:
    """A chat completion that says something or calls tools."""
    said = {"role": "assistant", "content": content, **message} | (
        {"tool_calls": list(calls)} if calls else {}
    )
    choice = {"index": 0, "message": said, "finish_reason": "tool_calls" if calls else "stop"}
    return answer({"id": "c1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})


def returned(call_id: str, content: object) -> dict[str, Any]:
    """The result of a call in a chat."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def response(*output: dict[str, Any], response_id: str = "r1") -> Response:
    """A response with these items."""
    return answer(_response(output, response_id))


def _response(output: tuple[dict[str, Any], ...], response_id: str = "r1") -> dict[str, Any]:
    return {
        **{"id": response_id, "object": "response", "created_at": 0, "model": "m", "status": "completed"},
        **{"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "output": list(output)},
    }


def said(text: str) -> dict[str, Any]:
    """A message item of the agent."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": content}


def item(name: str, call_id: str, **arguments: object) -> dict[str, Any]:
    """A call item."""
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": json.dumps(arguments)}


def output(call_id: str, text: object) -> dict[str, Any]:
    """A result item."""
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def sse(*events: object) -> Response:
    """A stream of events."""
    lines = []
    for event in events:
        name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
        lines.append(f"{name}data: {event if isinstance(event, str) else json.dumps(event)}\n\n")
    return Response("".join(lines).encode(), headers={"content-type": "text/event-stream"})


def chunk(finish: str | None = None, **delta: object) -> dict[str, Any]:
    """A chunk of a chat completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    about = {"id": "c1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    return about | {"choices": [choice]}


def piece(index: int, arguments: str, name: str | None = None, call_id: str | None = None) -> dict[str, Any]:
    """A piece of a call in a chunk."""
    return {
        "index": index,
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


# --- what every test needs ---


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def memory() -> Iterator[ProceduralMemory]:
    """A memory with one procedure."""
    with ProceduralMemory.open(":memory:") as memory:
        memory.update([trajectory("put a mug in the sink", "go to sink, put mug")])
        yield memory


@pytest.fixture
def empty() -> Iterator[ProceduralMemory]:
    """A memory that shows nothing."""
    with ProceduralMemory.open(":memory:") as memory:
        yield memory


def openai(server: OpenAIServer) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key="k", max_retries=0)


def steps(episode: Episode) -> Steps:
    return [(step.action, step.observation) for step in episode.trajectory.steps]


def user(text: object = TASK) -> Any:
    return {"role": "user", "content": text}


SYSTEM: Any = {"role": "system", "content": "You work."}


# --- whole loops, in each way in which the client can be asked ---


def parameters(tool: Callable[[str], str]) -> dict[str, Any]:
    names = inspect.signature(tool).parameters
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": [*names],
    }


def use(kitchen: Kitchen, name: str, arguments: str) -> str:
    tools: dict[str, Any] = {tool.__name__: tool for tool in kitchen.tools()}
    return str(tools[name](**json.loads(arguments)))


async def chat_loop(client: OpenAI | AsyncOpenAI, kitchen: Kitchen, how: str) -> None:
    """An agent's loop as its user wrote it."""
    functions = [{"name": tool.__name__, "parameters": parameters(tool)} for tool in kitchen.tools()]
    tools: Any = [{"type": "function", "function": function} for function in functions]
    messages: list[Any] = [SYSTEM, user(task())]
    while True:
        given = {"model": "m", "messages": messages, "tools": tools}
        message = await (
            asked_chat(client, how, given) if isinstance(client, OpenAI) else awaited_chat(client, how, given)
        )
        messages.append(json.loads(message.model_dump_json(include={"role", "content", "tool_calls"})))
        if not message.tool_calls:
            return
        for made in message.tool_calls:
            messages.append(returned(made.id, use(kitchen, made.function.name, made.function.arguments)))


async def asked_chat(client: OpenAI, how: str, given: dict[str, Any]) -> Any:
    completions = client.chat.completions
    if how == "stream":
        with completions.stream(**given) as stream:
            return stream.get_final_completion().choices[0].message
    if how == "chunks":
        return completed(list(completions.create(**given, stream=True)))
    if how == "raw":
        return completions.with_raw_response.create(**given).parse().choices[0].message
    return completions.create(**given).choices[0].message


async def awaited_chat(client: AsyncOpenAI, how: str, given: dict[str, Any]) -> Any:
    completions = client.chat.completions
    if how == "stream":
        async with completions.stream(**given) as stream:
            return (await stream.get_final_completion()).choices[0].message
    if how == "chunks":
        return completed([chunk async for chunk in await completions.create(**given, stream=True)])
    if how == "raw":
        return (await completions.with_raw_response.create(**given)).parse().choices[0].message
    return (await completions.create(**given)).choices[0].message


def completed(chunks: list[Any]) -> Any:
    """The message in the chunks; the kitchen tells it all in the first."""
    return chunks[0].choices[0].delta.model_copy(update={"role": "assistant"})


async def response_loop(client: OpenAI | AsyncOpenAI, kitchen: Kitchen, how: str) -> None:
    tools: Any = [
        {"type": "function", "name": tool.__name__, "parameters": parameters(tool), "strict": False}
        for tool in kitchen.tools()
    ]
    items: list[Any] = [user(task())]
    while True:
        given = {"model": "m", "input": items, "instructions": "You work.", "tools": tools}
        found = await (
            asked_response(client, how, given)
            if isinstance(client, OpenAI)
            else awaited_response(client, how, given)
        )
        calls = [made for made in found.output if made.type == "function_call"]
        for made in calls:
            items.append(item(made.name, made.call_id, **json.loads(made.arguments)))
            items.append(output(made.call_id, use(kitchen, made.name, made.arguments)))
        if not calls:
            return


async def asked_response(client: OpenAI, how: str, given: dict[str, Any]) -> Any:
    if how == "stream":
        with client.responses.stream(**given) as stream:
            return stream.get_final_response()
    if how == "chunks":
        return list(client.responses.create(**given, stream=True))[-1].response
    if how == "raw":
        return client.responses.with_raw_response.create(**given).parse()
    return client.responses.create(**given)


async def awaited_response(client: AsyncOpenAI, how: str, given: dict[str, Any]) -> Any:
    if how == "stream":
        async with client.responses.stream(**given) as stream:
            return await stream.get_final_response()
    if how == "chunks":
        return [event async for event in await client.responses.create(**given, stream=True)][-1].response
    if how == "raw":
        return (await client.responses.with_raw_response.create(**given)).parse()
    return await client.responses.create(**given)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [OpenAI, AsyncOpenAI])
@pytest.mark.parametrize("how", ["plain", "chunks", "stream", "raw"])
@pytest.mark.parametrize("loop", [chat_loop, response_loop])
async def test_a_loop_needs_5_calls_instead_of_8_and_reports_nothing_but_the_reward(
    empty: ProceduralMemory, loop: Callable[..., Any], how: str, kind: type[Any]
) -> None:
    with KitchenServer(at_once=how == "raw") as server:
        client = wrap(kind(base_url=server.base_url, api_key="k"), empty)
        for needed, actions in ((8, (*SEARCH, *RIGHT_WAY)), (5, RIGHT_WAY)):
            kitchen = Kitchen()
            async with empty.episode(task()) as episode:
                await loop(client, kitchen, how)
                episode.finish(kitchen.reward())

            assert kitchen.calls == needed
            assert [action for action, _ in steps(episode)] == [*actions, "It is done."]
            assert steps(episode)[-3:-1] == [
                ('go_to(place="table")', "You stand at the table."),
                ('put_down(thing="mug")', "The mug is on the table."),
            ]
        await closed(client)


async def closed(client: OpenAI | AsyncOpenAI) -> None:
    if isinstance(client, OpenAI):
        client.close()
    else:
        await client.close()


# --- the bare client ---


def ask(client: OpenAI, *messages: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="m", messages=list(messages), **more)


def respond(client: OpenAI, given: Any, **more: Any) -> Any:
    return client.responses.create(model="m", input=given, **more)


def test_outside_an_episode_the_same_bytes_go_over_the_wire(
    memory: ProceduralMemory, empty: ProceduralMemory
) -> None:
    def everything(client: OpenAI) -> None:
        ask(client, SYSTEM, user(), temperature=0)
        ask(client, user([{"type": "text", "text": TASK}]))
        respond(client, TASK, instructions="You work.")
        respond(client, [user()], previous_response_id="r0")
        client.with_options(timeout=5).chat.completions.create(model="m", messages=[SYSTEM])

    with Script() as server, openai(server) as bare:
        client = wrap(bare, memory)
        everything(bare)
        everything(client)
        with empty.episode(TASK):  # of another memory
            everything(client)
            everything(wrap(bare, empty))  # with nothing to show

    once = len(server.raw) // 4
    assert once == 5
    assert all(server.raw[begin : begin + once] == server.raw[:once] for begin in (5, 10, 15))


def test_inside_an_episode_nothing_but_the_guidance_is_added(memory: ProceduralMemory) -> None:
    with Script() as server, openai(server) as bare:
        client = wrap(bare, memory)
        ask(bare, SYSTEM, user(), temperature=0)
        with memory.episode(TASK) as episode:
            ask(client, SYSTEM, user(), temperature=0)

    (headers, body), (told_headers, told_body) = server.raw
    added = json.dumps(f"{episode.guidance}\n\n", ensure_ascii=False)[1:-1].encode()
    assert told_body.replace(added, b"", 1) == body
    assert {**told_headers, "Content-Length": ""} == {**headers, "Content-Length": ""}


def test_other_paths_are_left_alone(memory: ProceduralMemory) -> None:
    rows = {"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}]}
    with (
        Script(answer(rows), answer(rows)) as server,
        openai(server) as bare,
        memory.episode(TASK) as episode,
    ):
        for client in (bare, wrap(bare, memory)):
            client.embeddings.create(model="m", input=TASK, encoding_format="float")

    assert server.raw[0] == server.raw[1]
    assert steps(episode) == []


def test_a_wrapped_client_is_of_its_class_and_the_one_given_stays_bare(memory: ProceduralMemory) -> None:
    with Script() as server, openai(server) as bare:
        bare.chat.completions  # noqa: B018  it keeps what it made
        client = wrap(bare, memory)
        with memory.episode(TASK) as episode:
            ask(bare, user())

        assert isinstance(client, OpenAI)
        assert (type(client).__name__, type(bare)) == ("OpenAI", OpenAI)
        assert OPEN not in server.raw[0][1].decode()
        assert steps(episode) == []


def test_copies_of_a_wrapped_client_are_wrapped(memory: ProceduralMemory) -> None:
    with Script() as server, openai(server) as bare, memory.episode(TASK):
        for made in (
            wrap(bare, memory).copy(timeout=9),
            wrap(bare, memory).with_options(timeout=9).with_options(),
        ):
            assert made.timeout == 9
            ask(made, user())

    assert all(OPEN in body.decode() for _, body in server.raw)
    assert len(server.raw) == 2


@pytest.mark.anyio
async def test_clients_of_azure_are_wrapped(memory: ProceduralMemory) -> None:
    with Script(*(chat(None, call("look", f"{n}")) for n in range(4))) as server:
        given: dict[str, Any] = {"azure_endpoint": server.base_url, "api_key": "k", "api_version": "1"}
        async with memory.episode(TASK) as episode:
            with AzureOpenAI(**given) as bare:
                ask(wrap(bare, memory), user())
                ask(wrap(bare, memory).with_options(timeout=9), user("again"))
            async with AsyncAzureOpenAI(**given) as waiting:
                completions = wrap(waiting, memory).chat.completions
                await completions.create(model="m", messages=[user("and again")])

    assert [request.path for request in server.requests] == [
        "/v1/openai/deployments/m/chat/completions?api-version=1"
    ] * 3
    assert all(episode.guidance in request.prompt for request in server.requests)
    assert [action for action, _ in steps(episode)] == ["look()"] * 3


def test_wrapping_again_changes_only_where_guidance_goes(memory: ProceduralMemory) -> None:
    with Script() as server, openai(server) as bare, memory.episode(TASK):
        ask(wrap(wrap(bare, memory), memory, into="system"), SYSTEM, user())

    system, first = server.bodies[0]["messages"]
    assert OPEN in system["content"]
    assert first == user()


def test_what_cannot_be_wrapped_is_refused(memory: ProceduralMemory, empty: ProceduralMemory) -> None:
    client = OpenAI(api_key="k")
    wrong: Any = "tools"
    with client:
        with pytest.raises(InputError, match="wrap takes an OpenAI or AsyncOpenAI client, and 3 is none"):
            wrap(3, memory)  # type: ignore[type-var]
        with pytest.raises(InputError, match=r"unknown into 'tools'\. Known: user, system"):
            wrap(client, memory, into=wrong)
        with pytest.raises(InputError, match="wrapped for another memory already"):
            wrap(wrap(client, memory), empty)


# --- guidance ---

PARTS = [{"type": "text", "text": TASK}, {"type": "image_url", "image_url": {"url": "data:,"}}]


@pytest.mark.parametrize(
    ("into", "messages", "place", "before"),
    [
        ("user", [SYSTEM, user()], 1, True),
        ("user", [user(), {"role": "assistant", "content": "ok"}, user("go on")], 0, True),
        ("user", [SYSTEM], 0, False),
        ("system", [SYSTEM, user()], 0, False),
        ("system", [{"role": "developer", "content": "You work."}, user()], 0, False),
    ],
)
def test_guidance_goes_before_the_first_user_turn_or_after_the_system_message(
    memory: ProceduralMemory, into: Any, messages: list[Any], place: int, before: bool
) -> None:
    with Script() as server, openai(server) as bare, memory.episode(TASK) as episode:
        ask(wrap(bare, memory, into=into), *messages)

    parts = [episode.guidance, messages[place]["content"]]
    told = {**messages[place], "content": "\n\n".join(parts if before else parts[::-1])}
    assert server.bodies[0]["messages"] == [*messages[:place], told, *messages[place + 1 :]]


@pytest.mark.parametrize(("into", "messages"), [("system", [user()]), ("user", [returned("c", "seen")])])
def test_a_system_message_is_made_where_guidance_has_no_other_place(
    memory: ProceduralMemory, into: Any, messages: list[Any]
) -> None:
    with Script() as server, openai(server) as bare, memory.episode(TASK) as episode:
        ask(wrap(bare, memory, into=into), *messages)

    assert server.bodies[0]["messages"] == [{"role": "system", "content": episode.guidance}, *messages]


def test_of_a_list_of_parts_guidance_is_one_more(memory: ProceduralMemory) -> None:
    system = {"role": "system", "content": [{"type": "text", "text": "You work."}]}
    given = [{"role": "user", "content": [{"type": "input_text", "text": TASK}]}]
    with Script() as server, openai(server) as bare, memory.episode(TASK) as episode:
        ask(wrap(bare, memory), user(PARTS))
        ask(wrap(bare, memory, into="system"), system, user())
        respond(wrap(bare, memory), given)

    told = {"type": "text", "text": episode.guidance}
    first, second, third = server.bodies
    assert first["messages"][0]["content"] == [told, *PARTS]
    assert second["messages"][0]["content"] == [*system["content"], told]
    assert third["input"][0]["content"] == [{**told, "type": "input_text"}, *given[0]["content"]]


def test_of_responses_guidance_goes_into_the_input_or_the_instructions(memory: ProceduralMemory) -> None:
    with Script() as server, openai(server) as bare, memory.episode(TASK) as episode:
        client, instructed = wrap(bare, memory), wrap(bare, memory, into="system")
        respond(client, TASK)
        respond(client, [{"role": "developer", "content": "You work."}, user()])
        respond(instructed, TASK, instructions="You work.")
        respond(instructed, TASK)
        respond(client, [output("c", "seen")])

    told = f"{episode.guidance}\n\n{TASK}"
    assert [(body["input"], body.get("instructions")) for body in server.bodies] == [
        (told, None),
        ([{"role": "developer", "content": "You work."}, user(told)], None),
        (TASK, f"You work.\n\n{episode.guidance}"),
        (TASK, episode.guidance),
        ([output("c", "seen")], episode.guidance),
    ]


@pytest.mark.parametrize("more", [{"previous_response_id": "r0"}, {"conversation": "conv_1"}])
def test_what_the_server_keeps_is_told_once(memory: ProceduralMemory, more: dict[str, str]) -> None:
    with Script(error(400), *[response(said("ok"))] * 3) as server, openai(server) as bare:
        client, instructed = wrap(bare, memory), wrap(bare, memory, into="system")
        with memory.episode(TASK):
            with pytest.raises(BadRequestError):
                respond(client, TASK, **more)
            respond(client, TASK, **more)
            respond(client, "go on", **more)
            respond(instructed, "go on", **more)  # instructions are not kept

    assert [OPEN in body.decode() for _, body in server.raw] == [True, True, False, True]


def test_guidance_that_is_there_already_is_not_put_in_again(memory: ProceduralMemory) -> None:
    with Script() as server, openai(server) as bare, memory.episode(TASK) as episode:
        client = wrap(bare, memory)
        system = f"You work.\n{episode.guidance}"
        ask(client, {"role": "system", "content": system}, user())
        ask(client, user([{"type": "text", "text": system}]))
        respond(client, TASK, instructions=system)
        respond(client, [user(system)])

    assert [body.decode().count(OPEN) for _, body in server.raw] == [1, 1, 1, 1]


def test_every_request_of_an_episode_is_told_the_same_and_nothing_of_the_caller_is_changed(
    memory: ProceduralMemory,
) -> None:
    messages: list[Any] = [SYSTEM, user(list(PARTS)), {"role": "assistant", "content": "ok"}, user("go on")]
    before = json.dumps(messages)
    with Script() as server, openai(server) as bare, memory.episode(TASK):
        for count in (2, 4):
            ask(wrap(bare, memory), *messages[:count])

    assert json.dumps(messages) == before
    assert server.bodies[0]["messages"] == server.bodies[1]["messages"][:2]
    assert OPEN in json.dumps(server.bodies[0])


# --- steps ---


def test_calls_made_at_once_keep_their_order_and_find_their_results(empty: ProceduralMemory) -> None:
    look, take = call("look", "a", at="sink"), call("take", "b")
    with (
        Script(chat("I look, then take.", look, take)) as server,
        openai(server) as bare,
        empty.episode(TASK) as episode,
    ):
        client = wrap(bare, empty)
        ask(client, user())
        asked = {"role": "assistant", "tool_calls": [look, take]}
        ask(client, user(), asked, returned("b", "taken"), returned("a", "a mug"), user("hurry"))

    assert steps(episode) == [('look(at="sink")', "a mug"), ("take()", "taken"), ("ok", "")]


def test_a_loop_whose_actions_are_plain_text_is_recorded(empty: ProceduralMemory) -> None:
    with Script(chat("look"), chat("look"), chat("take mug")) as server, openai(server) as bare:
        messages = [SYSTEM, user()]
        with empty.episode(TASK) as episode:
            for observation in ("nothing happens", "nothing happens", "you hold a mug"):
                text = ask(wrap(bare, empty), *messages).choices[0].message.content
                messages += [{"role": "assistant", "content": text}, user(observation)]
            assert steps(episode)[-1] == ("take mug", "")
            ask(wrap(bare, empty), *messages)
            episode.finish(1)

    assert steps(episode) == [
        ("look", "nothing happens"),
        ("look", "nothing happens"),
        ("take mug", "you hold a mug"),
        ("ok", ""),
    ]


def test_a_history_that_is_cut_or_summed_up_loses_no_step(empty: ProceduralMemory) -> None:
    with Script(*(chat(None, call("go", f"c{n}", to=n)) for n in range(4))) as server, openai(server) as bare:
        client = wrap(bare, empty)
        with empty.episode(TASK) as episode:
            ask(client, user())
            for n in range(3):
                asked = {"role": "assistant", "tool_calls": [call("go", f"c{n}", to=n)]}
                ask(client, user("In short: all is well."), asked, returned(f"c{n}", f"at {n}"))

    assert steps(episode) == [
        ("go(to=0)", "at 0"),
        ("go(to=1)", "at 1"),
        ("go(to=2)", "at 2"),
        ("go(to=3)", ""),
    ]


def test_ids_that_are_used_again_name_the_newest_call(empty: ProceduralMemory) -> None:
    made = [call("go", "c0", to=n) for n in range(3)]
    with Script(*(chat(None, one) for one in made)) as server, openai(server) as bare:
        messages: list[Any] = [user()]
        with empty.episode(TASK) as episode:
            for n, one in enumerate(made):
                ask(wrap(bare, empty), *messages)
                messages += [{"role": "assistant", "tool_calls": [one]}, returned("c0", f"at {n}")]
            ask(wrap(bare, empty), *messages)

    assert steps(episode)[:3] == [("go(to=0)", "at 0"), ("go(to=1)", "at 1"), ("go(to=2)", "at 2")]


def test_deltas_of_responses_are_recorded(empty: ProceduralMemory) -> None:
    first = response({"type": "reasoning", "id": "x", "summary": []}, item("look", "a"), item("take", "b"))
    with Script(first, response(said("Done?"), response_id="r2")) as server, openai(server) as bare:
        client = wrap(bare, empty)
        with empty.episode(TASK) as episode:
            respond(client, TASK)
            results = [output("a", "a mug"), output("b", [{"type": "input_text", "text": "taken"}])]
            respond(client, results, previous_response_id="r1")
            respond(client, "Yes.", previous_response_id="r2")

    assert steps(episode)[:3] == [("look()", "a mug"), ("take()", "taken"), ("Done?", "Yes.")]


def test_results_beside_their_calls_are_found(empty: ProceduralMemory) -> None:
    calls = [item("look", "a"), item("take", "b")]
    with Script(response(*calls), response(item("look", "a"))) as server, openai(server) as bare:
        client = wrap(bare, empty)
        with empty.episode(TASK) as episode:
            respond(client, [user()])
            given = [user(), calls[0], output("a", "a mug"), calls[1], output("b", "taken")]
            respond(client, given)
            respond(client, [*given, calls[0], output("a", "nothing")])  # the same id again

    assert steps(episode)[:3] == [("look()", "a mug"), ("take()", "taken"), ("look()", "nothing")]


def test_tools_of_other_kinds_are_actions_too(empty: ProceduralMemory) -> None:
    custom = {"id": "a", "type": "custom", "custom": {"name": "run", "input": "ls -l"}}
    shell = {"type": "local_shell_call", "id": "s", "call_id": "b", "status": "completed"}
    action = {"type": "exec", "command": ["ls"], "env": {}}
    tool = {"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "pwd"}
    server_side = {
        "type": "mcp_call",
        "id": "d",
        "server_label": "x",
        "name": "find",
        "arguments": "{}",
        "output": "it",
    }
    with Script(
        chat(None, custom), response(shell | {"action": action}, tool, server_side, said("so")), chat("ok")
    ) as server:
        bare = openai(server)
        client = wrap(bare, empty)
        with empty.episode(TASK) as episode:
            ask(client, user())
            asked = {"role": "assistant", "tool_calls": [custom]}
            ask_again = [user(), asked, returned("a", "total 0")]
            respond(client, TASK)
            outputs = [
                {"type": "local_shell_call_output", "id": "b", "output": "mug.txt"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "/"},
            ]
            ask(client, *ask_again)
            respond(client, outputs, previous_response_id="r1")
        bare.close()

    assert steps(episode)[:5] == [
        ("run(ls -l)", "total 0"),
        ('local_shell(command=["ls"], env={}, type="exec")', "mug.txt"),
        ("run(pwd)", "/"),
        ("find()", "it"),
        ("so", ""),
    ]


def test_a_function_call_of_old_and_a_refusal_are_recorded(empty: ProceduralMemory) -> None:
    old = {"name": "look", "arguments": '{"at": "sink"}'}
    with (
        Script(chat(None, function_call=old), chat(None, refusal="I will not.")) as server,
        openai(server) as bare,
    ):
        client = wrap(bare, empty)
        with empty.episode(TASK) as episode:
            ask(client, user())
            ask(
                client,
                user(),
                {"role": "assistant", "function_call": old},
                {"role": "function", "name": "look", "content": "a mug"},
            )

    assert steps(episode) == [('look(at="sink")', "a mug"), ("I will not.", "")]


def test_of_several_choices_the_first_is_the_action(empty: ProceduralMemory) -> None:
    choices = [
        {"index": n, "message": {"role": "assistant", "content": f"way {n}"}, "finish_reason": "stop"}
        for n in range(2)
    ]
    value = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}
    pieces = [chunk(content="way 1"), chunk(content="way 0")]
    pieces[0]["choices"][0]["index"] = 1
    with (
        Script(answer(value), sse(*pieces, chunk("stop"))) as server,
        openai(server) as bare,
        empty.episode(TASK) as episode,
    ):
        ask(wrap(bare, empty), user(), n=2)
        list(ask(wrap(bare, empty), user("again"), n=2, stream=True))

    assert [action for action, _ in steps(episode)] == ["way 0", "way 0"]


@pytest.mark.parametrize("used", ["a", "b"])
def test_asking_the_same_again_records_the_answer_that_was_used(empty: ProceduralMemory, used: str) -> None:
    answers = [chat(None, call("look", "a")), chat(None, call("take", "b"))]
    with Script(error(500), *answers) as server, openai(server) as bare:
        client = wrap(bare, empty)
        with empty.episode(TASK) as episode:
            with pytest.raises(APIError):
                ask(client, user())
            ask(client, user())
            ask(client, user())
            assert steps(episode) == [("take()", "")]
            ask(client, user(), {"role": "assistant", "tool_calls": []}, returned(used, "seen"))

    assert steps(episode) == [("look()" if used == "a" else "take()", "seen"), ("ok", "")]


def test_the_last_observation_is_kept_where_the_api_fails(empty: ProceduralMemory) -> None:
    with (
        Script(chat("look"), error(400, "too long"), error(400, "too long")) as server,
        openai(server) as bare,
    ):
        client = wrap(bare, empty)
        with empty.episode(TASK) as episode:
            ask(client, user())
            for _ in range(2):
                with pytest.raises(BadRequestError, match="too long"):
                    ask(client, user(), {"role": "assistant", "content": "look"}, user("a mug"))

    assert steps(episode) == [("look", "a mug")]


def test_what_is_recorded_by_hand_counts_alone(empty: ProceduralMemory) -> None:
    with Script(chat("look")) as server, openai(server) as bare, empty.episode(TASK) as episode:
        ask(wrap(bare, empty), user())
        episode.record("look", "a mug")
        ask(wrap(bare, empty), user(), {"role": "assistant", "content": "look"}, user("a mug"))

    assert steps(episode) == [("look", "a mug")]


def test_two_clients_in_one_episode_are_heard_together(empty: ProceduralMemory) -> None:
    with (
        Script(chat("look"), chat("take")) as server,
        openai(server) as first,
        openai(server) as second,
        empty.episode(TASK) as episode,
    ):
        ask(wrap(first, empty), user())
        ask(wrap(second, empty), user(), {"role": "assistant", "content": "look"}, user("a mug"))

    assert steps(episode) == [("look", "a mug"), ("take", "")]


def test_a_learned_procedure_holds_nothing_of_the_guidance(memory: ProceduralMemory) -> None:
    with Script() as server, openai(server) as bare, memory.episode(TASK) as episode:
        ask(
            wrap(bare, memory),
            user(),
            {"role": "assistant", "content": "look"},
            user(f"{episode.guidance} a mug"),
        )
        episode.finish(1)

    assert OPEN not in "".join(procedure.model_dump_json() for procedure in memory.procedures())


def test_texts_that_cannot_be_stored_are_recorded_as_far_as_they_can(
    empty: ProceduralMemory, caplog: pytest.LogCaptureFixture
) -> None:
    with Script(chat("half \ud83d")) as server, openai(server) as bare, empty.episode(TASK) as episode:
        ask(wrap(bare, empty), user())
        ask(wrap(bare, empty), user(), {"role": "assistant", "content": ""}, user("x" * (MAX_TEXT + 1)))
        episode.finish(1)

    assert steps(episode)[0] == ("half ?", "x" * MAX_TEXT)
    assert "an observation of 1000001 characters is cut to 1000000" in caplog.text
    assert empty.stats().procedures == 1


# --- streams ---

LOOK = [piece(0, "", "look", "a"), piece(0, '{"at":'), piece(0, ' "sink"}')]


def streamed(*pieces: dict[str, Any], finish: str | None = "tool_calls") -> Response:
    chunks = [chunk(role="assistant", content=""), *(chunk(tool_calls=[one]) for one in pieces)]
    return sse(*chunks, *([chunk(finish), "[DONE]"] if finish else []))


def test_calls_that_come_in_pieces_are_put_together(empty: ProceduralMemory) -> None:
    same_index = [piece(0, "{}", "take", "b"), piece(0, "{}", "wash", "c")]
    answers = [streamed(*LOOK, piece(1, "{}", "take", "b")), streamed(*LOOK, *same_index)]
    with Script(*answers) as server, openai(server) as bare, empty.episode(TASK) as episode:
        for text in ("once", "twice"):
            for _ in ask(wrap(bare, empty), user(text), stream=True):
                pass

    assert [action for action, _ in steps(episode)] == [
        *('look(at="sink")', "take()"),
        *('look(at="sink")', "take()", "wash()"),
    ]


def test_the_caller_sees_the_very_chunks(memory: ProceduralMemory) -> None:
    stream = streamed(*LOOK)
    with Script(stream, stream) as server, openai(server) as bare, memory.episode(TASK):
        told = [list(ask(client, user(), stream=True)) for client in (bare, wrap(bare, memory))]

    assert told[0] == told[1]
    assert len(told[0]) == 5


WORDS = sse(*(chunk(content=text) for text in ("take ", "the ", "mug")), chunk("stop"), "[DONE]")


def test_a_stream_that_the_caller_breaks_off_is_recorded_as_far_as_it_was_read(
    empty: ProceduralMemory,
) -> None:
    with Script(*[WORDS] * 5) as server, openai(server) as bare, empty.episode(TASK) as episode:
        client = wrap(bare, empty)
        stream = ask(client, user("1"), stream=True)
        for _ in stream:
            break
        assert steps(episode) == [("take", "")]
        assert [one.choices[0].delta.content for one in stream][:2] == ["the ", "mug"]  # and goes on
        assert steps(episode) == [("take the mug", "")]

        with ask(client, user("2"), stream=True) as stream:
            next(stream)
        with client.chat.completions.stream(model="m", messages=[user("3")]) as events:
            next(iter(events))
        assert [action for action, _ in steps(episode)] == ["take the mug", "take", "take"]

        next(ask(client, user("4"), stream=True))  # and neither closes it nor reads on
        ask(client, user("5"))
    assert [action for action, _ in steps(episode)][3] == "take"


@pytest.mark.anyio
async def test_so_is_an_asynchronous_one(empty: ProceduralMemory) -> None:
    with Script(*[WORDS] * 3) as server:
        async with AsyncOpenAI(base_url=server.base_url, api_key="k") as bare:
            completions = wrap(bare, empty).chat.completions
            async with empty.episode(TASK) as episode:
                stream: Any = await completions.create(model="m", messages=[user("1")], stream=True)
                async for _ in stream:
                    break
                assert steps(episode) == [("take", "")]
                assert [one.choices[0].delta.content async for one in stream][:2] == ["the ", "mug"]
                async with await completions.create(model="m", messages=[user("2")], stream=True) as stream:
                    await anext(stream)
                async with completions.stream(model="m", messages=[user("3")]) as events:
                    async for _ in events:
                        break
                assert [action for action, _ in steps(episode)] == ["take the mug", "take", "take"]


def test_a_call_that_broke_off_is_no_action(empty: ProceduralMemory) -> None:
    cut = streamed(piece(0, "{}", "look", "a"), piece(1, '{"what": "m', "take", "b"), finish=None)
    with Script(cut) as server, openai(server) as bare, empty.episode(TASK) as episode:
        list(ask(wrap(bare, empty), user(), stream=True))

    assert steps(episode) == [("look()", "")]


def test_an_error_in_a_stream_passes_through(empty: ProceduralMemory) -> None:
    broken = sse(chunk(content="take"), {"error": {"message": "overloaded"}})
    with Script(broken) as server, openai(server) as bare, empty.episode(TASK) as episode:
        stream = ask(wrap(bare, empty), user(), stream=True)
        with pytest.raises(APIError, match="overloaded"):
            list(stream)

    assert steps(episode) == [("take", "")]


def test_a_response_that_breaks_off_is_recorded_as_far_as_it_was_read(empty: ProceduralMemory) -> None:
    done = {"type": "response.output_item.done", "output_index": 0, "item": item("look", "a")}
    begun = {"type": "response.output_item.added", "output_index": 1, "item": item("take", "b")}
    text = {"type": "response.output_text.delta", "output_index": 0, "item_id": "m", "content_index": 0}
    whole = {"type": "response.completed", "response": _response((item("wash", "c"),))}
    answers = [sse(done, begun), sse(text | {"delta": "take "}, text | {"delta": "it"}), sse(whole)]
    with Script(*answers) as server, openai(server) as bare, empty.episode(TASK) as episode:
        for n in range(3):
            list(respond(wrap(bare, empty), str(n), stream=True))

    assert steps(episode) == [("look()", ""), ("take it", "2"), ("wash()", "")]


# --- other ways to ask ---


class Verdict(BaseModel):
    clean: bool


def test_parsed_answers_are_recorded_also_where_parsing_fails(empty: ProceduralMemory) -> None:
    cut = json.loads(chat('{"cle').body)
    cut["choices"][0]["finish_reason"] = "length"
    with (
        Script(chat('{"clean": true}'), answer(cut), response(said('{"clean": true}'))) as server,
        openai(server) as bare,
        empty.episode(TASK) as episode,
    ):
        completions = wrap(bare, empty).chat.completions
        found = completions.parse(model="m", messages=[user()], response_format=Verdict)
        with pytest.raises(LengthFinishReasonError):
            completions.parse(model="m", messages=[user("again")], response_format=Verdict)
        parsed = wrap(bare, empty).responses.parse(model="m", input="once more", text_format=Verdict)

    assert found.choices[0].message.parsed == parsed.output_parsed == Verdict(clean=True)
    assert [action for action, _ in steps(episode)] == ['{"clean": true}', '{"cle', '{"clean": true}']


def test_a_raw_answer_is_recorded_whether_it_is_parsed_or_not(empty: ProceduralMemory) -> None:
    with Script(chat("look"), chat("take"), WORDS) as server, openai(server) as bare:
        raw = wrap(bare, empty).chat.completions.with_raw_response
        with empty.episode(TASK) as episode:
            assert b"look" in raw.create(model="m", messages=[user("1")]).content
            assert raw.create(model="m", messages=[user("2")]).parse().choices[0].message.content == "take"
            list(raw.create(model="m", messages=[user("3")], stream=True).parse())

    assert [action for action, _ in steps(episode)] == ["look", "take", "take the mug"]


def test_a_streaming_response_is_recorded_where_it_is_parsed(empty: ProceduralMemory) -> None:
    with Script(chat("look"), chat("take")) as server, openai(server) as bare:
        streaming = wrap(bare, empty).chat.completions.with_streaming_response
        with empty.episode(TASK) as episode:
            with streaming.create(model="m", messages=[user("1")]) as found:
                assert found.parse().choices[0].message.content == "look"
            with streaming.create(model="m", messages=[user("2")]) as found:
                assert b"take" in found.read()

    assert [action for action, _ in steps(episode)] == ["look"]


# --- what must not happen ---


@pytest.mark.parametrize(
    "odd",
    [
        chat(None, {"id": "a", "type": "function", "function": {"name": 3, "arguments": "{}"}}),
        chat({"text": 3}),
        answer({"id": "c", "object": "chat.completion", "choices": []}),
        answer({"choices": [{"index": 0}]}),
        answer(["nothing", "of", "the", "kind"]),
        Response(b"<html>", headers={"content-type": "text/html"}),
    ],
)
def test_an_odd_answer_is_the_callers_alone(empty: ProceduralMemory, odd: Response) -> None:
    with Script(odd, odd, chat("look")) as server, openai(server) as bare, empty.episode(TASK) as episode:
        client = wrap(bare, empty)
        assert repr(ask(client, user())) == repr(ask(bare, user()))
        ask(client, user("again"))

    assert steps(episode)[-1] == ("look", "")


def test_an_odd_request_is_sent_as_it_is_and_logged(
    memory: ProceduralMemory, caplog: pytest.LogCaptureFixture
) -> None:
    odd: list[Any] = [
        [{"role": "user", "content": {"text": 3}}],
        [{"role": "latest", "content": "news"}, user()],
        "no list",
    ]
    with Script() as server, openai(server) as bare, memory.episode(TASK) as episode:
        client = wrap(bare, memory)
        for messages in odd:
            client.chat.completions.create(model="m", messages=messages)
        client.post("/chat/completions", body={}, cast_to=object)

    assert server.bodies[0]["messages"] == odd[0]
    assert server.bodies[1]["messages"][0] == odd[1][0]
    assert server.bodies[2]["messages"] == odd[2]
    assert all(
        record.name.startswith("memp.") for record in caplog.records if record.levelno >= logging.WARNING
    )
    assert "passed over" in caplog.text
    assert steps(episode)


def test_a_stream_that_is_read_after_its_episode_changes_nothing(empty: ProceduralMemory) -> None:
    with Script(WORDS) as server, openai(server) as bare:
        with empty.episode(TASK) as episode:
            stream = ask(wrap(bare, empty), user(), stream=True)
        assert [one.choices[0].delta.content for one in stream][:2] == ["take ", "the "]

    assert steps(episode) == []


def test_nothing_is_kept_of_an_episode_that_is_over(empty: ProceduralMemory) -> None:
    with Script(WORDS, chat("look")) as server, openai(server) as bare:
        client = wrap(bare, empty)
        with empty.episode(TASK) as episode:
            list(ask(client, user(), stream=True))
            ask(client, user("again"))
        gone = weakref.ref(episode)
        del episode
        gc.collect()
        assert gone() is None


@pytest.mark.anyio
async def test_episodes_that_run_at_once_are_kept_apart(empty: ProceduralMemory) -> None:
    def act(messages: Any) -> Response:
        told = messages[-1]["content"]
        return completion(f"action {told}", wait_s=0.01)

    async def live(client: AsyncOpenAI, name: str) -> Steps:
        async with empty.episode(f"{TASK} {name}") as episode:
            messages: list[Any] = [user(f"{name} begins")]
            for number in range(3):
                found = await client.chat.completions.create(model="m", messages=messages)
                text = found.choices[0].message.content
                messages += [{"role": "assistant", "content": text}, user(f"{name} {number}")]
            return steps(episode)

    with OpenAIServer(act) as server:
        async with AsyncOpenAI(base_url=server.base_url, api_key="k") as bare:
            client = wrap(bare, empty)
            lived = await asyncio.gather(*(live(client, name) for name in "abcd"))

    assert lived == [
        [(f"action {name} begins", f"{name} 0"), (f"action {name} 0", f"{name} 1"), (f"action {name} 1", "")]
        for name in "abcd"
    ]


def test_threads_that_are_given_the_context_are_heard_in_full(empty: ProceduralMemory) -> None:
    def act(messages: Any) -> Response:
        return chat(None, call("look", messages[-1]["content"]))

    with OpenAIServer(act) as server, openai(server) as bare, ThreadPoolExecutor(8) as pool:
        client = wrap(bare, empty)
        with empty.episode(TASK) as episode:
            asked = [pool.submit(copy_context().run, ask, client, user(str(n))) for n in range(24)]
            for one in asked:
                one.result()

    assert [action for action, _ in steps(episode)] == ["look()"] * 24


# --- what it takes ---


@pytest.mark.slow
def test_a_call_in_an_episode_takes_under_2_ms_longer(tmp_path: Path) -> None:
    with serving() as base_url, ProceduralMemory.open(tmp_path / "a.db") as memory:
        memory.update(past_run(number) for number in range(50))
        for _ in range(3):  # another process can only make a try worse
            found = list(measure(base_url, memory, episodes=4, turns=8))
            if all(one.added.median < one.limit_ms for one in found):
                return
    raise AssertionError([(one.what, str(one.added)) for one in found])


@pytest.mark.slow
def test_the_command_prints_what_it_measured_beside_the_limits() -> None:
    result = CliRunner().invoke(main, ["--procedures", "5", "--episodes", "1", "--turns", "3"])
    assert result.exit_code == 0, result.output
    assert all(
        words in result.stdout for words in ("outside an episode", "with retrieval from 5", "2 ms", "10 ms")
    )


# --- the page ---


def test_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with KitchenServer(offered_only=True) as server:
        for variable, value in server.environment.items():
            monkeypatch.setenv(variable, value)
        names: dict[str, Any] = {}
        exec(shown("openai.md"), names)
        names["client"].close()
        names["memory"].close()

    first, second = map(int, capsys.readouterr().out.split())
    assert (first, second) == (6, 3)
