"""Metrics: pure functions of labels and predictions, on tensors or arrays.

For larger needs use scikit-learn's `metrics` or torchmetrics; these are the ones that the
lessons explain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from course_utils.errors import CourseError


def _same_length(labels: Tensor, predictions: Tensor) -> None:
    if len(labels) != len(predictions) or len(labels) == 0:
        raise CourseError(
            f"{len(labels)} labels and {len(predictions)} predictions: there must be equally "
            "many, at least one"
        )


def accuracy(labels: Tensor, predictions: Tensor) -> float:
    """The share of right predictions, 0 to 1."""
    _same_length(labels, predictions)
    return (torch.as_tensor(labels) == torch.as_tensor(predictions)).double().mean().item()


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """Counts, shape (num_classes, num_classes): row = true class, column = predicted."""
    _same_length(labels, predictions)
    flat = torch.as_tensor(labels) * num_classes + torch.as_tensor(predictions)
    return torch.bincount(flat, minlength=num_classes**2).view(num_classes, num_classes)


def macro_f1(labels: Tensor, predictions: Tensor, num_classes: int) -> float:
    """The mean over classes of F1 = 2 · precision · recall / (precision + recall).

    A class that is neither present nor predicted does not count.
    """
    counts = confusion_matrix(labels, predictions, num_classes).double()
    hits, total = counts.diagonal(), counts.sum(0) + counts.sum(1)
    present = total > 0
    return (2 * hits[present] / total[present]).mean().item()


@dataclass(frozen=True)
class Interval:
    """A value with the range in which it would fall in 95 % of repeated samples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_accuracy(
    labels: Tensor, predictions: Tensor, seed: int = 0, rounds: int = 2000
) -> Interval:
    """Accuracy with its 95 % bootstrap interval (Efron, 1979): test examples drawn again."""
    _same_length(labels, predictions)
    right = (torch.as_tensor(labels) == torch.as_tensor(predictions)).numpy()
    generator = np.random.default_rng(seed)
    means = generator.binomial(len(right), right.mean(), rounds) / len(right)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(right.mean()), float(low), float(high))


def spread(numbers: Sequence[float], digits: int = 0) -> str:
    """The median, and the range in brackets."""
    low, middle, high = (f"{np.quantile(numbers, q):.{digits}f}" for q in (0, 0.5, 1))
    return f"{middle} ({low} to {high})"
