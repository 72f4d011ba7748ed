"""Texts laid end to end, so that no padding is computed: (1, total tokens) instead of (B, T).

Everything but attention, positions and pooling looks at one token at a time and need not know. A
`Packing` takes the place of the mask and tells these three where a text begins and ends.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from course_utils.data import TokenizedTexts


@dataclass(frozen=True)
class Packing:
    """Where each of B texts lies among the tokens.

    Attributes:
        offsets: text i is tokens offsets[i] to offsets[i + 1]; int32, shape (B + 1,).
        longest: tokens of the longest text.
    """

    offsets: Tensor
    longest: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Tokens of each text, (B,)."""
        return self.offsets.diff()

    def positions(self) -> Tensor:
        """The position of each token within its text, (1, total)."""
        starts = self.offsets[:-1].repeat_interleave(self.lengths)
        return (torch.arange(len(starts), device=starts.device) - starts).unsqueeze(0)

    def mean(self, x: Tensor) -> Tensor:
        """(1, total, D) → (B, D): the mean over each text's tokens."""
        text = torch.arange(len(self), device=x.device).repeat_interleave(self.lengths)
        sums = torch.zeros(len(self), x.shape[-1], dtype=x.dtype, device=x.device)
        return sums.index_add(0, text, x[0]) / self.lengths.unsqueeze(1)

    def first(self, x: Tensor) -> Tensor:
        """(1, total, D) → (B, D): each text's first token."""
        return x[0, self.offsets[:-1]]

    def last(self, x: Tensor) -> Tensor:
        """(1, total, D) → (B, D): each text's last token."""
        return x[0, self.offsets[1:] - 1]

    def slice(self, start: int, end: int) -> "tuple[slice, Packing]":
        """The tokens of texts `start` to `end`, and their own packing."""
        offsets = self.offsets[start : end + 1]
        tokens = slice(int(offsets[0]), int(offsets[-1]))
        return tokens, Packing(offsets - offsets[0], self.longest)


def pack_texts(texts: TokenizedTexts, indices: Tensor) -> tuple[Tensor, Packing]:
    """Return ids (1, total) and where each text lies."""
    rows = [texts[int(i)] for i in indices]
    lengths = torch.tensor([0, *map(len, rows)], dtype=torch.int32)
    packing = Packing(lengths.cumsum(0, dtype=torch.int32), int(lengths.max()))
    return torch.cat(rows).long().unsqueeze(0), packing
