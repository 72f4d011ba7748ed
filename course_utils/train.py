"""The training core: `fit`, its step, and `evaluate`.

`fit` takes a model, a task and a recipe, and runs one visible loop. It is deterministic for a
seed, stops at a loss that is not finite, survives running out of GPU memory by cutting the
batch into micro-batches, and, given a checkpoint file, resumes to the same weights bit for bit.
"""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils import checkpoint as checkpoints
from course_utils import parallel
from course_utils.batches import Batch, Batches
from course_utils.data import IGNORED, Examples, Task, TokenizedTexts
from course_utils.device import (
    Compute,
    choose_compute,
    keep_freed_memory,
    seed_everything,
    stopwatch,
)
from course_utils.errors import CourseError
from course_utils.history import Epoch, Evaluation, History, Score
from course_utils.live_rows import live_rows
from course_utils.models import TextClassifier, TextTagger
from course_utils.operations import faster_operations
from course_utils.optim import build_optimizer, schedule_factor, set_learning_rates
from course_utils.parallel import Replicas
from course_utils.prefix_cache import CachedBatches
from course_utils.progress import Progress
from course_utils.recipes import Recipe
from course_utils.run_state import RunState
from course_utils.stage import (
    Stage,
    freeze_half,
    inference,
    num_frozen_prefix,
    run_stages,
    set_mode,
    stages,
    train_from,
)

LOG_EVERY = 20  # steps between two looks at the loss, each of which waits for the device
EVALUATION_BATCH = 64


@dataclass(frozen=True)
class Saving:
    """Where checkpoints go, and after how many steps."""

    path: str | os.PathLike
    every: int

    def save(self, run: RunState) -> None:
        """Save a run that is sound; of several processes only the first one writes."""
        run.check_loss()
        state = run.state()
        if parallel.rank() == 0:
            checkpoints.save(state, self.path)


def fit(
    model: nn.Module,
    data: Task,
    recipe: Recipe,
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 100,
    silent: bool = False,
    shard: bool = False,
) -> History:
    """Fine-tune a model in place.

    Under `torchrun` every process calls this with the same arguments and takes its share of each
    batch; the batch size is that of all processes together.

    Args:
        model: any model that `stages` knows.
        data: its task; texts must be tokenized (`data.tokenize`).
        recipe: see `recipes`.
        seed: decides order, dropout and augmentation.
        on_epoch: called after each epoch with its record, for live plots.
        checkpoint: a file; if it exists the run goes on from there, and it is kept up to date.
        checkpoint_every: steps between two checkpoints.
        silent: no progress bar.
        shard: divide weights, gradients and moments among the processes (FSDP2).

    Raises:
        NonFiniteLoss: the loss became NaN or infinite; the message names the steps and causes.
        CheckpointError: the checkpoint is damaged or belongs to another run.
    """
    if isinstance(data.train.inputs, list):
        raise CourseError("the texts are not tokenized yet: call tokenize(task, model.tokenizer)")
    if checkpoint_every < 1:
        raise CourseError(f"checkpoint_every is {checkpoint_every}; it must be at least 1 step")
    if shard and (recipe.unfreeze_every or recipe.half_every or checkpoint is not None):
        raise CourseError(
            "shard=True knows neither unfreeze_every, half_every nor checkpoints yet: use DDP"
        )
    if recipe.pack and not isinstance(model, TextClassifier | TextTagger):
        raise CourseError(
            "pack=True needs a text classifier or tagger of the course (load_text_model, "
            f"load_tagger), which know packed texts; this is a {type(model).__name__}"
        )
    keep_freed_memory()
    parallel.join()
    seed_everything(seed + 1_000_003 * parallel.rank())
    compute = choose_compute(recipe.precision)
    model.to(compute.device)
    phases = plan_phases(stages(model), recipe)
    first = min(phase.boundary for phase in phases)
    only_live = recipe.live_rows and first == 0 and not shard
    with (
        parallel.sharded_copy(model, shard) as worker,
        live_rows(worker, data.train.inputs, only_live),
        faster_operations(worker, recipe.faster_operations, recipe.pack),
    ):
        root = None
        if shard:
            train_from(stages(worker), first)
            root = parallel.shard(stages(worker)[first:])
        parts = stages(worker)
        optimizer = build_optimizer(parts[first:], recipe)
        run = RunState(worker, optimizer, recipe, seed, data.train.fingerprint())
        if checkpoint is not None and Path(checkpoint).exists():
            run.restore(checkpoints.load(checkpoint))
        save_to = None if checkpoint is None else Saving(checkpoint, checkpoint_every)
        train(parts, data, run, phases, compute, root, on_epoch, save_to, silent)
    parts = stages(model)
    begin_phase(parts, phases[run.epoch - 1], seed)
    set_mode(parts, False)
    return run.summary(parts)


def train(
    parts: Sequence[Stage], data: Task, run: RunState, phases: list["Phase"], compute: Compute,
    root: nn.Module | None, on_epoch: Callable[[Epoch], None] | None, save_to: Saving | None,
    silent: bool,
) -> None:  # fmt: skip
    """The loop: epochs of steps, from where `run` stands to its end."""
    recipe = run.recipe
    train_data = _batches(run.model, data.train, recipe.batch_size, compute, recipe)
    valid_data = _batches(run.model, data.valid, EVALUATION_BATCH, compute)
    total_steps = recipe.epochs * len(train_data)
    bar = Progress(total_steps, recipe.name, silent or parallel.rank() > 0)
    phase = None
    try:
        while run.epoch < recipe.epochs and not run.stopped:
            with stopwatch() as watch:
                if phases[run.epoch] != phase:
                    phase = phases[run.epoch]
                    boundary = begin_phase(parts, phase, run.seed)
                    epochs = sum(boundary == other.boundary for other in phases)
                    with_cache = pays_to_cache(recipe, boundary, epochs)
                    train_source, trained = cached(train_data, parts, boundary, compute, with_cache)
                    forward = Replicas(trained, root)
                    run.buffers = [b for part in trained for m in part.modules for b in m.buffers()]
                    if recipe.validate:
                        valid_source, rest = cached(
                            valid_data, parts, boundary, compute, with_cache
                        )
                set_mode(parts, True)
                order = train_source.order(run.generator())
                for indices in order[run.step :]:  # after a resumption, those not yet done
                    done = run.epoch * len(order) + run.step
                    set_learning_rates(run.optimizer, schedule_factor(done / total_steps, recipe))
                    run.begin_step()
                    batch = train_source.augmented(parallel.own_share(train_source, indices))
                    run.add(*train_step(forward, batch, run, compute))
                    last = run.step == len(order)
                    # once in a while: look at the loss (this waits for the device)
                    if run.step % LOG_EVERY == 0 or last:
                        loss = run.check_loss()
                        bar.point("training loss", done + 1, loss)
                        if not last:
                            bar.update(done + 1, f"loss {loss:.3f}")
                    # once in a while: save, so that no more than this can be lost
                    if save_to is not None and run.step % save_to.every == 0 and not last:
                        save_to.save(run)
            valid = _score(rest, valid_source, compute) if recipe.validate else None
            run.finish_epoch(valid, watch.seconds, parts[boundary].name)
            note = f"loss {run.history[-1].train_loss:.3f}"
            if valid is not None:
                bar.point("validation loss", run.epoch * len(order), valid.loss)
                note += f", validation {valid.loss:.3f}"
            bar.update(run.epoch * len(order), note)
            if on_epoch is not None:
                on_epoch(run.history[-1])
            if save_to is not None:
                save_to.save(run)
    except KeyboardInterrupt:
        # (of several processes, some may be further than others: then the last checkpoint stays)
        if save_to is not None and not run.changing and parallel.count() == 1:
            run.rewind_step()
            save_to.save(run)
        raise
    run.restore_best()


def train_step(
    forward: Replicas, batch: Batch, run: RunState, compute: Compute
) -> tuple[Tensor, Tensor]:
    """One step of the optimizer, in as many micro-batches as memory asks for.

    Returns:
        The summed loss and the number of labels that it is a sum over, both on the device.
    """
    while True:
        try:
            loss, count = gradients(forward, batch, run.recipe, compute, run.micro_batches)
            break
        except torch.OutOfMemoryError:
            if parallel.count() > 1:  # the others would wait for this one for ever
                raise
            run.rewind_step()
            run.halve_micro_batch(len(batch))
    if run.recipe.max_grad_norm:
        nn.utils.clip_grad_norm_(forward.trained_weights(), run.recipe.max_grad_norm)
    run.changing = True  # until `add` has counted the step
    run.optimizer.step()
    return loss, count


def gradients(
    forward: Replicas, batch: Batch, recipe: Recipe, compute: Compute, micro_batches: int
) -> tuple[Tensor, Tensor]:
    """Leave in the weights the gradient of the batch's mean loss; return its sum and count.

    The mean is over all labels of the batch, whatever the micro-batches and the processes: unequal
    ones add up to exactly the gradient of the whole.
    """
    for weight in forward.trained_weights():
        weight.grad = None
    count = parallel.total((batch.labels != IGNORED).sum())
    total = torch.zeros((), device=batch.labels.device)
    # equally many in every process: they bring the weights together at the same moments
    micros = batch.split(min(micro_batches, parallel.smallest(len(batch))))
    for micro in micros:
        with nullcontext() if micro is micros[-1] else forward.gradients_stay_here():
            with compute.autocast():
                logits = forward(micro.inputs, micro.mask)
            loss = loss_sum(logits, micro.labels, recipe.label_smoothing)
            # torch takes the mean over the processes, but we want the sum
            (loss * parallel.count() / count).backward()
            total += loss.detach()
    return parallel.total(total), count


def loss_sum(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed over all labels that count; logits (…, C), labels (…)."""
    return F.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), reduction="sum",
        ignore_index=IGNORED, label_smoothing=label_smoothing,
    )  # fmt: skip


class Phase(NamedTuple):
    """Epochs in which the same weights are trained."""

    boundary: int
    """The first trained stage, as an index."""
    round: int = -1
    """Of half fine-tuning: its number decides which half; -1: all weights."""


def plan_phases(parts: Sequence[Stage], recipe: Recipe) -> list[Phase]:
    """What is trained in each epoch."""
    start = train_from(parts, recipe.train_from)
    with_weights = [*(i for i in range(start) if parts[i].parameters), start]
    every, half = recipe.unfreeze_every, recipe.half_every
    last = len(with_weights) - 1
    return [
        Phase(
            with_weights[max(last - epoch // every, 0) if every else last],
            epoch // half if half else -1,
        )
        for epoch in range(recipe.epochs)
    ]


def begin_phase(parts: Sequence[Stage], phase: Phase, seed: int) -> int:
    """Freeze and unfreeze what the phase says; returns its boundary."""
    train_from(parts, phase.boundary)
    if phase.round >= 0:
        source = torch.Generator().manual_seed(seed * 1_000_003 + phase.round)
        freeze_half(parts[phase.boundary :], source)
    return phase.boundary


def pays_to_cache(recipe: Recipe, boundary: int, epochs: int) -> bool:
    """Whether to run the frozen prefix once and keep what it gives.

    It pays where there is more than one epoch at this boundary.
    """
    return recipe.cache_prefix and boundary > 0 and epochs > 1


def cached(
    source: Batches, parts: Sequence[Stage], boundary: int, compute: Compute, with_cache: bool
) -> tuple[Batches | CachedBatches, Sequence[Stage]]:
    """The batches to use and the stages that they still have to pass through.

    The cache is exact only for inputs that are not augmented.
    """
    if not with_cache or source.augment is not None:
        return source, parts
    return CachedBatches(source, parts[:boundary], compute), parts[boundary:]


def evaluate(
    model: nn.Module, examples: Examples, batch_size: int = EVALUATION_BATCH,
    precision: str = "auto",
) -> Evaluation:  # fmt: skip
    """Measure a model on examples and keep what it predicts; leaves it in eval mode.

    Args:
        model: any model that `stages` knows.
        examples: tokenized texts or images, with labels.
    """
    kept: list[tuple[int, Tensor, Tensor]] = []

    def keep(batch: Batch, logits: Tensor) -> None:
        own_labels = isinstance(examples.labels, TokenizedTexts)  # one a token
        for i, output, label in zip(batch.indices.tolist(), logits, batch.labels, strict=True):
            counts = label != IGNORED
            kept.append((i, output[counts], label[counts]) if own_labels else (i, output, label))

    result = score(model, examples, batch_size, precision, keep)
    kept.sort(key=lambda row: row[0])
    _, outputs, labels = zip(*kept, strict=True)
    if isinstance(examples.labels, TokenizedTexts):
        logits, right = torch.cat(outputs), torch.cat(labels)
    else:  # those over the places in a text are as long as the text
        longest = max(output.shape[-1] for output in outputs)
        padded = [F.pad(x, (0, longest - x.shape[-1]), value=-math.inf) for x in outputs]
        logits, right = torch.stack(padded), torch.stack(labels)
    return Evaluation(result.loss, result.accuracy, logits.cpu(), right.cpu())


def score(
    model: nn.Module, examples: Examples, batch_size: int = EVALUATION_BATCH,
    precision: str = "auto", look: Callable[[Batch, Tensor], None] | None = None,
) -> Score:  # fmt: skip
    """Only the loss and the accuracy: for a language model, whose outputs are too many to keep.

    Args:
        model: any model that `stages` knows; left in eval mode.
        examples: tokenized texts or images, with labels.
        look: called with each batch and its logits.
    """
    if len(examples) == 0:
        raise CourseError("there is no example to evaluate on: the split is empty")
    if isinstance(examples.inputs, list):
        raise CourseError("the texts are not tokenized yet: call tokenize(task, model.tokenizer)")
    compute = choose_compute(precision)
    model.to(compute.device)
    parts, source = stages(model), _batches(model, examples, batch_size, compute)
    if num_frozen_prefix(parts) == len(parts) - 1:  # a frozen backbone's features serve every head
        features, head = cached(source, parts, len(parts) - 1, compute, True)
        return _score(head, features, compute, look)
    return _score(parts, source, compute, look)


def _score(
    parts: Sequence[Stage], source: Batches | CachedBatches, compute: Compute,
    look: Callable[[Batch, Tensor], None] | None = None,
) -> Score:  # fmt: skip
    loss = torch.zeros((), device=compute.device)
    right, count = torch.zeros(2, dtype=torch.long, device=compute.device)
    with inference(parts, compute):
        for batch in source.epoch():
            logits = run_stages(parts, batch.inputs, batch.mask).float()
            loss += loss_sum(logits, batch.labels)
            right += (logits.argmax(-1) == batch.labels).sum()  # never where the label is IGNORED
            count += (batch.labels != IGNORED).sum()
            if look is not None:
                look(batch, logits)
    return Score(loss.item() / int(count), int(right) / int(count), int(count))


def _batches(
    model: nn.Module, examples: Examples, batch_size: int, compute: Compute,
    recipe: Recipe | None = None,
) -> Batches:  # fmt: skip
    """Batches for evaluation, or with a recipe for training."""
    return Batches(
        examples, batch_size, compute.device, getattr(model, "pad_id", 0),
        recipe.augment if recipe else None, recipe is None or recipe.group_by_length,
        recipe is not None and recipe.pack,
    )  # fmt: skip
