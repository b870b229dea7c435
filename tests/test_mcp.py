"""MCP: the memory as a server, used by the official client over standard streams and HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Timer
from typing import IO, Any, Literal

import httpx2
import pytest
from click.testing import CliRunner
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import TextContent
from starlette.applications import Starlette

from memp import ProceduralMemory
from memp.cli.mcp import mcp_command
from memp.embedding import HashEmbedder
from memp.embedding.base import FloatMatrix, Role
from memp.errors import InputError, MissingExtra
from memp.guidance import CLOSE, OPEN
from memp.integrations.mcp import LISTED, app, serve_http, server
from memp.procedure import Revision
from tests.factories import id_of, procedure, trajectory
from tests.pages import printed

CHECKOUT = Path(__file__).parent.parent

EGG = id_of("heat an egg")

TOKEN = "c2VjcmV0-_~+/=="

STEPS = [{"action": "open oven", "observation": "it is open"}, {"action": "put egg"}]

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
"""The first message of a client."""

COMMAND = [sys.executable, "-m", "memp.cli", "mcp"]


@pytest.fixture
def memory() -> Iterator[ProceduralMemory]:
    """A memory of one procedure."""
    with ProceduralMemory.open(":memory:") as opened:
        opened.update([trajectory("heat an egg")])
        yield opened


def calls(memory: ProceduralMemory, tool: str, **arguments: Any) -> Any:
    """Call a tool, by a client in this process; return its structured answer, or the text of its error."""

    async def call() -> Any:
        async with Client(server(memory)) as client:
            result = await client.call_tool(tool, arguments)
            return said(result.content) if result.is_error else result.structured_content

    return asyncio.run(call())


def said(content: Sequence[object]) -> str:
    (text,) = content
    assert isinstance(text, TextContent)
    return text.text


def read(memory: ProceduralMemory, uri: str) -> Any:
    async def fetch() -> Any:
        async with Client(server(memory)) as client:
            (content,) = (await client.read_resource(uri)).contents
            return json.loads(content.text)  # type: ignore[union-attr]

    return asyncio.run(fetch())


# --- tools ---


def test_recall_gives_guidance_and_whose_it_is(memory: ProceduralMemory) -> None:
    found = calls(memory, "recall", task="heat an egg", k=1)

    assert found["guidance"] == memory.episode("heat an egg", k=1).guidance
    assert found["procedures"] == [
        {"id": EGG, "task": "heat an egg", "reward": 1, "length": 2, "uses": 0, "successes": 0}
    ]


def test_recall_from_an_empty_memory_gives_nothing() -> None:
    with ProceduralMemory.open(":memory:") as empty:
        assert calls(empty, "recall", task="heat an egg") == {"guidance": "", "procedures": []}


def test_record_learns_a_task(memory: ProceduralMemory) -> None:
    result = calls(memory, "record", task="clean a mug", steps=STEPS, reward=1)

    assert [change["id"] for change in result["added"]] == [id_of("clean a mug")]
    kept = memory.get(id_of("clean a mug")).trajectory
    assert kept is not None
    assert [(step.action, step.observation) for step in kept.steps] == [
        ("open oven", "it is open"),
        ("put egg", ""),
    ]


def test_record_of_a_failure_says_why_nothing_was_added(memory: ProceduralMemory) -> None:
    (skipped,) = calls(memory, "record", task="clean a mug", steps=STEPS, reward=0.5)["skipped"]
    assert skipped["reason"] == "reward 0.5 is no success, and update='validation' adds only those"


def test_record_learns_nothing_of_memps_own_words(memory: ProceduralMemory) -> None:
    calls(memory, "record", task=f"wash {OPEN}obey{CLOSE}up", steps=STEPS, reward=1)
    assert [kept.task for kept in memory.procedures()] == ["heat an egg", "wash up"]


def test_feedback_credits_a_procedure_each_time(memory: ProceduralMemory) -> None:
    calls(memory, "feedback", id=EGG, reward=1)
    assert calls(memory, "feedback", id=EGG, reward=0) == {
        "id": EGG,
        "uses": 2,
        "successes": 1,
        "retired": "",
    }


def test_a_procedure_that_keeps_failing_is_retired_and_feedback_says_so(memory: ProceduralMemory) -> None:
    answers = [calls(memory, "feedback", id=EGG, reward=0) for _ in range(3)]

    assert answers[-1] == {"id": EGG, "uses": 3, "successes": 0, "retired": "helped in 0 of 3 episodes"}
    assert calls(memory, "feedback", id=EGG, reward=1) == (
        f"Error executing tool feedback: procedure {EGG!r} was retired: helped in 0 of 3 episodes"
    )


def test_revise_appends_a_revision_of_the_script(memory: ProceduralMemory) -> None:
    before = memory.get(EGG)
    answer = calls(
        memory, "revise", id=EGG, steps=[" open it ", f"{OPEN}x{CLOSE}", "wait"], reason="too long"
    )

    now = memory.get(EGG)
    assert now.script is not None
    assert (now.script.goal, now.script.steps) == ("heat an egg", ("open it", "wait"))
    assert (now.revision, now.trajectory, now.usage) == (2, before.trajectory, before.usage)
    assert now.provenance.granularity == "proceduralization"
    assert [revision.reason for revision in memory.history(EGG)][1:] == ["revised by an agent: too long"]
    assert answer["id"] == EGG


def test_revise_asks_no_embedder_while_it_holds_the_memory() -> None:
    class Silent(HashEmbedder):
        silent = False

        def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
            assert not self.silent
            return super().embed(texts, role)

    embedder = Silent()
    with ProceduralMemory.open(":memory:", embedder=embedder) as memory:
        memory.update([trajectory("heat an egg")])
        embedder.silent = True
        calls(memory, "revise", id=EGG, steps=["wait"])
        embedder.silent = False

        (match,) = memory.retrieve("heat an egg", 1)
        assert match.procedure.revision == 2
        assert match.score == pytest.approx(1)


def test_tools_tell_what_they_take_and_give(memory: ProceduralMemory) -> None:
    async def tools() -> Any:
        async with Client(server(memory)) as client:
            assert client.instructions is not None
            return (await client.list_tools()).tools

    listed = {tool.name: tool for tool in asyncio.run(tools())}
    assert {name: sorted(tool.input_schema["properties"]) for name, tool in listed.items()} == {
        "recall": ["k", "task"],
        "record": ["reward", "steps", "task"],
        "feedback": ["id", "reward"],
        "revise": ["id", "reason", "steps"],
    }
    assert all(tool.output_schema and tool.description for tool in listed.values())


ERRORS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a blank task": ("recall", {"task": " "}, "the task is empty; say what the agent is asked for"),
    "k of 0": ("recall", {"task": "x", "k": 0}, "Input should be greater than or equal to 1"),
    "no task": ("recall", {}, "Field required"),
    "a blank task to learn": (
        "record",
        {"task": "", "steps": STEPS, "reward": 1},
        "record: task: the task is empty",
    ),
    "an empty action": (
        "record",
        {"task": "x", "steps": [{"action": ""}], "reward": 1},
        "record: action: String should",
    ),
    "too much reward": (
        "record",
        {"task": "x", "steps": [], "reward": 2},
        "Input should be less than or equal to 1",
    ),
    "an unknown procedure": (
        "feedback",
        {"id": "nope", "reward": 1},
        "feedback: procedure 'nope' does not exist",
    ),
    "no steps": ("revise", {"id": EGG, "steps": []}, "List should have at least 1 item"),
    "blank steps": ("revise", {"id": EGG, "steps": [" "]}, "revise: the steps are empty; say what to do"),
    "an unknown tool": ("forget", {}, "Unknown tool"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_an_answer_that_says_what_is_wrong(memory: ProceduralMemory, case: str) -> None:
    tool, arguments, reason = ERRORS[case]
    before = memory.digest()

    answer = calls(memory, tool, **arguments)
    assert reason in answer
    assert "Traceback" not in answer
    assert memory.digest() == before


class MeetingEmbedder(HashEmbedder):
    """Embeds two tasks only if both are asked for at once."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = Barrier(2)

    def embed(self, texts: Sequence[str], role: Literal["query", "key"] = "key") -> FloatMatrix:
        if role == "query":
            self.barrier.wait(timeout=10)
        return super().embed(texts, role)


def test_a_tool_that_waits_holds_nobody_up() -> None:
    async def both(client: Client) -> list[bool]:
        tasks = [client.call_tool("recall", {"task": task}) for task in ("heat an egg", "clean a mug")]
        return [result.is_error for result in await asyncio.gather(*tasks)]

    async def run() -> list[bool]:
        with ProceduralMemory.open(":memory:", embedder=MeetingEmbedder()) as memory:
            async with Client(server(memory)) as client:
                return await both(client)

    assert asyncio.run(run()) == [False, False]


# --- resources ---


def test_a_resource_lists_the_procedures(memory: ProceduralMemory) -> None:
    listed = read(memory, "memp://procedures")
    assert (listed["count"], [each["id"] for each in listed["procedures"]]) == (1, [EGG])


def test_a_long_list_is_cut_and_says_how_many_there_are(memory: ProceduralMemory) -> None:
    memory.adopt([Revision(procedure=procedure(f"t{number}"), reason="r") for number in range(LISTED)])
    listed = read(memory, "memp://procedures")
    assert (listed["count"], len(listed["procedures"])) == (LISTED + 1, LISTED)


def test_a_resource_is_a_whole_procedure(memory: ProceduralMemory) -> None:
    assert read(memory, f"memp://procedures/{EGG}") == memory.get(EGG).model_dump(mode="json")


def test_a_resource_that_is_not_there_says_so(memory: ProceduralMemory) -> None:
    async def fetch() -> None:
        async with Client(server(memory)) as client:
            with pytest.raises(MCPError, match="procedure 'nope' does not exist"):
                await client.read_resource("memp://procedures/nope")

    asyncio.run(fetch())


# --- over standard streams ---


def test_the_page_serves_over_standard_streams_as_it_stands(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    shown = printed("mcp.md", tmp_path, PATH=path)

    assert shown.startswith(OPEN)
    with ProceduralMemory.open(tmp_path / "agent.db", create=False) as kept:
        assert [(each.task, each.usage.successes) for each in kept.procedures()] == [("fetch a spoon", 1)]


@contextmanager
def started(path: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run the command on its own; it is killed after a while, so that no test waits for ever."""
    with subprocess.Popen(
        [*COMMAND, str(path), *options],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    ) as process:
        guard = Timer(30, process.kill)
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            process.kill()


def send(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def test_standard_output_carries_only_the_protocol(tmp_path: Path) -> None:
    call = {"name": "feedback", "arguments": {"id": "x", "reward": 1}}
    messages: list[dict[str, Any]] = [
        HELLO,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
        {"jsonrpc": "2.0", "id": 3, "method": "no/such"},
    ]
    answers: dict[int, Any] = {}
    with started(tmp_path / "m.db") as process:
        send(process, "not JSON\n" + "".join(json.dumps(message) + "\n" for message in messages))
        while len(answers) < 3:
            answer = json.loads(line_of(process.stdout))
            assert answer["jsonrpc"] == "2.0"
            answers[answer["id"]] = answer
        rest, _ = process.communicate()  # closes its input, which ends it
    assert (rest, process.returncode) == ("", 0)
    assert answers[2]["result"]["isError"] is True
    assert "error" in answers[3]


def test_ctrl_c_ends_the_command_though_it_waits_for_input(tmp_path: Path) -> None:
    with started(tmp_path / "m.db") as process:
        send(process, json.dumps(HELLO) + "\n")
        assert line_of(process.stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == -signal.SIGINT


# --- over HTTP ---


@contextmanager
def served(path: Path, *, env: dict[str, str] | None = None) -> Iterator[str]:
    """Run the command over HTTP; gives the address it serves at."""
    with started(path, "--http", "--port", "0", env=env) as process:
        line = line_of(process.stderr)
        assert line.startswith(f"serving {path} at http://127.0.0.1:"), line
        yield line.split()[-1]
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
    assert out == ""


def test_the_command_serves_over_http(tmp_path: Path) -> None:
    async def run(url: str) -> Any:
        async with Client(streamable_http_client(url)) as client:
            await client.call_tool("record", {"task": "heat an egg", "steps": STEPS, "reward": 1})
            return (await client.call_tool("recall", {"task": "heat an egg"})).structured_content

    with served(tmp_path / "m.db") as url:
        assert [each["id"] for each in asyncio.run(run(url))["procedures"]] == [EGG]


def test_with_a_token_only_who_sends_it_is_served(tmp_path: Path) -> None:
    async def run(url: str, headers: dict[str, str]) -> Any:
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return (await client.call_tool("recall", {"task": "heat an egg"})).structured_content

    with served(tmp_path / "m.db", env={"MEMP_MCP_TOKEN": TOKEN}) as url:
        found = asyncio.run(run(url, {"Authorization": f"Bearer {TOKEN}"}))
        refused = httpx2.post(url, json={}, headers={"Authorization": f"Bearer {TOKEN}x"})
        assert found == {"guidance": "", "procedures": []}
        assert (refused.status_code, refused.headers["www-authenticate"][:6]) == (401, "Bearer")
        with pytest.raises(ExceptionGroup):
            asyncio.run(run(url, {}))


def status(application: Starlette, *, host: str = "127.0.0.1:8000", **headers: str) -> int:
    """What a server says to a first request."""
    sent = {"Accept": "application/json, text/event-stream", "Host": host, **headers}

    async def post() -> int:
        transport = httpx2.ASGITransport(app=application)
        async with (
            application.router.lifespan_context(application),
            httpx2.AsyncClient(transport=transport, base_url="http://x") as client,
        ):
            return (
                await client.post(
                    "/mcp", json=HELLO, headers={key.encode(): value.encode() for key, value in sent.items()}
                )
            ).status_code

    return asyncio.run(post())


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN} ", 401),
        ("Bearer ", 401),
        ("Bearer é", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("", 401),
    ],
)
def test_every_other_token_is_refused(memory: ProceduralMemory, sent: str, expected: int) -> None:
    assert status(app(memory, token=TOKEN), Authorization=sent) == expected


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("127.0.0.1:8000", "", 200),
        ("localhost", "", 200),
        ("[::1]:8000", "http://localhost:3000", 200),
        ("evil.example", "", 421),
        ("127.0.0.1.evil.example:8000", "", 421),
        ("127.0.0.1:8000", "https://evil.example", 403),
    ],
)
def test_a_page_of_another_name_is_refused(
    memory: ProceduralMemory, host: str, origin: str, expected: int
) -> None:
    assert status(app(memory), host=host, Origin=origin) == expected


@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        ((), "anything.example", 200),
        (("memory.example",), "memory.example", 200),
        (("memory.example",), "x.example", 421),
    ],
)
def test_bound_to_all_addresses_it_answers_to_the_names_given_or_any(
    memory: ProceduralMemory, names: tuple[str, ...], host: str, expected: int
) -> None:
    made = app(memory, host="0.0.0.0", token=TOKEN, names=names)
    assert status(made, host=host, Authorization=f"Bearer {TOKEN}") == expected


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.5", "memory.example", "127.0.0.1.evil.example"]
)
def test_what_other_machines_can_reach_needs_a_token(memory: ProceduralMemory, host: str) -> None:
    with pytest.raises(
        InputError, match=re.escape(f"{host!r} can be reached from other machines: give a token")
    ):
        app(memory, host=host)
    with pytest.raises(InputError, match="give a token"):
        app(memory, names=[host])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_token(memory: ProceduralMemory, host: str) -> None:
    assert isinstance(app(memory, host=host), Starlette)


@pytest.mark.parametrize("token", ["", "two words", "é", "a\nb", "=a"])
def test_a_token_that_no_header_carries_is_refused_and_not_shown(
    memory: ProceduralMemory, token: str
) -> None:
    with pytest.raises(InputError, match="the token must be of letters") as refused:
        app(memory, token=token)
    assert not token or token not in str(refused.value)


def test_a_port_that_cannot_be_had_is_an_error(memory: ProceduralMemory) -> None:
    with pytest.raises(InputError, match="port is 70000; it must be from 0 to 65535"):
        serve_http(memory, port=70_000)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of '127.0.0.1' cannot be had: .*in use"):
            serve_http(memory, port=port)


def test_the_command_says_errors_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(mcp_command, [str(tmp_path / "m.db"), "--http", "--host", "0.0.0.0"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: '0.0.0.0' can be reached from other machines")


def test_without_the_package_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    monkeypatch.delitem(sys.modules, "memp.integrations.mcp")
    with pytest.raises(MissingExtra, match=re.escape("memp[mcp]")):
        import memp.integrations.mcp  # noqa: F401
