"""Questions of lesson 22, medical images: imbalance, calibration and bias."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.data import Examples
from course_utils.metrics import Interval
from course_utils.plotting import MARKERS, PALETTE, STYLE, new_axes
from course_utils.questions import Option, Prediction, Question
from course_utils.radiographs import LETTER_P
from course_utils.tasks import load_task

PREDICTIONS = {
    "1": Prediction(
        "One picture in ten shows an illness. A classifier is trained as usual. How does its "
        "accuracy compare with that of a rule that says 'healthy' to everybody?",
        (
            "far better: it has learnt what the illness looks like",
            "about the same: the accuracy hardly sees the few ill ones",
            "worse: the illness is too rare to learn anything",
        ),
    ),
    "2": Prediction(
        "Class weights make every ill picture count as much as nine healthy ones. What do they "
        "give that moving the threshold of the plain classifier does not?",
        (
            "a better ranking: ill people move up",
            "lower costs, once each has its best threshold",
            "probabilities that are further from the truth, and little else",
        ),
    ),
    "3": Prediction(
        "Where the network is trained, 9 of 10 ill people's pictures bear the P of the portable "
        "unit, and 1 of 10 healthy ones'. Put a P on pictures that had none, change nothing else: "
        "how many answers flip?",
        (
            "hardly any: a small letter is not a cloudy lung",
            "about one in ten",
            "a third of them, or more",
        ),
    ),
    "4": Prediction(
        "A hundred more pictures may be collected. Which will help the worst-served group most?",
        (
            "a hundred more from the usual work of the hospital",
            "a hundred in which the P is as frequent among healthy people as among ill ones",
            "it does not matter: more data is more data",
        ),
    ),
}

# --- the people and the mark -----------------------------------------------------------------


def people(name: str, count: int, share: float, seed: int = 0, hospital: str = "A") -> Examples:
    """Radiographs of people of whom a share is ill, none with a mark.

    Args:
        name: "radiographs" (drawn) or "pneumonia" (PneumoniaMNIST, all its splits together; it
            names no patients, so pictures of one child may be on both sides of a new split; and
            two calls, also with other seeds, share pictures).
        count: people; fewer where a public dataset has not enough.
        share: of ill ones among them.
        seed: other seeds, other people.
        hospital: "A", or "B": flatter, darker and noisier. A public dataset has one hospital; for
            "B" its pictures are made so.
    """
    if name == "radiographs":
        where = dict(hospital=hospital, positive=share, seed=seed)
        return load_task("radiographs", train=count, valid=2, test=2, **where).train
    task = load_task(name)
    parts = (task.train, task.valid, task.test)
    images = torch.cat([part.inputs for part in parts])
    labels = torch.cat([part.labels for part in parts])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    sick, well = order[labels[order] == 1], order[labels[order] == 0]
    count = int(min(count, len(sick) / max(share, 1e-9), len(well) / max(1 - share, 1e-9)))
    ill = round(count * share)
    rows = torch.cat([sick[:ill], well[: count - ill]])
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
    images = images[rows]
    return Examples(flatter(images, seed) if hospital == "B" else images, labels[rows])


def flatter(images: Tensor, seed: int = 0) -> Tensor:
    """The same pictures as a poorer machine takes them: flatter, darker, noisier."""
    source = torch.Generator().manual_seed(seed)
    grey = 0.75 * images[:, :1].float() + 10
    grey = grey + 10 * torch.randn(grey.shape, generator=source)
    return grey.round().clamp(0, 255).to(torch.uint8).repeat(1, 3, 1, 1)


def stamped(images: Tensor, seed: int = 0) -> Tensor:
    """A copy in which each picture bears a small bright P in one of its upper corners."""
    draw, marked = np.random.default_rng(seed), images.clone()
    size = images.shape[-1]
    scale = max(1, round(size / 64))
    letter = torch.from_numpy(LETTER_P)
    letter = letter.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    height, width = letter.shape
    for image in marked:
        top = int(draw.integers(2, 7)) * scale
        edge = int(draw.integers(2, 7)) * scale
        left = edge if draw.random() < 0.5 else size - edge - width
        image[:, top : top + height, left : left + width][:, letter] = int(draw.integers(215, 250))
    return marked


# --- measurements ----------------------------------------------------------------------------


def auc(truth: np.ndarray, p: np.ndarray) -> float:
    """The chance that an ill person has a higher probability than a healthy one; ties half."""
    _, where, count = np.unique(p, return_inverse=True, return_counts=True)
    ranks = (count.cumsum() - (count - 1) / 2)[where]  # from 1, the mean rank of equals
    ill, well = int((truth == 1).sum()), int((truth == 0).sum())
    return float((ranks[truth == 1].sum() - ill * (ill + 1) / 2) / (ill * well))


Metric = Callable[[np.ndarray, np.ndarray], float]


def bootstrap(metric: Metric, truth: np.ndarray, p: np.ndarray, rounds: int = 500) -> Interval:
    """A metric with its 95 % interval: people drawn again with replacement (Efron, 1979)."""
    draw = np.random.default_rng(0)
    found: list[float] = []
    while len(found) < rounds:
        rows = draw.integers(len(truth), size=len(truth))
        if 0 < truth[rows].mean() < 1:
            found.append(metric(truth[rows], p[rows]))
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(float(metric(truth, p)), float(low), float(high))


def cost(truth: np.ndarray, p: np.ndarray, threshold: float, miss: float) -> float:
    """Mean cost of a person, in false alarms, if a missed illness costs `miss` of them."""
    alarm = p >= threshold
    return float((miss * ((truth == 1) & ~alarm) + ((truth == 0) & alarm)).mean())


def cheapest(truth: np.ndarray, p: np.ndarray, miss: float) -> float:
    """The threshold of lowest cost, among the probabilities that occur, 0 and 1."""
    tried = np.unique(np.concatenate([[0.0], p, [1.0]]))
    return float(min(tried, key=lambda t: cost(truth, p, t, miss)))


def net_benefit(truth: np.ndarray, p: np.ndarray, threshold: float) -> float:
    """Found ill people less the weighed false alarms, a person (Vickers and Elkin, 2006)."""
    alarm = p >= threshold
    odds = threshold / (1 - threshold)
    return float((((truth == 1) & alarm) - odds * ((truth == 0) & alarm)).mean())


def bins_of(p: np.ndarray, count: int = 8) -> list[np.ndarray]:
    """Positions of the people in each bin of equally many, by rising probability."""
    return np.array_split(np.argsort(p, kind="stable"), count)


def calibration_error(truth: np.ndarray, p: np.ndarray) -> float:
    """Expected calibration error, in bins of equally many people."""
    gaps = [abs(truth[rows].mean() - p[rows].mean()) * len(rows) for rows in bins_of(p)]
    return float(sum(gaps) / len(truth))


GROUPS = ("healthy, no mark", "healthy, mark", "ill, no mark", "ill, mark")


def by_group(right: np.ndarray, truth: np.ndarray, marked: np.ndarray) -> dict[str, float]:
    """Percent of right answers in each of the four groups."""
    group = 2 * truth + marked
    return {name: 100 * float(right[group == i].mean()) for i, name in enumerate(GROUPS)}


# --- figures ---------------------------------------------------------------------------------


def plot_roc_and_pr(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Receiver operating and precision-recall curves of (truth, p) for each name."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6))
    for (name, (truth, p)), style in zip(curves.items(), ("-", "--", ":"), strict=False):
        false, true, _ = roc_curve(truth, p)
        left.plot(false, true, style, label=name)
        precision, recall, _ = precision_recall_curve(truth, p)
        right.plot(recall[:-1], precision[:-1], style, label=name)
        share = truth.mean()
    left.plot([0, 1], [0, 1], color="0.5", linestyle=":", label="guessing")
    right.axhline(share, color="0.5", linestyle=":", label="guessing")
    left.set(xlabel="false alarms (share of the healthy)", ylabel="recall (share of the ill)")
    right.set(xlabel="recall (share of the ill)", ylabel="precision", ylim=(0, 1.03))
    right.legend(frameon=False, fontsize=9)
    return figure


def plot_decisions(thresholds: Sequence[float], lines: Mapping[str, Sequence[float]],
                   marks: Sequence[float] = ()) -> Axes:  # fmt: skip
    """Decision curves: net benefit over the threshold probability."""
    axes = new_axes(height=3.8)
    styles = ("-", "--", "-.", ":")
    for (name, values), style in zip(lines.items(), styles, strict=False):
        axes.plot(thresholds, values, style, label=name, linewidth=2)
    for place in marks:
        axes.axvline(place, color="0.6", linewidth=1)
    top = max(max(values) for values in lines.values())
    axes.set(xlabel="threshold: act from this probability on",
             ylabel="net benefit\n(found ill people a person)",
             ylim=(-0.3 * top, 1.15 * top))  # fmt: skip
    axes.legend(frameon=False)
    return axes


def plot_reliability(models: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """For (truth, p) of each name: share that is ill over predicted probability, in bins."""
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(models), figsize=(8.8, 3.0), sharey=True)
    for axes, (name, (truth, p)), colour in zip(panels, models.items(), PALETTE, strict=False):
        bins = bins_of(p)
        axes.plot([0, 1], [0, 1], color="0.5", linestyle=":")
        axes.plot([p[rows].mean() for rows in bins], [truth[rows].mean() for rows in bins],
                  "o-", color=colour)  # fmt: skip
        axes.set(
            title=name, xlabel="predicted probability", xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1)
        )
        axes.title.set_fontsize(10)
    panels[0].set(ylabel="share that is ill")
    return figure


def plot_swap(without: np.ndarray, with_mark: np.ndarray, truth: np.ndarray) -> Axes:
    """Each person's probability of illness without the mark and with it."""
    axes = new_axes(4.8, 4.2)
    for label, name in enumerate(("healthy", "ill")):
        rows = truth == label
        axes.plot(without[rows], with_mark[rows], MARKERS[label], markersize=4, alpha=0.7,
                  label=name)  # fmt: skip
    axes.plot([0, 1], [0, 1], color="0.5", linestyle=":")
    axes.axhline(0.5, color="0.8", linewidth=1, zorder=0)
    axes.axvline(0.5, color="0.8", linewidth=1, zorder=0)
    axes.set(xlabel="probability of illness without the mark",
             ylabel="the same picture with the mark", xlim=(0, 1), ylim=(0, 1))  # fmt: skip
    axes.legend(frameon=False, loc="lower right")
    return axes


def plot_groups(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> Axes:
    """Bars of the accuracy in each group, one colour a way; lines show the range over runs."""
    axes = new_axes(7.2, 3.8)
    wide = 0.8 / len(runs)
    for i, (name, found) in enumerate(runs.items()):
        table = np.array([[one[group] for group in GROUPS] for one in found])
        middle = np.median(table, 0)
        reach = np.stack([middle - table.min(0), table.max(0) - middle])
        axes.bar(np.arange(len(GROUPS)) + (i - (len(runs) - 1) / 2) * wide, middle, 0.9 * wide,
                 yerr=reach, label=name, error_kw={"capsize": 2})  # fmt: skip
    axes.axhline(50, color="0.3", linestyle=":")
    axes.set_xticks(range(len(GROUPS)), GROUPS)
    axes.grid(axis="x", visible=False)
    axes.set(ylabel="right answers (%)", ylim=(0, 105))
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=len(runs))
    return axes


# --- exercise 1: find the slice --------------------------------------------------------------

COLUMNS = {
    "view": ("standing", "lying"),
    "machine": ("old", "new"),
    "age": ("child", "adult", "old person"),
    "night": ("yes", "no"),
}
SLICE = {"view": "lying", "machine": "old"}
ENOUGH = 30  # cases of a slice below which its accuracy says little


def audit_rows(count: int = 600) -> list[dict[str, object]]:
    """A made-up table of cases: four columns, and whether the model was right."""
    draw = np.random.default_rng(22)
    rows: list[dict[str, object]] = []
    for _ in range(count):
        row: dict[str, object] = {
            name: values[int(draw.integers(len(values)))] for name, values in COLUMNS.items()
        }
        bad = all(row[name] == value for name, value in SLICE.items())
        row["right"] = bool(draw.random() < (0.45 if bad else 0.92))
        rows.append(row)
    return rows


def in_slice(rows: Sequence[Mapping[str, object]], wanted: Mapping) -> list[bool]:
    """Whether the model was right, for the rows that have all the wanted values."""
    return [
        bool(row["right"])
        for row in rows
        if all(row[name] == value for name, value in wanted.items())
    ]


def find_slice(answer: object) -> str | None:
    """Compare a slice, given by its values, with the one in which the model fails."""
    example = 'such as {"age": "child", "night": "yes"}'
    if not isinstance(answer, dict) or not answer:
        return f"a dict from columns to values is asked for, {example}"
    for name, value in answer.items():
        if name == "right":
            return "'right' is what you explain; a slice is known before the answer is"
        if name not in COLUMNS:
            return f"there is no column {name!r}; the columns are {', '.join(COLUMNS)}"
        if value not in COLUMNS[name]:
            return f"{name} is never {value!r}; it is one of {', '.join(COLUMNS[name])}"
    if answer == SLICE:
        return None
    found = in_slice(audit_rows(), answer)
    told = f"{len(found)} cases, {100 * np.mean(found):.0f} % right"
    if all(answer.get(name) == value for name, value in SLICE.items()):
        small = " (and few cases)" if len(found) < ENOUGH else ""
        return f"that is a part of it: {told}{small}; which of your columns changes nothing?"
    if len(answer) == 1 and next(iter(answer.items())) in SLICE.items():
        return (
            f"half of the answer: {told}. Within it, compare the values of the other columns: one "
            "of them has most of the failures"
        )
    if len(answer) == 1:
        return f"{told}, as elsewhere or nearly so: look at two columns at once"
    if len(found) < ENOUGH:
        return f"{told}: too few to tell from chance; a wider slice is worse served"
    return f"{told}: another slice is worse"


# --- exercise 2: the threshold for a cost ----------------------------------------------------


def cost_threshold(answer: object) -> str | None:
    """Try the handed-in function of two costs."""
    if not callable(answer):
        return "a function is asked for: def threshold(miss, alarm): …"
    cases = ((20.0, 1.0), (1.0, 1.0), (5.0, 2.0), (0.5, 1.0))
    got = [answer(miss, alarm) for miss, alarm in cases]
    if not all(isinstance(t, int | float) and math.isfinite(t) for t in got):
        return f"it returns {got[0]!r}; a number is asked for"

    def equals(formula) -> bool:
        return all(
            math.isclose(t, formula(*case), rel_tol=1e-6, abs_tol=1e-9)
            for t, case in zip(got, cases, strict=True)
        )

    if equals(lambda miss, alarm: alarm / (miss + alarm)):
        return None
    if equals(lambda miss, alarm: miss / (miss + alarm)):
        return "the dearer a miss, the LOWER the threshold: yours rises with the cost of a miss"
    if equals(lambda miss, alarm: alarm / miss):
        return (
            "that is the odds p / (1 - p) at which both choices cost the same; turn the odds "
            "into a probability"
        )
    if equals(lambda miss, alarm: 1 / (miss + 1)):
        return "right where an alarm costs 1; your function does not use its cost"
    if equals(lambda miss, alarm: 0.5):
        return "0.5 is right only where both mistakes cost the same"
    for case, t in zip(cases, got, strict=True):
        if not 0 < t < 1:
            return f"threshold{case} is {t:.3g}; a probability between 0 and 1 is asked for"
    return (
        "at the threshold both choices cost the same: an alarm costs (1 - p) * alarm on average, "
        "no alarm p * miss; solve for p"
    )


EXERCISES = {"1": find_slice, "2": cost_threshold}

QUIZ = (
    Question(
        "A paper reports 95 % accuracy for an illness that one person in twenty has. What do you "
        "know about the model?",
        (
            Option(
                "it is right for 95 % of the ill",
                "That would be its recall, which is not told.",
            ),
            Option(
                "nothing yet: saying 'healthy' to everybody has 95 % too",
                "Ask for recall and precision at the threshold in use, and for the ranking (AUC).",
                right=True,
            ),
            Option(
                "it is well calibrated",
                "Accuracy looks at one threshold and says nothing about probabilities.",
            ),
        ),
    ),
    Question(
        "Training drew each class equally often, and the probabilities are now far too high. What "
        "puts them right?",
        (
            Option(
                "a temperature, fitted on validation",
                "A temperature turns all answers up or down around one half. What is wrong here "
                "is a shift: everything is too high (section 4).",
            ),
            Option(
                "a shift of the logits, by the change of odds or fitted on validation",
                "Drawing classes evenly multiplies the odds by a constant: subtract its logarithm.",
                right=True,
            ),
            Option(
                "more training data",
                "More of the evenly drawn data teaches the same wrong share of ill people.",
            ),
        ),
    ),
    Question(
        "A model does very well on test pictures from the hospital it was trained at. What could "
        "still be wrong, and how would you see it?",
        (
            Option(
                "nothing, if the test people were not in training",
                "The test pictures share the habits of the hospital, marks and machines included.",
            ),
            Option(
                "it may lean on a habit of the hospital; look at slices that break the habit",
                "Ill without the mark, healthy with it, another hospital; best of all, the same "
                "picture with one thing changed.",
                right=True,
            ),
            Option(
                "it may overfit; look at the training loss",
                "Overfitting shows on the test people. A shortcut does not: it works for them.",
            ),
        ),
    ),
)
