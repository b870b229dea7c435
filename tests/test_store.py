"""The SQLite store: the contract of every store, and what is so of a file alone."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from textwrap import dedent
from typing import Any

import pytest

from memp.errors import InputError, StoreError
from memp.store import SQLiteStore, open_store
from memp.store.base import ProcedureStore
from memp.store.migrations import APPLICATION_ID, MIGRATIONS
from tests.factories import NOW, procedure, vectors
from tests.store_contract import EAST, TASKS, SharedStoreContract, StoreContract, added, everything, found

NOBODY = 65534

HELPER = """
import os, sys
from tests.test_store import *

path = Path(sys.argv[1])
if os.getuid() == 0 and "--drop" in sys.argv:
    os.setgid({nobody})
    os.setuid({nobody})
try:
{body}
except StoreError as error:
    print(error)
"""


def elsewhere(path: Path, body: str, *options: str) -> str:
    """Run a few lines in another process; returns what it printed, a `StoreError` included."""
    code = HELPER.format(nobody=NOBODY, body="\n".join(f"    {line}" for line in dedent(body).splitlines()))
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def pragma(path: Path, name: str) -> Any:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


@pytest.fixture
def open_to_all(path: Path) -> Path:
    """A memory with one procedure, where everybody may read it: nothing is forbidden to root."""
    with closing(SQLiteStore(path)) as store:
        added(store, "heat an egg", EAST)
    ours = Path(gettempdir())
    for folder in path.parents if os.getuid() == 0 else ():
        if folder.is_relative_to(ours) and folder != ours:
            folder.chmod(folder.stat().st_mode | 0o055)
        elif not folder.stat().st_mode & 0o001:
            pytest.skip(f"{folder} is closed to all but root; point TMPDIR elsewhere")
    return path


class TestSQLiteFile(SharedStoreContract):
    def make(self, path: Path) -> ProcedureStore:
        return SQLiteStore(path)


class TestSQLiteInMemory(StoreContract):
    def make(self, path: Path) -> ProcedureStore:
        return SQLiteStore(":memory:")


def test_a_text_file_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_text("dear diary\n" * 100)

    with pytest.raises(StoreError, match=r"not a memory of memp; give another path"):
        SQLiteStore(path)
    assert path.read_text() == "dear diary\n" * 100


def test_an_sqlite_file_of_someone_else_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE procedures (id TEXT)")
    before = path.read_bytes()

    with pytest.raises(StoreError, match="not a memory of memp; give another path"):
        SQLiteStore(path)
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_memory(path: Path) -> None:
    path.touch()
    with closing(SQLiteStore(path)) as store:
        added(store, "heat an egg")
    assert pragma(path, "application_id") == APPLICATION_ID


def test_a_memory_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    SQLiteStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = path.read_bytes()

    with pytest.raises(StoreError, match=r"newer memp .*upgrade memp"):
        SQLiteStore(path)
    assert path.read_bytes() == before


def test_a_damaged_file_is_a_store_error(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        for number in range(200):
            store.put(procedure(f"task {number}"), "built")
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    path.write_bytes(damaged)

    with pytest.raises(StoreError, match="damaged"), closing(SQLiteStore(path)) as store:
        list(store.procedures())


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder; give the path of a file"):
        SQLiteStore(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"the folder .*nowhere does not exist; create it first"):
        SQLiteStore(tmp_path / "nowhere" / "memory.db")


def test_a_missing_file_is_not_made_when_it_must_exist(path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no memory at .*memory.db; `memp build` makes one"):
        SQLiteStore(path, create=False)
    assert not path.exists()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"], ids=["too long", "with a NUL"])
def test_a_name_that_no_file_can_have_is_a_store_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        SQLiteStore(tmp_path / name)


@pytest.mark.parametrize("target", ["", "  "])
def test_an_empty_path_is_refused(target: str) -> None:
    with pytest.raises(InputError, match="the path of the memory is empty"):
        open_store(target)


def test_a_url_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="give the path of a file"):
        open_store("redis://localhost/0")


def test_a_store_is_opened_as_it_is(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        assert open_store(store) is store


def test_a_read_only_file_can_be_searched_but_not_written(open_to_all: Path) -> None:
    open_to_all.parent.chmod(0o777)
    open_to_all.chmod(0o444)
    said = elsewhere(
        open_to_all,
        """
        store = SQLiteStore(path)
        print(found(store, EAST))
        added(store, "cool a mug")
        """,
        "--drop",
    )

    assert said.startswith("['heat an egg']\n")
    assert "the file or its folder cannot be written; check its permissions" in said
    with closing(SQLiteStore(open_to_all)) as store:
        assert store.counts().procedures == 1


def test_a_read_only_folder_is_a_store_error_and_loses_nothing(open_to_all: Path) -> None:
    open_to_all.parent.chmod(0o555)
    said = elsewhere(open_to_all, 'added(SQLiteStore(path), "cool a mug")', "--drop")
    open_to_all.parent.chmod(0o755)

    assert "permissions" in said
    with closing(SQLiteStore(open_to_all)) as store:
        assert store.counts().procedures == 1


def test_no_memory_can_be_made_in_a_read_only_folder(open_to_all: Path) -> None:
    open_to_all.parent.chmod(0o555)
    said = elsewhere(open_to_all.with_name("new.db"), "SQLiteStore(path)", "--drop")
    open_to_all.parent.chmod(0o755)

    assert "the file cannot be opened; check the path and its permissions" in said
    assert not open_to_all.with_name("new.db").exists()


def test_a_closed_folder_is_a_store_error(open_to_all: Path) -> None:
    open_to_all.parent.chmod(0o700)
    if os.getuid() != 0:
        open_to_all.parent.chmod(0o000)
    said = elsewhere(open_to_all, "SQLiteStore(path)", "--drop")
    open_to_all.parent.chmod(0o755)

    assert "cannot be opened" in said


@pytest.mark.parametrize(
    "limit",
    [
        "store._connection.execute(f'PRAGMA max_page_count = {pages}')",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (pages * 4096, pages * 4096))",
    ],
    ids=["no pages left", "no bytes left"],
)
def test_a_full_disk_is_a_store_error_and_loses_nothing(path: Path, limit: str) -> None:
    with closing(SQLiteStore(path)) as store:
        kept = added(store, "heat an egg", EAST)
        before = everything(store)

    said = elsewhere(
        path,
        f"""
        import resource
        store = SQLiteStore(path)
        pages = path.stat().st_size // 4096 + 2
        {limit}
        try:
            with store.transaction():
                store.credit("{kept.id}", success=True)
                for number in range(10_000):
                    store.put(procedure(f"task {{number}}"), "built")
        finally:
            print(store.counts().procedures, found(store, EAST))
        """,
    )

    assert said.startswith("1 ['heat an egg']\n")
    assert "nothing of this change was written" in said
    assert pragma(path, "integrity_check") == "ok"
    with closing(SQLiteStore(path)) as store:
        assert everything(store) == before
        added(store, "cool a mug", EAST)
        assert found(store, EAST) == ["heat an egg", "cool a mug"]


def test_a_closed_store_says_so(path: Path) -> None:
    store = SQLiteStore(path)
    store.close()

    with pytest.raises(StoreError, match="is closed; open it again"):
        store.get("anything")
    with pytest.raises(StoreError, match="is closed; open it again"), store.transaction():
        pass


def test_a_refused_file_is_left_unlocked(path: Path) -> None:
    path.write_text("dear diary\n" * 100)
    with pytest.raises(StoreError):
        SQLiteStore(path)

    path.unlink()
    SQLiteStore(path).close()


def test_a_held_lock_is_waited_for_and_then_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SQLiteStore(path)) as store:
        monkeypatch.setattr("memp.store.connection.WAIT_S", 0.05)
        with closing(SQLiteStore(path)) as other, store.transaction():
            with pytest.raises(StoreError, match="another process held the memory"):
                added(other, "heat an egg")
            assert other.counts().procedures == 0


def test_the_schema_number_is_that_of_the_last_migration(path: Path) -> None:
    SQLiteStore(path).close()

    assert pragma(path, "user_version") == len(MIGRATIONS)


@pytest.mark.parametrize("taken", range(1, len(MIGRATIONS) + 1))
def test_a_memory_of_every_older_version_is_brought_up_to_date(path: Path, taken: int) -> None:
    with closing(sqlite3.connect(path)) as db:
        for migration in MIGRATIONS[:taken]:
            db.executescript(migration)
        db.execute(f"PRAGMA user_version = {taken}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    with closing(SQLiteStore(path)) as store:
        added(store, "heat an egg", EAST)
        assert found(store, EAST) == ["heat an egg"]
    assert pragma(path, "user_version") == len(MIGRATIONS)


def test_opening_it_again_changes_nothing(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        added(store, "heat an egg", EAST)
    before = path.read_bytes()

    SQLiteStore(path).close()

    assert path.read_bytes() == before


def test_commits_are_durable(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        assert store._connection is not None
        assert store._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert store._connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_threads_may_open_one_new_file_at_once(path: Path) -> None:
    def work(number: int) -> None:
        with closing(SQLiteStore(path)) as store:
            added(store, f"task {number}", EAST)

    run([partial(work, number) for number in range(8)])

    with closing(SQLiteStore(path)) as store:
        assert store.counts().procedures == 8


def test_threads_may_share_a_store(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:

        def work(number: int) -> None:
            for round_ in range(5):
                added(store, f"task {number} {round_}", EAST)
                assert f"task {number} {round_}" in found(store, EAST, k=99)

        run([partial(work, number) for number in range(4)])

        assert store.counts().procedures == 20


def test_search_stands_while_others_write(path: Path) -> None:
    """A search reads twice, keys and then procedures; nobody's write may fall between."""
    stop = threading.Event()

    def write() -> None:
        try:
            with closing(SQLiteStore(path)) as store:
                for number in range(160):
                    turn(store, TASKS[number % 4], number)
        finally:
            stop.set()

    def turn(store: ProcedureStore, task: str, number: int) -> None:
        """Retire the procedure, or bring it back."""
        with store.transaction():
            if store.get(procedure(task).id) is not None:
                store.retire(procedure(task).id, "it failed", NOW)
            else:
                added(store, task, EAST, (1, number))

    def read() -> None:
        with closing(SQLiteStore(path)) as store:
            while not stop.is_set():
                for match in store.search("query", vectors(EAST), k=9):
                    assert match.score == 1

    SQLiteStore(path).close()
    run([write, read, read])


def run(functions: Sequence[Callable[[], None]]) -> None:
    """Run functions at once, and raise what one of them raised."""
    with ThreadPoolExecutor(len(functions)) as pool:
        for result in [pool.submit(function) for function in functions]:
            result.result()
