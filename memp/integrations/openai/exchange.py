"""One request of a wrapped client: the guidance that goes into it, and what is heard of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from openai import AsyncStream, Stream

from memp.episode import Episode, current
from memp.integrations.openai import chat, responses
from memp.integrations.openai.hearing import hearing, never_breaking
from memp.integrations.openai.streams import Ear, listen
from memp.integrations.openai.wire import Into, Wire

if TYPE_CHECKING:
    from memp.memory import ProceduralMemory

WIRES: dict[str, Wire] = {"/chat/completions": chat, "/responses": responses}
"""What is recorded, by the path that a request goes to."""


class Attachment(NamedTuple):
    """What a wrapped client belongs to."""

    memory: ProceduralMemory
    into: Into


def exchange_for(attachment: Attachment, path: str, given: dict[str, Any]) -> Exchange | None:
    """What to do about a request; None where there is nothing to do."""
    episode, wire = current(attachment.memory), WIRES.get(path.partition("?")[0])
    if wire is None or episode is None:
        return None
    with never_breaking():
        return Exchange(episode, wire, given, attachment.into)
    return None


class Exchange:
    """One request in an episode, and its answer."""

    def __init__(self, episode: Episode, wire: Wire, given: dict[str, Any], into: Into) -> None:
        self._episode = episode
        self._wire = wire
        self._hearing = hearing(episode)
        body, options = given["body"], given.get("options") or {}
        self._turn = self._hearing.ask(wire, body)
        with never_breaking():
            if episode.guidance:
                before = self._hearing.answered_before(self._turn)
                body = wire.informed(body, episode.guidance, into=into, answered=before)
        parser = self._listening(options.get("post_parser"))
        self.given = {**given, "body": body, "options": {**options, "post_parser": parser}}
        """What to send."""

    def _listening(self, parse: Any) -> Callable[[Any], Any]:
        """What the client calls with each answer that it has read, in whatever way it was asked for."""

        def heard(answer: Any) -> Any:
            self._hear(answer)
            return parse(answer) if callable(parse) else answer

        return heard

    def _hear(self, answer: Any) -> None:
        with never_breaking():
            if isinstance(answer, Stream | AsyncStream):
                listener = self._wire.listener()
                self._hearing.answer(self._turn, listener.events)
                listen(answer, Ear(listener, self._hearing.came, self.tell))
            else:
                events = self._wire.answered(answer)
                self._hearing.answer(self._turn, lambda: events)
                self.tell()

    def received(self, answer: Any) -> Any:
        """Hear an answer that the caller may read without the client, as `with_raw_response` gives it."""
        with never_breaking():
            response = getattr(answer, "http_response", None)
            if response is not None and response.is_closed and not self.given.get("stream"):
                self._hear(json.loads(response.content))
        return answer

    def tell(self) -> None:
        """Tell the episode what was heard; also where no answer came: the last observation is in the request."""
        with never_breaking():
            self._hearing.tell(self._episode)
