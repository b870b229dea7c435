"""A chat model that remembers: the same question is asked once, by whatever study, and answered from a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from threading import Lock
from weakref import WeakValueDictionary

from pydantic import ValidationError

from evals.chats.wrapped import Question, Wrapped
from memp._sqlite import CacheFile
from memp.chat import ChatModel, Reply
from memp.errors import InputError


class Replies:
    """The replies of chat models in one SQLite file, for several threads and processes. It holds no question."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it, with its folder.

        Raises:
            InputError: if its folder cannot be made.
            StoreError: if it cannot be opened or made, or is something else.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path} cannot hold the replies: {error}; give another --cache") from error
        self._file = CacheFile(
            path, "replies", what="reply cache", way_out="delete the file to start afresh, or give --no-cache"
        )

    def get(self, key: bytes) -> Reply | None:
        """Return a reply, as it was given.

        Raises:
            StoreError: if the file, or what it holds there, cannot be read.
        """
        found = self._file.read([key])
        try:
            return Reply.model_validate_json(found[key]) if key in found else None
        except ValidationError as error:
            raise self._file.broken("a reply in it cannot be read") from error

    def put(self, key: bytes, reply: Reply) -> None:
        """Keep a reply.

        Raises:
            StoreError: if the file cannot be written.
        """
        self._file.write({key: reply.model_dump_json().encode()})

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Remembering(Wrapped):
    """A chat model that is asked only what it was never asked before.

    Sampled replies (a temperature above 0) are asked for anew each time, and errors are not remembered.
    Threads that ask the same at once share one reply.
    """

    def __init__(
        self, chat: ChatModel, replies: Replies, *, identity: str, told: Callable[[Reply], None]
    ) -> None:
        """Take the model and the file.

        Args:
            chat: The model.
            replies: Where its replies are kept.
            identity: What tells the model from another one of its name, as its weights or its server.
            told: Is told of each reply that the model was not asked for.
        """
        super().__init__(chat)
        self._replies = replies
        self._identity = identity
        self._told = told
        self._lock = Lock()  # over the next
        self._turns: WeakValueDictionary[bytes, Lock] = WeakValueDictionary()

    def _answer(self, question: Question) -> Reply:
        if question.temperature > 0:
            return self._ask(question)
        key = self._key(question)
        with self._turn(key):
            known = self._replies.get(key)
            if known is not None:
                self._told(known)
                return known
            reply = self._ask(question)
            self._replies.put(key, reply)
            return reply

    def _turn(self, key: bytes) -> Lock:
        """What those who ask the same at once wait for, one after the other; it is gone with the last of them."""
        with self._lock:
            return self._turns.setdefault(key, Lock())

    def _key(self, question: Question) -> bytes:
        """A hash of all that decides the reply."""
        form = None if question.schema is None else question.schema.model_json_schema()
        asked = [list(question.messages), form, float(question.temperature), question.max_tokens]
        return sha256(json.dumps([self.name, self._identity, *asked]).encode()).digest()
