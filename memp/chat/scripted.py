"""The honest double of a chat model: its replies are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock

from pydantic import BaseModel

from memp import tokens
from memp.chat.base import Message, Reply
from memp.errors import InputError, ModelError


@dataclass(frozen=True)
class Call:
    """One question put to a `ScriptedChat`."""

    messages: tuple[Message, ...]
    schema: type[BaseModel] | None
    temperature: float
    max_tokens: int | None


class ScriptedChat:
    """Answers from a script, for tests, documentation and first steps without a key.

    Args:
        replies: What to answer, one after the other, an exception being raised; or a function
            from the conversation to the answer.
    """

    def __init__(self, replies: Iterable[str | Exception] | Callable[[Sequence[Message]], str]) -> None:
        if isinstance(replies, str):
            raise InputError(f"replies must be a list of texts or a function, not the text {replies!r}")
        self._function = replies if callable(replies) else None
        self._replies = () if callable(replies) else tuple(replies)
        self._given = 0
        self._calls: list[Call] = []
        self._lock = Lock()

    @property
    def name(self) -> str:
        """`scripted`."""
        return "scripted"

    @property
    def calls(self) -> tuple[Call, ...]:
        """What was asked so far, in order."""
        with self._lock:
            return tuple(self._calls)

    def reply(
        self,
        messages: Sequence[Message],
        *,
        schema: type[BaseModel] | None = None,
        temperature: float = 0.0,
        max_tokens: int | None = None,
    ) -> Reply:
        """Answer with the next reply; see `ChatModel.reply`. Tokens are estimates.

        Raises:
            ModelError: if no reply is left, or the reply is empty.
        """
        call = Call(tuple(messages), schema, temperature, max_tokens)
        with self._lock:
            self._calls.append(call)
        text = self._function(call.messages) if self._function else self._next()
        if not text.strip():
            raise ModelError("the scripted reply is empty; a chat model never answers nothing")
        return Reply(
            text=text,
            tokens_in=tokens.count_messages(call.messages).n,
            tokens_out=tokens.count(text).n,
            counted_by="estimate",
        )

    def _next(self) -> str:
        with self._lock:
            if self._given == len(self._replies):
                raise ModelError(
                    f"the script has run out: it had {self._given} replies, and one more was asked"
                )
            reply = self._replies[self._given]
            self._given += 1
        if isinstance(reply, Exception):
            raise reply
        return reply
