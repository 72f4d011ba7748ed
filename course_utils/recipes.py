"""Recipes: everything that a training run decides, as one frozen value.

A recipe is what a named function returns; change a field with `dataclasses.replace` or by
passing it to the function: `full_finetuning(learning_rate=2e-5)`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from course_utils.device import PRECISIONS
from course_utils.errors import CourseError

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("linear", "cosine", "constant")


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune. Each field is followed by its meaning."""

    name: str
    """Shown in tables and figures."""
    epochs: int = 3
    """Passes over the training examples."""
    batch_size: int = 16
    """Examples that one step of the optimizer sees."""
    learning_rate: float = 5e-5
    """Peak learning rate of the last pre-trained stage."""
    head_learning_rate: float | None = None
    """Peak learning rate of the head, which starts from random weights; None: the same."""
    stage_decay: float = 1.0
    """Each stage's rate is this factor of that of the next one (discriminative rates)."""
    train_from: int | str = 0
    """The first stage that is trained: an index (-1 is the head alone) or a name."""
    unfreeze_every: int = 0
    """Epochs after which one more stage is unfrozen, from the head down; 0: never."""
    half_every: int = 0
    """Epochs of a round; each freezes another random half of the weights; 0: never."""
    optimizer: str = "adamw"
    """"adamw" (Loshchilov and Hutter, 2019) or "sgd" with Nesterov momentum 0.9."""
    weight_decay: float = 0.01
    """Pull towards zero, on weight matrices only, not on biases and norms."""
    schedule: str = "linear"
    """After the warm-up: "linear" or "cosine" decay to zero, or "constant"."""
    warmup: float = 0.1
    """Fraction of all steps in which the rate rises from zero."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes (Szegedy et al., 2016)."""
    max_grad_norm: float = 1.0
    """Longer gradients are shortened to this length; 0: never."""
    accumulate: int = 1
    """Micro-batches that one batch is cut into, to save memory; the result is the same."""
    patience: int = 0
    """Stop after so many epochs without a lower validation loss; 0: never."""
    keep_best: bool = False
    """End with the weights of the epoch with the lowest validation loss."""
    validate: bool = True
    """Measure on the validation split after each epoch."""
    precision: str = "auto"
    """"fp32", "bf16", or "auto": bf16 where the hardware multiplies it."""
    cache_prefix: bool = True
    """Run a frozen prefix only once over the data where that is exact."""
    group_by_length: bool = True
    """Put texts of nearly the same length into a batch, so that little padding is computed."""
    pack: bool = False
    """Lay texts end to end instead of padding them; for a GPU, and course text classifiers."""
    live_rows: bool = True
    """Train only the rows of the word table whose words occur; the others cannot move."""
    faster_operations: bool = True
    """On a CPU: the course's dropout, attention and convolution in place of torch's."""
    augment: Callable[[Tensor], Tensor] | None = None
    """Changes a whole uint8 image batch at random, training only."""

    def __post_init__(self) -> None:
        def require(ok: bool, field: str, allowed: str) -> None:
            if not ok:
                raise CourseError(
                    f"recipe {self.name!r}: {field} is {getattr(self, field)!r}; "
                    f"it must be {allowed}"
                )

        require(isinstance(self.epochs, int) and self.epochs >= 1, "epochs", "at least 1")
        require(
            isinstance(self.batch_size, int) and self.batch_size >= 1,
            "batch_size", "a whole number, at least 1",
        )  # fmt: skip
        require(
            0 < self.learning_rate < math.inf, "learning_rate", "above 0 and finite, such as 5e-5"
        )
        require(
            self.head_learning_rate is None or 0 < self.head_learning_rate < math.inf,
            "head_learning_rate", "above 0 and finite, or None",
        )  # fmt: skip
        require(0 < self.stage_decay <= 1, "stage_decay", "above 0 and at most 1")
        require(self.unfreeze_every >= 0, "unfreeze_every", "0 (never) or a number of epochs")
        require(self.half_every >= 0, "half_every", "0 (never) or the epochs of a round")
        require(self.optimizer in OPTIMIZERS, "optimizer", f"one of {OPTIMIZERS}")
        require(self.weight_decay >= 0, "weight_decay", "0 or more")
        require(self.schedule in SCHEDULES, "schedule", f"one of {SCHEDULES}")
        require(0 <= self.warmup < 1, "warmup", "a fraction from 0 to below 1")
        require(0 <= self.label_smoothing < 1, "label_smoothing", "from 0 to below 1")
        require(self.max_grad_norm >= 0, "max_grad_norm", "0 (never) or more")
        require(1 <= self.accumulate <= self.batch_size, "accumulate", "from 1 to the batch size")
        require(self.patience >= 0, "patience", "0 (never) or a number of epochs")
        require(self.precision in PRECISIONS, "precision", f"one of {PRECISIONS}")
        require(
            self.validate or not (self.patience or self.keep_best),
            "validate", "True when patience or keep_best is used: they need the validation loss",
        )  # fmt: skip


def linear_probe(**changes) -> Recipe:
    """Feature extraction: everything is frozen but the head (the backbone never changes)."""
    defaults = dict(
        name="frozen + linear head", epochs=20, learning_rate=5e-3, train_from=-1,
        weight_decay=0.01, schedule="cosine",
    )  # fmt: skip
    return Recipe(**{**defaults, **changes})


def full_finetuning(**changes) -> Recipe:
    """All weights are trained at one low rate, the new head faster."""
    defaults = dict(name="full fine-tuning", learning_rate=1e-4, head_learning_rate=2e-3)
    return Recipe(**{**defaults, **changes})


def top_stages(first: int | str, **changes) -> Recipe:
    """Only the stages from `first` on are trained."""
    defaults = dict(
        name=f"from {first}", learning_rate=1e-4, head_learning_rate=2e-3, train_from=first
    )
    return Recipe(**{**defaults, **changes})


def discriminative(**changes) -> Recipe:
    """Full fine-tuning in which early stages learn more slowly (Howard and Ruder, 2018)."""
    defaults = dict(name="discriminative rates", stage_decay=0.7)
    return full_finetuning(**{**defaults, **changes})


def gradual_unfreezing(**changes) -> Recipe:
    """Begin with the head; unfreeze one more stage an epoch (Howard and Ruder, 2018)."""
    defaults = dict(name="gradual unfreezing", epochs=4, train_from=-1, unfreeze_every=1)
    return full_finetuning(**{**defaults, **changes})


def half_finetuning(**changes) -> Recipe:
    """Full fine-tuning of another random half of the weights in each round (Hui et al., 2024)."""
    defaults = dict(name="half fine-tuning", half_every=1)
    return full_finetuning(**{**defaults, **changes})


def lora(**changes) -> Recipe:
    """The adapters and the head are trained; call `lora.add_lora` on the model first.

    The embeddings, which hold no adapter, are frozen by `train_from`. Rates are some ten times
    those of full fine-tuning, as Hu et al. (2022) found too.
    """
    defaults = dict(name="LoRA", learning_rate=1e-3, train_from=1, weight_decay=0.0)
    return full_finetuning(**{**defaults, **changes})


def from_scratch(**changes) -> Recipe:
    """All weights at one higher rate: for a network without pre-trained weights."""
    defaults = dict(name="from scratch", epochs=10, learning_rate=1e-3, weight_decay=0.05)
    return Recipe(**{**defaults, **changes})
