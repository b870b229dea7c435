"""Embeddings from OpenAI, or from any server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel

from memp._openai import ContentError, ask, connect
from memp.embedding.base import FloatMatrix, Role, unit
from memp.errors import InputError

if TYPE_CHECKING:
    from openai import OpenAI

BATCH = 256
"""Most texts in one request; OpenAI itself takes 2048, smaller servers far fewer."""


class OpenAIEmbedder:
    """An embedding model on an OpenAI-compatible server. Safe to call from several threads."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 60,
        max_retries: int = 4,
        client: OpenAI | None = None,
    ) -> None:
        """Connect; nothing is sent yet. The options are those of `OpenAIChat`.

        Raises:
            InputError: if the model's name is empty, or there is neither a key nor a base URL.
        """
        if not model.strip():
            raise InputError("the model name is empty; write for example 'openai:text-embedding-3-small'")
        self._model = model
        self._client = client or connect(base_url, api_key, timeout_s=timeout_s, max_retries=max_retries)
        self._dims = 0  # known after the first answer
        self._lock = Lock()

    @property
    def name(self) -> str:
        """`openai:<model>`; stored with every vector so that spaces never mix."""
        return f"openai:{self._model}"

    def embed(
        self,
        texts: Sequence[str],
        role: Role = "key",  # noqa: ARG002  these models embed both alike
    ) -> FloatMatrix:
        """Return one unit row per text, in order: float32, shape (len(texts), d).

        Without texts nothing is sent, and d is 0 until the first answer.

        Raises:
            ModelError: if the server could not be reached, refused, or sent vectors of no use:
                too many or too few, of another length than before, not finite, or zero.
        """
        batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        rows = [self._embed_batch(batch) for batch in batches]
        return np.concatenate(rows) if rows else np.zeros((0, self._dims), dtype=np.float32)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _embed_batch(self, texts: Sequence[str]) -> FloatMatrix:
        def send() -> bytes:
            # Plain floats: not every server knows the client's default, base64.
            return self._client.embeddings.with_raw_response.create(
                model=self._model, input=list(texts), encoding_format="float"
            ).content

        return ask(self.name, self._client, send, lambda body: self._read(body, len(texts)))

    def _read(self, body: bytes, n: int) -> FloatMatrix:
        data = sorted(_Embeddings.model_validate_json(body).data, key=lambda item: item.index)
        if [item.index for item in data] != list(range(n)):
            raise ContentError(f"{len(data)} vectors for {n} texts, or not one for each")
        lengths = {len(item.embedding) for item in data}
        with self._lock:
            dims = self._dims or min(lengths)
            if lengths != {dims}:
                raise ContentError(f"vectors of length {sorted(lengths)}, where {dims} was expected")
            try:
                rows = unit([item.embedding for item in data])
            except ValueError as error:
                raise ContentError(str(error)) from error
            self._dims = dims
        return rows


class _Embedding(BaseModel):
    index: int
    embedding: list[float]


class _Embeddings(BaseModel):
    """The part of an embeddings answer that is used."""

    data: list[_Embedding]
