"""Chat completions: where guidance goes, and what was said, called and returned."""

from __future__ import annotations

import json
from collections.abc import Collection
from itertools import takewhile
from typing import Any

from memp.integrations.openai.wire import Body, Into, holds, put, readable
from memp.transcripts import chat
from memp.transcripts.events import Event
from memp.transcripts.fields import field

ANSWER = ("content", "refusal", "tool_calls", "function_call")


def asked(body: Body) -> list[Any]:
    """The messages."""
    messages = body["messages"]
    if not isinstance(messages, list):
        raise ValueError(f"the messages are {messages!r:.100}, which is no list")
    return messages


def told(body: Body, waiting: Collection[str]) -> list[Event]:  # noqa: ARG001  results come at the end
    """What comes after the last message of the agent."""
    end = takewhile(lambda message: field(message, "role") != "assistant", reversed(asked(body)))
    return chat.events(readable(chat.Message, reversed(list(end))))


def answered(answer: Any) -> list[Event]:
    """What the first choice says and calls."""
    choices = field(answer, "choices")
    return _events({name: field(field(choices[0], "message"), name) for name in ANSWER}) if choices else []


def listener() -> ChatListener:
    """Begin to listen to a streamed answer."""
    return ChatListener()


def informed(body: Body, guidance: str, *, into: Into, answered: bool) -> Body:  # noqa: ARG001  all is sent anew
    """The body with guidance before its first user turn, or after its system message."""
    messages = list(asked(body))
    if any(holds(field(message, "content"), guidance) for message in messages):
        return body
    user, system = _first(messages, "user"), _first(messages, "system", "developer")
    place = user if into == "user" and user is not None else system
    if place is None:
        messages.insert(0, {"role": "system", "content": guidance})
    else:
        content = put(guidance, messages[place].get("content"), part="text", first=place == user)
        messages[place] = {**messages[place], "content": content}
    return {**body, "messages": messages}


def _first(messages: list[Any], *roles: str) -> int | None:
    return next((place for place, message in enumerate(messages) if field(message, "role") in roles), None)


def _events(answer: dict[str, Any]) -> list[Event]:
    return chat.Message.model_validate({"role": "assistant", **answer}).events()


class _Call:
    """A call that comes in pieces."""

    def __init__(self, call_id: str = "") -> None:
        self.id = call_id
        self._name: list[str] = []
        self._arguments: list[str] = []

    def add(self, piece: object) -> None:
        self._name.append(field(piece, "name") or "")
        self._arguments.append(field(piece, "arguments") or field(piece, "input") or "")

    @property
    def function(self) -> dict[str, str]:
        return {"name": "".join(self._name), "arguments": "".join(self._arguments)}


def _whole(function: dict[str, str]) -> bool:
    try:
        json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return False
    return True


class ChatListener:
    """Puts the first choice of a streamed answer together."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {"content": [], "refusal": []}
        self._calls: list[_Call] = []
        self._newest: dict[int, _Call] = {}
        self._function_call = _Call()
        self._finished = False

    def add(self, chunk: Any) -> None:
        """Take in a chunk."""
        for choice in chunk.choices or ():
            if not choice.index:
                self._finished |= choice.finish_reason is not None
                self._add(choice.delta)

    def _add(self, delta: object) -> None:
        for name, texts in self._texts.items():
            texts.append(field(delta, name) or "")
        self._function_call.add(field(delta, "function_call"))
        for piece in field(delta, "tool_calls") or ():
            place, call_id = field(piece, "index") or 0, field(piece, "id") or ""
            call = self._newest.get(place)
            if call is None or (call_id and call.id != call_id):  # some servers give all calls one index
                call = self._newest[place] = _Call(call_id)
                self._calls.append(call)
            call.add(field(piece, "function") or field(piece, "custom"))

    def events(self) -> list[Event]:
        """What came so far; a call that broke off is none."""
        calls: list[dict[str, Any]] = [{"id": call.id, "function": call.function} for call in self._calls]
        old = self._function_call.function
        return _events(
            {
                **{name: "".join(texts) for name, texts in self._texts.items()},
                "tool_calls": [call for call in calls if self._finished or _whole(call["function"])],
                "function_call": old if old["name"] and (self._finished or _whole(old)) else None,
            }
        )
