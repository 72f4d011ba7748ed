"""Every lesson in the profile full, from its first cell to its last, on real public data.

What a laptop cannot do is made small: the hub's checkpoints are replaced by untrained ones with as
many layers, networks for ImageNet by our own, and sizes are those of the profile quick. So the
numbers mean nothing and no claim is judged; that the code fits the data is what is tested.
"""

import jupytext
import matplotlib
import pytest
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
)

from course_utils import claims, models, profiles, tasks
from course_utils.notebooks import lessons

SMALL = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
HUB = {
    "google-bert/bert-base-uncased": (BertModel, BertConfig(num_hidden_layers=12, **SMALL)),
    "sentence-transformers/all-MiniLM-L12-v2": (
        BertModel, BertConfig(num_hidden_layers=12, **SMALL)),
    "distilbert/distilbert-base-uncased": (
        DistilBertModel, DistilBertConfig(dim=32, hidden_dim=64, n_layers=6, n_heads=2)),
}  # fmt: skip
GPT = "openai-community/gpt2"
OUR_NETWORK = {"resnet18": "resnet18", "resnet50": "resnet18", "vgg16_bn": "vgg11"}
SIDE = 48  # pixels of a picture
ENOUGH = {  # where public data do not fit sizes of quick: 77 classes, long questions
    "03": {"TASK": "sst2"},
    "13": {"SIZE": 128, "STRIDE": 48},
}


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """Untrained checkpoints in a folder that stands for the hub."""
    folder = tmp_path_factory.mktemp("hub")
    for name, (kind, config) in HUB.items():
        kind(config).save_pretrained(folder / name)
        AutoTokenizer.from_pretrained(models.minilm_folder()).save_pretrained(folder / name)
    ours = models.load_language_model("gpt2-docstrings")
    config = GPT2Config(
        vocab_size=ours.config.vocab_size, n_layer=12, n_embd=32, n_head=2,
        bos_token_id=ours.config.bos_token_id, eos_token_id=ours.config.eos_token_id,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder / GPT)
    ours.tokenizer.save_pretrained(folder / GPT)
    return folder


def small(quick, full):
    """The value of full, but with the smaller numbers where it and quick are of one form."""
    if isinstance(quick, (int, float)) and isinstance(full, (int, float)):
        return min(quick, full)
    if isinstance(quick, dict) and isinstance(full, dict):
        numbers = all(isinstance(v, (int, float)) for v in [*quick.values(), *full.values()])
        alike = quick.keys() == full.keys() or all(isinstance(key, int) for key in [*quick, *full])
        return quick if numbers and alike else full
    if isinstance(quick, (list, tuple)) and isinstance(full, (list, tuple)):
        if all(isinstance(v, (int, float)) for v in [*quick, *full]):
            return min(quick, full)
        if len(quick) == len(full):
            return type(full)(small(*pair) for pair in zip(quick, full, strict=True))
    return full


@pytest.fixture
def toy_full(hub, mirror, monkeypatch, tmp_path):
    """The profile full with small sizes, small models and the mirror's data."""
    monkeypatch.setenv("COURSE_MODEL_MIRROR", str(hub))
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(mirror))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(profiles, "select", lambda profile, *, quick, full: small(quick, full))
    monkeypatch.setattr(claims.Claim, "holds", property(lambda self: True))
    load_image_model, load_task = models.load_image_model, tasks.load_task

    def our_network(name, *args, **kwargs):
        name = OUR_NETWORK[name.removesuffix("-imagenet")] if "-" in name else name
        return load_image_model(name, *args, **kwargs)

    def shrunk(name, **settings):
        if name in tasks.PUBLIC_IMAGES:
            settings["size"] = SIDE
        return load_task(name, **settings)

    monkeypatch.setattr(models, "load_image_model", our_network)
    monkeypatch.setattr(tasks, "load_task", shrunk)
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.number)
def test_a_lesson_fits_the_public_data(lesson, toy_full):
    scope: dict = {"__name__": "lesson"}
    for number, cell in enumerate(jupytext.read(lesson.source).cells):
        if cell.cell_type == "code":
            source = cell.source.replace('PROFILE = "quick"', 'PROFILE = "full"')
            exec(compile(source, f"{lesson.name}, cell {number}", "exec"), scope)
            scope |= ENOUGH.get(lesson.number, {})
    assert scope["PROFILE"] == "full"
