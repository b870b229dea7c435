"""How a Differentiable Neural Computer finds and changes what its memory holds.

Pure functions of batched tensors: B sequences, N slots of W numbers, R read heads, H write heads. A weighting is a
vector over slots, none negative, whose sum is at most 1.

Source: Graves et al. 2016, "Hybrid computing using a neural network with dynamic external memory", Nature 538,
Methods; what is marked so, Csordas and Schmidhuber 2019, "Improving Differentiable Neural Computers Through Memory
Masking, De-allocation, and Link Distribution Sharpness Control" (arXiv:1904.10278).
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor

with torch.inference_mode(False):  # A Python number would be made a tensor anew at every use.
    ONE = torch.ones((), device="cpu")

    EPSILON = torch.tensor(1e-6, device="cpu")
    """What keeps norms, logarithms and quotients away from 0."""

    BELOW_ONE = ONE - EPSILON


def inverse_norms(memory: Tensor, masks: Tensor | None = None) -> Tensor:
    """1 / |M|: one over the length of each slot, as heads compare it.

    Args:
        memory: (B, N, W).
        masks: (B, heads, W) in (0, 1): which of the numbers are compared (Csordas and Schmidhuber 2019, section 3.1).

    Returns:
        (B, heads, N); without masks the same for all heads, (B, 1, N).
    """
    if masks is None:
        lengths: Tensor = torch.linalg.vector_norm(memory, dim=-1)
        return (lengths.square() + EPSILON).rsqrt().unsqueeze(-2)
    return (torch.bmm(masks.square(), memory.square().mT) + EPSILON).rsqrt()


def pointers(keys: Tensor, strengths: Tensor, masks: Tensor | None = None) -> Tensor:
    """beta k / |k|: what slots are multiplied by to compare them to a key.

    Args:
        keys: (B, heads, W).
        strengths: beta, (B, heads), at least 1.
        masks: As in `inverse_norms`.

    Returns:
        (B, heads, W).
    """
    shown = keys if masks is None else keys * masks
    scaled = shown * (strengths * (shown.square().sum(-1) + EPSILON).rsqrt()).unsqueeze(-1)
    return scaled if masks is None else scaled * masks


def content(memory: Tensor, inverse: Tensor, keys: Tensor) -> Tensor:
    """C(M, k, beta): the softmax over slots of the cosine to a key, times its strength.

    Args:
        memory: (B, N, W).
        inverse: The `inverse_norms` of its slots, (B, heads or 1, N).
        keys: As `pointers`, (B, heads, W).

    Returns:
        Weightings, (B, heads, N).
    """
    return torch.softmax(torch.bmm(keys, memory.mT) * inverse, -1)


def retention(free: Tensor, read: Tensor) -> Tensor:
    """psi_t = prod_i (1 - f^i_t w^{r,i}_{t-1}): how much of each slot is not freed.

    Args:
        free: Free gates, (B, R).
        read: Read weightings of the step before, (B, R, N).

    Returns:
        (B, N), in [0, 1].
    """
    return _product(ONE - free.unsqueeze(-1) * read)


def used(usage: Tensor, written: Tensor, retained: Tensor) -> Tensor:
    """u_t = (u_{t-1} + w^w_{t-1} - u_{t-1} w^w_{t-1}) psi_t.

    Args:
        usage: Of the step before, (B, N), in [0, 1].
        written: Write weightings of the step before, (B, H, N); a slot counts as written once.
        retained: (B, N).

    Returns:
        (B, N), in [0, 1].
    """
    return (ONE - (ONE - usage) * _product(ONE - written)) * retained


def allocation(usage: Tensor, later: Tensor) -> Tensor:
    """a_t: the least used slot first, a[phi_j] = (1 - u[phi_j]) prod_{i<j} u[phi_i].

    Equally used slots are taken in their order.

    Args:
        usage: (B, N), in [0, 1].
        later: 1 where the column comes after the row, (N, N).

    Returns:
        A weighting, (B, N).
    """
    ascending, order = torch.sort(EPSILON + BELOW_ONE * usage, dim=-1, stable=True)
    before = (ascending.log() @ later).exp()
    return torch.scatter(torch.zeros_like(usage), -1, order, before - ascending * before)


def erased_and_added(memory: Tensor, written: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """M_t = M_{t-1} (1 - w^w e^T) + w^w v^T, with several write heads the product and the sum over them.

    Args:
        memory: (B, N, W).
        written: Write weightings, (B, H, N).
        erase: Erase vectors in (0, 1), (B, H, W).
        add: Write vectors, (B, H, W).

    Returns:
        (B, N, W).
    """
    if written.shape[-2] == 1:
        to_slots = written.mT
        erased = torch.bmm(to_slots, erase)
        return torch.addcmul(torch.baddbmm(memory, to_slots, add), erased, memory, value=-1)
    kept = _product((ONE - written.unsqueeze(-1) * erase.unsqueeze(-2)).flatten(-2)).unflatten(
        -1, memory.shape[-2:]
    )
    return torch.baddbmm(memory * kept, written.mT, add)


def linked(links: Tensor, precedence: Tensor, written: Tensor, read: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """L_t[i,j] = (1 - w[i] - w[j]) L_{t-1}[i,j] + w[i] p_{t-1}[j], 0 on the diagonal, and where it leads to.

    Args:
        links: Of each write head, (B, H, N, N): how much slot i was written right after slot j.
        precedence: Of the step before, (B, H, N).
        written: Write weightings of this step, (B, H, N).
        read: Read weightings of the step before, (B, R, N).

    Returns:
        The links now, (B, H, N, N), of which no row and no column sums to more than 1. Then what was written right
        after and right before what was read: forward weightings f = L_t w^r_{t-1} and backward weightings
        b = L_t^T w^r_{t-1}, each (B, H, R, N).
    """
    batch, heads = links.shape[:2]
    several = read.unsqueeze(1).expand(-1, heads, -1, -1).flatten(0, 1)
    parts: tuple[Tensor, ...] = _Linked.apply(  # type: ignore[no-untyped-call]
        links.flatten(0, 1), precedence.flatten(0, 1), written.flatten(0, 1), several
    )
    now, forward, backward = (part.unflatten(0, (batch, heads)) for part in parts)
    return now, forward, backward


class _Linked(torch.autograd.Function):
    """`linked` for one write head, with passes of its own that read, write and allocate links far less often.

    Tensors of the size of all links are too large to be kept by the allocator: a new one costs more than what is
    computed in it.
    """

    @staticmethod
    def forward(
        links: Tensor, precedence: Tensor, written: Tensor, read: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        row = written.unsqueeze(-1)
        now = (ONE - row - written.unsqueeze(-2)).mul_(links).addcmul_(row, precedence.unsqueeze(-2))
        now.diagonal(dim1=-2, dim2=-1).zero_()
        return now, torch.bmm(read, now.mT), torch.bmm(read, now)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, output[0])

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, ...]:
        links, precedence, written, read, now = ctx.saved_tensors
        to_now, to_forward, to_backward = given
        to_read = torch.bmm(to_forward, now) + torch.bmm(to_backward, now.mT)
        to_now = torch.baddbmm(to_now, torch.cat((to_forward, read), 1).mT, torch.cat((read, to_backward), 1))
        row, nothing = written.unsqueeze(-1), to_now.diagonal(dim1=-2, dim2=-1)
        to_links = _times(ONE - row - written.unsqueeze(-2), to_now)
        to_links.diagonal(dim1=-2, dim2=-1).zero_()
        to_written = torch.bmm(precedence.unsqueeze(-2), to_now.mT).squeeze(-2) - nothing * precedence
        to_precedence = torch.bmm(row.mT, to_now).squeeze(-2) - nothing * written
        through = _times(to_now, links)  # 0 on the diagonal, as the links are
        return to_links, to_precedence, to_written - through.sum(-1) - through.sum(-2), to_read

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Tensor) -> tuple[Any, Any]:
        """What is mapped over are so many more sequences."""
        size = info.batch_size
        folded = [
            (part.expand(size, *part.shape) if dim is None else part.movedim(dim, 0)).flatten(0, 1)
            for part, dim in zip(given, in_dims, strict=True)
        ]
        parts = _Linked.apply(*folded)  # type: ignore[no-untyped-call]
        return tuple(part.unflatten(0, (size, -1)) for part in parts), (0, 0, 0)


def _times(own: Tensor, other: Tensor) -> Tensor:
    """Their product, in the place of the first unless it is to be differentiated itself."""
    return own * other if torch.is_grad_enabled() else own.mul_(other)


def preceded(precedence: Tensor, written: Tensor) -> Tensor:
    """p_t = (1 - sum_i w^w_t[i]) p_{t-1} + w^w_t: how much each slot was the last one written to.

    Args:
        precedence: (B, H, N).
        written: (B, H, N).

    Returns:
        (B, H, N).
    """
    return torch.addcmul(written, ONE - written.sum(-1, keepdim=True), precedence)


def sharpened(weighting: Tensor, sharpness: Tensor) -> Tensor:
    """S(d, s)_i = (d_i / max d)^s / sum_j (d_j / max d)^s (Csordas and Schmidhuber 2019, section 3.3).

    Args:
        weighting: (..., N).
        sharpness: (...), at least 1.

    Returns:
        (..., N), of sum 1.
    """
    raised = weighting + EPSILON
    powers = (raised / raised.amax(-1, keepdim=True)) ** sharpness.unsqueeze(-1)
    return powers / powers.sum(-1, keepdim=True)


def _product(factors: Tensor) -> Tensor:
    """The product over all heads, (B, heads, N) to (B, N); torch's own `prod` takes long to go back through."""
    return reduce(torch.mul, factors.unbind(-2))
