"""Questions of lesson 24, explanations, and how heat maps are scored and shown."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.plotting import PALETTE, STYLE
from course_utils.questions import Option, Prediction, Question
from course_utils.show import show

PREDICTIONS = {
    "1": Prediction(
        "Grad-CAM can look at any stage. At which one will its largest value lie in the defect's "
        "box most often? (Pictures of 64 pixels in quick.)",
        (
            "layer2, a grid of 8 x 8",
            "layer3, a grid of 4 x 4",
            "layer4, a grid of 2 x 2: the usual choice, the last stage before the head",
        ),
    ),
    "2": Prediction(
        "An edge detector looks at the picture and at no model. How well does it point at defects, "
        "next to methods that explain the network?",
        (
            "worse than the middle of the picture",
            "better than the middle, worse than every explanation",
            "better than some explanations of good repute",
        ),
    ),
    "3": Prediction(
        "We replace all weights of the network by random ones, so that it knows nothing. Whose "
        "maps stay the same?",
        ("the gradient's", "Grad-CAM's", "the edge detector's", "nobody's"),
    ),
    "4": Prediction(
        "We take the three words with the largest scores out of a review. Which scores lower the "
        "model's probability most?",
        (
            "attention, which says where the network looked",
            "integrated gradients",
            "leaving out each word alone, and seeing what happens",
            "they are about equal",
        ),
    ),
}

# --- maps that need no model ----------------------------------------------------------------


def centre(images: Tensor) -> Tensor:
    """A hill in the middle, the same for every picture: (n, 3, H, W) → (n, H, W)."""
    rows, columns = (torch.linspace(-1, 1, side) for side in images.shape[-2:])
    hill = torch.exp(-(rows[:, None].square() + columns.square()))
    return hill.repeat(len(images), 1, 1)


def edges(images: Tensor) -> Tensor:
    """How sharply brightness changes around each pixel: (n, 3, H, W) → (n, H, W).

    The slopes of Sobel's filters (1968), smoothed.
    """
    grey = images.float().mean(1, keepdim=True)
    slope = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    filters = torch.stack([slope, slope.T])[:, None].to(grey.device)
    return smooth(F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), filters).norm(dim=1))


def smooth(maps: Tensor, width: int = 5) -> Tensor:
    """The mean over a square around each pixel: (n, H, W) → (n, H, W)."""
    return _mean_around(maps[:, None], width)[:, 0]


def blurred(images: Tensor) -> Tensor:
    """Pictures without their details, as whole bytes: (n, 3, H, W)."""
    width = images.shape[-1] // 4 + 1
    return _mean_around(_mean_around(images, width), width).round().to(torch.uint8)


def _mean_around(images: Tensor, width: int) -> Tensor:
    width += 1 - width % 2  # odd, so that it has a middle
    return F.avg_pool2d(images.float(), width, 1, width // 2, count_include_pad=False)


# --- scores of maps -------------------------------------------------------------------------


def hits(maps: Tensor, boxes: Tensor, tolerance: float = 0) -> Tensor:
    """Whether each map's largest value lies in its box, or at most so many pixels beside it.

    Args:
        maps: (n, H, W).
        boxes: (n, 4), x0, y0, x1, y1 in pixels; x1 and y1 are one past the last pixel.

    Returns:
        (n,), true or false; false where the box is not a number, and where a map is flat and so
        points nowhere.
    """
    y, x = pointed(maps)
    x0, y0, x1, y1 = boxes.cpu().unbind(1)
    across = (x >= x0 - tolerance) & (x <= x1 - 1 + tolerance)
    down = (y >= y0 - tolerance) & (y <= y1 - 1 + tolerance)
    flat = maps.detach().cpu().flatten(1)
    return across & down & (flat.amax(1) > flat.amin(1))


def pointed(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each map's largest value: (n, H, W) → (n,) twice.

    Where several are equal, as in the corners of an enlarged map, the middle of them.
    """
    found = maps.detach().cpu()
    largest = (found == found.amax((1, 2), keepdim=True)).double()
    largest = largest / largest.sum((1, 2), keepdim=True)
    rows, columns = (torch.arange(side).double() for side in found.shape[1:])
    return largest.sum(2) @ rows, largest.sum(1) @ columns


def inside(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Pixels in boxes: (n, 4) → (n, H, W), true or false."""
    x0, y0, x1, y1 = boxes.cpu()[:, :, None, None].unbind(1)
    rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])
    return (columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1)


def energy(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of each map's positive values that lies in its mask: (n, H, W) twice → (n,)."""
    positive = maps.detach().cpu().clamp(min=0)
    return (positive * masks.cpu()).sum((1, 2)) / positive.sum((1, 2)).clamp(min=1e-12)


def rank_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's correlation of each map with its partner: (n, H, W) twice → (n,).

    Zero where a map is the same everywhere, and so has no order.
    """
    first, second = (_ranks(maps.detach().cpu().flatten(1)) for maps in (one, other))
    return F.cosine_similarity(first, second, dim=1)


def _ranks(rows: Tensor) -> Tensor:
    """Ranks within each row, of mean zero; equal values share the mean of theirs."""
    ranks = []
    for row in rows:
        _, place, counts = row.unique(return_inverse=True, return_counts=True)
        ranks.append((counts.cumsum(0) - (counts - 1) / 2)[place].double())
    found = torch.stack(ranks)
    return found - found.mean(1, keepdim=True)


@torch.no_grad()
def replacing(
    probability: Callable[[Tensor], Tensor], before: Tensor, after: Tensor,
    maps: Mapping[str, Tensor], shares: Sequence[float],
) -> dict[str, list[float]]:  # fmt: skip
    """Replace pixels by those of another picture, those with the largest values first.

    From a picture to a blank one this is deletion, the other way round insertion.

    Args:
        probability: a batch of pictures → (n,).
        before, after: (n, 3, H, W).
        maps: a name and (n, H, W) each.
        shares: of the pixels that are replaced, from 0 (none) to 1 (all).

    Returns:
        For each map the mean probability at each share.
    """
    none, everything = (probability(images).mean().item() for images in (before, after))
    curves = {}
    for name, found in maps.items():
        order = found.flatten(1).argsort(1, descending=True).argsort(1).view(found.shape)
        curves[name] = [none]
        for share in shares[1:-1]:
            replaced = (order < share * order[0].numel())[:, None].to(before.device)
            mixed = torch.where(replaced, after, before)
            curves[name].append(probability(mixed).mean().item())
        curves[name].append(everything)
    return curves


def area(curve: Sequence[float], shares: Sequence[float]) -> float:
    """The area under a curve over shares from 0 to 1, by trapezia."""
    return float(np.trapezoid(curve, shares))


# --- words ----------------------------------------------------------------------------------


class Words:
    """Texts as token ids, and the word that each token is a piece of (B texts, T tokens).

    Attributes:
        ids: (B, T).
        mask: (B, T), true at real tokens.
        numbers: (B, T), the word of each token, counted from 0; -1 at special tokens.
        words: the words of each text, as the tokenizer splits them (a comma is one, too).
    """

    def __init__(self, texts: Sequence[str], tokenizer):
        encoded = tokenizer(list(texts), return_tensors="pt", padding=True)
        self.ids = encoded["input_ids"]
        self.mask = encoded["attention_mask"].bool()
        found = [encoded.word_ids(i) for i in range(len(texts))]
        self.numbers = torch.tensor([[-1 if w is None else w for w in row] for row in found])
        self.words = []
        for i, text in enumerate(texts):
            spans = [encoded.word_to_chars(i, w) for w in range(int(self.numbers[i].max()) + 1)]
            self.words.append([text[span.start : span.end] for span in spans])

    def __len__(self) -> int:
        return len(self.words)

    @property
    def longest(self) -> int:
        """Words of the longest text."""
        return max(map(len, self.words))

    @property
    def there(self) -> Tensor:
        """(B, words), true where a text has so many words."""
        return torch.tensor([[w < len(row) for w in range(self.longest)] for row in self.words])

    def sums(self, scores: Tensor) -> Tensor:
        """Add up the scores of each word's tokens: (B, T) → (B, words)."""
        scores = scores.detach().cpu()
        total = torch.zeros(len(self), self.longest + 1, dtype=scores.dtype)
        return total.scatter_add(1, self.numbers + 1, scores)[:, 1:]  # what is no word goes to 0

    def without(self, chosen: Tensor) -> Tensor:
        """The mask with the tokens of some words taken out: (B, words) → (B, T)."""
        none = torch.zeros(len(self), 1, dtype=torch.bool)
        return self.mask & ~torch.cat([none, chosen], 1).gather(1, self.numbers + 1)

    def top(self, scores: Tensor, count: int) -> Tensor:
        """The words with the largest scores: (B, words) → the same, true or false."""
        known = scores.masked_fill(~self.there, float("-inf"))
        return (known.argsort(1, descending=True).argsort(1) < count) & self.there


def show_words(rows: Sequence[tuple[str, Sequence[str], Sequence[float]]], caption: str) -> None:
    """Texts with each word's score as its colour: for the answer in blue, against it in orange.

    The plain form has the largest scores in brackets.

    Args:
        rows: a title, the words and their scores, for each text; further scores are left out.
        caption: what is shown.
    """
    lines, html = [caption], [f"<p><b>{escape(caption)}</b></p>"]
    for title, words, scores in rows:
        most = max(max(abs(float(score)) for score in scores), 1e-12)
        plain, rich = [], []
        for word, score in zip(words, scores, strict=False):  # behind the words is padding
            strength = float(score) / most
            colour = "0,114,178" if strength > 0 else "213,94,0"
            style = f"background:rgba({colour},{0.55 * abs(strength):.2f});padding:0 .15em"
            rich.append(f'<span style="{style}" title="{float(score):+.2f}">{escape(word)}</span>')
            plain.append(f"[{word} {float(score):+.2f}]" if abs(strength) > 0.5 else word)
        lines.append(f"{title}: {' '.join(plain)}")
        html.append(f"<p>{escape(title)}: {' '.join(rich)}</p>")
    show("\n".join(lines), "".join(html))


# --- figures --------------------------------------------------------------------------------


def plot_maps(
    images: Tensor, maps: Mapping[str, Tensor], boxes: Tensor, titles: Sequence[str]
) -> Figure:
    """A row for each picture: itself, and each map with a cross at its largest value.

    Args:
        images: (n, 3, H, W), whole bytes.
        maps: a name and (n, H, W) each.
        boxes: (n, 4), drawn on all.
        titles: the rows' names.
    """
    rows, columns = len(images), 1 + len(maps)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, grid = plt.subplots(
            rows, columns, figsize=(1.42 * columns, 1.42 * rows + 0.4), squeeze=False
        )
    for i, row in enumerate(grid):
        picture = images[i].permute(1, 2, 0).cpu().numpy()
        row[0].imshow(picture)
        row[0].set_ylabel(titles[i], fontsize=9)
        for axes, values in zip(row[1:], maps.values(), strict=True):
            axes.imshow(picture.mean(-1), cmap="gray", vmin=0, vmax=255)
            axes.imshow(values[i].detach().cpu().numpy(), cmap="inferno", alpha=0.65)
            y, x = (float(place) for place in pointed(values[i : i + 1]))
            axes.plot(x, y, "+", color="white", markersize=13, markeredgewidth=3.5)
            axes.plot(x, y, "+", color="black", markersize=11, markeredgewidth=1.5)
        for axes in row:
            axes.set(xticks=[], yticks=[])
            x0, y0, x1, y1 = boxes[i].tolist()
            axes.add_patch(plt.Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False,
                                         edgecolor=PALETTE[5], linewidth=1.6))  # fmt: skip
    for axes, name in zip(grid[0], ["picture", *maps], strict=True):
        axes.set_title(name.replace(", ", ",\n").replace(" gradients", "\ngradients"), fontsize=9)
    return figure


# --- exercise 1: the pointing game ----------------------------------------------------------

SIDE = (20, 30)  # rows and columns of the exercise's maps: not square, so that x is not y


def _exercise(points: Sequence[tuple[int, int]], boxes: Sequence[Sequence[float]]):
    """Maps with their largest value at a row and a column, and boxes."""
    maps = torch.rand(len(points), *SIDE, generator=torch.Generator().manual_seed(0))
    for i, (row, column) in enumerate(points):
        maps[i, row, column] = 2.0
    return maps, torch.tensor(boxes, dtype=torch.float32)


NO_BOX = [float("nan")] * 4
BOX = [20.0, 4.0, 26.0, 10.0]  # columns 20 to 25, rows 4 to 9


def pointing_game(answer: object) -> str | None:
    """Try the handed-in function on maps whose largest value is known."""
    if not callable(answer):
        return "a function is asked for: def pointing_game(maps, boxes, tolerance): …"

    def ask(points, boxes, tolerance=0):
        return answer(*_exercise(points, boxes), tolerance)

    share = ask([(5, 22), (15, 3)], [BOX, BOX])
    if hint := _no_share(share):
        return hint
    if hint := _on_boxes(float(share), ask):
        return hint
    return _on_tolerance(ask)


def _no_share(share: object) -> str | None:
    if share is None or share is ...:
        return "the function returns nothing yet: end it with return and the share"
    if isinstance(share, Tensor | np.ndarray) and len(torch.as_tensor(share).flatten()) != 1:
        return "one number is asked for, the share of hits; you return one value for each picture"
    try:
        float(share)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return f"it returns {share!r}; a number from 0 to 1 is asked for"
    return None


def _on_boxes(share: float, ask: Callable) -> str | None:
    if np.isnan(share):
        return "it returns nan, although both boxes are numbers"
    if share > 1:
        return "it returns more than 1: divide the hits by the number of pictures (no percent)"
    if float(ask([(5, 22)], [BOX])) == 0 or float(ask([(22 - 10, 5)], [[4.0, 10, 10, 20]])) == 0:
        return (
            "a maximum inside the box counts as a miss. Boxes are x0, y0, x1, y1 with x across "
            "and y down; a map's place is row, then column: row = y, column = x"
        )
    if share != 0.5:
        return "of two maps, one in its box and one far away, the share must be 0.5"
    last = float(ask([(9, 25)], [BOX]))
    if last != 1:
        return "a maximum in the box's last row and column must count: they are y1 - 1 and x1 - 1"
    if float(ask([(10, 22)], [BOX])) != 0 or float(ask([(5, 26)], [BOX])) != 0:
        return "x1 and y1 are one past the last pixel: a maximum at x1 lies beside the box"
    healthy = float(ask([(5, 22), (5, 22), (15, 3)], [BOX, NO_BOX, BOX]))
    if np.isnan(healthy):
        return "a picture without a defect has a box of nan: leave it out before you average"
    if round(healthy, 3) != 0.5:
        return (
            "one of the three pictures has no defect (its box is nan), so nothing can be hit or "
            "missed there: leave it out of the share, also below the line"
        )
    return None


def _on_tolerance(ask: Callable) -> str | None:
    beside = {"left": (5, 18), "right": (5, 27), "above": (2, 22), "below": (11, 22)}
    missed = [side for side, place in beside.items() if float(ask([place], [BOX], 2)) == 0]
    if len(missed) == len(beside):
        return "the tolerance is not used: a maximum two pixels beside the box is a hit at 2"
    if missed:
        return f"the tolerance is missing on some sides ({', '.join(missed)}): widen the box on all"
    far = ((5, 17), (5, 28), (1, 22), (12, 22))
    if any(float(ask([place], [BOX], 2)) > 0 for place in far):
        return "a maximum three pixels beside the box must be a miss at a tolerance of 2"
    return None


# --- exercise 2: an audit -------------------------------------------------------------------

AUDIT = [  # three models, made up, so that they are clear
    {
        "model": "A", "accuracy": 0.86, "maximum in the mark (%)": 5,
        "maximum in the opacity (%)": 71, "correlation after random weights": 0.08,
    },
    {
        "model": "B", "accuracy": 0.97, "maximum in the mark (%)": 83,
        "maximum in the opacity (%)": 9, "correlation after random weights": 0.05,
    },
    {
        "model": "C", "accuracy": 0.91, "maximum in the mark (%)": 3,
        "maximum in the opacity (%)": 78, "correlation after random weights": 0.94,
    },
]  # fmt: skip
VERDICTS = {"A": "opacity", "B": "mark", "C": "not shown"}


def audit(answer: object) -> str | None:
    """What each model's answers rest on, as far as its explanations show."""
    if not isinstance(answer, dict):
        return 'a dict is asked for, such as {"A": "mark", "B": …, "C": …}'
    if missing := [name for name in VERDICTS if answer.get(name, ...) is ...]:
        return f"still open: {', '.join(missing)}; each model needs a verdict"
    known = set(VERDICTS.values())
    for name in VERDICTS:
        if not isinstance(answer[name], str) or answer[name] not in known:
            return f"{name}: {answer[name]!r} is none of the verdicts {', '.join(sorted(known))}"
    if answer["B"] == "opacity":
        return (
            "B has the highest accuracy, and its maxima lie in the mark: it is right for the wrong "
            "reason, and will not be where the mark says nothing"
        )
    if answer["B"] == "not shown":
        return "B's maps change with its weights, so they do say something: look where they point"
    if answer["C"] == "opacity":
        return (
            "C's maps hardly change when its weights are made random. A map that a network without "
            "knowledge gives as well says nothing about this one, wherever it points"
        )
    if answer["C"] == "mark":
        return "C's maps do not point at the mark; and look at the last column first"
    if answer["A"] != VERDICTS["A"]:
        return "A's maps change with its weights, and point at the opacity"
    return None


EXERCISES = {"1": pointing_game, "2": audit}

QUIZ = (
    Question(
        "A heat map lies neatly on the defect. What do you know?",
        (
            Option(
                "the network uses the defect",
                "Not yet: an edge detector's map lies there too, and it has seen no network.",
            ),
            Option(
                "that it points well; whether it explains the network must be tested apart",
                "Make the weights random, and take away what it points at.",
                right=True,
            ),
            Option(
                "that the network is right about this picture",
                "A map is made for whichever class you ask for, also for a wrong one.",
            ),
        ),
    ),
    Question(
        "The attributions of integrated gradients add up to the difference of two outputs. What "
        "does that tell you?",
        (
            Option(
                "that enough steps were taken",
                "Completeness checks the arithmetic. Nothing is said about the places.",
                right=True,
            ),
            Option(
                "that the attributions are where they should be",
                "Any division of the difference among the pixels adds up, a random one too.",
            ),
            Option(
                "that the baseline does not matter",
                "They add up for every baseline, each time to another difference.",
            ),
        ),
    ),
    Question(
        "Deletion finds method P better than Q, the pointing game finds Q better than P. Which one "
        "is right?",
        (
            Option(
                "the pointing game: it knows where the defect is",
                "It asks whether a map agrees with us. The network may look elsewhere.",
            ),
            Option(
                "deletion: it asks the network",
                "It asks it about pictures such as it has never seen, and depends on what is put "
                "in the place of the pixels.",
            ),
            Option(
                "both: they ask different questions",
                "One asks whether the map agrees with us, the other whether the network's answer "
                "depends on the places.",
                right=True,
            ),
        ),
    ),
)
