"""The embedded ResNet on real pictures, against the same network from random weights.

Both are trained on the same pictures for the same number of epochs, each by the course's recipe for
it (from random weights all at one higher rate, a pre-trained body at a lower one). Learning rates
and batch size are the recipes' defaults, the epochs were set beforehand, and the test pictures are
looked at once a run. Each run is kept as soon as it is done (`runs.py`).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from course_utils import assets, recipes
from course_utils.bench.report import spread
from course_utils.bench.runs import Job, collect, file_of, kept_run
from course_utils.data import Examples, Task
from course_utils.detection import (
    BLOOD_CELLS,
    STRIDE,
    Detector,
    Found,
    Scenes,
    box_area,
    coco_ap,
    decode,
    grid_points,
    load_blood_cells,
    resnet_body,
)
from course_utils.device import choose_compute, seed_everything
from course_utils.models import load_image_model
from course_utils.optim import build_optimizer, schedule_factor, set_learning_rates
from course_utils.recipes import Recipe
from course_utils.stage import set_mode, stages
from course_utils.tasks import load_images, load_task
from course_utils.train import evaluate, fit

NETWORK = "resnet18"
SIZE = 64  # pixels
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Dataset:
    """A dataset, how long to train on it, and what others have published."""

    title: str
    load: Callable[[], Task]
    epochs: int
    published: str
    differs: str
    """What makes the published figures no like for like."""


def load_caltech() -> Task:
    """Caltech-101 (Fei-Fei et al., 2004) from the mirror, without its class of backgrounds."""
    mirror = assets.data_mirror()
    assert mirror is not None  # `measure` has looked
    folder = mirror / "caltech101_64"
    remedy = "copy the dataset again"

    def lines(split: str) -> list[str]:
        path = assets.verified(folder, f"{split}.txt", folder / "MANIFEST.sha256", remedy)
        found = path.read_text(encoding="utf-8").split()
        return [line for line in found if not line.startswith("BACKGROUND_Google/")]

    classes = tuple(sorted({line.partition("/")[0] for line in lines("train")}))

    def examples(files: list[str]) -> Examples:
        labels = [classes.index(file.partition("/")[0]) for file in files]
        paths = (folder / "101_ObjectCategories" / file for file in files)
        return Examples(load_images(paths, SIZE), torch.tensor(labels))

    train, test = examples(lines("train")), examples(lines("test"))
    return Task("caltech101", "image", classes, train, test.select([0]), test)


DATASETS = {
    "flowers": Dataset(
        "Flowers, 5 kinds", lambda: load_task("flowers", size=SIZE), 5,
        "none for this split", "",
    ),
    "pneumonia": Dataset(
        "PneumoniaMNIST", lambda: load_task("pneumonia", size=SIZE), 3,
        "ResNet-18 from random weights: 85.4 at 28 pixels, 86.4 at 224 (Yang et al., 2023)",
        "Yang et al. trained for 100 epochs and chose the best by validation pictures; three "
        "epochs are all that is given here.",
    ),
    "caltech101": Dataset(
        "Caltech-101", load_caltech, 3,
        "93.4 with a network pre-trained on ImageNet (He et al., 2014)",
        "He et al. train on 30 pictures a class of full size, with a network that saw 1.2 million "
        "photographs of 224 pixels; ours saw 50,000 of 32, and here all are shrunk to 64.",
    ),
}  # fmt: skip
METHODS: dict[str, Callable[..., Recipe]] = {
    "scratch": recipes.from_scratch,
    "frozen": lambda **_: recipes.linear_probe(validate=False),
    "full": recipes.full_finetuning,
}
ORDER = (("full", 0), ("scratch", 0), ("frozen", 0),
         *((method, seed) for seed in SEEDS[1:] for method in METHODS))  # fmt: skip
"""Methods and seeds in the order of the work: whole seeds first."""
CELL_EPOCHS, CELL_BATCH = 12, 8
CELL_PIXELS = (120, 160)  # height and width of photographs of blood cells


def measure(folder: Path, repeats: int = len(SEEDS)) -> dict:
    """Train on all datasets, or read from `folder/evidence` what was trained before.

    Args:
        folder: the runs are kept in its folder "evidence".
        repeats: seeds, at most three.

    Raises:
        CourseError: there is no mirror of the datasets.
    """
    needed = "flowers_96, pneumoniamnist, caltech101_64 and bccd"
    runs = collect("evidence-image", jobs(), needed, folder, repeats, recall, "score")
    rows = [row(name, {method: runs[name, method] for method in METHODS}) for name in DATASETS]
    rows.append(row("bccd", {method: runs["bccd", method] for method in ("scratch", "full")}))
    return {"rows": rows, "notes": notes(runs)}


def jobs() -> Iterator[Job]:
    """All runs in their order; a detector has no linear head, so "frozen" has no blood cells."""
    for method, seed in ORDER:
        for name in DATASETS if method == "frozen" else (*DATASETS, "bccd"):
            yield name, method, seed


def recall(folder: Path, name: str, method: str, seed: int) -> dict:
    """The run that `folder` holds, if nothing that decides it has changed; otherwise do it."""
    file = folder / file_of(name, method, seed)
    if name == "bccd":
        identity = {
            "dataset": name, "method": method, "seed": seed, "epochs": CELL_EPOCHS,
            "size": CELL_PIXELS, "batch": CELL_BATCH,
        }  # fmt: skip
        return kept_run(file, identity, lambda _: _detect(method, seed))
    task, dataset = DATASETS[name].load(), DATASETS[name]
    recipe = METHODS[method](epochs=dataset.epochs, validate=False)
    identity = {
        "dataset": name, "method": method, "seed": seed, "network": NETWORK,
        "precision": choose_compute().precision, "train": task.train.fingerprint(),
        "test": task.test.fingerprint(), "recipe": asdict(recipe),
    }  # fmt: skip
    return kept_run(file, identity, lambda point: _classify(task, recipe, method, seed, point))


def _classify(task: Task, recipe: Recipe, method: str, seed: int, checkpoint: Path) -> dict:
    """Train, and measure on the test split once."""
    model = load_image_model(NETWORK, len(task.classes), method != "scratch", seed)
    from_the_start, start = not checkpoint.exists(), time.process_time()
    fit(model, task, recipe, seed, None, checkpoint, 100, silent=True)
    seconds = time.process_time() - start
    test = evaluate(model, task.test)
    return {
        "pictures": len(task.train), "test": len(task.test), "score": test.accuracy,
        "cpu_seconds": seconds if from_the_start else None,
    }  # fmt: skip


def _detect(method: str, seed: int) -> dict:
    """Train a detector on photographs of blood cells, and measure it once."""
    train, test = (load_blood_cells(split, CELL_PIXELS) for split in ("train", "test"))
    network = load_image_model(NETWORK, len(BLOOD_CELLS), method != "scratch", seed)
    model = Detector(resnet_body(network), len(BLOOD_CELLS), network.pixels, seed=seed)
    model = model.to(choose_compute().device)
    start = time.process_time()
    train_detector(model, train, METHODS[method](epochs=CELL_EPOCHS), seed)
    seconds = time.process_time() - start
    scores = coco_ap(detections(model, test), test.truth, test.classes)
    return {
        "pictures": len(train), "test": len(test), "score": scores["AP50"] / 100,
        "cpu_seconds": seconds,
    }  # fmt: skip


def train_detector(model: Detector, scenes: Scenes, recipe: Recipe, seed: int) -> None:
    """All of a detector's weights, with lesson 23's targets and losses as torchvision has them."""
    import torchvision.ops as ops

    device, parts = next(model.parameters()).device, stages(model)
    points, duties = grid_points(*scenes.images.shape[-2:]).to(device), duties_of(scenes)
    optimizer = build_optimizer(parts, recipe)
    seed_everything(seed)
    set_mode(parts, True)
    for epoch in range(recipe.epochs):
        batches = torch.randperm(len(scenes)).split(CELL_BATCH)
        for step, rows in enumerate(batches):
            progress = (epoch + step / len(batches)) / recipe.epochs
            set_learning_rates(optimizer, schedule_factor(progress, recipe))
            output = model(scenes.images[rows].to(device)).flatten(2).transpose(1, 2)
            logits, codes = output.split([len(scenes.classes), 4], 2)
            boxes, labels = (torch.stack([duties[i][k] for i in rows]).to(device) for k in (0, 1))
            full = labels >= 0
            wanted = torch.zeros_like(logits)
            wanted[full] = F.one_hot(labels[full], len(scenes.classes)).to(logits.dtype)
            by_class = ops.sigmoid_focal_loss(logits, wanted, reduction="sum")
            guessed = decode(codes, points)[full]
            by_box = ops.generalized_box_iou_loss(guessed, boxes[full], reduction="sum")
            optimizer.zero_grad()
            ((by_class + by_box) / full.sum().clamp(min=1)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()


def duties_of(scenes: Scenes) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each picture the box and the class that each cell answers for; class -1: none.

    The cells less than a cell away from a box's centre; of several boxes, the smallest.
    """
    points = grid_points(*scenes.images.shape[-2:])
    duties = []
    for true in scenes.truth:
        centres = (true.boxes[:, :2] + true.boxes[:, 2:]) / 2
        apart = (points[:, None] - centres).abs().amax(2)
        area = torch.where(apart < STRIDE, box_area(true.boxes), torch.inf)
        least = area.min(1)
        labels = torch.where(least.values.isinf(), -1, true.labels[least.indices])
        duties.append((true.boxes[least.indices], labels))
    return duties


@torch.no_grad()
def detections(model: Detector, scenes: Scenes, limit: float = 0.05) -> list[Found]:
    """What a detector finds, without duplicates."""
    import torchvision.ops as ops

    device, found = next(model.parameters()).device, []
    height, width = scenes.images.shape[-2:]
    points, edge = grid_points(height, width), torch.tensor([width, height, width, height])
    model.eval()
    for images in scenes.images.split(24):
        for output in model(images.to(device)).flatten(2).transpose(1, 2).float().cpu():
            scores, labels = output[:, :-4].sigmoid().max(1)
            boxes = decode(output[:, -4:], points).clamp(min=0).minimum(edge)
            every = Found(boxes, labels, scores).select(scores > limit)
            rows = ops.batched_nms(every.boxes, every.scores, every.labels, 0.5)
            found.append(every.select(rows))
    return found


# --- the table ------------------------------------------------------------------------------


def row(name: str, runs: dict[str, list[dict]]) -> dict:
    """A dataset's row, in percent."""

    def cell(method: str) -> dict[str, float] | float | str:
        values = [100 * run["score"] for run in runs.get(method, ())]
        return (spread(values) if len(values) > 1 else values[0]) if values else "-"

    last, dataset = runs["full"][-1], DATASETS.get(name)
    minutes = [run["cpu_seconds"] / 60 for run in runs["full"] if run["cpu_seconds"] is not None]
    return {
        "dataset": dataset.title if dataset else "BCCD, blood cells",
        "measure": "accuracy" if dataset else "AP50",
        "trained on": last["pictures"],
        "tested on": last["test"],
        "from scratch": cell("scratch"),
        "frozen body": cell("frozen"),
        "fine-tuned": cell("full"),
        "seeds": min(len(found) for found in runs.values()),
        "epochs": dataset.epochs if dataset else CELL_EPOCHS,
        "CPU minutes": spread(minutes)["median"] if minutes else "-",
        "published": dataset.published if dataset else "none for these pictures and this measure",
    }


def notes(runs: dict[tuple[str, str], list[dict]]) -> list[str]:
    """What is compared with what, and where pre-training did not help."""
    lines = [
        "In percent, median (range) over seeds; a single number is one run. From scratch: the same "
        "network, pictures and epochs, random weights at the start. The frozen body has a linear "
        "head. The network is the course's ResNet-18, pre-trained on CIFAR-100 enlarged to 64 "
        "pixels, and all pictures have 64 pixels (the blood cells 120 by 160). CPU minutes are "
        "of one fine-tuning.",
        "Left out: training radiographs that are also validation or test pictures, Caltech's "
        "backgrounds. Caltech's split is that of the mirror's source, about two thirds for "
        "training, not a published one.",
    ]
    for name in (*DATASETS, "bccd"):
        scratch, full = (median(r["score"] for r in runs[name, m]) for m in ("scratch", "full"))
        if scratch >= full:
            lines.append(
                f"{DATASETS[name].title if name in DATASETS else 'BCCD'}: training from scratch is "
                "ahead, at the higher rate of its own recipe: pre-training on photographs does not "
                "help here."
            )
    return lines + [f"{each.title}: {each.differs}" for each in DATASETS.values() if each.differs]
