"""Embedding models: the seam, its backends, and how one is named."""

from __future__ import annotations

from collections.abc import Sequence

from memp.embedding.base import Embedder, FloatMatrix, FloatVector, Role
from memp.embedding.cached import CachedEmbedder
from memp.embedding.hashing import HashEmbedder
from memp.embedding.skill import SkillEmbedder
from memp.errors import InputError, unknown_name

__all__ = [
    "CachedEmbedder",
    "Embedder",
    "FloatMatrix",
    "FloatVector",
    "HashEmbedder",
    "NamedEmbedder",
    "Role",
    "SkillEmbedder",
    "embedder",
]

KNOWN = ("hash", "sentence-transformers", "openai", "skill")


class NamedEmbedder:
    """The embedder of a name, made when it is first asked to embed: looking at a memory needs no model."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._made: Embedder | None = None

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
        """Embed as the embedder of this name does.

        Raises:
            InputError: if there is no embedder of this name, or what it needs is not set.
        """
        if self._made is None:
            try:
                self._made = embedder(self.name)
            except InputError as error:
                raise InputError(
                    f"the memory was made with the embedder {self.name!r}: {error}; "
                    "pass that embedder, or give the memory another one with `memp reembed`"
                ) from error
        return self._made.embed(texts, role)


def embedder(spec: str | Embedder) -> Embedder:
    """Return the embedder that `spec` names; an object is returned as it is.

    Args:
        spec: `hash`, `sentence-transformers:<name or path>`, `openai:<model>` or, for libraries of skills,
            `skill`; also the `name` of any of them, as a memory stores it.

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
    if provider == "skill":
        return SkillEmbedder.named(spec)
    if not model.strip():
        raise InputError(f"the embedder {spec!r} lacks a model; write {provider}:<model>")
    if provider == "openai":
        from memp.embedding.openai import OpenAIEmbedder

        return OpenAIEmbedder(model)
    from memp.embedding.sentence_transformers import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(model)
