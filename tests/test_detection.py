"""Boxes, trays, the detector and its average precision (course_utils/detection.py)."""

import math
import os

import pytest
import torch
from torchvision import ops

from course_utils.assets import ROOT
from course_utils.detection import (
    BLOOD_CELLS,
    STRIDE,
    Detector,
    Found,
    Scenes,
    box_area,
    box_iou,
    coco_ap,
    decode,
    generalized_iou,
    grid_points,
    load_blood_cells,
    load_scenes,
    make_trays,
    resnet_body,
    run_frozen,
    small_body,
)
from course_utils.errors import AssetError, CourseError
from course_utils.models import load_image_model
from course_utils.stage import run_stages, stages
from course_utils.surface import generate_surfaces

MIRROR = os.environ.get("COURSE_DATA_MIRROR") or ROOT.parent / "shared" / "data"


def random_boxes(count: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    corners = 100 * torch.rand(count, 2, generator=source)
    return torch.cat([corners, corners + 1 + 50 * torch.rand(count, 2, generator=source)], 1)


# --- boxes -----------------------------------------------------------------------------------


def test_ious_are_those_of_torchvision():
    a, b = random_boxes(30), random_boxes(20, seed=1)
    torch.testing.assert_close(box_iou(a, b), ops.box_iou(a, b))
    theirs = ops.generalized_box_iou(a[:20], b).diagonal()
    torch.testing.assert_close(generalized_iou(a[:20], b), theirs)


def test_iou_by_hand_and_of_boxes_without_an_area():
    a = torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 9], [20, 20, 10, 10]])
    expected = torch.tensor([[50 / 150, 0.0], [0.0, 0.0], [0.0, 0.0]])
    b = torch.tensor([[5.0, 0, 15, 10], [30, 30, 40, 40]])
    torch.testing.assert_close(box_iou(a, b), expected)
    assert box_area(a).tolist() == [100, 0, 0]
    assert box_iou(a, b[:0]).shape == (3, 0)


def test_the_generalised_iou_still_pulls_at_boxes_that_are_apart():
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]], requires_grad=True)
    generalized_iou(box, torch.tensor([[10.0, 0.0, 14.0, 4.0]])).sum().backward()
    assert box.grad is not None and box.grad[0, 2] > 0


def test_points_are_the_centres_of_the_cells_row_by_row():
    points = grid_points(16, 24)
    assert points.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


def test_codes_of_zero_are_the_cells_themselves_and_codes_can_be_any_box():
    points = grid_points(16, 16)
    cells = decode(torch.zeros(4, 4), points)
    assert cells[0].tolist() == [0, 0, STRIDE, STRIDE]
    boxes = random_boxes(4)
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    codes = torch.cat([(centres - points) / STRIDE, (sides / STRIDE).log()], 1)
    torch.testing.assert_close(decode(codes, points), boxes)
    assert decode(torch.full((4, 4), 1e4), points).isfinite().all()


# --- pictures --------------------------------------------------------------------------------


def test_the_boxes_of_a_tray_are_where_its_parts_have_them():
    trays = make_trays(6, seed=3)
    parts = generate_surfaces(24, 3, difficulty=0.2)
    assert trays.images.shape == (6, 3, 128, 128) and trays.images.dtype == torch.uint8
    assert len(trays.classes) == 5 and "ok" not in trays.classes
    seen = 0
    for image, true in zip(trays.images, trays.truth, strict=True):
        assert len(true) <= 4 and true.scores.tolist() == [1] * len(true)
        for box, label in zip(true.boxes, true.labels, strict=True):
            x, y = (int(corner) // 64 * 64 for corner in box[:2])
            tile = image[:, y : y + 64, x : x + 64]
            (row,) = [i for i, part in enumerate(parts.images) if torch.equal(part, tile)]
            assert parts.labels[row] == label + 1
            assert torch.equal(parts.boxes[row] + torch.tensor([x, y, x, y]), box)
            seen += 1
    assert seen == int((parts.labels > 0).sum()) == 20


def test_trays_are_the_same_for_a_seed_and_others_for_another():
    first, again = make_trays(3, seed=1), make_trays(3, seed=1)
    assert torch.equal(first.images, again.images)
    train, test = load_scenes("trays", 3, 3, seed=0, difficulty=0.2)
    assert not torch.equal(train.images, test.images) and len(train.first(2)) == 2


def test_unknown_pictures_and_missing_boxes_are_errors_that_say_so(monkeypatch):
    with pytest.raises(CourseError, match="choose 'trays' or 'blood cells'"):
        load_scenes("cats", 1, 1)
    with pytest.raises(CourseError, match="2 pictures but boxes for 0"):
        Scenes(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), (), ("a",))
    monkeypatch.delenv("COURSE_DATA_MIRROR", raising=False)
    with pytest.raises(AssetError, match="clone https://github.com/Shenggan/BCCD_Dataset"):
        load_blood_cells("test")


def test_blood_cells_are_read_with_their_boxes(monkeypatch):
    from pathlib import Path

    if not (Path(MIRROR) / "bccd").is_dir():
        pytest.skip(f"no copy of BCCD in {MIRROR}")
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(MIRROR))
    scenes = load_blood_cells("test", (120, 160))
    assert len(scenes) == 72 and scenes.images.shape == (72, 3, 120, 160)
    every = torch.cat([true.boxes for true in scenes.truth])
    assert (box_area(every) > 0).all()
    assert (every >= 0).all() and (every[:, 2] <= 160.5).all() and (every[:, 3] <= 120.5).all()
    labels = torch.cat([true.labels for true in scenes.truth])
    assert (labels.bincount() > 50).all() and len(labels.bincount()) == len(BLOOD_CELLS)


# --- the network -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector() -> Detector:
    body = resnet_body(load_image_model("resnet18", 5, pretrained=False))
    return Detector(body, 5, width=16).eval()


def test_running_the_stages_is_running_the_detector(detector):
    images = make_trays(2).images
    names = [part.name for part in stages(detector)]
    assert names == ["stem", "layer1", "layer2", "layer3", "head"]
    whole = detector(images)
    assert whole.shape == (2, 9, 16, 16)
    maps = run_frozen(stages(detector)[:4], images, detector.pixels)
    assert maps.shape == (2, 128 + 256, 16, 16) and not maps.requires_grad
    head = stages(detector)[4:]
    torch.testing.assert_close(run_stages(head, maps.cpu()), whole, atol=1e-4, rtol=1e-4)


def test_a_new_head_says_nothing_is_there_and_every_box_is_its_cell(detector):
    output = detector(make_trays(1).images).flatten(2).transpose(1, 2)[0]
    assert output[:, :5].sigmoid().mean().item() == pytest.approx(0.01, abs=0.005)
    assert torch.equal(output[:, 5:], torch.zeros(256, 4))


def test_the_seed_decides_the_head():
    heads = [Detector(small_body(seed=1), 5, seed=seed).head[0].weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_a_small_body_has_a_cell_every_stride():
    assert small_body().eval()(torch.zeros(1, 3, 64, 96)).shape[-2:] == (8, 12)


def test_only_a_resnet_becomes_a_resnet_body():
    with pytest.raises(CourseError, match="needs a ResNet, not a VGG"):
        resnet_body(load_image_model("vgg11", 5, pretrained=False))


# --- average precision -----------------------------------------------------------------------

BOX, AWAY = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]


def found(boxes, scores, labels=None) -> Found:
    return Found(torch.tensor(boxes).view(-1, 4), torch.tensor(labels or [0] * len(scores)),
                 torch.tensor(scores))  # fmt: skip


TRUE = Found.true(torch.tensor([BOX]), torch.tensor([0]))


def test_average_precision_of_cases_by_hand(capsys):
    def ap(*pictures: Found) -> dict[str, float]:
        return coco_ap(pictures, [TRUE] * len(pictures), ("thing", "other"))

    perfect = ap(found([BOX], [0.9]), found([BOX], [0.4]))
    assert perfect["AP"] == perfect["AP50"] == perfect["thing"] == pytest.approx(100)
    assert math.isnan(perfect["other"]), "nothing of this class is to be found"
    # a false alarm before the one hit: precision 1/2 at all recalls
    assert ap(found([AWAY, BOX], [0.9, 0.4]))["AP50"] == pytest.approx(50)
    # a duplicate behind the hit is harmless, in front of it (of another picture) it is not
    assert ap(found([BOX, BOX], [0.9, 0.4]))["AP50"] == pytest.approx(100)
    doubled = ap(found([BOX, BOX], [0.9, 0.8]), found([BOX], [0.4]))
    assert doubled["AP50"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101 * 100, abs=0.1)
    # an IoU of 0.7: right from 0.5 to 0.7, which are five of the ten marks
    assert ap(found([[0.0, 0.0, 10.0, 7.1]], [0.9]))["AP"] == pytest.approx(50)
    assert ap(found([], []))["AP50"] == 0
    assert capsys.readouterr().out == ""


def test_average_precision_by_size():
    small = torch.tensor([0.0, 0.0, 5.0, 5.0])
    truth = Found.true(torch.stack([small, torch.tensor(AWAY)]), torch.tensor([0, 0]))
    sizes = {"small": (0, 8), "large": (8, 99), "huge": (99, 999)}
    values = coco_ap([found([AWAY], [0.9])], [truth], ("thing",), sizes)
    assert values["small"] == 0 and values["large"] == pytest.approx(100)
    assert math.isnan(values["huge"])
