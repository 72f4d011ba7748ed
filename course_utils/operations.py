"""The core's own dropout and attention: the same operations as torch's, made faster on a CPU.

torch draws a 53-bit random number for each value that dropout looks at, in one thread; that is a
sixth of the time of a training step. Sixteen bits are enough: four values share one 64-bit draw.
Attention with dropout is written out here, because on a CPU torch's fused one does not know dropout
and its other one computes in fp32 whatever the precision asked for.

Attention also knows packed texts; on a GPU those go to torch's attention for texts of different
lengths, which has no dropout of attention weights.

`faster_operations` puts them into a model for the length of a `with` block.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils.packing import Packing

NAME = "course"  # of our attention among those of transformers
LEVELS = 2**16  # probabilities of dropout are rounded to this fraction


def keep_factors(like: Tensor, p: float) -> Tensor:
    """Draw for each value of `like` 0 with probability `p`, otherwise 1 / (1 - p).

    Args:
        like: gives shape and type, on a CPU.
        p: above 0 and below 1; rounded to 1/65536.
    """
    count = like.numel()
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[:count].view(like.shape)
    return (bits >= round(p * LEVELS) - LEVELS // 2).to(like.dtype).mul_(1 / (1 - p))


def dropout(x: Tensor, p: float) -> Tensor:
    """As `torch.nn.functional.dropout` in training mode."""
    return x * keep_factors(x, p) if 0 < p < 1 else F.dropout(x, p)


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor,
    attention_mask: Tensor | Packing | None, dropout: float = 0.0, scaling: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention in the form that transformers asks of its attention functions.

    Args:
        module: the attention layer; its `is_causal` counts where there is no mask.
        query, key, value: (B, heads, T, D / heads).
        attention_mask: (B, 1, 1 or T, T), true where a token may look; None: everywhere; or where
            each text lies among packed tokens.
        dropout: share of attention weights zeroed.
        scaling: factor of the scores; None is 1 / sqrt(D / heads).

    Returns:
        (B, T, heads, D / heads), and None in place of the attention weights.
    """
    causal = getattr(module, "is_causal", False) and query.shape[2] > 1
    if isinstance(attention_mask, Packing):
        return _packed_attention(query, key, value, attention_mask, dropout, scaling, causal), None
    causal = causal and attention_mask is None
    return _attention(query, key, value, attention_mask, dropout, scaling, causal), None


def _attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float,
    scaling: float | None, causal: bool,
) -> Tensor:  # fmt: skip
    if dropout == 0:
        output = F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=causal, scale=scaling
        )
        return output.transpose(1, 2)
    scores = (query * (query.shape[-1] ** -0.5 if scaling is None else scaling)) @ key.mT
    if causal:
        ones = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        mask = ones.tril()
    if mask is not None:
        hidden = torch.zeros_like(mask, dtype=scores.dtype)
        scores += hidden.masked_fill_(~mask, float("-inf"))
    weights = scores.softmax(-1)
    return ((weights * keep_factors(weights, dropout)) @ value).transpose(1, 2)


def _packed_attention(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, dropout: float,
    scaling: float | None, causal: bool,
) -> Tensor:  # fmt: skip
    """Each text attends to itself; (1, heads, total, D / heads) → (1, total, heads, D / heads)."""
    if query.device.type == "cuda" and query.dtype != torch.float32:  # flash attention has no fp32
        from torch.nn.attention.varlen import varlen_attn

        flat = [x.squeeze(0).transpose(0, 1) for x in (query, key, value)]
        window = (-1, 0) if causal else (-1, -1)
        output = varlen_attn(
            *flat, packing.offsets, packing.offsets, packing.longest, packing.longest,
            scale=scaling, window_size=window,
        )  # fmt: skip
        return output.unsqueeze(0)
    lengths = packing.lengths.tolist()
    texts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
    done = [_attention(q, k, v, None, dropout, scaling, causal) for q, k, v in texts]
    return torch.cat(done, dim=1)


@cache
def _register_attention() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface  # not needed for images
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)  # for a model called as a whole


def _forward(self: nn.Dropout, x: Tensor) -> Tensor:
    return dropout(x, self.p) if self.training else x


@contextmanager
def faster_operations(
    model: nn.Module, enabled: bool = True, packed: bool = False
) -> Iterator[None]:
    """Use this module's dropout and attention inside the block; the model is left as it was.

    Args:
        model: any model; attention is replaced in models of transformers that use "sdpa".
        enabled: False, or a model that is not on a CPU, changes nothing.
        packed: the model will be given packed texts, for which attention is always replaced.
    """
    enabled = enabled and next(model.parameters()).device.type == "cpu"
    drops = [m for m in model.modules() if enabled and type(m) is nn.Dropout]
    enabled = enabled or packed
    found = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
    configs = [
        c for c in found.values() if enabled and getattr(c, "_attn_implementation", "") == "sdpa"
    ]
    if configs:
        _register_attention()
    try:
        for drop in drops:
            drop.forward = MethodType(_forward, drop)  # type: ignore[method-assign]
        for config in configs:
            config._attn_implementation = NAME
        yield
    finally:
        for drop in drops:
            del drop.forward
        for config in configs:
            config._attn_implementation = "sdpa"
