"""`python -m evals.benchmark`: how fast a memory is, beside a plain matrix product as the limit."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from memp import ProceduralMemory, Step, Trajectory

OBJECTS = ("mug", "plate", "egg", "apple", "laptop", "book", "soap bar", "candle", "pan", "tomato")
DEEDS = ("put a clean", "heat some", "cool a", "look at the", "find two", "move the", "slice an", "examine a")
PLACES = ("coffee machine", "garbage can", "side table", "fridge", "sink", "desk lamp", "cabinet", "shelf")


def trajectory(number: int) -> Trajectory:
    """Make a trajectory of 13 steps, ALFWorld's mean, with a task text of its own."""
    deed, thing = DEEDS[number % len(DEEDS)], OBJECTS[number // len(DEEDS) % len(OBJECTS)]
    place = PLACES[number // (len(DEEDS) * len(OBJECTS)) % len(PLACES)]
    steps = [
        Step(
            action=f"go to {place} {step}", observation=f"On the {place} {step}, you see a {thing} {number}."
        )
        for step in range(13)
    ]
    return Trajectory(
        task=f"{deed} {thing} with the {place} in room {number}", steps=tuple(steps), reward=1.0
    )


def median_ms(call: Callable[[int], object], repeats: int) -> float:
    """Return the median time of `repeats` calls, in milliseconds."""
    times = []
    for repeat in range(repeats):
        began = time.perf_counter()
        call(repeat)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def import_ms(repeats: int = 5) -> float:
    """Return the median time of `import memp` in a fresh interpreter, beyond starting one, in milliseconds."""

    def start(code: str) -> float:
        return median_ms(lambda _: subprocess.run([sys.executable, "-c", code], check=True), repeats)

    start("import memp")  # writes the byte code
    return start("import memp") - start("pass")


@click.command()
@click.option(
    "--procedures", default=10_000, show_default=True, help="How many a memory holds when searched."
)
@click.option("--queries", default=200, show_default=True, help="How many tasks are retrieved for.")
def main(procedures: int, queries: int) -> None:
    """Time adding and retrieving with the hash embedder, and importing memp."""
    table = Table("what", "time", "limit", box=None)
    with tempfile.TemporaryDirectory() as folder:
        memory = ProceduralMemory.open(Path(folder) / "bench.db")
        with memory:
            began = time.perf_counter()
            memory.update(trajectory(number) for number in range(1000))
            table.add_row("add 1,000 trajectories", f"{time.perf_counter() - began:.2f} s", "5 s")
            memory.update(trajectory(number) for number in range(1000, procedures))
            tasks = [trajectory(7 * number + 3).task.replace("room", "hall") for number in range(queries)]
            began = time.perf_counter()
            memory.retrieve(tasks[0])
            table.add_row("first retrieve (loads the keys)", f"{time.perf_counter() - began:.2f} s", "")
            retrieve = median_ms(lambda number: memory.retrieve(tasks[number]), queries)
    keys = np.random.default_rng(0).standard_normal((procedures, 2048), dtype=np.float32)
    query = keys[0].copy()
    product = median_ms(lambda _: keys @ query, 20)
    table.add_row(f"retrieve from {procedures:,} (median)", f"{retrieve:.2f} ms", "5 ms")
    table.add_row(f"one product ({procedures:,} x 2048) @ (2048,)", f"{product:.2f} ms", "")
    table.add_row("retrieve / product", f"{retrieve / product:.2f}", "")
    table.add_row("import memp", f"{import_ms():.0f} ms", "300 ms")
    Console().print(table)


if __name__ == "__main__":
    main()
