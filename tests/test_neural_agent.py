"""The neural agent: it learns to act from the trajectories it is shown, and from nothing else."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from memp.agents import Agent
from memp.errors import InputError
from memp.neural.agent import NeuralAgent
from memp.procedure import Match, Script
from tasks.base import Split, expert_trajectory
from tasks.gridworld import GridWorld
from tests.factories import procedure

SMALL = {"features": 256, "hidden": 48, "steps": 120}


@pytest.fixture(scope="module")
def env() -> GridWorld:
    return GridWorld(3, max_steps=20)


@pytest.fixture(scope="module")
def agent() -> NeuralAgent:
    return NeuralAgent(**SMALL)


def matches(env: GridWorld, count: int) -> list[Match]:
    lived = [expert_trajectory(env, task.id) for task in env.tasks("train")[:count]]
    return [
        Match(
            procedure=procedure(one.task, source=one.task_id).model_copy(update={"trajectory": one}),
            score=0.0,
        )
        for one in lived
    ]


def successes(env: GridWorld, agent: Agent, shown: list[Match], split: Split, count: int) -> int:
    return sum(actions(env, agent, shown, task.id)[1] for task in env.tasks(split)[:count])


def actions(env: GridWorld, agent: Agent, shown: list[Match], task: str) -> tuple[list[str], bool]:
    observation, info = env.reset(0, {"task": task})
    policy, taken, over = agent.start(info["task"], shown), [], False
    while not over:
        action = policy.act(observation, env.admissible)
        assert action in env.admissible()
        taken.append(str(action))
        observation, _, terminated, truncated, info = env.step(taken[-1])
        over = terminated or truncated
    return taken, info["success"]


def test_it_does_what_it_was_shown(env: GridWorld, agent: NeuralAgent) -> None:
    shown = matches(env, 6)

    assert successes(env, agent, shown, "train", 6) == 6
    assert successes(env, agent, [], "train", 6) <= 1


def test_the_order_of_what_is_shown_does_not_matter_and_nothing_is_learned_twice(
    env: GridWorld, agent: NeuralAgent
) -> None:
    shown = matches(env, 3)
    task = env.tasks("dev")[0].id
    first, _ = actions(env, agent, shown, task)
    learned = len(agent._learned)

    assert actions(env, agent, shown[::-1], task)[0] == first
    assert len(agent._learned) == learned


def test_two_agents_learn_the_same_and_leave_torchs_randomness_alone(env: GridWorld) -> None:
    shown, task = matches(env, 2), env.tasks("dev")[1].id
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = (actions(env, NeuralAgent(**SMALL), shown, task)[0] for _ in range(2))

    assert first == second
    assert torch.equal(torch.rand(3), expected)


def test_without_a_trajectory_it_tries_everything_at_a_place_before_it_repeats_itself() -> None:
    bare = procedure("a task").model_copy(
        update={"trajectory": None, "script": Script(goal="x", steps=("y",))}
    )
    policy = NeuralAgent().start("anything", [Match(procedure=bare, score=1.0)], seed=1)
    taken = Counter(policy.act("the same", lambda: ("a", "b", "c")) for _ in range(6))

    assert taken == {"a": 2, "b": 2, "c": 2}
    assert policy.act("the same", lambda: ()) is None


def test_a_loss_that_is_no_number_is_refused(env: GridWorld) -> None:
    with pytest.raises(InputError, match="lower learning_rate"):
        NeuralAgent(learning_rate=1e30, steps=30).start("x", matches(env, 1))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"features": 0}])
def test_nothing_to_learn_with_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        NeuralAgent(**wrong)
