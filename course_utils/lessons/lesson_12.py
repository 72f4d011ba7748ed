"""Questions of lesson 12, freezing, gradual unfreezing and discriminative rates."""

import math
from collections.abc import Mapping, Sequence

from torch import nn

from course_utils.optim import schedule_factor, stage_rates
from course_utils.questions import Option, Prediction, Question
from course_utils.recipes import Recipe
from course_utils.stage import Stage
from course_utils.train import plan_phases

PREDICTIONS = {
    "1": Prediction(
        "The same few labelled reviews for all five. Which one will be best on the test reviews?",
        (
            "the head alone: with so few texts, more weights only overfit",
            "the last two layers",
            "everything at once, at one rate",
            "everything at once, the early layers more slowly",
            "gradual unfreezing, the whole recipe",
            "several of them, and three runs cannot tell which",
        ),
    ),
    "2": Prediction(
        "And which one will have lost most of what the encoder could do before?",
        (
            "the head alone",
            "the last two layers",
            "everything at once, at one rate",
            "gradual unfreezing",
            "none: so few texts cannot make it forget",
        ),
    ),
    "3": Prediction(
        "All weights are trained from the first step, at the high rate that is right for the "
        "head. Where will the encoder move most, and what becomes of the accuracy?",
        (
            "in the last layers; the accuracy is a little lower",
            "everywhere, far; the accuracy falls to guessing or nearly so",
            "in the embeddings; the accuracy stays",
        ),
    ),
}


def planned_rates(
    parts: Sequence[Stage], recipe: Recipe, points: int = 200
) -> tuple[list[float], dict[str, list[float]]]:
    """When a recipe trains which stage at what rate, without running it.

    Returns:
        Times in epochs, and for each stage that is ever trained its learning rate at these times;
        not a number while it is frozen.
    """
    first = [phase.boundary for phase in plan_phases(parts, recipe)]
    times = [recipe.epochs * i / points for i in range(points)]
    rates = {}
    for index, part in enumerate(parts):
        if part.parameters and index >= min(first):
            peak = stage_rates(parts, recipe)[part.name]
            rates[part.name] = [
                peak * schedule_factor(time / recipe.epochs, recipe)
                if index >= first[int(time)]
                else math.nan
                for time in times
            ]
    return times, rates


def cost_from(weights: Mapping[str, int], first: int, epochs: int) -> str:
    """What training costs that begins at a stage, the frozen ones below it run only once.

    Multiplications are counted by weights: one pass forward, two passes back (for what lies below
    and for the weights). The embeddings are looked up, not multiplied.

    Args:
        weights: of each stage, from input to output.
        first: the first trained stage, counted from 0.
        epochs: passes over the training texts.
    """
    names = list(weights)
    work = {name: 0 if name == "embeddings" else count for name, count in weights.items()}
    trained = sum(weights[name] for name in names[first:])
    below = sum(work[name] for name in names[:first])
    above = sum(work[name] for name in names[first:])
    share = (below + 3 * epochs * above) / (3 * epochs * (below + above))
    return (
        f"from {names[first]} on: {trained:,} of {sum(weights.values()):,} weights are trained, "
        f"with {share:.0%} of the multiplications of full fine-tuning in {epochs} epochs"
    )


# The stages of the course's small encoder, and how many weights each of them has.
WEIGHTS = {
    "embeddings": 11_918_592,
    **{f"layer{i}": 1_774_464 for i in range(6)},
    "pool": 0,
    "head": 770,
}
MOST, LEAST = 6_000_000, 5_000_000  # weights that may be trained at the end of exercise 1
LONGEST = 6  # epochs
LAYERS = [name for name in WEIGHTS if name.startswith("layer")]


def stand_in() -> list[Stage]:
    """Stages of the names of the small encoder's, with next to no weights."""
    parts = []
    for name, count in WEIGHTS.items():
        modules = (nn.Linear(1, 1),) if count else ()
        weights = tuple(weight for module in modules for weight in module.parameters())
        parts.append(Stage(name, modules, lambda x, mask: x, weights))
    return parts


def plan_for_the_search(answer: object) -> str | None:
    """Look at what a recipe will do, field by field."""
    if not isinstance(answer, Recipe):
        return "a recipe is asked for, such as recipes.gradual_unfreezing(epochs=…)"
    parts, names = stand_in(), list(WEIGHTS)
    first = [phase.boundary for phase in plan_phases(parts, answer)]
    if any(WEIGHTS[name] for name in names[first[0] : -1]):
        return (
            f"in the first epoch {names[first[0]]} moves already, pushed by the gradients of a "
            "random head: begin with train_from=-1, as recipes.gradual_unfreezing does"
        )
    if not answer.unfreeze_every:
        return (
            "that is the head alone, for all epochs: say with unfreeze_every after how many "
            "epochs the next layer is to be opened"
        )
    last = names[first[-1]]
    trained = sum(WEIGHTS[name] for name in names[first[-1] :])
    opened = f"after {answer.epochs} epochs everything from {last} on is open"
    if trained > MOST:
        return (
            f"{opened}, {trained:,} weights, and at most {MOST:,} are allowed: fewer epochs, or a "
            "longer wait (unfreeze_every) between two layers"
        )
    if trained < LEAST:
        return (
            f"{opened}, {trained:,} weights: there is room for more layers. One more is opened "
            f"every {answer.unfreeze_every} epochs, so how many epochs do three layers take?"
        )
    if answer.epochs > LONGEST:
        return f"{answer.epochs} epochs, and at most {LONGEST} are allowed: open layers sooner"
    return _rates_for_the_search(answer, stage_rates(parts, answer), last)


def _rates_for_the_search(recipe: Recipe, rates: dict[str, float], lowest: str) -> str | None:
    top, share = rates[LAYERS[-1]], rates[lowest] / rates[LAYERS[-1]]
    if share > 0.5:
        return (
            f"{lowest} has {share:.0%} of the last layer's rate, and at most 50% are allowed: "
            "choose a stage_decay below 1; each layer further down is multiplied by it once more"
        )
    if share < 0.1:
        return (
            f"{lowest} has {share:.1%} of the last layer's rate: it costs time and does not move. "
            "At least 10% are asked for; choose a stage_decay nearer to 1"
        )
    if top > 1e-3:
        return (
            f"a rate of {top:.0e} for the last layer is near the one that destroyed the encoder "
            "in section 8: go down to 1e-3 or less"
        )
    if top < 5e-5:
        return f"at {top:.0e} hardly anything moves in {recipe.epochs} epochs: 5e-5 or more"
    if rates["head"] <= top:
        return (
            "the head begins from random weights and has further to go than the layers below it: "
            "give it a higher rate (head_learning_rate)"
        )
    if recipe.warmup == 0 or recipe.schedule != "linear":
        return (
            "a slanted triangle is asked for: the rate rises over the first tenth or so of the "
            'steps (warmup above 0) and then falls (schedule="linear")'
        )
    return None


# Accuracies in percent of methods a and b, paired by seed; whether they really differ; and what
# to say to those who decide otherwise.
CASES = (
    (
        [70.1, 71.4, 69.8, 70.6, 71.0, 70.2, 69.9, 70.9],
        [75.2, 76.0, 74.4, 75.9, 75.1, 75.3, 74.6, 76.1],
        True,
        "b wins by about five points with every seed, which is as clear as it gets",
    ),
    (
        [70.0, 72.0, 69.0, 71.0, 73.0, 68.0, 70.0, 72.0],
        [78.0, 66.0, 77.0, 64.0, 76.0, 75.0, 65.0, 79.0],
        False,
        "b has the higher mean, but it wins with some seeds and loses with others by as much: "
        "compare the mean difference with how much the differences vary",
    ),
    (
        [61.0, 74.0, 66.0, 79.0, 70.0, 58.0, 77.0, 64.0],
        [63.4, 76.1, 68.5, 80.8, 72.6, 60.2, 79.3, 66.1],
        True,
        "with every seed b wins by about two points. The seeds themselves differ by far more, "
        "which hides it as long as you compare the two lists as wholes: take the difference seed "
        "by seed",
    ),
    (
        [75.2, 76.0, 74.4, 75.9, 75.1, 75.3, 74.6, 76.1],
        [70.1, 71.4, 69.8, 70.6, 71.0, 70.2, 69.9, 70.9],
        True,
        "here it is a that wins: a difference is real in either direction, so zero may lie below "
        "or above the interval",
    ),
    (
        [70.0, 71.0, 70.0, 72.0, 71.0, 70.0, 51.0, 71.0],
        [70.4, 70.6, 70.3, 71.7, 71.4, 69.6, 71.0, 71.2],
        False,
        "a whole mean difference comes from one seed in which a failed; with all others the two "
        "are equal. An interval that draws the seeds again shows it",
    ),
    (
        [80.0, 82.0, 79.0, 81.0, 83.0, 78.0, 80.0, 82.0],
        [80.6, 82.5, 79.6, 81.5, 83.7, 78.6, 80.5, 82.6],
        True,
        "half a point, but with every seed: small is not the same as accidental. (Whether half a "
        "point matters is another question)",
    ),
    (
        [70.0, 72.0, 69.0, 71.0, 73.0, 68.0, 70.0, 72.0],
        [70.0, 72.0, 69.0, 71.0, 73.0, 68.0, 70.0, 72.0],
        False,
        "the two lists are equal",
    ),
)


def real_difference(answer: object) -> str | None:
    """Try the handed-in function on pairs of lists."""
    if not callable(answer):
        return "a function is asked for: def is_real(a, b): … that returns True or False"
    for a, b, expected, why in CASES:
        result = answer(list(a), list(b))
        if result is None or result is ...:
            return "the function returns nothing yet: end it with return and True or False"
        if type(result).__name__ not in ("bool", "bool_"):  # Python's or NumPy's
            return f"it returns {result!r}; True or False is asked for"
        if bool(result) != expected:
            says = f"it says {bool(result)}, and it should be {expected}"
            return f"for a = {a} and b = {b} {says}: {why}"
    return None


EXERCISES = {"1": plan_for_the_search, "2": real_difference}

QUIZ = (
    Question(
        "A paper reports that its schedule beats full fine-tuning by 1.5 points, one run each, on "
        "250 test texts. What do you make of it?",
        (
            Option(
                "the schedule is better: both saw the same test texts",
                "The same texts help, but only a paired interval over several runs says how much "
                "of 1.5 points is chance. Section 6 shows how wide it is even with three runs.",
            ),
            Option(
                "nothing yet: ask for several seeds and the interval of the paired difference",
                "1.5 points of 250 texts are about four texts, and another seed moves more.",
                right=True,
            ),
            Option(
                "the schedule is no better, since the difference is small",
                "A small difference can be real. One run each cannot show it, which is something "
                "else than showing that there is none.",
            ),
        ),
    ),
    Question(
        "Two recipes are equal in accuracy as far as you can tell. How do you choose?",
        (
            Option(
                "the one with the higher mean: it is still the better bet",
                "By a hair, perhaps. What you can measure clearly should weigh more.",
            ),
            Option(
                "by what does differ: seconds, trained weights, and what is forgotten",
                "These differ by far more than chance, and you pay for them in any case.",
                right=True,
            ),
            Option(
                "the newer one",
                "Novelty is not measured in points.",
            ),
        ),
    ),
    Question(
        "In another library you freeze all of a BERT but the head, and the number of trainable "
        "weights is larger than the head. What do you suspect?",
        (
            Option(
                "a layer norm in the frozen part is still being trained",
                "Section 7: fastai leaves all norms trainable unless told train_bn=False. That is "
                "meant for BatchNorm, and holds for a BERT's layer norms too.",
                right=True,
            ),
            Option(
                "the count includes the dropout",
                "Dropout has no weights.",
            ),
            Option(
                "nothing: frozen weights are counted as well",
                "Frozen means that no gradient is computed; those weights are not trainable.",
            ),
        ),
    ),
)
