"""Tests of loading models and giving them a new head (course_utils/models.py)."""

import socket
import time

import pytest
import torch
import torchvision
import transformers
from conftest import TinyTokenizer, tiny_text_task
from torch import nn

from course_utils.data import tokenize_texts
from course_utils.errors import AssetError, CourseError
from course_utils.models import (
    EMBEDDED_IMAGE_MODELS,
    POOLINGS,
    TextClassifier,
    copy_of,
    load_image_model,
    load_text_model,
    load_weights,
    replace_head,
    small_vgg11,
)
from course_utils.pixels import IMAGENET, PixelStatistics
from course_utils.recipes import Recipe
from course_utils.stage import run_stages, stages
from course_utils.train import fit


def small_network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


# --- load_weights ---------------------------------------------------------------------------


def test_weights_that_fit_are_loaded():
    source, target = small_network(), small_network()
    load_weights(target, source.state_dict())
    assert all(map(torch.equal, source.state_dict().values(), target.state_dict().values()))


def test_weights_that_do_not_fit_are_listed_with_what_is_wrong():
    weights = small_network().state_dict()
    weights["2.extra"] = weights.pop("0.bias")
    weights["2.weight"] = torch.zeros(5, 4)
    with pytest.raises(AssetError) as error:
        load_weights(small_network(), weights)
    lines = [line.strip() for line in str(error.value).splitlines()[1:-1]]
    assert lines == ["- 0.bias", "+ 2.extra", "≠ 2.weight: (5, 4) instead of (2, 4)"]
    assert "do not fit this Sequential" in str(error.value) and "`skip`" in str(error.value)


def test_weights_that_do_not_fit_leave_the_model_as_it_was():
    model = small_network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(AssetError):
        load_weights(model, {"0.weight": torch.ones(4, 3)})
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())


def test_what_is_skipped_may_lack_be_extra_or_have_another_shape():
    source, target = small_network(), small_network()
    head = target[2].weight.clone()
    weights = {**source.state_dict(), "2.weight": torch.zeros(5, 4), "2.extra": torch.zeros(1)}
    del weights["2.bias"]
    load_weights(target, weights, skip=["2."])
    assert torch.equal(target[0].weight, source[0].weight) and torch.equal(target[2].weight, head)


# --- a text classifier ----------------------------------------------------------------------


def tiny_encoder(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=20
        )
        return transformers.GPT2Model(config)
    config = transformers.DistilBertConfig(
        vocab_size=40, dim=16, n_layers=1, n_heads=2, hidden_dim=24, max_position_embeddings=20
    )
    return transformers.DistilBertModel(config)


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", ["distilbert", "gpt2"])
def test_pooling_leaves_padding_out_and_stages_are_the_model(kind, pooling):
    model = TextClassifier(tiny_encoder(kind), TinyTokenizer(), 3, pooling).eval()
    ids = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 0, 0]])
    mask = torch.arange(5) < torch.tensor([[5], [3]])
    logits = model(ids, mask.long())
    torch.testing.assert_close(run_stages(stages(model), ids, mask), logits, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(logits[1:], model(ids[1:, :3]), atol=1e-6, rtol=1e-5)


def test_what_each_pooling_takes():
    x = torch.arange(8.0).view(1, 4, 2)
    mask = torch.tensor([[True, True, True, False]])
    expected = {"mean": [[2.0, 3.0]], "first": [[0.0, 1.0]], "last": [[4.0, 5.0]]}
    for pooling, rows in expected.items():
        model = TextClassifier(tiny_encoder("distilbert"), TinyTokenizer(), 2, pooling)
        assert model.pool(x, mask).tolist() == rows


def test_an_unknown_pooling_lists_the_known_ones():
    with pytest.raises(CourseError, match="'max' is unknown; .*'mean', 'first', 'last'"):
        TextClassifier(tiny_encoder("gpt2"), TinyTokenizer(), 2, "max")


def test_a_copy_is_independent():
    model = TextClassifier(tiny_encoder("gpt2"), TinyTokenizer(), 2)
    copy = copy_of(model)
    nn.init.zeros_(copy.head.weight)
    assert model.head.weight.abs().sum() > 0
    assert all(a is not b for a, b in zip(model.parameters(), copy.parameters(), strict=True))


# --- the embedded text encoder --------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> TextClassifier:
    return load_text_model("minilm", 4)


def test_minilm_loads_without_a_network(minilm):
    assert sum(p.numel() for p in minilm.encoder.parameters()) > 22e6
    assert {p.dtype for p in minilm.parameters()} == {torch.float32}
    assert not minilm.training and minilm.head.out_features == 4


def test_minilm_knows_what_sentences_mean(minilm):
    texts = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Stocks fell sharply."]
    rows = [torch.tensor([minilm.tokenizer(t)["input_ids"]]) for t in texts]
    with torch.no_grad():
        cat, kitten, stocks = (
            minilm.pool(minilm.encoder(row).last_hidden_state, None)[0] for row in rows
        )
    similarity = torch.cosine_similarity
    assert similarity(cat, kitten, dim=0) > 0.5 > similarity(cat, stocks, dim=0) + 0.2


def test_loading_is_silent_and_draws_no_random_number_of_ours(capfd):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    load_text_model("minilm", 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


# --- hub models in a folder -----------------------------------------------------------------

HUB_ID = "someone/tiny-distilbert"


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    """A random 2-layer DistilBERT as the hub keeps it, below a mirror's root."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    root = tmp_path_factory.mktemp("mirror")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"good bad film very a".split()]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    ).save_pretrained(root / HUB_ID)  # fmt: skip
    config = transformers.DistilBertConfig(
        vocab_size=len(words), dim=16, n_layers=2, n_heads=2, hidden_dim=24,
        max_position_embeddings=20,
    )  # fmt: skip
    torch.manual_seed(99)  # another seed than the ones that models are loaded with
    transformers.DistilBertModel(config).save_pretrained(root / HUB_ID)
    return root


@pytest.fixture
def mirrored(hub_folder, monkeypatch):
    monkeypatch.setenv("COURSE_MODEL_MIRROR", str(hub_folder))
    return hub_folder / HUB_ID


def test_a_hub_model_loads_from_the_mirror_with_its_weights(mirrored):
    model = load_text_model(HUB_ID, 3)
    saved = transformers.DistilBertModel.from_pretrained(mirrored)
    found = model.encoder.state_dict()
    assert all(torch.equal(found[name], value) for name, value in saved.state_dict().items())
    assert [p.name for p in stages(model)] == ["embeddings", "layer0", "layer1", "pool", "head"]


def test_a_mirrored_model_tokenizes_and_trains(mirrored):
    model = load_text_model(HUB_ID, 3)
    ids = tokenize_texts(["a very good film", "bad"], model.tokenizer)
    assert ids.ids.tolist() == [9, 8, 5, 7, 6] and model.pad_id == 0
    task = tiny_text_task(9)
    for split in (task.train, task.valid, task.test):
        split.inputs.ids.remainder_(10)
    history = fit(model, task, Recipe("one", epochs=1, precision="fp32"), silent=True)
    assert history.epochs[0].train_loss > 0


def test_the_seed_decides_the_head_and_not_the_encoder(mirrored):
    a, b, c = (load_text_model(HUB_ID, 3, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.head.weight, b.head.weight)
    assert not torch.equal(a.head.weight, c.head.weight)
    assert all(map(torch.equal, a.encoder.state_dict().values(), c.encoder.state_dict().values()))


def test_without_pretraining_the_encoder_is_random(mirrored):
    trained, random = load_text_model(HUB_ID, 3), load_text_model(HUB_ID, 3, pretrained=False)
    name = "transformer.layer.0.attention.q_lin.weight"
    a, b = trained.encoder.state_dict()[name], random.encoder.state_dict()[name]
    assert a.shape == b.shape and not torch.equal(a, b)


def test_a_model_that_the_mirror_lacks_is_an_error_that_names_its_folder(mirrored, hub_folder):
    with pytest.raises(AssetError, match="'someone/else' is not in COURSE_MODEL_MIRROR") as error:
        load_text_model("someone/else", 2)
    assert str(hub_folder / "someone/else") in str(error.value)


def test_a_mirror_that_is_no_folder_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_MODEL_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(AssetError, match="COURSE_MODEL_MIRROR is .*nowhere.*not a folder"):
        load_text_model(HUB_ID, 2)


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    def no_name_server(*_, **__):
        raise socket.gaierror("the test has no network")

    monkeypatch.delenv("COURSE_MODEL_MIRROR", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", no_name_server)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    start = time.monotonic()
    with pytest.raises(AssetError) as error:
        load_text_model("nobody-at-all/no-such-model", 2)
    message = str(error.value)
    assert "'nobody-at-all/no-such-model' could not be loaded" in message
    assert "needs a network" in message and "COURSE_MODEL_MIRROR" in message
    assert 'PROFILE = "quick"' in message
    assert time.monotonic() - start < 15  # not after the many tries of the hub's library


# --- image models ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "squeezed"])
def test_a_new_head_replaces_the_old_one(name):
    if name == "squeezed":
        model = nn.Module()
        model.classifier = nn.Sequential(nn.Dropout(), nn.Linear(8, 100))
    else:
        model = getattr(torchvision.models, name)(num_classes=7)
    others = {k: v for k, v in model.state_dict().items() if v.shape[:1] not in ((7,), (100,))}
    replace_head(model, 5)
    head = model.fc if hasattr(model, "fc") else model.classifier[-1]
    assert head.out_features == 5 and head.weight.requires_grad
    assert all(model.state_dict()[k] is v or torch.equal(model.state_dict()[k], v)
               for k, v in others.items())  # fmt: skip


def test_a_network_without_a_known_head_is_an_error():
    with pytest.raises(CourseError, match="cannot find the head of a ReLU: .*`fc`.*`classifier`"):
        replace_head(nn.ReLU(), 3)


def test_an_image_model_is_ready_to_be_fine_tuned():
    model = load_image_model("resnet18", 4, pretrained=False)
    assert model.fc.out_features == 4 and not model.training
    assert model.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert isinstance(model.pixels, PixelStatistics) and model.pixels != IMAGENET
    with torch.no_grad():
        images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
        assert run_stages(stages(model), images).shape == (2, 4)


def test_the_seed_decides_a_random_image_model():
    def first_weights(seed):
        return load_image_model("resnet18", 2, pretrained=False, seed=seed).conv1.weight

    assert torch.equal(first_weights(1), first_weights(1))
    assert not torch.equal(first_weights(1), first_weights(2))


@pytest.mark.parametrize("name", EMBEDDED_IMAGE_MODELS)
def test_an_embedded_image_model_has_weights_of_its_own_and_a_new_head(name):
    trained, random = load_image_model(name, 3), load_image_model(name, 3, pretrained=False)
    norms = [m for m in trained.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and all(norm.running_mean.abs().sum() > 0 for norm in norms)
    assert stages(trained)[-1].modules[-1].out_features == 3
    assert {p.dtype for p in trained.parameters()} == {torch.float32}
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    outputs = [run_stages(stages(model), images) for model in (trained, random)]
    assert outputs[0].shape == (2, 3) and not torch.allclose(*outputs)


def test_the_small_vgg_is_torchvisions_layers_in_their_order():
    def kinds(model):
        return [type(module) for module in model.features]

    small, whole = small_vgg11(5), torchvision.models.vgg11_bn(init_weights=False)
    assert kinds(small) == kinds(whole)
    assert 2e6 < sum(weight.numel() for weight in small.parameters()) < 4e6
    assert small(torch.zeros(1, 3, 32, 32)).shape == small(torch.zeros(1, 3, 96, 64)).shape


def test_torchvisions_weights_have_imagenets_pixel_statistics():
    model = load_image_model("mobilenet_v3_small-imagenet", 3, pretrained=False)
    assert model.pixels == IMAGENET and model.classifier[-1].out_features == 3


def test_an_unknown_image_model_lists_the_embedded_ones():
    with pytest.raises(CourseError, match="no image model 'vgg99'; embedded are .*resnet18"):
        load_image_model("vgg99", 3)
