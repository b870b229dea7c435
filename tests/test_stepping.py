"""Learners can afford a million steps: batches are fast."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from evals.stepping import batch_pace, gym_pace, main

pytestmark = pytest.mark.slow

TRIES = 3


@pytest.mark.parametrize(("name", "times"), [(None, 50), ("MiniGrid-DoorKey-6x6-v0", 500)])
def test_a_batch_of_4096_is_many_times_faster_than_one(name: str | None, times: int) -> None:
    assert any(batch_pace(4096) > times * gym_pace(name, steps=2000) for _ in range(TRIES))


def test_the_command_prints_every_pace_and_how_a_batch_compares() -> None:
    result = CliRunner().invoke(main, ["--batch", "64"])
    assert result.exit_code == 0, result.output
    assert all(word in result.output for word in ("64 at once", "one", "Minigrid", "times"))
