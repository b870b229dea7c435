"""Language models: the seam, its backends, and how one is named."""

from __future__ import annotations

from memp.chat.base import ChatModel, Message, Reply
from memp.chat.scripted import ScriptedChat
from memp.errors import InputError, unknown_name

__all__ = ["ChatModel", "Message", "Reply", "ScriptedChat", "chat_model"]

PROVIDERS = ("local", "openai")


def chat_model(spec: str | ChatModel | None) -> ChatModel | None:
    """Return the chat model that `spec` names; an object, or None, is returned as it is.

    Args:
        spec: `openai:<model>`, for OpenAI or any server named by OPENAI_BASE_URL; or `local:<model>`, a
            folder, a bundled model (`memp-small`, `memp-base`) or a name on the Hugging Face hub.

    Raises:
        InputError: if the name is not of that form, or what it needs is not there.
        MissingExtra: if the libraries of a local model are not installed.
        ModelError: if a local model could not be loaded.
    """
    if not isinstance(spec, str):
        named = isinstance(getattr(spec, "name", None), str)
        if spec is not None and not (named and callable(getattr(spec, "reply", None))):
            raise InputError(
                f"{spec!r} is no chat model: it needs a `name` and a method `reply`, see ChatModel"
            )
        return spec
    provider, colon, model = spec.partition(":")
    if not colon or not model.strip():
        raise InputError(f"the chat model {spec!r} must be written provider:model, as in 'openai:gpt-4o'")
    if provider not in PROVIDERS:
        raise unknown_name("chat model provider", provider, PROVIDERS)
    if provider == "local":
        from memp.chat.local import LocalChat

        return LocalChat(model)
    from memp.chat.openai import OpenAIChat

    return OpenAIChat(model)
