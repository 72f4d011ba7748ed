"""Tests of the benchmarks: the same work for all, and tables that come from a run."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import tiny_bert, tiny_image_task, tiny_text_task
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_utils import train
from course_utils.bench import (
    BENCHMARKS,
    RESULTS,
    bench,
    evidence_image,
    evidence_text,
    profile,
    report,
    speed,
)
from course_utils.bench.peers import PEERS, Items, Work, collate
from course_utils.data import Examples, Task, TokenizedTexts
from course_utils.detection import Scenes, grid_points, make_trays
from course_utils.errors import CourseError
from course_utils.pixels import PixelStatistics
from course_utils.train import fit


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Conv2d(3, 4, 4, stride=4), nn.Linear(4, 2)
        self.pixels = PixelStatistics()
        self.seen = 0
        for weight in self.body.parameters():
            weight.requires_grad_(False)

    def forward(self, x):
        self.seen += len(x)
        return self.head(self.body(x).relu().mean((2, 3)))


@pytest.mark.parametrize("tuned", [False, True], ids=["defaults", "tuned"])
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_does_the_same_work(name, tuned):
    """It sees each example once an epoch, learns, and leaves frozen weights alone."""
    model = Small()
    work = Work(model, tiny_image_task(24).train, 3, 8, 3e-2, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    PEERS[name](work, tuned)
    assert model.seen == 3 * 24
    after = model.cpu().state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"head.weight", "head.bias"}


def test_texts_are_padded_to_the_longest_with_a_mask():
    texts = TokenizedTexts.from_lists([[5, 6, 7], [8]])

    class Model(nn.Module):
        pass

    work = Work(Model(), Examples(texts, torch.tensor([0, 1])), 1, 2, 1e-3, 0)
    items = Items(work)
    ids, mask, labels = collate([items[0], items[1]])
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize("job", speed.JOBS)
def test_a_technique_is_switched_off_where_it_matters(job):
    names = speed.systems(speed.JOBS[job])
    assert ("course_utils", "") in names
    assert {(name, settings) for name in PEERS for settings in ("defaults", "tuned")} <= set(names)
    frozen = speed.JOBS[job].train_from != 0
    assert (("course_utils", "without the prefix cache") in names) == frozen


def test_an_unknown_benchmark_is_named():
    with pytest.raises(CourseError, match="there is no benchmark 'speed'"):
        bench(["speed"], RESULTS)


def test_a_gpu_benchmark_without_a_gpu_is_left_out_and_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench(["gpu-text"], tmp_path) == []
    assert "there is no GPU here" in capsys.readouterr().out


def test_a_row_is_the_median_with_its_range_and_ratios_are_taken_pair_by_pair():
    own = [dict(examples_per_s=v, accuracy=0.8, peak_mb=1.0) for v in (10.0, 20.0, 30.0)]
    peer = [dict(examples_per_s=v, accuracy=0.7, peak_mb=2.0) for v in (5.0, 4.0, 15.0)]
    row = speed._row(("a peer", "tuned"), peer, own)
    assert row["examples_per_s"] == {"median": 5.0, "low": 4.0, "high": 15.0}
    assert row["ratio"] == 2.0 and row["accuracy"] == 0.7 and row["peak_mb"] == 2.0


def test_a_table_shows_ranges_notes_hardware_and_versions():
    content = {
        "name": "x", "hardware": "a computer", "versions": {"torch": "9"}, "notes": ["a note"],
        "rows": [{"system": "a", "speed": {"median": 2.0, "low": 1.0, "high": 3.0}, "ratio": 1.5}],
    }  # fmt: skip
    table = report.markdown(content)
    assert "| a | 2 (1 to 3) | 1.5 |" in table
    assert "a note" in table and "Measured on a computer; torch 9." in table


RECORDED = sorted(path.stem for path in RESULTS.glob("*.json"))


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_tables_are_those_of_their_measurements(name):
    content = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert content["name"] == name and name in BENCHMARKS
    assert (RESULTS / f"{name}.md").read_text(encoding="utf-8") == report.markdown(content)
    if name in speed.JOBS:
        assert content["limit_examples_per_s"] > 0
        for row in content["rows"]:
            assert set(row) == {"system", "settings", "examples_per_s", "accuracy", "peak_mb",
                                "ratio"}  # fmt: skip


def test_the_cpu_benchmarks_are_recorded():
    on_gpu = {name for name, job in speed.JOBS.items() if job.gpu}
    assert set(RECORDED) >= set(BENCHMARKS) - on_gpu


def test_the_summary_takes_the_best_tuned_peer_and_the_range_of_defaults(tmp_path):
    from course_utils.readme import speed_table

    def row(system, settings, ratio):
        speed = {"median": 90.0 / ratio, "low": 1.0, "high": 100.0}
        return {"system": system, "settings": settings, "examples_per_s": speed, "ratio": ratio}

    rows = [row("course_utils", "", 1.0), row("a", "defaults", 4.0), row("a", "tuned", 2.0),
            row("b", "defaults", 3.0), row("b", "tuned", 1.5),
            row("course_utils", "without bf16", 1.1)]  # fmt: skip
    content = {"name": "x", "hardware": "here", "limit_examples_per_s": 180.0, "rows": rows}
    (tmp_path / "x.json").write_text(json.dumps(content))
    (tmp_path / "other.json").write_text(json.dumps({"name": "other", "rows": []}))
    table = speed_table(tmp_path)
    assert "| `x` | 90 | 50% | 1.50× (b) | 3.0× to 4.0× |" in table
    assert "other" not in table and "Measured on here." in table


# --- where the time goes ----------------------------------------------------------------------


def tiny_job(monkeypatch, **changes) -> speed.Job:
    model, task = tiny_bert(dropout=0.1), tiny_text_task(32)
    monkeypatch.setattr(speed, "load", lambda job, seed: (model, task.limited(train=job.train)))
    return speed.Job(**{"what": "tiny", "model": "tiny", "train": 32, "epochs": 2, "batch_size": 8,
                        "learning_rate": 1e-3, **changes})  # fmt: skip


def test_all_of_the_loops_time_belongs_to_one_part(monkeypatch):
    names = ("train", "CachedBatches", "train_step")
    before = [getattr(train, name) for name in names]
    one = profile.profile_job(tiny_job(monkeypatch))
    assert sum(one.shares.values()) == pytest.approx(1) and min(one.shares.values()) > 0
    parts = {"matrix products", "attention products", "random numbers", "clipping", "optimizer",
             "activations, norms and softmax", "indexing and embedding"}  # fmt: skip
    assert parts <= set(one.shares) and "frozen stages, once" not in one.shares
    assert one.seconds > 0 and one.frozen_seconds == 0 and 0 <= one.padding < 0.5
    assert [getattr(train, name) for name in names] == before


def test_operations_are_counted_as_they_are_done(monkeypatch):
    """A head of 16 to 3 on 32 texts, in 2 epochs: forwards, and backwards for its weight."""
    one = profile.profile_job(tiny_job(monkeypatch, train_from=-1))
    assert one.flops == {"matrix products": 2 * 32 * 2 * (2 * 16 * 3)}
    assert 0 < one.shares["frozen stages, once"] < 1 and 0 < one.frozen_seconds < one.seconds


@pytest.mark.parametrize("operation, part", [
    ("aten::addmm", "matrix products"), ("aten::add_", "activations, norms and softmax"),
    ("aten::bmm", "attention products"), ("aten::convolution_backward", "convolutions"),
    ("aten::mkldnn_convolution", "convolutions"), ("aten::_to_copy", "casts and copies"),
    ("aten::native_layer_norm_backward", "activations, norms and softmax"),
    ("aten::random_", "random numbers"), ("aten::index_select", "indexing and embedding"),
    ("aten::as_strided", profile.REST), ("AddmmBackward0", profile.REST),
])  # fmt: skip
def test_an_operation_belongs_to_the_part_of_its_name(operation, part):
    assert profile.part_of(operation) == part


def test_the_notes_are_made_of_the_numbers():
    job = replace(speed.JOBS["text-head"], epochs=10)
    shares = {"matrix products": 0.4, "clipping": 0.1, profile.REST: 0.5}
    one = profile.Profile(shares, {"matrix products": 30}, 1.0, 0.0, 0.25)
    (line,) = profile.explain("a", job, one, best=100.0)
    assert "40% of the time" in line and "75% of the best rate" in line
    assert "25% of the tokens" in line and "rest (Python and dispatch) 50%, clipping 10%" in line
    one = profile.Profile({"frozen stages, once": 0.8, profile.REST: 0.2}, {}, 2.0, 1.6, 0.0)
    (line,) = profile.explain("a", job, one, best=100.0)
    assert "takes 80% of the time" in line and "takes 8.2 times as long" in line


def test_a_profile_has_a_row_for_each_job_and_part(monkeypatch):
    monkeypatch.setattr(speed, "_best_product_rate", lambda clock: 1e12)
    jobs = {"tiny": tiny_job(monkeypatch), "on a gpu": tiny_job(monkeypatch, gpu=True)}
    threads = torch.get_num_threads()
    content = profile.measure(jobs)
    assert {row["job"] for row in content["rows"]} == {"tiny"}
    assert sum(row["share"] for row in content["rows"]) == pytest.approx(1, abs=0.01)
    assert all(len(row) == 5 for row in content["rows"]) and len(content["notes"]) >= 1
    assert torch.get_num_threads() == threads
    report.markdown({**content, "hardware": "here", "versions": {}})


# --- evidence on public texts -----------------------------------------------------------------

TEXTS = st.text("aB 1.!?é", min_size=1).filter(str.strip)
LETTERS = {"lower": str.lower, "upper": str.upper, "marked": lambda text: f"  {text}?! "}


@given(st.lists(TEXTS, min_size=1), st.lists(TEXTS), st.sampled_from(sorted(LETTERS)))
def test_no_test_text_is_left_in_training_and_no_other_is_lost(train, test, written):
    """However it is written; what stays keeps its order and its label."""

    def key(text):
        return [c for c in text.lower() if c.isalnum()]

    copies = [LETTERS[written](text) for text in train[::2] if key(text)]
    held_out = [*test, *copies]
    examples = Examples(list(train), torch.arange(len(train)))
    left = evidence_text.without_leaks(examples, Examples(held_out, torch.zeros(len(held_out))))
    keys = [key(text) for text in held_out]
    assert not any(key(text) in keys for text in left.inputs if key(text))
    assert not set(left.inputs) & set(held_out)
    expected = [i for i, text in enumerate(train)
                if (key(text) not in keys if key(text) else text.strip() not in
                    {other.strip() for other in held_out})]  # fmt: skip
    assert left.labels.tolist() == expected
    assert left.inputs == [train[i] for i in expected]


@pytest.fixture
def stubbed(monkeypatch, tmp_path):
    """Tiny datasets and runs that only count; gives the list of what was run."""
    part = Examples(["a one", "b two", "c three"], torch.tensor([0, 1, 0]))
    other = Examples(["d", "A, one!", "f"], torch.tensor([0, 1, 1]))
    done = []

    def run(name, task, seed, checkpoint):
        done.append((name, seed))
        assert not checkpoint.exists() and task.train.inputs[:1] == ["b two"]
        return {"accuracy": 0.9 + seed / 100, "loss": 1.0, "fitted": 0.95, "cpu_seconds": 60.0}

    monkeypatch.setenv("COURSE_DATA_MIRROR", str(tmp_path))
    monkeypatch.setattr(evidence_text, "load_task",
                        lambda name: Task(name, "text", ("x", "y"), part, part, other))  # fmt: skip
    monkeypatch.setattr(evidence_text, "METHODS", dict.fromkeys(evidence_text.METHODS, run))
    return done


def test_evidence_goes_seed_by_seed_and_rows_come_from_the_runs(stubbed, tmp_path):
    content = evidence_text.measure(tmp_path)
    names = list(evidence_text.DATASETS)
    assert stubbed == [(name, seed) for seed in (0, 0, 0, 1, 2) for name in names]
    assert [row["dataset"] for row in content["rows"]] == [
        evidence_text.DATASETS[name].title for name in names
    ]
    for row in content["rows"]:
        assert row["fine-tuned"] == pytest.approx({"median": 91.0, "low": 90.0, "high": 92.0})
        assert row["frozen encoder"] == row["words (TF-IDF)"] == 90.0
        assert row["seeds"] == 3 and row["tested on"] == 3 and row["CPU minutes"]["median"] == 1
    by_title = {row["dataset"]: row["trained on"] for row in content["rows"]}
    # without an official validation split, its texts are training texts again
    assert by_title["SST-2"] == 2 and by_title["TREC-6"] == 4
    met = [note for note in content["notes"] if note.endswith(": met.")]
    missed = [note for note in content["notes"] if ": missed;" in note]
    assert len(met) == 1 and met[0].startswith("SST-2") and len(missed) == 3
    assert "1 (SST-2)" in content["notes"][0] and "2 (TREC-6)" in content["notes"][0]
    table = report.write({"name": "evidence-text", **content}, tmp_path).read_text()
    assert "91 (90 to 92)" in table and "Casanueva" in table


def test_evidence_with_fewer_seeds_and_then_more_repeats_nothing(stubbed, tmp_path):
    assert {row["seeds"] for row in evidence_text.measure(tmp_path, 1)["rows"]} == {1}
    first = len(stubbed)
    content = evidence_text.measure(tmp_path, 5)
    assert {row["seeds"] for row in content["rows"]} == {3}
    assert len(stubbed) - first == 2 * len(evidence_text.DATASETS)
    assert evidence_text.measure(tmp_path) == content
    assert len(stubbed) - first == 2 * len(evidence_text.DATASETS)


def test_a_further_seed_that_is_done_counts_where_it_is(stubbed, tmp_path):
    evidence_text.measure(tmp_path, 1)
    evidence_text.recall(tmp_path / "evidence", "sst2", "full", 2)
    done = len(stubbed)
    seeds = [row["seeds"] for row in evidence_text.measure(tmp_path, 1)["rows"]]
    assert sorted(seeds) == [1] * (len(seeds) - 1) + [2] and len(stubbed) == done


def test_another_recipe_or_other_data_is_run_again(stubbed, tmp_path, monkeypatch):
    evidence_text.measure(tmp_path, 1)
    stubbed.clear()
    longer = replace(evidence_text.DATASETS["sst2"], epochs=9)
    monkeypatch.setitem(evidence_text.DATASETS, "sst2", longer)
    evidence_text.measure(tmp_path, 1)
    assert stubbed == [("sst2", 0)]  # word counts and the frozen encoder have recipes of their own
    stubbed.clear()
    load = evidence_text.load_task

    def changed(name):
        task = load(name)
        return task.with_train(task.train.select([1, 2, 2])) if name == "clinc150" else task

    monkeypatch.setattr(evidence_text, "load_task", changed)
    evidence_text.measure(tmp_path, 1)
    assert stubbed == [("clinc150", 0)] * 3


def test_an_interruption_leaves_what_was_done(stubbed, tmp_path, monkeypatch):
    run = evidence_text.METHODS["full"]

    def stopped(name, task, seed, checkpoint):
        if name == "banking77":
            raise KeyboardInterrupt
        return run(name, task, seed, checkpoint)

    monkeypatch.setitem(evidence_text.METHODS, "full", stopped)
    with pytest.raises(KeyboardInterrupt):
        evidence_text.measure(tmp_path)
    monkeypatch.setitem(evidence_text.METHODS, "full", run)
    assert stubbed == [("trec", 0), ("sst2", 0)]
    evidence_text.measure(tmp_path, 1)
    assert stubbed[2] == ("banking77", 0) and stubbed.count(("trec", 0)) == 3


def test_a_training_goes_on_after_its_last_whole_epoch(tmp_path, monkeypatch):
    """To the same result as without the interruption; its CPU time is no longer known."""
    task, recipe = tiny_text_task(), evidence_text.DATASETS["trec"].recipe()
    monkeypatch.setattr(evidence_text, "load_text_model", lambda *_, seed: tiny_bert())
    whole = evidence_text._fine_tune(recipe, task, 0, tmp_path / "whole")
    epochs = []

    def in_the_second(epoch):
        epochs.append(epoch)
        if len(epochs) == 2:
            raise KeyboardInterrupt

    def interrupted(model, data, recipe, seed, _, *rest, **more):
        return fit(model, data, recipe, seed, in_the_second, *rest, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evidence_text, "fit", interrupted)
        evidence_text._fine_tune(recipe, task, 0, tmp_path / "two")
    resumed = evidence_text._fine_tune(recipe, task, 0, tmp_path / "two")
    same = ("accuracy", "loss", "fitted")
    assert [resumed[key] for key in same] == [whole[key] for key in same]
    assert whole["cpu_seconds"] > 0 and resumed["cpu_seconds"] is None


def test_evidence_without_a_mirror_says_so_or_is_left_out(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_DATA_MIRROR", raising=False)
    with pytest.raises(CourseError, match="COURSE_DATA_MIRROR is not set.*trec, sst2, banking77"):
        bench(["evidence-text"], tmp_path)
    from course_utils.bench import _all

    assert "evidence-text" not in _all() and "baselines" in _all()
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(tmp_path))
    assert _all() == list(BENCHMARKS)


def test_a_missed_aim_is_told_apart_from_too_short_a_training():
    def run(fitted):
        return [{"accuracy": 0.85, "fitted": fitted, "test": 1000}]

    assert "must come from elsewhere" in evidence_text._obstacle("sst2", run(0.99))
    assert "not trained to the end" in evidence_text._obstacle("sst2", run(0.88))
    assert "1.1 points" in evidence_text._obstacle("sst2", run(0.99))


def test_the_page_of_the_results_is_in_step_with_the_tables():
    from course_utils.readme import goals_table

    assert goals_table() in (RESULTS / "README.md").read_text(encoding="utf-8")


def test_a_goal_is_reached_by_the_peer_that_comes_nearest(tmp_path, monkeypatch):
    from course_utils import readme

    rows = [{"system": "a", "settings": "tuned", "ratio": 3.0},
            {"system": "b", "settings": "tuned", "ratio": 1.9},
            {"system": "a", "settings": "defaults", "ratio": 5.0}]  # fmt: skip
    monkeypatch.setattr(readme, "GOALS", {"x": {"tuned": 2.0, "defaults": 4.0}})
    (tmp_path / "x.json").write_text(json.dumps({"hardware": "one", "rows": rows}))
    rows[1]["ratio"] = 2.5
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.json").write_text(json.dumps({"hardware": "two", "rows": rows}))
    notes = ["x: why", "y: not asked for"]
    (tmp_path / "profile.json").write_text(json.dumps({"hardware": "here", "notes": notes}))
    table = readme.goals_table(tmp_path)
    assert "| `x` | best-tuned peer | 2× | 1.90× (b) | A | not reached |" in table
    assert "| `x` | best-tuned peer | 2× | 2.50× (b) | B | reached |" in table
    assert "| `x` | every peer's defaults | 4× | 5.00× (a) | A | reached |" in table
    assert "\nA: one.  \nB: two.  \n" in table
    assert "- x: why" in table and "asked for" not in table and "measured on here" in table


# --- evidence on public pictures --------------------------------------------------------------


@pytest.fixture
def small_pictures(monkeypatch, tmp_path):
    """Datasets of a few random pictures, trained for an epoch."""

    def load() -> Task:
        def examples(count: int, seed: int) -> Examples:
            source = torch.Generator().manual_seed(seed)
            images = torch.randint(256, (count, 3, 32, 32), generator=source, dtype=torch.uint8)
            return Examples(images, torch.arange(count) % 2)

        return Task("small", "image", ("a", "b"), examples(8, 0), examples(2, 1), examples(6, 2))

    def scenes(split: str, size) -> Scenes:
        return make_trays(2, seed=len(split), size=32)

    monkeypatch.setenv("COURSE_DATA_MIRROR", str(tmp_path))
    monkeypatch.setattr(evidence_image, "load_blood_cells", scenes)
    monkeypatch.setattr(evidence_image, "BLOOD_CELLS", make_trays(1, size=32).classes)
    monkeypatch.setattr(evidence_image, "CELL_EPOCHS", 1)
    for name, dataset in evidence_image.DATASETS.items():
        monkeypatch.setitem(evidence_image.DATASETS, name, replace(dataset, load=load, epochs=1))


def test_evidence_on_pictures_has_each_dataset_and_method_and_repeats_nothing(
    small_pictures, tmp_path, monkeypatch
):
    content = evidence_image.measure(tmp_path, 1)
    titles = [each.title for each in evidence_image.DATASETS.values()]
    assert [row["dataset"] for row in content["rows"]] == [*titles, "BCCD, blood cells"]
    for row in content["rows"]:
        assert 0 <= row["from scratch"] <= 100 and 0 <= row["fine-tuned"] <= 100
        assert row["seeds"] == 1
    assert [row["frozen body"] == "-" for row in content["rows"]] == [False] * 3 + [True]
    monkeypatch.setattr(evidence_image, "fit", lambda *_: pytest.fail("done before"))
    monkeypatch.setattr(evidence_image, "train_detector", lambda *_: pytest.fail("done before"))
    assert evidence_image.measure(tmp_path, 1) == content
    table = report.write({"name": "evidence-image", **content}, tmp_path).read_text()
    assert "PneumoniaMNIST" in table and "AP50" in table


def test_a_recorded_table_uses_the_kept_runs_and_only_it_goes_to_the_results(
    small_pictures, tmp_path, monkeypatch
):
    work, results = tmp_path / "work", tmp_path / "results"
    monkeypatch.setattr("course_utils.bench.RESULTS", results)
    monkeypatch.setattr("course_utils.bench.update_goals", lambda folder: None)
    assert bench(["evidence-image"], work, 1) == [work / "evidence-image.md"]
    monkeypatch.setattr(evidence_image, "fit", lambda *_: pytest.fail("done before"))
    monkeypatch.setattr(evidence_image, "train_detector", lambda *_: pytest.fail("done before"))
    assert bench(["evidence-image"], work, 1, record=True) == [results / "evidence-image.md"]
    assert sorted(path.name for path in results.iterdir()) == [
        "evidence-image.json",
        "evidence-image.md",
    ]


def test_evidence_on_pictures_without_a_mirror_says_so(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_DATA_MIRROR", raising=False)
    with pytest.raises(CourseError, match="flowers_96, pneumoniamnist, caltech101_64 and bccd"):
        bench(["evidence-image"], tmp_path)


def test_each_box_of_a_picture_has_cells_that_answer_for_it():
    scenes = make_trays(6, seed=3)
    points = grid_points(*scenes.images.shape[-2:])
    for true, (boxes, labels) in zip(scenes.truth, evidence_image.duties_of(scenes), strict=True):
        full = labels >= 0
        centres = (boxes[full, :2] + boxes[full, 2:]) / 2
        assert ((points[full] - centres).abs() < 8).all()
        for box, label in zip(true.boxes, true.labels, strict=True):
            assert ((boxes == box).all(1) & (labels == label)).any()


@pytest.mark.mirror
def test_caltech_has_its_101_classes_without_backgrounds(mirror, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(mirror))
    task = evidence_image.load_caltech()
    assert len(task.classes) == 101 and "BACKGROUND_Google" not in task.classes
    assert len(task.train) > 5000 and len(task.test) > 2500
