"""Questions of lesson 23, object detection."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.detection import STRIDE, Found, Scenes
from course_utils.plotting import PALETTE, STYLE, new_axes
from course_utils.questions import Option, Prediction, Question

PREDICTIONS = {
    "1": Prediction(
        "A detector says something at each of the many cells of a picture. If its loss is the "
        "plain mean over the answers of all cells, what will it learn first?",
        (
            "where things are: that is where the loss is largest",
            "which classes are frequent",
            "to say 'nothing' everywhere: it is right nearly always",
        ),
    ),
    "2": Prediction(
        "Non-maximum suppression throws away boxes that overlap a surer one of the same class. "
        "What happens to the average precision without it?",
        (
            "nothing: the same things are found",
            "it rises: more boxes find more things",
            "it falls: each thing counts once, and every further box for it is a false alarm",
        ),
    ),
    "3": Prediction(
        "A small network is trained from random weights, all its layers, with about as much "
        "computing as the training of our head on frozen features takes. How far does it come?",
        (
            "as far: a network made for the task needs no photographs",
            "clearly less far, but it finds some",
            "nowhere: it finds nothing",
        ),
    ),
    "4": Prediction(
        "Which defects will the trained detector find worst?",
        (
            "the smallest, the holes: some are smaller than a cell of the grid",
            "the roundish ones, dents and stains: they look alike",
            "the long thin ones, scratches and cracks, though their boxes are large",
        ),
    ),
}

# --- figures ---------------------------------------------------------------------------------


def counted(found: Found, classes: Sequence[str]) -> str:
    """What is in a picture, in words: "2 × hole, 1 × dent"."""
    numbers = found.labels.bincount(minlength=len(classes)).tolist()
    named = [f"{n} × {name}" for n, name in zip(numbers, classes, strict=True) if n]
    return ", ".join(named) or "nothing"


def plot_scenes(
    scenes: Scenes,
    rows: Sequence[int],
    found: Sequence[Found] | None = None,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Pictures with their true boxes, or with the boxes that were found in them.

    Args:
        rows: which pictures.
        found: boxes for each of these pictures, drawn in place of the true ones.
        titles: one a picture.
    """
    shown = [scenes.truth[row] for row in rows] if found is None else found
    height = scenes.images.shape[-2] / scenes.images.shape[-1]
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, panels = plt.subplots(
            1, len(rows), figsize=(9, 9 / len(rows) * height + 0.1), squeeze=False
        )
    for axes, row, boxes in zip(panels[0], rows, shown, strict=True):
        _picture(axes, scenes.images[row])
        for i in boxes.scores.argsort(stable=True).tolist():  # the surest is drawn on top
            score, name = boxes.scores[i], scenes.classes[int(boxes.labels[i])]
            sure = "" if score == 1 else f" {score:.2f}"  # true boxes have no score of their own
            _box(axes, boxes.boxes[i], boxes.labels[i], name + sure)
    for axes, title in zip(panels[0], titles or (), strict=False):
        axes.set_title(title, fontsize=9, pad=14)
    return figure


def _picture(axes: Axes, image: Tensor) -> None:
    height, width = image.shape[-2:]
    axes.imshow(image.permute(1, 2, 0).numpy(), extent=(0, width, height, 0),
                interpolation="bicubic")  # fmt: skip
    axes.axis("off")


def _box(axes: Axes, box: Tensor, label: Tensor, text: str) -> None:
    x0, y0, x1, y1 = box.tolist()
    colour = PALETTE[int(label) % len(PALETTE)]
    for width, edge in ((3.0, "white"), (1.6, colour)):
        axes.add_patch(plt.Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=edge,
                                     linewidth=width))  # fmt: skip
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    at_left, above = x0 < 0.6 * right, y0 > 0.1 * bottom
    axes.text(
        x0 if at_left else x1, y0 if above else y1, text, fontsize=7, color="white",
        ha="left" if at_left else "right", va="bottom" if above else "top", clip_on=False,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.0},
    )  # fmt: skip


def plot_assignment(scenes: Scenes, row: int, points: Tensor, owner: Tensor) -> Figure:
    """A picture with its true boxes; beside it the grid and the cells that have to answer.

    Args:
        points: (G, 2), centres of the cells.
        owner: (G,), for each cell the number of its box, -1 for none.
    """
    truth = scenes.truth[row]
    height, width = scenes.images.shape[-2:]
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4 * height / width))
    for axes in (left, right):
        _picture(axes, scenes.images[row])
    for box, label in zip(truth.boxes, truth.labels, strict=True):
        _box(left, box, label, scenes.classes[int(label)])
        x0, y0, x1, y1 = box.tolist()
        right.add_patch(plt.Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="white",
                                      linestyle="--", linewidth=1.2))  # fmt: skip
    for edge in range(0, width + 1, STRIDE):
        right.plot([edge, edge], [0, height], color="white", alpha=0.3, linewidth=0.5)
    for edge in range(0, height + 1, STRIDE):
        right.plot([0, width], [edge, edge], color="white", alpha=0.3, linewidth=0.5)
    for (x, y), number in zip(points.tolist(), owner.tolist(), strict=True):
        if number >= 0:
            colour = PALETTE[int(truth.labels[number]) % len(PALETTE)]
            right.add_patch(plt.Rectangle((x - STRIDE / 2, y - STRIDE / 2), STRIDE, STRIDE,
                                          color=colour, alpha=0.75, linewidth=0))  # fmt: skip
    left.set_title("true boxes", fontsize=9)
    right.set_title("cells that must answer", fontsize=9)
    return figure


def plot_precision_recall(
    curves: Mapping[str, tuple[Tensor, Tensor]], marks: Mapping[float, tuple[float, float]]
) -> Axes:
    """Precision over recall, and where some thresholds lie on the first curve.

    Args:
        curves: precision and recall for each name.
        marks: precision and recall for each threshold.
    """
    axes = new_axes(6.4, 3.8)
    for (name, (precision, recall)), style in zip(curves.items(), ("-", "--", ":"), strict=False):
        axes.plot(recall, precision, style, label=name)
    for threshold, (precision, recall) in marks.items():
        axes.plot(recall, precision, "o", color=PALETTE[0], markersize=6)
        axes.annotate(f"score over {threshold:g}", (recall, precision), (6, 5),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set(xlabel="recall (share of the things that are found)",
             ylabel="precision (share that is right)", xlim=(0, 1), ylim=(0, 1.05))  # fmt: skip
    axes.legend(frameon=False, loc="lower left")
    return axes


# --- exercise 1: the IoU of two boxes ---------------------------------------------------------

PAIRS = {  # two boxes, and their intersection over union
    "shifted": ((0.0, 0.0, 10.0, 10.0), (5.0, 0.0, 15.0, 10.0), 50 / 150),
    "inside": ((0.0, 0.0, 10.0, 10.0), (2.0, 2.0, 7.0, 6.0), 20 / 100),
    "equal": ((3.0, 4.0, 9.0, 7.0), (3.0, 4.0, 9.0, 7.0), 1.0),
    "corner": ((6.0, 3.0, 12.0, 9.0), (0.0, 0.0, 8.0, 6.0), 6 / 78),
    "apart": ((0.0, 0.0, 4.0, 4.0), (10.0, 0.0, 14.0, 4.0), 0.0),
    "apart twice": ((0.0, 0.0, 4.0, 4.0), (10.0, 9.0, 14.0, 13.0), 0.0),
    "touching": ((0.0, 0.0, 4.0, 4.0), (4.0, 0.0, 8.0, 4.0), 0.0),
}


def _parts(a: Sequence[float], b: Sequence[float], more: float = 0) -> tuple[float, ...]:
    """Signed width and height of what is common to two boxes, and the two areas."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + more
    height = min(a[3], b[3]) - max(a[1], b[1]) + more
    areas = [(box[2] - box[0] + more) * (box[3] - box[1] + more) for box in (a, b)]
    return width, height, *areas


def _mistakes(a: Sequence[float], b: Sequence[float]) -> dict[str, float]:
    """What typical mistakes would give, by their hint."""
    width, height, first, second = _parts(a, b)
    both = max(width, 0.0) * max(height, 0.0)
    one_more = _parts(a, b, more=1)
    common = max(one_more[0], 0.0) * max(one_more[1], 0.0)
    return {
        "that divides by the sum of both areas, in which what is common counts twice: take it away "
        "once": both / (first + second),
        "that divides by the first box only; the union is asked for": both / first,
        "that divides by the second box only; the union is asked for": both / second,
        "that divides by the smaller box; the union is asked for": both / min(first, second),
        "that is the intersection, in square pixels: divide it by the union": both,
        "you count one pixel more in width and height (an old habit for whole pixels); here a "
        "width is x1 - x0": common / (one_more[2] + one_more[3] - common),
    }


def iou_of_two(answer: object) -> str | None:
    """Try the handed-in function on pairs of boxes."""
    if not callable(answer):
        return "a function is asked for: def iou(a, b): …"
    results = {}
    for name, (a, b, _) in PAIRS.items():
        result = answer(a, b)
        if isinstance(result, Tensor) and result.numel() == 1:
            result = result.item()
        if isinstance(result, bool) or not isinstance(result, Real):
            return f"for {a} and {b} it returns {result!r}; a number is asked for"
        results[name] = float(result)
    wrong = [name for name, (*_, right) in PAIRS.items()  # 0.333 is right, too
             if not math.isclose(results[name], right, abs_tol=1e-3)]  # fmt: skip
    if not wrong:
        return None
    apart = {"apart", "apart twice"}
    if set(wrong) <= apart:
        which = "apart" if "apart" in wrong else "apart twice"
        a, b, _ = PAIRS[which]
        negative = " (two negative sides make a positive area)" if which == "apart twice" else ""
        return (
            f"{a} and {b} have nothing in common, but you get {results[which]:.3g}{negative}: the "
            "sides of the intersection must not become negative, so take max(…, 0) of each"
        )
    touching = [name for name in wrong if name not in apart]
    for hint in _mistakes(*PAIRS["shifted"][:2]):
        if all(math.isclose(results[name], _mistakes(*PAIRS[name][:2])[hint], abs_tol=1e-6)
               for name in ("shifted", "inside", "corner")):  # fmt: skip
            return hint
    a, b, right = PAIRS[touching[0]]
    return f"for {a} and {b} the answer is {right:.4g}, and you get {results[touching[0]]:.4g}"


# --- exercise 2: a threshold for a wanted precision -------------------------------------------

# What a detector found in a few pictures (made up): scores, and whether each box is right.
SCORES = (0.97, 0.94, 0.90, 0.86, 0.81, 0.77, 0.70, 0.66, 0.58, 0.51, 0.43, 0.38, 0.30, 0.21, 0.12)
RIGHT = (1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 0, 0)
THINGS, WANTED = 16, 0.8


def kept_above(threshold: float) -> tuple[float, float]:
    """Precision and recall of the boxes with at least this score."""
    kept = [right for score, right in zip(SCORES, RIGHT, strict=True) if score >= threshold]
    return (sum(kept) / len(kept) if kept else 1.0), sum(kept) / THINGS


def best_threshold() -> float:
    """The score down to which boxes may be kept: most recall at the wanted precision."""
    return min(score for score in SCORES if kept_above(score)[0] >= WANTED)


def first_fall() -> float:
    """The lowest score before the precision first falls below what is wanted."""
    last = SCORES[0]
    for score in SCORES:
        if kept_above(score)[0] < WANTED:
            return last
        last = score
    return last


def pick_threshold(answer: object) -> str | None:
    """A threshold and the recall there, against those that the list gives."""
    if not isinstance(answer, dict) or not {"threshold", "recall"} <= set(answer):
        return 'a dict is asked for: {"threshold": …, "recall": …}'
    for key in ("threshold", "recall"):
        value = answer[key]
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not 0 <= float(value) <= 1:
            return f"{key}: a number from 0 to 1 is asked for, not {value!r}"
    threshold, recall = float(answer["threshold"]), float(answer["recall"])
    precision, right_recall = kept_above(threshold)
    below = max((score for score in SCORES if score < best_threshold()), default=0.0)
    if not below < threshold <= best_threshold():
        if threshold == WANTED:
            return (
                "the wanted precision is no threshold: scores are the detector's own opinion. "
                "Count how many of the boxes that are kept are right"
            )
        if precision < WANTED:
            return f"with that threshold {precision:.0%} of the kept boxes are right: too few"
        if max((s for s in SCORES if s < first_fall()), default=0.0) < threshold <= first_fall():
            return (
                "you stopped where the precision first falls below the mark. It rises again: go "
                "through the list to its end"
            )
        return (
            f"{precision:.0%} of the kept boxes are right, but a lower threshold would find more "
            "things and still be precise enough"
        )
    if math.isclose(recall, right_recall, abs_tol=0.006):
        return None
    if math.isclose(recall, precision, abs_tol=0.006):
        return "recall: that is the precision, the share of kept boxes that are right"
    if math.isclose(recall, right_recall * THINGS / sum(RIGHT), abs_tol=0.006):
        return (
            f"recall: you divide by the things found at any score; there are {THINGS} things in "
            "the pictures, and some were never found"
        )
    if math.isclose(recall, sum(s >= threshold for s in SCORES) / THINGS, abs_tol=0.006):
        return "recall: you count all kept boxes; only the right ones have found something"
    return f"recall: how many of the {THINGS} things are found with this threshold?"


EXERCISES = {"1": iou_of_two, "2": pick_threshold}

QUIZ = (
    Question(
        "Your detector's loss falls nicely, yet it finds nothing. What do you look at first?",
        (
            Option(
                "whether the learning rate is too low",
                "Then the loss would hardly fall.",
            ),
            Option(
                "how the loss weighs the many empty cells against the few full ones",
                "Saying 'nothing' everywhere is right nearly always. Divide by the number of full "
                "cells, and use the focal loss.",
                right=True,
            ),
            Option(
                "whether non-maximum suppression throws the boxes away",
                "It always keeps the surest box of each group; it cannot leave nothing.",
            ),
        ),
    ),
    Question(
        "Two teams report an average precision of 50 and of 25 on the same pictures. What do you "
        "ask first?",
        (
            Option(
                "at which IoU a box counted as right",
                "AP50 asks for an overlap of a half; COCO's AP is a mean up to 0.95, and is often "
                "less than half as high for the very same boxes.",
                right=True,
            ),
            Option(
                "which score threshold their users choose at work",
                "Average precision goes through all thresholds, before anybody chooses one. The "
                "choice decides precision and recall.",
            ),
            Option(
                "how many pictures a second they do",
                "That is worth knowing, but it does not make the numbers comparable.",
            ),
        ),
    ),
    Question(
        "A hole of 5 pixels lies between the centres of cells that are 8 pixels apart. A rule "
        "says: a cell answers for a thing if the cell's centre lies inside its box. What follows?",
        (
            Option(
                "the hole is learnt, only less precisely",
                "No cell answers for it, so nothing is learnt from it.",
            ),
            Option(
                "nobody answers for it, and its cells are taught that nothing is there",
                "Each such hole teaches the detector to overlook holes. Let the nearest cells "
                "answer, or use a finer grid.",
                right=True,
            ),
            Option(
                "the training stops with an error, since no cell is found",
                "Nothing complains: the thing is simply not among the targets.",
            ),
        ),
    ),
)
