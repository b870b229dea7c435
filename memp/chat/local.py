"""Any causal language model of the Hugging Face library, in this process (extra `local`)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel

from memp.chat._batching import Batcher
from memp.chat._checkpoint import load, located
from memp.chat._conversation import Renderer
from memp.chat.base import Message, Reply
from memp.errors import InputError, ReplyFormatError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

LONGEST = 512
"""Most tokens of an answer where none are asked for."""

UNBOUNDED = 1 << 20
"""The context of a model that knows no bound, in tokens."""


class LocalChat:
    """A language model in this process. Safe to call from several threads.

    Calls that come while others are being answered join them in one batch. The keys and values of a
    conversation are kept for its next turn, so that only what is new is computed; a model whose
    attention is of another kind than the usual one is run without that, see `reuses`.

    Where a conversation outgrows the context, its oldest turns are left out, never the system
    message, the first user message or the last turn; a warning says so, and `dropped` counts.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        context: int | None = None,
        batch: int = 32,
        cache_tokens: int = 200_000,
        seed: int = 0,
    ) -> None:
        """Load the model.

        Args:
            model: A folder with model and tokenizer; a bundled model, `memp-small` or `memp-base`;
                or a name on the Hugging Face hub, which is then asked over the network.
            device: As torch calls it; None takes `cuda` where there is one.
            dtype: Of the weights, for example `bfloat16`; None takes what they were saved in on a
                GPU, and float32 elsewhere.
            context: Most tokens of conversation and answer; None takes the model's own bound.
            batch: Most conversations answered at once.
            cache_tokens: Most tokens whose keys and values are kept between calls; 0 keeps none.
            seed: Of what is drawn at a temperature above 0: the same calls, one after the other,
                draw the same.

        Raises:
            InputError: if there is no such folder, an option is out of range, or the tokenizer has
                no chat template.
            MissingExtra: if transformers is not installed.
            ModelError: if the model could not be loaded.
        """
        for option, value, least in ("batch", batch, 1), ("cache_tokens", cache_tokens, 0), ("seed", seed, 0):
            if value < least:
                raise InputError(f"{option} must be at least {least}, not {value!r}")
        self._spec = model
        self._path = located(model)
        self._seed = seed
        tokenizer, loaded = load(self.name, self._path, device=device, dtype=dtype)
        self._context = _bounded(context, loaded, tokenizer)
        self._renderer = Renderer(self.name, tokenizer)
        self._draws = count()
        self._dropped = 0
        self._warned: set[int] = set()
        self._lock = Lock()  # over the three above

        from memp.chat._decoding import Decoder, PackedDecoder, WholeDecoder
        from memp.chat._packing import packs

        stops = _stops(loaded, tokenizer)
        self._decoder: Decoder
        if packs(loaded):
            self._decoder = PackedDecoder(self.name, loaded, stops, cache_tokens=cache_tokens)
        else:
            pad = next((id_ for id_ in (tokenizer.pad_token_id, *sorted(stops)) if id_ is not None), 0)
            self._decoder = WholeDecoder(self.name, loaded, stops, context=self._context, pad=pad)
        self._batcher = Batcher(self._decoder.advance, batch)

    @property
    def name(self) -> str:
        """`local:<model, as given>`."""
        return f"local:{self._spec}"

    @property
    def path(self) -> str:
        """The model's folder, or its name on the hub."""
        return str(self._path)

    @property
    def context(self) -> int:
        """Most tokens of conversation and answer together."""
        return self._context

    @property
    def reuses(self) -> bool:
        """Whether what was computed for one turn can be reused in the next."""
        from memp.chat._decoding import PackedDecoder

        return isinstance(self._decoder, PackedDecoder)

    @property
    def dropped(self) -> int:
        """How many messages had no room in the prompts so far, each counted at every call it missed."""
        with self._lock:
            return self._dropped

    def reply(
        self,
        messages: Sequence[Message],
        *,
        schema: type[BaseModel] | None = None,  # noqa: ARG002 - a hint, see below
        temperature: float = 0.0,
        max_tokens: int | None = None,
    ) -> Reply:
        """Answer the conversation; see `ChatModel.reply`.

        The tokens are the model's own: those of the conversation as its chat template renders it,
        and those generated, the one that ends the answer included. A schema is not enforced.
        Without `max_tokens` an answer ends at 512 tokens, and always where the context does.

        Raises:
            InputError: if there is no message, one cannot be encoded, or an option is out of range.
            ModelError: if the conversation does not fit, the chat template refuses it, or the memory
                does not suffice; `ReplyFormatError` if the answer is empty.
        """
        if not messages:
            raise InputError("there is nothing to answer: messages is empty")
        if max_tokens is not None and max_tokens < 1:
            raise InputError(f"max_tokens must be at least 1, not {max_tokens!r}")
        if not 0 <= temperature < float("inf"):
            raise InputError(f"temperature must be 0 or above, not {temperature!r}")
        from memp.chat._decoding import Answer

        wanted = LONGEST if max_tokens is None else max_tokens
        ids = self._fitting(messages, max(1, min(wanted, self._context // 8)))
        limit = min(wanted, self._context - len(ids))
        answer = Answer(
            ids, limit=limit, temperature=temperature, seed=self._next_seed() if temperature else 0
        )
        self._batcher.run(answer)
        if answer.error is not None:
            raise answer.error
        if len(answer.generated) == limit < wanted:
            logger.warning(
                "%s: an answer was cut off where the context ends, at %d tokens", self.name, self._context
            )
        text = self._renderer.text(answer.generated)
        if not text.strip():
            raise ReplyFormatError(f"an answer of {self.name}", text)
        return Reply(text=text, tokens_in=len(ids), tokens_out=len(answer.generated), counted_by="model")

    def _fitting(self, messages: Sequence[Message], answer: int) -> list[int]:
        """Render the conversation, and make known what had no room."""
        prompt = self._renderer.fit(messages, context=self._context, answer=answer)
        if prompt.left_out:
            # What every later turn of the same conversation begins with, too.
            start = hash(tuple(message["content"] for message in messages[:2]))
            with self._lock:
                self._dropped += prompt.left_out
                known = start in self._warned
                self._warned.add(start)
            if not known:
                logger.warning(
                    "%s: a conversation outgrew the context of %d tokens; its oldest %d messages after the "
                    "first are left out, and later more",
                    self.name,
                    self._context,
                    prompt.left_out,
                )
        return prompt.ids

    def _next_seed(self) -> int:
        with self._lock:
            n = next(self._draws)
        return int(np.random.SeedSequence((self._seed, n)).generate_state(1)[0])


def _bounded(context: int | None, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the context to keep to, in tokens."""
    config = model.config.get_text_config(decoder=True)
    own = getattr(config, "max_position_embeddings", None) or min(tokenizer.model_max_length, UNBOUNDED)
    if context is not None and not 2 <= context <= own:
        raise InputError(f"context must be 2 to {own}, which is the model's own, not {context!r}")
    return int(context or own)


def _stops(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokens that end an answer."""
    settings = getattr(model, "generation_config", None)
    given = [getattr(settings, "eos_token_id", None), tokenizer.eos_token_id]
    stops: set[int] = set()
    for ids in given:
        stops |= set(ids) if isinstance(ids, list) else {ids} if ids is not None else set()
    return stops
