"""From demonstrations to batches of tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from evals.training.demonstrations import Turn, demonstration
from evals.training.words import END, NAMES, NOTES, PAD, ids, tokenizer

if TYPE_CHECKING:
    from torch import Tensor

TEXT_WEIGHT = 0.02
"""Weight of a token that is read and not answered: it helps to learn what texts are like."""

KNOWN_NAME_WEIGHT = 0.3
"""Weight of a name that is read again: as names have no vectors of their own, it can only be looked up and copied,
which is what an answer that holds a name takes."""

CRUCIAL_WEIGHT = 3.0
"""Weight of a name that is answered, and of a verdict on names: there are few, and much hangs on them."""

CHUNK = 768
"""Demonstrations drawn at once and sorted by length, so that a batch has little padding."""

STRIDE = 32
"""Lengths are multiples of this: fewer different ones spare the allocator."""

_NAMES = frozenset(number for words in NAMES.values() for number in ids(words))

_CRUCIAL = _NAMES | set(ids(NOTES))

_SENTENCE = re.compile(r"(?<=\. )|(?=\n)")


@dataclass(frozen=True)
class Example:
    """A demonstration in tokens: what is read at each place, what should come next, and how much that counts."""

    read: list[int]
    taught: list[int]
    weights: list[float]


class Batch(NamedTuple):
    """Examples padded to one length, each of shape (examples, length)."""

    read: Tensor
    taught: Tensor
    weights: Tensor


def example(turns: Sequence[Turn]) -> Example:
    """Put a demonstration into tokens, as the chat template does."""
    tokens: list[int] = []
    should: list[int] = []  # what should stand at each place; differs from `tokens` where the agent slipped
    weights: list[float] = []
    known: set[int] = set()  # the names read so far
    for turn in turns:
        answers = turn.role == "assistant"
        content, end = encode(turn.content), ids([END] if answers else [])
        taught = encode(turn.taught) if answers else content
        tokens += [*ids([f"<|{turn.role}|>"]), *content, *end]
        should += [*ids([f"<|{turn.role}|>"]), *taught, *end]
        weights += [0.0, *(_answered(content, taught) if answers else _read(content, known))]
    assert len(should) == len(tokens), "a slip is as long as what is taught"
    return Example(tokens[:-1], should[1:], weights[1:])


def _answered(given: list[int], taught: list[int]) -> list[float]:
    """The weights of an answer and its end: in full up to where it slipped, for what follows is no answer."""
    pairs = enumerate(zip(given, taught, strict=True), 1)
    right = next((place for place, (one, other) in pairs if one != other), len(given) + 1)
    full = [CRUCIAL_WEIGHT if token in _CRUCIAL else 1.0 for token in taught] + [1.0]
    return full[:right] + [0.0] * (len(full) - right)


def _read(content: list[int], known: set[int]) -> list[float]:
    """The weights of what is read; its names are known from then on."""
    weights = []
    for token in content:
        weights.append(KNOWN_NAME_WEIGHT if token in known else 0.0 if token in _NAMES else TEXT_WEIGHT)
        if token in _NAMES:
            known.add(token)
    return weights


def encode(text: str) -> list[int]:
    """The tokens of a text, as the tokenizer finds them, but faster: sentences come again and again."""
    return [number for sentence in _SENTENCE.split(text) for number in _sentence(sentence)]


@lru_cache(maxsize=200_000)
def _sentence(sentence: str) -> tuple[int, ...]:
    return tuple(_TOKENIZER.encode(sentence, add_special_tokens=False))


_TOKENIZER = tokenizer(context=1_000_000)


class Chunks:
    """Batches by the chunk, as a dataset that torch's loader can read from several processes."""

    def __init__(self, tokens: int, *, first: int = 0) -> None:
        """Take the most tokens of a batch, with its padding, and the number of the first chunk."""
        self._tokens = tokens
        self._first = first

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, number: int) -> list[Batch]:
        """Make the batches of a chunk: the same everywhere."""
        number += self._first
        made = batches(range(number * CHUNK, (number + 1) * CHUNK), self._tokens)
        Random(number).shuffle(made)
        return made


def batches(seeds: Iterable[int], tokens: int) -> list[Batch]:
    """The demonstrations of some numbers, in batches of at most `tokens` tokens, shortest first."""
    examples = sorted((example(demonstration(seed)) for seed in seeds), key=lambda one: len(one.read))
    return [padded(some) for some in _packed(examples, tokens)]


def padded(examples: Sequence[Example]) -> Batch:
    """Fill examples up at their ends, where the causal mask keeps the padding from being read."""
    import torch

    length = -(-max(len(one.read) for one in examples) // STRIDE) * STRIDE
    (pad,) = ids([PAD])

    def fill(rows: list[list[int]]) -> Tensor:
        return torch.tensor([row + [pad] * (length - len(row)) for row in rows])

    weights = torch.tensor([one.weights + [0.0] * (length - len(one.weights)) for one in examples])
    return Batch(fill([one.read for one in examples]), fill([one.taught for one in examples]), weights)


def _packed(examples: Sequence[Example], tokens: int) -> Iterator[list[Example]]:
    """Group examples, shortest first, as many as fit."""
    group: list[Example] = []
    for one in examples:
        if group and len(one.read) * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(one)
    if group:
        yield group
