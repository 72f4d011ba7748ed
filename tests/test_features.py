"""What the stages of a model make of examples (course_utils/features.py)."""

import pytest
import torch

from course_utils.data import Examples
from course_utils.device import choose_compute
from course_utils.errors import CourseError
from course_utils.features import embed, embed_stages
from course_utils.models import load_image_model, load_text_model
from course_utils.stage import run_stages, stages


@pytest.fixture(scope="module")
def resnet():
    return load_image_model("resnet18", 3)


@pytest.fixture(scope="module")
def pictures() -> Examples:
    images = torch.randint(256, (7, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    return Examples(images.to(torch.uint8), torch.arange(7) % 3)


def test_several_stages_in_one_pass_are_what_each_gives_alone(resnet, pictures):
    wanted = ["stem", "layer3", "pool"]
    found = embed_stages(resnet, pictures, wanted, batch_size=3)
    assert list(found) == wanted
    assert [features.shape for features in found.values()] == [(7, 64), (7, 256), (7, 512)]
    for name in wanted:
        assert torch.allclose(found[name], embed(resnet, pictures, name), atol=1e-4)


def test_features_are_the_averages_of_the_stages_own_outputs(resnet, pictures):
    with torch.no_grad(), choose_compute().autocast():
        output = run_stages(stages(resnet)[:3], pictures.inputs).float()
    assert torch.allclose(embed(resnet, pictures, "layer2"), output.mean((2, 3)), atol=1e-4)


def test_texts_come_back_in_their_order_whatever_their_length():
    model = load_text_model("minilm", 2)
    texts = ["a long message about a parcel that never came", "short", "of some length", "x"]
    together = embed(model, Examples(texts, torch.zeros(4, dtype=torch.long)), batch_size=2)
    for text, features in zip(texts, together, strict=True):
        alone = embed(model, Examples([text], torch.zeros(1, dtype=torch.long)))
        assert torch.allclose(alone[0], features, atol=1e-4)


def test_an_unknown_stage_is_named_with_those_there_are(resnet, pictures):
    with pytest.raises(CourseError, match="no stage 'layer9'; the stages are stem, layer1"):
        embed(resnet, pictures, "layer9")


def test_no_stage_asked_for_gives_nothing(resnet, pictures):
    assert embed_stages(resnet, pictures, []) == {}
