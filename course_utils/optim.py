"""Parameter groups, optimizers and learning-rate schedules."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from course_utils.recipes import Recipe
from course_utils.stage import Stage

CHANNELS_LAST = (0, 2, 3, 1)  # the order in memory of a convolution's weight (O, I, H, W)


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
    """The recipe's optimizer over these stages; fused, which is faster on every device.

    It changes a weight through `as_stored`, which has the gradient only while a step is taken. Such
    a weight's own gradient is used up by the step, as `optimizer.zero_grad()` does not reach it.
    """
    groups = parameter_groups(parts, recipe)
    views = []
    for group in groups:
        pairs = [(as_stored(weight), weight) for weight in group["params"]]
        group["params"] = [view for view, _ in pairs]
        views += [(view, weight) for view, weight in pairs if view is not weight]
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True, fused=True)
    else:
        optimizer = torch.optim.AdamW(groups, lr=0.0, fused=True)

    def lend_gradients(*_: object) -> None:
        for view, weight in views:
            view.grad = None if weight.grad is None else weight.grad.permute(CHANNELS_LAST)

    def take_back(*_: object) -> None:
        for view, weight in views:
            view.grad = weight.grad = None

    optimizer.register_step_pre_hook(lend_gradients)
    optimizer.register_step_post_hook(take_back)
    return optimizer


def as_stored(weight: nn.Parameter) -> nn.Parameter:
    """The weight; if its channels come last in memory, a view of it in the order of memory.

    A CPU's fused kernels copy what is not contiguous, and back: AdamW would take twice as long.
    (Weights that are divided among processes stay what they are.)
    """
    if weight.ndim == 4 and not weight.is_contiguous() and type(weight) is nn.Parameter:
        return nn.Parameter(weight.detach().permute(CHANNELS_LAST))
    return weight


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
