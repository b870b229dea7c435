"""How a Differentiable Neural Computer finds and changes what its memory holds.

Pure functions of batched tensors: B sequences, N slots of W numbers, R read heads, H write heads. A weighting is a
vector over slots, none negative, whose sum is at most 1.

Source: Graves et al. 2016, "Hybrid computing using a neural network with dynamic external memory", Nature 538,
Methods; what is marked so, Csordas and Schmidhuber 2019, "Improving Differentiable Neural Computers Through Memory
Masking, De-allocation, and Link Distribution Sharpness Control" (arXiv:1904.10278).
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-6
"""What keeps norms, logarithms and quotients away from 0."""


def content(memory: Tensor, keys: Tensor, strengths: Tensor, masks: Tensor | None = None) -> Tensor:
    """C(M, k, beta): the softmax over slots of the cosine to a key, times its strength.

    Args:
        memory: (B, N, W).
        keys: (B, heads, W).
        strengths: (B, heads), at least 1.
        masks: (B, heads, W) in (0, 1): which of the numbers are compared (Csordas and Schmidhuber 2019, section 3.1).

    Returns:
        Weightings, (B, heads, N).
    """
    if masks is None:
        slot_norms = (memory.square().sum(-1) + EPSILON).sqrt().unsqueeze(-2)
        key_norms = (keys.square().sum(-1) + EPSILON).sqrt()
        products = keys @ memory.mT
    else:
        weights = masks.square()
        slot_norms = (weights @ memory.square().mT + EPSILON).sqrt()
        key_norms = ((weights * keys.square()).sum(-1) + EPSILON).sqrt()
        products = (weights * keys) @ memory.mT
    return torch.softmax(products / slot_norms * (strengths / key_norms).unsqueeze(-1), -1)


def retention(free: Tensor, read: Tensor) -> Tensor:
    """psi_t = prod_i (1 - f^i_t w^{r,i}_{t-1}): how much of each slot is not freed.

    Args:
        free: Free gates, (B, R).
        read: Read weightings of the step before, (B, R, N).

    Returns:
        (B, N), in [0, 1].
    """
    return (1 - free.unsqueeze(-1) * read).prod(-2)


def used(usage: Tensor, written: Tensor, retained: Tensor) -> Tensor:
    """u_t = (u_{t-1} + w^w_{t-1} - u_{t-1} w^w_{t-1}) psi_t.

    Args:
        usage: Of the step before, (B, N), in [0, 1].
        written: Write weightings of the step before, (B, H, N); a slot counts as written once.
        retained: (B, N).

    Returns:
        (B, N), in [0, 1].
    """
    return (1 - (1 - usage) * (1 - written).prod(-2)) * retained


def allocation(usage: Tensor) -> Tensor:
    """a_t: the least used slot first, a[phi_j] = (1 - u[phi_j]) prod_{i<j} u[phi_i].

    Equally used slots are taken in their order.

    Args:
        usage: (B, N), in [0, 1].

    Returns:
        A weighting, (B, N).
    """
    ascending, order = torch.sort(EPSILON + (1 - EPSILON) * usage, dim=-1, stable=True)
    logarithms = ascending.log()
    before = (logarithms.cumsum(-1) - logarithms).exp()
    return torch.gather((1 - ascending) * before, -1, order.argsort(-1))


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
        kept = 1 - written.mT @ erase
    else:
        kept = (1 - written.unsqueeze(-1) * erase.unsqueeze(-2)).prod(-3)
    return torch.baddbmm(memory * kept, written.mT, add)


def linked(links: Tensor, precedence: Tensor, written: Tensor, off_diagonal: Tensor) -> Tensor:
    """L_t[i,j] = (1 - w[i] - w[j]) L_{t-1}[i,j] + w[i] p_{t-1}[j], and 0 on the diagonal.

    Args:
        links: Of each write head, (B, H, N, N): how much slot i was written right after slot j.
        precedence: Of the step before, (B, H, N).
        written: Write weightings of this step, (B, H, N).
        off_diagonal: 1 but for the diagonal, (N, N).

    Returns:
        (B, H, N, N); no row and no column sums to more than 1.
    """
    row = written.unsqueeze(-1)
    kept = (1 - row - written.unsqueeze(-2)) * links
    return torch.addcmul(kept, row, precedence.unsqueeze(-2)) * off_diagonal


def preceded(precedence: Tensor, written: Tensor) -> Tensor:
    """p_t = (1 - sum_i w^w_t[i]) p_{t-1} + w^w_t: how much each slot was the last one written to.

    Args:
        precedence: (B, H, N).
        written: (B, H, N).

    Returns:
        (B, H, N).
    """
    return (1 - written.sum(-1, keepdim=True)) * precedence + written


def followed(links: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
    """f = L_t w^r_{t-1} and b = L_t^T w^r_{t-1}: what was written right after and right before what was read.

    Args:
        links: (B, H, N, N).
        read: Read weightings of the step before, (B, R, N).

    Returns:
        Forward and backward weightings, each (B, R, H, N).
    """
    from_each = read.unsqueeze(1)
    return (from_each @ links.mT).transpose(1, 2), (from_each @ links).transpose(1, 2)


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
