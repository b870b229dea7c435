"""Embedding models: the seam, its backends, and how one is named."""

from __future__ import annotations

from memp.embedding.base import Embedder, FloatMatrix, FloatVector, Role
from memp.embedding.cached import CachedEmbedder
from memp.embedding.hashing import HashEmbedder
from memp.errors import InputError, unknown_name

__all__ = ["CachedEmbedder", "Embedder", "FloatMatrix", "FloatVector", "HashEmbedder", "Role", "embedder"]

KNOWN = ("hash", "sentence-transformers", "openai")


def embedder(spec: str | Embedder) -> Embedder:
    """Return the embedder that `spec` names; an object is returned as it is.

    Args:
        spec: `hash`, `sentence-transformers:<name or path>` or `openai:<model>`; also the `name`
            of any of them, as a memory stores it.

    Raises:
        InputError: if there is no such embedder, or what it needs is not set.
        MissingExtra: if its package is not installed.
        ModelError: if its model could not be loaded.
    """
    if not isinstance(spec, str):
        if not callable(getattr(spec, "embed", None)) or not isinstance(getattr(spec, "name", None), str):
            raise InputError(f"{spec!r} is no embedder: it needs a method `embed` and a `name`")
        return spec
    provider, _, model = spec.partition(":")
    if provider not in KNOWN:
        raise unknown_name("embedder", provider, KNOWN)
    if provider == "hash":
        return HashEmbedder.named(spec)
    if not model.strip():
        raise InputError(f"the embedder {spec!r} lacks a model; write {provider}:<model>")
    if provider == "openai":
        from memp.embedding.openai import OpenAIEmbedder

        return OpenAIEmbedder(model)
    from memp.embedding.sentence_transformers import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(model)
