"""Batches: which examples go together, and how they become tensors on the device.

Text: texts of nearly the same length share a batch, so that hardly any padding is computed.
Images: all live on the device as uint8 and are augmented a whole batch at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from course_utils.data import IGNORED, Examples, TokenizedTexts
from course_utils.packing import Packing, pack_texts

POOL = 50  # batches sorted by length together: enough for little padding, random enough to train

Augment = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Batch:
    """What a stage list takes.

    Attributes:
        inputs: token ids (B, T), images (B, 3, H, W), or the output of a frozen prefix.
        mask: (B, T), true at real tokens; None if nothing is padding; or where each text lies among
            packed tokens (1, total).
        labels: (B,), (B, k), or one a token: (B, T) filled up with `IGNORED`, packed (1, total).
        indices: (B,) positions in the data that the batch was made of.
    """

    inputs: Tensor
    mask: Tensor | Packing | None
    labels: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def split(self, parts: int) -> "list[Batch]":
        """Cut into so many micro-batches (at most one an example) of nearly equal size."""
        pieces = torch.arange(len(self)).tensor_split(min(parts, len(self)))
        return [self._part(int(rows[0]), int(rows[-1]) + 1) for rows in pieces]

    def _part(self, start: int, end: int) -> "Batch":
        if isinstance(self.mask, Packing):
            tokens, packing = self.mask.slice(start, end)
            a_token = self.labels.ndim == 2
            labels = self.labels[:, tokens] if a_token else self.labels[start:end]
            return Batch(self.inputs[:, tokens], packing, labels, self.indices[start:end])
        mask = None if self.mask is None else self.mask[start:end]
        own = slice(start, end)
        return Batch(self.inputs[own], mask, self.labels[own], self.indices[own])


def epoch_order(
    lengths: Tensor | None, count: int, batch_size: int, generator: torch.Generator | None
) -> list[Tensor]:
    """Divide `count` examples into batches; each example is in exactly one.

    Args:
        lengths: tokens of each text, to put like with like; None for images.
        generator: for a random order; None for a fixed order that needs the least padding.

    Returns:
        Index tensors, all of `batch_size` but the last in the list of sizes.
    """
    if generator is None:
        order = torch.arange(count) if lengths is None else lengths.argsort(stable=True)
        return list(order.split(batch_size))
    order = torch.randperm(count, generator=generator)
    if lengths is None:
        return list(order.split(batch_size))
    batches: list[Tensor] = []
    for pool in order.split(POOL * batch_size):
        batches += pool[lengths[pool].argsort(stable=True)].split(batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator)]


def pad_texts(texts: TokenizedTexts, indices: Tensor, pad_id: int) -> tuple[Tensor, Tensor | None]:
    """Return ids (B, T) padded on the right, and the mask, None where nothing was padded."""
    rows = [texts[int(i)] for i in indices]
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id).long()
    if bool((lengths == lengths[0]).all()):
        return ids, None
    return ids, torch.arange(ids.shape[1]) < lengths[:, None]


class Batches:
    """Batches of a set of examples, anew for each epoch.

    Args:
        examples: tokenized texts or uint8 images, with labels.
        batch_size: examples a batch.
        device: where the batches are needed. Images are moved there once.
        pad_id: the token id that fills short texts up.
        augment: a function of a whole uint8 image batch, such as those of
            torchvision.transforms.v2; used for training only.
        group_by_length: put texts of nearly the same length together.
        pack: lay texts end to end instead of padding them.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        device: torch.device,
        pad_id: int = 0,
        augment: Augment | None = None,
        group_by_length: bool = True,
        pack: bool = False,
    ):
        self.examples, self.batch_size, self.device = examples, batch_size, device
        self.pad_id, self.augment, self.group_by_length = pad_id, augment, group_by_length
        self.pack = pack
        inputs = examples.inputs
        self.texts = inputs if isinstance(inputs, TokenizedTexts) else None
        self.lengths = None if self.texts is None else self.texts.lengths
        self.images = inputs.to(device) if isinstance(inputs, Tensor) else None
        labels = examples.labels
        self.token_labels = labels if isinstance(labels, TokenizedTexts) else None
        self.labels = None if isinstance(labels, TokenizedTexts) else labels.to(device)

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch_size)

    def order(self, generator: torch.Generator | None = None) -> list[Tensor]:
        """Which examples form each batch of an epoch; see `epoch_order`."""
        lengths = self.lengths if self.group_by_length else None
        return epoch_order(lengths, len(self.examples), self.batch_size, generator)

    def epoch(self, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield each example once: in random order, or without a generator in a fixed one."""
        return map(self.batch, self.order(generator))

    def batch(self, indices: Tensor) -> Batch:
        """The batch of these examples, without augmentation."""
        if self.texts is not None and self.pack:
            ids, packing = pack_texts(self.texts, indices)
            packing = Packing(packing.offsets.to(self.device), packing.longest)
            return Batch(ids.to(self.device), packing, self.labels_of(indices), indices)
        if self.texts is not None:
            ids, mask = pad_texts(self.texts, indices, self.pad_id)
            mask = mask if mask is None else mask.to(self.device)
            return Batch(ids.to(self.device), mask, self.labels_of(indices), indices)
        assert self.images is not None
        return Batch(self.images[indices], None, self.labels_of(indices), indices)

    def labels_of(self, indices: Tensor) -> Tensor:
        """The labels of these examples, as `Batch` has them."""
        if self.token_labels is None:
            assert self.labels is not None
            return self.labels[indices]
        if self.pack:
            return pack_texts(self.token_labels, indices)[0].to(self.device)
        return pad_texts(self.token_labels, indices, IGNORED)[0].to(self.device)

    def augmented(self, batch: Batch) -> Batch:
        """The same batch with its images changed at random."""
        return batch if self.augment is None else replace(batch, inputs=self.augment(batch.inputs))
