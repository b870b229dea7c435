"""Spans of OpenTelemetry for what happens in a memory, by the conventions for generative AI.

    with telemetry.span("search_memory", store.name, query=task) as span:
        matches = ...
        span.set(len(matches), matches)

Nothing is imported here: whoever traces has imported OpenTelemetry. Where nobody has, a span does nothing and
costs about a microsecond. The conventions are in development and in no package of constants yet, so their
names stand here as they are written there (open-telemetry/semantic-conventions-genai, read at 002c8a6).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from memp.guidance import body
from memp.procedure import Match, Procedure

if TYPE_CHECKING:
    from opentelemetry import trace

Operation: TypeAlias = Literal["search_memory", "update_memory", "upsert_memory"]
"""What is done with the memory; the span has this name. An update adds and revises as one: that is an upsert."""

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The environment variable that allows texts in spans; read when a span starts."""

ALLOWED = frozenset({"true", "span_only", "span_and_event"})
"""Its values that do, in small or capital letters."""


class Span(Protocol):
    """What is told about an operation while it goes on."""

    def set(self, count: int, procedures: Iterable[Match | Procedure] = ()) -> None:
        """Say how many procedures it concerns, and which.

        Args:
            count: Those found, or those that were to be written.
            procedures: Only looked at where texts are allowed, so a generator costs nothing otherwise.
        """


def span(
    operation: Operation, store: str, *, procedure_id: str = "", query: str = ""
) -> AbstractContextManager[Span]:
    """Trace an operation as long as the block lasts; an exception is told by its type alone.

    Args:
        operation: By the name the conventions have for it.
        store: The name of the store.
        procedure_id: Where it concerns one procedure.
        query: The task searched for; told only where texts are allowed.
    """
    if sys.modules.get("opentelemetry.trace") is None:
        return _SILENT
    named = {"gen_ai.operation.name": operation, "gen_ai.memory.store.id": store}
    if procedure_id:
        named["gen_ai.memory.record.id"] = procedure_id
    told = os.environ.get(CONTENT, "").lower() in ALLOWED
    if told and query:
        named["gen_ai.memory.query.text"] = _sendable(query)
    return _Traced(operation, named, told=told)


class _Silent:
    """A span that nobody listens to."""

    def set(self, count: int, procedures: Iterable[Match | Procedure] = ()) -> None:
        """Say nothing."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *error: object) -> None:
        """Let errors pass."""


_SILENT = _Silent()


class _Traced:
    """A span of the tracer that the program has set up."""

    def __init__(self, operation: Operation, named: dict[str, str], *, told: bool) -> None:
        from opentelemetry import trace

        from memp import __version__

        self._told = told
        self._errors = trace.StatusCode.ERROR
        # An exception's message and trace hold texts of the task, so they are not recorded as they are.
        self._begun = trace.get_tracer("memp", __version__).start_as_current_span(
            operation,
            kind=trace.SpanKind.INTERNAL,
            attributes=named,
            record_exception=False,
            set_status_on_exception=False,
        )

    def set(self, count: int, procedures: Iterable[Match | Procedure] = ()) -> None:
        """Note the count, and the procedures where texts are allowed."""
        self._span.set_attribute("gen_ai.memory.record.count", count)
        if self._told and self._span.is_recording():
            records = [_record(item) for item in procedures]
            self._span.set_attribute("gen_ai.memory.records", json.dumps(records))

    def __enter__(self) -> _Traced:
        self._span: trace.Span = self._begun.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._span.set_attribute("error.type", kind.__qualname__)
            self._span.set_status(self._errors, _sendable(str(error)) if self._told else None)
        self._begun.__exit__(kind, error, trace)


def _sendable(text: str) -> str:
    """The text without what no exporter can encode."""
    return text.encode("utf-8", "replace").decode()


def _record(item: Match | Procedure) -> dict[str, Any]:
    """A procedure as the conventions write a record of a memory."""
    if isinstance(item, Match):
        return _record(item.procedure) | {"score": item.score}
    return {"id": item.id, "content": body(item)}
