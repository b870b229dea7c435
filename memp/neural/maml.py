"""Model-agnostic meta-learning: parameters from which a few gradient steps learn a new task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from memp.errors import InputError

Params = Mapping[str, Tensor]
"""Parameters by name."""

Model = nn.Module | Callable[[Params, Any], Any]
"""A module, or a pure function of parameters and inputs, that returns outputs."""

Loss = Callable[[Any, Any], Tensor]
"""A function of outputs and targets that returns a scalar, shape ()."""

Examples = tuple[Any, Any]
"""Inputs and targets: tensors, or tuples, lists and dicts of tensors."""


def adapt(
    model: Model,
    params: Params,
    support: Examples,
    *,
    loss: Loss,
    lr: float,
    steps: int,
    first_order: bool = False,
) -> Params:
    """Take gradient steps on a task, each from where the one before led; nothing that is given changes.

    theta^{k+1} = theta^k - lr * grad L(theta^k; support). The result is differentiable with respect to `params`.

    Args:
        model: What the parameters are of.
        params: Where to begin; a module's others stay as they are.
        support: Examples of the task.
        loss: What the steps lower.
        lr: How long a step is.
        steps: How many, 0 or more.
        first_order: Whether a derivative of the result takes the gradients for constants (FOMAML), so that no
            second derivatives are needed.

    Returns:
        The adapted parameters, with the names of `params`.

    Raises:
        InputError: if `steps` is less than 0, or `lr` is not above 0.

    Source:
        Finn et al. 2017 (arXiv:1703.03400), equation 1 and section 5.2.
    """
    _check(lr, steps, at_least=0)
    path = _path(model, params, support, loss=loss, lr=lr, first_order=first_order)
    return next(islice(path, steps, None))


class Maml:
    """Learns the parameters of a module so that a few gradient steps on a new task go far.

    All tasks of a batch are computed at once (`torch.func.vmap`), so the module has to be a pure function of its
    inputs: no dropout, no batch statistics, no change of its inputs in place, and no fused recurrent cell
    (`nn.LSTM` and the like), which vmap cannot enter; one made of linear layers works.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        *,
        inner_lr: float = 0.01,
        inner_steps: int = 1,
        first_order: bool = False,
    ) -> None:
        """Say what is learned, and how a task will be.

        Args:
            module: The model; those of its parameters that need a gradient are adapted.
            loss: Of a task, both in its steps and after them.
            inner_lr: How long a step in a task is.
            inner_steps: How many steps `meta_loss` takes in a task, at least 1.
            first_order: Whether to leave out second derivatives (FOMAML).

        Raises:
            InputError: if a number is out of its range.
        """
        _check(inner_lr, inner_steps, at_least=1)
        self._module, self._loss, self._lr = module, loss, inner_lr
        self._steps, self._first_order = inner_steps, first_order

    def meta_loss(self, support: Examples, query: Examples) -> Tensor:
        """Return the mean loss of tasks after they were adapted to, to be made less by any optimizer.

        Args:
            support: What the steps are taken on; every tensor has the shape (tasks, ...).
            query: What the loss is of, other examples of the same tasks in the same order; shapes (tasks, ...).

        Returns:
            Shape (), differentiable with respect to the parameters of the module.

        Source:
            Finn et al. 2017, algorithm 1 with its sum over tasks as a mean, so that the outer learning rate does not
            depend on their number.
        """

        def after(params: Params, support: Examples, query: Examples) -> Tensor:
            return self._loss_at(next(islice(self._path(params, support), self._steps, None)), query)

        losses: Tensor = vmap(after, in_dims=(None, 0, 0))(self._params, support, query)
        return losses.mean()

    @torch.no_grad()
    def curves(self, support: Examples, query: Examples, *, steps: int) -> Tensor:
        """Return how the loss of tasks falls with each gradient step, without keeping a graph.

        Args:
            support: What the steps are taken on; every tensor has the shape (tasks, ...).
            query: What the loss is of; every tensor has the shape (tasks, ...).
            steps: How many are taken, 0 or more.

        Returns:
            Shape (tasks, steps + 1): the loss of each task before the first step, and after each.

        Raises:
            InputError: if `steps` is less than 0.
        """
        _check(self._lr, steps, at_least=0)

        def along(params: Params, support: Examples, query: Examples) -> Tensor:
            path = islice(self._path(params, support), steps + 1)
            return torch.stack([self._loss_at(params, query) for params in path])

        found: Tensor = vmap(along, in_dims=(None, 0, 0))(self._params, support, query)
        return found

    @property
    def _params(self) -> Params:
        return {name: value for name, value in self._module.named_parameters() if value.requires_grad}

    def _path(self, params: Params, support: Examples) -> Iterator[Params]:
        return _path(
            self._module, params, support, loss=self._loss, lr=self._lr, first_order=self._first_order
        )

    def _loss_at(self, params: Params, query: Examples) -> Tensor:
        return _loss_at(self._module, params, query, self._loss)


def _path(
    model: Model, params: Params, support: Examples, *, loss: Loss, lr: float, first_order: bool
) -> Iterator[Params]:
    """Yield the parameters before the first step, then after each, without end."""
    slope = grad(lambda params: _loss_at(model, params, support, loss))
    while True:
        yield params
        where = {name: value.detach() for name, value in params.items()} if first_order else params
        gradients = slope(where)
        params = {name: value - lr * gradients[name] for name, value in params.items()}


def _loss_at(model: Model, params: Params, examples: Examples, loss: Loss) -> Tensor:
    inputs, targets = examples
    if isinstance(model, nn.Module):
        return loss(functional_call(model, dict(params), (inputs,)), targets)
    return loss(model(params, inputs), targets)


def _check(lr: float, steps: int, *, at_least: int) -> None:
    """Raise `InputError` if no step can be taken so."""
    if not 0 < lr < float("inf"):
        raise InputError(f"the learning rate is {lr!r}; it has to be finite and above 0")
    if steps < at_least:
        raise InputError(f"{steps!r} steps were asked for; ask for at least {at_least}")
