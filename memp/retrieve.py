"""Retrieve: from a task to the procedures that fit it, argmax S(t_new, t_i) of the paper."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Literal, get_args

from memp import keywords
from memp.chat.base import ChatModel
from memp.embedding.base import Embedder, checked
from memp.errors import InputError, unknown_name
from memp.procedure import Match
from memp.prompts import facts
from memp.prompts.forms import ask
from memp.store.base import ProcedureStore

Key = Literal["query", "avefact", "random"]

KEYS: tuple[Key, ...] = get_args(Key)


def known_key(key: str) -> None:
    """Raise `InputError` if there is no such key."""
    if key not in KEYS:
        raise unknown_name("key", key, KEYS)


class Retriever:
    """Finds procedures by one kind of key.

    `query` compares the texts of the tasks. `avefact` compares their facts: a procedure scores the mean, over
    the facts of the new task, of its own fact that is most similar. `random` samples, as a baseline.
    """

    def __init__(
        self, key: Key, store: ProcedureStore, embedder: Embedder, chat: ChatModel | None, seed: int = 0
    ) -> None:
        """Take the key, and what it works on.

        Raises:
            InputError: if there is no such key.
        """
        known_key(key)
        self.key = key
        self._store = store
        self._embedder = embedder
        self._chat = chat
        self._seed = seed
        self.texts = lru_cache(maxsize=1024)(self._texts)

    @property
    def kind(self) -> str:
        """The kind of keys in the store; facts of different extractors are different kinds."""
        return "query" if self.key == "query" else f"avefact/{self.extractor}"

    @property
    def extractor(self) -> str:
        """Who extracts the facts of a task: the chat model with its prompt, or the built-in keywords."""
        if self._chat is None:
            return f"keywords-{keywords.VERSION}"
        return f"{self._chat.name}/{facts.NAME}-{facts.VERSION}"

    @property
    def indexes(self) -> bool:
        """Whether procedures need keys to be found."""
        return self.key != "random"

    @property
    def asks(self) -> bool:
        """Whether a chat model is asked what a task is found by."""
        return self.key == "avefact" and self._chat is not None

    def _texts(self, task: str) -> tuple[str, ...]:
        """What a task is found by: its text, or its facts.

        Raises:
            ModelError: if the chat model could not extract the facts.
        """
        if self.key != "avefact":
            return (task,)
        if self._chat is None:
            return keywords.keywords(task)
        return ask(self._chat, facts.render(task), facts.parse, facts.SCHEMA)

    def __call__(self, task: str, k: int, exclude: Collection[str] = ()) -> Sequence[Match]:
        """Return at most `k` matches for a task, best first, ties by age.

        Args:
            task: The new task.
            k: At least 1.
            exclude: Sources whose procedures are passed over.

        Raises:
            InputError: if the task is blank, `k` is below 1, or `exclude` is one text.
            ModelError: if the facts or the vectors of the task could not be had.
        """
        if not isinstance(task, str) or not task.strip():
            raise InputError("the task is empty; say what the agent is asked for")
        if not isinstance(k, int) or k < 1:
            raise InputError(f"k is {k!r}; ask for at least 1 procedure")
        if isinstance(exclude, str):  # would be taken for its letters, and exclude nothing
            raise InputError(f"exclude is the text {exclude!r}; give a list of sources")
        if self.key == "random":
            return self._sample(task, k, exclude)
        texts = self.texts(task)
        queries = checked(self._embedder.embed(texts, "query"), len(texts), self._embedder.name)
        return self._store.search(self.kind, queries, k=k, exclude=exclude)

    def _sample(self, task: str, k: int, exclude: Collection[str]) -> Sequence[Match]:
        ids = [procedure_id for procedure_id, source in self._store.ids() if source not in exclude]
        drawn = random.Random(f"{self._seed}/{task}").sample(ids, min(k, len(ids)))
        found = [self._store.get(procedure_id) for procedure_id in drawn]
        return [Match(procedure=procedure, score=0.0) for procedure in found if procedure is not None]
