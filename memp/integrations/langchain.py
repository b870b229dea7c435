"""Memory for agents of LangChain 1.x: `create_agent(model, tools, middleware=[MemoryMiddleware()])`.

    with memory.episode(task) as episode:
        agent.invoke({"messages": [("user", task)]})
        episode.finish(reward)

The running episode's guidance joins the system message of each request and is not kept in the agent's state;
its tool calls become steps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from memp.calls import written
from memp.episode import current
from memp.errors import MissingExtra
from memp.integrations._calls import ToolCalls

try:
    from langchain.agents.middleware import (
        AgentMiddleware,
        AgentState,
        ModelRequest,
        ModelResponse,
        ToolCallRequest,
    )
    from langchain.messages import AIMessage, SystemMessage, ToolMessage
    from langgraph.errors import GraphBubbleUp
    from langgraph.types import Command
except ImportError as error:
    raise MissingExtra("langchain", "langchain") from error

Answer: TypeAlias = ToolMessage | Command[Any]


class MemoryMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Gives an agent the memory of the episode it runs in, and does nothing outside of one.

    Put it last, so that no other middleware replaces the system message after it. One object serves any number of
    agents and concurrent runs. A step is one call of a tool with its answer, in the order in which the model asked
    for them, also where they run at once. A failed call is a step whose observation is the error; one that is
    cancelled, or interrupted to ask a human, is none until it is made again.

    In a graph of your own, `ToolNode(tools, wrap_tool_call=middleware.wrap_tool_call,
    awrap_tool_call=middleware.awrap_tool_call)` records the calls, and `episode.guidance` is what to tell the
    model.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls = ToolCalls()

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Ask the model with the guidance in the system message."""
        return handler(self._guided(request))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """As `wrap_model_call`."""
        return await handler(self._guided(request))

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Answer]
    ) -> Answer:
        """Record a call with what the tool answered, or with the error it raised."""
        with self._recorded(request) as call:
            call.answer = handler(request)
        return call.answer

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Answer]]
    ) -> Answer:
        """As `wrap_tool_call`."""
        with self._recorded(request) as call:
            call.answer = await handler(request)
        return call.answer

    def _guided(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        episode = current()
        if episode is None or not episode.guidance:
            return request
        return request.override(system_message=_joined(request.system_message, episode.guidance))

    @contextmanager
    def _recorded(self, request: ToolCallRequest) -> Iterator[_Call]:
        """Record the call that is made in the block."""
        call, episode = _Call(), current()
        if episode is None:
            yield call
            return
        action = written(request.tool_call["name"], request.tool_call["args"])
        reply_id, asked = _reply(request.state, call_id := request.tool_call["id"] or "")
        self._calls.expect(episode, [(reply_id, each) for each in asked])
        try:
            yield call
        except GraphBubbleUp:
            raise
        except Exception as error:
            self._calls.ended(episode, (reply_id, call_id), action, str(error) or type(error).__name__)
            raise
        self._calls.ended(episode, (reply_id, call_id), action, _text(call.answer))


class _Call:
    """A call of a tool while it goes on."""

    answer: Answer


def _reply(state: Any, call_id: str) -> tuple[str, list[str]]:
    """The id of the reply that asked for a call, and the ids of its calls that are not answered yet."""
    messages = state.get("messages", ()) if isinstance(state, dict) else getattr(state, "messages", state)
    answered = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            asked = [call["id"] or "" for call in message.tool_calls]
            if call_id in asked:
                return message.id or call_id, [asked_id for asked_id in asked if asked_id not in answered]
    return call_id, [call_id]


def _joined(own: SystemMessage | None, guidance: str) -> SystemMessage:
    """The agent's own system message, with the guidance at its end."""
    if own is None:
        return SystemMessage(guidance)
    content = own.content
    if isinstance(content, str):
        return own.model_copy(update={"content": f"{content}\n\n{guidance}" if content else guidance})
    return own.model_copy(update={"content": [*content, {"type": "text", "text": guidance}]})


def _text(answer: object) -> str:
    """What the model is told of a call; by a command, through the messages that it adds."""
    if isinstance(answer, Command):
        return _text(answer.update.get("messages", [])) if isinstance(answer.update, dict) else ""
    if isinstance(answer, list):
        return "\n".join(text for text in map(_text, answer) if text)
    return str(answer.text) if isinstance(answer, ToolMessage) else ""
