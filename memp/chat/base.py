"""The seam to language models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypedDict

from pydantic import BaseModel, Field

from memp.trajectory import Record


class Message(TypedDict):
    """One turn of a conversation, in the form every chat API shares."""

    role: Literal["system", "user", "assistant"]
    content: str


class Reply(Record):
    """What a chat model answered, and what it cost."""

    text: str
    """The answer; never empty."""

    tokens_in: int = Field(ge=0)
    """Tokens of the conversation sent."""

    tokens_out: int = Field(ge=0)
    """Tokens of the answer."""

    counted_by: Literal["server", "model", "tiktoken", "estimate"] = "server"
    """Who counted the tokens, `model` being one in this process; an `estimate` is never a measurement."""


class ChatModel(Protocol):
    """Answers a conversation. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """`provider:model`; stored with what the model built."""
        ...

    def reply(
        self,
        messages: Sequence[Message],
        *,
        schema: type[BaseModel] | None = None,
        temperature: float = 0.0,
        max_tokens: int | None = None,
    ) -> Reply:
        """Answer the conversation.

        Args:
            messages: The turns so far, oldest first; at least one.
            schema: The JSON form wanted, for servers that can enforce one. A
                hint: whoever asks still parses the text tolerantly.
            temperature: 0 for the most likely answer.
            max_tokens: Longest answer; None leaves it to the model.

        Raises:
            ModelError: if there is no answer after the backend's own retries.
        """
        ...
