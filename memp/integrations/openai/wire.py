"""What the two interfaces of OpenAI have in common for memp: one module each speaks them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from pydantic import ValidationError

from memp.errors import first_fault
from memp.transcripts.events import Event
from memp.transcripts.fields import Read, text_of

log = logging.getLogger(__name__)

Into = Literal["user", "system"]

Body: TypeAlias = Mapping[str, Any]
"""Of a request, as it is going to be sent."""

R = TypeVar("R", bound=Read)


class Listener(Protocol):
    """Puts a streamed answer together."""

    def add(self, chunk: Any) -> None:
        """Take in the next chunk, as the client gives it to the caller."""
        ...

    def events(self) -> list[Event]:
        """What the agent has said and called so far."""
        ...


class Wire(Protocol):
    """One interface; its functions read bodies and answers and change nothing of what they are given."""

    def asked(self, body: Body) -> object:
        """What tells a request from another: asking the same again is a retry."""
        ...

    def told(self, body: Body, waiting: Collection[str]) -> list[Event]:
        """What the agent is told that it did not know: results of calls, and what the user says.

        Args:
            body: Of the request.
            waiting: The ids of the calls whose result is not known yet.
        """
        ...

    def answered(self, answer: Any) -> list[Event]:
        """What the agent said and called; `answer` is the client's object, or its JSON."""
        ...

    def listener(self) -> Listener:
        """Begin to listen to a streamed answer."""
        ...

    def informed(self, body: Body, guidance: str, *, into: Into, answered: bool) -> Body:
        """The body with guidance put into it; the body itself where that is in it, or known to the server.

        Where there is no user turn, guidance goes into the system message, which is made where there is none.

        Args:
            body: Of the request.
            guidance: Not empty.
            into: The first user turn, or the system message.
            answered: Whether a request of this episode was answered before.
        """
        ...


def readable(kind: type[R], values: Iterable[object]) -> Iterator[R]:
    """Yield the messages that can be read; the others are logged and passed over."""
    for value in values:
        try:
            yield kind.model_validate(value)
        except ValidationError as error:
            fault = first_fault(error, whole="all of it")
            log.warning("a message cannot be read and is passed over: %s", fault)


def holds(content: object, guidance: str) -> bool:
    """Whether the guidance is in a content already."""
    return guidance in content if isinstance(content, str) else guidance in text_of(content)


def put(guidance: str, content: object, *, part: str, first: bool) -> object:
    """A content, a text or a list of parts, with guidance in it.

    Args:
        guidance: The text to put in.
        content: Of a message.
        part: The `type` of a part that is a text.
        first: Whether the guidance goes before what is there.

    Raises:
        ValueError: if the content is of no known kind.
    """
    if isinstance(content, list):
        told = [{"type": part, "text": guidance}]
        return told + content if first else content + told
    if content is None or isinstance(content, str):
        texts = (guidance, content) if first else (content, guidance)
        return "\n\n".join(text for text in texts if text)
    raise ValueError(f"{content!r:.100} is neither a text nor a list of parts")
