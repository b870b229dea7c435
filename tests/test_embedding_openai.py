"""Embeddings over OpenAI's protocol, against a real server that misbehaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest

from memp.embedding.openai import OpenAIEmbedder
from memp.errors import InputError, ModelError
from tests.openai_server import (
    BROKEN_JSON,
    CUT_SHORT,
    GARBAGE,
    RESET,
    SILENCE,
    OpenAIServer,
    Response,
    answer,
    bag_of_words,
    error,
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(variable, raising=False)


@contextmanager
def embedder_on(
    server: OpenAIServer, *, max_retries: int = 1, timeout_s: float = 5
) -> Iterator[OpenAIEmbedder]:
    with closing(
        OpenAIEmbedder("e", base_url=server.base_url, max_retries=max_retries, timeout_s=timeout_s)
    ) as embedder:
        yield embedder


def vectors(*rows: list[float], indexes: list[int] | None = None) -> Response:
    places = indexes or list(range(len(rows)))
    return answer({"data": [{"index": i, "embedding": row} for i, row in zip(places, rows, strict=True)]})


def test_each_text_gets_a_unit_row_in_order_though_the_server_reverses_them() -> None:
    with OpenAIServer() as server, embedder_on(server) as embedder:
        rows = embedder.embed(["heat an egg", "cool a mug", "heat an egg"])

    expected = np.array([bag_of_words(text) for text in ("heat an egg", "cool a mug", "heat an egg")])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert rows.shape == (3, 8)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_many_texts_go_in_batches_of_256_and_come_back_in_order() -> None:
    def position(text: str) -> list[float]:
        angle = int(text) / 600
        return [np.cos(angle), np.sin(angle)]

    with OpenAIServer(embed=position) as server, embedder_on(server) as embedder:
        rows = embedder.embed([str(i) for i in range(600)], role="query")

        assert [len(request.body["input"]) for request in server.requests] == [256, 256, 88]
    np.testing.assert_allclose(np.arctan2(rows[:, 1], rows[:, 0]) * 600, np.arange(600), atol=1e-2)


def test_without_texts_nothing_is_sent() -> None:
    with OpenAIServer() as server, embedder_on(server) as embedder:
        assert embedder.embed([]).shape == (0, 0)
        embedder.embed(["mug"])
        assert embedder.embed([]).shape == (0, 8)
        assert len(server.requests) == 1


def test_an_embedder_is_named_by_provider_and_model() -> None:
    assert OpenAIEmbedder("e", api_key="k").name == "openai:e"


@pytest.mark.parametrize(
    "fault",
    [error(429), error(500), CUT_SHORT, RESET, GARBAGE, BROKEN_JSON, vectors([1.0, 0.0]), answer({})],
    ids=["429", "500", "cut short", "reset", "garbage", "broken JSON", "a vector missing", "no data"],
)
def test_a_passing_fault_is_recovered_from(fault: Response) -> None:
    with OpenAIServer(faults=[fault]) as server, embedder_on(server) as embedder:
        assert embedder.embed(["mug", "egg"]).shape == (2, 8)
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (vectors([1.0, 0.0]), "1 vectors for 2 texts"),
        (vectors([1.0], [1.0], [1.0]), "3 vectors for 2 texts"),
        (vectors([1.0], [1.0], indexes=[1, 1]), "not one for each"),
        (vectors([1.0, 0.0], [1.0]), r"length \[1, 2\]"),
        (vectors([1.0, 0.0], [0.0, 0.0]), "zero or not finite"),
        (vectors([1.0, 0.0], [float("nan"), 1.0]), "zero or not finite"),
        (vectors([1.0, 0.0], [float("inf"), 1.0]), "zero or not finite"),
        (vectors([], []), "zero or not finite"),
        (answer({"data": None}), "data"),
        (GARBAGE, "JSON"),
    ],
)
def test_vectors_of_no_use_are_a_model_error(fault: Response, words: str) -> None:
    with (
        OpenAIServer(faults=[fault] * 3) as server,
        embedder_on(server) as embedder,
        pytest.raises(ModelError, match=f"openai:e answered 3 times.*{words}"),
    ):
        embedder.embed(["mug", "egg"])


def test_a_dimension_that_changes_between_calls_is_a_model_error() -> None:
    faults = [vectors([1.0, 0.0]), *[vectors([1.0, 0.0, 0.0])] * 3]
    with OpenAIServer(faults=faults) as server, embedder_on(server) as embedder:
        embedder.embed(["mug"])
        with pytest.raises(ModelError, match=r"length \[3\], where 2 was expected"):
            embedder.embed(["mug"])


def test_a_faulty_answer_does_not_set_the_dimension() -> None:
    with OpenAIServer(faults=[vectors([0.0, 0.0])]) as server, embedder_on(server) as embedder:
        assert embedder.embed(["mug"]).shape == (1, 8)


@pytest.mark.parametrize(("status", "way_out"), [(401, "OPENAI_API_KEY"), (404, "model name")])
def test_a_refusal_names_its_status_and_the_way_out(status: int, way_out: str) -> None:
    with (
        OpenAIServer(faults=[error(status)]) as server,
        embedder_on(server) as embedder,
        pytest.raises(ModelError, match=f"openai:e: the server answered {status}.*{way_out}"),
    ):
        embedder.embed(["mug"])


def test_a_server_that_never_answers_is_given_up_after_the_time_limit() -> None:
    with (
        OpenAIServer(faults=[SILENCE]) as server,
        embedder_on(server, timeout_s=0.3, max_retries=0) as embedder,
    ):
        start = time.monotonic()
        with pytest.raises(ModelError, match=r"within 0\.3 s"):
            embedder.embed(["mug"])

        assert time.monotonic() - start < 2


def test_with_neither_key_nor_server_it_says_what_to_set() -> None:
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        OpenAIEmbedder("e")


def test_an_empty_model_name_is_refused() -> None:
    with pytest.raises(InputError, match="text-embedding-3-small"):
        OpenAIEmbedder(" ", api_key="k")
