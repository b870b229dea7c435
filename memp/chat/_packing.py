"""One forward pass over pieces of several conversations, laid end to end without padding.

All of a transformer but its attention treats each token by itself, so that pieces of any lengths, new
prompts and answers under way, can stand in one row. Attention is put in by us: each piece attends to
its own conversation, whose earlier keys and values lie in its `Sequence`. Models are reached through
transformers' own `AttentionInterface`, and only models that the probe below shows to come to the same
logits as without all this.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence as Sequential
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from memp.chat._kept import Sequence

logger = logging.getLogger(__name__)

ATTENTION = "memp_packed"

_HARMLESS = {"position_ids", "use_cache", "cache_position", "is_causal"}
"""What models also pass to their attention, and which changes nothing of it here."""

_BOUND_TO_LENGTH = ("dynamic", "longrope")
"""Rotations of positions that depend on the longest conversation in the batch."""


@dataclass(frozen=True)
class Part:
    """What one conversation contributes to a forward pass."""

    sequence: Sequence
    """What is known of the conversation so far."""

    ids: list[int]
    """The tokens that follow, at least one."""

    ends: bool = True
    """Whether the next token is asked for."""


def forward(model: PreTrainedModel, parts: Sequential[Part]) -> Tensor:
    """Compute all parts together; the keys and values are written, the lengths left to the caller.

    Returns:
        The logits after each part that `ends`, in order, shape (those parts, vocabulary).
    """
    ids: list[int] = []
    positions: list[int] = []
    last: list[int] = []
    for part in parts:
        start = part.sequence.length
        part.sequence.reserve(start + len(part.ids))
        ids += part.ids
        positions += range(start, start + len(part.ids))
        if part.ends:
            last.append(len(ids) - 1)
    device = model.device
    output = model(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        use_cache=False,
        logits_to_keep=torch.tensor(
            last or [0], device=device
        ),  # never empty; what is too much is cut off below
        packed=_Packed(parts, model.dtype, device),
    )
    logits: Tensor = output.logits[0, : len(last)]
    return logits


class _Packed:
    """The parts of a forward pass, as attention needs them in every layer."""

    def __init__(self, parts: Sequential[Part], dtype: torch.dtype, device: torch.device) -> None:
        self.pieces = [(part.sequence, len(part.ids), _mask(part, dtype, device)) for part in parts]


def _mask(part: Part, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Return what is added to the scores, shape (new tokens, all tokens), so that none looks ahead.

    None is needed for a single token, which may look at all, nor for a beginning, where attention
    has a faster way to say so.
    """
    past, new = part.sequence.length, len(part.ids)
    if past == 0 or new == 1:
        return None
    return torch.full((new, past + new), -torch.inf, dtype=dtype, device=device).triu(past + 1)


def _attend(  # noqa: PLR0917 - transformers' order
    module: Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,  # noqa: ARG001 - only in training
    packed: _Packed | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Attend from each piece to its own conversation; see transformers' `AttentionInterface`.

    Args:
        module: The attention layer.
        query: Shape (1, heads, tokens, head size).
        key: Shape (1, key heads, tokens, head size); the heads may be a multiple of the key heads.
        value: Likewise.
        attention_mask: None: there is nothing to mask but what lies ahead.
        scaling: Of the scores; None divides by the root of the head size.
        dropout: Unused.
        packed: The pieces.
        others: What else the model passes; anything that might matter is refused.

    Returns:
        Shape (1, tokens, heads, head size).

    Raises:
        NotImplementedError: if the model wants attention of another kind; `packs` then leaves it as it was.
    """
    strange = {name for name, given in others.items() if given is not None and given is not False} - _HARMLESS
    if packed is None or attention_mask is not None or strange or not _is_causal(module, others):
        raise NotImplementedError(f"attention with {sorted(strange) or 'a mask of its own'}")
    groups = query.shape[1] // key.shape[1]
    outputs, start = [], 0
    layer: Any = module.layer_idx
    for sequence, n, mask in packed.pieces:
        new = slice(start, start + n)
        past = sequence.length
        keys, values = sequence.extend(layer, key[0, :, new], value[0, :, new])
        queries = query[:, :, new]
        if past == 0:
            attended = scaled_dot_product_attention(
                queries, keys, values, is_causal=n > 1, scale=scaling, enable_gqa=groups > 1
            )
        else:
            # The queries that share a key head stand behind one another, so that no key is copied.
            attended = scaled_dot_product_attention(
                queries.reshape(1, key.shape[1], groups * n, -1),
                keys,
                values,
                attn_mask=mask if mask is None or groups == 1 else mask.repeat(groups, 1),
                scale=scaling,
            ).view(1, query.shape[1], n, -1)
        outputs.append(attended)
        start += n
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _is_causal(module: Module, others: dict[str, object]) -> bool:
    given = others.get("is_causal")
    return bool(getattr(module, "is_causal", True) if given is None else given)


AttentionInterface.register(ATTENTION, _attend)


def packs(model: PreTrainedModel) -> bool:
    """Have the model attend in our way if it then still computes the same; tell whether it does.

    Args:
        model: In evaluation mode.
    """
    before = model.config._attn_implementation
    try:
        if _is_plain(model) and _computes_the_same(model):
            return True
    except Exception as error:  # noqa: BLE001 - models are others' code, and there is another way to run them
        logger.info("%s cannot be packed: %s", type(model).__name__, error)
    if model.config._attn_implementation != before:
        model.set_attn_implementation(before)
    return False


def _is_plain(model: PreTrainedModel) -> bool:
    """Tell whether all layers attend to all that came before, through the interface used here."""
    config = model.config.get_text_config(decoder=True)
    rope = getattr(config, "rope_parameters", None) or {}
    rotations = {str(each.get("rope_type")) for each in (rope, *rope.values()) if isinstance(each, dict)}
    return (
        bool(getattr(model, "_supports_attention_backend", False))
        and "logits_to_keep" in signature(model.forward).parameters
        and all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
        and rotations.isdisjoint(_BOUND_TO_LENGTH)
    )


@torch.inference_mode()
def _computes_the_same(model: PreTrainedModel) -> bool:
    """Compare the logits after two sequences, each by itself as the model comes, and both packed, in pieces."""
    embeddings: Any = model.get_input_embeddings()
    vocabulary = int(embeddings.weight.shape[0])
    texts = [[(7 * i + 3) % vocabulary for i in range(11)], [(5 * i + 1) % vocabulary for i in range(6)]]
    alone = [model(input_ids=torch.tensor([ids], device=model.device)).logits[0, -1] for ids in texts]
    expected = torch.stack(alone).float()

    model.set_attn_implementation(ATTENTION)
    sequences = [Sequence() for _ in texts]
    for ends in (5, 1), (10, 5), (11, 6):
        pieces = zip(sequences, texts, ends, strict=True)
        logits = forward(model, [Part(known, ids[known.length : end]) for known, ids, end in pieces])
        for known, end in zip(sequences, ends, strict=True):
            known.length = end
    tolerance = torch.finfo(model.dtype).eps ** 0.5 * expected.std()
    return bool((logits.float() - expected).abs().max() <= tolerance)
