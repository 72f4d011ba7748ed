"""Questions of lesson 42, few-shot and unlabelled data."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes

from course_utils.models import quiet_transformers
from course_utils.questions import Option, Prediction, Question

PREDICTIONS = {
    "1": Prediction(
        "One written sentence a class and no label at all, against labelled texts of which the "
        "prototypes are the means. From how many labels a class on do the labels win?",
        (
            "from one on: a real text is better than a description",
            "from about two",
            "from about four or more",
            "never",
        ),
    ),
    "2": Prediction(
        "Two labels a class, and the encoder may be trained. Which is best on the test texts?",
        (
            "the linear probe: so few texts can only spoil an encoder",
            "full fine-tuning with a new head",
            "pulling the texts of a class together, pair by pair, and then a probe",
            "all are equal within the noise",
        ),
    ),
    "3": Prediction(
        "The probe labels the pool, we add the labels that it is surest of, train, and repeat. "
        "At first nearly all of them are right. What becomes of the accuracy in five rounds?",
        (
            "it rises: more texts, and mostly right labels",
            "it stays: the probe learns nothing that it did not know",
            "it falls",
        ),
    ),
    "4": Prediction(
        "One drawing of each digit, and a network that was trained on photographs. Which vectors "
        "of a picture make the best prototypes?",
        (
            "its bare pixels",
            "the features of the network's last stage",
            "those of a middle stage, averaged over the picture",
            "those of a middle stage, kept apart by their places",
        ),
    ),
}


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Inside, setfit and the libraries below it print, log and warn nothing."""
    import datasets

    bars = datasets.are_progress_bars_disabled()
    before = logging.root.manager.disable
    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    silence = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            quiet_transformers(),
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if not bars:
            datasets.enable_progress_bars()


def ticks_and_legend(axes: Axes, sizes: Sequence[int]) -> None:
    """Ticks at the measured numbers of labels (and only there), and the legend beside the plot."""
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


# --- exercise 1: the prototype classifier ---------------------------------------------------

Cases = tuple[tuple[str, list, list, list, list], ...]
# What goes wrong where it fails, vectors, their labels, queries, and the right answer.
PROTOTYPE_CASES: Cases = (
    (
        "two classes of one vector each: the query's class is that of the nearest one",
        [[1, 0], [0, 1]], [0, 1], [[0.9, 0.1], [0.2, 0.8]], [0, 1],
    ),
    (
        "the labels are 3 and 7, and what is asked for are labels, not the places of the "
        "prototypes: look them up",
        [[1, 0], [0, 1]], [3, 7], [[0.9, 0.1], [0.2, 0.8]], [3, 7],
    ),
    (
        "class 1 has one vector that lies close to the query, but its mean is further away "
        "than that of class 0: use the mean of a class, not its nearest text",
        [[1, 0], [0.8, 0.6], [0, 1], [0.82, 0.57]], [0, 0, 1, 1], [[0.83, 0.56]], [0],
    ),
    (
        "class 0 has four vectors and class 1 has one: take the mean and not the sum, or the "
        "larger class wins by its size alone",
        [[0.8, 0.6], [0.8, 0.6], [0.8, 0.6], [0.8, 0.6], [0, 1]], [0, 0, 0, 0, 1],
        [[0.1, 0.99]], [1],
    ),
    (
        "the vectors of class 0 point in different directions, so their mean is short, and a "
        "short prototype loses every inner product: bring the prototypes to length one before "
        "you compare",
        [[1, 0], [-0.6, 0.8], [0.8, -0.6], [0.8, -0.6]], [0, 0, 1, 1], [[0.91, 0.42]], [0],
    ),
    (
        "the classes come in mixed order in the list: choose each class's vectors by its label",
        [[0, 1], [1, 0], [0.1, 0.99], [0.99, 0.1]], [1, 0, 1, 0], [[1, 0.2], [0.2, 1]], [0, 1],
    ),
)  # fmt: skip


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def prototype_classifier(answer: object) -> str | None:
    """Try the handed-in function on small cases."""
    if not callable(answer):
        return "a function is asked for: def nearest(vectors, labels, queries): … with a label each"
    for why, vectors, labels, queries, expected in PROTOTYPE_CASES:
        given = _unit(np.array(vectors, dtype=float)), np.array(labels)
        result = answer(*given, _unit(np.array(queries, dtype=float)))
        if result is None or result is ...:
            return "the function returns nothing yet: end it with return and the labels"
        got = np.asarray(result)
        if got.shape != (len(queries),):
            return (
                f"for {len(queries)} queries it returns something of shape {got.shape}: one label "
                "a query is asked for, which argmax over the classes (axis=1) gives"
            )
        if got.dtype.kind not in "iu" and not np.array_equal(got, np.round(got)):
            return f"it returns {got.tolist()}: labels are asked for, not similarities"
        if got.tolist() != expected:
            return f"it says {got.tolist()} and should say {expected}: {why}"
    return None


# --- exercise 2: a threshold for pseudo-labels ----------------------------------------------

# Confidence and whether the label was right, on texts with known labels; the precision that is
# wanted, the right threshold, and what to say to those who find another one.
THRESHOLD_CASES = (
    (
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [1, 1, 1, 0, 1, 0], 0.9, 0.7,
        "from 0.7 on all three labels are right, and one further down is wrong",
    ),
    (
        [0.4, 0.9, 0.6, 0.8, 0.5, 0.7], [0, 1, 0, 1, 1, 1], 0.9, 0.7,
        "the texts are in no order: sort them, or compare with each threshold",
    ),
    (
        [0.95, 0.9, 0.85, 0.8, 0.75, 0.7], [1, 0, 1, 1, 1, 1], 0.8, 0.7,
        "the precision falls below 0.8 at the second text and is above it again with all six: "
        "do not stop at the first wrong label, look at every threshold",
    ),
    (
        [0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 1, 1, 0], 0.8, 0.5,
        "with all five the precision is exactly 0.8, which is what was asked for: at least "
        "includes equal",
    ),
    (
        [0.9, 0.8, 0.8, 0.8, 0.6], [1, 1, 0, 0, 1], 0.75, 0.9,
        "three texts have a confidence of 0.8, and a threshold keeps all of them or none",
    ),
    (
        [0.9, 0.8, 0.7], [0, 0, 1], 0.9, float("inf"),
        "no threshold gives that precision, so keep nothing: return float('inf')",
    ),
)  # fmt: skip


def pseudo_label_threshold(answer: object) -> str | None:
    """Try the handed-in function on lists of confidences."""
    if not callable(answer):
        return "a function is asked for: def threshold(sure, right, wanted): … that returns one"
    for sure, right, wanted, expected, why in THRESHOLD_CASES:
        case = f"for sure = {sure}, right = {right}, wanted = {wanted}"
        result = answer(np.array(sure), np.array(right, dtype=bool), wanted)
        if result is None or result is ...:
            if expected == float("inf"):
                return f"{case} it returns nothing: {why}"
            return "the function returns nothing yet: end it with return and the threshold"
        if isinstance(result, bool | np.bool_) or not isinstance(
            result, int | float | np.integer | np.floating
        ):
            return f"{case} it returns {result!r}; one number is asked for"
        kept = np.array(sure) >= result
        if not np.array_equal(kept, np.array(sure) >= expected):
            share = np.array(right, dtype=float)[kept].mean() if kept.any() else None
            has = "nothing is kept" if share is None else f"{kept.sum()} kept, {share:.0%} right"
            return f"{case} it says {result:.3g} ({has}) and should say {expected:g}: {why}"
    return None


EXERCISES = {"1": prototype_classifier, "2": pseudo_label_threshold}

QUIZ = (
    Question(
        "A paper reports one-shot accuracy from a single draw of the labelled texts. Yours is "
        "six points lower with the same method. What do you conclude?",
        (
            Option(
                "my code has a mistake",
                "Perhaps, but the luck of the draw alone moves one-label accuracy by more than "
                "that: see the band in section 3.",
            ),
            Option(
                "nothing yet: draw the texts many times and compare medians and ranges",
                "With one label a class, which text it is matters more than most methods do.",
                right=True,
            ),
            Option(
                "their test set is easier",
                "That may be, but it takes no other test set to explain six points here.",
            ),
        ),
    ),
    Question(
        "You have two labels a class, an encoder made for sentences, and a GPU. What do you try "
        "after the class descriptions and the probe?",
        (
            Option(
                "full fine-tuning with a new head, with more epochs",
                "The head starts from random weights and must be learnt from a dozen texts. In "
                "section 4 it was not ahead of pairs, and what it leaves is no encoder of "
                "sentences any more, which could use the descriptions too.",
            ),
            Option(
                "pairs: texts of a class together, those of two classes apart, then a probe",
                "A dozen texts make dozens of pairs, and no random head stands in between.",
                right=True,
            ),
            Option(
                "a larger head",
                "More random weights to learn from the same few texts.",
            ),
        ),
    ),
    Question(
        "Your pseudo-labels are 90 % right, and training on them makes the model worse. Where do "
        "you look first?",
        (
            Option(
                "at the classes that they come from",
                "The surest labels came mostly from a few classes, and the model unlearnt the "
                "rest. Precision says nothing about that; a count a class does.",
                right=True,
            ),
            Option(
                "at the wrong 10 %, which must be corrected by hand",
                "Section 6 did just that, and it was worth no more than unchecked labels that "
                "were spread evenly over the classes.",
            ),
            Option(
                "at the threshold: it should be higher",
                "A higher threshold keeps even more of the classes that are easy already.",
            ),
        ),
    ),
)
