"""From messages to the tokens of a prompt that fits a model's context."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from memp.chat.base import Message
from memp.errors import InputError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STEPS = 8
"""Old turns are left out in steps of this part of the context, so that what is left begins the same for some
turns, and keys and values can be reused."""


class Prompt(NamedTuple):
    """What a model is asked."""

    ids: list[int]
    left_out: int
    """Messages that had no room."""


class Renderer:
    """Writes conversations as a model's own chat template does. Safe to use from several threads.

    Args:
        name: The model's, for messages.
        tokenizer: With a chat template.

    Raises:
        InputError: if there is no chat template, or it does not work.
    """

    def __init__(self, name: str, tokenizer: PreTrainedTokenizerBase) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._lock = Lock()  # tokenizers cannot be shared
        self._knows_system = True
        if not getattr(tokenizer, "chat_template", None):
            raise InputError(
                f"{name}: its tokenizer has no chat template, so how to write a conversation for it is unknown; "
                "take a model tuned for chat (often named '...-Instruct' or '...-chat'), or put a "
                "chat_template.jinja beside its tokenizer"
            )
        self._knows_system = self._takes_a_system_message()

    def _takes_a_system_message(self) -> bool:
        user: Message = {"role": "user", "content": "?"}
        try:
            self.ids([{"role": "system", "content": "?"}, user])
        except ModelError:  # as with Gemma 2 and Mistral 7B
            try:
                self.ids([user])
            except ModelError as error:
                raise InputError(f"its chat template does not work: {error}") from error
            return False
        return True

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of a conversation, up to where the answer starts.

        Where the template knows no system message, that is put before the first user message.

        Raises:
            InputError: if a message is no text that can be encoded.
            ModelError: if the template refuses the conversation.
        """
        shown: Any = list(messages) if self._knows_system else _without_system(messages)
        try:
            text = self._tokenizer.apply_chat_template(shown, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is a program
            raise ModelError(f"{self._name}: its chat template refuses the conversation: {error}") from error
        try:
            with self._lock:
                ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        except (TypeError, UnicodeEncodeError) as error:
            raise InputError(
                f"{self._name}: the conversation holds a text that cannot be encoded: {error}"
            ) from error
        if not ids:
            raise ModelError(f"{self._name}: its chat template makes nothing of the conversation {shown!r}")
        return list(ids)

    def text(self, ids: list[int]) -> str:
        """Return what the tokens say, special tokens left out."""
        with self._lock:
            text = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def fit(self, messages: Sequence[Message], *, context: int, answer: int) -> Prompt:
        """Return the prompt, without old turns where it would not fit.

        What may be left out are whole turns, an assistant's message and what follows it, oldest
        first: never the first user message, which holds task and guidance, nor the last turn.

        Args:
            context: Most tokens of prompt and answer.
            answer: Tokens that the answer should have room for; it may get fewer if that is the
                only way to answer.

        Raises:
            InputError: if a message is no text that can be encoded.
            ModelError: if what must stay leaves no room for any answer.
        """
        ids = self.ids(messages)
        over = len(ids) + answer - context
        if over <= 0:
            return Prompt(ids, 0)
        turns = _turns(messages)

        @cache
        def without(n: int) -> list[int]:
            gone = {index for turn in turns[:n] for index in turn}
            return self.ids([message for index, message in enumerate(messages) if index not in gone])

        shortest = without(len(turns))
        step = max(1, context // STEPS)
        for most in len(ids) - -(-over // step) * step, context - answer:
            if len(shortest) <= most:
                n = bisect_left(range(len(turns)), True, key=lambda n: len(without(n)) <= most)
                return Prompt(without(n), sum(map(len, turns[:n])))
        if len(shortest) < context:
            return Prompt(shortest, sum(map(len, turns)))
        raise ModelError(
            f"{self._name}: the conversation has {len(shortest)} tokens even without its old turns, and the context "
            f"{context}, which leaves no room for an answer; show fewer procedures (k), or take a model of longer "
            "context"
        )


def _turns(messages: Sequence[Message]) -> list[list[int]]:
    """Return the places of each turn that may be left out, oldest first."""
    roles = [message["role"] for message in messages]
    users = [place for place, role in enumerate(roles) if role == "user"]
    if not users:
        return []
    turns: list[list[int]] = []
    for place in range(users[0] + 1, len(roles)):
        if roles[place] == "assistant":
            turns.append([])
        if turns and roles[place] != "system":
            turns[-1].append(place)
    return [turn for turn in turns if turn[-1] < users[-1]]


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """Put what the system messages say before the first user message."""
    said = [message["content"] for message in messages if message["role"] == "system"]
    rest = [message for message in messages if message["role"] != "system"]
    if not said:
        return rest
    place = next((place for place, message in enumerate(rest) if message["role"] == "user"), 0)
    asked = [rest.pop(place)["content"]] if rest and rest[place]["role"] == "user" else []
    rest.insert(place, {"role": "user", "content": "\n\n".join(said + asked)})
    return rest
