"""Messages of LangChain and LangGraph, as `messages_to_dict`, `dumpd` and `model_dump` write them."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from memp import calls
from memp.trajectory import Trajectory
from memp.transcripts.events import Called, Event, Returned, Said
from memp.transcripts.fields import About, Arguments, Read, Text

TYPES = {
    "human": "human",
    "user": "human",
    "ai": "ai",
    "assistant": "ai",
    "tool": "tool",
    "function": "function",
}
"""What the types of messages are, and other names of them; messages of other types are passed over."""


class LangCall(Read):
    """One call of a tool."""

    name: str | None = None
    args: Arguments = None
    id: str | None = None


class LangMessage(Read):
    """One message, unwrapped."""

    type: str
    content: Text = ""
    name: str | None = None
    tool_calls: list[LangCall] | None = None
    invalid_tool_calls: list[LangCall] | None = None
    """Calls whose arguments are no JSON."""

    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _unwrapped(cls, value: Any) -> Any:
        """The fields of a message, out of {"type", "data"} or {"lc", "id": [..., class], "kwargs"}."""
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("kwargs"), dict) and isinstance(value.get("id"), list) and value["id"]:
            return {"type": value["id"][-1], **value["kwargs"]}
        if isinstance(value.get("data"), dict):
            return {"type": value.get("type"), **value["data"]}
        return {"type": value["role"], **value} if "type" not in value and "role" in value else value

    def events(self) -> list[Event]:
        """What happened in this message."""
        kind = TYPES.get(self.type.removesuffix("Chunk").removesuffix("Message").lower())
        if kind == "human":
            return [Said(False, self.content)]
        if kind == "tool":
            return [Returned(self.tool_call_id or "", self.content)]
        if kind == "function":
            return [Returned(self.name or "", self.content)]
        if kind != "ai":
            return []
        found: list[Event] = [Said(True, self.content)] if self.content else []
        for call in (*(self.tool_calls or ()), *(self.invalid_tool_calls or ())):
            found.append(Called(call.id or "", calls.written(call.name or "", call.args)))
        return found


class LangGraph(About):
    """A line: messages, and what is known beside them."""

    messages: list[LangMessage]


def parse(value: Any) -> Trajectory:
    """{"messages": [...]}, optionally with "task", "task_id", "id" and "reward"; or a list of messages alone.

    Raises:
        ValueError: if it is neither.
    """
    read = LangGraph.model_validate({"messages": value} if isinstance(value, list) else value)
    return read.trajectory([event for message in read.messages for event in message.events()])
