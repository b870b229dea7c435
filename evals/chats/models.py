"""The chat models of a study, by name: what they cost is noted, and what they answered may be remembered."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from evals.chats.replies import Remembering, Replies
from evals.chats.spending import Metered, Spending
from evals.manifest import weights
from memp.chat import ChatModel, chat_model
from memp.chat.openai import OpenAIChat
from memp.errors import InputError

CACHE = Path("runs") / "replies.db"
"""Where the replies of API models are kept where nobody says."""


class Models:
    """Opens chat models for a study."""

    def __init__(self, spending: Spending, *, cache: Path | None = None, no_cache: bool = False) -> None:
        """Take where to note what is spent, and where replies are remembered.

        Args:
            spending: Is told of every reply.
            cache: A file for all models; None takes `CACHE` for API models, and nothing for `local:` ones,
                where asking costs nothing.
            no_cache: Remember nothing.

        Raises:
            InputError: if both a cache and none are asked for.
        """
        if cache is not None and no_cache:
            raise InputError("give --cache or --no-cache, not both")
        self._spending = spending
        self._cache = cache
        self._no_cache = no_cache
        self._replies: Replies | None = None

    def open(self, name: str | None) -> ChatModel | None:
        """Return the chat model of a name, see `chat_model`; None of none.

        Raises:
            InputError, MissingExtra, ModelError: as `chat_model` does.
            StoreError: if the cache is no cache, or cannot be opened.
        """
        chat = chat_model(name)
        if chat is None:
            return None
        note = partial(self._spending.note, chat.name)
        asked = Metered(chat, partial(note, remembered=False))
        path = self._path(chat)
        if path is None:
            return asked
        self._replies = self._replies or Replies(path)
        return Remembering(
            asked, self._replies, identity=_identity(chat), told=partial(note, remembered=True)
        )

    def close(self) -> None:
        """Close the cache."""
        if self._replies is not None:
            self._replies.close()

    def _path(self, chat: ChatModel) -> Path | None:
        """Where the replies of a model are remembered, if they are."""
        if self._no_cache:
            return None
        return self._cache or (CACHE if isinstance(chat, OpenAIChat) else None)


def _identity(chat: ChatModel) -> str:
    """What tells a model from another one of its name: its server, or its weights."""
    return chat.server if isinstance(chat, OpenAIChat) else weights(chat) or ""
