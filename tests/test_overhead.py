"""What a study costs beside what it runs: next to nothing of an episode, and no waiting that need not be."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from evals.__main__ import main
from evals.folder import Folder
from evals.overhead import AGENTS, LIMIT_S, overhead
from evals.overhead import main as command
from tests.studies import rows_in

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parent.parent

TRIES = 4

LATENCY_S = 0.2

AT_ONCE = 32

SERVER = f"""
import sys
from tests.openai_server import OpenAIServer, completion
from tests.studies import answer
usage = {{"prompt_tokens": 1, "completion_tokens": 1}}
with OpenAIServer(lambda messages: completion(answer(messages), usage=usage, wait_s={LATENCY_S})) as server:
    print(server.base_url, flush=True)
    sys.stdin.read()
"""
"""A process of its own, so that only the study's own work holds up its threads."""


@pytest.mark.parametrize("agent", AGENTS)
def test_a_study_takes_under_half_a_millisecond_of_an_episode_for_itself(tmp_path: Path, agent: str) -> None:
    tries = (overhead(Folder(tmp_path / str(number)), agent).added_s for number in range(TRIES))
    assert any(added_s < LIMIT_S for added_s in tries)  # another process can only make a try worse


def test_the_command_prints_what_it_measured_beside_the_limit() -> None:
    result = CliRunner().invoke(command, ["--episodes", "4", "--tries", "1"])
    assert result.exit_code == 0, result.output
    assert all(word in result.stdout for word in (*AGENTS, "limit", "0.50 ms"))


@pytest.fixture
def slow_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A chat model that takes its time to answer."""
    words = [sys.executable, "-c", SERVER]
    with subprocess.Popen(
        words, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        monkeypatch.setenv("OPENAI_BASE_URL", server.stdout.readline().strip())
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        yield
        server.communicate()


def study_s(out: Path, *more: str) -> float:
    """Run a study with a language model; return how long it took."""
    options = [
        "--env",
        "gridworld",
        "--model",
        "openai:test",
        "--concurrency",
        str(AT_ONCE),
        "--out",
        str(out),
    ]
    began = time.perf_counter()
    result = CliRunner().invoke(main, ["retrieve", *options, *more])
    assert result.exit_code == 0, result.output
    return time.perf_counter() - began


@pytest.mark.usefixtures("slow_server")
def test_32_episodes_at_once_take_hardly_longer_than_their_model_does(tmp_path: Path) -> None:
    study_s(
        tmp_path / "warm", "--episodes", "1", "--train", "1", "--max-steps", "1"
    )  # loads what is loaded once
    both = ("--split", "dev", "--split", "test")
    ratios = []
    for number in range(TRIES):
        out = tmp_path / str(number)
        took_s = study_s(out, "--episodes", "32", "--train", "64", "--max-steps", "8", *both)
        calls = (out / "spent.jsonl").read_bytes().count(b"\n")
        assert calls > sum(row.steps for row in rows_in(out)) > 1800
        ratios.append(took_s / (calls * LATENCY_S / AT_ONCE))
        if ratios[-1] < 1.3:
            return
    raise AssertionError(ratios)
