"""How a model in this process gets from prompts to answers, token by token, for a batch at once."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel, StoppingCriteria

from memp.chat._batching import TooMany
from memp.chat._kept import KeptSequences, Sequence
from memp.chat._packing import Part, forward
from memp.errors import ModelError

logger = logging.getLogger(__name__)


class Answer:
    """An answer in the making.

    Args:
        prompt: Token ids of the conversation, at least one.
        limit: Most tokens to answer with, at least 1.
        temperature: 0 takes the likeliest token each time.
        seed: Of the draws at a temperature above 0.
    """

    def __init__(self, prompt: list[int], *, limit: int, temperature: float = 0.0, seed: int = 0) -> None:
        self.prompt = prompt
        self.limit = limit
        self.temperature = temperature
        self._seed = seed
        self.error: ModelError | None = None
        self.restart()

    def restart(self) -> None:
        """Forget all that was generated."""
        self.tokens = list(self.prompt)
        self.sequence: Sequence | None = None
        self.done = False
        self._generator = torch.Generator().manual_seed(self._seed) if self.temperature > 0 else None

    @property
    def generated(self) -> list[int]:
        """The tokens generated so far, a stop token included."""
        return self.tokens[len(self.prompt) :]

    def fail(self, error: ModelError) -> None:
        """Be done, without an answer."""
        self.error, self.sequence, self.done = error, None, True

    def extend(self, token: int, stops: Collection[int]) -> None:
        """Take the next token."""
        self.tokens.append(token)
        self.done = token in stops or len(self.tokens) - len(self.prompt) >= self.limit

    def drawn(self, logits: Tensor) -> Tensor:
        """Return logits, shape (vocabulary,), whose largest is the next token.

        With a temperature that is a draw by it: the largest of logits to each of which independent
        Gumbel noise was added is distributed as their softmax. Every answer draws its own noise, so
        what else is in the batch changes nothing.
        """
        if self._generator is None:
            return logits.float()
        noise = torch.empty(logits.shape).exponential_(generator=self._generator).log()
        return logits.float() / self.temperature - noise.to(logits.device)


class Decoder(ABC):
    """Advances answers; a failure stays with the answer it concerns.

    Args:
        name: The model's, for messages.
        model: In evaluation mode.
        stops: The tokens that end an answer.
    """

    def __init__(self, name: str, model: PreTrainedModel, stops: Collection[int]) -> None:
        self._name = name
        self._model = model
        self._stops = frozenset(stops)

    def advance(self, answers: list[Answer]) -> None:
        """Make a step of every answer.

        Raises:
            TooMany: if the memory does not hold all of them.
        """
        error = self._attempt(answers)
        if error is None:
            return
        if _out_of_memory(error):
            if self._free():
                error = self._attempt(answers)
            if error is not None and len(answers) > 1:
                raise TooMany
        elif len(answers) > 1:
            for answer in answers:  # one of them is to blame
                if not answer.done:
                    self.advance([answer])
            return
        if error is not None:
            answers[0].fail(self._explained(error))

    @torch.inference_mode()
    def _attempt(self, answers: list[Answer]) -> Exception | None:
        try:
            self._step(answers)
        except Exception as error:  # whatever a model's code raises
            logger.debug("%s: a step of %d answers failed", self._name, len(answers), exc_info=True)
            return error.with_traceback(None)  # whose frames would hold on to the memory
        return None

    @abstractmethod
    def _step(self, answers: list[Answer]) -> None: ...

    def _free(self) -> bool:
        """Free memory that can be done without; False if there is none."""
        return False

    def _explained(self, error: Exception) -> ModelError:
        if _out_of_memory(error):
            return ModelError(
                f"{self._name}: out of memory, even with one conversation at a time; pass a lower context, "
                f"show fewer procedures (k), or take a smaller model ({error})"
            )
        return ModelError(f"{self._name}: {type(error).__name__}: {error}")


def _out_of_memory(error: Exception) -> bool:
    """Tell whether there was too little memory, on a GPU or for the CPU's allocator."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "DefaultCPUAllocator" in said)
    )


class PackedDecoder(Decoder):
    """Computes each token once: keys and values stay from turn to turn.

    Args:
        cache_tokens: Most tokens whose keys and values are kept between answers.
    """

    TOKENS = 4096
    """Most tokens in one forward pass, so that many long prompts at once do not need much memory."""

    def __init__(
        self, name: str, model: PreTrainedModel, stops: Collection[int], *, cache_tokens: int
    ) -> None:
        super().__init__(name, model, stops)
        self._kept = KeptSequences(cache_tokens)

    def _free(self) -> bool:
        freed = len(self._kept) > 0
        self._kept.clear()
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()
        if freed:
            logger.warning("%s: out of memory; what was kept of earlier turns is dropped", self._name)
        return freed

    def _step(self, answers: list[Answer]) -> None:
        shares = self._shares(answers)
        logits = forward(self._model, [part for _, part in shares])
        for _, part in shares:
            part.sequence.length += len(part.ids)
        ending = [answer for answer, part in shares if part.ends]
        rows = [answer.drawn(row) for answer, row in zip(ending, logits, strict=True)]
        tokens = torch.stack(rows).argmax(dim=-1).tolist() if rows else []
        for answer, token in zip(ending, tokens, strict=True):
            answer.extend(token, self._stops)
            if answer.done and answer.sequence is not None:
                self._kept.put(answer.tokens, answer.sequence)

    def _shares(self, answers: list[Answer]) -> list[tuple[Answer, Part]]:
        """Share out the next forward pass: the token of each answer under way, then what is left of prompts."""
        shares, room = [], max(self.TOKENS, len(answers))
        for answer in sorted(answers, key=lambda answer: not answer.generated):  # False first
            if answer.sequence is None:
                answer.sequence = self._kept.take(answer.prompt)
            start = min(answer.sequence.length, len(answer.tokens) - 1)
            ids = answer.tokens[start : start + room]
            if ids:
                answer.sequence.length = start
                shares.append(
                    (answer, Part(answer.sequence, ids, ends=start + len(ids) == len(answer.tokens)))
                )
                room -= len(ids)
        return shares


class WholeDecoder(Decoder):
    """Generates whole answers with transformers' own `generate`: for models that cannot be packed.

    Args:
        context: Most tokens of prompt and answer.
        pad: What fills shorter prompts up; it is never looked at.
    """

    def __init__(
        self, name: str, model: PreTrainedModel, stops: Collection[int], *, context: int, pad: int
    ) -> None:
        super().__init__(name, model, stops)
        self._context = context
        self._pad = pad
        # What a model's authors recommend for sampling would change the likeliest answer too.
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            eos_token_id=sorted(stops) or None, pad_token_id=pad
        )

    def _step(self, answers: list[Answer]) -> None:
        together = self._together(answers)
        longest = max(len(answer.prompt) for answer in together)
        ids = [[self._pad] * (longest - len(answer.prompt)) + answer.prompt for answer in together]
        seen = [[0] * (longest - len(answer.prompt)) + [1] * len(answer.prompt) for answer in together]
        device = self._model.device
        generate: Any = self._model.generate
        rows = generate(
            torch.tensor(ids, device=device),
            attention_mask=torch.tensor(seen, device=device),
            max_new_tokens=max(answer.limit for answer in together),
            do_sample=False,  # `_Draws` does it
            logits_processor=[_Draws(together)],
            stopping_criteria=[_Limits(together, longest)],
        )
        for answer, row in zip(together, rows[:, longest:].tolist(), strict=True):
            for token in row:
                if not answer.done:
                    answer.extend(token, self._stops)

    def _together(self, answers: list[Answer]) -> list[Answer]:
        """Return those, the first among them, of which none is carried past the context by another's length."""
        together: list[Answer] = []
        for answer in answers:
            grown = [*together, answer]
            if max(len(each.prompt) for each in grown) + max(each.limit for each in grown) <= self._context:
                together = grown
        return together or answers[:1]


class _Draws(LogitsProcessor):
    """Draws the next token of every answer that has a temperature."""

    def __init__(self, answers: list[Answer]) -> None:
        self._answers = answers

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002 - their interface
        return torch.stack([answer.drawn(row) for answer, row in zip(self._answers, scores, strict=True)])


class _Limits(StoppingCriteria):
    """Ends each answer at its own limit."""

    def __init__(self, answers: list[Answer], start: int) -> None:
        self._limits = [answer.limit for answer in answers]
        self._start = start

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:  # noqa: ARG002 - their interface
        made = input_ids.shape[1] - self._start
        return torch.tensor([made >= limit for limit in self._limits], device=input_ids.device)
