"""Memory for agents of pydantic-ai: `Agent(model, capabilities=[Memory()])`.

    with memory.episode(task) as episode:
        result = agent.run_sync(task)
        episode.finish(reward)

The running episode's guidance joins the agent's instructions, and its tool calls become steps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from pydantic import ValidationError

from memp.calls import written
from memp.episode import current
from memp.errors import MissingExtra
from memp.integrations._calls import ToolCalls

try:
    from pydantic_ai import ModelRetry, RunContext, ToolDefinition
    from pydantic_ai.capabilities import AbstractCapability
    from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ToolFailed
    from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart, ToolReturn, ToolReturnPart
    from pydantic_ai.models import ModelRequestContext
except ImportError as error:
    raise MissingExtra("pydantic-ai-slim", "pydantic-ai") from error

NOT_TRIED = frozenset({"unknown_tool", "unavailable_tool"})
"""Why a call is sent back to the model before the hooks of tools see it."""


_CALLS = ToolCalls()


class Memory(AbstractCapability[Any]):
    """Gives an agent the memory of the episode it runs in, and does nothing outside of one.

    It holds nothing itself: one object serves any number of agents and concurrent runs. Steps stand in the
    order in which the calls began, also where a model asks for several at once. A failed call is a step whose
    observation is the error; one that waits for approval is none.
    """

    id: str | None = "memp"
    """An agent has one memory: a second is merged with the first."""

    def get_instructions(self) -> Callable[[RunContext[Any]], Awaitable[str]]:
        """Return the function that is asked for the guidance before each request to the model."""
        return _guidance

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],  # noqa: ARG002  the framework passes it by name
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,  # noqa: ARG002
        args: dict[str, Any],
        handler: Callable[[dict[str, Any]], Awaitable[Any]],
    ) -> Any:
        """Record a call with what the tool answered, or with the error it raised."""
        episode = current()
        if episode is None:
            return await handler(args)
        action, key = written(call.tool_name, args), object()  # a key of its own: a call may be made again
        _CALLS.expect(episode, [key])
        try:
            result = await handler(args)
        except (CallDeferred, ApprovalRequired):
            raise
        except Exception as error:
            _CALLS.ended(episode, key, action, _text(error))
            raise
        _CALLS.ended(episode, key, action, _answer(call.tool_name, result))
        return result

    async def wrap_tool_validate(
        self,
        ctx: RunContext[Any],  # noqa: ARG002
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,  # noqa: ARG002
        args: str | dict[str, Any],
        handler: Callable[[str | dict[str, Any]], Awaitable[dict[str, Any]]],
    ) -> dict[str, Any]:
        """Record a call whose arguments the tool does not take."""
        try:
            return await handler(args)
        except (ValidationError, ModelRetry, ToolFailed) as error:
            if (episode := current()) is not None:
                _CALLS.ended(episode, object(), written(call.tool_name, args), _text(error))
            raise

    async def before_model_request(
        self,
        ctx: RunContext[Any],  # noqa: ARG002
        request_context: ModelRequestContext,
    ) -> ModelRequestContext:
        """Record the calls of the last reply that named no tool of the agent."""
        if (episode := current()) is not None:
            for call, answer in _not_tried(request_context.messages):
                told = answer.model_response_str(wrap_if_error=False)
                _CALLS.ended(episode, object(), written(call.tool_name, call.args), told)
        return request_context


async def _guidance(_: RunContext[Any]) -> str:
    episode = current()
    return "" if episode is None else episode.guidance


def _not_tried(messages: list[ModelMessage]) -> Iterator[tuple[ToolCallPart, ToolReturnPart]]:
    """The last reply's calls that no tool was found for, each with what the model is told of it."""
    if len(messages) < 2 or not isinstance(messages[-2], ModelResponse):
        return
    calls = {call.tool_call_id: call for call in messages[-2].tool_calls}
    for part in messages[-1].parts:
        if isinstance(part, ToolReturnPart) and part.retry is not None and part.retry.cause in NOT_TRIED:
            yield calls[part.tool_call_id], part


def _answer(name: str, result: Any) -> str:
    """What a tool returned, as the model reads it."""
    value = result.return_value if isinstance(result, ToolReturn) else result
    return ToolReturnPart(name, value, "").model_response_str()


def _text(error: Exception) -> str:
    if isinstance(error, ValidationError):
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in wrong)
    return str(error) or type(error).__name__
