"""What each question to a chat model took."""

from __future__ import annotations

from evals.chats.wrapped import Question, Wrapped
from memp.chat import ChatModel, Reply


class Noted(Wrapped):
    """A chat model that notes the tokens of its last reply to each prompt."""

    def __init__(self, chat: ChatModel) -> None:
        """Take the model."""
        super().__init__(chat)
        self._tokens: dict[str, tuple[int, int]] = {}

    def tokens(self, prompt: str) -> tuple[int, int]:
        """The tokens in and out of the last question that ended in a prompt; none if there was no such question."""
        return self._tokens.get(prompt, (0, 0))

    def _answer(self, question: Question) -> Reply:
        reply = self._ask(question)
        self._tokens[question.messages[-1]["content"]] = reply.tokens_in, reply.tokens_out
        return reply
