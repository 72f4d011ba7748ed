"""Questions of lesson 01, what fine-tuning is, and its learning curves."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from course_utils.errors import CourseError
from course_utils.plotting import MARKERS, Axes, new_axes
from course_utils.questions import Option, Prediction, Question

# A learning curve: the accuracies at each number of labels, one a seed.
Curve = Mapping[int, Sequence[float]]

PREDICTIONS = {
    "1": Prediction(
        "Support tickets in 15 intents. How many labelled tickets do word counts need to be as "
        "good as a frozen pre-trained encoder is with 60?",
        ("about as many", "twice as many", "four times as many", "a hundred times as many"),
    ),
    "2": Prediction(
        "Between the encoder as it is, with a linear head, and the fine-tuned encoder: what is the "
        "larger step, from scratch to frozen or from frozen to fine-tuned?",
        (
            "from scratch to frozen: most of the gain is there before anything is tuned",
            "from frozen to fine-tuned: that is why it is called fine-tuning",
            "both alike",
        ),
    ),
    "3": Prediction(
        "Handwritten digits of 8 by 8 pixels, and a network pre-trained on photographs. Which is "
        "better, its frozen features or a small classifier on the raw pixels?",
        (
            "the features, with any number of labels",
            "the features with few labels, the pixels with many",
            "the pixels, or there is no difference",
        ),
    ),
}


def labels_needed(sizes: Sequence[int], accuracies: Sequence[float], target: float) -> float:
    """How many labels a method needs for an accuracy, read off its learning curve.

    Args:
        sizes: numbers of labels, rising.
        accuracies: one a size, in the unit of `target`.
        target: the accuracy asked for.

    Returns:
        The first crossing, on straight lines between the points over a logarithmic axis of labels.
        The smallest size if the curve begins above the target; infinity if it never gets there.

    Raises:
        CourseError: the two lists do not fit, or sizes are not rising from 1 or more.
    """
    if len(sizes) != len(accuracies) or not sizes:
        raise CourseError(
            f"{len(sizes)} sizes and {len(accuracies)} accuracies: as many of one as of the other "
            "are needed, and at least one"
        )
    if sizes[0] < 1 or any(a >= b for a, b in zip(sizes, sizes[1:], strict=False)):
        raise CourseError(f"the sizes are {list(sizes)}; they must rise, from 1 label or more")
    if accuracies[0] >= target:
        return float(sizes[0])
    points = list(zip(map(math.log, sizes), accuracies, strict=True))
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if y1 >= target:
            return math.exp(x0 + (x1 - x0) * (target - y0) / (y1 - y0))
    return math.inf


def of_seed(curve: Curve, seed: int) -> tuple[list[int], list[float]]:
    """One seed's curve (by its place, from 0): the sizes and the accuracies."""
    return list(curve), [values[seed] for values in curve.values()]


def plot_curves(curves: Mapping[str, Curve], guessing: float) -> Axes:
    """Learning curves: the median over seeds, and a band from the worst to the best."""
    axes = new_axes(height=4)
    for (name, curve), marker in zip(curves.items(), MARKERS * len(curves), strict=False):
        sizes, runs = list(curve), [np.asarray(values) for values in curve.values()]
        (line,) = axes.plot(sizes, [np.median(run) for run in runs], marker=marker, label=name)
        axes.fill_between(sizes, [run.min() for run in runs], [run.max() for run in runs],
                          color=line.get_color(), alpha=0.2, linewidth=0)  # fmt: skip
    axes.axhline(guessing, color="0.3", linestyle=":", label="guessing")
    axes.set(xscale="log", xlabel="labelled training examples", ylabel="test accuracy (%)")
    ticks = sorted({size for curve in curves.values() for size in curve})
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return axes


# Sizes, accuracies from scratch and fine-tuned, the break-even point, and what to say otherwise.
CURVES = (
    (
        [10, 100, 1000, 10000], [20, 40, 70, 90], [60, 70, 80, 85], 10000,
        "from scratch is behind at 10, 100 and 1000 labels and ahead at 10000",
    ),
    (
        [10, 100, 1000], [20, 40, 60], [60, 70, 80], None,
        "from scratch is behind everywhere, so there is no break-even point within what was "
        "measured: return None",
    ),
    (
        [10, 100, 1000], [50, 75, 80], [50, 70, 80], 10,
        "equal is enough: from scratch is at least as good at 10, at 100 and at 1000",
    ),
    (
        [10, 50, 100, 500], [30, 52, 50, 80], [45, 50, 65, 70], 500,
        "from scratch is ahead at 50 and behind again at 100; that was chance. The point asked for "
        "is the one from which it stays at least as good",
    ),
)  # fmt: skip


def break_even(answer: object) -> str | None:
    """Try the handed-in function on pairs of curves."""
    if not callable(answer):
        return "a function is asked for: def break_even(sizes, scratch, tuned): …"
    for sizes, scratch, tuned, expected, why in CURVES:
        result = answer(list(sizes), list(scratch), list(tuned))
        if result is ... or (result is None and expected is not None):
            return (
                "the function returns nothing where there is a break-even point: end it with "
                f"return and a number of labels. For scratch={scratch} and tuned={tuned}, {why}"
            )
        if result != expected or isinstance(result, bool):
            return (
                f"for sizes={sizes}, scratch={scratch}, tuned={tuned} it returns {result!r}, and "
                f"{expected!r} is right: {why}"
            )
    return None


CHOICES = ("alone", "frozen", "tune", "scratch")
SITUATIONS = {
    "sort": (
        "alone",
        "nobody has labelled a single text, and the folders have plain names: compare each text "
        "with the names, as in section 4",
    ),
    "tickets": (
        "frozen",
        "the curve of section 3: with 60 labels the frozen encoder is far ahead of scratch, and "
        "fine-tuning costs many times as much for next to nothing",
    ),
    "defects": (
        "tune",
        "photographs of defects are not what the features were made for; section 5 shows that "
        "fine-tuning gains on frozen features there, and scratch does not get off the ground",
    ),
    "digits": (
        "scratch",
        "section 6: tiny pictures unlike any photograph, and enough labels; a small classifier on "
        "pixels is as good and costs next to nothing",
    ),
}


def choose_ways(answer: object) -> str | None:
    """Look at the way chosen for each situation."""
    if not isinstance(answer, Mapping):
        return f"a dictionary from situation to way is asked for, and this is {answer!r}"
    for name, (right, why) in SITUATIONS.items():
        if name not in answer or answer[name] is ...:
            return f"there is no answer for {name!r} yet: one of {', '.join(CHOICES)}"
        if answer[name] not in CHOICES:
            return f"{name}: {answer[name]!r} is no way; choose one of {', '.join(CHOICES)}"
        if answer[name] != right:
            return f"{name}: not {answer[name]!r}. Think of this: {why}"
    return None


EXERCISES = {"1": break_even, "2": choose_ways}

QUIZ = (
    Question(
        "What does a fine-tuned network owe to pre-training, and how do you measure it?",
        (
            Option(
                "the difference to guessing",
                "That is what the task, the labels and pre-training gave together.",
            ),
            Option(
                "the difference to the same task and labels from scratch",
                "Only pre-training differs then. Give scratch a fair chance, too: word counts "
                "were better from scratch than a transformer.",
                right=True,
            ),
            Option(
                "the number of its weights",
                "The network from scratch has as many, and they did not help it.",
            ),
        ),
    ),
    Question(
        "A method from scratch reaches with 240 labels what a frozen encoder reaches with 60. What "
        "is saved?",
        (
            Option(
                "three of four labels, at this accuracy",
                "The saving depends on where you read the curves, so say at which accuracy.",
                right=True,
            ),
            Option(
                "three of four labels, whatever the accuracy",
                "The curves are not parallel. Where you ask for another accuracy, the distance "
                "between them is another one.",
            ),
            Option(
                "180 seconds",
                "Labels are not seconds. A label costs a person's time, which is mostly dearer.",
            ),
        ),
    ),
    Question(
        "When is fine-tuning not worth it?",
        (
            Option(
                "whenever there are few labels",
                "With few labels pre-training helps most, frozen or fine-tuned.",
            ),
            Option(
                "never: it always is at least as accurate",
                "Sections 3 and 6 measured otherwise.",
            ),
            Option(
                "when the frozen features are as good already, or when they have little to do with "
                "the task",
                "In the first case the head is enough, in the second a small model from scratch "
                "may be.",
                right=True,
            ),
        ),
    ),
)
