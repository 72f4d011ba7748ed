"""Are the embedded tasks hard enough to teach?

Guessing, a method without pre-training, frozen features and full fine-tuning, on the whole training
split: they must land visibly apart, and none at 100 %.
"""

import torch

from course_utils import recipes
from course_utils.data import Task, tokenize
from course_utils.models import load_image_model, load_text_model
from course_utils.tasks import load_task
from course_utils.train import evaluate, fit

Row = dict[str, object]


def baselines(seeds: tuple[int, ...] = (0, 1, 2)) -> list[Row]:
    """Test accuracy of ever more pre-training on each embedded task."""
    rows = []
    for name, score in (("tickets", _text_scores), ("reviews", _text_scores),
                        ("surface", _image_scores)):  # fmt: skip
        task = load_task(name)
        for method, accuracies in score(task, seeds):
            rows.append(_row(task, method, accuracies))
            print(f"{name}: {method}: {rows[-1]['test accuracy, %']}", flush=True)
    return rows


def _row(task: Task, method: str, accuracies: list[float]) -> Row:
    percent = sorted(100 * value for value in accuracies)
    middle = percent[len(percent) // 2]
    spread = f" ({percent[0]:.1f} to {percent[-1]:.1f})" if len(percent) > 1 else ""
    return {
        "task": task.name,
        "training examples": len(task.train),
        "test examples": len(task.test),
        "method": method,
        "runs": len(percent),
        "test accuracy, %": f"{middle:.1f}{spread}",
    }


def _guessing(task: Task) -> list[float]:
    assert isinstance(task.train.labels, torch.Tensor)
    majority = task.train.labels.bincount().argmax()
    return [(task.test.labels == majority).double().mean().item()]


def _text_scores(task: Task, seeds: tuple[int, ...]):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    yield "guessing", _guessing(task)
    words = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10, max_iter=1000),
    )
    words.fit(task.train.inputs, task.train.labels)
    yield "word counts (TF-IDF)", [words.score(task.test.inputs, task.test.labels)]
    chosen = {
        "frozen MiniLM + linear head": recipes.linear_probe(validate=False),
        "full fine-tuning": recipes.full_finetuning(epochs=4, learning_rate=2e-4, validate=False),
    }
    for method, recipe in chosen.items():
        scores = []
        for seed in seeds:
            model = load_text_model("minilm", len(task.classes), seed=seed)
            data = tokenize(task, model.tokenizer)
            fit(model, data, recipe, seed=seed)
            scores.append(evaluate(model, data.test).accuracy)
        yield method, scores


def _image_scores(task: Task, seeds: tuple[int, ...]):
    from sklearn.neighbors import KNeighborsClassifier

    yield "guessing", _guessing(task)
    flat = [
        torch.as_tensor(split.inputs).flatten(1).float().numpy()
        for split in (task.train, task.test)
    ]
    neighbours = KNeighborsClassifier(5).fit(flat[0], task.train.labels)
    yield "5 nearest neighbours of raw pixels", [neighbours.score(flat[1], task.test.labels)]
    full = recipes.full_finetuning(epochs=6, learning_rate=5e-4, batch_size=32, validate=False)
    chosen: dict[str, tuple[bool, recipes.Recipe]] = {
        "from scratch": (False, recipes.from_scratch(epochs=6, batch_size=32, validate=False)),
        "frozen ResNet-18 + linear head": (True, recipes.linear_probe(validate=False)),
        "full fine-tuning": (True, full),
    }
    for method, (pretrained, recipe) in chosen.items():
        scores = []
        for seed in seeds:
            model = load_image_model("resnet18", len(task.classes), pretrained, seed)
            fit(model, task, recipe, seed=seed)
            scores.append(evaluate(model, task.test).accuracy)
        yield method, scores
