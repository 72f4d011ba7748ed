"""Parameter groups, optimizers and learning-rate schedules."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from course_utils.recipes import Recipe
from course_utils.stage import Stage


def stage_rates(parts: Sequence[Stage], recipe: Recipe) -> dict[str, float]:
    """Peak learning rate of each stage that has weights, by name, from input to output."""
    names = [part.name for part in parts if part.parameters]
    depth = len(names) - 1
    rates = {
        name: recipe.learning_rate * recipe.stage_decay ** max(depth - 1 - i, 0)
        for i, name in enumerate(names)
    }
    if recipe.head_learning_rate is not None:
        rates[names[-1]] = recipe.head_learning_rate
    return rates


def parameter_groups(parts: Sequence[Stage], recipe: Recipe) -> list[dict]:
    """One or two groups a stage: matrices with weight decay; biases, norms and tables without.

    A table of embeddings is looked up, not multiplied; with decay, words that do not occur would
    fade away.

    Each group has "params", "stage", "peak_lr" and "weight_decay".
    """
    rates = stage_rates(parts, recipe)
    groups = []
    for part in parts:
        inner = [module for whole in part.modules for module in whole.modules()]
        tables = {id(m.weight) for m in inner if isinstance(m, nn.Embedding)}
        matrices = [w for w in part.parameters if w.ndim >= 2 and id(w) not in tables]
        others = [w for w in part.parameters if w.ndim < 2 or id(w) in tables]
        for weights, decay in ((matrices, recipe.weight_decay), (others, 0.0)):
            if weights:
                groups.append(
                    {
                        "params": weights,
                        "stage": part.name,
                        "peak_lr": rates[part.name],
                        "weight_decay": decay,
                    }
                )
    return groups


def build_optimizer(parts: Sequence[Stage], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over these stages; fused, which is faster on every device."""
    groups = parameter_groups(parts, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def schedule_factor(progress: float, recipe: Recipe) -> float:
    """The share of the peak learning rate when `progress` (0 to 1) of all steps are done."""
    if progress < recipe.warmup:
        return progress / recipe.warmup
    rest = (progress - recipe.warmup) / (1 - recipe.warmup)
    if recipe.schedule == "linear":
        return 1 - rest
    if recipe.schedule == "cosine":
        return (1 + math.cos(math.pi * rest)) / 2
    return 1.0


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's rate to `factor` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["peak_lr"]
