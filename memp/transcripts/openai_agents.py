"""What the OpenAI Agents SDK leaves behind: lists of items, and exported traces with their spans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from memp import calls
from memp.trajectory import Trajectory
from memp.transcripts import chat, items
from memp.transcripts.events import Called, Event, Returned, Said
from memp.transcripts.fields import About, Arguments, Read, Text

TRACE, SPAN = "trace", "trace.span"
"""What the exported `object` is."""


class ItemList(About):
    """A line: the items of one run, as `result.to_input_list()` gives them, and what is known beside them."""

    items: list[items.Item]


class Trace(Read):
    """A line: one run."""

    id: str
    metadata: About | None = None


class Failure(Read):
    """Why a span failed."""

    message: str


class SpanData(Read):
    """What a span is about."""

    type: str
    name: str | None = None
    input: Any = None
    output: Any = None


class FunctionData(Read):
    """A call of a tool with its result."""

    name: str
    input: Arguments = None
    output: Text = ""


class StreamedResponse(Read):
    """How a streamed answer of a chat model is noted: as a response of the other interface."""

    output: list[items.Item]


class GenerationData(Read):
    """What a chat model was sent and answered."""

    input: list[chat.Message] | None = None
    output: list[chat.Message | StreamedResponse] | None = None


class Span(Read):
    """A line: one stretch of a run."""

    id: str
    trace_id: str
    parent_id: str | None = None
    started_at: str | None = None
    span_data: SpanData
    error: Failure | None = None


@dataclass
class _Run:
    """The lines of one trace."""

    line: int
    about: About = field(default_factory=About)
    spans: dict[str, Span] = field(default_factory=dict)

    def events(self) -> list[Event]:
        """What the agent was told, said and did; what its tools did inside them is theirs."""
        found: list[Event] = []
        begun = False
        for span in sorted(self.spans.values(), key=lambda span: span.started_at or ""):
            if self._inside_a_call(span):
                continue
            if span.span_data.type == "function":
                found += _called(span)
            elif span.span_data.type == "generation":
                generation = GenerationData.model_validate(span.span_data)
                if not begun:
                    found += [
                        Said(False, said.content) for said in generation.input or () if said.role == "user"
                    ]
                begun = True
                found += _answered(generation)
        return found

    def _inside_a_call(self, span: Span) -> bool:
        above, seen = self.spans.get(span.parent_id or ""), {span.id}
        while above is not None and above.id not in seen:
            if above.span_data.type == "function":
                return True
            seen.add(above.id)
            above = self.spans.get(above.parent_id or "")
        return False


def read(lines: Iterable[tuple[int, Any]], refuse: Callable[[int, ValueError], None]) -> Iterator[Trajectory]:
    """Yield a trajectory from each list of items, and from the spans of each trace.

    Args:
        lines: The value of each line, with its number. A list of items is {"items": [...]}, optionally with
            "task", "task_id", "id" and "reward", or the list alone; a trace or a span is what its `export()`
            returns. The metadata of a trace may hold "task", "task_id" and "reward".
        refuse: Is told of each line that cannot be used, and why.
    """
    runs: dict[str, _Run] = {}
    for number, value in lines:
        try:
            kind = value.get("object") if isinstance(value, dict) else None
            if kind == TRACE:
                trace = Trace.model_validate(value)
                run = runs.setdefault(trace.id, _Run(number))
                run.about = trace.metadata or run.about
            elif kind == SPAN:
                span = Span.model_validate(value)
                runs.setdefault(span.trace_id, _Run(number)).spans[span.id] = span
            else:
                run_items = ItemList.model_validate({"items": value} if isinstance(value, list) else value)
                yield run_items.trajectory(items.events(run_items.items))
        except ValueError as error:
            refuse(number, error)
    for trace_id, run in runs.items():
        try:
            yield run.about.model_copy(update={"id": trace_id}).trajectory(run.events())
        except ValueError as error:
            refuse(run.line, error)


def _called(span: Span) -> list[Event]:
    data = FunctionData.model_validate(span.span_data)
    result = data.output or (span.error.message if span.error is not None else "")
    return [Called(span.id, calls.written(data.name, data.input)), Returned(span.id, result)]


def _answered(generation: GenerationData) -> list[Event]:
    """What was said; the calls have spans of their own."""
    said = [
        event
        for answer in generation.output or ()
        for event in (answer.events() if isinstance(answer, chat.Message) else items.events(answer.output))
    ]
    return [] if any(isinstance(event, Called) for event in said) else said
