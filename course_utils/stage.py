"""A model as an ordered list of stages, from input to output.

Almost every technique of fine-tuning is a small operation on this list: freeze a prefix, move
the boundary, give each stage its own learning rate, run the frozen prefix once and keep what
it gives. Running the stages one after another gives exactly what `model(...)` gives; that is
tested for every family below.

Knows: BERT, DistilBERT, GPT-2 and ViT of transformers (bare, for classification, and GPT-2 as
a language model) and ResNet, VGG, MobileNet and EfficientNet of torchvision. A model of your
own joins by having a method `stages()` that returns the list.

Shapes: B examples, T tokens, D features, C channels, H and W pixels.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from course_utils.device import Compute
from course_utils.errors import CourseError
from course_utils.packing import Packing
from course_utils.pixels import PixelStatistics

PRODUCTS = ("Linear", "Conv2d", "Conv1D")  # classes whose weights matrix products use; 1D: GPT-2's

Mask: TypeAlias = Tensor | Packing | None
Run = Callable[[Tensor, Mask], Tensor]


@dataclass(frozen=True)
class Stage:
    """One step of a model.

    Attributes:
        name: "embeddings", "layer0", …, "head".
        modules: the parts that hold its weights and buffers.
        run: `run(x, mask)` gives the next stage's x. `mask` (B, T) is true at real tokens;
            None means that no token is padding; a `Packing` that there are packed texts.
        parameters: its weights; a weight shared by two stages belongs to the first one.
    """

    name: str
    modules: tuple[nn.Module, ...]
    run: Run
    parameters: tuple[nn.Parameter, ...] = ()

    @property
    def frozen(self) -> bool:
        """True if no weight of this stage is trained."""
        return not any(weight.requires_grad for weight in self.parameters)

    @property
    def num_weights(self) -> int:
        return sum(weight.numel() for weight in self.parameters)


class Adapter(nn.Module):
    """A small addition to a frozen layer, such as LoRA's: its own weights are what is trained.

    A stage that holds adapters trains only them; everything else in it stays frozen.
    """


def stages(model: nn.Module) -> list[Stage]:
    """List the stages of a model, from input to output.

    Args:
        model: a model of one of the families named at the top of this module, or one with a
            method `stages()`.

    Raises:
        CourseError: the model belongs to no family that we know, or has weights in no stage.
    """
    if hasattr(model, "stages"):
        parts = model.stages()
    else:
        family = type(model).__name__
        for prefix, split in FAMILIES.items():
            if family.startswith(prefix):
                parts = split(model)
                break
        else:
            raise CourseError(
                f"cannot split a {family} into stages; known families are "
                f"{', '.join(sorted(FAMILIES))}. Give your model a method stages() that returns "
                "a list of course_utils.stage.Stage"
            )
    parts = assign_parameters(parts)
    held = {id(weight) for part in parts for weight in part.parameters}
    if missing := [name for name, weight in model.named_parameters() if id(weight) not in held]:
        raise CourseError(
            f"no stage of this {type(model).__name__} holds {', '.join(missing[:3])}"
            f"{' …' if missing[3:] else ''}: the list of stages would not be the whole model. Take "
            "the bare model or the one for classification, or give yours a method stages()"
        )
    return parts


def assign_parameters(parts: Iterable[Stage]) -> list[Stage]:
    """Give each weight to the first stage that holds it (GPT-2 ties input and output)."""
    seen: set[int] = set()
    result = []
    for part in parts:
        own = []
        for module in part.modules:
            for weight in module.parameters():
                if id(weight) not in seen:
                    seen.add(id(weight))
                    own.append(weight)
        result.append(Stage(part.name, part.modules, part.run, tuple(own)))
    return result


def run_stages(parts: Sequence[Stage], x: Tensor, mask: Mask = None) -> Tensor:
    """Run stages one after another; with all of them this is the model itself."""
    for part in parts:
        x = part.run(x, mask)
    return x


@contextmanager
def inference(parts: Iterable[Stage], compute: Compute) -> Iterator[None]:
    """Inside, stages run in eval mode, in the precision of `compute` and without gradients.

    Autocast would cast the weights of each matrix product anew for each batch; they are cast once
    here, and come back as they were at the end. The result is the same, bit for bit.
    """
    parts = list(parts)
    set_mode(parts, False)
    cast = _weights_of_products(parts) if compute.precision == "bf16" else []
    kept = [(weight, weight.data) for weight in cast]
    try:
        for weight, whole in kept:
            weight.data = whole.bfloat16()
        with torch.no_grad(), compute.autocast():
            yield
    finally:
        for weight, whole in kept:
            weight.data = whole


def _weights_of_products(parts: Iterable[Stage]) -> list[nn.Parameter]:
    """Weights that only matrix products use, which a table of words tied to the head is not."""
    inner = {id(m): m for part in parts for whole in part.modules for m in whole.modules()}
    products: dict[int, nn.Parameter] = {}
    others: set[int] = set()
    for module in inner.values():
        own = {id(weight): weight for weight in module.parameters(recurse=False)}
        if type(module).__name__ in PRODUCTS:
            products |= own
        else:
            others |= own.keys()
    # (a divided weight of FSDP is no plain tensor, and stays as it is)
    return [w for key, w in products.items() if key not in others and type(w.data) is Tensor]


def freeze(parts: Iterable[Stage]) -> None:
    """Freeze stages: weights, buffers (BatchNorm statistics) and dropout.

    Call `set_mode` before training: a frozen stage is then in eval mode.
    """
    _set_trainable(parts, False)


def unfreeze(parts: Iterable[Stage]) -> None:
    """Make all weights of the stages trainable; of a stage that holds adapters, only theirs."""
    _set_trainable(parts, True)


def _set_trainable(parts: Iterable[Stage], trainable: bool) -> None:
    for part in parts:
        own = adapter_weights(part)
        for weight in part.parameters:
            weight.requires_grad_(trainable and (not own or id(weight) in own))
            if not weight.requires_grad:
                weight.grad = None
        for module in part.modules:
            module.train(trainable)


def adapter_weights(part: Stage) -> dict[int, nn.Parameter]:
    """The adapters' own weights in a stage, by their id; none if it holds no adapter."""
    inner = [module for whole in part.modules for module in whole.modules()]
    return {
        id(weight): weight
        for adapter in inner
        if isinstance(adapter, Adapter)
        for weight in adapter.parameters(recurse=False)
    }


def freeze_half(parts: Sequence[Stage], generator: torch.Generator) -> None:
    """Freeze a random half of the trained weights of each stage but the last (the head).

    Half of the tensors are drawn in each stage, rounded down, so that each goes on learning. For
    the next round call `train_from` first. (Half fine-tuning: Hui et al., 2024.)
    """
    for part in parts[:-1]:
        trained = [weight for weight in part.parameters if weight.requires_grad]
        for i in torch.randperm(len(trained), generator=generator)[: len(trained) // 2].tolist():
            trained[i].requires_grad_(False)
            trained[i].grad = None


def train_from(parts: Sequence[Stage], first: int | str) -> int:
    """Freeze all stages before `first`, unfreeze it and the later ones.

    Args:
        parts: all stages of a model.
        first: an index (-1 is the head alone, 0 everything) or a stage's name.

    Returns:
        The index of the first trained stage, counted from 0.
    """
    names = [part.name for part in parts]
    if isinstance(first, str):
        if first not in names:
            raise CourseError(f"there is no stage {first!r}; the stages are {', '.join(names)}")
        boundary = names.index(first)
    else:
        if not -len(names) <= first < len(names):
            raise CourseError(
                f"there is no stage number {first}; {len(names)} stages are numbered from 0 to "
                f"{len(names) - 1}, or from the end with -1 to -{len(names)}"
            )
        boundary = first % len(names)
    freeze(parts[:boundary])
    unfreeze(parts[boundary:])
    return boundary


def set_mode(parts: Iterable[Stage], training: bool) -> None:
    """Training mode for the stages that are trained, eval mode for the frozen ones.

    A stage without weights, such as one of dropout alone, goes with the stage before it.
    """
    parts = list(parts)
    trained = next((not part.frozen for part in parts if part.parameters), False)
    for part in parts:
        if part.parameters:
            trained = not part.frozen
        for module in part.modules:
            module.train(training and trained)


def num_frozen_prefix(parts: Sequence[Stage]) -> int:
    """How many stages at the start are frozen."""
    for index, part in enumerate(parts):
        if not part.frozen:
            return index
    return len(parts)


def count_weights(parts: Iterable[Stage]) -> tuple[int, int]:
    """Return (trained weights, all weights)."""
    weights = [weight for part in parts for weight in part.parameters]
    return sum(w.numel() for w in weights if w.requires_grad), sum(w.numel() for w in weights)


# --- transformers ---------------------------------------------------------------------------


def _attention_mask(body: nn.Module, mask: Mask) -> Mask:
    """(B, T) true at real tokens → what an attention layer of transformers expects."""
    if mask is None or isinstance(mask, Packing):  # which only our own attention understands
        return mask
    wide = mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
    if body.config._attn_implementation != "eager":
        return wide
    return torch.zeros_like(wide, dtype=torch.float32).masked_fill(~wide, -1e30)


def _causal_mask(body: nn.Module, x: Tensor, mask: Mask) -> Mask:
    """No token sees a later one: eager attention must be told, the others know it."""
    if isinstance(mask, Packing):
        return mask
    if body.config._attn_implementation != "eager":
        return None
    size = x.shape[1]
    return torch.full((1, 1, size, size), -1e30, device=x.device).triu(1)


def _layer_stages(body: nn.Module, layers: Iterable[nn.Module]) -> list[Stage]:
    def run_with(layer: nn.Module) -> Run:
        return lambda x, mask: layer(x, attention_mask=_attention_mask(body, mask))

    return [Stage(f"layer{i}", (layer,), run_with(layer)) for i, layer in enumerate(layers)]


def _first_token(x: Tensor) -> Tensor:
    return x[:, 0]


def last_token(x: Tensor, mask: Mask) -> Tensor:
    """(B, T, D) → (B, D): the last real token of each text (padding is on the right)."""
    if isinstance(mask, Packing):
        return mask.last(x)
    if mask is None:
        return x[:, -1]
    return x[torch.arange(len(x), device=x.device), mask.sum(1) - 1]


def _embed(embeddings: nn.Module) -> Run:
    """Words and positions; packed texts each begin at position 0."""

    def run(x: Tensor, mask: Mask) -> Tensor:
        positions = mask.positions() if isinstance(mask, Packing) else None
        return embeddings(x, position_ids=positions)

    return run


def _bert(model: nn.Module) -> list[Stage]:
    body = getattr(model, "bert", model)
    parts = [Stage("embeddings", (body.embeddings,), _embed(body.embeddings))]
    parts += _layer_stages(body, body.encoder.layer)
    if hasattr(model, "classifier"):
        modules = (body.pooler, model.dropout, model.classifier)
        parts.append(
            Stage("head", modules, lambda x, mask: model.classifier(model.dropout(body.pooler(x))))
        )
    elif body.pooler is not None:
        # The bare model's own pooler only matters to its second output.
        parts[-1] = Stage(parts[-1].name, (*parts[-1].modules, body.pooler), parts[-1].run)
    return parts


def _distilbert(model: nn.Module) -> list[Stage]:
    body = getattr(model, "distilbert", model)
    parts = [Stage("embeddings", (body.embeddings,), _embed(body.embeddings))]
    parts += _layer_stages(body, body.transformer.layer)
    if hasattr(model, "classifier"):
        modules = (model.pre_classifier, model.dropout, model.classifier)

        def head(x: Tensor, mask: Mask) -> Tensor:
            pooled = torch.relu(model.pre_classifier(_first_token(x)))
            return model.classifier(model.dropout(pooled))

        parts.append(Stage("head", modules, head))
    return parts


def _gpt2(model: nn.Module) -> list[Stage]:
    body = getattr(model, "transformer", model)

    def embed(x: Tensor, mask: Mask) -> Tensor:
        positions = torch.arange(x.shape[1], device=x.device)
        if isinstance(mask, Packing):
            positions = mask.positions()
        return body.drop(body.wte(x) + body.wpe(positions))

    def run_with(block: nn.Module) -> Run:
        # Causal attention with padding on the right needs no mask: no real token sees it.
        return lambda x, mask: block(x, attention_mask=_causal_mask(body, x, mask))

    parts = [Stage("embeddings", (body.wte, body.wpe, body.drop), embed)]
    parts += [Stage(f"layer{i}", (block,), run_with(block)) for i, block in enumerate(body.h)]
    if hasattr(model, "lm_head"):
        parts.append(
            Stage("head", (body.ln_f, model.lm_head), lambda x, mask: model.lm_head(body.ln_f(x)))
        )
    elif hasattr(model, "score"):
        parts.append(
            Stage(
                "head",
                (body.ln_f, model.score),
                lambda x, mask: model.score(last_token(body.ln_f(x), mask)),
            )
        )
    else:
        parts.append(Stage("norm", (body.ln_f,), lambda x, mask: body.ln_f(x)))
    return parts


def _vit(model: nn.Module) -> list[Stage]:
    body = getattr(model, "vit", model)
    layers = body.layers if hasattr(body, "layers") else body.encoder.layer
    parts = [
        Stage("embeddings", (body.embeddings,), lambda x, mask: body.embeddings(_pixels(model, x))),
        *_layer_stages(body, layers),
    ]
    norm = body.layernorm
    if hasattr(model, "classifier"):
        parts.append(
            Stage(
                "head",
                (norm, model.classifier),
                lambda x, mask: model.classifier(_first_token(norm(x))),
            )
        )
    else:
        extra = (norm,) if body.pooler is None else (norm, body.pooler)
        parts.append(Stage("norm", extra, lambda x, mask: norm(x)))
    return parts


# --- torchvision ----------------------------------------------------------------------------


def _pixels(model: nn.Module, x: Tensor) -> Tensor:
    """Normalise raw bytes as the model expects; leave floats as they are."""
    if x.dtype != torch.uint8:
        return x
    return getattr(model, "pixels", PixelStatistics()).normalize(x)


def _chain(name: str, *modules: nn.Module, first_of: nn.Module | None = None) -> Stage:
    """A stage that applies modules one after another; the model's first one takes raw bytes."""

    def run(x: Tensor, mask: Mask) -> Tensor:
        if first_of is not None:
            x = _pixels(first_of, x)
        for module in modules:
            x = module(x)
        return x

    return Stage(name, modules, run)


def _resnet(model: nn.Module) -> list[Stage]:
    return [
        _chain("stem", model.conv1, model.bn1, model.relu, model.maxpool, first_of=model),
        *(_chain(name, getattr(model, name)) for name in ("layer1", "layer2", "layer3", "layer4")),
        _chain("pool", model.avgpool, nn.Flatten(1)),
        _chain("head", model.fc),
    ]


def _vgg(model: nn.Module) -> list[Stage]:
    """One stage for each block of convolutions (up to its pooling), one for the hidden layers."""
    blocks: list[list[nn.Module]] = [[]]
    for module in model.features:
        blocks[-1].append(module)
        if isinstance(module, nn.MaxPool2d):
            blocks.append([])
    first, *later = [block for block in blocks if block]
    *hidden, output = model.classifier
    return [
        _chain("block0", *first, first_of=model),
        *(_chain(f"block{i}", *block) for i, block in enumerate(later, 1)),
        _chain("pool", model.avgpool, nn.Flatten(1)),
        *([_chain("hidden", *hidden)] if hidden else []),
        _chain("head", output),
    ]


def _features_then_classifier(model: nn.Module) -> list[Stage]:
    first, *later = model.features
    pool = model.avgpool if hasattr(model, "avgpool") else nn.AdaptiveAvgPool2d(1)
    return [
        _chain("stem", first, first_of=model),
        *(_chain(f"block{i}", block) for i, block in enumerate(later, 1)),
        _chain("pool", pool, nn.Flatten(1)),
        _chain("head", model.classifier),
    ]


# Keys are the beginnings of class names.
FAMILIES: dict[str, Callable[[nn.Module], list[Stage]]] = {
    "DistilBert": _distilbert,
    "Bert": _bert,
    "GPT2": _gpt2,
    "ViT": _vit,
    "ResNet": _resnet,
    "VGG": _vgg,
    "MobileNet": _features_then_classifier,
    "EfficientNet": _features_then_classifier,
}
