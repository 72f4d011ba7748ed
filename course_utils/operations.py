"""The core's own dropout, attention and convolution: torch's operations, made faster on a CPU.

torch draws a 53-bit random number for each value that dropout looks at, in one thread; that is a
sixth of the time of a training step. Sixteen bits are enough: four values share one 64-bit draw.
Attention with dropout is written out here, because on a CPU torch's fused one does not know dropout
and its other one computes in fp32 whatever the precision asked for.

A convolution whose maps have shrunk to a few positions has more weights than inputs: most of its
time, torch's kernel rearranges them. There it is one matrix product on the weights as they lie.

Attention also knows packed texts; on a GPU those go to torch's attention for texts of different
lengths, which has no dropout of attention weights.

`faster_operations` puts them into a model for the length of a `with` block.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils.packing import Packing

NAME = "course"  # of our attention among those of transformers
FEW_POSITIONS = 4  # up to so many in a map, a convolution is quicker as one product (measured)
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


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:  # fmt: skip
    """As `torch.nn.functional.conv2d`, by one matrix product.

    Args:
        x: (B, I, H, W).
        weight: (O, I, h, w), its channels last in memory (otherwise it is copied).
        bias: (O,).

    Returns:
        (B, O, H', W'), its channels last in memory.
    """
    (height, width), (down, right) = weight.shape[2:], padding
    image = F.pad(x.permute(0, 2, 3, 1), (0, 0, right, right, down, down))
    windows = image.unfold(1, height, stride[0]).unfold(2, width, stride[1])
    rows = windows.permute(0, 1, 2, 4, 5, 3).flatten(3)  # (B, H', W', h · w · I)
    return F.linear(rows, weight.permute(0, 2, 3, 1).flatten(1), bias).permute(0, 3, 1, 2)


@cache
def _register_attention() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface  # not needed for images
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)  # for a model called as a whole


def _drop(self: nn.Dropout, x: Tensor) -> Tensor:
    return dropout(x, self.p) if self.training else x


def _convolve(self: nn.Conv2d, x: Tensor) -> Tensor:
    positions = math.prod(
        (size + 2 * int(pad) - kernel) // step + 1
        for size, pad, kernel, step in zip(
            x.shape[-2:], self.padding, self.kernel_size, self.stride, strict=True
        )
    )
    last = x.ndim == 4 and self.weight.is_contiguous(memory_format=torch.channels_last)
    if last and 0 < positions <= FEW_POSITIONS:
        return convolution(x, self.weight, self.bias, self.stride, self.padding)  # type: ignore[arg-type]
    return nn.Conv2d.forward(self, x)


def _replacement(module: nn.Module) -> Callable | None:
    """Our forward for a module of torch, if we have one."""
    if type(module) is nn.Dropout:
        return _drop
    if type(module) is nn.Conv2d and module.kernel_size != (1, 1):
        plain = module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
        return _convolve if plain and not isinstance(module.padding, str) else None
    return None


@contextmanager
def faster_operations(
    model: nn.Module, enabled: bool = True, packed: bool = False
) -> Iterator[None]:
    """Use this module's operations inside the block; the model is left as it was.

    Args:
        model: any model; attention is replaced in models of transformers that use "sdpa".
        enabled: False, or a model that is not on a CPU, changes nothing.
        packed: the model will be given packed texts, for which attention is always replaced.
    """
    enabled = enabled and next(model.parameters()).device.type == "cpu"
    replaced = [(m, own) for m in model.modules() if enabled and (own := _replacement(m))]
    enabled = enabled or packed
    found = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
    configs = [
        c for c in found.values() if enabled and getattr(c, "_attn_implementation", "") == "sdpa"
    ]
    if configs:
        _register_attention()
    try:
        for module, own in replaced:
            module.forward = MethodType(own, module)  # type: ignore[method-assign]
        for config in configs:
            config._attn_implementation = NAME
        yield
    finally:
        for module, _ in replaced:
            del module.forward
        for config in configs:
            config._attn_implementation = "sdpa"
