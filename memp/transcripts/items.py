"""Items of OpenAI's responses, which the OpenAI Agents SDK keeps too."""

from __future__ import annotations

from collections.abc import Iterable

from memp import calls
from memp.transcripts.events import Called, Event, Returned, Said
from memp.transcripts.fields import Arguments, Read, Text

CALLS = (
    "function_call",
    "custom_tool_call",
    "shell_call",
    "local_shell_call",
    "apply_patch_call",
    "mcp_call",
)
"""The items that are actions. Other calls, such as a web search, are the server's own, and what came back is not
told; clicks on a screen are not read."""

MESSAGE, OUTPUT, MCP = "message", "_output", "mcp_call"


class Item(Read):
    """One item of an input or an output."""

    type: str | None = MESSAGE
    role: str | None = None
    content: Text = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Arguments = None
    input: Arguments = None
    action: Arguments = None
    operation: Arguments = None
    output: Text = ""

    @property
    def call(self) -> str:
        """What names the call that this item makes or answers."""
        return self.call_id or self.id or ""

    @property
    def is_output(self) -> bool:
        """Whether this is the result of a call."""
        return (self.type or "").removesuffix(OUTPUT) in CALLS and not self.is_call

    @property
    def is_call(self) -> bool:
        """Whether this is a call."""
        return self.type in CALLS

    def events(self) -> list[Event]:
        """What happened in this item."""
        if self.is_call:
            return self._called()
        if self.is_output:
            return [Returned(self.call, self.output)]
        if (self.type or MESSAGE) == MESSAGE and self.role in ("user", "assistant") and self.content:
            return [Said(self.role == "assistant", self.content)]
        return []

    def _called(self) -> list[Event]:
        given = next(filter(None, (self.arguments, self.input, self.action, self.operation)), None)
        name = self.name or (self.type or "").removesuffix("_call")
        called = Called(self.call, calls.written(name, given))
        return [called, Returned(self.call, self.output)] if self.type == MCP else [called]


def events(items: Iterable[Item]) -> list[Event]:
    """What happened in items."""
    return [event for item in items for event in item.events()]
