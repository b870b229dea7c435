"""Several processes that write at once, and processes that are killed while they write.

The writers are forks of one process that has imported memp already, so that fifty of them start in no time.
It is this module, run as a program: `python -m tests.test_durability`.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from memp.memory import ProceduralMemory
from memp.procedure import Usage
from tests.factories import id_of, trajectory

ROOT = Path(__file__).parent.parent

SHARED_TASK = "the task that every writer was shown"

FOREVER = 10**9


class Writers:
    """Starts processes that update a memory, and hears what they have committed."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.test_durability"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._in, self._out = self._server.stdin, self._server.stdout
        self._unheard: deque[str] = deque()

    def start(self, path: Path, first: str, updates: int) -> int:
        """Start one writer; returns its process id."""
        print(path, first, updates, sep="\t", file=self._in, flush=True)
        while not (said := self._read()).startswith("started "):
            self._unheard.append(said)  # of a writer that was started before
        return int(said.removeprefix("started "))

    def hear(self) -> str:
        """What was said next: `done TASK` once that task is committed, or `ended PID`."""
        return self._unheard.popleft() if self._unheard else self._read()

    def _read(self) -> str:
        line = self._out.readline()
        assert line, "the writers are gone"
        return line.rstrip("\n")

    def close(self) -> None:
        self._in.close()
        self._out.close()
        assert self._server.wait(30) == 0


def serve() -> None:
    """Fork a writer for every line of standard input, and say when each has ended."""
    signal.signal(signal.SIGCHLD, _reap)
    for line in sys.stdin:
        path, first, updates = line.rstrip("\n").split("\t")
        if os.fork() == 0:
            try:
                _say(f"started {os.getpid()}")
                write(path, first, int(updates))
            finally:
                os._exit(0)


def _reap(*_: object) -> None:
    while True:
        try:
            child, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if child == 0:
            return
        _say(f"ended {child}")


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # in one piece, so that writers never mix their lines


def write(path: str, first: str, updates: int) -> None:
    """Update a memory, task by task; each episode was shown the same procedure, and every fourth failed."""
    with ProceduralMemory.open(path, update="vanilla") as memory:
        for number in range(updates):
            task = f"{first}-{number}"
            memory.update(
                [
                    trajectory(task, "look, go", float(number % 4 < 3), shown=[id_of(SHARED_TASK)]),
                    trajectory(f"{task} again", "look, go, wait"),
                    trajectory(f"{task} broke off", "look", finished=False),
                ]
            )
            _say(f"done {task}")


@pytest.fixture
def writers() -> Iterator[Writers]:
    writers = Writers()
    yield writers
    writers.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with ProceduralMemory.open(tmp_path / "memory.db") as memory:
        memory.update([trajectory(SHARED_TASK)])
    return tmp_path / "memory.db"


def check(path: Path) -> None:
    """The file is whole, and everything in it belongs together."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    with ProceduralMemory.open(path) as memory:
        stats = memory.stats()
        updates = stats.unfinished
        assert stats.procedures == 1 + 2 * updates
        assert stats.uses == updates
        assert list(memory.store.unindexed("query")) == []


@pytest.mark.slow
def test_four_processes_that_write_at_once_lose_nothing(writers: Writers, path: Path) -> None:
    updates = 25
    running = {writers.start(path, f"writer {number}", updates) for number in range(4)}
    heard = []
    while running:
        said, _, what = writers.hear().partition(" ")
        if said == "ended":
            running.remove(int(what))
        elif said == "done":
            heard.append(what)

    tasks = {f"writer {number}-{update}" for number in range(4) for update in range(updates)}
    assert set(heard) == tasks
    check(path)
    with ProceduralMemory.open(path) as memory:
        assert tasks < {procedure.task for procedure in memory.procedures()}
        assert memory.get(id_of(SHARED_TASK)).usage == Usage(uses=100, successes=76)
        assert memory.retrieve("writer 3-24", k=1)[0].procedure.task == "writer 3-24"


@pytest.mark.slow
def test_a_process_killed_while_it_writes_loses_no_committed_update(writers: Writers, path: Path) -> None:
    chance = random.Random(0)
    committed = []
    for number in range(50):
        child = writers.start(path, f"round {number}", FOREVER)
        for _ in range(chance.randrange(4)):
            committed.append(writers.hear().removeprefix("done "))
        time.sleep(chance.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        while (said := writers.hear()) != f"ended {child}":
            committed.append(said.removeprefix("done "))

    assert len(committed) > 50
    check(path)
    with ProceduralMemory.open(path) as memory:
        assert set(committed) <= {procedure.task for procedure in memory.procedures()}
        assert memory.get(id_of(SHARED_TASK)).usage.uses >= len(committed)


if __name__ == "__main__":
    serve()
