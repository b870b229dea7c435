"""Spans of OpenTelemetry: what is traced, what is kept back, and nothing at all where nobody traces."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memp import Match, ProceduralMemory, Procedure, telemetry
from memp.errors import InputError, NotFound
from memp.guidance import body
from tests.factories import trajectory
from tests.pages import shown

ROOT = Path(__file__).parent.parent


TASK = "put a mug in the sink"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """All spans that ended, and a provider as a program sets it up; texts are not allowed."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # A process can set its provider only once; these tests must not set that of the others.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    monkeypatch.delenv(telemetry.CONTENT, raising=False)
    yield exporter
    provider.shutdown()


@pytest.fixture
def memory() -> Iterator[ProceduralMemory]:
    with ProceduralMemory.open(":memory:") as memory:
        memory.update([trajectory(TASK, "go to sink, put mug")])
        yield memory


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


def told(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def names(spans: InMemorySpanExporter) -> list[str]:
    return [span.name for span in spans.get_finished_spans()]


def run(code: str, directory: Path = ROOT, **env: str) -> str:
    """What a program of its own prints."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


# --- one span ---


def test_a_memory_that_nobody_traces_imports_no_telemetry_and_a_span_costs_less_than_two_microseconds() -> (
    None
):
    code = """
import sys, timeit
from memp import ProceduralMemory, telemetry
with ProceduralMemory.open(":memory:") as memory, memory.episode("wash a mug") as episode:
    episode.record("wash mug", "ok")
    episode.finish(1)
def used():
    with telemetry.span("search_memory", "agent.db", query="wash a mug") as span:
        span.set(1, ())
print(min(timeit.repeat(used, number=1000, repeat=200)) / 1000 < 2e-6)
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    assert run(code).splitlines() == ["True", "[]"]


def test_a_span_has_the_names_of_the_conventions(spans: InMemorySpanExporter) -> None:
    with telemetry.span("update_memory", "agent.db", procedure_id="4adf") as span:
        span.set(1)

    ended = only(spans)
    assert (ended.name, ended.kind) == ("update_memory", trace.SpanKind.INTERNAL)
    assert ended.status.status_code is trace.StatusCode.UNSET
    assert ended.instrumentation_scope is not None
    assert ended.instrumentation_scope.name == "memp"
    assert told(ended) == {
        "gen_ai.operation.name": "update_memory",
        "gen_ai.memory.store.id": "agent.db",
        "gen_ai.memory.record.id": "4adf",
        "gen_ai.memory.record.count": 1,
    }


def asked_for() -> Iterator[Match | Procedure]:
    raise AssertionError("nobody may look at the procedures")
    yield


@pytest.mark.parametrize("value", ["", "false", "no_content", "EVENT_ONLY", "yes"])
def test_texts_are_not_told_unless_they_are_allowed(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(telemetry.CONTENT, value)
    with telemetry.span("search_memory", "agent.db", query=TASK) as span:
        span.set(1, asked_for())

    assert told(only(spans)).keys() == {
        "gen_ai.operation.name",
        "gen_ai.memory.store.id",
        "gen_ai.memory.record.count",
    }


@pytest.mark.parametrize("value", ["true", "True", "span_only", "SPAN_AND_EVENT"])
def test_texts_are_told_where_they_are_allowed(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, memory: ProceduralMemory, value: str
) -> None:
    matches = memory.retrieve(TASK)
    spans.clear()
    monkeypatch.setenv(telemetry.CONTENT, value)
    with telemetry.span("search_memory", "agent.db", query=TASK) as span:
        span.set(1, matches)

    attributes = told(only(spans))
    found = matches[0].procedure
    assert attributes["gen_ai.memory.query.text"] == TASK
    assert json.loads(str(attributes["gen_ai.memory.records"])) == [
        {"id": found.id, "content": body(found), "score": 1.0}
    ]


def test_whether_texts_are_allowed_is_decided_when_a_span_starts(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with telemetry.span("search_memory", "agent.db") as span:
        monkeypatch.setenv(telemetry.CONTENT, "true")
        span.set(1, asked_for())

    assert "gen_ai.memory.records" not in told(only(spans))


@pytest.mark.parametrize(("value", "description"), [("false", None), ("true", "no mug \ud800?")])
def test_an_error_is_told_by_its_type_and_by_its_message_only_where_texts_are_allowed(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, value: str, description: str | None
) -> None:
    monkeypatch.setenv(telemetry.CONTENT, value)
    with pytest.raises(InputError), telemetry.span("search_memory", "agent.db"):
        raise InputError("no mug \ud800")

    ended = only(spans)
    assert told(ended)["error.type"] == "InputError"
    assert ended.status.status_code is trace.StatusCode.ERROR
    assert ended.status.description == (description and "no mug ?")
    assert not ended.events


def test_what_no_exporter_can_encode_is_replaced(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(telemetry.CONTENT, "true")
    with telemetry.span("search_memory", "agent.db", query="a mug \ud800"):
        pass

    assert told(only(spans))["gen_ai.memory.query.text"] == "a mug ?"


def test_where_the_api_is_imported_and_nothing_set_up_a_span_does_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(telemetry.CONTENT, "true")
    with telemetry.span("search_memory", "agent.db", query=TASK) as span:
        span.set(1, asked_for())


# --- a memory ---


def test_a_search_is_traced(spans: InMemorySpanExporter, memory: ProceduralMemory) -> None:
    spans.clear()
    memory.retrieve("wash a mug")

    assert only(spans).name == "search_memory"
    assert told(only(spans)) == {
        "gen_ai.operation.name": "search_memory",
        "gen_ai.memory.store.id": ":memory:",
        "gen_ai.memory.record.count": 1,
    }


def test_an_update_is_traced_with_what_it_wrote(
    spans: InMemorySpanExporter, memory: ProceduralMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans.clear()
    monkeypatch.setenv(telemetry.CONTENT, "true")
    memory.update([trajectory(TASK, "put mug"), trajectory("wash a pan"), trajectory("fail", reward=0)])

    attributes = told(only(spans))
    assert attributes["gen_ai.operation.name"] == "upsert_memory"
    assert attributes["gen_ai.memory.record.count"] == 2
    records = json.loads(str(attributes["gen_ai.memory.records"]))
    assert {record["id"] for record in records} == {procedure.id for procedure in memory.procedures()}


def test_a_rollback_is_traced_as_an_update_of_one_procedure(
    spans: InMemorySpanExporter, memory: ProceduralMemory
) -> None:
    (procedure,) = memory.procedures()
    spans.clear()
    memory.rollback(procedure.id, 1)

    assert only(spans).name == "update_memory"
    assert told(only(spans))["gen_ai.memory.record.id"] == procedure.id


def test_an_episode_is_traced_beneath_the_span_of_its_program(
    spans: InMemorySpanExporter, memory: ProceduralMemory
) -> None:
    spans.clear()
    agents_own = trace.get_tracer("program").start_as_current_span("invoke_agent")
    with agents_own, memory.episode("wash a mug") as episode:
        episode.record("wash mug", "ok")
        episode.finish(1)

    search, update, agent = spans.get_finished_spans()
    assert [search.name, update.name, agent.name] == ["search_memory", "upsert_memory", "invoke_agent"]
    assert agent.context is not None
    assert {span.parent and span.parent.span_id for span in (search, update)} == {agent.context.span_id}


def test_the_update_of_an_async_episode_is_traced_beneath_the_span_of_its_program(
    spans: InMemorySpanExporter, memory: ProceduralMemory
) -> None:
    async def program() -> None:
        with trace.get_tracer("program").start_as_current_span("invoke_agent"):
            async with memory.episode("wash a mug") as episode:
                episode.record("wash mug", "ok")
                episode.finish(1)

    spans.clear()
    asyncio.run(program())

    _, update, agent = spans.get_finished_spans()
    assert agent.context is not None
    assert update.parent is not None
    assert update.parent.span_id == agent.context.span_id


def test_what_goes_wrong_in_a_memory_is_traced_with_its_type(
    spans: InMemorySpanExporter, memory: ProceduralMemory
) -> None:
    spans.clear()
    with pytest.raises(InputError):
        memory.retrieve(" ")
    with pytest.raises(NotFound):
        memory.rollback("nothing", 1)

    assert names(spans) == ["search_memory", "update_memory"]
    assert [told(span)["error.type"] for span in spans.get_finished_spans()] == ["InputError", "NotFound"]


# --- the page ---


def test_the_page_is_true(tmp_path: Path) -> None:
    code = shown("telemetry.md")

    printed = run(code, tmp_path)

    assert re.findall(r'"name": "(\w+)"', printed) == ["search_memory", "upsert_memory"]
    assert "fetch a spoon" not in printed
    assert "fetch a spoon" in run(code, tmp_path, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="true")
