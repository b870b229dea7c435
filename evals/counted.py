"""What a chat model was asked and answered, summed up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from pydantic import BaseModel

from memp.chat import ChatModel, Message, Reply


class Counted:
    """A chat model, under its own name, that counts the tokens of its replies."""

    def __init__(self, chat: ChatModel, told: Callable[[int], None] = lambda _: None) -> None:
        """Take the model, and who is told of the number of replies after each."""
        self._chat = chat
        self._told = told
        self._lock = Lock()
        self.replies = 0
        self.tokens_in = 0
        self.tokens_out = 0

    @property
    def name(self) -> str:
        """The name of the model."""
        return self._chat.name

    def reply(
        self,
        messages: Sequence[Message],
        *,
        schema: type[BaseModel] | None = None,
        temperature: float = 0.0,
        max_tokens: int | None = None,
    ) -> Reply:
        """Answer as the model does; see `ChatModel.reply`."""
        reply = self._chat.reply(messages, schema=schema, temperature=temperature, max_tokens=max_tokens)
        with self._lock:
            self.replies += 1
            self.tokens_in += reply.tokens_in
            self.tokens_out += reply.tokens_out
            self._told(self.replies)
        return reply
