"""Learning tasks one after the other: what the learner does, and what its matrix tells."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evals.learners.matrix import (
    accuracy,
    backward_transfer,
    forgetting,
    forward_transfer,
    plasticity,
)
from evals.learners.sequences import Sequences
from memp.errors import InputError
from memp.neural.continual import BITS, Examples, Kept, Learner, bits_right, exact
from memp.neural.dnc import DNC
from memp.neural.ewc import EWC
from memp.neural.replay import Prioritized, Reservoir

SEQUENCES = Sequences(("copy", "invert"), bits=3)


def examples(task: str = "copy", seed: int = 0, batch: int = 8) -> Examples:
    return SEQUENCES.mixed(task, 3, batch, torch.Generator().manual_seed(seed), shortest=1)


def network() -> DNC:
    torch.manual_seed(0)
    return DNC(SEQUENCES.inputs, SEQUENCES.bits, slots=6, width=4, hidden=12)


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def test_only_what_is_asked_for_counts() -> None:
    some = examples()
    logits = torch.zeros_like(some.y)
    elsewhere = logits + 100 * (1 - some.asked).unsqueeze(-1)

    assert torch.allclose(BITS.losses(elsewhere, some), torch.full((8,), float(np.log(2))))
    assert torch.equal(BITS.losses(logits, some), BITS.losses(elsewhere, some))


def test_an_answer_is_exact_only_if_all_its_bits_are_right() -> None:
    some = examples()
    logits = some.y * 2 - 1
    assert exact(logits, some).all()
    assert (bits_right(logits, some) == 1).all()

    logits[-1, :, 0] *= -1
    changed = some.asked[-1].bool()
    assert (exact(logits, some) == ~changed).all()
    assert ((bits_right(logits, some) < 1) == changed).all()


def test_sequences_of_mixed_lengths_are_those_of_one_length_and_then_silence() -> None:
    some = examples(batch=40)
    lengths = some.asked.sum(0).long()

    assert set(lengths.tolist()) == {1, 2, 3}
    for number, length in enumerate(lengths.tolist()):
        one = some.only(number)
        assert torch.equal(one.y[length + 1 : 2 * length + 1], one.x[:length, :, :3])
        assert one.asked[length + 1 : 2 * length + 1].all()
        assert not one.x[2 * length + 1 :].any()


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("copy", [[1, 0], [1, 1]]),
        ("reverse", [[1, 1], [1, 0]]),
        ("invert", [[0, 1], [0, 0]]),
        ("rotate", [[0, 1], [1, 1]]),
    ],
)
def test_each_task_asks_for_its_change(task: str, answer: list[list[int]]) -> None:
    found = Sequences((task,), bits=2)
    for seed in range(200):
        drawn = found.draw(task, 2, 1, torch.Generator().manual_seed(seed), times=2)
        if drawn.x[:2, 0, :2].tolist() == [[1, 0], [1, 1]]:
            assert drawn.y[drawn.asked.bool()].tolist() == answer * 2
            return
    pytest.fail("the items never came")


def test_associative_recall_asks_for_the_item_behind_the_one_shown_again() -> None:
    found = Sequences(bits=2)
    drawn = found.recall(4, 5, torch.Generator().manual_seed(0), size=2)
    shown = drawn.x[:, :, :2].unflatten(0, (6, 3))[:, 1:]
    for number in range(5):
        again = next(n for n in range(4) if torch.equal(shown[n, :, number], shown[4, :, number]))
        assert torch.equal(drawn.y[-2:, number], shown[again + 1, :, number])
    assert drawn.asked.sum() == 2 * 5


def test_more_items_than_there_are_different_ones_are_refused() -> None:
    with pytest.raises(InputError, match="from 2 to 4"):
        Sequences(bits=2).recall(5, 1, torch.Generator())


def test_a_step_lowers_the_loss_of_what_was_learned() -> None:
    learner = Learner(network())
    first = learner.learn(examples(), "copy")
    for _ in range(30):
        last = learner.learn(examples(), "copy")

    assert last < first


def test_nothing_is_replayed_before_there_is_another_task() -> None:
    alone, with_buffer = network(), network()
    plain, replaying = Learner(alone), Learner(with_buffer, replay=Reservoir[Kept](50, seed=0))
    for seed in range(3):
        plain.learn(examples(seed=seed), "copy")
        replaying.learn(examples(seed=seed), "copy")

    assert torch.equal(weights(alone), weights(with_buffer))


def test_earlier_tasks_are_replayed_and_the_one_at_hand_is_not() -> None:
    drawn: list[str] = []

    class Watched(Reservoir[Kept]):
        def sample(self, n: int, *, exclude: str | int | None = None):  # type: ignore[no-untyped-def]
            found = super().sample(n, exclude=exclude)
            cues = {int(kept.examples.x[0, 0, 5:].argmax()) for kept in found.items}
            drawn.extend(SEQUENCES.tasks[cue] for cue in cues)
            return found

    learner = Learner(network(), replay=Watched(50, seed=0))
    learner.learn(examples("copy"), "copy")
    learner.learn(examples("invert"), "invert")

    assert drawn == ["copy"]


def test_a_prioritized_buffer_is_told_of_the_losses_of_what_it_gave() -> None:
    buffer = Prioritized[Kept](50, beta_steps=10, seed=0)
    learner = Learner(network(), replay=buffer)
    learner.learn(examples("copy"), "copy")
    before = buffer.state_dict()
    learner.learn(examples("invert"), "invert")

    assert str(before) != str(buffer.state_dict())
    assert buffer.counts == {"copy": 8, "invert": 8}


def test_distilling_holds_on_to_the_logits_as_they_were() -> None:
    apart = []
    for distil in (0.0, 100.0):
        buffer = Reservoir[Kept](100, seed=0)
        learner = Learner(network(), replay=buffer, distil=distil)
        for seed in range(5):
            learner.learn(examples("copy", seed), "copy")
        kept = buffer.sample(50)
        for seed in range(30):
            learner.learn(examples("invert", seed), "invert")
        moved = [
            (learner.answers(item.examples.x) - item.logits)[item.examples.asked.bool()]
            for item in kept.items
        ]
        apart.append(torch.cat(moved).square().mean().item())

    assert apart[1] < apart[0]


def test_a_penalty_keeps_the_weights_where_they_were() -> None:
    moved = []
    for strength in (0.0, 1e6):
        net = network()
        learner = Learner(net, learning_rate=1e-3, ewc=EWC(net, strength))
        for seed in range(5):
            learner.learn(examples("copy", seed), "copy")
        learner.end_task(examples("copy", 99))
        before = learner.answers(examples().x)
        for seed in range(20):
            learner.learn(examples("invert", seed), "invert")
        moved.append((learner.answers(examples().x) - before).abs().mean().item())

    assert moved[1] < moved[0]


def test_a_loss_that_is_no_number_is_refused_and_nothing_is_learned() -> None:
    net = network()
    learner = Learner(net)
    before = weights(net)
    some = examples()
    with pytest.raises(InputError, match="the loss is nan"):
        learner.learn(some._replace(x=some.x * float("nan")), "copy")

    assert torch.equal(weights(net), before)


def test_the_metrics_of_a_matrix_are_those_of_their_papers() -> None:
    r = np.array([[0.1, 0.1, 0.2], [0.9, 0.3, 0.2], [0.6, 0.8, 0.4], [0.5, 0.9, 1.0]])

    assert accuracy(r) == pytest.approx((0.5 + 0.9 + 1.0) / 3)
    assert backward_transfer(r) == pytest.approx(((0.5 - 0.9) + (0.9 - 0.8)) / 2)
    assert forgetting(r) == pytest.approx(((0.9 - 0.5) + (0.8 - 0.9)) / 2)
    assert forward_transfer(r) == pytest.approx(((0.3 - 0.1) + (0.4 - 0.2)) / 2)
    assert plasticity(r) == pytest.approx((0.9 + 0.8 + 1.0) / 3)
