"""All that a training run is at one instant: what a checkpoint must hold to go on from there."""

import dataclasses
import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_utils import parallel
from course_utils.checkpoint import CheckpointError
from course_utils.device import peak_memory_mb
from course_utils.errors import CourseError
from course_utils.history import Epoch, History, Score
from course_utils.recipes import Recipe
from course_utils.stage import Stage, count_weights


class NonFiniteLoss(CourseError):
    """The loss became NaN or infinite."""


class RunState:
    """Position, sums and best weights of a run, next to its model and optimizer."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, seed: int,
        data: str,
    ):  # fmt: skip
        self.model, self.optimizer, self.recipe, self.seed = model, optimizer, recipe, seed
        self.identity = {
            **{f.name: _plain(getattr(recipe, f.name)) for f in dataclasses.fields(recipe)},
            "seed": seed,
            "training data": data,
            "number of processes": parallel.count(),
            "model": f"{type(model).__name__} with {sum(p.numel() for p in model.parameters())}"
            " weights",
        }
        self.buffers: list[Tensor] = []  # those that a step can change, in this phase
        device = next(model.parameters()).device
        self.epoch = self.step = 0  # step counts within the epoch
        self.loss = torch.zeros((), device=device)  # sums over this epoch
        self.count = torch.zeros((), dtype=torch.long, device=device)
        self.micro_batches = recipe.accumulate
        self.history: list[Epoch] = []
        self.best_epoch, self.best_loss = 0, math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.changing = False  # True while half changed, when an interruption must not save it
        # Random state and these buffers at the start of the step that is under way.
        self.step_start: tuple[Tensor, list[Tensor], list[Tensor]] | None = None

    @property
    def stopped(self) -> bool:
        """True once early stopping has run out of patience."""
        patience = self.recipe.patience
        return bool(patience) and len(self.history) - self.best_epoch >= patience

    def generator(self) -> torch.Generator:
        """The source of this epoch's order."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)

    def begin_step(self) -> None:
        """Note what a step changes on its way, so that one that did not end can be repeated.

        That is the state of the random numbers and the buffers (BatchNorm statistics); the
        weights change last.
        """
        self.step_start = (*_rng_state(), [buffer.clone() for buffer in self.buffers])

    @torch.no_grad()
    def rewind_step(self) -> None:
        """Go back to the start of the step that is under way, if there is one."""
        if self.step_start is None:
            return
        rng, cuda_rng, buffers = self.step_start
        _set_rng_state(rng, cuda_rng)
        for buffer, value in zip(self.buffers, buffers, strict=True):
            buffer.copy_(value)

    def add(self, loss: Tensor, count: Tensor) -> None:
        """Count a step that is done."""
        self.loss += loss
        self.count += count
        self.step += 1
        self.step_start = None
        self.changing = False

    def check_loss(self) -> float:
        """The epoch's mean loss so far; raises `NonFiniteLoss`."""
        mean = (self.loss / self.count).item() if self.step else 0.0
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        length = nn.utils.get_total_norm(trained)
        if not math.isfinite(mean) or not length.isfinite():
            rates = [group["lr"] for group in self.optimizer.param_groups]
            raise NonFiniteLoss(
                f"the loss became {mean} and the weights' length {length.item()} in epoch "
                f"{self.epoch + 1}, at step {self.step} or a few steps before, at a learning "
                f"rate of {max(rates):.1e}. Likely causes: the "
                "learning rate is too high (try a tenth of it), the warm-up is too short, or an "
                "input holds NaN or infinite values"
            )
        return mean

    def halve_micro_batch(self, batch_size: int) -> None:
        """After running out of memory: cut the batch into twice as many pieces."""
        if self.micro_batches >= batch_size:
            raise CourseError(
                "the GPU ran out of memory with a single example a micro-batch: shorten the texts "
                "(max_length), make the images smaller, train fewer stages or take a smaller model"
            )
        self.micro_batches = min(2 * self.micro_batches, batch_size)
        torch.cuda.empty_cache()
        print(
            f"The GPU ran out of memory: going on with {self.micro_batches} micro-batches a "
            f"step. The batch size stays {batch_size}, so the result does not change."
        )

    def finish_epoch(self, valid: Score | None, seconds: float, first_stage: str) -> None:
        self.changing = True
        train_loss = (self.loss / self.count).item() if self.step else math.nan
        self.epoch += 1
        nan = math.nan
        loss, accuracy = (valid.loss, valid.accuracy) if valid else (nan, nan)
        self.history.append(Epoch(self.epoch, train_loss, loss, accuracy, seconds, first_stage))
        if valid is None or loss < self.best_loss:
            self.best_epoch, self.best_loss = self.epoch, loss if valid else math.inf
            if self.recipe.keep_best:
                self.best_weights = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.step = 0
        self.loss, self.count = torch.zeros_like(self.loss), torch.zeros_like(self.count)
        self.changing = False

    def restore_best(self) -> None:
        """Put the best epoch's weights back, if the recipe keeps them."""
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)

    def summary(self, parts: Sequence[Stage]) -> History:
        ends_with = self.best_epoch if self.recipe.keep_best else len(self.history)
        return History(
            self.recipe.name, self.history, *count_weights(parts), peak_memory_mb(), ends_with
        )

    def state(self) -> dict:
        """Everything, as tensors and plain values."""
        return {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": (self.epoch, self.step, self.micro_batches),
            "sums": (self.loss, self.count),
            "history": [dataclasses.asdict(epoch) for epoch in self.history],
            "best": (self.best_epoch, self.best_loss, self.best_weights),
            "rng": parallel.gather(_rng_state()),
        }

    def restore(self, state: dict) -> None:
        """Go back to a saved state; raises `CheckpointError` if it is another run's."""
        saved = state["identity"]
        if changed := [key for key in self.identity if saved.get(key) != self.identity[key]]:
            differences = "; ".join(
                f"{key} was {saved.get(key)!r}, now {self.identity[key]!r}" for key in changed
            )
            raise CheckpointError(
                f"the checkpoint belongs to another run: {differences}. Take another file name "
                "for a new run, or delete the checkpoint"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step, self.micro_batches = state["position"]
        self.loss, self.count = (tensor.to(self.loss.device) for tensor in state["sums"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best_epoch, self.best_loss, self.best_weights = state["best"]
        _set_rng_state(*state["rng"][parallel.rank()])


def _rng_state() -> tuple[Tensor, list[Tensor]]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda


def _plain(value: object) -> object:
    """A value that a checkpoint can hold and compare: functions by their name."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return getattr(value, "__qualname__", None) or re.sub(r" at 0x\w+", "", repr(value))


def _set_rng_state(rng: Tensor, cuda_rng: list[Tensor]) -> None:
    torch.set_rng_state(rng)
    if cuda_rng and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda_rng)
