"""Responses: where guidance goes, and what was said, called and returned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from itertools import takewhile
from typing import Any

from memp.integrations.openai.wire import Body, Into, holds, put, readable
from memp.transcripts import items
from memp.transcripts.events import Event, Said
from memp.transcripts.fields import field


def asked(body: Body) -> object:
    """The input, and what it continues."""
    return [body.get("input"), *_continued(body)]


def told(body: Body, waiting: Collection[str]) -> list[Event]:
    """The results of the calls that wait for one, and what the user says after the last item of the agent.

    Results may stand anywhere after their calls: some loops put each call and its result side by side.
    """
    given = body.get("input")
    if not isinstance(given, list):
        return [Said(False, given)] if isinstance(given, str) else []
    results = {_call(item): item for item in given if _returns(item) and _call(item) in waiting}
    end = takewhile(
        lambda item: _returns(item) or field(item, "role") in ("user", "system", "developer"), reversed(given)
    )
    said = [item for item in reversed(list(end)) if not _returns(item)]
    return items.events(readable(items.Item, [*results.values(), *said]))


def answered(answer: Any) -> list[Event]:
    """What the output says and calls."""
    return items.events(readable(items.Item, field(answer, "output") or ()))


def listener() -> ResponseListener:
    """Begin to listen to a streamed answer."""
    return ResponseListener()


def informed(body: Body, guidance: str, *, into: Into, answered: bool) -> Body:
    """The body with guidance before its first user turn, or after its instructions."""
    given, instructions = body.get("input"), body.get("instructions")
    turns = given if isinstance(given, list) else [{"role": "user", "content": given}] if given else []
    if holds(instructions, guidance) or any(holds(field(item, "content"), guidance) for item in turns):
        return body
    place = next((place for place, item in enumerate(turns) if field(item, "role") == "user"), None)
    if into == "user" and answered and any(_continued(body)):
        return body  # the server has kept the turn that it was put into
    if into == "system" or place is None:
        return {**body, "instructions": put(guidance, instructions, part="input_text", first=False)}
    content = put(guidance, turns[place].get("content"), part="input_text", first=True)
    if not isinstance(given, list):
        return {**body, "input": content}
    return {**body, "input": [*given[:place], {**given[place], "content": content}, *given[place + 1 :]]}


def _continued(body: Body) -> list[object]:
    return [body.get("previous_response_id"), body.get("conversation")]


def _returns(item: object) -> bool:
    kind = field(item, "type")
    return isinstance(kind, str) and kind.endswith(items.OUTPUT)


def _call(item: object) -> str:
    return str(field(item, "call_id") or field(item, "id"))


class ResponseListener:
    """Puts a streamed output together."""

    def __init__(self) -> None:
        self._done: dict[int, object] = {}
        self._texts: defaultdict[int, list[str]] = defaultdict(list)
        """Of messages, also of those that are not done."""

    def add(self, chunk: Any) -> None:
        """Take in an event of the stream."""
        if chunk.type == "response.output_item.done":
            self._done[chunk.output_index] = chunk.item
        elif chunk.type in ("response.output_text.delta", "response.refusal.delta"):
            self._texts[chunk.output_index].append(chunk.delta)
        elif chunk.type in ("response.completed", "response.incomplete") and not self._done:
            self._done = dict(enumerate(chunk.response.output))

    def events(self) -> list[Event]:
        """What came so far; a call that broke off is none."""
        partial = {
            place: {"type": items.MESSAGE, "role": "assistant", "content": "".join(texts)}
            for place, texts in self._texts.items()
        }
        output = sorted((partial | self._done).items(), key=lambda entry: entry[0])
        return items.events(readable(items.Item, [item for _, item in output]))
