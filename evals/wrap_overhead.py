"""`python -m evals.wrap_overhead`: what the wrapped OpenAI client takes, beside the bare one, asked in turn."""

from __future__ import annotations

import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import click
from openai import OpenAI
from rich.console import Console
from rich.table import Table

from evals.benchmark import trajectory
from memp import ProceduralMemory
from memp.integrations.openai import wrap

CALL_LIMIT_MS = 2.0
"""The most that a call may take longer without retrieval."""

EPISODE_LIMIT_MS = 10.0
"""The most that an episode's first call may take longer, with its retrieval."""

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "shelf 3"}'}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "On the shelf 3, you see a mug 1 and a plate 2."}
MESSAGE = {"role": "assistant", "content": None, "tool_calls": [CALL]}
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}],
}


class Took(NamedTuple):
    """What something took, in seconds."""

    wall_s: float
    cpu_s: float
    """Of all threads of this process; what other processes do makes it no longer."""


class Pair(NamedTuple):
    """The same, asked for with both clients one after the other."""

    bare: Took
    wrapped: Took


class Interval(NamedTuple):
    """A median with its 95 % interval, in milliseconds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}] ms"


class Measured(NamedTuple):
    """How long something took with the bare client, and how much longer with the wrapped one."""

    what: str
    pairs: Sequence[Pair]
    limit_ms: float

    @property
    def bare(self) -> Interval:
        """With the bare client."""
        return median([pair.bare.wall_s for pair in self.pairs])

    @property
    def added(self) -> Interval:
        """How much longer with the wrapped one."""
        return median([pair.wrapped.wall_s - pair.bare.wall_s for pair in self.pairs])

    @property
    def added_cpu(self) -> Interval:
        """How much more it computes."""
        return median([pair.wrapped.cpu_s - pair.bare.cpu_s for pair in self.pairs])


def median(values: Sequence[float]) -> Interval:
    """The median of seconds, with the interval that holds it in 95 of 100 cases, whatever their distribution.

    Source: order statistics; the number of values below the median is binomial (n, 1/2), here taken as normal.
    """
    ordered = sorted(1000 * value for value in values)
    n = len(ordered)
    reach = 1.96 * math.sqrt(n) / 2
    low, high = max(math.floor(n / 2 - reach), 0), min(math.ceil(n / 2 + reach), n - 1)
    return Interval((ordered[(n - 1) // 2] + ordered[n // 2]) / 2, ordered[low], ordered[high])


def measure(base_url: str, memory: ProceduralMemory, *, episodes: int, turns: int) -> Iterator[Measured]:
    """Time the bare and the wrapped client in turn on the same requests.

    Args:
        base_url: Of a server that answers each request with a call of a tool.
        memory: What is retrieved from; holds more than nothing.
        episodes: How many are lived through.
        turns: Calls of the model in each.
    """
    tasks = [trajectory(7 * number + 3).task.replace("room", "hall") for number in range(episodes)]
    held, half = memory.stats().procedures, turns // 2
    with OpenAI(base_url=base_url, api_key="none") as bare:
        clients = bare, wrap(bare, memory)
        memory.episode(tasks[0])  # loads the keys
        _pair(clients, tasks[0], 0)  # connects
        outside = [_pair(clients, task, turn) for task in tasks for turn in range(turns)]
        yield Measured("a call outside an episode", outside, CALL_LIMIT_MS)
        first, early, late = [], [], []
        for task in tasks:
            begun, *rest = _episode(clients, memory, task, turns)
            first.append(begun)
            early += rest[:half]
            late += rest[half:]
    yield Measured(f"a call in an episode, the first {half}", early, CALL_LIMIT_MS)
    yield Measured(f"a call in an episode, the next {turns - half}", late, CALL_LIMIT_MS)
    yield Measured(f"an episode's first call, with retrieval from {held:,}", first, EPISODE_LIMIT_MS)


def _episode(
    clients: tuple[OpenAI, OpenAI], memory: ProceduralMemory, task: str, turns: int
) -> Iterator[Pair]:
    """Live through an episode; to begin it is part of its first call."""
    bare, client = clients
    bare_took = _took(partial(_ask, bare, task, 0))
    with ExitStack() as stack:

        def begin() -> None:
            episode = stack.enter_context(memory.episode(task))
            episode.finish(1.0)  # so that each episode finds a memory that has changed since
            _ask(client, task, 0)

        yield Pair(bare_took, _took(begin))
        for turn in range(1, turns + 1):
            yield _pair(clients, task, turn)


def _pair(clients: tuple[OpenAI, OpenAI], task: str, turn: int) -> Pair:
    """Ask both for the same; who comes first changes from turn to turn."""
    asks = [partial(_ask, client, task, turn) for client in clients]
    if turn % 2:
        wrapped = _took(asks[1])
        return Pair(_took(asks[0]), wrapped)
    return Pair(_took(asks[0]), _took(asks[1]))


def _ask(client: OpenAI, task: str, turn: int) -> None:
    """Ask as a loop does that has made so many calls before."""
    messages: list[Any] = [{"role": "system", "content": "You work."}, {"role": "user", "content": task}]
    client.chat.completions.create(model="m", messages=messages + [MESSAGE, RESULT] * turn)


def _took(call: Callable[[], object]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


@contextmanager
def serving() -> Iterator[str]:
    """Serve `ANSWER` in a process of its own, so that only the clients' work is timed; yields the base URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        server.terminate()
        server.join()
        ours.close()
        theirs.close()


def _serve(told: Connection) -> None:
    body = json.dumps(ANSWER).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Stay silent."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        told.send(server.server_port)
        server.serve_forever()


@click.command()
@click.option("--procedures", default=10_000, show_default=True, type=click.IntRange(1))
@click.option("--episodes", default=40, show_default=True, type=click.IntRange(1))
@click.option("--turns", default=40, show_default=True, type=click.IntRange(3), help="Calls in an episode.")
def main(procedures: int, episodes: int, turns: int) -> None:
    """Time the wrapped OpenAI client beside the bare one, with the hash embedder."""
    table = Table("what", "pairs", "bare", "added", "added, CPU", "limit", box=None)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving() as base_url,
        ProceduralMemory.open(Path(folder) / "bench.db") as memory,
    ):
        for begin in range(0, procedures, 1000):
            memory.update(trajectory(number) for number in range(begin, min(begin + 1000, procedures)))
        for found in measure(base_url, memory, episodes=episodes, turns=turns):
            table.add_row(
                found.what,
                f"{len(found.pairs):,}",
                str(found.bare),
                str(found.added),
                str(found.added_cpu),
                f"{found.limit_ms:g} ms",
            )
    console = Console(width=160)
    console.print(table)
    console.print("medians with their 95 % intervals")


if __name__ == "__main__":
    main()
