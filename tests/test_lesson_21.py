"""Lesson 21: right answers pass, each typical wrong one gets its own hint."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torchvision.transforms import v2

from course_utils.data import Examples
from course_utils.lessons.lesson_21 import (
    CURVES,
    SIGNALS,
    VERDICTS,
    best_epochs,
    changed_with_masks,
    interval,
    plot_curves,
    plot_gains,
    plot_loss_and_accuracy,
    read_signal,
    signal_lamps,
    with_mistakes,
)
from course_utils.questions import lesson_module


def hint(number: str, answer: object) -> str | None:
    return lesson_module("21").EXERCISES[number](answer)


# --- 21.1, an augmentation that keeps the label ---------------------------------------------


def each(*changes):
    """A function of a batch that changes each picture on its own."""
    change = v2.Compose(list(changes))
    return lambda images: torch.stack([change(image) for image in images])


SHIFT = v2.RandomAffine(0, translate=(0.1, 0.1))
LIGHT = v2.ColorJitter(brightness=0.2)

RIGHT_AUGMENTATIONS = {
    "shift and light": each(SHIFT, LIGHT),
    "up-down flips too": each(SHIFT, v2.RandomVerticalFlip(), LIGHT),
    "small rotations": each(v2.RandomRotation(10)),
    "contrast": each(v2.ColorJitter(brightness=0.2, contrast=0.2)),
    "a small crop": each(v2.RandomCrop(48, padding=4)),
}


def in_place(images):
    for image in images:
        image.copy_(SHIFT(image))
    return images


WRONG_AUGMENTATIONS = {
    "no function": (LIGHT.brightness, "a function is asked for"),
    "nothing returned": (lambda images: None, "returns nothing"),
    "a list": (list, "returns a list"),
    "floats": (lambda images: each(SHIFT)(images) / 255, "torch.float32"),
    "one picture": (lambda images: each(SHIFT)(images)[0], "of shape (50, 3, 48, 48)"),
    "another size": (each(v2.RandomCrop(40)), "same size"),
    "doubled": (lambda images: images.repeat(2, 1, 1, 1), "one for each label"),
    "nothing": (torch.clone, "nothing changes"),
    "nothing at random": (lambda images: images.flip(2), "the same change each time"),
    "in place": (in_place, "writes into the batch"),
    "the batch as a whole": (v2.Compose([SHIFT, LIGHT]), "same change"),
    "a flip alone": (each(v2.RandomVerticalFlip()), "little variety"),
    "left and right": (each(v2.RandomHorizontalFlip(), SHIFT), "points the other way"),
    "half turns": (each(v2.RandomRotation((180, 180)), SHIFT), "points the other way"),
    "any turn": (each(v2.RandomRotation((90, 90)), SHIFT), "quarter turns"),
    "hue": (each(v2.ColorJitter(hue=(0.3, 0.35)), SHIFT), "red has become green"),
    "grey": (each(v2.Grayscale(3), SHIFT), "neither red nor green"),
    "swapped channels": (lambda x: each(SHIFT)(x)[:, [1, 0, 2]], "red has become green"),
    "dark": (each(v2.ColorJitter(brightness=(0.0, 0.2))), "the arrow is gone"),
    "far away": (each(v2.RandomAffine(0, translate=(0.9, 0.9))), "label"),
    "shuffled": (lambda x: each(SHIFT)(x)[torch.randperm(len(x))], "label"),
    "ImageNet's crop": (each(v2.RandomResizedCrop(48)), "label"),
}


@pytest.mark.parametrize("answer", RIGHT_AUGMENTATIONS.values(), ids=RIGHT_AUGMENTATIONS)
def test_an_augmentation_that_keeps_the_label_passes(answer):
    assert hint("1", answer) is None


@pytest.mark.parametrize(("answer", "word"), WRONG_AUGMENTATIONS.values(), ids=WRONG_AUGMENTATIONS)
def test_a_wrong_augmentation_gets_its_own_hint(answer, word):
    assert word in hint("1", answer)


def test_every_lamp_can_be_read_and_the_classes_are_of_one_size():
    images, labels = signal_lamps(200, seed=3)
    assert images.dtype == torch.uint8 and images.shape == (200, 3, 48, 48)
    assert labels.bincount().tolist() == [50] * len(SIGNALS)
    assert [read_signal(image) for image in images] == labels.tolist()


def test_a_mirror_turns_the_arrow_and_exchanged_channels_the_colour():
    images, labels = signal_lamps(40)
    assert [read_signal(image.flip(2)) for image in images] == (labels ^ 1).tolist()
    assert [read_signal(image[[1, 0, 2]]) for image in images] == ((labels + 2) % 4).tolist()
    assert {read_signal(image.rot90(1, (1, 2))) for image in images} == {"upright"}
    assert {read_signal(torch.full_like(image, 60)) for image in images} == {"nothing"}


# --- 21.2, reading curves -------------------------------------------------------------------

READ = {**VERDICTS, "lowest loss": 4, "highest accuracy": 7}

WRONG_READINGS = {
    "no dict": ("A", "a dict is asked for"),
    "unfinished": ({**READ, "C": ...}, "still open: C"),
    "a key is missing": ({k: v for k, v in READ.items() if k != "lowest loss"}, "lowest loss"),
    "another word": ({**READ, "A": "bad"}, "none of the four verdicts"),
    "good, overfits": ({**READ, "C": "overfits"}, "fall together to the end"),
    "overfits, well": ({**READ, "A": "learns well"}, "turns at the fourth epoch"),
    "slow, overfits": ({**READ, "B": "overfits"}, "hardly moved"),
    "slow and fast": ({**READ, "D": "learns too slowly"}, "too large"),
    "from zero": ({**READ, "lowest loss": 3}, "counted from 1"),
    "exchanged": ({**READ, "lowest loss": 7}, "the other of the two"),
    "exchanged too": ({**READ, "highest accuracy": 4}, "the other of the two"),
    "training loss": ({**READ, "lowest loss": 10}, "only validation counts"),
    "last": ({**READ, "highest accuracy": 10}, "epoch 10 is not where"),
    "text": ({**READ, "highest accuracy": "seven"}, "the number of an epoch"),
    "true": ({**READ, "highest accuracy": True}, "the number of an epoch"),
}


def test_the_right_reading_passes():
    assert hint("2", READ) is None
    assert hint("2", dict(reversed(READ.items()))) is None


@pytest.mark.parametrize(("answer", "word"), WRONG_READINGS.values(), ids=WRONG_READINGS)
def test_a_wrong_reading_gets_its_own_hint(answer, word):
    assert word in hint("2", answer)


def test_the_curves_say_what_the_verdicts_say():
    assert set(CURVES) == set(VERDICTS)
    for run in CURVES.values():
        assert {len(line) for line in run.values()} == {10}
    assert best_epochs(CURVES["A"]) == (4, 7)
    assert best_epochs(CURVES["C"])[0] == 10


@pytest.mark.parametrize("answer", [None, ..., "x", 3, 0.5, [], (), {}, {"A": []}, {1: 2}, object])
@pytest.mark.parametrize("number", ["1", "2"])
def test_nonsense_gets_a_hint(number, answer):
    try:
        found = hint(number, answer)
    except Exception:  # `check` turns it into a hint
        return
    assert isinstance(found, str) and len(found) > 20


# --- the lesson's own measurements ----------------------------------------------------------


def pictures(count: int = 24, **columns) -> Examples:
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
    return Examples(images, torch.arange(count) % 6, columns)


@pytest.mark.parametrize(("share", "wrong"), [(0, 0), (1 / 6, 4), (0.5, 12), (1, 24)])
def test_the_asked_share_of_labels_is_wrong_and_no_other(share, wrong):
    examples = pictures()
    before = examples.labels.clone()
    changed = with_mistakes(examples, share, classes=6, seed=1)
    assert int((changed.labels != before).sum()) == wrong
    assert torch.equal(examples.labels, before)
    assert int(changed.labels.min()) >= 0 and int(changed.labels.max()) < 6
    again = with_mistakes(examples, share, classes=6, seed=1)
    assert torch.equal(changed.labels, again.labels)


def test_the_interval_holds_zero_where_there_is_nothing_and_not_where_there_is():
    draw = np.random.default_rng(0)
    mean, low, high = interval(draw.normal(0, 1, (3, 200)), rounds=400)
    assert low < 0 < high and low < mean < high
    mean, low, high = interval(draw.normal(1, 1, (3, 200)), rounds=400)
    assert 0 < low < mean < high
    assert interval([[1, 1], [1, 1]], rounds=10) == (1, 1, 1)


def test_masks_follow_their_pictures():
    masks = torch.zeros(24, 32, 32, dtype=torch.bool)
    masks[1:, :8, :8] = True  # the first picture has nothing to lose
    examples = pictures(masks=masks)
    images, labels, left = changed_with_masks(examples, v2.CenterCrop(16))
    assert len(images) == len(labels) == 23 and torch.equal(labels, examples.labels[1:])
    assert (left == 0).all()
    images, _, left = changed_with_masks(examples, v2.RandomHorizontalFlip(1.0))
    assert torch.equal(images, examples.inputs[1:].flip(3)) and (left == 64).all()


def test_without_masks_the_middle_counts():
    _, labels, left = changed_with_masks(pictures(), v2.CenterCrop(16))
    assert len(labels) == 24 and (left == 256).all()


def test_the_figures_show_what_they_are_given():
    axes = plot_gains({"helps": (2.0, 1.0, 3.0), "unclear": (0.5, -1.0, 2.0)})
    assert [label.get_text() for label in axes.get_yticklabels()] == ["helps", "unclear"]
    points = {f"cure {i}": (1.0 + i, 50.0 + i) for i in range(12)}
    axes = plot_loss_and_accuracy(points, 1.8)
    looks = {(line.get_marker(), line.get_color()) for line in axes.lines[:12]}
    assert len(axes.get_legend().get_texts()) == 13 and len(looks) == 12
    assert len(plot_curves().axes) == len(CURVES)
    plt.close("all")
