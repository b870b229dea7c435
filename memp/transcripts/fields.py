"""Fields that messages of all kinds have: read from JSON, or from objects that have them as attributes."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict

from memp.trajectory import Trajectory
from memp.transcripts.events import Event, trajectory

TEXTS = ("text", "refusal", "stdout", "stderr")
"""Where the parts of a content have their text."""

MEDIA = ("image", "screenshot", "audio", "video", "file", "document")
"""What is in the `type` of a part that has no text, and is told as `[type]`."""


class Read(BaseModel):
    """Base of what is read; fields that it does not name may be there, and are passed over."""

    model_config = ConfigDict(frozen=True, strict=True, from_attributes=True)


class About(Read):
    """What a line may say beside its messages."""

    task: str = ""
    """What was asked for; empty: the first user text."""

    task_id: str = ""
    """What tells this task from another with the same text."""

    id: str = ""
    """What tells this transcript from another."""

    reward: float | None = None
    """How it ended, in [0, 1]; None: not known."""

    def trajectory(self, events: list[Event]) -> Trajectory:
        """Make a trajectory of the messages; `ValueError` as `memp.transcripts.events.trajectory`."""
        return trajectory(
            events, task=self.task, task_id=self.task_id, episode_id=self.id, reward=self.reward
        )


def text_of(content: object) -> str:
    """The text of a content: a text, a part that has one, a list of these, or nothing.

    Raises:
        ValueError: if it is none of these.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        return "\n".join(filter(None, map(_text_of_part, content)))
    if isinstance(content, dict | BaseModel):
        return _text_of_part(content)
    raise ValueError(f"{content!r:.100} is neither a text nor a list of parts")


def _text_of_part(part: object) -> str:
    if isinstance(part, str):
        return part
    texts = [text for name in TEXTS if isinstance(text := field(part, name), str)]
    if texts:
        return "\n".join(filter(None, texts))
    kind = field(part, "type")
    return f"[{kind}]" if isinstance(kind, str) and any(name in kind for name in MEDIA) else ""


def field(value: object, name: str) -> Any:
    """A field of a JSON object or of an object with attributes; None where it has none."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def _arguments(value: object) -> object:
    if value is None or isinstance(value, str | dict):
        return value
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True)
    raise ValueError(f"{value!r:.100} is neither an object nor the JSON text of one")


Text: TypeAlias = Annotated[str, BeforeValidator(text_of)]
"""A content, read as its text."""

Arguments: TypeAlias = Annotated[Any, BeforeValidator(_arguments)]
"""Of a call, as `memp.calls.written` takes them."""
