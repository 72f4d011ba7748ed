"""Tests of the tasks: the embedded ones as data, the public ones as loading code."""

import re
import shutil
import sys
import types
import urllib.error
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils import assets
from course_utils.errors import AssetError, CourseError
from course_utils.tasks import PUBLIC_TEXTS, load_images, load_task, read_csv

EMBEDDED_TEXTS = ("tickets", "reviews")
SPLITS = ("train", "valid", "test")


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def runs_of_words(text: str, length: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def all_texts(task) -> list[str]:
    return [text for split in SPLITS for text in getattr(task, split).inputs]


@pytest.fixture(scope="module", params=EMBEDDED_TEXTS)
def text_task(request):
    return load_task(request.param)


@pytest.fixture
def own_data(tmp_path, monkeypatch) -> Path:
    """A copy of the embedded files that a test may damage."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("SHA256SUMS", "tickets.csv", "reviews.csv"):
        shutil.copy(assets.DATA / name, folder)
    monkeypatch.setattr(assets, "DATA", folder)
    assets.embedded.cache_clear()
    yield folder
    assets.embedded.cache_clear()


# --- the embedded texts ---------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size", "classes"), [("tickets", 1800, 12), ("reviews", 2000, 2)])
def test_the_promised_size_is_there(name, size, classes):
    task = load_task(name)
    assert len(all_texts(task)) >= size
    assert len(task.classes) >= classes
    assert len(task.train) > len(task.test) >= 0.2 * len(all_texts(task))


def test_classes_are_balanced_in_every_split(text_task):
    for split in SPLITS:
        counts = getattr(text_task, split).labels.bincount(minlength=len(text_task.classes))
        assert counts.max() <= 1.25 * counts.min(), f"{split}: {counts.tolist()}"


def test_every_text_is_printable_and_has_no_stray_space(text_task):
    for text in all_texts(text_task):
        assert text and text.isprintable() and text == text.strip(), repr(text)


def test_no_text_occurs_twice(text_task):
    normal = Counter(" ".join(words(text)) for text in all_texts(text_task))
    assert [text for text, count in normal.items() if count > 1] == []


def test_no_phrase_of_one_split_occurs_in_another(text_task):
    phrases = {
        split: {run for text in getattr(text_task, split).inputs for run in runs_of_words(text, 5)}
        for split in SPLITS
    }
    assert all(len(found) > 1000 for found in phrases.values())
    for a, b in (("test", "train"), ("test", "valid"), ("valid", "train")):
        assert phrases[a] & phrases[b] == set(), f"{a} and {b} share phrases"


@pytest.mark.parametrize("length", [4, 6])
def test_no_template_is_behind_the_texts(text_task, length):
    texts = all_texts(text_task)
    openings = Counter(tuple(words(text)[:length]) for text in texts)
    runs = Counter(run for text in texts for run in runs_of_words(text, 6))
    for kind, counts in (("opening", openings), ("run", runs)):
        commonest, count = counts.most_common(1)[0]
        assert count <= 0.03 * len(texts), f"{kind} {' '.join(commonest)!r}: {count} texts"


def test_tickets_hold_the_voices_of_real_customers():
    task = load_task("tickets")
    styles = Counter(task.train.columns["style"])
    assert {"typos", "hedging", "two_requests"} <= set(styles)
    assert min(styles.values()) >= 50
    both = task.train.where("style", "two_requests")
    assert set(both.columns["also"]) <= set(task.classes), "the second request is an intent too"
    mains = [task.classes[y] for y in both.labels.tolist()]
    assert all(a != b for a, b in zip(mains, both.columns["also"], strict=True))
    assert "off_topic" in task.classes


def test_a_domain_of_the_reviews_can_be_held_out():
    task = load_task("reviews")
    assert {"negation", "irony", "mixed"} <= set(task.test.columns["kind"])
    domains = set(task.train.columns["domain"])
    assert len(domains) >= 4 and domains == set(task.test.columns["domain"])
    for domain in domains:
        held_out = task.test.where("domain", domain)
        assert len(held_out) >= 50 and len(held_out.labels.unique()) == 2


def test_the_column_kind_is_not_the_answer():
    task = load_task("reviews")
    for kind in ("negation", "irony", "mixed", "plain"):
        share = task.train.where("kind", kind).labels.float().mean()
        assert 0.1 < share < 0.9, f"{kind}: {share:.2f} positive"


def test_an_unknown_task_is_named_with_those_that_exist():
    with pytest.raises(CourseError, match="no task 'cats'.*tickets, reviews, surface, ag_news"):
        load_task("cats")


def test_splits_of_the_surfaces_share_no_picture():
    task = load_task("surface", train=24, valid=12, test=12)
    pictures = torch.cat([task.train.inputs, task.valid.inputs, task.test.inputs]).flatten(1)
    assert len(pictures.unique(dim=0)) == 48
    assert len(task.train.columns["boxes"]) == 24


# --- damaged files --------------------------------------------------------------------------


def test_a_changed_file_is_refused(own_data):
    with open(own_data / "tickets.csv", "a", encoding="utf-8") as file:
        file.write("one more,order_status,plain,,train\n")
    with pytest.raises(AssetError, match=r"tickets\.csv is not the one expected.*git checkout"):
        load_task("tickets")
    assert len(load_task("reviews").classes) == 2, "the other file is as good as before"


def test_a_missing_file_is_named(own_data):
    (own_data / "reviews.csv").unlink()
    with pytest.raises(AssetError, match=r"reviews\.csv is missing; to get it back, run `git"):
        load_task("reviews")


def test_a_file_without_checksum_is_refused(own_data):
    lines = (own_data / "SHA256SUMS").read_text().splitlines(keepends=True)
    (own_data / "SHA256SUMS").write_text("".join(x for x in lines if "tickets" not in x))
    with pytest.raises(AssetError, match=r"tickets\.csv is not listed in .*SHA256SUMS"):
        load_task("tickets")


def test_a_missing_list_of_checksums_is_named(own_data):
    (own_data / "SHA256SUMS").unlink()
    with pytest.raises(AssetError, match="list of checksums .* is missing"):
        load_task("tickets")


def test_a_csv_in_latin_1_is_refused_with_the_byte(tmp_path):
    path = tmp_path / "own.csv"
    path.write_bytes("text,label\ncafé,good\n".encode("latin-1"))
    with pytest.raises(CourseError, match=r"own\.csv is not UTF-8 \(byte 14 is 0xe9\); save it as"):
        read_csv(path)


def test_a_spreadsheets_byte_order_mark_does_no_harm(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("text,label\ncafé,good\n", encoding="utf-8-sig")
    assert read_csv(path) == [{"text": "café", "label": "good"}]


@pytest.mark.parametrize("header", ["message,label", "text,class", "text;label"])
def test_a_csv_with_other_columns_is_refused(tmp_path, header):
    path = tmp_path / "own.csv"
    path.write_text(f"{header}\na,b\n", encoding="utf-8")
    columns = ", ".join(header.split(","))
    with pytest.raises(
        CourseError, match=f"has the columns {columns}; it needs 'label' and 'text'"
    ):
        read_csv(path)


def photograph(path: Path, size=(40, 30)) -> Path:
    Image.effect_noise(size, 80).convert("RGB").save(path)
    return path


def test_photographs_become_squares(tmp_path):
    paths = [
        photograph(tmp_path / "wide.jpg", (80, 30)),
        photograph(tmp_path / "tall.png", (9, 50)),
    ]
    images = load_images(paths, 16)
    assert images.shape == (2, 3, 16, 16) and images.dtype == torch.uint8


def test_a_truncated_image_is_named(tmp_path):
    path = photograph(tmp_path / "half.jpg", (200, 200))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AssetError, match=r"half\.jpg cannot be read \(.*truncated.*get it again"):
        load_images([path], 16)


def test_a_text_renamed_as_an_image_is_named(tmp_path):
    path = tmp_path / "letter.jpg"
    path.write_text("Dear Sir or Madam")
    with pytest.raises(AssetError, match=r"letter\.jpg cannot be read.*damaged or no image"):
        load_images([path], 16)


def test_a_missing_image_and_no_image_at_all(tmp_path):
    with pytest.raises(AssetError, match=r"gone\.jpg cannot be read"):
        load_images([tmp_path / "gone.jpg"], 16)
    with pytest.raises(CourseError, match="no image to load"):
        load_images([], 16)


# --- public datasets ------------------------------------------------------------------------


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("name", "classes", "test_size"),
    [
        ("ag_news", 4, 7600),
        ("sst2", 2, 1821),
        ("banking77", 77, 3080),
        ("trec", 6, 500),
        ("clinc150", 150, 4500),
    ],
)
def test_public_texts_load_from_the_mirror(name, classes, test_size, mirror, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(mirror))
    task = load_task(name)
    assert len(task.classes) == classes and len(task.test) == test_size
    assert set(task.train.labels.tolist()) == set(range(classes))
    assert len(task.valid) > 0


@pytest.mark.mirror
def test_a_validation_split_is_taken_from_training_by_the_seed(mirror, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(mirror))
    one, same, other = (load_task("trec", seed=seed).valid.inputs for seed in (1, 1, 2))
    assert one == same != other
    assert len(one) == 545  # a tenth of 5,452


@pytest.mark.mirror
def test_flowers_load_from_the_mirror(mirror, tmp_path, monkeypatch):
    source, part = mirror / "flowers_96", tmp_path / "flowers_96"
    classes = ("daisy", "dandelion", "rose", "sunflower", "tulip")
    rows = read_csv(assets.verified(source, "splits.csv", source / "MANIFEST.sha256", "copy again"))
    assert {row["label"] for row in rows} == set(classes)
    chosen = [  # three photographs a class and split: the whole set takes long on a laptop
        row
        for label in classes
        for split in ("train", "val", "valid", "test")
        for row in [r for r in rows if (r["label"], r["split"]) == (label, split)][:3]
    ]
    for row in chosen:
        path = part / "images" / row["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "images" / row["file"], path)
    lines = ["file,label,split\n", *(f"{r['file']},{r['label']},{r['split']}\n" for r in chosen)]
    (part / "splits.csv").write_text("".join(lines), encoding="utf-8")
    digest = assets.sha256(part / "splits.csv")
    (part / "MANIFEST.sha256").write_text(f"{digest}  splits.csv\n")
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(tmp_path))
    task = load_task("flowers", size=32)
    assert task.classes == classes
    for split in SPLITS:
        examples = getattr(task, split)
        assert examples.inputs.shape == (15, 3, 32, 32)
        assert examples.labels.bincount().tolist() == [3] * 5
        assert examples.inputs.float().std() > 20, "these are no photographs"


@pytest.fixture
def tiny_mirror(tmp_path, monkeypatch) -> Path:
    """A mirror with the layout of the real one and a few questions."""
    folder = tmp_path / "mirror" / "trec"
    folder.mkdir(parents=True)
    rows = [f"question {i}?,{'NUM' if i % 2 else 'LOC'}\n" for i in range(40)]
    for name in PUBLIC_TEXTS["trec"].files.values():
        (folder / name).write_text("text,label\n" + "".join(rows), encoding="utf-8")
    sums = [f"{assets.sha256(path)}  {path.name}\n" for path in folder.glob("*.csv")]
    (folder / "MANIFEST.sha256").write_text("".join(sums))
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(folder.parent))
    return folder


def test_a_changed_file_in_the_mirror_is_refused(tiny_mirror):
    assert load_task("trec").classes == ("LOC", "NUM")
    with open(tiny_mirror / "train.csv", "a") as file:
        file.write("one more?,NUM\n")
    with pytest.raises(AssetError, match=r"train\.csv is not the one expected.*copy the dataset"):
        load_task("trec")


def test_a_set_that_the_mirror_lacks_is_named(tiny_mirror):
    with pytest.raises(AssetError, match=r"sst2/MANIFEST\.sha256 is missing"):
        load_task("sst2")
    with pytest.raises(AssetError, match=r"flowers_96/MANIFEST\.sha256 is missing"):
        load_task("flowers")


def test_a_mirror_that_is_no_folder_is_named(monkeypatch):
    monkeypatch.setenv("COURSE_DATA_MIRROR", "/nowhere/at/all")
    with pytest.raises(
        AssetError, match="COURSE_DATA_MIRROR is '/nowhere/at/all'.*correct or unset"
    ):
        load_task("trec")


def fake_hub(load_dataset) -> types.ModuleType:
    module = types.ModuleType("datasets")
    module.disable_progress_bars = lambda: None
    module.load_dataset = load_dataset
    return module


def test_the_hubs_splits_and_columns_become_ours(monkeypatch):
    monkeypatch.delenv("COURSE_DATA_MIRROR", raising=False)
    asked = []

    def load_dataset(name):
        asked.append(name)
        rows = [{"text": f"text {i}", "label": i % 2, "idx": i} for i in range(6)]
        return {"train": rows, "validation": rows[:4], "test": rows[:2]}

    monkeypatch.setitem(sys.modules, "datasets", fake_hub(load_dataset))
    task = load_task("sst2")
    assert asked == [PUBLIC_TEXTS["sst2"].hub]
    assert task.classes == ("negative", "positive")
    assert (len(task.train), len(task.valid), len(task.test)) == (6, 4, 2)
    assert task.train.inputs[1] == "text 1" and task.train.labels.tolist() == [0, 1] * 3


def test_without_the_package_datasets_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.delenv("COURSE_DATA_MIRROR", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    with pytest.raises(AssetError, match="'ag_news' needs the package datasets: pip install datas"):
        load_task("ag_news")


ADVICE = r"profile full needs a network.*COURSE_DATA_MIRROR.*check the connection"


@pytest.mark.parametrize("problem", [ConnectionError, RuntimeError, ValueError, TimeoutError])
def test_without_a_network_the_hubs_error_becomes_advice(monkeypatch, problem):
    monkeypatch.delenv("COURSE_DATA_MIRROR", raising=False)

    def load_dataset(name):
        raise problem("the hub did not answer")

    monkeypatch.setitem(sys.modules, "datasets", fake_hub(load_dataset))
    with pytest.raises(AssetError, match=f"(?s)'banking77'.*the hub did not answer.*{ADVICE}"):
        load_task("banking77")


def test_without_a_network_flowers_give_advice_and_leave_no_folder(monkeypatch, own_data):
    monkeypatch.delenv("COURSE_DATA_MIRROR", raising=False)

    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", unreachable)
    with pytest.raises(AssetError, match=f"(?s)'flowers'.*no route to host.*{ADVICE}"):
        load_task("flowers")
    assert not list((own_data / "downloads").rglob("*.tgz")), "half a download was left behind"


# --- radiographs ----------------------------------------------------------------------------


def test_splits_of_the_radiographs_share_nobody_and_carry_their_columns():
    task = load_task("radiographs", train=40, valid=20, test=20, positive=0.1, marked=(0.5, 1))
    pictures = torch.cat([task.train.inputs, task.valid.inputs, task.test.inputs]).flatten(1)
    assert len(pictures.unique(dim=0)) == 80 and task.classes == ("healthy", "pneumonia")
    assert task.train.labels.bincount().tolist() == [36, 4]
    assert set(task.test.columns) == {"boxes", "masks", "marked", "mark_boxes", "hospitals"}
    assert task.test.columns["hospitals"] == ["A"] * 20
    assert task.train.columns["marked"][task.train.labels == 1].all()


def test_another_hospital_shows_the_same_people():
    there = load_task("radiographs", train=2, valid=2, test=20, hospital="B").test
    here = load_task("radiographs", train=2, valid=2, test=20, hospital="A").test
    assert torch.equal(there.labels, here.labels) and not torch.equal(there.inputs, here.inputs)


def pneumonia_file(folder: Path) -> Path:
    """A small file with the layout of PneumoniaMNIST; two training pictures occur elsewhere."""
    draw = np.random.default_rng(0)
    parts: dict[str, np.ndarray] = {}
    for split, count in (("train", 12), ("val", 4), ("test", 6)):
        parts[f"{split}_images"] = draw.integers(256, size=(count, 28, 28), dtype=np.uint8)
        parts[f"{split}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    parts["train_images"][3] = parts["val_images"][0]
    parts["train_images"][8] = parts["test_images"][5]
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "pneumoniamnist.npz", **parts)
    return folder / "pneumoniamnist.npz"


def test_training_pictures_that_are_tested_on_are_left_out(tmp_path, monkeypatch):
    path = pneumonia_file(tmp_path / "mirror" / "pneumoniamnist")
    (path.parent / "MANIFEST.sha256").write_text(f"{assets.sha256(path)}  {path.name}\n")
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(tmp_path / "mirror"))
    task = load_task("pneumonia", size=40)
    assert (len(task.train), len(task.valid), len(task.test)) == (10, 4, 6)
    assert task.test.inputs.shape == (6, 3, 40, 40) and task.test.labels.tolist() == [0, 1] * 3
    assert torch.equal(task.test.inputs[:, 0], task.test.inputs[:, 2])
    with open(path, "ab") as file:
        file.write(b"one more byte")
    with pytest.raises(AssetError, match=r"pneumoniamnist\.npz is not the one expected"):
        load_task("pneumonia")


def test_digits_are_dark_on_white_and_every_kind_is_in_each_split():
    task = load_task("digits", size=24)
    for part in (task.train, task.valid, task.test):
        assert part.labels.unique().tolist() == list(range(10))
        assert part.inputs.shape[1:] == (3, 24, 24) and part.inputs.dtype == torch.uint8
        corners = part.inputs[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].float()
        assert corners.mean() > 200 and part.inputs.float().flatten(1).amin(1).mean() < 60
    assert (len(task.train), len(task.valid), len(task.test)) == (1000, 300, 497)


def test_characters_are_divided_by_who_drew_them_and_counted_once(tmp_path, monkeypatch):
    folder, sets = tmp_path / "mirror" / "omniglot_small", {}
    folder.mkdir(parents=True)
    for number, alphabets in enumerate((("Greek", "Runes"), ("Greek", "Ogham"))):
        names = [f"{one}/character01/0{i}_{i:02}.png" for one in alphabets for i in range(1, 21)]
        pictures = np.zeros((len(names), 105, 105), dtype=np.uint8)
        for row, name in enumerate(names):  # person i leaves i white columns, ink elsewhere
            pictures[row, :, : int(name[-6:-4])] = 1
        sets |= {f"part{number}": pictures, f"part{number}_names": np.array(names)}
    path = folder / "omniglot_small.npz"
    np.savez_compressed(path, **sets)
    (folder / "MANIFEST.sha256").write_text(f"{assets.sha256(path)}  {path.name}\n")
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(tmp_path / "mirror"))
    task = load_task("omniglot", size=105)
    assert task.classes == ("Greek/character01", "Ogham/character01", "Runes/character01")
    for part, people in ((task.train, range(1, 13)), (task.valid, (13, 14, 15)),
                         (task.test, range(16, 21))):  # fmt: skip
        drawn_by = (part.inputs[:, 0, 0] == 255).sum(1)
        assert drawn_by.tolist() == list(people) * 3
        assert part.labels.tolist() == [label for label in range(3) for _ in people]


@pytest.mark.mirror
def test_omniglot_loads_from_the_mirror(mirror, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(mirror))
    task = load_task("omniglot")
    characters = 136 + 156 - 24 - 26  # both minimal sets hold the Greek and the Latin alphabet
    assert len(task.classes) == characters
    assert [len(task.train), len(task.valid), len(task.test)] == [
        people * characters for people in (12, 3, 5)
    ]
    assert task.train.inputs.float().mean() > 200, "ink is dark, and most of a picture is paper"


@pytest.mark.mirror
def test_pneumonia_loads_from_the_mirror(mirror, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(mirror))
    task = load_task("pneumonia")
    assert (len(task.valid), len(task.test)) == (524, 624)
    assert 4600 < len(task.train) < 4708  # the published 4,708 less those also in validation
    assert task.test.labels.bincount().tolist() == [234, 390]
    assert task.train.inputs.shape[1:] == (3, 64, 64)


def test_without_a_network_pneumonia_gives_advice_and_leaves_no_file(monkeypatch, own_data):
    monkeypatch.delenv("COURSE_DATA_MIRROR", raising=False)

    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", unreachable)
    with pytest.raises(AssetError, match=f"(?s)'pneumonia'.*no route to host.*{ADVICE}"):
        load_task("pneumonia")
    assert not list((own_data / "downloads").rglob("*.npz"))


def test_a_downloaded_file_that_is_not_the_published_one_is_refused(monkeypatch, own_data):
    monkeypatch.delenv("COURSE_DATA_MIRROR", raising=False)
    monkeypatch.setattr(
        "torchvision.datasets.utils._urlretrieve",
        lambda url, path, *args, **kwargs: Path(path).write_bytes(b"an error page"),
    )
    with pytest.raises(AssetError, match=f"(?s)'pneumonia'.*{ADVICE}"):
        load_task("pneumonia")
