"""What every embedder keeps. Inherit it and say how to make one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pytest

from memp.embedding import Embedder, Role
from memp.embedding.base import checked

TEXTS = ("heat an egg", "Put a clean mug in the coffee machine.", "加热鸡蛋", "cool a tomato 🍅", "?")


class EmbedderContract:
    def make(self) -> Embedder:
        raise NotImplementedError

    @pytest.fixture
    def embedder(self) -> Iterator[Embedder] | Embedder:
        return self.make()

    def test_the_name_is_provider_and_model(self, embedder: Embedder) -> None:
        provider, colon, model = embedder.name.partition(":")
        assert provider
        assert colon
        assert model

    @pytest.mark.parametrize("role", get_args(Role))
    def test_each_text_gets_a_unit_row_of_float32(self, embedder: Embedder, role: Role) -> None:
        rows = embedder.embed(TEXTS, role)

        assert rows.dtype == np.float32
        assert rows.ndim == 2
        checked(rows, len(TEXTS), embedder.name)

    def test_rows_keep_the_order_of_the_texts(self, embedder: Embedder) -> None:
        there, back = embedder.embed(TEXTS), embedder.embed(TEXTS[::-1])
        np.testing.assert_allclose(there, back[::-1], atol=1e-5)

    def test_a_text_has_the_same_row_alone_and_in_a_batch(self, embedder: Embedder) -> None:
        batch = embedder.embed(TEXTS)
        for text, row in zip(TEXTS, batch, strict=True):
            np.testing.assert_allclose(embedder.embed([text])[0], row, atol=1e-5)

    def test_the_same_text_twice_has_the_same_row_twice(self, embedder: Embedder) -> None:
        first, _, third = embedder.embed(["heat an egg", "cool a mug", "heat an egg"])
        np.testing.assert_allclose(first, third, atol=1e-6)

    def test_no_texts_give_no_rows_of_a_known_length_or_none(self, embedder: Embedder) -> None:
        assert embedder.embed([]).shape[0] == 0
        dims = embedder.embed(["mug"]).shape[1]
        empty = embedder.embed([])
        assert empty.shape == (0, dims)
        assert empty.dtype == np.float32

    def test_threads_may_share_it(self, embedder: Embedder) -> None:
        expected = embedder.embed(TEXTS)
        with ThreadPoolExecutor(4) as threads:
            for rows in threads.map(embedder.embed, [TEXTS] * 8):
                np.testing.assert_allclose(rows, expected, atol=1e-5)
