"""LoRA: low-rank adapters on frozen layers (Hu et al., 2022, "LoRA: Low-Rank Adaptation of LLMs").

A layer's weight W (out, in) stays as it is. Beside it two thin matrices are trained, A (r, in) and
B (out, r), and the layer gives W x + scale * B A x. B begins at zero, so that nothing changes at
first. Afterwards B A may be added to W, and the layer costs what it did before.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils.errors import CourseError
from course_utils.stage import Adapter, adapter_weights, stages


class LoRALinear(Adapter):
    """A linear layer (…, in) → (…, out) with a low-rank addition.

    Attributes:
        base: the layer as it was, `nn.Linear` or GPT-2's `Conv1D`; frozen.
        down: A (rank, in), random at first.
        up: B (out, rank), zero at first.
        scale: alpha / rank, so that a change of the rank asks for no other learning rate.
    """

    def __init__(self, base: nn.Module, rank: int, alpha: float):
        super().__init__()
        rows, columns = base.weight.shape
        # Conv1D keeps its weight the other way round, (in, out)
        out, inside = (rows, columns) if isinstance(base, nn.Linear) else (columns, rows)
        if not 1 <= rank <= min(out, inside):
            raise CourseError(
                f"the rank is {rank}; for a layer from {inside} to {out} numbers it must be from 1 "
                f"to {min(out, inside)}"
            )
        self.base, self.scale = base, alpha / rank
        like = dict(device=base.weight.device, dtype=base.weight.dtype)
        self.down = nn.Parameter(torch.empty(rank, inside, **like))
        self.up = nn.Parameter(torch.zeros(out, rank, **like))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as nn.Linear begins
        base.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The base layer with the addition added to its weight."""
        change = self.scale * self.up @ self.down
        self.base.weight += change if isinstance(self.base, nn.Linear) else change.T
        return self.base


def add_lora(
    model: nn.Module, rank: int = 8, alpha: float = 16.0,
    targets: Sequence[str] = ("query", "value"),
) -> int:  # fmt: skip
    """Put adapters on a model's layers, in place; they are random, so seed before.

    Args:
        model: any model that `stages` knows.
        rank: of the change to each weight; more can change more.
        alpha: strength of the change, divided by the rank.
        targets: last parts of the layers' names: "query", "key", "value" and "dense" in BERT,
            "c_attn", "c_proj" and "c_fc" in GPT-2.

    Returns:
        The number of layers that now have an adapter.

    Raises:
        CourseError: no layer has such a name, a layer has an adapter already, or the rank does
            not fit.
    """
    found = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if name in targets and _is_linear(layer)
    ]
    if any(isinstance(module, Adapter) for module in model.modules()):
        raise CourseError(
            "this model has adapters already: merge_lora(model) first, or load it anew"
        )
    if missing := set(targets) - {name for _, name, _ in found}:
        names = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if _is_linear(m)})
        raise CourseError(
            f"no linear layer is called {', '.join(map(repr, sorted(missing)))}; those of this "
            f"{type(model).__name__} are called {', '.join(names)}"
        )
    for parent, name, layer in found:
        setattr(parent, name, LoRALinear(layer, rank, alpha).train(layer.training))
    return len(found)


def merge_lora(model: nn.Module) -> int:
    """Add each adapter's change to its layer and take the adapter away; returns their number."""
    found = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, LoRALinear)
    ]
    for parent, name, layer in found:
        setattr(parent, name, layer.merged())
    return len(found)


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """What fine-tuning made: copies of the adapters' weights and the head's, by name.

    Everything else is the base model's, so this is all that must be kept for one task.
    """
    kept = _own(model)
    return {name: w.detach().clone() for name, w in model.named_parameters() if id(w) in kept}


@torch.no_grad()
def load_adapter(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put another task's adapters and head into a model, in place.

    Raises:
        CourseError: they belong to other layers, another rank or another number of classes;
            then nothing is changed.
    """
    kept = _own(model)
    own = {name: weight for name, weight in model.named_parameters() if id(weight) in kept}
    if wrong := sorted(
        name for name in own.keys() | state.keys()
        if name not in own or name not in state or own[name].shape != state[name].shape
    ):  # fmt: skip
        name = wrong[0]
        shapes = [tuple(d[name].shape) if name in d else "missing" for d in (own, state)]
        raise CourseError(
            f"the adapter does not fit: {name} is {shapes[0]} in the model and {shapes[1]} in the "
            "adapter; call add_lora with the rank and targets that it was trained with"
        )
    for name, weight in own.items():
        weight.copy_(state[name])


def _own(model: nn.Module) -> set[int]:
    parts = stages(model)
    own = {key for part in parts for key in adapter_weights(part)}
    if not own:
        raise CourseError("this model has no adapters: call add_lora(model) first")
    return own | {id(weight) for weight in parts[-1].parameters}


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D"
