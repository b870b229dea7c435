"""Chat models in front of another one: what they share, so that each adds one thing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic import BaseModel

from memp.chat import ChatModel, Message, Reply


class Question(NamedTuple):
    """What a chat model is asked; see `ChatModel.reply`."""

    messages: Sequence[Message]
    schema: type[BaseModel] | None
    temperature: float
    max_tokens: int | None


class Wrapped(ABC):
    """A chat model in front of another one, under its name: nobody who asks can tell the difference."""

    def __init__(self, chat: ChatModel) -> None:
        """Take the model."""
        self._chat = chat

    @property
    def name(self) -> str:
        """The name of the model."""
        return self._chat.name

    @property
    def path(self) -> str | None:
        """The folder of the model's weights, where it has one: the manifest says which weights answered."""
        path: str | None = getattr(self._chat, "path", None)
        return path

    def reply(
        self,
        messages: Sequence[Message],
        *,
        schema: type[BaseModel] | None = None,
        temperature: float = 0.0,
        max_tokens: int | None = None,
    ) -> Reply:
        """Answer as the model does; see `ChatModel.reply`."""
        return self._answer(Question(messages, schema, temperature, max_tokens))

    @abstractmethod
    def _answer(self, question: Question) -> Reply:
        """Answer, by asking the model or otherwise."""

    def _ask(self, question: Question) -> Reply:
        """Ask the model."""
        return self._chat.reply(
            question.messages,
            schema=question.schema,
            temperature=question.temperature,
            max_tokens=question.max_tokens,
        )


class Guarded(Wrapped):
    """A chat model that is asked only while `allowed` does not raise."""

    def __init__(self, chat: ChatModel, allowed: Callable[[], None]) -> None:
        """Take the model, and what is called before each question."""
        super().__init__(chat)
        self._allowed = allowed

    def _answer(self, question: Question) -> Reply:
        self._allowed()
        return self._ask(question)
