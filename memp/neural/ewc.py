"""Elastic weight consolidation: hold on to the parameters that earlier tasks need."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from memp.errors import InputError


class EWC:
    """A penalty on moving the parameters of a module, the more so the more the tasks before depend on them.

    One Fisher information and one anchor serve all tasks (online EWC): a task that is consolidated adds its
    information to what there was, and moves the anchor to where the parameters are.

    Source:
        Kirkpatrick et al. 2017 (arXiv:1612.00796), equation 3; online: Schwarz et al. 2018 (arXiv:1805.06370).
    """

    def __init__(self, module: nn.Module, strength: float, *, decay: float = 1.0) -> None:
        """Begin with no task consolidated.

        Args:
            module: Whose parameters are held; those that need no gradient are left alone.
            strength: How much the penalty counts (lambda), 0 or more.
            decay: What the information so far is multiplied by when a task is added, in [0, 1].

        Raises:
            InputError: if one of them is out of its range, or no parameter needs a gradient.
        """
        self._parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        if not self._parameters:
            raise InputError("no parameter of the module needs a gradient, so there is nothing to hold")
        if not 0 <= strength < float("inf"):
            raise InputError(f"strength is {strength!r}; it has to be finite, and 0 or more")
        if not 0 <= decay <= 1:
            raise InputError(f"decay is {decay!r}; it has to be in [0, 1]")
        self._strength, self._decay = strength, decay
        self._fisher: dict[str, Tensor] = {}
        self._anchor: dict[str, Tensor] = {}

    @property
    def fisher(self) -> dict[str, Tensor]:
        """The diagonal of the Fisher information, by name and in the shape of each parameter; empty at first."""
        return dict(self._fisher)

    @property
    def anchor(self) -> dict[str, Tensor]:
        """Where the parameters are held, by name; empty before the first task."""
        return dict(self._anchor)

    def consolidate(self, log_likelihoods: Iterable[Tensor]) -> None:
        """Hold the parameters where they are now, after a task was learned.

        F_j <- decay F_j + mean over samples of (d log p(y|x) / d theta_j)^2, and theta* <- theta.

        Args:
            log_likelihoods: log p(y|x) of one sample each, scalars of shape (), with x from the task and y drawn
                from the module itself (the labels of the task would give another matrix, the empirical Fisher).
                They may come of one forward pass; or from a generator, so that their graphs are not all held at once.

        Raises:
            InputError: if there is none, or one is no finite scalar, does not depend on the parameters or has an
                infinite or NaN gradient; nothing has changed then.
        """
        information = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        count = 0
        for log_likelihood in log_likelihoods:
            count += 1
            for name, gradient in self._gradients(log_likelihood).items():
                information[name] += gradient.square()
        if count == 0:
            raise InputError("there is no log-likelihood; give those of some samples of the task")
        for name, total in information.items():
            before = self._fisher.get(name, torch.zeros_like(total))
            self._fisher[name] = self._decay * before + total / count
            self._anchor[name] = self._parameters[name].detach().clone()

    def penalty(self) -> Tensor:
        """Return strength / 2 * sum_j F_j (theta_j - theta*_j)^2, shape (); exactly 0 before the first task."""
        total = next(iter(self._parameters.values())).new_zeros(())
        for name, fisher in self._fisher.items():
            total = total + (fisher * (self._parameters[name] - self._anchor[name]).square()).sum()
        return self._strength / 2 * total

    def _gradients(self, log_likelihood: Tensor) -> dict[str, Tensor]:
        """Return the gradient for each parameter that has a part in it, and leave none behind on the module."""
        if log_likelihood.shape != () or not log_likelihood.isfinite() or not log_likelihood.requires_grad:
            raise InputError(
                f"{log_likelihood!r} is no log-likelihood of one sample: it has to be a finite scalar of shape (), "
                "computed from the parameters of the module with gradients on"
            )
        found = torch.autograd.grad(
            log_likelihood, list(self._parameters.values()), retain_graph=True, allow_unused=True
        )
        gradients = {
            name: gradient
            for name, gradient in zip(self._parameters, found, strict=True)
            if gradient is not None
        }
        if not gradients:
            raise InputError("a log-likelihood depends on no parameter of the module; is it of another one?")
        for name, gradient in gradients.items():
            if not gradient.isfinite().all():
                raise InputError(
                    f"a log-likelihood has an infinite or NaN gradient for {name!r}; has training failed?"
                )
        return gradients
