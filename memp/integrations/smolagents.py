"""Memory for agents of smolagents: `agent = attach(ToolCallingAgent(tools, model))`.

    with memory.episode(task) as episode:
        answer = agent.run(task)
        episode.finish(reward)

The running episode's guidance joins the agent's system prompt, and what it does becomes steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from memp.calls import written
from memp.episode import current
from memp.errors import InputError, MissingExtra
from memp.integrations._calls import ToolCalls

try:
    from smolagents import ActionStep, MultiStepAgent, ToolCallingAgent
except ImportError as error:
    raise MissingExtra("smolagents", "smolagents") from error

A = TypeVar("A", bound=MultiStepAgent)

ANSWER = "final_answer"
"""The tool that only ends a run; its call is no step."""


def attach(agent: A) -> A:
    """Give an agent the memory of the episode it runs in; outside of one it stays as it was.

    Call it once, where the agent is made; again it changes nothing. A step of a `ToolCallingAgent` is one call
    of a tool with its answer, in the order in which the calls began, also where a model asks for several at
    once; one of a `CodeAgent` is one piece of code with what it printed and returned. The observation of what
    failed is the error. Of an agent that manages others, attach the outermost alone: its calls of the others are
    steps, and theirs would mingle with them.

    Raises:
        InputError: if it is no agent of smolagents.
    """
    if not isinstance(agent, MultiStepAgent):
        raise InputError(f"attach takes an agent of smolagents, and {agent!r:.100} is none")
    if isinstance(agent.initialize_system_prompt, _Prompt):
        return agent
    # The instructions of an agent are fixed when it is made, but the prompt is built at the start of each run.
    agent.initialize_system_prompt = _Prompt(agent.initialize_system_prompt)
    if isinstance(agent, ToolCallingAgent):
        # The callback of a step knows neither the calls that failed nor which of several answered what.
        agent.execute_tool_call = _Calls(agent.execute_tool_call)
    else:
        agent.step_callbacks.register(ActionStep, _record_code)
    return agent


class _Prompt:
    """Builds the system prompt, with the guidance at its end."""

    def __init__(self, plain: Callable[[], str]) -> None:
        self._plain = plain

    def __call__(self) -> str:
        episode = current()
        parts = [self._plain(), episode.guidance if episode is not None else ""]
        return "\n\n".join(part for part in parts if part)


class _Calls:
    """Calls a tool, and records it."""

    def __init__(self, plain: Callable[[str, Any], Any]) -> None:
        self._plain = plain
        self._calls = ToolCalls()

    def __call__(self, tool_name: str, arguments: Any) -> Any:
        episode = current()
        if episode is None or tool_name == ANSWER:
            return self._plain(tool_name, arguments)
        action, key = written(tool_name, arguments), object()
        self._calls.expect(episode, [key])
        try:
            result = self._plain(tool_name, arguments)
        except Exception as error:
            self._calls.ended(episode, key, action, str(error))
            raise
        self._calls.ended(episode, key, action, str(result).strip())
        return result


def _record_code(step: ActionStep) -> None:
    """Record the code of a step; where none was written or it could not be read, there is nothing to record."""
    episode = current()
    if episode is None or not step.code_action:
        return
    parts = [step.observations, str(step.error) if step.error is not None else None]
    episode.note(step.code_action, "\n".join(part for part in parts if part))
