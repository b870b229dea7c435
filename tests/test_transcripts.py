"""Transcripts that exist already, read as trajectories."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
    trace,
)
from agents.tracing import Span, Trace, TracingProcessor, set_trace_processors
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.load import dumpd
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    messages_to_dict,
)
from openai import AsyncOpenAI

from memp.errors import InputError
from memp.formats import read
from memp.guidance import CLOSE, OPEN
from memp.memory import ProceduralMemory
from memp.trajectory import MAX_TEXT, Trajectory
from memp.transcripts.events import Called, Event, Returned, Said, steps, trajectory
from tests.kitchen import DONE, RIGHT_WAY, SEARCH, Kitchen, KitchenServer, task
from tests.pages import shown

TASK = "put a clean mug in the coffee machine"


def lines(*values: object) -> io.BytesIO:
    return io.BytesIO(b"\n".join(json.dumps(value).encode() for value in values))


def one(form: str, *values: object, reward: float | None = None) -> Trajectory:
    """The one trajectory in lines."""
    (found,) = read(lines(*values), form, reward=reward).trajectories
    return found


def told(found: Trajectory) -> list[tuple[str, str]]:
    return [(step.action, step.observation) for step in found.steps]


# --- events ---


def acted(*events: Event) -> list[tuple[str, str]]:
    return [(step.action, step.observation) for step in steps(events)]


def test_a_call_is_an_action_and_its_result_the_observation() -> None:
    assert acted(
        Said(False, "do it"),
        Said(True, "I look and take."),
        Called("a", "look()"),
        Called("b", "take()"),
        Returned("b", "taken"),
        Returned("a", "a mug"),
        Returned("x", "of no call"),
        Returned("a", "once more"),
        Said(False, "hurry"),
        Called("c", "go()"),
    ) == [("look()", "a mug"), ("take()", "taken"), ("go()", "")]


def test_a_text_without_calls_is_an_action_and_what_is_said_next_the_observation() -> None:
    assert acted(
        Said(False, "do it"),
        Said(True, "look"),
        Said(False, "a mug"),
        Said(False, "and a pan"),
        Said(True, " "),
        Said(False, "well?"),
        Said(True, "take"),
        Said(True, "mug\n"),
    ) == [("look", "a mug\nand a pan"), ("take\nmug", "")]


def test_calls_without_ids_find_their_results_in_order_and_an_id_used_again_names_the_newest_call() -> None:
    assert acted(
        *(Called("", "a()"), Called("", "b()"), Returned("", "1"), Returned("", "2")),
        *(Called("0", "c()"), Said(False, "stop"), Called("0", "d()"), Returned("0", "3")),
    ) == [("a()", "1"), ("b()", "2"), ("c()", ""), ("d()", "3")]


def test_what_is_too_long_is_cut_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    (step,) = steps([Called("a", "x" * (MAX_TEXT + 1)), Returned("a", "\ud800" + "y" * MAX_TEXT)])

    assert (len(step.action), step.observation[:2], len(step.observation)) == (MAX_TEXT, "?y", MAX_TEXT)
    assert "an action of 1000001 characters is cut to 1000000" in caplog.text


def test_the_task_is_the_first_text_without_guidance_and_without_any_there_is_none() -> None:
    guided = [
        Said(False, f"{OPEN}old{CLOSE}"),
        Said(False, f"{OPEN}old{CLOSE}\n\n{TASK}"),
        Said(True, "look"),
    ]

    assert trajectory(guided).task == TASK
    assert trajectory(guided, task="another").task == "another"
    with pytest.raises(ValueError, match='no task: nothing was said to the agent; give the field "task"'):
        trajectory([Said(True, "look")])


# --- openai ---

LOOK = {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"at": "sink"}'}}

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "You work."},
    {
        "role": "user",
        "content": [{"type": "text", "text": TASK}, {"type": "image_url", "image_url": {"url": "data:,"}}],
    },
    {"role": "assistant", "content": "I look.", "tool_calls": [LOOK]},
    {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "a mug"}]},
    {"role": "assistant", "content": "Shall I take it?", "refusal": None},
    {"role": "user", "content": "Yes."},
    {"role": "assistant", "function_call": {"name": "take", "arguments": "{}"}},
    {"role": "function", "name": "take", "content": "taken"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "b", "type": "custom", "custom": {"name": "run", "input": "ls"}}],
    },
]

CHAT_STEPS = [
    ('look(at="sink")', "a mug"),
    ("Shall I take it?", "Yes."),
    ("take()", "taken"),
    ("run(ls)", ""),
]


def test_a_list_of_chat_messages_is_a_trajectory() -> None:
    found = one("openai", {"messages": CHAT, "reward": 0.5, "tools": [], "model": "m"})

    assert (found.task, told(found)) == (f"{TASK}\n[image_url]", CHAT_STEPS)
    assert (found.reward, found.finished) == (0.5, True)


def test_a_line_may_name_its_task_and_itself() -> None:
    found = one("openai", {"messages": CHAT, "task": "t", "task_id": "t1", "id": "run-7", "reward": None})

    assert (found.task, found.task_id, found.episode_id, found.finished) == ("t", "t1", "run-7", False)


def test_a_line_may_be_the_list_alone() -> None:
    assert told(one("openai", CHAT)) == CHAT_STEPS


def test_arguments_may_be_objects() -> None:
    call = {"function": {"name": "look", "arguments": {"at": "sink"}}}
    found = one(
        "openai", [CHAT[1], {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "a mug"}]
    )
    assert told(found) == [('look(at="sink")', "a mug")]


# --- reward ---


def test_without_a_reward_a_run_is_unfinished_and_a_reward_can_be_given_for_those() -> None:
    plain, paid = {"messages": CHAT}, {"messages": CHAT, "reward": 0.5}

    assert [run.finished for run in read(lines(plain, paid), "openai").trajectories] == [False, True]
    runs = read(lines(plain, paid), "openai", reward=1).trajectories
    assert [(run.finished, run.reward) for run in runs] == [(True, 1.0), (True, 0.5)]


@pytest.mark.parametrize("reward", [-0.1, 1.1, float("nan")])
def test_a_reward_out_of_range_is_refused(reward: float) -> None:
    with pytest.raises(InputError, match=f"reward is {reward!r}; it must be from 0 to 1"):
        read(lines(), "openai", reward=reward)


# --- what cannot be read ---

BAD: list[tuple[str, object, str]] = [
    ("openai", {}, "messages: Field required"),
    ("openai", 3, "the line: Input should be a valid dictionary"),
    ("openai", {"messages": "hello"}, "messages: Input should be a valid list"),
    ("openai", {"messages": []}, "no task: nothing was said to the agent"),
    ("openai", {"messages": CHAT, "reward": 2}, "reward: Input should be less than or equal to 1"),
    ("openai", {"messages": CHAT, "reward": "1"}, "reward: Input should be a valid number"),
    ("openai", {"messages": CHAT, "reward": True}, "reward: Input should be a valid number"),
    ("openai", {"messages": CHAT, "id": "x" * 201}, "episode_id: String should have at most 200"),
    ("openai", {"messages": [{"role": "gpt"}]}, "messages[0].role: Input should be 'system', "),
    (
        "openai",
        [{"role": "user", "content": 3}],
        "messages[0].content: Value error, 3 is neither a text nor a list",
    ),
    (
        "openai",
        [*CHAT, {"role": "assistant", "tool_calls": [{"id": "c", "function": {"arguments": "{}"}}]}],
        "messages[9].tool_calls[0].function.name: Field required",
    ),
    (
        "openai",
        [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": [1]}}]}],
        "messages[0].tool_calls[0].function.arguments: Value error, [1] is neither an object nor",
    ),
    ("openai-agents", {"items": [3]}, "items[0]: Input should be a valid dictionary"),
    ("openai-agents", {"object": "trace"}, "id: Field required"),
    (
        "openai-agents",
        {"object": "trace.span", "id": "s"},
        "trace_id: Field required; span_data: Field required",
    ),
    (
        "openai-agents",
        {"object": "trace", "id": "t", "metadata": {"reward": "x"}},
        "metadata.reward: Input should",
    ),
    ("langgraph", [{"data": {}}], "messages[0].type: Input should be a valid string"),
    ("langgraph", [{"type": "ai", "tool_calls": {}}], "messages[0].tool_calls: Input should be a valid list"),
    (
        "claude-code",
        {"role": "user", "content": "hi"},
        "type: Field required; the line is of no session file",
    ),
    ("claude-code", {"type": "user"}, "message: Field required"),
    (
        "claude-code",
        {"type": "user", "message": {"content": [{"text": "hi"}]}},
        "message.content[0].type: Field",
    ),
]


@pytest.mark.parametrize(("form", "value", "reason"), BAD)
def test_a_bad_line_is_named_with_its_field(form: str, value: object, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        read(lines(value), form)
    assert f"  line 1: {reason}" in str(caught.value)
    assert "1 of 1 lines cannot be used" in str(caught.value)


# --- OpenAI Agents SDK ---


class Exporter(TracingProcessor):
    """Keeps what a user's own exporter would write to a file."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def on_trace_start(self, trace: Trace) -> None: ...

    def on_trace_end(self, trace: Trace) -> None:
        self.lines.append(trace.export())

    def on_span_start(self, span: Span[Any]) -> None: ...

    def on_span_end(self, span: Span[Any]) -> None:
        self.lines.append(span.export())

    def shutdown(self) -> None: ...

    def force_flush(self) -> None: ...


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    exporter = Exporter()
    set_trace_processors([exporter])
    yield exporter
    set_trace_processors([])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def run(kind: type[Any], *, at_once: bool = False, **metadata: object) -> Any:
    """Let an agent of the SDK bring the mug."""
    with KitchenServer(at_once=at_once) as server:
        async with AsyncOpenAI(base_url=server.base_url, api_key="k") as client:
            tools: list[Any] = [function_tool(tool) for tool in Kitchen().tools()]
            agent = Agent("cook", tools=tools, model=kind(model="m", openai_client=client))
            with trace("kitchen", metadata=metadata or None):
                return await Runner.run(agent, task(), max_turns=12, run_config=RunConfig())


@pytest.mark.anyio
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("kind", [OpenAIChatCompletionsModel, OpenAIResponsesModel])
async def test_the_items_of_a_run_are_a_trajectory(
    exporter: Exporter, kind: type[Any], at_once: bool
) -> None:
    result = await run(kind, at_once=at_once)
    for line in ({"items": result.to_input_list(), "reward": 1}, result.to_input_list()):
        found = one("openai-agents", line)

        assert found.task == task()
        assert [step.action for step in found.steps] == [*SEARCH, *RIGHT_WAY, DONE]
        assert found.steps[3].observation == "You open the cupboard. You see a mug."
        assert found.finished == isinstance(line, dict)


@pytest.mark.anyio
async def test_an_exported_trace_is_a_trajectory(exporter: Exporter) -> None:
    await run(OpenAIChatCompletionsModel)
    await run(OpenAIChatCompletionsModel, task="Bring it.", reward=1.0, task_id="k1")
    plain, told_more = read(lines(*exporter.lines), "openai-agents").trajectories

    assert plain.task == task()
    assert [step.action for step in plain.steps] == [*SEARCH, *RIGHT_WAY, DONE]
    assert plain.steps[3].observation == "You open the cupboard. You see a mug."
    assert (plain.finished, plain.episode_id.startswith("trace_")) == (False, True)
    assert (told_more.task, told_more.reward, told_more.finished, told_more.task_id) == (
        "Bring it.",
        1,
        True,
        "k1",
    )


@pytest.mark.anyio
async def test_a_trace_of_responses_tells_its_calls_and_needs_a_task(exporter: Exporter) -> None:
    await run(OpenAIResponsesModel)
    with pytest.raises(InputError, match="no task"):
        read(lines(*exporter.lines), "openai-agents")

    exporter.lines.clear()
    await run(OpenAIResponsesModel, task=task())
    assert [step.action for step in one("openai-agents", *exporter.lines).steps] == [*SEARCH, *RIGHT_WAY]


def span(
    span_id: str, kind: str, parent: str | None = None, error: object = None, **data: object
) -> dict[str, Any]:
    return {
        **{
            "object": "trace.span",
            "id": span_id,
            "trace_id": "t",
            "parent_id": parent,
            "started_at": span_id,
        },
        **{"span_data": {"type": kind, **data}, "error": error},
    }


def test_what_a_tool_does_inside_is_not_the_agents_and_a_failure_is_an_observation() -> None:
    found = one(
        "openai-agents",
        span("3", "function", "2", name="search", input="{}", output="inside"),
        span("2", "agent", "1", name="helper"),
        span("1", "function", name="ask_helper", input='{"what": "mug"}', output="in the cupboard"),
        span(
            "4", "function", name="open", input='{"door": 1}', error={"message": "it is locked", "data": {}}
        ),
        span("5", "function", "6", name="loop"),
        span("6", "agent", "6", name="its own parent"),
        {"object": "trace", "id": "t", "metadata": {"task": TASK}},
    )
    assert told(found) == [
        ('ask_helper(what="mug")', "in the cupboard"),
        ("open(door=1)", "it is locked"),
        ("loop()", ""),
    ]


# --- LangGraph ---

LANG = [
    SystemMessage("You work."),
    HumanMessage([{"type": "text", "text": TASK}]),
    AIMessage(
        [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "a", "name": "look", "input": {"at": "sink"}},
        ],
        tool_calls=[{"name": "look", "args": {"at": "sink"}, "id": "a"}],
        invalid_tool_calls=[
            {"name": "take", "args": '{"what', "id": "b", "error": "no JSON", "type": "invalid_tool_call"}
        ],
    ),
    ToolMessage("a mug", tool_call_id="a"),
    ToolMessage("what?", tool_call_id="b", status="error"),
    AIMessageChunk(content="Done."),
]


@pytest.mark.parametrize(
    "line",
    [
        messages_to_dict(LANG),
        {"messages": messages_to_dict(LANG), "reward": 1.0},
        dumpd(LANG),
        dumpd({"messages": LANG}),
        [message.model_dump() for message in LANG],
    ],
)
def test_langgraph_messages_are_a_trajectory_in_each_form(line: Any) -> None:
    found = one("langgraph", line, reward=1)

    assert found.task == TASK
    assert told(found) == [('look(at="sink")', "a mug"), ('take({"what)', "what?"), ("Done.", "")]


# --- Claude Code ---


def entry(kind: str, content: object, uuid: str = "", session: str = "s1", **more: object) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": uuid,
        "sessionId": session,
        "message": {"role": kind, "content": content},
        **more,
    }


def block(kind: str, **more: object) -> list[dict[str, Any]]:
    return [{"type": kind, **more}]


READ = block("tool_use", id="u1", name="Read", input={"file_path": "a.py"})
RESULT = [{"type": "tool_result", "tool_use_id": "u1", "content": [{"type": "text", "text": "x = 1"}]}]
COMMAND = "<command-message>m</command-message>\n<command-name>/model</command-name><command-args>opus</command-args>"

SESSION: list[Any] = [
    {"type": "file-history-snapshot", "messageId": "m", "snapshot": {}},
    entry("user", "Caveat: a note of the program.", isMeta=True),
    entry("user", COMMAND),
    entry("user", "<local-command-stdout>Set model</local-command-stdout>"),
    entry("user", "Fix the bug in a.py", "1"),
    entry("assistant", block("thinking", thinking="hm", signature=""), "2"),
    entry("assistant", block("text", text="I read it first."), "3"),
    entry("assistant", READ, "4"),
    entry("user", "What a helper was asked.", isSidechain=True),
    entry("user", RESULT, "5", toolUseResult={"stdout": ""}),
    entry("user", RESULT, "5"),
    {"type": "system", "subtype": "compact_boundary", "content": "Conversation compacted"},
    entry("user", "This session is being continued.", isCompactSummary=True),
    entry(
        "assistant",
        block("text", text="API Error"),
        "6",
        message={"model": "<synthetic>", "content": "API Error"},
    ),
    entry("assistant", block("text", text="Fixed."), "7"),
    entry("user", [{"type": "text", "text": "And b.py?"}, {"type": "image", "source": {}}], "8"),
]


def test_a_session_is_a_trajectory() -> None:
    found = one("claude-code", *SESSION)

    assert (found.task, found.episode_id, found.finished) == ("Fix the bug in a.py", "s1", False)
    assert told(found) == [('Read(file_path="a.py")', "x = 1"), ("Fixed.", "And b.py?")]


def test_a_command_is_the_task_where_there_is_no_other_prompt() -> None:
    expanded = entry("user", block("text", text="Review all of it."), isMeta=True)
    assert (
        one("claude-code", entry("user", COMMAND), expanded, entry("assistant", READ)).task == "/model opus"
    )


def test_sessions_one_after_the_other_and_those_of_subagents_are_kept_apart() -> None:
    other = [
        entry("user", "Write docs", session="s2"),
        entry("assistant", block("text", text="ok"), session="s2"),
    ]
    helper: dict[str, Any] = {"isSidechain": True, "agentId": "h1"}
    beside = [
        entry("user", "Find it", **helper),
        entry("assistant", READ, **helper),
        entry("user", RESULT, **helper),
    ]
    found = read(lines(*SESSION, *other, *beside), "claude-code").trajectories

    assert [(run.task, run.episode_id, len(run.steps)) for run in found] == [
        ("Fix the bug in a.py", "s1", 2),
        ("Write docs", "s2", 1),
        ("Find it", "h1", 1),
    ]


def test_bad_lines_of_a_session_can_be_left_out() -> None:
    bad = {"type": "assistant", "message": {"content": 3}}
    found, faults = read(lines(bad, *SESSION, [], {"type": "summary"}), "claude-code", skip_bad=True)

    assert told(found[0]) == told(one("claude-code", *SESSION))
    assert [fault.line for fault in faults] == [1, len(SESSION) + 2]


def test_a_file_without_a_session_has_no_trajectories() -> None:
    assert read(lines({"type": "summary", "summary": "Fixed it", "leafUuid": "x"}), "claude-code") == ((), ())


# --- anything ---

GOOD: dict[str, list[Any]] = {
    "openai": [{"messages": CHAT, "reward": 1.0}, CHAT],
    "openai-agents": [
        {
            "items": [
                {"role": "user", "content": TASK},
                {"type": "function_call", "call_id": "a", "name": "look"},
            ]
        },
        {"object": "trace", "id": "t", "metadata": {"task": TASK}},
        span("1", "function", name="look", input="{}", output="a mug"),
        span("2", "generation", "1", input=CHAT[:2], output=CHAT[2:3]),
    ],
    "langgraph": [messages_to_dict(LANG), dumpd({"messages": LANG})],
    "claude-code": SESSION,
}

ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["", "user", "tool", "<command-name>"])
    | st.text(max_size=3)
)
ODDER = (
    ODD
    | st.lists(ODD, max_size=2)
    | st.dictionaries(st.sampled_from(["type", "text", "id"]), ODD, max_size=2)
)


@st.composite
def spoiled(draw: st.DrawFn, value: Any) -> Any:
    """A value with something in it, at any depth, made odd or left out."""
    if not value or not isinstance(value, list | dict) or not draw(st.integers(0, 4)):
        return draw(ODDER)
    where = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
    changed = value.copy()
    if isinstance(changed, dict) and not draw(st.integers(0, 3)):
        del changed[where]
    else:
        changed[where] = draw(spoiled(changed[where]))
    return changed


@pytest.mark.parametrize("form", GOOD)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_anything_is_a_trajectory_or_a_bad_line(form: str, data: st.DataObject) -> None:
    values = data.draw(spoiled(GOOD[form]))
    values = values if isinstance(values, list) else [values]
    trajectories, bad = read(lines(*values), form, skip_bad=True)
    assert len(trajectories) + len(bad) <= len(values)
    for found in trajectories:
        assert Trajectory.model_validate_json(found.model_dump_json()) == found


EVENTS = st.lists(
    st.builds(Said, st.booleans(), st.text(max_size=3))
    | st.builds(Called, st.sampled_from("ab"), st.just("look()"))
    | st.builds(Returned, st.sampled_from("abc"), st.text(max_size=3)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_each_call_is_one_step_and_steps_only_grow(events: list[Event]) -> None:
    made = steps(events)
    assert sum(step.action == "look()" for step in made) >= sum(isinstance(event, Called) for event in events)
    assert all(step.action.strip() for step in made)
    for end in range(len(events)):
        before = steps(events[:end])
        assert len(before) <= len(made)


# --- the page ---


def test_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(shown("transcripts.md"), {})

    assert "> wash()\nThe mug is clean." in capsys.readouterr().out


def test_what_is_read_is_learned_from(tmp_path: Path) -> None:
    with ProceduralMemory.open(tmp_path / "agent.db") as memory:
        memory.update(read(lines({"messages": CHAT, "reward": 1}), "openai").trajectories)
        memory.update(read(lines(CHAT), "openai").trajectories)

        assert [procedure.length for procedure in memory.procedures()] == [4]
        assert [item.kind for item in memory.quarantine()] == ["unfinished"]
