"""Memory for evals of Inspect AI: `Task(..., solver=memory_solver(memory, react(tools=[...])))`.

Inspect runs the loop and scores a sample after its solver has ended. So the solver puts the guidance in and
keeps what was done; a hook, which is active once this module is imported, learns from it when the sample's
score is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from anyio import CancelScope, to_thread

from memp.calls import written
from memp.episode import Episode
from memp.errors import InputError, MissingExtra
from memp.memory import ProceduralMemory
from memp.trajectory import Trajectory

try:
    from inspect_ai.agent import Agent, as_solver, is_agent
    from inspect_ai.hooks import Hooks, RunEnd, SampleAttemptEnd, SampleEnd, hooks
    from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageTool
    from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, PARTIAL, Score
    from inspect_ai.solver import Generate, Solver, TaskState, solver
    from inspect_ai.tool import ToolCall
except ImportError as error:
    raise MissingExtra("inspect-ai", "inspect") from error

Call: TypeAlias = tuple[str, str]
"""A call of a tool as an action, and the tool's answer."""

Reward: TypeAlias = Callable[[Mapping[str, Score]], float]
"""From the scores of a sample, by the names of their scorers, to a reward in [0, 1]."""

LETTERS = {CORRECT: 1.0, PARTIAL: 0.5, INCORRECT: 0.0, NOANSWER: 0.0}
"""What Inspect's own scorers say in letters."""


def first_score(scores: Mapping[str, Score]) -> float:
    """The value of the first scorer's score as a number; a letter of Inspect's as what it stands for.

    Raises:
        InputError: if that value is no number.
    """
    name, score = next(iter(scores.items()))
    if isinstance(score.value, str) and score.value in LETTERS:
        return LETTERS[score.value]
    try:
        return float(score.value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(
            f"the scorer {name!r} says {score.value!r}, which is no number; pass reward= to memory_solver"
        ) from None


@solver
def memory_solver(
    memory: ProceduralMemory,
    inner: Solver | Agent,
    *,
    k: int = 3,
    holdout: float = 0.0,
    learn: bool = True,
    exclude_own: bool = True,
    task_id: Callable[[TaskState], str] | None = None,
    reward: Reward = first_score,
) -> Solver:
    """Run another solver, or an agent such as `react(...)`, with memory: each sample of each epoch is an episode.

    Guidance goes into a system message. The steps are the calls of tools that stand in the sample's messages
    when the inner solver has ended, also by an error or a limit, each with the tool's answer or its error; a
    call without an answer is none. A sample without scores is kept as unfinished. What goes wrong with the
    reward or the update is a warning in Inspect's log, and the episode is kept in the memory's quarantine.

    Args:
        memory: Stays open; the caller closes it after the eval.
        inner: What solves the sample.
        k: How many procedures to show at most.
        holdout: The share of samples to leave memory out of by chance; see `ProceduralMemory.episode`.
        learn: False leaves the memory as it is, to measure what it is worth.
        exclude_own: Show nothing that was built from the very sample, in an earlier epoch or eval. False is
            for those who want to learn a sample by heart.
        task_id: What tells samples of the same input apart, from the state; None takes the input alone.
        reward: From the sample's scores to a reward in [0, 1].

    Raises:
        InputError: if `memory` is no memory: Inspect cannot make one from what its log says of it; or if
            there is a `holdout` and nothing is learned, so that no outcome would be known.
    """
    if not isinstance(memory, ProceduralMemory):
        raise InputError(f"memory_solver takes an open memory, and {memory!r:.100} is none")
    if holdout and not learn:
        raise InputError(f"holdout is {holdout!r}, which needs learn=True: how the samples end is compared")
    inner_solver = as_solver(inner) if is_agent(inner) else cast(Solver, inner)

    def begin(task: str, identity: str) -> Episode:
        own = Trajectory(task=task, task_id=identity, steps=(), reward=0).source
        exclude = [own] if exclude_own else []
        return memory.episode(task, k=k, holdout=holdout, task_id=identity, exclude=exclude)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        identity = task_id(state) if task_id is not None else ""
        episode = await to_thread.run_sync(begin, state.input_text, identity)
        told = len(list(_calls(state.messages)))
        if episode.guidance:
            _instruct(state.messages, episode.guidance)
        run = _Run(episode, reward)
        if learn:
            _runs.setdefault(state.uuid, []).append(run)
        try:
            state = await inner_solver(state, generate)
        finally:
            run.calls = list(_calls(state.messages))[told:]
        return state

    return solve


@dataclass
class _Run:
    """A solver's part of a sample that is being run: its episode, and what was done so far."""

    episode: Episode
    reward: Reward
    calls: list[Call] = field(default_factory=list)

    def end(self, scores: Mapping[str, Score]) -> None:
        """Let the memory learn, or keep the episode as unfinished."""
        with self.episode:
            for action, observation in self.calls:
                self.episode.note(action, observation)
            if scores:
                self.episode.finish(self.reward(scores))


_runs: dict[str, list[_Run]] = {}
"""By the id of the sample's run, which differs between epochs; a sample may have several solvers with memory."""


@hooks(name="memp", description="Learns from the samples that memory_solver has run.")
class MemoryHooks(Hooks):
    """Ends the episodes that `memory_solver` began."""

    async def on_sample_end(self, data: SampleEnd) -> None:
        """Learn from a sample that was scored; keep one that was not."""
        await _end(data.sample_id, data.sample.scores)

    async def on_sample_attempt_end(self, data: SampleAttemptEnd) -> None:
        """Keep an attempt that failed and is made again."""
        if data.will_retry:
            await _end(data.sample_id)

    async def on_run_end(self, data: RunEnd) -> None:  # noqa: ARG002  the framework passes it
        """Keep what was cancelled before its sample could end."""
        for sample_id in list(_runs):
            await _end(sample_id)


async def _end(sample_id: str, scores: Mapping[str, Score] | None = None) -> None:
    runs = _runs.pop(sample_id, None)
    if runs is not None:
        with CancelScope(shield=True):  # what was cancelled is kept too
            await to_thread.run_sync(_end_all, runs, scores or {})


def _end_all(runs: list[_Run], scores: Mapping[str, Score]) -> None:
    """End each run, in the order they began, also after one that cannot be."""
    with ExitStack() as stack:
        for run in reversed(runs):
            stack.callback(run.end, scores)


def _instruct(messages: list[ChatMessage], guidance: str) -> None:
    """Put the guidance after the system messages that stand first."""
    place = next((n for n, message in enumerate(messages) if message.role != "system"), len(messages))
    messages.insert(place, ChatMessageSystem(content=guidance))


def _calls(messages: Iterable[ChatMessage]) -> Iterator[Call]:
    """The calls of tools that were answered, in the order of the answers."""
    asked: dict[str, ToolCall] = {}
    for message in messages:
        if isinstance(message, ChatMessageAssistant):
            asked |= {call.id: call for call in message.tool_calls or ()}
        elif isinstance(message, ChatMessageTool) and (call := asked.pop(message.tool_call_id or "", None)):
            answer = message.error.message if message.error is not None else message.text
            yield written(call.function, call.arguments), answer
