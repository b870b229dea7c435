"""The client of OpenAI, with memory: its requests get guidance, and what the agent does is recorded."""

from __future__ import annotations

import copy
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from openai import AsyncOpenAI, OpenAI

from memp.errors import InputError, unknown_name
from memp.integrations.openai.exchange import Attachment, exchange_for
from memp.integrations.openai.wire import Into

if TYPE_CHECKING:
    from memp.memory import ProceduralMemory

C = TypeVar("C", OpenAI, AsyncOpenAI)


def wrap(client: C, memory: ProceduralMemory, *, into: Into = "user") -> C:
    """Return a client with memory, of the same class, on the same connections; the one given stays as it is.

        client = wrap(OpenAI(), memory)
        with memory.episode(task) as episode:
            ...                            # the loop as it was, with `client`
            episode.finish(reward=1.0)

    In the block of an episode of this memory, each request to chat completions and responses gets the
    guidance of the episode, and the episode its steps: calls of tools are actions and their results
    observations; where the agent calls none, what it says is the action and what the user then says the
    observation. Outside such a block the client does what it did before.

    What cannot be recorded is logged as a warning and never stops the loop. Of answers read through
    `with_streaming_response`, those are recorded that are parsed; answers that are waited for in the
    background are not.

    Args:
        client: An `OpenAI`, `AsyncOpenAI`, or a client derived from one, such as `AzureOpenAI`.
        memory: Whose episodes it takes part in.
        into: Where guidance goes: before the first `user` turn, or after the `system` message.

    Raises:
        InputError: if it is no such client, it was wrapped for another memory, or `into` is unknown.
    """
    if not isinstance(client, OpenAI | AsyncOpenAI):
        raise InputError(f"wrap takes an OpenAI or AsyncOpenAI client, and {client!r:.100} is none")
    if into not in get_args(Into):
        raise unknown_name("into", into, get_args(Into))
    known: Attachment | None = getattr(client, "_memp", None)
    if known is not None and known.memory is not memory:
        raise InputError("this client is wrapped for another memory already; wrap the client it was made of")
    kind: Any = type(client)
    wrapped = copy.copy(client)
    for name in list(vars(wrapped)):
        if isinstance(getattr(kind, name, None), cached_property):
            del vars(wrapped)[name]  # such as `chat`, which would go on to use the client it was made by
    if known is None:
        wrapped.__class__ = _with_memory(kind)
    vars(wrapped)["_memp"] = Attachment(memory, into)
    return wrapped


@cache
def _with_memory(kind: Any) -> Any:
    """The class of a client with memory: every resource sends its requests with `post`."""

    def post(self: Any, path: str, **given: Any) -> Any:
        exchange = exchange_for(self._memp, path, given)
        if exchange is None:
            return kind.post(self, path, **given)
        try:
            return exchange.received(kind.post(self, path, **exchange.given))
        finally:
            exchange.tell()

    async def post_async(self: Any, path: str, **given: Any) -> Any:
        exchange = exchange_for(self._memp, path, given)
        if exchange is None:
            return await kind.post(self, path, **given)
        try:
            return exchange.received(await kind.post(self, path, **exchange.given))
        finally:
            exchange.tell()

    def copied(self: Any, **changes: Any) -> Any:
        made = kind.copy(self, **changes)
        vars(made)["_memp"] = self._memp
        return made

    about = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(
        kind.__name__,
        (kind,),
        {
            **about,
            "post": post_async if issubclass(kind, AsyncOpenAI) else post,
            "copy": copied,
            "with_options": copied,
        },
    )
