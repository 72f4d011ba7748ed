"""What a run leaves behind: a record of each epoch, and of an evaluation."""

from dataclasses import dataclass, field

from torch import Tensor

from course_utils.device import energy_wh


@dataclass
class Epoch:
    """One epoch. Losses are means over examples; `seconds` is training without validation."""

    number: int
    train_loss: float
    valid_loss: float
    valid_accuracy: float
    seconds: float
    first_stage: str


@dataclass
class History:
    """A whole run.

    Attributes:
        recipe: the name of the recipe.
        epochs: one record an epoch.
        trained_weights, total_weights: numbers of weights, at the end of the run.
        peak_memory_mb: of the GPU, or of this process so far on a CPU.
        best_epoch: number of the epoch whose weights the model has now.
    """

    recipe: str
    epochs: list[Epoch] = field(default_factory=list)
    trained_weights: int = 0
    total_weights: int = 0
    peak_memory_mb: float = 0.0
    best_epoch: int = 0

    @property
    def seconds(self) -> float:
        """Wall time of training, validation left out."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def energy_wh(self) -> float:
        """Estimated energy in watt-hours; see `device.energy_wh`."""
        return energy_wh(self.seconds)

    def column(self, name: str) -> list:
        """One value an epoch, such as `column("valid_loss")`."""
        return [getattr(epoch, name) for epoch in self.epochs]


@dataclass(frozen=True)
class Score:
    """How well a set of examples is predicted.

    Attributes:
        loss: mean cross-entropy in nats, over all labels that count.
        accuracy: share of right predictions among them, 0 to 1.
        count: how many they are.
    """

    loss: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Evaluation:
    """Predictions for a set of examples.

    Attributes:
        loss: mean cross-entropy in nats, over all labels that count.
        accuracy: share of right predictions among them, 0 to 1.
        logits: (n, classes), in the order of the examples, on the CPU. For one label a token, n is
            the number of tokens that count; for k places an example it is (n, k, longest text),
            minus infinity where a text has ended.
        labels: (n,) or (n, k).
    """

    loss: float
    accuracy: float
    logits: Tensor
    labels: Tensor

    @property
    def predictions(self) -> Tensor:
        """The most probable class of each example, (n,) or (n, k)."""
        return self.logits.argmax(-1)

    @property
    def probabilities(self) -> Tensor:
        """As `logits`; each row sums to 1."""
        return self.logits.softmax(-1)
