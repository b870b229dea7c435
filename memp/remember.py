"""An agent that is one function, with memory around it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from memp.episode import Episode
from memp.errors import InputError
from memp.trajectory import Step

if TYPE_CHECKING:
    from memp.memory import ProceduralMemory

Steps: TypeAlias = Iterable[Step | tuple[str, str]]

Agent: TypeAlias = Callable[[str, str], tuple[Steps, float] | Awaitable[tuple[Steps, float]]]
"""`agent(task, guidance) -> (steps, reward)`, also `async`."""

A = TypeVar("A", bound=Agent)


def remembering(memory: ProceduralMemory, agent: A, **options: Any) -> Callable[[str], Any]:
    """Wrap an agent so that each call is an episode; see `ProceduralMemory.remember`."""
    if inspect.iscoroutinefunction(agent):

        @functools.wraps(agent)
        async def waited(task: str) -> tuple[Steps, float]:
            from anyio import to_thread

            begun = await to_thread.run_sync(functools.partial(memory.episode, task, **options))
            async with begun as episode:
                return _noted(episode, await agent(task, episode.guidance))

        return waited

    @functools.wraps(agent)
    def called(task: str) -> tuple[Steps, float]:
        with memory.episode(task, **options) as episode:
            return _noted(episode, cast(tuple[Steps, float], agent(task, episode.guidance)))

    return called


def _noted(episode: Episode, outcome: object) -> tuple[Steps, float]:
    """Record what an agent says it did; returns it."""
    if not isinstance(outcome, tuple) or len(outcome) != 2:
        raise InputError(f"the agent returned {outcome!r:.200}; it must return (steps, reward)")
    steps, reward = outcome
    steps = list(steps)
    for number, step in enumerate(steps, 1):
        if not isinstance(step, Step) and not (isinstance(step, tuple | list) and len(step) == 2):
            raise InputError(f"step {number} is {step!r:.200}; it must be (action, observation)")
        action, observation = (step.action, step.observation) if isinstance(step, Step) else step
        episode.record(action, observation)
    episode.finish(reward)
    return steps, reward
