"""Questions of lesson 03, inside the training core, and what its profile needs."""

import math
import os
from collections.abc import Callable

from torch.autograd.profiler_util import EventList

from course_utils.questions import Option, Prediction, Question

# Otherwise torch's profiler reports on stderr that it starts and stops, and that there is no GPU.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

PREDICTIONS = {
    "1": Prediction(
        "A plain training loop puts texts into batches in random order and fills the short ones up "
        "to the longest. How much of what it computes is padding?",
        ("less than a tenth", "about a fifth", "about half", "nearly all"),
    ),
    "2": Prediction(
        "Four of six layers are frozen. Their output is the same in every epoch, so it can be "
        "computed once and kept. Five epochs then take",
        (
            "as long as before: the frozen layers were not trained anyway",
            "about two thirds of the time",
            "about a fifth of the time",
        ),
    ),
    "3": Prediction(
        "A batch is cut into unequal micro-batches to save memory, and the mean loss of each is "
        "added up and divided by their number. The gradient is",
        ("that of the whole batch", "slightly off, by rounding", "wrong"),
    ),
}

KINDS = {  # of operations, by the names that torch's profiler gives them
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm",
                        "aten::_scaled_dot_product_flash_attention_for_cpu",
                        "aten::_flash_attention_forward", "aten::_efficient_attention_forward"),
    "random numbers": ("aten::bernoulli_", "aten::random_", "aten::native_dropout"),
    "copies and casts": ("aten::copy_", "aten::clone", "aten::_to_copy"),
}  # fmt: skip


def time_by_kind(events: EventList) -> dict[str, float]:
    """Seconds by kind of operation, from `profiler.key_averages()`."""
    seconds = {kind: 0.0 for kind in KINDS}
    optimizer = total = 0.0
    for event in events:
        total += event.self_cpu_time_total / 1e6
        if event.key.startswith("Optimizer.step"):
            optimizer += event.cpu_time_total / 1e6
        for kind, names in KINDS.items():
            if event.key in names:
                seconds[kind] += event.self_cpu_time_total / 1e6
    seconds["optimizer"] = optimizer
    seconds["everything else"] = max(total - sum(seconds.values()), 0.0)
    return seconds


def speedup_of_cache(frozen: float, trained: float, epochs: int) -> float:
    """The right answer of exercise 1: work without the cache over work with it."""
    without = epochs * (frozen + 3 * trained)
    return without / (frozen + epochs * 3 * trained)


CASES = ((4, 2, 5), (6, 0.5, 10), (0, 6, 3), (5, 1, 1))


def check_speedup(answer: object) -> str | None:
    if not callable(answer):
        return "a function is asked for: def speedup(frozen, trained, epochs): …"
    for frozen, trained, epochs in CASES:
        found = answer(frozen, trained, epochs)
        right = speedup_of_cache(frozen, trained, epochs)
        if not isinstance(found, int | float) or not math.isclose(found, right, rel_tol=1e-6):
            return _why_wrong(float(found), frozen, trained, epochs)
    return None


def _why_wrong(found: float, frozen: float, trained: float, epochs: int) -> str:
    case = f"speedup({frozen}, {trained}, {epochs})"
    if math.isclose(found, 1 / speedup_of_cache(frozen, trained, epochs), rel_tol=1e-6):
        return f"{case} is upside down: work without the cache over work with it, so at least 1"
    if math.isclose(found, (frozen + trained) / trained if trained else 0, rel_tol=1e-6):
        return (
            f"{case} counts the frozen layers as free: with the cache they still run once, in the "
            "first epoch; and a trained layer costs three passes, not one"
        )
    same_cost = (epochs * (frozen + trained)) / (frozen + epochs * trained)
    if math.isclose(found, same_cost, rel_tol=1e-6):
        return (
            f"{case} counts a trained layer once an epoch: it runs forward once, and backward "
            "costs twice as much (a gradient for its input and one for its weights), so three"
        )
    three = (epochs * 3 * (frozen + trained)) / (frozen + epochs * 3 * trained)
    if math.isclose(found, three, rel_tol=1e-6):
        return f"{case} lets the frozen layers run backward: they only run forward"
    return f"{case} gives {found:.4g}: add up the work of all epochs, without and with the cache"


MICRO_BATCHES = (
    ([2.0, 4.0], [1.0]),
    ([0.5], [1.5, 2.5, 3.5], [6.0]),
    ([1.0, 1.0], [1.0, 1.0]),
)


def check_mean(answer: object) -> str | None:
    if not callable(answer):
        return "a function is asked for: def mean_loss(micro_batches): …"
    for losses in MICRO_BATCHES:
        found = answer([(sum(part), len(part)) for part in losses])
        flat = [loss for part in losses for loss in part]
        if math.isclose(found, sum(flat) / len(flat), rel_tol=1e-9):
            continue
        means = [sum(part) / len(part) for part in losses]
        if math.isclose(found, sum(means) / len(means), rel_tol=1e-9):
            return (
                "this is the mean of the means: a text in a small micro-batch counts for more than "
                "one in a large one; add up the sums, and divide once"
            )
        if math.isclose(found, sum(flat), rel_tol=1e-9):
            return "this is the sum: divide by the number of all examples"
        if math.isclose(found, sum(flat) / len(losses), rel_tol=1e-9):
            return "divide by the number of examples, not of micro-batches"
        return f"for {losses} it gives {found:.4g}, and the mean of all losses is another number"
    return None


EXERCISES: dict[str, Callable] = {"1": check_speedup, "2": check_mean}

QUIZ = (
    Question(
        "Your texts are between 5 and 400 tokens long, and the graphics card is busy all the time. "
        "Where do you look first?",
        (
            Option(
                "for a faster optimizer",
                "It is a few percent of a step: section 3 shows where the time goes.",
            ),
            Option(
                "at the share of padding among what is computed",
                "A busy card may be busy with nothing: count the tokens that are padding.",
                right=True,
            ),
            Option(
                "for a smaller learning rate",
                "That changes what is learnt, not how long a step takes.",
            ),
        ),
    ),
    Question(
        "When is it right to run the frozen layers only once for all epochs?",
        (
            Option(
                "always: frozen layers never change",
                "Their inputs may: augmented pictures differ in every epoch, and dropout in a "
                "frozen layer would make its output differ too.",
            ),
            Option(
                "when their input is the same in every epoch and they have no dropout",
                "Then their output is the same number for number, and keeping it is exact.",
                right=True,
            ),
            Option(
                "never: it is an approximation",
                "Section 5 compares the losses with and without: they agree to rounding.",
            ),
        ),
    ),
    Question(
        "A run of ten hours is killed after nine. What must its checkpoint hold so that it ends as "
        "if nothing had happened?",
        (
            Option(
                "the weights",
                "Then the optimizer starts with empty moments, the order of the examples begins "
                "anew, and the dropout differs: another run.",
            ),
            Option(
                "the weights and the optimizer",
                "Closer, but the place in the epoch, the schedule and the random numbers are "
                "missing.",
            ),
            Option(
                "weights, optimizer, place in the epoch, schedule and random numbers",
                "All that the next step depends on. Section 8 stops a run and compares bit for "
                "bit.",
                right=True,
            ),
        ),
    ),
)
