"""The profile full: its real loading code, on the mirror of public data and tiny checkpoints.

Each lesson's constants are read from its own source, so that a changed name is noticed here.
"""

import jupytext
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedTokenizerFast,
)

from course_utils import recipes
from course_utils.data import tokenize
from course_utils.errors import AssetError
from course_utils.models import load_image_model, load_text_model
from course_utils.notebooks import lessons
from course_utils.tasks import load_task
from course_utils.train import evaluate, fit

TINY = {
    "bert": (BertModel, BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=6, num_attention_heads=2,
        intermediate_size=32)),
    "distilbert": (DistilBertModel, DistilBertConfig(
        vocab_size=64, dim=16, hidden_dim=32, n_layers=6, n_heads=2)),
}  # fmt: skip


def constants(lesson) -> dict:
    """The capital names of a lesson in the profile full."""
    cells = [c for c in jupytext.read(lesson.source).cells if c.cell_type == "code"]
    scope: dict = {}
    for cell in cells[:2]:
        exec(cell.source.replace('PROFILE = "quick"', 'PROFILE = "full"'), scope)
    assert scope["PROFILE"] == "full"
    return {name: value for name, value in scope.items() if name.isupper()}


def assets(kind: str) -> list[str]:
    """All full-profile constants whose name ends in `kind`: "MODEL" or "TASK"."""
    return sorted(
        {
            value
            for lesson in lessons()
            for name, value in constants(lesson).items()
            if name.endswith(kind) and isinstance(value, str)
        }
    )


def save_tiny_checkpoint(hub_id: str, folder) -> None:
    """A tiny random checkpoint of the right family, in the hub's format."""
    family = "distilbert" if "distilbert" in hub_id else "bert"
    kind, config = TINY[family]
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    kind(config).save_pretrained(folder / hub_id)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder / hub_id)


TEXT_MODELS = [name for name in assets("MODEL") if "imagenet" not in name]
IMAGE_MODELS = [name for name in assets("MODEL") if "imagenet" in name]
TASKS = assets("TASK")


def test_each_kind_is_covered():
    assert TEXT_MODELS and IMAGE_MODELS and len(TASKS) >= 2


@pytest.mark.parametrize("name", TEXT_MODELS)
@pytest.mark.mirror
def test_hub_checkpoint_is_loaded_and_fine_tuned_on_public_texts(
    name, mirror, monkeypatch, tmp_path
):
    save_tiny_checkpoint(name, tmp_path)
    monkeypatch.setenv("COURSE_MODEL_MIRROR", str(tmp_path))
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(mirror))
    task = load_task("sst2").limited(train=32, valid=16, test=16)
    model = load_text_model(name, len(task.classes))
    data = tokenize(task, model.tokenizer)
    history = fit(model, data, recipes.top_stages("layer4", epochs=1), silent=True)
    assert len(history.epochs) == 1
    assert 0 <= evaluate(model, data.test).accuracy <= 1


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.mirror
def test_public_task_loads_from_the_mirror(name, mirror, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(mirror))
    task = load_task(name)
    assert len(task.train) > 1000
    assert set(task.train.labels.tolist()) == set(range(len(task.classes)))


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_torchvision_weights_are_loaded_from_its_cache(name, monkeypatch, tmp_path):
    import torchvision

    architecture = name.removesuffix("-imagenet")
    weights = torchvision.models.get_model_weights(architecture).DEFAULT
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    saved = torchvision.models.get_model(architecture).state_dict()
    torch.save(saved, folder / weights.url.rsplit("/", 1)[-1])
    model = load_image_model(name, 5)
    assert torch.equal(model.conv1.weight, saved["conv1.weight"])
    assert model.fc.out_features == 5


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_without_network_torchvision_weights_are_one_clear_error(name, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    with pytest.raises(AssetError, match="needs a network"):
        load_image_model(name, 5)


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_without_network_a_hub_model_is_one_clear_error(name, monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_MODEL_MIRROR", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AssetError, match='PROFILE = "quick"'):
        load_text_model(name, 2)
