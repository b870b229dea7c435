"""What a study says while it runs: how far it is, how it goes, what it took, and how long it will take."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from evals.console import Bars
from evals.rows import Row
from evals.runner import SoFar
from evals.tally import Tally


def row(number: int, reward: float = 0.0) -> Row:
    return Row(
        arm="none",
        task=str(number),
        kind="k",
        split="test",
        seed=0,
        success=reward == 1,
        reward=reward,
        steps=1,
        tokens_in=10,
        tokens_out=1,
        shown=(),
    )


def drawn(*told: tuple[str, int, int, SoFar | None]) -> list[str]:
    """The bars as they are left."""
    console = Console(file=io.StringIO(), width=120)
    with Bars(console) as bars:
        for at in told:
            bars(*at)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_bar_of_the_episodes_says_score_success_tokens_and_the_time_left() -> None:
    so_far = SoFar(score=0.625, success=0.5, tokens=1_234_567)
    (line,) = drawn(("episodes", 0, 96, so_far), ("episodes", 24, 96, so_far))
    assert "episodes" in line
    assert "24/96" in line
    assert "score 62.5, success 50.0 %, 1.23M tokens" in line
    assert line.split()[-2:] == ["0:00:00", "-:--:--"]  # since the start; left, which one look cannot tell


def test_a_stage_without_rewards_says_only_how_far_it_is() -> None:
    memory, experts = drawn(("memory", 3, 8, None), ("experts", 2, 4, SoFar(1.0)))
    assert "3/8" in memory
    assert "score" not in memory
    assert "score 100.0" in experts
    assert "success" not in experts


def test_nothing_told_draws_nothing() -> None:
    assert drawn() == []


def test_a_tally_adds_up_what_there_was_and_what_comes() -> None:
    told: list[tuple[str, int, int, SoFar | None]] = []
    tally = Tally("episodes", [row(0, 1.0)], 4, lambda *at: told.append(at))
    tally.tell()
    tally.add(row(1, 0.5))
    assert told == [("episodes", 1, 4, SoFar(1.0, 1.0, 11)), ("episodes", 2, 4, SoFar(0.75, 0.5, 22))]


def test_a_tally_of_nothing_is_zero() -> None:
    told: list[SoFar | None] = []
    Tally("episodes", [], 4, lambda *at: told.append(at[3])).tell()
    assert told == [SoFar(0, 0, 0)]


def test_threads_tell_of_one_episode_after_the_other() -> None:
    threads = 8
    told: list[int] = []
    tally = Tally("episodes", [], 400, lambda *at: told.append(at[1]))
    start = threading.Barrier(threads)

    def work(_: int) -> None:
        start.wait()
        for number in range(50):
            tally.add(row(number))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    assert told == list(range(1, 401))
