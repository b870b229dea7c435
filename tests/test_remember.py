"""`memory.remember`: an agent that is one function."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from memp import ProceduralMemory, Step
from memp.episode import current
from memp.errors import InputError

STEPS = [("open oven", "it is open"), ("put egg", "it is in")]


@pytest.fixture
def memory() -> Iterator[ProceduralMemory]:
    with ProceduralMemory.open(":memory:") as opened:
        yield opened


def test_a_decorated_agent_learns_and_is_told(memory: ProceduralMemory) -> None:
    told = []

    @memory.remember
    def agent(task: str, guidance: str) -> tuple[list[tuple[str, str]], float]:
        """Heat things."""
        told.append(guidance)
        return STEPS, 1.0

    assert agent("heat an egg") == (STEPS, 1.0)
    agent("heat an egg")

    assert told[0] == ""
    assert "> open oven" in told[1]
    assert agent.__doc__ == "Heat things."
    assert memory.stats().uses == 1


def test_steps_may_be_values_or_come_one_by_one(memory: ProceduralMemory) -> None:
    @memory.remember()
    def agent(task: str, guidance: str) -> Any:
        return (Step(action=action, observation=observation) for action, observation in STEPS), 1

    agent("heat an egg")

    (kept,) = memory.procedures()
    assert kept.trajectory is not None
    assert [(step.action, step.observation) for step in kept.trajectory.steps] == STEPS


def test_options_of_the_episode_are_taken(memory: ProceduralMemory) -> None:
    told = []

    @memory.remember(k=0)
    def agent(task: str, guidance: str) -> Any:
        told.append(guidance)
        return STEPS, 1.0

    agent("heat an egg")
    agent("heat an egg")

    assert told == ["", ""]


def test_an_async_agent_stays_async(memory: ProceduralMemory) -> None:
    @memory.remember
    async def agent(task: str, guidance: str) -> Any:
        await asyncio.sleep(0)
        running = current()
        assert running is not None
        assert running.task == task
        return [(f"do {task}", "done")], 1.0

    async def both() -> None:
        await asyncio.gather(agent("one"), agent("two"))

    asyncio.run(both())

    assert {kept.trajectory.steps[0].action for kept in memory.procedures() if kept.trajectory} == {
        "do one",
        "do two",
    }


def test_an_agent_that_raises_is_kept_as_unfinished(memory: ProceduralMemory) -> None:
    @memory.remember
    def agent(task: str, guidance: str) -> Any:
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        agent("heat an egg")

    assert [item.kind for item in memory.quarantine()] == ["unfinished"]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, r"must return \(steps, reward\)"),
        ((["go"], 1.0), r"step 1 is 'go'; it must be \(action, observation\)"),
        ((STEPS, 2), "reward is 2"),
    ],
)
def test_what_an_agent_should_not_return_is_named(memory: ProceduralMemory, returned: Any, said: str) -> None:
    @memory.remember
    def agent(task: str, guidance: str) -> Any:
        return returned

    with pytest.raises(InputError, match=said):
        agent("heat an egg")
