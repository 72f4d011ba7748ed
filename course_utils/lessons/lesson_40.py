"""Questions of lesson 40, choosing hyper-parameters; the head it tunes, and the worker it starts.

python -m course_utils.lessons.lesson_40 JOURNAL PLAN
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.adamw import adamw

from course_utils.errors import CourseError
from course_utils.questions import Option, Prediction, Question

PREDICTIONS = {
    "1": Prediction(
        "Three ways to search, the same number of epochs for each, several repeats. On the test "
        "texts, how far apart will TPE (which learns from its trials) and random search be?",
        (
            "TPE wins clearly, with every repeat",
            "neither wins clearly: repeats differ by more than the two methods do",
            "random search wins clearly",
        ),
    ),
    "2": Prediction(
        "The best of some thirty trials was right on so many percent of the validation texts. On "
        "test texts, which it has never met, its score will be",
        (
            "about the same: validation texts are not trained on either",
            "some points lower",
            "some points higher",
        ),
    ),
    "3": Prediction(
        "Which of the six settings decides most about the score?",
        ("learning rate", "weight decay", "dropout", "width", "batch size", "label smoothing"),
    ),
    "4": Prediction(
        "The range of the learning rate is copied from a paper on fine-tuning whole encoders: "
        "1e-6 to 1e-4. The other five settings are free. What will the best of ten trials reach?",
        (
            "about what it reached before: the other settings make up for it",
            "less, but more than the defaults without any search",
            "less than the defaults without any search",
        ),
    ),
}


# --- a small head on vectors that are already there ----------------------------------------


class Vectors(NamedTuple):
    """Feature vectors (n, D) of a task's splits and their labels (n,)."""

    train: Tensor
    train_labels: Tensor
    valid: Tensor
    valid_labels: Tensor
    test: Tensor
    test_labels: Tensor


def new_head(settings: Mapping, inputs: int, outputs: int, seed: int) -> nn.Module:
    """One hidden layer of `settings["width"]` units, with dropout behind it."""
    torch.manual_seed(seed)
    width = settings["width"]
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(settings["dropout"]),
        nn.Linear(width, outputs),
    )  # fmt: skip


def train_head(data: Vectors, settings: Mapping, epochs: int, seed: int = 0) -> Iterator[nn.Module]:
    """Train a fresh head with AdamW and a linear decay; gives it back after each epoch.

    Args:
        data: vectors and labels.
        settings: "rate", "decay", "dropout", "width", "batch" and "smoothing".
        epochs: passes over the training vectors.
        seed: of first weights, order and dropout.
    """
    outputs = int(data.train_labels.max()) + 1
    head = new_head(settings, data.train.shape[1], outputs, seed)
    # torch.optim.AdamW's own function: making an object of the class imports torch's compiler, for
    # seconds, and each worker would pay for that
    weights = [*head.parameters()]
    means, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    counts = [torch.zeros(()) for _ in weights]
    total, step = epochs * math.ceil(len(data.train) / settings["batch"]), 0
    for _ in range(epochs):
        head.train()
        for rows in torch.randperm(len(data.train)).split(settings["batch"]):
            loss = F.cross_entropy(
                head(data.train[rows]), data.train_labels[rows],
                label_smoothing=settings["smoothing"],
            )  # fmt: skip
            gradients = [*torch.autograd.grad(loss, weights)]
            with torch.no_grad():
                adamw(
                    weights, gradients, means, squares, [], counts, fused=True, amsgrad=False,
                    beta1=0.9, beta2=0.999, lr=settings["rate"] * (1 - step / total),
                    weight_decay=settings["decay"], eps=1e-8, maximize=False,
                )  # fmt: skip
            step += 1
        state = torch.get_rng_state()  # who looks at the head must not change its dropout
        yield head.eval()
        torch.set_rng_state(state)


@torch.no_grad()
def right(head: nn.Module, vectors: Tensor, labels: Tensor) -> float:
    """Percent of the vectors whose label the head predicts."""
    return 100 * (head.eval()(vectors).argmax(1) == labels).double().mean().item()


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate at which a learning-rate finder's smoothed loss falls fastest.

    Per step of log rate, and only before the lowest loss: behind it nothing is to be had.
    """
    lowest = int(np.argmin(losses))
    if lowest < 2:
        return float(rates[0])
    slopes = np.gradient(np.asarray(losses), np.log(np.asarray(rates)))
    return float(rates[int(np.argmin(slopes[: lowest + 1]))])


# --- two processes, one study ---------------------------------------------------------------


def open_study(journal: str | os.PathLike, seed: int):
    """The study in a journal file, made if it is not there; TPE that knows of running trials."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        study_name="head", storage=JournalStorage(JournalFileBackend(str(journal))),
        sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        direction="maximize", load_if_exists=True,
    )  # fmt: skip


LONGEST_START = 300  # seconds that a worker waits for the others


def work(journal: str | os.PathLike, plan: str | os.PathLike, processes: int = 1) -> None:
    """Take trials from a shared study until it has as many as the plan says.

    Args:
        journal: the file of the study.
        plan: a JSON file with "vectors" (a safetensors file), "space" (name → distribution as
            JSON), "epochs", "trials" and "seed".
        processes: that share the study; the first trial waits until all of them have started.
    """
    from optuna.distributions import json_to_distribution

    settings = json.loads(Path(plan).read_text(encoding="utf-8"))
    space = {name: json_to_distribution(one) for name, one in settings["space"].items()}
    data = Vectors(**load_file(settings["vectors"]))
    torch.set_num_threads(1)  # one core a process
    study = open_study(journal, settings["seed"] + os.getpid())
    journal = Path(journal)
    journal.with_name(f"{journal.name}.{os.getpid()}.ready").touch()
    patience = time.monotonic() + LONGEST_START
    while len([*journal.parent.glob(f"{journal.name}.*.ready")]) < processes:
        if time.monotonic() > patience:
            raise CourseError(f"not all {processes} workers started in {LONGEST_START} s")
        time.sleep(0.05)
    while len(study.get_trials(deepcopy=False)) < settings["trials"]:
        trial = study.ask(space)
        trial.set_user_attr("process", os.getpid())
        *_, head = train_head(data, trial.params, settings["epochs"])
        study.tell(trial, right(head, data.valid, data.valid_labels))


# --- exercise 1, a space for twenty trials --------------------------------------------------

ENDS = (4e-3, 3e-2)  # rates between these were good in section 3
MOST_SETTINGS = 3


def twenty_trials(answer: object) -> str | None:
    """Look at a space: which settings, which scales, which ranges."""
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
    )

    if not isinstance(answer, Mapping) or not answer:
        return "a space is asked for: a dictionary of names and distributions, as SPACE is"
    known = ("rate", "decay", "dropout", "width", "batch", "smoothing")
    for name, one in answer.items():
        if name not in known:
            return f"the head has no setting {name!r}; it has {', '.join(known)}"
        if not isinstance(one, BaseDistribution):
            return f"{name} is {one!r}; an Optuna distribution is asked for, as in SPACE"
    rate = answer.get("rate")
    if rate is None:
        return "the learning rate is fixed, and it is the setting that decides most: search it"
    if isinstance(rate, CategoricalDistribution):
        return (
            "a list of rates has no order for the sampler: it cannot learn that the good ones "
            "are neighbours. Use FloatDistribution(low, high, log=True)"
        )
    if not isinstance(rate, FloatDistribution):
        return "the learning rate is not a whole number: FloatDistribution(low, high, log=True)"
    if not rate.log:
        return (
            "on a plain scale nine trials of ten fall into the highest power of ten, and small "
            "rates are hardly ever tried, as section 8 shows: log=True"
        )
    return _range_and_number(answer, rate.low, rate.high)


def _range_and_number(space: Mapping, low: float, high: float) -> str | None:
    if low > ENDS[0] or high < ENDS[1]:
        return (
            f"the range {low:g} to {high:g} is too narrow: good rates reach from about "
            f"{ENDS[0]:g} to {ENDS[1]:g} by section 3, and another task's may lie at either end. "
            "No search finds what its range leaves out"
        )
    decades = math.log10(high / low)
    if decades > 4:
        return (
            f"the range spans {decades:.0f} powers of ten, and twenty trials have to cover it: "
            "most would be spent where section 3 has shown that nothing learns. At most four"
        )
    free = [name for name, one in space.items() if not one.single()]
    if len(free) > MOST_SETTINGS:
        return (
            f"{len(free)} settings are searched with twenty trials. Keep the rate and the one or "
            "two that matter next by section 6, and leave the others at their defaults"
        )
    if len(free) < 2:
        return (
            "only the rate is searched: twenty trials can afford one or two more settings, those "
            "that matter next by section 6"
        )
    return None


# --- exercise 2, an honest report -----------------------------------------------------------


class Trial(NamedTuple):
    """A trial of a search, as exercise 2 hands it in. Scores in percent."""

    valid: float
    test: float
    pruned: bool = False


# A search's trials, the report (number of the trial, score), and what to say to other reports.
SEARCHES = (
    (
        [Trial(71, 70), Trial(84, 79), Trial(80, 83), Trial(62, 64)],
        (1, 79),
        {
            (2, 83): "that trial has the best test score, so the test set has made the choice, "
            "and its score is no longer one on unknown texts. Validation chooses",
            (1, 84): "the trial is right; but its validation score is the one that made it win, "
            "and so it is too high. Report the test score",
            (2, 80): "the choice was made by the test score",
        },
    ),
    (
        [Trial(55, 54), Trial(90, 61, pruned=True), Trial(77, 76), Trial(75, 78)],
        (2, 76),
        {
            (1, 61): "trial 1 was pruned: it has not been trained to its end, and what its score "
            "was on the way does not count",
            (1, 90): "trial 1 was pruned, and 90 is its validation score",
            (3, 78): "the choice was made by the test score",
            (2, 77): "the trial is right; report its test score",
        },
    ),
    (
        [Trial(82, 75), Trial(82, 81), Trial(82, 70)],
        (0, 75),
        {
            (1, 81): "three trials are equal in validation, and the test score has decided "
            "between them. A tie goes to the first one",
            (2, 70): "of equal trials, take the first one: the rule must stand before the scores",
        },
    ),
    (
        [Trial(88, 87, pruned=True), Trial(40, 39)],
        (1, 39),
        {(0, 87): "trial 0 was pruned, although it looked good: only finished trials count"},
    ),
)


def honest_report(answer: object) -> str | None:
    """Try the handed-in function on some searches."""
    if not callable(answer):
        return "a function is asked for: def report(trials): … that returns (number, score)"
    for trials, expected, wrong in SEARCHES:
        result = answer(list(trials))
        if result is None or result is ...:
            return "the function returns nothing yet: end it with return number, score"
        if not isinstance(result, tuple | list) or len(result) != 2:
            return (
                f"it returns {result!r}; two values are asked for, the trial's number and a score"
            )
        if tuple(result) != expected:
            told = f"for {trials} it reports trial {result[0]!r} with {result[1]!r}"
            known = wrong.get((result[0], result[1]), "that is not the winner's test score")
            return f"{told}: {known}"
    return None


EXERCISES = {"1": twenty_trials, "2": honest_report}

QUIZ = (
    Question(
        "A paper has searched its own method with 200 trials, the baseline with the settings of "
        "its first publication. Its method wins by two points. What do you conclude?",
        (
            Option(
                "the method is better by two points",
                "Section 4: the search alone may be worth more than two points. Both need the "
                "same budget of trials.",
            ),
            Option(
                "nothing about the method: the baseline was not given the same search",
                "A search gains points for whatever is searched. Compare at equal budgets, and "
                "repeat.",
                right=True,
            ),
            Option(
                "the method is worse, or it would have won with its defaults",
                "That may be or not; the comparison does not say. It has to be made again with "
                "equal budgets.",
            ),
        ),
    ),
    Question(
        "All twenty trials of a search are equally bad. What do you look at first?",
        (
            Option(
                "another sampler",
                "A sampler chooses inside the ranges. If nothing in there works, none will help.",
            ),
            Option(
                "the range and the scale of the learning rate",
                "Section 8: a range that is copied from another kind of training may leave all "
                "the good rates out. A finder's curve takes a second and shows where they lie.",
                right=True,
            ),
            Option(
                "more trials",
                "More of the same: a range that excludes the good values excludes them for ever.",
            ),
        ),
    ),
    Question(
        "You have chosen the best of 300 trials on 100 validation texts. What do you tell others?",
        (
            Option(
                "its validation score: these texts were not trained on",
                "They chose, which is a kind of training. The winner was partly lucky on just "
                "these texts; section 5 measures by how much.",
            ),
            Option(
                "the best test score of all trials",
                "Then the test set has chosen, and nothing is left that is unknown to the search.",
            ),
            Option(
                "its score on test texts that no trial was chosen by, and how many trials there "
                "were",
                "One look, at the end; and the number of trials, because the result depends on it.",
                right=True,
            ),
        ),
    ),
)

if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
