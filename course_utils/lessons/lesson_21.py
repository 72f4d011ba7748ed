"""Questions of lesson 21, overfitting and its cures."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Integral

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor
from torchvision import tv_tensors

from course_utils.data import Examples
from course_utils.plotting import MARKERS, PALETTE, STYLE, new_axes
from course_utils.questions import Option, Prediction, Question

PREDICTIONS = {
    "1": Prediction(
        "Six pictures of each class, an hour's work of labelling. Which cure will raise the test "
        "accuracy most?",
        (
            "weight decay",
            "dropout before the head",
            "stopping early, at the lowest validation loss",
            "label smoothing",
            "turning and flipping the pictures",
            "mixup, which lays one picture over another",
            "none of them: six more pictures of each class beat them all",
        ),
    ),
    "2": Prediction(
        "Stop where the validation loss is lowest, instead of training to the end. What becomes of "
        "the test accuracy?",
        (
            "it is higher: the epochs behind only overfit",
            "it is the same, within chance",
            "it is lower: accuracy may go on rising while the loss does",
        ),
    ),
    "3": Prediction(
        "RandomResizedCrop with its default settings, with which most networks for ImageNet were "
        "trained: it cuts out a random part, of 8 % to 100 % of the picture, and enlarges it. What "
        "does it do for our defects?",
        (
            "it helps more than flips and turns: it is the stronger augmentation",
            "it helps about as much",
            "it does not help, or harms",
        ),
    ),
}

# --- the lesson's own measurements -----------------------------------------------------------


def with_mistakes(examples: Examples, share: float, classes: int, seed: int) -> Examples:
    """The same examples, `share` of them with another class, drawn at random, as their label."""
    source = torch.Generator().manual_seed(seed)
    assert isinstance(examples.labels, Tensor)
    labels = examples.labels.clone()
    rows = torch.randperm(len(labels), generator=source)[: round(share * len(labels))]
    labels[rows] += torch.randint(1, classes, (len(rows),), generator=source)
    return replace(examples, labels=labels % classes)


def interval(differences: ArrayLike, rounds: int = 2000, seed: int = 0) -> tuple[float, ...]:
    """The mean difference and its 95 % bootstrap interval (Efron, 1979).

    Args:
        differences: (runs, examples); both are drawn again.
    """
    table, draw = np.asarray(differences, dtype=float), np.random.default_rng(seed)
    # How often each run and each example is drawn in each round.
    rows, columns = (draw.multinomial(n, np.full(n, 1 / n), rounds) for n in table.shape)
    means = ((rows @ table) * columns).sum(1) / table.size
    low, high = np.quantile(means, [0.025, 0.975])
    return float(table.mean()), float(low), float(high)


def changed_with_masks(
    examples: Examples, change: Callable[..., tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Change pictures at random, and with each its mask of what the label is about.

    Examples without a column "masks" get a mask of the middle of the picture. Pictures with an
    empty mask are left out.

    Args:
        change: a transform of torchvision.transforms.v2.

    Returns:
        The changed pictures, their labels, and the number of pixels left of each mask.
    """
    assert isinstance(examples.inputs, Tensor)
    middle = torch.zeros_like(examples.inputs[:, 0], dtype=torch.bool)
    edge = middle.shape[-1] // 4
    middle[:, edge:-edge, edge:-edge] = True
    masks = examples.columns.get("masks", middle)
    images, labels, left = [], [], []
    for image, mask, label in zip(examples.inputs, masks, examples.labels, strict=True):
        if mask.any():
            changed, rest = change(image, tv_tensors.Mask(mask))
            images.append(changed)
            labels.append(label)
            left.append(rest.sum())
    return torch.stack(images), torch.stack(labels), torch.stack(left)


def plot_gains(gains: Mapping[str, tuple[float, ...]]) -> Axes:
    """A mean and its interval a row; grey squares where zero lies inside."""
    axes = new_axes(height=0.8 + 0.32 * len(gains))
    for row, (mean, low, high) in enumerate(gains.values()):
        real = low > 0 or high < 0
        axes.errorbar(
            mean, row, xerr=[[mean - low], [high - mean]], capsize=4, fmt="o" if real else "s",
            color=PALETTE[0] if real else "0.5",
        )  # fmt: skip
    axes.axvline(0, color="0.4", linestyle=":")
    axes.set_yticks(range(len(gains)), list(gains))
    axes.set(xlabel="points of accuracy against no cure (95 % interval)")
    return axes


def plot_loss_and_accuracy(points: Mapping[str, tuple[float, float]], clueless: float) -> Axes:
    """A marker for each (loss, accuracy in percent), and the loss of knowing nothing."""
    axes = new_axes(7.2, 4)
    for place, (name, (loss, accuracy)) in enumerate(points.items()):
        axes.plot(
            loss, accuracy, MARKERS[place % len(MARKERS)], markersize=8, label=name,
            color=PALETTE[(place + place // len(MARKERS)) % len(PALETTE)], linestyle="",
        )  # fmt: skip
    axes.axvline(clueless, color="0.3", linestyle=":", label="knowing nothing")
    axes.set(xlabel="test loss (nats)", ylabel="test accuracy (%)")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return axes


# --- exercise 1: an augmentation that keeps what the labels mean -----------------------------

SIGNALS = ("red, left", "red, right", "green, left", "green, right")
SIDE = 48  # pixels


def signal_lamps(count: int = 50, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures of a lit arrow, red or green, that points to the left or to the right.

    Returns:
        Images (count, 3, 48, 48), uint8, and labels (count,), positions in `SIGNALS`.
    """
    source = torch.Generator().manual_seed(seed)
    labels = torch.randperm(count, generator=source) % len(SIGNALS)
    images = torch.stack([_lamp(int(label), source) for label in labels])
    return images, labels


def _lamp(label: int, source: torch.Generator) -> Tensor:
    def between(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=source).item()

    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    right = label % 2 == 1
    ahead = (x - SIDE / 2 - between(-3, 3)) * (1 if right else -1)  # along the arrow
    aside = (y - SIDE / 2 - between(-3, 3)).abs()
    shaft = (ahead > -11) & (ahead <= 2) & (aside < 2)
    head = (ahead > 2) & (ahead < 11) & (aside < 9 - (ahead - 2))
    ground = between(50, 90) + 12 * torch.randn(SIDE, SIDE, generator=source)
    image = ground.expand(3, -1, -1).clone()
    colour = (0.9, 0.15, 0.1) if label < 2 else (0.1, 0.8, 0.2)
    light = between(190, 240)
    image[:, shaft | head] = light * torch.tensor(colour)[:, None]
    return image.clamp(0, 255).to(torch.uint8)


def read_signal(image: Tensor) -> int | str:
    """What a careful person reads in one of these pictures: a label, or what is missing."""
    difference = image[0].float() - image[1].float()  # the ground is grey: no difference
    lit = difference.abs() > 45
    if int(lit.sum()) < 60:
        # Other colours than red and green: lit, but hardly readable as one of them.
        spread = image.float().amax(0) - image.float().amin(0)
        return "colour" if int((spread > 45).sum()) >= 60 or _bright(image) else "nothing"
    red = bool(difference[lit].sum() > 0)
    columns = lit.any(0).nonzero().flatten()
    rows = lit.any(1).nonzero().flatten()
    wide = int(columns[-1] - columns[0]) + 1
    tall = int(rows[-1] - rows[0]) + 1
    if tall > wide:
        return "upright"
    # The shaft has half the length and a small part of the lit area: more lies at the head.
    middle = (columns[0] + columns[-1]) / 2
    right = bool((lit.nonzero()[:, 1].float() - middle).mean() > 0)
    return (0 if red else 2) + int(right)


def _bright(image: Tensor) -> bool:
    """Whether a grey arrow stands out from the ground."""
    grey = image.float().mean(0)
    return int(((grey - grey.median()).abs() > 45).sum()) >= 60


LOST = {  # what to say where a picture cannot be read any more
    "colour": (
        "the lamp is neither red nor green any more. Here the colour is half of the label: leave "
        "hue and saturation alone, and change the brightness only"
    ),
    "upright": (
        "the arrow points up or down, which is no class here: quarter turns are for pictures that "
        "have no up and down, such as the surfaces"
    ),
    "nothing": (
        "the arrow is gone, cut off, erased or too dark to be seen, and the label still names it: "
        "smaller shifts, no large crops"
    ),
}
MISREAD = 0.02  # share of pictures in which the label may be unreadable
ROUNDS = 6  # times that the check augments the 50 pictures


def keeps_the_label(answer: object) -> str | None:
    """Run the handed-in function on lamps and look at what comes out."""
    if not callable(answer):
        return "a function is asked for that takes a batch of pictures: def augment(images): …"
    images, labels = signal_lamps()
    kept = images.clone()
    torch.manual_seed(0)
    rounds = []
    for _ in range(ROUNDS):
        result = answer(images.clone())
        if hint := _form(result, images):
            return hint
        rounds.append(result)
    given = images.clone()
    answer(given)
    if not torch.equal(given, kept):
        return (
            "the function writes into the batch that it was given; make new pictures instead "
            "(images.clone(), or what a transform returns)"
        )
    if all(torch.equal(one, images) for one in rounds):
        return "nothing changes: the pictures come back as they were"
    if all(torch.equal(one, rounds[0]) for one in rounds[1:]):
        return (
            "the same change each time: an augmentation is drawn anew for each batch, or else it "
            "is only another data set of the same size"
        )
    if hint := _each_for_itself(answer, images):
        return hint
    return _meaning(rounds, images, labels)


def _form(result: object, images: Tensor) -> str | None:
    if result is None or result is ...:
        return "the function returns nothing yet: end it with return and the new pictures"
    if not isinstance(result, Tensor):
        return f"it returns a {type(result).__name__}; a tensor of pictures is asked for"
    if result.dtype != torch.uint8:
        return (
            f"the pictures come back as {result.dtype}, and fit hands on whole bytes: stay with "
            "torch.uint8, as the transforms of torchvision do when they get bytes"
        )
    if result.shape != images.shape:
        return (
            f"in goes a batch of shape {tuple(images.shape)}, out comes {tuple(result.shape)}: as "
            "many pictures of the same size are needed, one for each label"
        )
    return None


def _each_for_itself(augment: Callable, images: Tensor) -> str | None:
    """Twenty times the same picture: is each of them changed in its own way?"""
    same = images[:1].repeat(20, 1, 1, 1)
    most = max(len(augment(same.clone()).flatten(1).unique(dim=0)) for _ in range(ROUNDS))
    if most == 1:
        return (
            "all pictures of a batch get the same change: a transform of torchvision that is given "
            "a whole batch draws once for all of them. Call it for each picture, and torch.stack "
            "the results"
        )
    if most < 4:
        return (
            f"twenty times the same picture become only {most} different ones: little variety. "
            "Combine changes, such as small shifts and brightness"
        )
    return None


def _meaning(rounds: list[Tensor], images: Tensor, labels: Tensor) -> str | None:
    read = [read_signal(image) for one in rounds for image in one]
    true = labels.repeat(len(rounds)).tolist()
    wrong = [(what, label) for what, label in zip(read, true, strict=True) if what != label]
    share = len(wrong) / len(true)
    if share <= MISREAD:
        return None
    lost = [what for what, _ in wrong if isinstance(what, str)]
    if len(lost) * 2 > len(wrong):
        worst = max(set(lost), key=lost.count)
        return f"in {share:.0%} of the pictures the label cannot be read: {LOST[worst]}"
    other = [what % 2 == label % 2 for what, label in wrong if not isinstance(what, str)]
    if sum(other) * 2 > len(other):
        return (
            f"in {share:.0%} of the pictures red has become green or green red, and the label has "
            "not: leave the hue alone, and the order of the channels"
        )
    return (
        f"in {share:.0%} of the pictures the arrow points the other way, and the label does not: "
        "no flips from left to right, no half turns, and pictures must stay with their labels"
    )


# --- exercise 2: reading curves --------------------------------------------------------------

# Four runs, made up: losses in training and validation, and the validation accuracy in percent.
CURVES: dict[str, dict[str, list[float]]] = {
    "A": {
        "training": [1.60, 1.15, 0.80, 0.55, 0.36, 0.24, 0.15, 0.10, 0.07, 0.05],
        "validation": [1.62, 1.31, 1.18, 1.14, 1.19, 1.27, 1.38, 1.49, 1.58, 1.66],
        "accuracy": [31, 44, 51, 54, 56, 58, 61, 60, 60, 60],
    },
    "B": {
        "training": [1.78, 1.76, 1.75, 1.74, 1.73, 1.72, 1.71, 1.70, 1.70, 1.69],
        "validation": [1.78, 1.77, 1.75, 1.75, 1.74, 1.73, 1.73, 1.72, 1.71, 1.71],
        "accuracy": [18, 20, 21, 21, 23, 24, 24, 25, 25, 26],
    },
    "C": {
        "training": [1.66, 1.33, 1.12, 0.97, 0.88, 0.81, 0.76, 0.72, 0.69, 0.67],
        "validation": [1.61, 1.28, 1.08, 0.95, 0.87, 0.82, 0.79, 0.77, 0.76, 0.75],
        "accuracy": [33, 48, 58, 64, 68, 70, 72, 73, 74, 74],
    },
    "D": {
        "training": [1.55, 2.10, 1.40, 2.60, 1.90, 3.10, 1.70, 2.40, 2.90, 2.00],
        "validation": [1.70, 2.40, 1.60, 3.00, 1.80, 2.90, 2.10, 2.30, 3.20, 2.20],
        "accuracy": [27, 22, 31, 18, 29, 21, 25, 24, 19, 26],
    },
}
VERDICTS = {
    "A": "overfits",
    "B": "learns too slowly",
    "C": "learns well",
    "D": "learns too fast",
}
SEEN = {  # what speaks for each verdict
    "A": (
        "the training loss falls to nearly nothing, and the validation loss turns at the fourth "
        "epoch and rises"
    ),
    "B": "both losses lie close together and have hardly moved in ten epochs",
    "C": (
        "both losses fall together to the end; that training ends a little lower is usual and does "
        "no harm as long as the validation loss falls too"
    ),
    "D": "both losses jump up and down, the training loss too: the steps are too large",
}


def plot_curves() -> Figure:
    """The losses of the four made-up runs, side by side."""
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(CURVES), figsize=(8.4, 2.7), sharey=True)
        for axes, (name, run) in zip(panels, CURVES.items(), strict=True):
            for kind, marker in zip(("training", "validation"), MARKERS, strict=False):
                axes.plot(range(1, 11), run[kind], marker=marker, markersize=4, label=kind)
            axes.set(title=f"run {name}", xlabel="epoch", xticks=(1, 4, 7, 10))
        panels[0].set(ylabel="loss (nats)", ylim=(0, None))
        panels[1].legend(frameon=False, loc="lower left", fontsize=8)
    return figure


def best_epochs(curves: dict[str, list[float]]) -> tuple[int, int]:
    """Numbers, from 1, of the epochs of the lowest loss and the highest accuracy in validation."""
    loss, accuracy = curves["validation"], curves["accuracy"]
    return loss.index(min(loss)) + 1, accuracy.index(max(accuracy)) + 1


def read_the_curves(answer: object) -> str | None:
    """Compare a verdict for each run, and two epochs, with those that the numbers support."""
    asked = [*VERDICTS, "lowest loss", "highest accuracy"]
    if not isinstance(answer, dict):
        return f"a dict is asked for, with the keys {', '.join(asked)}"
    if missing := [key for key in asked if key not in answer or answer[key] in (None, ...)]:
        return f"still open: {', '.join(missing)}"
    choices = ", ".join(sorted(VERDICTS.values()))
    for run, verdict in VERDICTS.items():
        if answer[run] not in VERDICTS.values():
            return f"run {run}: {answer[run]!r} is none of the four verdicts: {choices}"
        if answer[run] != verdict:
            return f"run {run} is not one that {answer[run]}. Look again: {SEEN[run]}"
    by_loss, by_accuracy = best_epochs(CURVES["A"])
    for key, right, wrong, what in (
        ("lowest loss", by_loss, by_accuracy, "the validation loss is lowest"),
        ("highest accuracy", by_accuracy, by_loss, "the validation accuracy is highest"),
    ):
        found = answer[key]
        if not isinstance(found, Integral) or isinstance(found, bool):
            return f"{key}: the number of an epoch is asked for, from 1 to 10, not {found!r}"
        if found == right - 1:
            return f"{key}: epochs are counted from 1 here, not from 0"
        if found == wrong:
            return f"{key}: that is where the other of the two is best; {what} elsewhere"
        if key == "lowest loss" and found == len(CURVES["A"]["training"]):
            return f"{key}: the training loss is lowest there, but only validation counts"
        if found != right:
            return f"{key}: epoch {found} is not where {what} in run A"
    return None


EXERCISES = {"1": keeps_the_label, "2": read_the_curves}

QUIZ = (
    Question(
        "The training loss falls towards zero, the validation loss has risen since the third "
        "epoch, and the validation accuracy still goes up a little. What is happening?",
        (
            Option(
                "one of the curves must be wrong: loss and accuracy go together",
                "They measure different things. Accuracy asks only which class is first; the loss "
                "asks how sure the model was, and a sure mistake costs more than many timid ones.",
            ),
            Option(
                "the model grows too sure of its mistakes, and makes a few less of them",
                "Section 3: the answers hardly change, the confidence does. Whether it matters "
                "depends on whether anybody uses the probabilities.",
                right=True,
            ),
            Option(
                "the learning rate is too low",
                "Then the training loss would not fall towards zero.",
            ),
        ),
    ),
    Question(
        "You want to augment X-ray pictures in which the heart's side is what is asked for. Which "
        "change is out of the question?",
        (
            Option(
                "a little brightness",
                "Exposure differs from picture to picture and does not change the answer.",
            ),
            Option(
                "flips from left to right",
                "A flip makes a heart on the left one on the right, and the label stays as it was.",
                right=True,
            ),
            Option(
                "shifts of a few pixels",
                "The patient never stands in exactly the same place, and the side stays.",
            ),
        ),
    ),
    Question(
        "Ten cures were tried with three seeds each, and one of them is 1.5 points better than "
        "nothing, with an interval from -1 to +4. What do you report?",
        (
            Option(
                "that this cure helps by 1.5 points",
                "Zero lies in the interval, and the best of ten is often just the luckiest.",
            ),
            Option(
                "all ten with their intervals, and that this one cannot be told from nothing",
                "Who reads it can then save the time for what was measured to help.",
                right=True,
            ),
            Option(
                "nothing: it did not work",
                "Then the next one has to try all ten again.",
            ),
        ),
    ),
)
