"""One live run with memory: guidance in, steps recorded, outcome out."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from memp.errors import InputError
from memp.guidance import Guidance
from memp.procedure import Match
from memp.trajectory import Step, Trajectory, heard
from memp.update import MemoryUpdate

if TYPE_CHECKING:
    from memp.agents.replay_first import Replayed
    from memp.memory import ProceduralMemory

log = logging.getLogger(__name__)

_RUNNING: ContextVar[Episode | None] = ContextVar("memp_episode", default=None)


def current(memory: ProceduralMemory | None = None) -> Episode | None:
    """The episode whose block this code runs in, the innermost one; None outside, and once it has ended.

    Known to what the block calls and to the tasks it starts, as any context variable is; a bare
    `threading.Thread` knows nothing of it.

    Args:
        memory: Only an episode of this memory; None: of any.
    """
    episode = _RUNNING.get()
    while episode is not None and (episode._left or (memory is not None and episode.memory is not memory)):
        episode = episode._outer
    return episode


class Episode:
    """What an agent is told before it acts, and what it lived through; `ProceduralMemory.episode` makes one.

    Leaving the `with` block after `finish` updates the memory. Leaving it without, or by an exception, keeps
    what was recorded as an unfinished trajectory in the memory's quarantine. `async with` does the same, and
    waits for the update in a thread.

    Raises:
        InputError: if the task is blank, or a text is too long.
    """

    def __init__(
        self,
        task: str,
        shown: Guidance,
        leave: Callable[[Trajectory, Collection[str]], MemoryUpdate],
        *,
        memory: ProceduralMemory,
        task_id: str = "",
        start: str = "",
    ) -> None:
        self.memory = memory
        """The memory it belongs to."""

        self.matches: tuple[Match, ...] = shown.matches
        """The procedures shown, best first."""

        self.guidance = shown.text
        """The text to put into the prompt; empty where nothing is shown. It is marked, so that a
        transcript that holds it can be learned from."""

        self.held_out = False
        """Whether memory is left out of this episode on purpose, for comparison."""

        self.update: MemoryUpdate | None = None
        """What the memory made of it; None before the block is left."""

        try:
            self._begun = Trajectory(
                task=task,
                steps=(),
                reward=0,
                start=start,
                task_id=task_id,
                episode_id=uuid.uuid4().hex,
                shown=tuple(match.procedure.id for match in self.matches),
                finished=False,
            )
        except ValidationError as error:
            raise InputError(f"the episode cannot begin: {_first(error)}") from error
        self._leave = leave
        self._left = False
        self._steps: list[Step] = []
        self._replayed = 0
        self._outdated: set[str] = set()
        self._heard: tuple[Step, ...] = ()
        self._running: Token[Episode | None] | None = None
        self._outer: Episode | None = None
        self._reward: float | None = None
        self._broken = False

    @property
    def task(self) -> str:
        """What the agent is asked for."""
        return self._begun.task

    def record(self, action: str, observation: str) -> None:
        """Record one step.

        Raises:
            InputError: if the action is empty, or a text is too long to be an observation; what was recorded
                before is kept.
        """
        self._still_running()
        try:
            self._steps.append(Step(action=action, observation=observation))
        except ValidationError as error:
            raise InputError(f"step {len(self._steps) + 1}: {_first(error)}") from error

    def hold_out(self) -> None:
        """Show nothing in this episode, so that it can be compared with those that are shown something."""
        self.held_out = True
        self.matches, self.guidance = (), ""
        self._begun = self._begun.model_copy(update={"shown": ()})

    def hear(self, steps: Sequence[Step]) -> None:
        """Take over all steps that an adapter has heard so far; each call replaces what was heard before.

        Where anything was recorded by hand, what was heard is not used: no step counts twice. What comes after the
        block is logged and left out: an agent that goes on is not to fail because of its memory.
        """
        if self._left:
            log.warning("what came after the end of the episode %r is not recorded", self.task)
        else:
            self._heard = tuple(steps)

    def note(self, action: str, observation: str) -> None:
        """Take over one more step that an adapter has heard; what is too long is cut, and nothing is raised."""
        if action:
            self.hear((*self._heard, heard(action, observation)))

    def replay(
        self,
        execute: Callable[[str], str],
        *,
        actions: Callable[[], Sequence[str]] | None = None,
        **options: Any,
    ) -> Replayed:
        """Carry out the proven procedure of this very task without the model, as long as all is as it was then.

        See `memp.agents.replay_first.replay`; the steps are recorded, and yours follow them. A procedure that no
        longer held is replaced by what this episode did, if it succeeds.
        """
        from memp.agents.replay_first import replay

        self._still_running()
        before = len(self._steps)
        try:
            replayed = replay(
                self, execute, actions=actions, **{"success_at": self.memory.success_at, **options}
            )
            if replayed.expected is not None:  # the world has changed: a way that works now is the better one
                self._outdated.add(replayed.procedure_id)
            return replayed
        finally:
            self._replayed += len(self._steps) - before

    def finish(self, reward: float) -> None:
        """Say how the episode ended; the last call counts.

        Args:
            reward: In [0, 1]; 1 means the goal was fully met.

        Raises:
            InputError: if the reward is not in [0, 1].
        """
        self._still_running()
        try:
            number = float(reward)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number <= 1:
            raise InputError(f"reward is {reward!r}; it must be a number from 0 to 1")
        self._reward = number

    def _still_running(self) -> None:
        if self._left:
            raise InputError("the episode has ended with its block; begin another with memory.episode(task)")

    @property
    def trajectory(self) -> Trajectory:
        """What was recorded so far."""
        by_hand = len(self._steps) > self._replayed
        return self._begun.model_copy(
            update={
                "steps": (*self._steps, *(() if by_hand else self._heard)),
                "reward": self._reward or 0.0,
                "finished": self._reward is not None and not self._broken,
            }
        )

    def __enter__(self) -> Episode:
        self._outer = current()
        self._running = _RUNNING.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)
        self.update = self._leave(self.trajectory, self._outdated)

    async def __aenter__(self) -> Episode:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from anyio import CancelScope, to_thread

        self._end(error)
        with CancelScope(shield=True):  # a run that was cancelled is kept too
            self.update = await to_thread.run_sync(self._leave, self.trajectory, self._outdated)

    def _end(self, error: BaseException | None) -> None:
        self._broken = error is not None
        self._left = True
        if self._running is not None:
            # ValueError: it was entered in another context. There, `current` passes over what has ended.
            with suppress(ValueError):
                _RUNNING.reset(self._running)
            self._running = None


def _first(error: ValidationError) -> str:
    """What is wrong with the first field that is, and the way out."""
    first = error.errors(include_url=False)[0]
    way_out = "; shorten it before it is recorded" if first["type"] == "string_too_long" else ""
    return f"{first['loc'][0]}: {first['msg']}{way_out}"
