"""What a chat model was asked and answered, summed up."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from evals.chats.wrapped import Question, Wrapped
from memp.chat import ChatModel, Reply


class Counted(Wrapped):
    """A chat model that counts the tokens of its replies."""

    def __init__(self, chat: ChatModel, told: Callable[[int], None] = lambda _: None) -> None:
        """Take the model, and who is told of the number of replies after each."""
        super().__init__(chat)
        self._told = told
        self._lock = Lock()
        self.replies = 0
        self.tokens_in = 0
        self.tokens_out = 0

    def _answer(self, question: Question) -> Reply:
        reply = self._ask(question)
        with self._lock:
            self.replies += 1
            self.tokens_in += reply.tokens_in
            self.tokens_out += reply.tokens_out
            self._told(self.replies)
        return reply
