"""The speeds that are promised, on whatever machine runs the tests.

Each limit is the one promised, on the best of a few tries: another process on the machine can only make a try
slower, so the best try is what the code takes. No limit has further slack.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from evals.benchmark import import_ms, main, median_ms, trajectory
from memp import ProceduralMemory

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parent.parent

TRIES = 5


def best(measure: Callable[[], float], limit: float) -> float:
    """Measure until the limit is met, at most `TRIES` times; returns the least."""
    least = measure()
    for _ in range(TRIES - 1):
        if least < limit:
            break
        least = min(least, measure())
    return least


@pytest.mark.parametrize(
    "module", ["torch", "openai", "sentence_transformers", "transformers", "tiktoken", "rich"]
)
def test_importing_memp_loads_no_heavy_package(module: str) -> None:
    code = f"import sys, memp; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=False).returncode == 0


def test_importing_memp_takes_less_than_300_ms() -> None:
    assert best(lambda: import_ms(repeats=3), 300) < 300


def test_adding_1000_trajectories_takes_less_than_5_s(tmp_path: Path) -> None:
    number = iter(range(TRIES))

    def adding_s() -> float:
        with ProceduralMemory.open(tmp_path / f"{next(number)}.db") as memory:
            began = time.perf_counter()
            added = memory.update(trajectory(number) for number in range(1000)).added
            took = time.perf_counter() - began
        assert len(added) == 1000
        return took

    assert best(adding_s, 5) < 5


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProceduralMemory]:
    """A memory of 10,000 procedures whose keys are loaded."""
    with ProceduralMemory.open(tmp_path_factory.mktemp("large") / "m.db") as memory:
        memory.update(trajectory(number) for number in range(10_000))
        memory.retrieve("warm up")
        yield memory


def test_retrieving_from_10000_procedures_takes_less_than_5_ms_at_the_median(large: ProceduralMemory) -> None:
    tasks = [trajectory(7 * number + 3).task.replace("room", "hall") for number in range(100)]
    assert best(lambda: median_ms(lambda number: large.retrieve(tasks[number]), len(tasks)), 5) < 5


def test_every_trajectory_of_the_benchmark_is_a_task_of_its_own(large: ProceduralMemory) -> None:
    assert large.stats().procedures == 10_000


def test_the_best_of_10000_is_the_one_asked_for(large: ProceduralMemory) -> None:
    wanted = trajectory(4321)
    assert large.retrieve(wanted.task, k=1)[0].procedure.task == wanted.task


def test_the_benchmark_prints_what_it_measured_beside_the_limits() -> None:
    result = CliRunner().invoke(main, ["--procedures", "1000", "--queries", "5"])
    assert result.exit_code == 0
    for what in ("add 1,000 trajectories", "retrieve from 1,000 (median)", "one product", "import memp"):
        assert what in result.output
