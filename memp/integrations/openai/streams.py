"""Listening to a stream while the caller reads it: the stream stays the same object and gives the same chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from typing import Any

from openai import AsyncStream, Stream

from memp.integrations.openai.hearing import never_breaking
from memp.integrations.openai.wire import Listener


class Ear:
    """Hears what the caller is given."""

    def __init__(self, listener: Listener, came: Callable[[], None], ended: Callable[[], None]) -> None:
        self._listener: Listener | None = listener
        self._came = came
        self._ended = ended

    def hear(self, chunk: object) -> None:
        """Hear a chunk; one that cannot be understood ends the listening, not the stream."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with never_breaking():
            listener.add(chunk)
            self._listener = listener
            self._came()

    def end(self) -> None:
        """Hear that the caller reads no more, at least for now."""
        with never_breaking():
            self._ended()


def listen(stream: Stream[Any] | AsyncStream[Any], ear: Ear) -> None:
    """Let an ear hear each chunk that is read from a stream, and when reading it ends or breaks off."""
    name = "close" if isinstance(stream, Stream) else "aclose"
    close = getattr(stream.response, name)

    def closed() -> None:
        try:
            close()
        finally:
            ear.end()

    async def aclosed() -> None:
        try:
            await close()
        finally:
            ear.end()

    # What `client.chat.completions.stream()` gives closes the response and not the stream.
    setattr(stream.response, name, closed if isinstance(stream, Stream) else aclosed)
    vars(stream)["_memp_ear"] = ear
    kind: Any = type(stream)
    stream.__class__ = _heard(kind) if isinstance(stream, Stream) else _heard_async(kind)


@cache
def _heard(kind: Any) -> Any:
    def each(self: Any) -> Iterator[Any]:
        try:
            for chunk in kind.__iter__(self):
                self._memp_ear.hear(chunk)
                yield chunk
        finally:
            self._memp_ear.end()

    def following(self: Any) -> Any:
        chunk = kind.__next__(self)
        self._memp_ear.hear(chunk)
        return chunk

    return type(kind.__name__, (kind,), {"__iter__": each, "__next__": following})


@cache
def _heard_async(kind: Any) -> Any:
    def each(self: Any) -> AsyncIterator[Any]:
        return _Chunks(kind.__aiter__(self), self._memp_ear)

    async def following(self: Any) -> Any:
        chunk = await kind.__anext__(self)
        self._memp_ear.hear(chunk)
        return chunk

    return type(kind.__name__, (kind,), {"__aiter__": each, "__anext__": following})


class _Chunks:
    """Not a generator: that would hear only when the loop gets round to it that the caller broke off."""

    def __init__(self, chunks: Any, ear: Ear) -> None:
        self._chunks = chunks
        self._ear = ear

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        chunk = await anext(self._chunks)
        self._ear.hear(chunk)
        return chunk

    async def aclose(self) -> None:
        await self._chunks.aclose()

    def __del__(self) -> None:
        self._ear.end()
