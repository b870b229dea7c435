"""The study of learning to learn: sinusoids from ten points, with meta-learned, pre-trained and fresh parameters.

Source: Finn et al. 2017 (arXiv:1703.03400), section 5.1, with fewer iterations.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from random import Random

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

from memp.errors import unknown_name
from memp.neural.maml import Examples, Maml

ARMS = ("maml", "fomaml", "pretrained", "scratch", "scratch-tuned")

ITERATIONS = 6000
"""Of training, each over `BATCH` new tasks."""

BATCH = 25

SHOTS = 10
"""Points that a task is learned from, and as many others that training takes the loss of."""

TESTED = 600
"""Held-out tasks."""

POINTS = 100
"""Points of a held-out task that the error is the mean of."""

STEPS = (0, 1, 5, 10)
"""After how many gradient steps the error is taken."""

INNER_LR = 0.01

INNER_STEPS = 1
"""In training, as in the paper; with 5 the errors after 5 and 10 steps are half as large, in three times the time."""

OUTER_LR = 0.001

LONG = 100
"""How many steps `scratch-tuned` takes, at the best of `RATES`."""

RATES = (0.01, 0.02, 0.03, 0.05, 0.1)
"""Learning rates that `scratch-tuned` chooses from, on tasks of training."""


def run(arm: str, seed: int, *, iterations: int = ITERATIONS, tested: int = TESTED) -> dict[int, float]:
    """Train an arm, and test it on the held-out tasks of the seed, which are the same for all arms.

    Args:
        arm: `maml` and `fomaml`: meta-learned, `INNER_STEPS` a task. `pretrained`: on the points of as many
            tasks, all in one. `scratch`: from the parameters that all arms begin with. `scratch-tuned`: the same,
            at the learning rate that is the best one after `LONG` steps.
        seed: Of the first parameters, the tasks of training, and the held-out ones, each with a generator of its own.
        iterations: Of training; the last two arms have none.
        tested: How many held-out tasks.

    Returns:
        The mean squared error over all held-out tasks, by how many gradient steps each was learned with.

    Raises:
        InputError: if there is no such arm.
    """
    if arm not in ARMS:
        raise unknown_name("arm", arm, ARMS)
    network, random = new_network(seed), generator(seed, "train")
    if arm in {"maml", "fomaml"}:
        maml = Maml(
            network, mse_loss, inner_lr=INNER_LR, inner_steps=INNER_STEPS, first_order=arm == "fomaml"
        )
        train(network, maml.meta_loss, random, iterations=iterations)
    elif arm == "pretrained":
        train(network, lambda *both: joint_loss(network, *both), random, iterations=iterations)
    tuned = arm == "scratch-tuned"
    rate = best_rate(network, sinusoids(tested, random, points=POINTS)) if tuned else INNER_LR
    held_out = sinusoids(tested, generator(seed, "test"), points=POINTS)
    errors = mean_errors(network, held_out, rate=rate, steps=LONG if tuned else STEPS[-1])
    return {steps: float(errors[steps]) for steps in (*STEPS, LONG) if steps < len(errors)}


def generator(seed: int, purpose: str) -> Generator:
    """Return a generator that has nothing in common with that of another seed or purpose."""
    return Generator().manual_seed(Random(f"{seed}/{purpose}").getrandbits(63))


def new_network(seed: int) -> nn.Sequential:
    """Make a network of two hidden layers of 40, as PyTorch initializes it, without moving the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "network").initial_seed())
        return nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))


def sinusoids(count: int, random: Generator, *, points: int = SHOTS) -> tuple[Examples, Examples]:
    """Draw tasks y = A sin(x - phase), with A in [0.1, 5], phase in [0, pi] and x in [-5, 5], all uniform.

    Args:
        count: How many tasks.
        random: Where they are drawn from.
        points: How many of each the query has.

    Returns:
        The support, inputs and targets of shape (count, SHOTS, 1), and the query, of shape (count, points, 1).
    """
    amplitude = 0.1 + 4.9 * torch.rand(count, 1, 1, generator=random)
    phase = pi * torch.rand(count, 1, 1, generator=random)
    inputs = 10 * torch.rand(count, SHOTS + points, 1, generator=random) - 5
    targets = amplitude * torch.sin(inputs - phase)
    return (inputs[:, :SHOTS], targets[:, :SHOTS]), (inputs[:, SHOTS:], targets[:, SHOTS:])


def train(
    network: nn.Module, loss: Callable[[Examples, Examples], Tensor], random: Generator, *, iterations: int
) -> None:
    """Lower a loss of support and query over new tasks at each iteration."""
    optimizer = torch.optim.Adam(network.parameters(), lr=OUTER_LR, fused=True)
    for _ in range(iterations):
        optimizer.zero_grad()
        loss(*sinusoids(BATCH, random)).backward()
        optimizer.step()


def joint_loss(network: nn.Module, support: Examples, query: Examples) -> Tensor:
    """Return the error over all points of all tasks, as if they were one."""
    inputs, targets = (torch.cat(both, dim=1) for both in zip(support, query, strict=True))
    return mse_loss(network(inputs), targets)


def mean_errors(network: nn.Module, tasks: tuple[Examples, Examples], *, rate: float, steps: int) -> Tensor:
    """Return the mean error over tasks before the first gradient step and after each, shape (steps + 1,)."""
    return Maml(network, mse_loss, inner_lr=rate).curves(*tasks, steps=steps).mean(dim=0)


def best_rate(network: nn.Module, tasks: tuple[Examples, Examples]) -> float:
    """Return the one of `RATES` with the least mean error after `LONG` steps."""

    def error(rate: float) -> float:
        last = mean_errors(network, tasks, rate=rate, steps=LONG)[-1]
        return float(last.nan_to_num(nan=torch.inf))  # a rate that diverges is the worst

    return min(RATES, key=error)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How long a meta-step over `BATCH` tasks takes, forth and back, in milliseconds of CPU time."""

    loop_ms: float
    """One task after another."""

    vmap_ms: float
    """All at once."""

    @property
    def ratio(self) -> float:
        """How many times as fast it is at once."""
        return self.loop_ms / self.vmap_ms


def speed(*, repeats: int = 30) -> Speed:
    """Measure both ways of a meta-step; the least time of so many, since other programs only add to it."""
    network = new_network(0)
    tasks = sinusoids(BATCH, generator(0, "speed"))
    maml = Maml(network, mse_loss, inner_lr=INNER_LR, inner_steps=INNER_STEPS)

    def least_ms(loss: Callable[[], Tensor]) -> float:
        times = []
        for _ in range(repeats):
            began = time.process_time()
            loss().backward()
            times.append(time.process_time() - began)
        return 1000 * min(times)

    return Speed(
        loop_ms=least_ms(lambda: looped_meta_loss(network, *tasks, steps=INNER_STEPS)),
        vmap_ms=least_ms(lambda: maml.meta_loss(*tasks)),
    )


def looped_meta_loss(
    network: nn.Module, support: Examples, query: Examples, *, steps: int, first_order: bool = False
) -> Tensor:
    """Return what `Maml.meta_loss` does for the mean squared error, by a plain loop over tasks."""
    losses = []
    for support_x, support_y, query_x, query_y in zip(*support, *query, strict=True):
        params: dict[str, Tensor] = dict(network.named_parameters())
        for _ in range(steps):
            error = mse_loss(functional_call(network, params, (support_x,)), support_y)
            slopes = torch.autograd.grad(error, list(params.values()), create_graph=not first_order)
            params = {
                name: value - INNER_LR * slope
                for (name, value), slope in zip(params.items(), slopes, strict=True)
            }
        losses.append(mse_loss(functional_call(network, params, (query_x,)), query_y))
    return torch.stack(losses).mean()
