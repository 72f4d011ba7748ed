"""Questions of lesson 41, LoRA and parameter-efficient tuning."""

import math
from collections.abc import Sequence

import torch

from course_utils.questions import Option, Prediction, Question

PREDICTIONS = {
    "1": Prediction(
        "LoRA of rank 8 trains a few percent of the weights. What does a run cost, next to full "
        "fine-tuning of the same texts?",
        (
            "a few percent of the time and of the optimizer's memory",
            "a few percent of the memory, but more than half of the time",
            "a few percent of the time, but most of the memory",
            "as much of both",
        ),
    ),
    "2": Prediction(
        "Which way will give the best bargain: much learnt, little forgotten?",
        (
            "full fine-tuning",
            "full fine-tuning at a lower rate",
            "gradual unfreezing, the last layer first",
            "half fine-tuning, another random half in each round",
            "LoRA",
        ),
    ),
    "3": Prediction(
        "LoRA with one thing changed: which change ruins the run, in the new field or the old?",
        (
            "rank 1 in place of 8",
            "rank 32 in place of 8",
            "adapters at attention's first matrix only",
            "a fifth of the learning rate, which is that of full fine-tuning",
            "four times the learning rate",
        ),
    ),
}


def rank_report(
    rank: int, shapes: Sequence[tuple[int, int]], total: int, share: Sequence[float]
) -> str:
    """What adapters of a rank cost, and how much of a full change they could hold.

    Args:
        rank: of every adapter.
        shapes: inputs and outputs of each adapted layer.
        total: weights of the model.
        share: of the change that full fine-tuning made, in its first 1, 2, … directions.
    """
    weights = rank * sum(inside + out for inside, out in shapes)
    return (
        f"{weights:,} weights, {100 * weights / total:.1f} % of the model; {4 * weights / 1e6:.2f} "
        f"MB for each customer; room for {share[min(rank, len(share)) - 1]:.0%} of the change that "
        "full fine-tuning made to one matrix"
    )


BLOCKS, LAYERS = 12, ((768, 2304), (768, 3072))
BUDGET, BYTES = 2_000_000, 2
A_RANK = BLOCKS * sum(inside + out for inside, out in LAYERS)  # numbers that one rank costs
RANK = BUDGET // (BYTES * A_RANK)
MISTAKES = {
    BUDGET // A_RANK: "that counts one byte a number; in half precision each takes two",
    BUDGET // (4 * A_RANK): "that counts four bytes a number, single precision; half takes two",
    BUDGET * BLOCKS // (BYTES * A_RANK): "that is for one block; there are twelve",
    BUDGET // (BYTES * BLOCKS * sum(out for _, out in LAYERS)): (
        "that counts B (out x rank) only; A (rank x in) is stored too"
    ),
    BUDGET // (BYTES * BLOCKS * sum(inside for inside, _ in LAYERS)): (
        "that counts A (rank x in) only; B (out x rank) is stored too"
    ),
    BUDGET // (BYTES * BLOCKS * sum(LAYERS[0])): (
        "that adapts the first of the two layers only; each block has two"
    ),
}


def largest_rank(answer: object) -> str | None:
    """The largest rank whose adapter fits the budget."""
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        return "a whole number is asked for, such as rank = 8"
    if not math.isfinite(answer) or answer != int(answer):
        return f"{answer} is not a whole number: a rank counts directions, so round down"
    rank = int(answer)
    if rank == RANK:
        return None
    if rank == RANK + 1:
        return f"rank {rank} takes {rank * A_RANK * BYTES:,} bytes: round down, not up"
    if rank in MISTAKES:
        return MISTAKES[rank]
    if rank < 1:
        return "a rank of at least 1 is asked for"
    size = rank * A_RANK * BYTES
    told = "too much" if size > BUDGET else "and there is room for more"
    return (
        f"rank {rank} takes {size:,} bytes, {told}: a layer from n to m numbers costs n + m "
        "numbers for each rank"
    )


def merged_weight(answer: object) -> str | None:
    """Try the handed-in function on a layer that is not square."""
    if not callable(answer):
        return "a function is asked for: def merge(weight, down, up, alpha): …"
    generator = torch.Generator().manual_seed(0)
    weight, down, up = (
        torch.randn(shape, generator=generator) for shape in ((5, 7), (2, 7), (5, 2))
    )
    kept = weight.clone()
    result = answer(weight, down, up, 8.0)
    if not torch.equal(weight, kept):
        return "the weight that was handed in has changed: return a new one (no += on it)"
    if not isinstance(result, torch.Tensor):
        return f"it returns {result!r}; a tensor of shape (out, in) is asked for"
    if result.shape != weight.shape:
        return (
            f"the result is {tuple(result.shape)}, the weight {tuple(weight.shape)}: B A is "
            "up @ down, (out, rank) times (rank, in)"
        )
    change, product = result - weight, up @ down
    hints = {
        1.0: "alpha and the rank are missing: the change is alpha / rank times up @ down",
        8.0: "that is alpha times up @ down; it must be divided by the rank as well",
        0.5: "the change is divided by the rank, but alpha is missing",
        8.0 / 5: "you divide by the layer's outputs; the rank is down.shape[0]",
        8.0 / 7: "you divide by the layer's inputs; the rank is down.shape[0]",
    }
    if torch.allclose(change, 4.0 * product, atol=1e-4):
        return None
    for factor, hint in hints.items():
        if torch.allclose(change, factor * product, atol=1e-4):
            return hint
    if torch.allclose(result, 4.0 * product, atol=1e-4):
        return "that is the change alone: add it to the weight"
    if torch.allclose(change, -4.0 * product, atol=1e-4):
        return "the change is added, not taken away"
    return "the result is not weight + alpha / rank * up @ down; look at section 1"


EXERCISES = {"1": largest_rank, "2": merged_weight}

QUIZ = (
    Question(
        "Why does LoRA save so little time?",
        (
            Option(
                "its two extra products cost what the frozen weights save",
                "They are small: a rank of 8 beside hundreds of numbers.",
            ),
            Option(
                "the forward pass stays, and gradients still travel through all layers",
                "Only the gradients of the weights themselves are saved, about a third.",
                right=True,
            ),
            Option(
                "AdamW is slow on many small matrices",
                "Its step is a small part of the time here, with or without LoRA.",
            ),
        ),
    ),
    Question(
        "A paper shows that LoRA forgets less than full fine-tuning. What do you ask first?",
        (
            Option(
                "which rank was used",
                "It matters less than the rate, and does not answer the question of the bargain.",
            ),
            Option(
                "how much each had learnt, and what full fine-tuning at a lower rate does",
                "Who moves less, forgets less. Compare at equal learning, as in section 3.",
                right=True,
            ),
            Option(
                "nothing: frozen weights cannot forget",
                "The weights are frozen, the function is not: the adapters change its outputs for "
                "old inputs as well.",
            ),
        ),
    ),
    Question(
        "You want to serve two customers' adapters from one model. What must not happen?",
        (
            Option(
                "that the adapters have different ranks",
                "add_lora anew, or keep one model for each rank; nothing is lost.",
            ),
            Option(
                "that one of them is merged into the model both use",
                "The other one is a difference from weights that no longer exist (section 8), and "
                "nothing complains.",
                right=True,
            ),
            Option(
                "that they are swapped while the model is in memory",
                "That is the use of it: a swap takes milliseconds.",
            ),
        ),
    ),
)
