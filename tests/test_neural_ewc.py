"""Elastic weight consolidation: the information it finds, and what it holds on to."""

from __future__ import annotations

from collections.abc import Iterator
from weakref import ReferenceType, ref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from memp.errors import InputError
from memp.neural.ewc import EWC


def linear(*weights: float, bias: float | None = None) -> nn.Linear:
    """A model of one output with these weights, in double precision."""
    model = nn.Linear(len(weights), 1, bias=bias is not None, dtype=torch.float64)
    with torch.no_grad():
        model.weight[:] = torch.tensor([weights])
        if bias is not None:
            model.bias[:] = bias
    return model


def bernoulli(model: nn.Module, inputs: Tensor, outcomes: list[float]) -> Iterator[Tensor]:
    """log p(y|x) for every input with each of the outcomes, which stand for the model's own probabilities."""
    for x in inputs:
        for y in outcomes:
            yield -binary_cross_entropy_with_logits(model(x)[0], torch.tensor(y, dtype=torch.float64))


def gaussian(model: nn.Module, inputs: Tensor) -> Iterator[Tensor]:
    """log p(y|x) of unit variance, for outcomes one deviation to both sides, whose square is the variance."""
    for x in inputs:
        mean = model(x)[0]
        for noise in (-1.0, 1.0):
            yield -0.5 * (mean.detach() + noise - mean).square()


def inputs(count: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestFisher:
    def test_of_a_gaussian_linear_model_it_is_the_mean_square_of_the_inputs(self) -> None:
        model, x = linear(0.3, -2.0, 0.0, bias=1.0), inputs(50, 3)
        ewc = EWC(model, 1.0)
        ewc.consolidate(gaussian(model, x))

        assert torch.allclose(ewc.fisher["weight"], x.square().mean(0, keepdim=True))
        assert torch.allclose(ewc.fisher["bias"], torch.ones(1, dtype=torch.float64))

    def test_of_a_bernoulli_linear_model_it_is_p_times_1_minus_p_times_the_square_of_the_inputs(self) -> None:
        logit = torch.tensor(0.25, dtype=torch.float64).logit().item()
        model = linear(0.0, 0.0, bias=logit)  # p = 1/4 everywhere: one outcome of four is 1
        x = inputs(50, 2)
        ewc = EWC(model, 1.0)
        ewc.consolidate(bernoulli(model, x, [1.0, 0.0, 0.0, 0.0]))

        assert torch.allclose(ewc.fisher["weight"], 3 / 16 * x.square().mean(0, keepdim=True))
        assert torch.allclose(ewc.fisher["bias"], torch.full((1,), 3 / 16, dtype=torch.float64))

    def test_with_outcomes_drawn_from_the_model_it_comes_near_that(self) -> None:
        model, x = linear(0.8, -0.5), inputs(4000, 2)
        random = torch.Generator().manual_seed(1)
        p = torch.sigmoid(model(x)).detach()
        drawn = torch.bernoulli(p, generator=random)
        ewc = EWC(model, 1.0)
        ewc.consolidate(
            -binary_cross_entropy_with_logits(model(one)[0], y[0]) for one, y in zip(x, drawn, strict=True)
        )

        assert torch.allclose(
            ewc.fisher["weight"], (p * (1 - p) * x.square()).mean(0, keepdim=True), rtol=0.1
        )

    def test_the_squares_are_averaged_and_not_the_gradients(self) -> None:
        model = linear(0.0)
        ewc = EWC(model, 1.0)
        ewc.consolidate(sign * model.weight.sum() for sign in (1.0, -1.0))
        assert ewc.fisher["weight"].item() == 1.0

    @pytest.mark.parametrize("decay", [1.0, 0.5, 0.0])
    def test_that_of_a_second_task_is_added_to_the_decayed_one_of_the_first(self, decay: float) -> None:
        model, first, second = linear(0.3, 0.4), inputs(20, 2, 1), inputs(30, 2, 2)
        ewc = EWC(model, 1.0, decay=decay)
        ewc.consolidate(gaussian(model, first))
        ewc.consolidate(gaussian(model, second))

        expected = decay * first.square().mean(0) + second.square().mean(0)
        assert torch.allclose(ewc.fisher["weight"][0], expected)

    def test_parameters_that_need_no_gradient_are_left_alone(self) -> None:
        model = linear(0.3, bias=0.5)
        model.bias.requires_grad_(False)
        ewc = EWC(model, 1.0)
        ewc.consolidate(gaussian(model, inputs(5, 1)))
        assert ewc.fisher.keys() == ewc.anchor.keys() == {"weight"}

    def test_a_parameter_without_a_part_in_the_samples_is_free(self) -> None:
        model = nn.ModuleList([linear(0.3), linear(0.4)])
        ewc = EWC(model, 1.0)
        ewc.consolidate(gaussian(model[0], inputs(5, 1)))
        assert ewc.fisher["0.weight"].item() > 0
        assert ewc.fisher["1.weight"].item() == 0


class TestConsolidating:
    def test_it_leaves_no_gradient_and_changes_no_parameter(self) -> None:
        model = linear(0.3, -0.2, bias=0.1)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.weight.grad = torch.ones_like(model.weight)
        EWC(model, 1.0).consolidate(gaussian(model, inputs(5, 2)))

        assert model.bias.grad is None
        assert torch.equal(model.weight.grad, torch.ones_like(model.weight))
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_samples_may_come_of_one_forward_pass(self) -> None:
        model, x = linear(0.3, -0.4), inputs(6, 2)
        one_by_one, at_once = EWC(model, 1.0), EWC(model, 1.0)
        one_by_one.consolidate(-0.5 * (model(each)[0] - 1).square() for each in x)
        at_once.consolidate(-0.5 * (model(x)[:, 0] - 1).square())
        assert torch.allclose(one_by_one.fisher["weight"], at_once.fisher["weight"])

    def test_it_holds_no_more_than_one_sample_while_it_asks_for_the_next(self) -> None:
        model, given = linear(0.3), list[ReferenceType[Tensor]]()

        def samples() -> Iterator[Tensor]:
            for _ in range(4):
                sample = model(torch.ones(1, dtype=torch.float64)).sum()
                given.append(ref(sample))
                yield sample
                del sample
                assert sum(each() is not None for each in given) <= 1

        EWC(model, 1.0).consolidate(samples())
        assert len(given) == 4

    def test_no_samples_are_refused(self) -> None:
        with pytest.raises(InputError, match="there is no log-likelihood"):
            EWC(linear(1.0), 1.0).consolidate([])

    def test_a_sample_that_is_no_scalar_is_refused(self) -> None:
        model = linear(1.0)
        with pytest.raises(InputError, match="a finite scalar of shape"):
            EWC(model, 1.0).consolidate([model(inputs(3, 1))])

    def test_a_sample_without_a_graph_is_refused(self) -> None:
        model = linear(1.0)
        with torch.no_grad():
            sample = model(inputs(1, 1)).sum()
        with pytest.raises(InputError, match="with gradients on"):
            EWC(model, 1.0).consolidate([sample])

    def test_a_sample_of_another_module_is_refused(self) -> None:
        with pytest.raises(InputError, match="depends on no parameter of the module"):
            EWC(linear(1.0), 1.0).consolidate(gaussian(linear(1.0), inputs(1, 1)))

    def test_a_nan_is_refused_and_nothing_changes(self) -> None:
        model = linear(1.0)
        ewc = EWC(model, 1.0)
        ewc.consolidate(gaussian(model, inputs(4, 1)))
        fisher, anchor = ewc.fisher["weight"].clone(), ewc.anchor["weight"].clone()
        with torch.no_grad():
            model.weight += 1
        bad = model.weight.sum() * float("nan")
        endless = (model.weight - model.weight.detach()).sum().sqrt()  # 0, but its gradient is infinite

        with pytest.raises(InputError, match="nan"):
            ewc.consolidate([*gaussian(model, inputs(4, 1)), bad])
        with pytest.raises(InputError, match="infinite or NaN gradient for 'weight'"):
            ewc.consolidate([*gaussian(model, inputs(4, 1)), endless])
        assert torch.equal(ewc.fisher["weight"], fisher)
        assert torch.equal(ewc.anchor["weight"], anchor)


class TestPenalty:
    def test_it_is_exactly_0_before_the_first_task_and_where_nothing_has_moved(self) -> None:
        model = linear(1.0, 2.0)
        ewc = EWC(model, 1000.0)
        assert ewc.penalty().item() == 0.0
        assert ewc.penalty().shape == ()
        ewc.consolidate(gaussian(model, inputs(4, 2)))
        assert ewc.penalty().item() == 0.0

    @settings(max_examples=25, deadline=None)
    @given(st.floats(0, 1e4), st.lists(st.floats(-3, 3), min_size=2, max_size=2))
    def test_it_is_half_the_strength_times_what_moved_squared_and_weighed(
        self, strength: float, move: list[float]
    ) -> None:
        model, x = linear(0.5, -1.0), inputs(10, 2)
        ewc = EWC(model, strength)
        ewc.consolidate(gaussian(model, x))
        with torch.no_grad():
            model.weight += torch.tensor([move])

        expected = strength / 2 * (x.square().mean(0) * torch.tensor(move).double().square()).sum()
        assert ewc.penalty().item() == pytest.approx(expected.item(), rel=1e-6)

    def test_its_gradient_pulls_towards_the_last_anchor(self) -> None:
        model, x = linear(0.0), inputs(10, 1)
        ewc = EWC(model, 3.0)
        for anchor in (1.0, 2.0):
            nn.init.constant_(model.weight, anchor)
            ewc.consolidate(gaussian(model, x))
        nn.init.constant_(model.weight, 2.5)
        ewc.penalty().backward()

        assert model.weight.grad is not None
        assert model.weight.grad.item() == pytest.approx(3.0 * 2 * x.square().mean().item() * 0.5)

    def test_a_model_trained_with_it_keeps_an_old_task_that_it_forgets_without(self) -> None:
        def error_on_the_first_task(strength: float) -> tuple[float, float]:
            model, x, wanted = linear(0.0, 0.0), inputs(40, 2), torch.tensor([[2.0], [-1.0]]).double()
            first, second = x * torch.tensor([1.0, 0.0]), x * torch.tensor([1.0, 1.0])
            ewc = EWC(model, strength)
            for data, targets in ((first, first @ wanted), (second, second @ -wanted)):
                optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
                for _ in range(200):
                    optimizer.zero_grad()
                    (mse_loss(model(data), targets) + ewc.penalty()).backward()
                    optimizer.step()
                if data is first:
                    ewc.consolidate(gaussian(model, data))
            return mse_loss(model(first), first @ wanted).item(), model.weight[0, 1].item()

        forgot, _ = error_on_the_first_task(0.0)
        kept, free = error_on_the_first_task(100.0)
        assert kept < forgot / 100
        assert free == pytest.approx(
            1.0, abs=0.5
        )  # a weight that the first task does not need is free to learn

    @pytest.mark.parametrize(
        ("strength", "decay", "said"),
        [(-1.0, 1.0, "strength is -1.0"), (float("nan"), 1.0, "strength is nan"), (1.0, 1.5, "decay is 1.5")],
    )
    def test_an_option_out_of_its_range_is_refused(self, strength: float, decay: float, said: str) -> None:
        with pytest.raises(InputError, match=said):
            EWC(linear(1.0), strength, decay=decay)

    def test_a_module_with_nothing_to_train_is_refused(self) -> None:
        with pytest.raises(InputError, match="nothing to hold"):
            EWC(nn.ReLU(), 1.0)
