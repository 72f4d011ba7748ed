"""What the time of a training step is made of, part by part, and how near its products come to the
machine's best rate.

For each job of `speed` that a CPU can do, the core trains under torch's profiler, warm, in one
thread. Every operation's own time goes to one part; what no operation accounts for is Python and
dispatch. Shares hold on a shared machine too, because waiting hits all parts alike; rates are
taken against the thread's CPU time, which does not count waiting.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from course_utils import operations, prefix_cache, train
from course_utils.batches import Batch
from course_utils.bench import speed
from course_utils.data import Task

STEPS = 6  # of a job that trains everything; the others are short as they are
# Part → names of torch's operations, without underscores around them; the first that fits counts.
PARTS = {
    "matrix products": r"mm|addmm|linear|matmul|mkldnn_linear\w*",
    "attention products": r"bmm|baddbmm|scaled_dot_product\w*",
    "convolutions": r"\w*conv\w*|im2col|col2im",
    "casts and copies": r"copy|to_copy|to|contiguous|clone|cat|stack|(constant_)?pad\w*",
    "activations, norms and softmax": (
        r"\w*(gelu|relu|threshold|tanh|norm|softmax|loss|pool)\w*"
        r"|mean|add|mul|div|sub|sum|ge|neg|rsqrt|clamp_min|fill|zero|masked_fill|where"
    ),
    "random numbers": r"random|bernoulli|\w*dropout",
    "indexing and embedding": r"\w*(index|embedding|gather|scatter|sort)\w*|arange|nonzero|isin",
}
# Labels around calls; the part that all of a call's time goes to.
LOOP = "course: the loop"
LABELS = {
    "course: frozen stages": "frozen stages, once",
    "course: dropout": "random numbers",
    "course: clipping": "clipping",
    "Optimizer.step": "optimizer",  # torch's own label
}
REST = "rest (Python and dispatch)"
ORDER = list(dict.fromkeys([*PARTS, *LABELS.values(), REST]))
PRODUCTS = ("matrix products", "attention products", "convolutions")


@dataclass
class Profile:
    """One job's run.

    Attributes:
        shares: part → its share of the loop's time.
        flops: part → floating-point operations of the trained stages, counted as they are done.
        seconds: the loop's CPU time, without the profiler.
        frozen_seconds: of these, the one pass through the frozen stages.
        padding: share of the tokens that are padding.
    """

    shares: dict[str, float]
    flops: dict[str, int]
    seconds: float
    frozen_seconds: float
    padding: float

    def rate(self, part: str) -> float:
        """FLOP/s of a part; 0 where it does none."""
        seconds = self.shares.get(part, 0.0) * self.seconds
        return self.flops.get(part, 0) / seconds if seconds else 0.0


def measure(jobs: dict[str, speed.Job] = speed.JOBS) -> dict:
    """A row for each job and part, and notes made from them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = speed._best_product_rate(time.thread_time)
        found = {}
        for name, job in jobs.items():
            if not job.gpu:
                found[name] = profile_job(job)
                print(name, found[name], flush=True)
    finally:
        torch.set_num_threads(threads)
    rows = [
        {
            "job": name,
            "part": part,
            "share": round(one.shares[part], 4),
            "GFLOP/s": round(one.rate(part) / 1e9, 1) or "",
            "of the best rate": f"{one.rate(part) / best:.0%}" if one.rate(part) else "",
        }
        for name, one in found.items()
        for part in ORDER
        if one.shares.get(part, 0.0) >= 0.0005
    ]
    notes = [
        f"Shares of the loop's time, one thread; the best matrix product of this run reaches "
        f"{best / 1e9:.1f} GFLOP/s."
    ]
    for name, one in found.items():
        notes += explain(name, jobs[name], one, best)
    return {"best_flop_per_s": best, "rows": rows, "notes": notes}


def profile_job(job: speed.Job) -> Profile:
    """Train three times: to warm up and count, by the clock, and under the profiler."""
    if job.train_from == 0:
        job = replace(job, train=min(job.train, STEPS * job.batch_size))
    model, task = speed.load(job, 0)
    flops, padding = _counted(job, model, task)
    with _timed("train") as whole, _timed("CachedBatches") as frozen:
        _train(job, model, task)
    with profile(activities=[ProfilerActivity.CPU]) as recorded, _labelled():
        _train(job, model, task)
    return Profile(_shares(recorded.events()), flops, sum(whole), sum(frozen), padding)


def explain(name: str, job: speed.Job, one: Profile, best: float) -> list[str]:
    """In words: what the distance to the limit is made of."""
    products = sum(one.shares.get(part, 0.0) for part in PRODUCTS)
    others = sorted(((s, p) for p, s in one.shares.items() if p not in PRODUCTS), reverse=True)
    listed = ", ".join(f"{part} {share:.0%}" for share, part in others if share >= 0.01)
    lines = []
    if products >= 0.2:  # otherwise there is little to say about them
        flops = sum(one.flops.get(part, 0) for part in PRODUCTS)
        rate = flops / (products * one.seconds)
        padded = f" ({one.padding:.0%} of the tokens are padding)" if one.padding else ""
        lines.append(
            f"{name}: {products:.0%} of the time are products of the trained stages, which run at "
            f"{rate / best:.0%} of the best rate{padded}. The rest: {listed}."
        )
    if one.frozen_seconds:
        once, steps = one.frozen_seconds, one.seconds - one.frozen_seconds
        bound = (job.epochs * once + steps) / (once + steps)
        lines.append(
            f"{name}: the one pass through the frozen stages takes {once / one.seconds:.0%} of the "
            f"time, all steps of {job.epochs} epochs the other {steps / one.seconds:.0%}. A peer "
            f"that makes this pass in every epoch, each as quickly as we do, and steps as quickly, "
            f"takes {bound:.1f} times as long; if steps cost nobody anything it would be "
            f"{job.epochs} times. A larger ratio is only possible over a peer whose pass is slower."
        )
    return lines


def part_of(operation: str) -> str:
    """The part that an operation of torch belongs to, by its name."""
    if not operation.startswith("aten::"):  # a node of autograd
        return REST
    name = operation.removeprefix("aten::").strip("_")
    return next((p for p, names in PARTS.items() if re.fullmatch(names, name)), REST)


def _shares(events) -> dict[str, float]:
    """Part → share of the loop's time."""
    spent: Counter[str] = Counter()
    total = sum(e.cpu_time_total for e in events if e.name == LOOP)
    for event in events:
        above = [event.name]
        parent = event.cpu_parent
        while parent is not None:
            above.append(parent.name)
            parent = parent.cpu_parent
        if LOOP not in above or event.name == LOOP:
            continue
        # the outermost label decides: what runs inside the frozen stages is theirs
        labelled = [part for n in above for label, part in LABELS.items() if n.startswith(label)]
        spent[labelled[-1] if labelled else part_of(event.name)] += event.self_cpu_time_total
    spent[REST] += total - spent.total()  # between the operations
    return {part: spent[part] / total for part in ORDER if spent[part] > 0}


def _train(job: speed.Job, model: nn.Module, task: Task) -> None:
    prefix_cache.forget()
    train.fit(model, task, speed.our_recipe(job), silent=True)


def _counted(job: speed.Job, model: nn.Module, task: Task) -> tuple[dict[str, int], float]:
    """FLOP of each part, and the share of tokens that are padding, in the trained stages."""
    flops: Counter[str] = Counter()
    tokens: Counter[str] = Counter()

    def counting(step: Callable) -> Callable:
        def counted(forward, batch: Batch, *rest):
            if isinstance(batch.mask, torch.Tensor):
                tokens["real"] += int(batch.mask.sum())
                tokens["all"] += batch.mask.numel()
            elif job.is_text and batch.inputs.ndim > 1:
                tokens["real"] += batch.inputs.shape[0] * batch.inputs.shape[1]
                tokens["all"] += batch.inputs.shape[0] * batch.inputs.shape[1]
            with FlopCounterMode(display=False) as counter:
                result = step(forward, batch, *rest)
            for operation, count in counter.get_flop_counts()["Global"].items():
                flops[part_of(str(operation).replace("aten.", "aten::"))] += count
            return result

        return counted

    with patch.object(train, "train_step", counting(train.train_step)):
        _train(job, model, task)
    return dict(flops), 1 - tokens["real"] / tokens["all"] if tokens["all"] else 0.0


@contextmanager
def _timed(function: str) -> Iterator[list[float]]:
    """Inside, collect the CPU time of each call of a function of `train`."""
    seconds: list[float] = []
    original = getattr(train, function)

    def timed(*arguments):
        start = time.thread_time()
        result = original(*arguments)
        seconds.append(time.thread_time() - start)
        return result

    with patch.object(train, function, timed):
        yield seconds


@contextmanager
def _labelled() -> Iterator[None]:
    """Inside, the profiler sees which calls belong to what."""

    def label(name: str, function: Callable) -> Callable:
        def labelled(*arguments):
            with record_function(name):
                return function(*arguments)

        return labelled

    with (
        patch.object(train, "train", label(LOOP, train.train)),
        patch.object(train, "CachedBatches", label("course: frozen stages", train.CachedBatches)),
        patch.object(
            nn.utils, "clip_grad_norm_", label("course: clipping", nn.utils.clip_grad_norm_)
        ),
        patch.object(operations, "keep_factors", label("course: dropout", operations.keep_factors)),
    ):
        yield
