"""A small task for agents of every framework: a kitchen, its tools, and a model behind the OpenAI protocol.

    with KitchenServer() as server:
        kitchen = Kitchen()
        ... run an agent with `kitchen.tools()` on the model at `server.base_url` ...
        episode.finish(kitchen.reward("mug"))

`task("mug")` takes 5 calls of tools. The model does not know where things are: without guidance it opens
every other door first and needs 8. With guidance it takes the door that led to the thing before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from memp import ProceduralMemory, Trajectory
from memp.guidance import CLOSE, OPEN, strip
from tests.openai_server import OpenAIServer, Request, Response, answer

DOORS = {"drawer": "fork", "fridge": "lemon", "oven": "pan", "cupboard": "mug"}
"""What is behind each door."""

TOOL_NAMES = ("open_door", "take", "wash", "go_to", "put_down")

DONE = "It is done."
"""The model's last words."""

RIGHT_WAY = (
    'open_door(place="cupboard")',
    'take(thing="mug")',
    'wash(thing="mug")',
    'go_to(place="table")',
    'put_down(thing="mug")',
)
"""The five actions of `task("mug")`, as memp writes them."""

SEARCH = ('open_door(place="drawer")', 'open_door(place="fridge")', 'open_door(place="oven")')
"""The three actions that are wasted on `task("mug")` without guidance."""

Tool = Callable[[str], str]

_TASK = re.compile(r"Bring a clean (\w+) to the table")
_GUIDANCE = re.compile(rf"{OPEN}.*?{CLOSE}", re.DOTALL)
_CALL_IN_TEXT = re.compile(r"'name': '(\w+)'")


class KitchenError(Exception):
    """What was tried does not work in this kitchen."""


def task(thing: str = "mug") -> str:
    """What the agent is asked for."""
    return f"Bring a clean {thing} to the table."


class Kitchen:
    """Four closed doors with a dirty thing behind each, a sink and a table."""

    def __init__(self) -> None:
        self.calls = 0
        self._open: set[str] = set()
        self._held: set[str] = set()
        self._clean: set[str] = set()
        self._on_table: set[str] = set()
        self._place = "sink"

    def reward(self, thing: str = "mug") -> float:
        """1 if the thing stands on the table and is clean, else 0."""
        return float(thing in self._on_table and thing in self._clean)

    def tools(self) -> list[Tool]:
        """Plain functions with types and docstrings, as every framework reads them.

        A call that cannot be done raises `KitchenError`.
        """

        def open_door(place: str) -> str:
            """Open a door and look behind it.

            Args:
                place: What to open: drawer, fridge, oven or cupboard.
            """
            self.calls += 1
            self._open.add(place)
            return f"You open the {place}. You see a {DOORS[place]}."

        def take(thing: str) -> str:
            """Take a thing into your hands.

            Args:
                thing: What to take.
            """
            self.calls += 1
            if thing not in {DOORS[place] for place in self._open}:
                raise KitchenError(f"you see no {thing}")
            self._held.add(thing)
            return f"You hold the {thing}. It is dirty."

        def wash(thing: str) -> str:
            """Wash a thing that you hold.

            Args:
                thing: What to wash.
            """
            self._held_call(thing)
            self._clean.add(thing)
            return f"The {thing} is clean."

        def go_to(place: str) -> str:
            """Walk somewhere.

            Args:
                place: Where to: sink or table.
            """
            self.calls += 1
            self._place = place
            return f"You stand at the {place}."

        def put_down(thing: str) -> str:
            """Put down a thing that you hold.

            Args:
                thing: What to put down.
            """
            self._held_call(thing)
            self._held.remove(thing)
            if self._place == "table":
                self._on_table.add(thing)
            return f"The {thing} is on the {self._place}."

        return [open_door, take, wash, go_to, put_down]

    def _held_call(self, thing: str) -> None:
        self.calls += 1
        if thing not in self._held:
            raise KitchenError(f"you do not hold the {thing}")


@dataclass(frozen=True)
class Call:
    """One call of a tool, as the model asks for it."""

    name: str
    arguments: Mapping[str, str]


def plan(thing: str, guidance: str) -> list[Call]:
    """The calls that bring a thing to the table: straight to its door if the guidance knows it."""
    place = _door_known_from(guidance, thing)
    right = next(door for door, behind in DOORS.items() if behind == thing)
    doors = [place] if place else [*(door for door in DOORS if door != right), right]
    return [
        *(Call("open_door", {"place": door}) for door in doors),
        Call("take", {"thing": thing}),
        Call("wash", {"thing": thing}),
        Call("go_to", {"place": "table"}),
        Call("put_down", {"thing": thing}),
    ]


def _door_known_from(guidance: str, thing: str) -> str:
    """The last door that was opened before the thing was taken; empty if that is not told."""
    before, taken, _ = guidance.partition(f'take(thing="{thing}")')
    doors = re.findall(r'open_door\(place="(\w+)"\)', before)
    return doors[-1] if taken and doors else ""


@dataclass(frozen=True)
class Asked:
    """What a request says, whichever protocol it came by."""

    thing: str
    """What is to be brought, by the last task."""

    guidance: str
    """All guidance in it, wherever it stands."""

    made: tuple[str, ...]
    """The kitchen tools called since the last task."""

    offered: frozenset[str]
    """The names of the tools offered."""


class KitchenServer(OpenAIServer):
    """A model that brings things to the table, by chat completions and by responses, streamed or not.

    It decides from the request alone, so it serves any number of conversations at once.

    Args:
        at_once: Ask for all doors in one reply, as parallel calls.
        blunders: Take the thing first, before any door is open; that call fails.
        offered_only: Stop where the next tool is not offered, instead of asking for it all the same.
        faults: As for `OpenAIServer`.
    """

    def __init__(
        self,
        *,
        at_once: bool = False,
        blunders: bool = False,
        offered_only: bool = False,
        faults: Iterable[Response] = (),
    ) -> None:
        super().__init__(faults=faults)
        self._at_once = at_once
        self._blunders = blunders
        self._offered_only = offered_only

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients that are told nothing else find this server."""
        return {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": self.base_url}

    def respond(self, request: Request) -> Response:
        """Return what to send for a request."""
        chat = request.path == "/v1/chat/completions"
        if not (chat or request.path == "/v1/responses"):
            return super().respond(request)
        with self._lock:
            self._requests.append(request)
            if self._faults:
                return self._faults.pop(0)
        move = self.move(asked(request.body))
        number = len(json.dumps(request.body))  # the same request has the same reply, with the same ids
        value = _completion(move, number) if chat else _response(move, number)
        if not request.body.get("stream"):
            return answer(value)
        return _events(_chunks(value) if chat else _response_events(value))

    def move(self, asked: Asked) -> list[Call] | str:
        """The next calls, or the last words."""
        if "open_door" not in asked.offered:  # not at work in the kitchen itself: hand over
            others = [name for name in sorted(asked.offered) if name.startswith("transfer_to_")]
            return [Call(others[0], {})] if others else DONE
        calls = plan(asked.thing, asked.guidance)
        if self._blunders:
            calls.insert(0, Call("take", {"thing": asked.thing}))
        left = calls[len(asked.made) :]
        if not left or (self._offered_only and left[0].name not in asked.offered):
            ending = asked.offered & {"final_answer", "submit"}
            return [Call(name, {"answer": DONE}) for name in ending] or DONE
        if self._at_once and left[0].name == "open_door":
            return [call for call in left if call.name == "open_door"]
        return left[:1]


def asked(body: Mapping[str, Any]) -> Asked:
    """Read a request's body."""
    entries = list(_entries(body))
    tasks = [
        (number, found[-1])
        for number, (role, text, _) in enumerate(entries)
        if role == "user" and (found := _TASK.findall(strip(text)))
    ]
    begin, thing = tasks[-1]
    tools = [tool.get("function", tool) for tool in body.get("tools", ())]
    return Asked(
        thing,
        "\n".join(found for _, text, _ in entries for found in _GUIDANCE.findall(text)),
        tuple(name for _, _, names in entries[begin:] for name in names if name in TOOL_NAMES),
        frozenset(tool["name"] for tool in tools if "name" in tool),
    )


def texts(body: Mapping[str, Any]) -> dict[str, str]:
    """All texts of a request by the role that says them; instructions are the system's."""
    said: dict[str, str] = {}
    for role, text, _ in _entries(body):
        said[role] = f"{said[role]}\n{text}" if role in said else text
    return said


def told(server: OpenAIServer) -> list[str]:
    """What the system said in each request."""
    return [texts(request.body).get("system", "") for request in server.requests]


def actions(trajectory: Trajectory) -> tuple[str, ...]:
    """What was done."""
    return tuple(step.action for step in trajectory.steps)


def kept(memory: ProceduralMemory) -> Trajectory:
    """The one episode in quarantine."""
    (item,) = memory.quarantine()
    assert item.kind == "unfinished"
    return Trajectory.model_validate(item.payload["trajectory"])


def _entries(body: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Role, text and names of the tools called, of each message of either protocol."""
    if body.get("instructions"):
        yield "system", body["instructions"], []
    said = body.get("messages", body.get("input", ()))
    items: Iterable[dict[str, Any]] = [{"role": "user", "content": said}] if isinstance(said, str) else said
    for item in items:
        role = "system" if item.get("role") == "developer" else item.get("role", "")
        text = _text(item.get("content") or item.get("output") or "")
        names = [call["function"]["name"] for call in item.get("tool_calls") or ()]
        if item.get("type") == "function_call":
            names.append(item["name"])
        elif role == "assistant":  # some frameworks tell of their calls in words
            names += _CALL_IN_TEXT.findall(text)
        yield role, text, names


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if "text" in part)


def _completion(move: list[Call] | str, number: int) -> dict[str, Any]:
    calls = [
        {
            "id": f"call_{number}_{place}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
        }
        for place, call in enumerate([] if isinstance(move, str) else move)
    ]
    words = move if isinstance(move, str) else None
    message: dict[str, Any] = {"role": "assistant", "content": words, "refusal": None}
    if calls:
        message["tool_calls"] = calls
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 0,
        "model": "test",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def _chunks(completion: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A completion as a stream tells it: what is said, why it ends, what it used."""
    told = {key: completion[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choice = completion["choices"][0]
    delta = dict(choice["message"])
    if "tool_calls" in delta:
        delta["tool_calls"] = [
            call | {"index": index} for index, call in enumerate(choice["message"]["tool_calls"])
        ]
    yield told | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield told | {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
    yield told | {"choices": [], "usage": completion["usage"]}


def _response(move: list[Call] | str, number: int) -> dict[str, Any]:
    if isinstance(move, str):
        words = {"type": "output_text", "text": move, "annotations": [], "logprobs": []}
        output = [
            {
                "type": "message",
                "id": f"msg_{number}",
                "role": "assistant",
                "status": "completed",
                "content": [words],
            }
        ]
    else:
        output = [
            {
                "type": "function_call",
                "id": f"fc_{number}_{place}",
                "call_id": f"call_{number}_{place}",
                "name": call.name,
                "arguments": json.dumps(call.arguments),
                "status": "completed",
            }
            for place, call in enumerate(move)
        ]
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 0,
        "model": "test",
        "status": "completed",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 2,
        },
    }


def _response_events(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A response as a stream tells it: each item begun, told and done, then the whole."""
    events: list[dict[str, Any]] = []
    begun = response | {"status": "in_progress", "output": [], "usage": None}
    events.append({"type": "response.created", "response": begun})
    for index, item in enumerate(response["output"]):
        at = {"output_index": index}
        part = at | {"item_id": item["id"], "content_index": 0}
        empty: dict[str, Any] = {"content": []} if item["type"] == "message" else {"arguments": ""}
        events.append({"type": "response.output_item.added", "item": item | empty} | at)
        if item["type"] == "message":
            (words,) = item["content"]
            text = words["text"]
            events += [
                {"type": "response.content_part.added", "part": words | {"text": ""}} | part,
                {"type": "response.output_text.delta", "delta": text, "logprobs": []} | part,
                {"type": "response.output_text.done", "text": text, "logprobs": []} | part,
                {"type": "response.content_part.done", "part": words} | part,
            ]
        else:
            told = at | {"item_id": item["id"]}
            arguments = item["arguments"]
            done = {"name": item["name"], "arguments": arguments}
            events += [
                {"type": "response.function_call_arguments.delta", "delta": arguments} | told,
                {"type": "response.function_call_arguments.done"} | done | told,
            ]
        events.append({"type": "response.output_item.done", "item": item} | at)
    events.append({"type": "response.completed", "response": response})
    for number, event in enumerate(events):
        yield event | {"sequence_number": number}


def _events(values: Iterable[dict[str, Any]]) -> Response:
    """Server-sent events, all at once."""
    lines = []
    for value in values:
        if "type" in value:
            lines.append(f"event: {value['type']}\n")
        lines.append(f"data: {json.dumps(value)}\n\n")
    return Response(
        "".join([*lines, "data: [DONE]\n\n"]).encode(), headers={"content-type": "text/event-stream"}
    )
