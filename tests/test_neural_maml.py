"""Meta-learning: what adapting does, that tasks at once equal a loop, and the study of sinusoids."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

from evals.learners import sinusoids
from evals.learners.sinusoids import INNER_LR, SHOTS, generator, looped_meta_loss, new_network
from memp.errors import InputError
from memp.neural.dnc import DNC
from memp.neural.maml import Examples, Maml, Params, adapt

ORDERS = pytest.mark.parametrize("first_order", [False, True])


class Recurrent(nn.Module):
    """A DNC, of which only the outputs are learned from."""

    def __init__(self) -> None:
        super().__init__()
        self.dnc = DNC(1, 1, slots=3, width=4, hidden=6, masks=True, deallocate=True, sharpen=True)

    def forward(self, x: Tensor) -> Tensor:
        """From (T, B, 1) to (T, B, 1)."""
        outputs: Tensor = self.dnc(x)[0]
        return outputs


def network(seed: int = 0) -> nn.Module:
    return new_network(seed).double()


def recurrent() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Recurrent().double()


def tasks(count: int, seed: int = 0) -> tuple[Examples, Examples]:
    """Support and query of sinusoids in double precision; shapes (count, SHOTS, 1)."""
    support, query = sinusoids.sinusoids(count, generator(seed, "tests"))
    return tuple(tensor.double() for tensor in support), tuple(tensor.double() for tensor in query)


def sequences(count: int) -> tuple[Examples, Examples]:
    """The same as sequences of one batch; shapes (count, T=SHOTS, B=1, 1)."""
    support, query = tasks(count)
    return tuple(tensor.unsqueeze(2) for tensor in support), tuple(tensor.unsqueeze(2) for tensor in query)


def gradients(module: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(module.parameters())))


def close(mine: list[Tensor], other: list[Tensor], tolerance: float = 1e-9) -> bool:
    return all(torch.allclose(one, two, rtol=0, atol=tolerance) for one, two in zip(mine, other, strict=True))


def one_task() -> Examples:
    (inputs, targets), _ = tasks(1)
    return inputs[0], targets[0]


def descended(module: nn.Module, params: Params, examples: Examples, *, lr: float) -> dict[str, Tensor]:
    """One gradient step, by hand."""
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    loss = mse_loss(functional_call(module, leaves, (examples[0],)), examples[1])
    slopes = torch.autograd.grad(loss, list(leaves.values()))
    return {
        name: (value - lr * slope).detach()
        for (name, value), slope in zip(leaves.items(), slopes, strict=True)
    }


class TestAdapting:
    @ORDERS
    @pytest.mark.parametrize("steps", [0, 1, 3])
    def test_each_step_is_taken_from_where_the_one_before_led(self, steps: int, first_order: bool) -> None:
        module, examples = network(), one_task()
        expected = dict(module.state_dict())
        for _ in range(steps):
            expected = descended(module, expected, examples, lr=0.05)
        params = dict(module.named_parameters())
        found = adapt(module, params, examples, loss=mse_loss, lr=0.05, steps=steps, first_order=first_order)

        assert found.keys() == expected.keys()
        assert close(list(found.values()), list(expected.values()))

    def test_several_steps_are_not_one_step_of_their_length(self) -> None:
        module, examples = network(), one_task()
        params = dict(module.named_parameters())
        several = adapt(module, params, examples, loss=mse_loss, lr=0.05, steps=4)
        one = adapt(module, params, examples, loss=mse_loss, lr=0.2, steps=1)
        assert not close(list(several.values()), list(one.values()), 1e-3)

    def test_it_changes_neither_the_module_nor_what_it_was_given(self) -> None:
        module, examples = network(), one_task()
        params = dict(module.named_parameters())
        before = [value.clone() for value in module.parameters()]
        adapted = adapt(module, params, examples, loss=mse_loss, lr=0.05, steps=2)

        assert close(list(module.parameters()), before, 0)
        assert all(params[name] is value for name, value in module.named_parameters())
        assert all(value.grad is None for value in module.parameters())
        assert not close(list(adapted.values()), before, 1e-6)

    def test_it_takes_a_function_in_place_of_a_module(self) -> None:
        x, wanted = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])
        params = {"slope": torch.tensor(0.0)}
        found = adapt(
            lambda params, x: params["slope"] * x, params, (x, wanted), loss=mse_loss, lr=0.2, steps=20
        )
        assert found["slope"].item() == pytest.approx(3.0, abs=1e-3)

    def test_only_the_parameters_that_are_given_are_adapted(self) -> None:
        module, examples = network(), one_task()
        last = {name: value for name, value in module.named_parameters() if name.startswith("4")}
        found = adapt(module, last, examples, loss=mse_loss, lr=0.05, steps=2)
        assert found.keys() == {"4.weight", "4.bias"}

    @pytest.mark.parametrize(
        ("lr", "steps", "said"), [(0.0, 1, "learning rate is 0.0"), (0.1, -1, "-1 steps")]
    )
    def test_no_step_and_no_length_are_refused(self, lr: float, steps: int, said: str) -> None:
        with pytest.raises(InputError, match=said):
            adapt(network(), {}, one_task(), loss=mse_loss, lr=lr, steps=steps)


class TestMetaLoss:
    @ORDERS
    @pytest.mark.parametrize("steps", [1, 3])
    def test_its_gradient_is_that_of_a_plain_loop_over_tasks(self, steps: int, first_order: bool) -> None:
        module, (support, query) = network(), tasks(4)
        maml = Maml(module, mse_loss, inner_lr=INNER_LR, inner_steps=steps, first_order=first_order)
        mine = maml.meta_loss(support, query)
        loop = looped_meta_loss(module, support, query, steps=steps, first_order=first_order)

        assert mine.item() == pytest.approx(loop.item(), abs=1e-12)
        assert close(gradients(module, mine), gradients(module, loop))

    @ORDERS
    def test_so_is_that_of_a_recurrent_network_with_a_memory(self, first_order: bool) -> None:
        module, (support, query) = recurrent(), sequences(3)
        maml = Maml(module, mse_loss, inner_lr=INNER_LR, inner_steps=2, first_order=first_order)
        mine = maml.meta_loss(support, query)
        loop = looped_meta_loss(module, support, query, steps=2, first_order=first_order)

        assert close(gradients(module, mine), gradients(module, loop))

    def test_it_agrees_with_finite_differences(self) -> None:
        module, (support, query) = recurrent(), sequences(2)
        maml = Maml(module, mse_loss, inner_lr=0.1, inner_steps=2)
        slope = gradients(module, maml.meta_loss(support, query))[-1]
        bias, step = list(module.parameters())[-1], 1e-5
        with torch.no_grad():
            bias.add_(step)
            above = maml.meta_loss(support, query)
            bias.sub_(2 * step)
            below = maml.meta_loss(support, query)
        assert slope.item() == pytest.approx(((above - below) / (2 * step)).item(), rel=1e-5)

    def test_the_first_order_has_the_same_loss_and_another_gradient(self) -> None:
        module, (support, query) = network(), tasks(4)
        second, first = (
            Maml(module, mse_loss, inner_lr=0.05, inner_steps=2, first_order=order).meta_loss(support, query)
            for order in (False, True)
        )
        assert second.item() == pytest.approx(first.item(), abs=1e-12)
        assert not close(gradients(module, second), gradients(module, first), 1e-3)

    def test_the_first_order_is_the_mean_gradient_at_the_adapted_parameters(self) -> None:
        module, (support, query) = network(), tasks(3)
        maml = Maml(module, mse_loss, inner_lr=0.05, inner_steps=2, first_order=True)
        slopes = []
        for x, y, query_x, query_y in zip(*support, *query, strict=True):
            params = dict(module.state_dict())
            for _ in range(2):
                params = descended(module, params, (x, y), lr=0.05)
            after = descended(module, params, (query_x, query_y), lr=1.0)
            slopes.append([params[name] - after[name] for name in params])

        means = [sum(each) / 3 for each in zip(*slopes, strict=True)]
        assert close(gradients(module, maml.meta_loss(support, query)), means)

    def test_an_optimizer_of_the_module_lowers_it(self) -> None:
        module, (support, query) = network(), tasks(8)
        maml = Maml(module, mse_loss, inner_lr=0.01, inner_steps=2)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = maml.meta_loss(support, query)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 2

    def test_frozen_parameters_are_not_adapted(self) -> None:
        module, (support, query) = network(), tasks(2)
        for name, value in module.named_parameters():
            value.requires_grad_(name.startswith("4"))
        Maml(module, mse_loss).meta_loss(support, query).backward()
        assert [value.grad is not None for value in module.parameters()] == [False] * 4 + [True] * 2

    @pytest.mark.parametrize(("lr", "steps"), [(float("nan"), 1), (-0.1, 1), (0.1, 0)])
    def test_options_out_of_their_range_are_refused(self, lr: float, steps: int) -> None:
        with pytest.raises(InputError, match=r"learning rate is|steps were asked for"):
            Maml(network(), mse_loss, inner_lr=lr, inner_steps=steps)


class TestCurves:
    def test_they_are_the_losses_after_each_number_of_steps(self) -> None:
        module, (support, query) = network(), tasks(3)
        curves = Maml(module, mse_loss, inner_lr=0.05).curves(support, query, steps=4)

        assert curves.shape == (3, 5)
        assert not curves.requires_grad
        for number in range(3):
            for steps in range(5):
                params = dict(module.state_dict())
                for _ in range(steps):
                    params = descended(module, params, (support[0][number], support[1][number]), lr=0.05)
                expected = mse_loss(functional_call(module, params, (query[0][number],)), query[1][number])
                assert curves[number, steps].item() == pytest.approx(expected.item(), abs=1e-9)

    @ORDERS
    def test_the_order_of_the_derivatives_is_nothing_to_them(self, first_order: bool) -> None:
        module, (support, query) = network(), tasks(3)
        second, mine = (
            Maml(module, mse_loss, first_order=order).curves(support, query, steps=3)
            for order in (False, first_order)
        )
        assert torch.allclose(second, mine)

    def test_less_than_no_steps_are_refused(self) -> None:
        with pytest.raises(InputError, match="-1 steps"):
            Maml(network(), mse_loss).curves(*tasks(1), steps=-1)


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[int, float]]:
    """What each arm of the study reaches in a short run."""
    return {arm: sinusoids.run(arm, 1, iterations=400, tested=60) for arm in sinusoids.ARMS}


class TestSinusoids:
    def test_meta_learned_parameters_learn_more_in_a_few_steps_than_the_others(
        self, errors: dict[str, dict[int, float]]
    ) -> None:
        for arm in ("pretrained", "scratch"):
            for steps in (1, 5, 10):
                assert max(errors["maml"][steps], errors["fomaml"][steps]) < errors[arm][steps]

    def test_each_arm_tells_of_the_same_steps_and_the_tuned_one_of_a_long_run(
        self, errors: dict[str, dict[int, float]]
    ) -> None:
        assert {tuple(found) for arm, found in errors.items() if arm != "scratch-tuned"} == {sinusoids.STEPS}
        assert tuple(errors["scratch-tuned"]) == (*sinusoids.STEPS, sinusoids.LONG)
        assert errors["scratch-tuned"][100] < errors["scratch"][10]

    def test_all_arms_begin_with_the_same_parameters_and_meet_the_same_tasks(
        self, errors: dict[str, dict[int, float]]
    ) -> None:
        assert errors["scratch"][0] == errors["scratch-tuned"][0]

    def test_the_same_seed_gives_the_same_errors_and_leaves_the_global_generator_alone(self) -> None:
        state = torch.get_rng_state()
        first, again = (sinusoids.run("maml", 3, iterations=5) for _ in range(2))
        assert first == again != sinusoids.run("maml", 4, iterations=5)
        assert torch.equal(torch.get_rng_state(), state)

    def test_tasks_of_training_and_of_the_test_come_from_generators_of_their_own(self) -> None:
        def amplitudes(seed: int, purpose: str) -> Iterator[float]:
            (_, targets), _ = sinusoids.sinusoids(500, generator(seed, purpose))
            yield from targets[:, 0, 0].tolist()

        drawn = [set(amplitudes(seed, purpose)) for seed in (0, 1) for purpose in ("train", "test")]
        assert len(set.union(*drawn)) == 4 * 500

    def test_targets_are_a_sine_of_the_inputs_within_the_ranges_of_the_paper(self) -> None:
        (x, y), (query_x, query_y) = sinusoids.sinusoids(300, generator(0, "test"), points=50)
        assert x.shape == y.shape == (300, SHOTS, 1)
        assert query_x.shape == query_y.shape == (300, 50, 1)
        assert 4.9 < query_x.abs().max() <= 5
        assert 4.8 < query_y.abs().max() <= 5
        waves = torch.stack([torch.sin(query_x), torch.cos(query_x)], -1).squeeze(2)
        fitted = torch.linalg.lstsq(waves.double(), query_y.double()).solution
        assert torch.allclose(waves.double() @ fitted, query_y.double(), atol=1e-5)

    def test_a_meta_step_over_all_tasks_at_once_is_faster_than_the_loop(self) -> None:
        assert sinusoids.speed(repeats=5).ratio > 1.5

    def test_an_unknown_arm_is_refused(self) -> None:
        with pytest.raises(InputError, match="Did you mean 'maml'"):
            sinusoids.run("mamml", 0)
