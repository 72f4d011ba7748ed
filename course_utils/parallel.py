"""Several processes on one training run, started by `torchrun`: each takes its share of a batch.

Data parallel (DDP; Li et al., 2020): every process holds the whole model, and the gradients are
summed over the processes. Sharded (FSDP2; Zhao et al., 2023): every process holds a part of each
weight, of its gradient and of its moments, and the whole is brought together stage by stage when it
is needed. Without `torchrun` there is one process, and nothing here does anything.
"""

import atexit
import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from course_utils.batches import Batch, Batches
from course_utils.data import IGNORED
from course_utils.errors import CourseError
from course_utils.prefix_cache import CachedBatches
from course_utils.stage import Mask, Stage, run_stages

T = TypeVar("T")


def join() -> None:
    """Join the other processes that `torchrun` has started, if it has."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(dist.destroy_process_group)


def count() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def total(value: Tensor) -> Tensor:
    """The sum of a value over all processes."""
    if count() > 1:
        dist.all_reduce(value)
    return value


def smallest(value: int) -> int:
    """The smallest of all processes' values."""
    if count() > 1:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        found = torch.tensor(value, device=device)
        dist.all_reduce(found, dist.ReduceOp.MIN)
        value = int(found)
    return value


def gather(value: T) -> list[T]:
    """Each process's value, in the order of their ranks."""
    values: list[T] = [value] * count()
    if count() > 1:
        dist.all_gather_object(values, value)
    return values


def own_share(source: Batches | CachedBatches, indices: Tensor) -> Batch:
    """This process's part of a batch; where there are too few examples, one that does not count."""
    own = indices[rank() :: count()]
    if len(own):
        return source.batch(own)
    batch = source.batch(indices[:1])
    return replace(batch, labels=torch.full_like(batch.labels, IGNORED))


class StageModule(nn.Module):
    """A list of stages as one module: `forward(x, mask)` runs them one after another."""

    def __init__(self, parts: Sequence[Stage]):
        super().__init__()
        self.parts = parts
        self.inner = nn.ModuleList(module for part in parts for module in part.modules)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        return run_stages(self.parts, x, mask)


class Replicas:
    """The trained stages, whose gradients come out summed over all processes.

    With one process, a call is `run_stages`.
    """

    def __init__(self, parts: Sequence[Stage], root: nn.Module | None = None):
        self.parts, self.root = parts, root
        if root is None and count() > 1:
            self.root = nn.parallel.DistributedDataParallel(StageModule(parts))

    def __call__(self, x: Tensor, mask: Mask) -> Tensor:
        return run_stages(self.parts, x, mask) if self.root is None else self.root(x, mask)

    def trained_weights(self) -> list[nn.Parameter]:
        return [weight for part in self.parts for weight in part.parameters if weight.requires_grad]

    def gradients_stay_here(self) -> AbstractContextManager:
        """Inside, gradients are added up in this process only: for all but the last micro-batch."""
        if isinstance(self.root, nn.parallel.DistributedDataParallel):
            return self.root.no_sync()
        return nullcontext() if self.root is None else _unsynchronized(self.root)


@contextmanager
def _unsynchronized(root: nn.Module) -> Iterator[None]:
    root.set_requires_gradient_sync(False)  # type: ignore[operator]
    try:
        yield
    finally:
        root.set_requires_gradient_sync(True)  # type: ignore[operator]


def shard(parts: Sequence[Stage]) -> nn.Module:
    """Divide the weights of these stages among the processes; returns their root.

    List the stages anew afterwards: their weights are others.
    """
    from torch.distributed.fsdp import fully_shard

    root = StageModule(parts)
    for part in parts:
        for module in part.modules:
            if any(True for _ in module.parameters()):
                fully_shard(module)
    return fully_shard(root)


@contextmanager
def sharded_copy(model: nn.Module, enabled: bool) -> Iterator[nn.Module]:
    """A copy of the model to be sharded; at the end its weights go back into the model, whole."""
    if not enabled:
        yield model
        return
    if count() == 1:
        raise CourseError("shard=True divides the weights among processes: start it with torchrun")
    worker = copy.deepcopy(model)
    yield worker
    whole = {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value
        for name, value in worker.state_dict().items()
    }
    model.load_state_dict(whole)
