"""The frozen-prefix cache: run the frozen stages once, keep their output, train only the rest.

Exact: a frozen prefix without dropout, on inputs that are not augmented, gives the same output
in every epoch. Feature extraction and the tuning of the last stages then cost a fraction.

Shapes: N examples, T_i tokens of text i, D features.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from course_utils.batches import Batch, Batches
from course_utils.device import Compute
from course_utils.stage import Stage, run_stages


class CachedBatches:
    """The same batches as `source` gives, with the prefix's output as inputs.

    Args:
        source: batches of raw inputs, without augmentation.
        prefix: the frozen stages, in eval mode.
        compute: device and precision.
    """

    def __init__(self, source: Batches, prefix: Sequence[Stage], compute: Compute):
        self.source, self.lengths = source, source.lengths
        # (N, …) where every example has the same shape; otherwise N tensors (T_i, D).
        self.outputs: Tensor | list[Tensor] = self._run(prefix, compute)

    def __len__(self) -> int:
        return len(self.source)

    @torch.no_grad()
    def _run(self, prefix: Sequence[Stage], compute: Compute) -> Tensor | list[Tensor]:
        rows: list[Tensor] = [torch.empty(0)] * len(self.source.examples)
        per_token = False
        for batch in self.source.epoch():
            with compute.autocast():
                output = run_stages(prefix, batch.inputs, batch.mask)
            per_token = self.lengths is not None and output.ndim == 3
            for row, index in zip(output, batch.indices.tolist(), strict=True):
                length = len(row) if self.lengths is None or not per_token else self.lengths[index]
                rows[index] = row[:length].clone()
        return rows if per_token else torch.stack(rows)

    def order(self, generator: torch.Generator | None = None) -> list[Tensor]:
        """Which examples form each batch: the same as in `source`."""
        return self.source.order(generator)

    def epoch(self, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield each example once, in the order in which `source` would."""
        return map(self.batch, self.order(generator))

    def batch(self, indices: Tensor) -> Batch:
        labels = self.source.labels[indices]
        if isinstance(self.outputs, Tensor) or self.lengths is None:
            return Batch(self.outputs[indices], None, labels, indices)
        lengths = self.lengths[indices]
        inputs = pad_sequence([self.outputs[i] for i in indices.tolist()], batch_first=True)
        mask = None
        if not bool((lengths == lengths[0]).all()):
            mask = (torch.arange(inputs.shape[1]) < lengths[:, None]).to(inputs.device)
        return Batch(inputs, mask, labels, indices)

    def augmented(self, batch: Batch) -> Batch:
        return batch
