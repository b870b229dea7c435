"""One live run with memory: guidance in, steps recorded, outcome out."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType

from pydantic import ValidationError

from memp import guidance
from memp.errors import InputError
from memp.procedure import Match
from memp.trajectory import Step, Trajectory
from memp.update import MemoryUpdate


class Episode:
    """What an agent is told before it acts, and what it lived through; `ProceduralMemory.episode` makes one.

    Leaving the `with` block after `finish` updates the memory. Leaving it without, or by an exception, keeps
    what was recorded as an unfinished trajectory in the memory's quarantine.

    Raises:
        InputError: if the task is blank, or a text is too long.
    """

    def __init__(
        self,
        task: str,
        matches: Sequence[Match],
        leave: Callable[[Trajectory], MemoryUpdate],
        *,
        task_id: str = "",
        start: str = "",
    ) -> None:
        self.matches = tuple(matches)
        """The procedures retrieved, best first."""

        self.guidance = guidance.render(matches)
        """The text to put into the prompt; empty where nothing was retrieved. It is marked, so that a
        transcript that holds it can be learned from."""

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
        return self._begun.model_copy(
            update={
                "steps": tuple(self._steps),
                "reward": self._reward or 0.0,
                "finished": self._reward is not None and not self._broken,
            }
        )

    def __enter__(self) -> Episode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._broken = error is not None
        self._left = True
        self.update = self._leave(self.trajectory)


def _first(error: ValidationError) -> str:
    """What is wrong with the first field that is, and the way out."""
    first = error.errors(include_url=False)[0]
    way_out = "; shorten it before it is recorded" if first["type"] == "string_too_long" else ""
    return f"{first['loc'][0]}: {first['msg']}{way_out}"
