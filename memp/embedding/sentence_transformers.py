"""Embeddings from a local sentence-transformers model (extra `local`)."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

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
            raise InputError("the model name is empty; write for example 'sentence-transformers:<name or path>'")
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtra("sentence-transformers", "local") from error
        self._name = name_or_path
        self._lock = Lock()
        try:
            self._model = SentenceTransformer(name_or_path)
        except Exception as error:  # the hub, the file system and torch raise many kinds
            raise ModelError(
                f"{self.name} could not be loaded: {error}; give a folder that holds a model, or its hub name"
            ) from error

    @property
    def name(self) -> str:
        """`sentence-transformers:<name or path>`; stored with every vector so that spaces never mix."""
        return f"sentence-transformers:{self._name}"

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
        """Return one unit row per text, in order: float32, shape (len(texts), d).

        Models that embed questions and documents differently are told which by `role`.

        Raises:
            ModelError: if the model failed.
        """
        encode = getattr(self._model, "encode_query" if role == "query" else "encode_document", None)
        try:
            with self._lock:  # the tokenizers are not safe to share
                if not texts:
                    return unit([[0.0] * self._dims])[:0]
                rows = (encode or self._model.encode)(list(texts), show_progress_bar=False)
            return checked(unit(rows), len(texts), self.name)
        except Exception as error:
            raise ModelError(f"{self.name} failed: {error}") from error
