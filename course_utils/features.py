"""What a model computes on the way: the output of any stage, for a whole set of examples."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_utils.batches import Batches
from course_utils.data import Examples, tokenize_texts
from course_utils.device import choose_compute
from course_utils.errors import CourseError
from course_utils.stage import inference, stages


def embed(
    model: nn.Module, examples: Examples, last_stage: str | None = None, batch_size: int = 64
) -> Tensor:
    """One feature vector an example, as a stage gives it.

    Args:
        model: any model that `stages` knows; left in eval mode.
        examples: texts (tokenized or not) or images.
        last_stage: the stage whose output is wanted; None is the last one before the head.
        batch_size: examples at a time.

    Returns:
        (n, D) float32 on the CPU, in the order of the examples. Outputs with more dimensions
        are averaged: over the tokens of a text, over the positions of an image.
    """
    wanted = stages(model)[-2].name if last_stage is None else last_stage
    return embed_stages(model, examples, [wanted], batch_size)[wanted]


def embed_stages(
    model: nn.Module, examples: Examples, wanted: Sequence[str], batch_size: int = 64
) -> dict[str, Tensor]:
    """What `embed` gives, for several stages in one pass through the model."""
    parts = stages(model)
    names = [part.name for part in parts]
    if unknown := [name for name in wanted if name not in names]:
        raise CourseError(f"there is no stage {unknown[0]!r}; the stages are {', '.join(names)}")
    used = parts[: 1 + max(map(names.index, wanted), default=-1)]
    if isinstance(examples.inputs, list):
        texts = tokenize_texts(examples.inputs, model.tokenizer)
        examples = Examples(texts, examples.labels)
    compute = choose_compute()
    model.to(compute.device)
    source = Batches(examples, batch_size, compute.device, getattr(model, "pad_id", 0))
    outputs: dict[str, list[Tensor]] = {name: [] for name in wanted}
    positions = []
    with inference(parts, compute):
        for batch in source.epoch():
            output = batch.inputs
            for part in used:
                output = part.run(output, batch.mask)
                if part.name in outputs:
                    outputs[part.name].append(_average(output.float(), batch.mask).cpu())
            positions.append(batch.indices)
    order = torch.cat(positions).argsort()
    return {name: torch.cat(found)[order] for name, found in outputs.items()}


def _average(output: Tensor, mask: Tensor | None) -> Tensor:
    if output.ndim == 4:  # (B, C, H, W)
        return output.mean((2, 3))
    if output.ndim == 3 and mask is not None:  # (B, T, D) with padding
        return (output * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    return output.mean(1) if output.ndim == 3 else output
