"""Embeddings from a local sentence-transformers model (extra `local`)."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np

from memp._huggingface import silence
from memp.embedding.base import FloatMatrix, Role, checked, unit
from memp.errors import InputError, MissingExtra, ModelError


class SentenceTransformerEmbedder:
    """A sentence-transformers model, in this process. Safe to call from several threads."""

    def __init__(self, name_or_path: str) -> None:
        """Load the model: from a folder, or else by its name on the Hugging Face hub.

        Raises:
            InputError: if the name is empty.
            MissingExtra: if sentence-transformers is not installed.
            ModelError: if the model could not be loaded.
        """
        if not name_or_path.strip():
            raise InputError("the model name is empty; write 'sentence-transformers:<name or path>'")
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtra("sentence-transformers", "local") from error
        self._name = name_or_path
        self._dims = 0  # known after the first answer
        self._lock = Lock()
        try:
            with silence():
                self._model = SentenceTransformer(name_or_path)
        except Exception as error:  # the hub, the file system and torch raise errors of many kinds
            raise ModelError(
                f"{self.name}: no model could be loaded from that folder or hub name: {error}"
            ) from error

    @property
    def name(self) -> str:
        """`sentence-transformers:<name or path>`; stored with every vector so that spaces never mix."""
        return f"sentence-transformers:{self._name}"

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
        """Return one unit row per text, in order: float32, shape (len(texts), d).

        Models that embed questions and documents differently are told which by `role`.
        Without texts, d is 0 until the first answer.

        Raises:
            ModelError: if the model failed.
        """
        if not texts:
            return np.zeros((0, self._dims), dtype=np.float32)
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        try:
            with self._lock:  # tokenizers cannot be shared
                rows = encode(list(texts), show_progress_bar=False)
            matrix = checked(unit(rows), len(texts), self.name)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{self.name}: {error}") from error
        self._dims = matrix.shape[1]
        return matrix
