"""Memory for agents of the OpenAI Agents SDK: `agent = attach(Agent(name, instructions, tools=[...]))`.

    with memory.episode(task) as episode:
        result = Runner.run_sync(agent, task)
        episode.finish(reward)

The running episode's guidance joins the agent's instructions, and its tool calls become steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast
from weakref import WeakKeyDictionary

from memp.calls import written
from memp.episode import Episode, current
from memp.errors import InputError, MissingExtra
from memp.integrations._calls import ToolCalls

try:
    from agents import (
        Agent,
        AgentHooks,
        ApplyPatchTool,
        ComputerTool,
        LocalShellTool,
        ModelResponse,
        RunContextWrapper,
        ShellTool,
        Tool,
        ToolOutputFileContent,
        ToolOutputImage,
        ToolOutputText,
    )
    from agents.tool_context import ToolContext
except ImportError as error:
    raise MissingExtra("openai-agents", "openai-agents") from error

A = TypeVar("A", bound=Agent[Any])

Instructions: TypeAlias = str | Callable[[RunContextWrapper[Any], Agent[Any]], Any] | None

STRUCTURED = (ToolOutputText, ToolOutputImage, ToolOutputFileContent)

ASKED_BY: dict[type, str] = {
    ApplyPatchTool: "apply_patch_call",
    ComputerTool: "computer_call",
    LocalShellTool: "local_shell_call",
    ShellTool: "shell_call",
}
"""How a reply asks for the tools that are no functions; their hooks are not told what was asked."""


def attach(agent: A) -> A:
    """Give an agent the memory of the episode it runs in; outside of one it stays as it was.

    Call it once, where the agent is made; again it changes nothing. Its own instructions and hooks stay in
    use. Attach each agent of a handoff that is to have memory. A step is one call of a tool that runs here,
    with the tool's answer, in the order in which the model asked for them. A failed call is a step whose
    observation is the error; but where a tool has no `failure_error_function`, its error ends the run, the SDK
    tells no hook of it, and that call is no step.

    Raises:
        InputError: if it is no agent of the SDK.
    """
    if not isinstance(agent, Agent):
        raise InputError(f"attach takes an agent of the OpenAI Agents SDK, and {agent!r:.100} is none")
    if not isinstance(agent.instructions, _Guided):
        agent.instructions = _Guided(agent.instructions)
    if not isinstance(agent.hooks, _Recorder):
        agent.hooks = _Recorder(agent.hooks or AgentHooks())
    return agent


class _Guided:
    """The agent's own instructions, with the guidance at their end."""

    def __init__(self, own: Instructions) -> None:
        self._own = own

    async def __call__(self, context: RunContextWrapper[Any], agent: Agent[Any]) -> str:
        said = self._own(context, agent) if callable(self._own) else self._own
        if inspect.isawaitable(said):
            said = await said
        episode = current()
        if episode is None or not episode.guidance:
            return cast(str, said)  # None too: then no instructions are sent
        return f"{said}\n\n{episode.guidance}" if said else episode.guidance


@dataclass
class _Asked:
    """What the last reply of an episode asks of tools that are no functions, and what was made of it."""

    items: list[dict[str, Any]] = field(default_factory=list)
    actions: dict[str, str] = field(default_factory=dict)
    """By the names of the tools: of each only one call goes on at once."""


class _Recorder(AgentHooks[Any]):
    """Records the tool calls of the running episode, and passes all it hears to the agent's own hooks."""

    def __init__(self, own: AgentHooks[Any]) -> None:
        self._own = own
        self._calls = ToolCalls()
        self._asked: WeakKeyDictionary[Episode, _Asked] = WeakKeyDictionary()
        for name in dir(own):
            if name.startswith("on_") and name not in vars(_Recorder):
                setattr(self, name, getattr(own, name))

    async def on_llm_end(
        self, context: RunContextWrapper[Any], agent: Agent[Any], response: ModelResponse
    ) -> None:
        if (episode := current()) is not None:
            items = [item if isinstance(item, dict) else item.model_dump() for item in response.output]
            self._asked[episode] = _Asked([item for item in items if item.get("type") in ASKED_BY.values()])
        await self._own.on_llm_end(context, agent, response)

    async def on_tool_start(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool) -> None:
        if (episode := current()) is not None:
            if not isinstance(context, ToolContext):
                self._asked_of(episode, tool)
            self._calls.expect(episode, [_key(context, tool)])
        await self._own.on_tool_start(context, agent, tool)

    async def on_tool_end(
        self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool, result: Any
    ) -> None:
        if (episode := current()) is not None:
            observation = "[screenshot]" if isinstance(tool, ComputerTool) else _text(result)
            self._calls.ended(episode, _key(context, tool), self._action(episode, context, tool), observation)
        await self._own.on_tool_end(context, agent, tool, result)

    def _action(self, episode: Episode, context: RunContextWrapper[Any], tool: Tool) -> str:
        if isinstance(context, ToolContext):
            return written(context.tool_name, context.tool_arguments)
        return self._asked_of(episode, tool).pop(tool.name)

    def _asked_of(self, episode: Episode, tool: Tool) -> dict[str, str]:
        """The actions of tools that are no functions, that of this one among them."""
        asked = self._asked.setdefault(episode, _Asked())
        if tool.name not in asked.actions:
            asked.actions[tool.name] = written(tool.name, _taken(asked.items, ASKED_BY.get(type(tool), "")))
        return asked.actions


def _key(context: RunContextWrapper[Any], tool: Tool) -> str:
    """What tells calls apart that go on at once; of a tool that is no function only one does."""
    return context.tool_call_id if isinstance(context, ToolContext) else tool.name


def _taken(asked: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Take the first of its kind out of what was asked; returns what is to be done."""
    for item in asked:
        if item["type"] == kind:
            asked.remove(item)
            done = item.get("action") or item.get("operation") or {"actions": item.get("actions")}
            return {key: value for key, value in done.items() if value is not None}
    return {}


def _text(result: Any) -> str:
    """What a tool returned, as the model reads it."""
    if isinstance(result, ToolOutputText):
        return result.text
    if isinstance(result, ToolOutputImage):
        return "[image]"
    if isinstance(result, ToolOutputFileContent):
        return "[file]"
    if isinstance(result, list) and result and all(isinstance(part, STRUCTURED) for part in result):
        return "\n".join(_text(part) for part in result)
    return str(result)
