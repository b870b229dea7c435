"""Keys and values that were computed once, kept for the next turn of the same conversation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Sequence:
    """The keys and values of the first `length` tokens of one conversation, for each layer.

    They lie in buffers with room to spare, shape (heads, capacity, head size), so that a further
    token costs no copy of what is there.
    """

    def __init__(self) -> None:
        self.length = 0
        self.capacity = 0
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def reserve(self, n: int) -> None:
        """Make room for `n` tokens in all."""
        if n > self.capacity:
            self._copy_into(n + n // 4 + 32)

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write what follows the first `length` tokens; return it all, that included.

        `length` stays as it is until every layer has written. Room must have been reserved.

        Args:
            layer: Whose keys and values these are.
            keys: Shape (heads, n, head size).
            values: Likewise; the head size may differ.

        Returns:
            Keys and values, shape (1, heads, length + n, head size).
        """
        if layer not in self._layers:
            self._layers[layer] = self._room(keys), self._room(values)
        all_keys, all_values = self._layers[layer]
        end = self.length + keys.shape[1]
        all_keys[:, self.length : end] = keys
        all_values[:, self.length : end] = values
        return all_keys[None, :, :end], all_values[None, :, :end]

    def fork(self, n: int) -> Sequence:
        """Return a copy of the first `n` tokens."""
        copy = Sequence()
        copy.length, copy._layers = n, self._layers
        copy._copy_into(n + n // 4 + 32)
        return copy

    def _copy_into(self, capacity: int) -> None:
        self.capacity = capacity
        self._layers = {
            layer: (self._copy(keys), self._copy(values)) for layer, (keys, values) in self._layers.items()
        }

    def _copy(self, states: Tensor) -> Tensor:
        room = self._room(states)
        room[:, : self.length] = states[:, : self.length]
        return room

    def _room(self, like: Tensor) -> Tensor:
        return like.new_empty((like.shape[0], self.capacity, like.shape[2]))


class _Entry:
    """A sequence that nobody works on, and the token ids it stands for."""

    def __init__(self, ids: NDArray[np.int32], sequence: Sequence) -> None:
        self.ids = ids
        self.text = ids.tobytes()  # two of these are compared far faster than two arrays
        self.sequence = sequence


class KeptSequences:
    """Sequences by their token ids, the least recently used dropped first.

    Args:
        limit: Most tokens to have room for in all; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: list[_Entry] = []  # the least recently used first

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Drop them all."""
        self._entries.clear()

    def take(self, prompt: list[int]) -> Sequence:
        """Return a sequence that holds the longest known beginning of the prompt, less its last token.

        Where that is most of what is kept, the prompt is taken to be its next turn, which goes on in
        the same buffers; otherwise another conversation that only began alike gets a copy.
        """
        ids = np.asarray(prompt[:-1], dtype=np.int32)
        entry, shared = self._longest(ids)
        if entry is None:
            return Sequence()
        if 8 * shared < 7 * len(entry.ids):
            return entry.sequence.fork(shared)
        self._entries.remove(entry)
        entry.sequence.length = shared
        return entry.sequence

    def put(self, tokens: list[int], sequence: Sequence) -> None:
        """Keep a sequence; `tokens` are those it holds, and maybe more."""
        if sequence.capacity > self._limit:
            return
        self._entries.append(_Entry(np.asarray(tokens[: sequence.length], dtype=np.int32), sequence))
        room = sum(entry.sequence.capacity for entry in self._entries)
        while room > self._limit:
            room -= self._entries.pop(0).sequence.capacity

    def _longest(self, ids: NDArray[np.int32]) -> tuple[_Entry | None, int]:
        text, size = ids.tobytes(), ids.itemsize
        best, shared = None, 0
        for entry in self._entries:
            if len(entry.ids) > shared and text.startswith(entry.text[: (shared + 1) * size]):
                best, shared = entry, _common(ids, entry.ids)
        return best, shared


def _common(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    """Return how many first elements are equal."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if differ.size else n
