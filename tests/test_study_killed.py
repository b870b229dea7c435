"""Kills and locks: real processes, none of whose rows is lost or doubled, and only one of which is in a folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from evals.__main__ import main
from evals.folder import Folder
from memp.errors import InputError
from tests.openai_server import Messages, Response, completion
from tests.studies import answer, by_key, manifest_in, rows_in, serving

CHECKOUT = Path(__file__).parent.parent

OPTIONS = ["--env", "gridworld", "--split", "test", "--episodes", "8", "--train", "8", "--max-steps", "4"]
OPTIONS += ["--seeds", "1", "--concurrency", "3"]

ROWS = 8 * 5


def command(out: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "evals",
        "build",
        *OPTIONS,
        "--model",
        "openai:test",
        "--out",
        str(out),
        *more,
    ]


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed_when(path: Path, count: int, words: list[str]) -> None:
    """Run a study until a file of it has that many lines, and kill it."""
    with subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None and lines(path) < count:
            time.sleep(0.002)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("remembered", [False, True])
def test_a_study_killed_again_and_again_has_the_rows_of_one_that_was_not(
    tmp_path: Path, remembered: bool
) -> None:
    def slowly(messages: Messages) -> Response:
        words = {"prompt_tokens": len(str(messages)), "completion_tokens": 3}
        return completion(answer(messages), usage=words, wait_s=0.02)

    cache = ["--cache", str(tmp_path / "replies.db")] if remembered else ["--no-cache"]
    out = tmp_path / "killed"
    kept = b""
    with serving(slowly):
        for name, count in (
            ("spent.jsonl", 3),  # a memory is being built
            ("episodes.jsonl", 1),
            ("episodes.jsonl", 7),
            ("episodes.jsonl", 19),
        ):
            killed_when(out / name, count, command(out, *cache))
            found = (out / "episodes.jsonl").read_bytes() if (out / "episodes.jsonl").exists() else b""
            assert found.startswith(kept)
            kept = found[: found.rfind(b"\n") + 1]
        subprocess.run(command(out, *cache), cwd=CHECKOUT, check=True, stdout=subprocess.PIPE)
        whole = tmp_path / "whole"
        subprocess.run(command(whole, "--no-cache"), cwd=CHECKOUT, check=True, stdout=subprocess.PIPE)

    rows = rows_in(out)
    assert (out / "episodes.jsonl").read_bytes().startswith(kept)
    assert len(rows) == len({row.key for row in rows}) == ROWS
    assert by_key(rows) == by_key(rows_in(whole))
    assert manifest_in(out)["memories"] == manifest_in(whole)["memories"]
    assert (out / "summary.json").read_text() == (whole / "summary.json").read_text()


# --- one process in a folder ---

HOLDER = """
import sys, time
from pathlib import Path
from evals.folder import Folder
with Folder(Path(sys.argv[1])).locked():
    print("in", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(out: Path) -> Iterator[None]:
    """Another process is in the folder; in the end it is killed."""
    words = [sys.executable, "-c", HOLDER, str(out)]
    with subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        try:
            yield
        finally:
            process.kill()


def test_a_second_process_is_refused_until_the_first_is_gone_be_it_killed(tmp_path: Path) -> None:
    words = ["retrieve", *OPTIONS, "--agent", "random", "--out", str(tmp_path)]
    with held_elsewhere(tmp_path):
        refused = CliRunner().invoke(main, words)
        assert not (tmp_path / "manifest.json").exists()
    done = CliRunner().invoke(main, words)

    assert refused.exit_code == 1
    (line,) = refused.stderr.splitlines()
    assert line == (
        f"Error: {tmp_path} cannot be used: another process runs a study there; wait for it, or give another --out"
    )
    assert done.exit_code == 0, done.output


def test_a_folder_is_free_again_after_an_error_in_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mine"), Folder(tmp_path).locked():
        raise InputError("mine")
    with Folder(tmp_path).locked():
        pass


def test_a_folder_is_locked_against_this_process_too(tmp_path: Path) -> None:
    with (
        Folder(tmp_path).locked(),
        pytest.raises(InputError, match="another process runs a study there"),
        Folder(tmp_path).locked(),
    ):
        pass


def test_a_lock_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.lock").write_text("dear diary\n" * 100)
    with pytest.raises(InputError, match="cannot be used: file is not a database"), Folder(tmp_path).locked():
        pass


def test_a_lock_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.lock").mkdir()
    with pytest.raises(InputError, match="cannot be used: unable to open"), Folder(tmp_path).locked():
        pass
