"""Messages of OpenAI's chat completions, which most servers and tools speak."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from memp import calls
from memp.trajectory import Trajectory
from memp.transcripts.events import Called, Event, Returned, Said
from memp.transcripts.fields import About, Arguments, Read, Text


class Function(Read):
    """A function that was called."""

    name: str
    arguments: Arguments = None


class CustomTool(Read):
    """A tool that was called with a plain text."""

    name: str
    input: Arguments = None


class ToolCall(Read):
    """One call of a tool."""

    id: str | None = None
    function: Function | None = None
    custom: CustomTool | None = None

    @property
    def action(self) -> str:
        """The call as an action; empty where it names no tool."""
        if self.function is not None:
            return calls.written(self.function.name, self.function.arguments)
        return calls.written(self.custom.name, self.custom.input) if self.custom is not None else ""


class Message(Read):
    """One message, or the answer of the model."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text = ""
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    function_call: Function | None = None
    """What `tool_calls` was before there were several; its result names the function."""

    def events(self) -> list[Event]:
        """What happened in this message."""
        if self.role == "user":
            return [Said(False, self.content)]
        if self.role == "tool":
            return [Returned(self.tool_call_id or "", self.content)]
        if self.role == "function":
            return [Returned(self.name or "", self.content)]
        if self.role != "assistant":
            return []
        found: list[Event] = [Said(True, text) for text in (self.content, self.refusal) if text]
        found += [Called(call.id or "", call.action) for call in self.tool_calls or () if call.action]
        if (old := self.function_call) is not None:
            found.append(Called(old.name, calls.written(old.name, old.arguments)))
        return found


class Chat(About):
    """A line: messages, and what is known beside them."""

    messages: list[Message]


def events(messages: Iterable[Message]) -> list[Event]:
    """What happened in messages."""
    return [event for message in messages for event in message.events()]


def parse(value: Any) -> Trajectory:
    """{"messages": [...]}, optionally with "task", "task_id", "id" and "reward"; or a list of messages alone.

    Raises:
        ValueError: if it is neither.
    """
    chat = Chat.model_validate({"messages": value} if isinstance(value, list) else value)
    return chat.trajectory(events(chat.messages))
