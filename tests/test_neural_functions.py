"""Functions of many numbers, as tasks that contradict each other: how they are drawn, learned and scored."""

from __future__ import annotations

import pytest
import torch

from evals.learners.functions import FUNCTIONS, Functions
from evals.learners.networks import Lstm, scored_numbers
from evals.learners.settings import TASKS
from memp.neural.continual import NUMBERS, Examples, Learner
from memp.neural.ewc import EWC


def drawn(task: str, batch: int = 4000, seed: int = 0) -> Examples:
    return Functions().draw(task, batch, torch.Generator().manual_seed(seed))


def test_the_study_names_every_function() -> None:
    assert TASKS["functions"] == tuple(FUNCTIONS)


@pytest.mark.parametrize("task", FUNCTIONS)
def test_no_task_is_nearly_constant(task: str) -> None:
    assert drawn(task).y.var() > 0.3


def test_tasks_ask_for_other_answers_to_the_same_numbers_and_only_the_cue_tells_them_apart() -> None:
    one, other = drawn("sine"), drawn("cosine")

    assert torch.equal(one.x[..., :64], other.x[..., :64])
    assert (one.y - other.y).abs().mean() > 0.3
    assert one.x[0, 0, 64:].tolist() == [1, 0, 0, 0]
    assert other.x[0, 0, 64:].tolist() == [0, 1, 0, 0]


def test_an_answer_is_of_the_scaled_sum_of_the_numbers() -> None:
    some = drawn("magnitude", 3)

    assert torch.allclose(some.y[0, :, 0], (some.x[0, :, :64].sum(-1) / 8).abs())


def test_the_right_answers_explain_everything_and_the_mean_explains_nothing() -> None:
    some = drawn("sine")

    assert scored_numbers(some.y, some) == {"episodes": 4000, "success": 1, "reward": 1}
    mean = scored_numbers(some.y.mean() * torch.ones_like(some.y), some)
    assert mean["reward"] == pytest.approx(0, abs=1e-6)
    assert mean["success"] < 0.2


def test_numbers_are_learned_by_their_squared_error_and_drawn_around_what_is_said() -> None:
    some = drawn("sine", 50)
    said = some.y + 2

    assert torch.allclose(NUMBERS.losses(said, some), torch.full((50,), 2.0))
    apart = NUMBERS.drawn(torch.zeros(1, 10_000, 1), torch.Generator().manual_seed(0))
    assert abs(apart.mean()) < 0.05
    assert abs(apart.std() - 1) < 0.05


def test_a_learner_of_numbers_learns_and_is_held_by_a_penalty() -> None:
    torch.manual_seed(0)
    network = Lstm(Functions().inputs, 1, hidden=8)
    learner = Learner(network, learning_rate=1e-2, ewc=EWC(network, 1e6), kind=NUMBERS)
    first = learner.learn(drawn("sine", 64), "sine")
    for seed in range(60):
        last = learner.learn(drawn("sine", 64, seed), "sine")
    assert last < 0.8 * first

    learner.end_task(drawn("sine", 16))
    before = torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone()
    for seed in range(20):
        learner.learn(drawn("cosine", 64, seed), "cosine")
    held = torch.nn.utils.parameters_to_vector(network.parameters()).detach()
    assert (held - before).abs().max() < 0.15  # 0.33 without the penalty
