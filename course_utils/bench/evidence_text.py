"""The default recipes on public text datasets, beside published figures.

Each training is kept in a small file as soon as it is done, so that an interruption loses at most
one epoch, and a second call goes on: seed by seed over all datasets, so that whole seeds are there
first. What is already there is used again if nothing that decides it has changed. Learning rates
and batch size are the recipe's defaults and the epochs were set beforehand: nothing was chosen by
results, and the test texts are looked at once a run, after the last epoch.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from course_utils import recipes
from course_utils.bench.report import spread
from course_utils.bench.runs import collect, file_of, kept_run
from course_utils.data import Examples, Task, tokenize
from course_utils.device import choose_compute
from course_utils.history import Evaluation
from course_utils.models import load_text_model
from course_utils.recipes import Recipe
from course_utils.tasks import PUBLIC_TEXTS, load_task
from course_utils.train import evaluate, fit

ENCODER = "minilm"
MAX_LENGTH = 128
SEEDS = (0, 1, 2)
FITTED = 1000  # training texts on which a trained model is measured too: has it learned them?


@dataclass(frozen=True)
class Dataset:
    """A dataset with its recipe, the accuracy aimed at and what others have published."""

    title: str
    epochs: int
    aim: float
    published: str
    differs: str = ""
    """What makes the published figures no like for like."""

    def recipe(self) -> Recipe:
        return recipes.full_finetuning(epochs=self.epochs, validate=False)


DATASETS = {
    "trec": Dataset(
        "TREC-6", 4, 0.97,
        "ULMFiT 96.4 (Howard and Ruder, 2018)",
        "ULMFiT's language model is an LSTM, further trained on the questions and run in both "
        "directions.",
    ),
    "sst2": Dataset(
        "SST-2", 2, 0.91,
        "BERT-small (29 million weights) 89.7 (Turc et al., 2019); MiniLM-L12 (33 million) 93.0 "
        "(Wang et al., 2020); BERT-base 93.5 (Devlin et al., 2019)",
        "the published models were trained on GLUE's 67,349 labelled phrases (here: only whole "
        "sentences) and measured on GLUE's hidden test labels, MiniLM on its validation texts.",
    ),
    "banking77": Dataset(
        "Banking77", 3, 0.93,
        "ConveRT 93.0, USE + ConveRT 93.4, BERT-large 93.7 (Casanueva et al., 2020)",
    ),
    "clinc150": Dataset(
        "CLINC150, in scope", 3, 0.96,
        "BERT 96.2 to 96.9 (Larson et al., 2019)",
        "Larson et al. also train on, or reject, texts out of scope.",
    ),
}  # fmt: skip
ORDER = (("full", 0), ("words", 0), ("frozen", 0), *(("full", seed) for seed in SEEDS[1:]))
"""Methods and seeds in the order of the work: whole seeds first."""


def measure(folder: Path, repeats: int = len(SEEDS)) -> dict:
    """Train on all datasets, or read from `folder/evidence` what was trained before.

    Args:
        folder: the runs are kept in its folder "evidence".
        repeats: seeds, at most three.

    Raises:
        CourseError: there is no mirror of the datasets.
    """
    jobs = [(name, method, seed) for method, seed in ORDER for name in DATASETS]
    needed = ", ".join(PUBLIC_TEXTS[name].folder for name in DATASETS)
    runs = collect("evidence-text", jobs, needed, folder, repeats, recall, "accuracy")
    rows = [row(name, *(runs[name, each] for each in METHODS)) for name in DATASETS]
    return {"rows": rows, "notes": notes({name: runs[name, "full"] for name in DATASETS})}


# --- data -----------------------------------------------------------------------------------


def official(name: str) -> tuple[Task, int]:
    """A dataset with its official training split, and how many leaked texts were removed from it.

    Where there is no official validation split, `load_task` takes one from the training texts; as
    nothing is chosen by it, it is put back.
    """
    task = load_task(name)
    train = task.train
    if "valid" not in PUBLIC_TEXTS[name].files:
        train = Examples(
            [*train.inputs, *task.valid.inputs], torch.cat([train.labels, task.valid.labels])
        )
    clean = without_leaks(train, task.test)
    return task.with_train(clean), len(train) - len(clean)


def without_leaks(train: Examples, test: Examples) -> Examples:
    """The training examples whose text is not in the test split as well.

    Texts count as the same if they have the same letters and digits in the same order, whatever
    their case, punctuation and spaces.
    """
    known = {_letters(text) for text in test.inputs}
    return train.select(torch.tensor([_letters(text) not in known for text in train.inputs]))


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower())) or text.strip()


# --- methods --------------------------------------------------------------------------------


def full(name: str, task: Task, seed: int, checkpoint: Path) -> dict:
    """Fine-tune the whole encoder with the recipe of `DATASETS`."""
    return _fine_tune(DATASETS[name].recipe(), task, seed, checkpoint)


def frozen(name: str, task: Task, seed: int, checkpoint: Path) -> dict:
    """A linear head on the frozen encoder."""
    return _fine_tune(FROZEN, task, seed, checkpoint)


def words(name: str, task: Task, seed: int, checkpoint: Path) -> dict:
    """Counts of words and pairs of words (TF-IDF) with logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10, max_iter=1000),
    )
    start = time.process_time()
    model.fit(task.train.inputs, task.train.labels)
    seconds = time.process_time() - start
    logits = torch.tensor(model.predict_log_proba(task.test.inputs))
    loss = torch.nn.functional.nll_loss(logits, task.test.labels).item()
    accuracy = model.score(task.test.inputs, task.test.labels)
    fitted = model.score(task.train.inputs, task.train.labels)
    return {"accuracy": accuracy, "loss": loss, "fitted": fitted, "cpu_seconds": seconds}


FROZEN = recipes.linear_probe(validate=False)
Method = Callable[[str, Task, int, Path], dict]
METHODS: dict[str, Method] = {"words": words, "frozen": frozen, "full": full}


def _fine_tune(recipe: Recipe, task: Task, seed: int, checkpoint: Path) -> dict:
    """Train, measure on the test split once, and on training texts."""
    model = load_text_model(ENCODER, len(task.classes), seed=seed)
    data = tokenize(task, model.tokenizer, MAX_LENGTH)
    from_the_start, start = not checkpoint.exists(), time.process_time()
    whole_epochs = 10**9  # a checkpoint after each epoch, none between
    history = fit(model, data, recipe, seed, None, checkpoint, whole_epochs, silent=True)
    seconds = time.process_time() - start
    test: Evaluation = evaluate(model, data.test)
    some = data.train.subset(min(FITTED, len(data.train)), seed)
    return {
        "accuracy": test.accuracy,
        "loss": test.loss,
        "fitted": evaluate(model, some).accuracy,
        "cpu_seconds": seconds if from_the_start else None,
        "seconds": history.seconds,
    }


# --- what was done before -------------------------------------------------------------------


def identity(name: str, method: str, seed: int, task: Task) -> dict:
    """All that decides a run: if this is the same, it need not be done again."""
    recipe = {"full": DATASETS[name].recipe(), "frozen": FROZEN}.get(method)
    return {
        "dataset": name, "method": method, "seed": seed, "encoder": ENCODER,
        "max_length": MAX_LENGTH, "precision": choose_compute().precision,
        "train": task.train.fingerprint(), "test": task.test.fingerprint(),
        "recipe": None if recipe is None else asdict(recipe),
    }  # fmt: skip


def recall(folder: Path, name: str, method: str, seed: int) -> dict:
    """The run that `folder` holds, if nothing that decides it has changed; otherwise do it."""
    task, removed = official(name)

    def do(checkpoint: Path) -> dict:
        counts = {"texts": len(task.train), "removed": removed, "test": len(task.test)}
        return {**counts, **METHODS[method](name, task, seed, checkpoint)}

    return kept_run(folder / file_of(name, method, seed), identity(name, method, seed, task), do)


# --- the table ------------------------------------------------------------------------------


def row(name: str, words: list[dict], frozen: list[dict], full: list[dict]) -> dict:
    """A dataset's row; accuracies in percent."""
    dataset, last = DATASETS[name], full[-1]
    minutes = [run["cpu_seconds"] / 60 for run in full if run["cpu_seconds"] is not None]
    return {
        "dataset": dataset.title,
        "trained on": last["texts"],
        "tested on": last["test"],
        "words (TF-IDF)": _cell(_percent(words)),
        "frozen encoder": _cell(_percent(frozen)),
        "fine-tuned": _cell(_percent(full)),
        "seeds": len(full),
        "aim": f"{100 * dataset.aim:.0f}",
        "published": dataset.published,
        "epochs": dataset.epochs,
        "CPU minutes": _cell(minutes) if minutes else "-",
    }


def _percent(runs: list[dict]) -> list[float]:
    return [100 * run["accuracy"] for run in runs]


def _cell(values: list[float]) -> dict[str, float] | float:
    """Median and range, or the only value."""
    return spread(values) if len(values) > 1 else values[0]


def notes(runs: dict[str, list[dict]]) -> list[str]:
    """What was removed, how the figures compare, and what stands in the way of an aim."""
    removed = ", ".join(f"{each[0]['removed']} ({DATASETS[name].title})"
                        for name, each in runs.items())  # fmt: skip
    lines = [
        "Test accuracy in percent: median (range) over seeds; a single number is one run. "
        "Training texts removed because they are in the test split too, whatever their case, "
        f"punctuation and spaces: {removed}. CPU minutes are of one training.",
        "The encoder is all-MiniLM-L6-v2 (6 layers, 384 features, 22.7 million weights); BERT-base "
        "has 12 layers, 768 features and 110 million. It was pre-trained on about a billion pairs "
        "of sentences; whether test texts are among them, without labels, is not known.",
    ]
    lines += [f"{DATASETS[name].title}: {DATASETS[name].differs}"
              for name in runs if DATASETS[name].differs]  # fmt: skip
    return lines + [_obstacle(name, each) for name, each in runs.items()]


def _obstacle(name: str, runs: list[dict]) -> str:
    """Whether the aim is met; if not, what a run's own measurements say about why."""
    dataset = DATASETS[name]
    middle = spread([run["accuracy"] for run in runs])["median"]
    fitted = spread([run["fitted"] for run in runs])["median"]
    error = math.sqrt(middle * (1 - middle) / runs[0]["test"])
    met = f"{dataset.title}: {middle:.1%}, aim {dataset.aim:.0%}"
    if middle >= dataset.aim:
        return f"{met}: met."
    reason = (
        f"{fitted:.1%} of training texts are right, so longer training has little left to fit: "
        "what is missing must come from elsewhere, more labelled texts or another encoder"
        if fitted > (1 + middle) / 2
        else f"only {fitted:.1%} of training texts are right: it is not trained to the end"
    )
    return f"{met}: missed; {reason}. The test split's standard error is {100 * error:.1f} points."
