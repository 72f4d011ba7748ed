"""Tests of stages (course_utils/stage.py): a list of stages is the model, and frozen is frozen."""

import copy

import pytest
import torch
import torchvision
import transformers
from conftest import tiny_image_task, tiny_text_task
from torch import nn

from course_utils.device import choose_compute
from course_utils.errors import CourseError
from course_utils.pixels import IMAGENET, PixelStatistics
from course_utils.recipes import Recipe
from course_utils.stage import (
    Stage,
    count_weights,
    freeze,
    inference,
    num_frozen_prefix,
    run_stages,
    set_mode,
    stages,
    train_from,
    unfreeze,
)
from course_utils.train import fit

LENGTHS = (7, 3, 5, 1)


def bert(cls, attention="sdpa"):
    return cls(
        transformers.BertConfig(
            vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=24, max_position_embeddings=32, num_labels=3,
            attn_implementation=attention,
        )
    )  # fmt: skip


def distilbert(cls, attention="sdpa"):
    return cls(
        transformers.DistilBertConfig(
            vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24,
            max_position_embeddings=32, num_labels=3, attn_implementation=attention,
        )
    )  # fmt: skip


def gpt2(cls, attention="sdpa"):
    return cls(
        transformers.GPT2Config(
            vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32, num_labels=3,
            pad_token_id=0, bos_token_id=1, eos_token_id=1, attn_implementation=attention,
        )
    )  # fmt: skip


def vit(cls, **options):
    return cls(
        transformers.ViTConfig(
            image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=2,
            num_attention_heads=2, intermediate_size=24, num_labels=3,
        ),
        **options,
    )  # fmt: skip


def small_vgg(batch_norm: bool) -> nn.Module:
    """A VGG-11 with a sixteenth of the channels; the huge hidden layers are never allocated."""
    vgg = torchvision.models.vgg
    widths = [v if v == "M" else v // 16 for v in vgg.cfgs["A"]]
    with torch.device("meta"):
        model = vgg.VGG(nn.Sequential(), num_classes=3, init_weights=False)
    model.features = vgg.make_layers(widths, batch_norm)
    model.classifier = nn.Sequential(
        nn.Linear(32 * 7 * 7, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 20), nn.ReLU(),
        nn.Dropout(), nn.Linear(20, 3),
    )  # fmt: skip
    return model


def named(name: str):
    return lambda: getattr(torchvision.models, name)(num_classes=3)


TEXT_MODELS = {
    "BERT": lambda: bert(transformers.BertModel),
    "BERT eager": lambda: bert(transformers.BertModel, "eager"),
    "BERT classifier": lambda: bert(transformers.BertForSequenceClassification),
    "DistilBERT": lambda: distilbert(transformers.DistilBertModel),
    "DistilBERT eager": lambda: distilbert(transformers.DistilBertModel, "eager"),
    "DistilBERT classifier": lambda: distilbert(transformers.DistilBertForSequenceClassification),
    "GPT-2": lambda: gpt2(transformers.GPT2Model),
    "GPT-2 eager": lambda: gpt2(transformers.GPT2Model, "eager"),
    "GPT-2 language model": lambda: gpt2(transformers.GPT2LMHeadModel),
    "GPT-2 classifier": lambda: gpt2(transformers.GPT2ForSequenceClassification),
    "GPT-2 classifier eager": lambda: gpt2(transformers.GPT2ForSequenceClassification, "eager"),
}
IMAGE_MODELS = {
    "ViT": lambda: vit(transformers.ViTModel),
    "ViT without pooler": lambda: vit(transformers.ViTModel, add_pooling_layer=False),
    "ViT classifier": lambda: vit(transformers.ViTForImageClassification),
    "ResNet-18": named("resnet18"),
    "VGG-11": lambda: small_vgg(False),
    "VGG-11 with BatchNorm": lambda: small_vgg(True),
    "MobileNetV2": named("mobilenet_v2"),
    "MobileNetV3": named("mobilenet_v3_small"),
    "EfficientNet-B0": named("efficientnet_b0"),
}
MODELS = {**TEXT_MODELS, **IMAGE_MODELS}
IMAGE_CLASSIFIERS = [name for name in IMAGE_MODELS if name not in ("ViT", "ViT without pooler")]
TEXT_CLASSIFIERS = [name for name in TEXT_MODELS if name.endswith("classifier")]


def build(name: str) -> nn.Module:
    """The model with random weights, its BatchNorm statistics far from the initial ones."""
    torch.manual_seed(0)
    model = MODELS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def output_of(result):
    """The tensor that the last stage stands for."""
    if isinstance(result, torch.Tensor):
        return result
    return result.logits if hasattr(result, "logits") else result.last_hidden_state


def padded_texts() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return torch.randint(2, 40, mask.shape, generator=generator) * mask, mask


def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()


def snapshot(modules) -> list[torch.Tensor]:
    """Copies of all weights and buffers."""
    return [v.clone() for m in modules for v in m.state_dict().values()]


def unchanged(modules, before: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, snapshot(modules), before))


# --- a list of stages is the model ----------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("name", TEXT_MODELS)
def test_text_stages_equal_the_model_under_padding(name):
    model = build(name)
    ids, mask = padded_texts()
    expected = output_of(model(ids, attention_mask=mask.long()))
    found = run_stages(stages(model), ids, mask)
    if expected.ndim == 3:  # what stands at padding means nothing
        expected, found = expected[mask], found[mask]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", TEXT_MODELS)
def test_text_stages_equal_the_model_without_a_mask(name):
    model = build(name)
    ids = torch.randint(2, 40, (3, 6), generator=torch.Generator().manual_seed(2))
    found = run_stages(stages(model), ids, None)
    torch.testing.assert_close(found, output_of(model(ids)), atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", TEXT_MODELS)
def test_padding_does_not_change_a_text(name):
    parts = stages(build(name))
    ids, mask = padded_texts()
    together = run_stages(parts, ids, mask)
    for i, length in enumerate(LENGTHS):
        alone = run_stages(parts, ids[i : i + 1, :length], None)[0]
        row = together[i, :length] if together.ndim == 3 else together[i]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    "name", [n for n in TEXT_MODELS if n.startswith("GPT-2") and "cl" not in n]
)
def test_gpt2_does_not_see_the_future(name):
    parts = stages(build(name))
    ids = torch.randint(2, 40, (1, 8), generator=torch.Generator().manual_seed(3))
    changed = ids.clone()
    changed[0, 5:] = 2 + (changed[0, 5:] + 7) % 38
    a, b = run_stages(parts, ids), run_stages(parts, changed)
    torch.testing.assert_close(a[:, :5], b[:, :5], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(a[:, 5:], b[:, 5:], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", IMAGE_MODELS)
@pytest.mark.parametrize("pixels", [None, IMAGENET])
def test_image_stages_equal_the_model_on_normalised_pixels(name, pixels):
    model = build(name)
    if pixels:
        model.pixels = pixels
    images = (pixels or PixelStatistics()).normalize(pictures())
    expected = output_of(model(images))
    for x in (images, pictures()):  # floats are taken as they are, bytes are normalised
        torch.testing.assert_close(run_stages(stages(model), x), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_in_training_mode_dropout_and_statistics_are_those_of_the_model(name):
    model = build(name).train()
    twin = copy.deepcopy(model)
    x = (
        padded_texts()[0].clamp(min=2)
        if name in TEXT_MODELS
        else PixelStatistics().normalize(pictures())
    )
    torch.manual_seed(5)
    expected = output_of(model(x))
    torch.manual_seed(5)
    found = run_stages(stages(twin), x)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    for (key, value), other in zip(
        model.state_dict().items(), twin.state_dict().values(), strict=True
    ):
        assert torch.allclose(value, other, atol=1e-5), key


# --- who holds which weight -----------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_belongs_to_exactly_one_stage(name):
    model = build(name)
    parts = stages(model)
    owned = [id(weight) for part in parts for weight in part.parameters]
    assert sorted(owned) == sorted({id(weight) for weight in model.parameters()})
    total = sum(weight.numel() for weight in model.parameters())
    assert count_weights(parts) == (total, total)
    assert sum(part.num_weights for part in parts) == total


@pytest.mark.parametrize("name", MODELS)
def test_every_buffer_lies_in_some_stage(name):
    model = build(name)
    held = {id(b) for part in stages(model) for m in part.modules for b in m.buffers()}
    assert held >= {id(b) for b in model.buffers()}


@pytest.mark.parametrize("name", MODELS)
def test_names_are_unique_and_run_from_input_to_output(name):
    names = [part.name for part in stages(build(name))]
    assert len(set(names)) == len(names)
    assert names[0] in ("embeddings", "stem", "block0")
    bare = ("BERT", "BERT eager", "DistilBERT", "DistilBERT eager")
    assert names[-1] == ("layer1" if name in bare else names[-1])
    assert names[-1] == "head" or "classifier" not in name


def test_a_tied_weight_belongs_to_the_first_stage():
    model = build("GPT-2 language model")
    parts = {part.name: part for part in stages(model)}
    assert model.lm_head.weight is model.transformer.wte.weight
    assert any(w is model.lm_head.weight for w in parts["embeddings"].parameters)
    assert not any(w is model.lm_head.weight for w in parts["head"].parameters)


def test_training_only_the_head_leaves_a_tied_weight_frozen():
    model = build("GPT-2 language model")
    train_from(stages(model), "head")
    assert not model.lm_head.weight.requires_grad
    assert model.transformer.ln_f.weight.requires_grad


@pytest.mark.parametrize(
    "model",
    [
        lambda: bert(transformers.BertForMaskedLM),
        lambda: distilbert(transformers.DistilBertForMaskedLM),
        lambda: gpt2(transformers.GPT2ForTokenClassification),
    ],
)
def test_a_head_that_no_stage_holds_is_an_error(model):
    with pytest.raises(CourseError, match="no stage of this .* holds .*(cls|vocab|classifier)"):
        stages(model())


def test_an_unknown_model_is_an_error_that_names_the_families():
    with pytest.raises(CourseError, match=r"cannot split a Sequential.*ResNet.*method stages\(\)"):
        stages(nn.Sequential(nn.Linear(2, 2)))


# --- passes without gradients -----------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_weights_cast_once_give_what_casts_at_each_use_give(name):
    """Bit for bit; and the weights come back, also after an error."""
    model, compute = build(name), choose_compute("bf16")
    parts = stages(model)
    x, mask = padded_texts() if name in TEXT_MODELS else (pictures(), None)
    with torch.no_grad(), compute.autocast():
        expected = run_stages(parts, x, mask)
    before = [(weight.data_ptr(), weight.dtype) for weight in model.parameters()]
    values = snapshot([model])
    model.train()
    with pytest.raises(RuntimeError, match="inside"), inference(parts, compute):
        assert torch.bfloat16 in {weight.dtype for weight in model.parameters()}
        assert not any(module.training for part in parts for module in part.modules)
        found = run_stages(parts, x, mask)
        raise RuntimeError("something went wrong inside")
    assert found.equal(expected) and not found.requires_grad
    assert [(weight.data_ptr(), weight.dtype) for weight in model.parameters()] == before
    assert unchanged([model], values)


def test_a_weight_that_is_also_a_table_of_words_is_not_cast():
    model = build("GPT-2 language model")
    with inference(stages(model), choose_compute("bf16")):
        assert model.lm_head.weight.dtype == torch.float32


def test_in_fp32_nothing_is_cast():
    model = build("ResNet-18")
    with inference(stages(model), choose_compute("fp32")):
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}


# --- a model of one's own -------------------------------------------------------------------


class OwnModel(nn.Module):
    """Three stages; the first has dropout, BatchNorm and a weight that the last one shares."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm2d(3), nn.Dropout(0.5)
        self.middle, self.head = nn.Linear(3, 3), nn.Linear(3, 2)
        self.modes: list[tuple[bool, bool]] = []  # (norm, dropout) in training mode, each call

    def stages(self):
        def first(x, mask):
            self.modes.append((self.norm.training, self.drop.training))
            return self.drop(self.norm(x.float() / 255).amax((2, 3)))

        return [
            Stage("first", (self.norm, self.drop), first),
            Stage("flat", (), lambda x, mask: x),
            Stage("middle", (self.middle,), lambda x, mask: x + self.middle(x)),
            Stage("head", (self.head,), lambda x, mask: self.head(x)),
        ]


def test_a_model_with_a_method_stages_works():
    torch.manual_seed(0)
    model = OwnModel().eval()
    parts = stages(model)
    assert [len(part.parameters) for part in parts] == [2, 0, 2, 2]
    assert run_stages(parts, pictures()).shape == (3, 2)
    assert train_from(parts, "middle") == 2


def test_a_model_whose_stages_forget_a_weight_is_an_error():
    class Forgetful(OwnModel):
        def stages(self):
            return super().stages()[:-1]

    with pytest.raises(CourseError, match="holds head.weight, head.bias:"):
        stages(Forgetful())


# --- freezing -------------------------------------------------------------------------------


@pytest.mark.parametrize("first, boundary", [(0, 0), (2, 2), ("middle", 2), (-1, 3), (-4, 0)])
def test_train_from_counts_and_names(first, boundary):
    parts = stages(OwnModel())
    assert train_from(parts, first) == boundary
    trained = [bool(p.parameters) and p.parameters[0].requires_grad for p in parts]
    assert trained == [i >= boundary and bool(p.parameters) for i, p in enumerate(parts)]


def test_train_from_moves_in_both_directions():
    parts = stages(OwnModel())
    train_from(parts, -1)
    assert num_frozen_prefix(parts) == 3 and count_weights(parts)[0] == 8
    train_from(parts, 0)
    assert num_frozen_prefix(parts) == 0 and count_weights(parts)[0] == count_weights(parts)[1]


def test_train_from_an_unknown_name_lists_the_stages():
    with pytest.raises(CourseError, match="no stage 'top'; the stages are first, flat, middle, he"):
        train_from(stages(OwnModel()), "top")


@pytest.mark.parametrize("number", [4, -5, 99])
def test_train_from_an_index_out_of_range_names_the_range(number):
    with pytest.raises(CourseError, match=f"number {number}; 4 stages .* 0 to 3, .* -1 to -4"):
        train_from(stages(OwnModel()), number)


def test_freezing_drops_gradients_and_leaves_training_mode():
    model = OwnModel().train()
    parts = stages(model)
    run_stages(parts, pictures()).sum().backward()
    freeze(parts[:1])
    assert model.norm.weight.grad is None and model.middle.weight.grad is not None
    assert not model.norm.training and not model.drop.training
    unfreeze(parts[:1])
    assert model.norm.training and model.norm.weight.requires_grad


def test_set_mode_puts_only_trained_stages_into_training_mode():
    model = OwnModel()
    parts = stages(model)
    train_from(parts, "middle")
    set_mode(parts, True)
    assert (model.norm.training, model.drop.training) == (False, False)
    assert model.middle.training and model.head.training
    set_mode(parts, False)
    assert not any(module.training for part in parts for module in part.modules)


@pytest.mark.parametrize("first, modes", [
    (0, [True, True, True]), ("middle", [False, True, True]), (-1, [False, False, False]),
])  # fmt: skip
def test_dropout_in_a_stage_without_weights_goes_with_the_stage_before(first, modes):
    drops = [nn.Dropout(), nn.Dropout(), nn.Dropout()]  # at the input, after middle, after that

    class WithDropout(OwnModel):
        def stages(self):
            first, _, middle, head = super().stages()
            free = [Stage(f"drop{i}", (drop,), lambda x, mask: x) for i, drop in enumerate(drops)]
            return [free[0], first, middle, free[1], free[2], head]

    parts = stages(WithDropout())
    train_from(parts, first)
    set_mode(parts, True)
    assert [drop.training for drop in drops] == modes
    set_mode(parts, False)
    assert not any(drop.training for drop in drops)


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("name", TEXT_CLASSIFIERS + IMAGE_CLASSIFIERS)
def test_training_leaves_a_frozen_prefix_bit_for_bit_as_it_was(name, cache):
    model = build(name)
    parts = stages(model)
    middle = len(parts) // 2
    frozen = [m for part in parts[:middle] for m in part.modules]
    trained = [m for part in parts[middle:] for m in part.modules]
    before, trained_before = snapshot(frozen), snapshot(trained)
    task = tiny_text_task(8, 3) if name in TEXT_MODELS else tiny_image_task(6, 2)
    recipe = Recipe(
        "frozen", epochs=2, batch_size=3, learning_rate=1e-2, train_from=middle, warmup=0.0,
        precision="fp32", cache_prefix=cache, validate=False,
    )  # fmt: skip
    fit(model, task, recipe, silent=True)
    assert before and unchanged(frozen, before)
    assert not unchanged(trained, trained_before)


@pytest.mark.parametrize("first, moved", [("middle", False), (0, True)])
def test_batchnorm_statistics_move_only_in_a_trained_stage(first, moved):
    torch.manual_seed(0)
    model = OwnModel()
    recipe = Recipe("own", epochs=2, train_from=first, cache_prefix=False, validate=False)
    fit(model, tiny_image_task(), recipe, silent=True)
    assert (int(model.norm.num_batches_tracked) > 0) is moved
    assert (not torch.equal(model.norm.running_mean, torch.zeros(3))) is moved


@pytest.mark.parametrize("first, active", [("middle", False), (0, True)])
def test_dropout_and_statistics_sleep_in_a_frozen_stage(first, active):
    model = OwnModel()
    recipe = Recipe("own", epochs=2, train_from=first, cache_prefix=False, validate=False)
    fit(model, tiny_image_task(), recipe, silent=True)
    assert model.modes and set(model.modes) == {(active, active)}


def test_after_training_the_whole_model_is_in_eval_mode():
    model = OwnModel()
    fit(model, tiny_image_task(), Recipe("own", epochs=1), silent=True)
    assert not (model.norm.training or model.drop.training or model.head.training)
