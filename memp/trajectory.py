"""What an agent lived through: steps, and the trajectory they form."""

from __future__ import annotations

import logging

from pydantic import BaseModel, ConfigDict, Field, field_validator

log = logging.getLogger(__name__)

MAX_TEXT = 1_000_000
"""Most characters in one text field: larger ones are files, not observations."""


def storable(text: str, what: str) -> str:
    """The text as far as it can be stored: not longer than a field may be, without halves of characters.

    Args:
        text: Any text.
        what: What it is, to be logged where it is cut.
    """
    if len(text) > MAX_TEXT:
        log.warning("%s of %d characters is cut to %d", what, len(text), MAX_TEXT)
        text = text[:MAX_TEXT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class Record(BaseModel):
    """Base of every value memp stores: immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Step(Record):
    """One action and what the environment answered."""

    action: str = Field(min_length=1, max_length=MAX_TEXT)
    """What the agent did, as the environment reads it."""

    observation: str = Field(max_length=MAX_TEXT)
    """What the environment answered to that action."""


def heard(action: str, observation: str) -> Step:
    """The step that an adapter or a transcript tells of, as far as it can be stored; the action is not empty."""
    return Step(action=storable(action, "an action"), observation=storable(observation, "an observation"))


class Trajectory(Record):
    """One episode, tau = (s0, a0, o1, ..., sT) with its reward."""

    task: str = Field(max_length=MAX_TEXT)
    """The text asked for; not blank."""

    steps: tuple[Step, ...]
    """Actions with the observations that followed, in order."""

    reward: float = Field(ge=0, le=1, allow_inf_nan=False)
    """Final task reward in [0, 1]; 1 means the goal was fully met."""

    start: str = Field(default="", max_length=MAX_TEXT)
    """The observation before the first action (s0), if there was one."""

    task_id: str = Field(default="", max_length=1000)
    """What tells this task from another with the same text; empty: the text itself."""

    episode_id: str = Field(default="", max_length=200)
    """What tells this episode from another; with it, an outcome is never credited twice."""

    shown: tuple[str, ...] = ()
    """Ids of the procedures the agent was shown."""

    finished: bool = True
    """False where the episode broke off before its reward was known; `reward` then says nothing."""

    @field_validator("task")
    @classmethod
    def _not_blank(cls, task: str) -> str:
        if not task.strip():
            raise ValueError("the task is empty; say what the agent was asked for")
        return task

    def ended(self, reward: float) -> Trajectory:
        """The same, now that it is known how it ended; the reward is in [0, 1]."""
        return self.model_copy(update={"reward": float(reward), "finished": True})

    @property
    def source(self) -> str:
        """The identity of the task: `task_id`, or the text with its white space folded."""
        return self.task_id or " ".join(self.task.split())
