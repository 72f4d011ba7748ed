"""The training core: `fit`, its step, and `evaluate`.

`fit` takes a model, a task and a recipe, and runs one visible loop. It is deterministic for a
seed, stops at a loss that is not finite, survives running out of GPU memory by cutting the
batch into micro-batches, and, given a checkpoint file, resumes to the same weights bit for bit.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils import checkpoint as checkpoints
from course_utils.batches import Batch, Batches
from course_utils.data import Examples, Task
from course_utils.device import (
    Compute,
    choose_compute,
    keep_freed_memory,
    seed_everything,
    stopwatch,
)
from course_utils.errors import CourseError
from course_utils.history import Epoch, Evaluation, History
from course_utils.optim import build_optimizer, schedule_factor, set_learning_rates
from course_utils.prefix_cache import CachedBatches
from course_utils.progress import Progress
from course_utils.recipes import Recipe
from course_utils.run_state import IGNORED, RunState
from course_utils.stage import Stage, run_stages, set_mode, stages, train_from

LOG_EVERY = 20  # steps between two looks at the loss, each of which waits for the device
EVALUATION_BATCH = 64


def fit(
    model: nn.Module,
    data: Task,
    recipe: Recipe,
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 100,
    silent: bool = False,
) -> History:
    """Fine-tune a model in place.

    Args:
        model: any model that `stages` knows.
        data: its task; texts must be tokenized (`data.tokenize`).
        recipe: see `recipes`.
        seed: decides order, dropout and augmentation.
        on_epoch: called after each epoch with its record, for live plots.
        checkpoint: a file; if it exists the run goes on from there, and it is kept up to date.
        checkpoint_every: steps between two checkpoints.
        silent: no progress bar.

    Raises:
        NonFiniteLoss: the loss became NaN or infinite; the message names the steps and causes.
        CheckpointError: the checkpoint is damaged or belongs to another run.
    """
    if isinstance(data.train.inputs, list):
        raise CourseError("the texts are not tokenized yet: call tokenize(task, model.tokenizer)")
    keep_freed_memory()
    seed_everything(seed)
    compute = choose_compute(recipe.precision)
    model.to(compute.device)
    parts = stages(model)
    boundaries = plan_boundaries(parts, recipe)
    optimizer = build_optimizer(parts[min(boundaries) :], recipe)
    train_data = _batches(model, data.train, recipe.batch_size, compute, recipe.augment)
    valid_data = _batches(model, data.valid, EVALUATION_BATCH, compute)
    run = RunState(model, optimizer, recipe, seed, len(data.train))
    if checkpoint is not None and Path(checkpoint).exists():
        run.restore(checkpoints.load(checkpoint))

    total_steps = recipe.epochs * len(train_data)
    bar = Progress(total_steps, recipe.name, silent)
    boundary = -1  # none yet
    try:
        while run.epoch < recipe.epochs and not run.stopped:
            with stopwatch() as watch:
                if boundaries[run.epoch] != boundary:
                    boundary = boundaries[run.epoch]
                    train_from(parts, boundary)
                    epochs_here = boundaries.count(boundary)
                    train_source, trained = cached(
                        train_data, parts, boundary, compute, recipe, epochs_here
                    )
                    valid_source, rest = cached(
                        valid_data, parts, boundary, compute, recipe, epochs_here
                    )
                set_mode(parts, True)
                order = train_source.order(run.generator())
                for indices in order[run.step :]:  # after a resumption, those not yet done
                    done = run.epoch * len(order) + run.step
                    set_learning_rates(optimizer, schedule_factor(done / total_steps, recipe))
                    run.begin_step()
                    batch = train_source.augmented(train_source.batch(indices))
                    loss, count = train_step(trained, batch, run, compute)
                    run.add(loss, count)
                    last = run.step == len(order)
                    # once in a while: look at the loss (this waits for the device)
                    if run.step % LOG_EVERY == 0 or last:
                        bar.update(done + 1, f"loss {run.check_loss():.3f}")
                    # once in a while: save, so that no more than this can be lost
                    if checkpoint is not None and run.step % checkpoint_every == 0 and not last:
                        checkpoints.save(run.state(), checkpoint)
            valid = _evaluate(rest, valid_source, compute) if recipe.validate else None
            run.finish_epoch(valid, watch.seconds, parts[boundary].name)
            if on_epoch is not None:
                on_epoch(run.history[-1])
            if checkpoint is not None:
                checkpoints.save(run.state(), checkpoint)
    except KeyboardInterrupt:
        if checkpoint is not None and not run.changing:
            run.rewind_step()
            checkpoints.save(run.state(), checkpoint)
        raise
    train_from(parts, boundaries[run.epoch - 1])  # also if there was nothing left to do
    run.restore_best()
    set_mode(parts, False)
    return run.summary(parts)


def train_step(
    parts: Sequence[Stage], batch: Batch, run: RunState, compute: Compute
) -> tuple[Tensor, Tensor]:
    """One step of the optimizer, in as many micro-batches as memory asks for.

    Returns:
        The summed loss and the number of labels that it is a sum over, both on the device.
    """
    while True:
        try:
            loss, count = gradients(parts, batch, run.recipe, compute, run.micro_batches)
            break
        except torch.OutOfMemoryError:
            run.rewind_step()
            run.halve_micro_batch(len(batch))
    if run.recipe.max_grad_norm:
        weights = [weight for part in parts for weight in part.parameters if weight.requires_grad]
        nn.utils.clip_grad_norm_(weights, run.recipe.max_grad_norm)
    run.changing = True  # until `add` has counted the step
    run.optimizer.step()
    return loss, count


def gradients(
    parts: Sequence[Stage], batch: Batch, recipe: Recipe, compute: Compute, micro_batches: int
) -> tuple[Tensor, Tensor]:
    """Leave in the weights the gradient of the batch's mean loss; return its sum and count.

    The mean is over all labels of the batch, whatever the micro-batches: unequal ones add up
    to exactly the gradient of the whole.
    """
    for part in parts:
        for weight in part.parameters:
            weight.grad = None
    count = (batch.labels != IGNORED).sum()
    total = torch.zeros((), device=batch.labels.device)
    for micro in batch.split(micro_batches):
        with compute.autocast():
            logits = run_stages(parts, micro.inputs, micro.mask)
        loss = loss_sum(logits, micro.labels, recipe.label_smoothing)
        (loss / count).backward()
        total += loss.detach()
    return total, count


def loss_sum(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed over all labels that count; logits (…, C), labels (…)."""
    return F.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), reduction="sum",
        ignore_index=IGNORED, label_smoothing=label_smoothing,
    )  # fmt: skip


def plan_boundaries(parts: Sequence[Stage], recipe: Recipe) -> list[int]:
    """The first trained stage of each epoch, as an index into `parts`."""
    start = train_from(parts, recipe.train_from)
    with_weights = [*(i for i in range(start) if parts[i].parameters), start]
    every = recipe.unfreeze_every
    moves = [epoch // every if every else 0 for epoch in range(recipe.epochs)]
    return [with_weights[max(len(with_weights) - 1 - move, 0)] for move in moves]


def cached(
    source: Batches, parts: Sequence[Stage], boundary: int, compute: Compute, recipe: Recipe,
    epochs: int,
) -> tuple[Batches | CachedBatches, Sequence[Stage]]:  # fmt: skip
    """The batches to use and the stages that they still have to pass through.

    The frozen prefix is run once and kept where that is exact (no augmentation) and pays (more
    than one epoch at this boundary).
    """
    if not recipe.cache_prefix or boundary == 0 or epochs < 2 or source.augment is not None:
        return source, parts
    set_mode(parts, False)
    return CachedBatches(source, parts[:boundary], compute), parts[boundary:]


def evaluate(
    model: nn.Module, examples: Examples, batch_size: int = EVALUATION_BATCH,
    precision: str = "auto",
) -> Evaluation:  # fmt: skip
    """Measure a model on examples; leaves it in eval mode.

    Args:
        model: any model that `stages` knows.
        examples: tokenized texts or images, with labels.
    """
    if len(examples) == 0:
        raise CourseError("there is no example to evaluate on: the split is empty")
    if isinstance(examples.inputs, list):
        raise CourseError("the texts are not tokenized yet: call tokenize(task, model.tokenizer)")
    compute = choose_compute(precision)
    model.to(compute.device)
    parts = stages(model)
    return _evaluate(parts, _batches(model, examples, batch_size, compute), compute)


@torch.no_grad()
def _evaluate(
    parts: Sequence[Stage], source: Batches | CachedBatches, compute: Compute
) -> Evaluation:
    set_mode(parts, False)
    loss = torch.zeros((), device=compute.device)
    outputs, positions, labels = [], [], []
    for batch in source.epoch():
        with compute.autocast():
            logits = run_stages(parts, batch.inputs, batch.mask).float()
        loss += loss_sum(logits, batch.labels)
        outputs.append(logits)
        positions.append(batch.indices)
        labels.append(batch.labels)
    back = torch.cat(positions).argsort()
    all_logits, all_labels = torch.cat(outputs).cpu()[back], torch.cat(labels).cpu()[back]
    right = (all_logits.argmax(1) == all_labels).double().mean().item()
    return Evaluation(loss.item() / len(all_labels), right, all_logits, all_labels)


def _batches(model: nn.Module, examples: Examples, batch_size: int, compute: Compute,
             augment: Callable[[Tensor], Tensor] | None = None) -> Batches:  # fmt: skip
    pad_id = getattr(model, "pad_id", 0)
    return Batches(examples, batch_size, compute.device, pad_id, augment)
