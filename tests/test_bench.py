"""Tests of the benchmarks: the same work for all, and tables that come from a run."""

import json

import pytest
import torch
from conftest import tiny_image_task
from torch import nn

from course_utils.bench import BENCHMARKS, RESULTS, bench, report, speed
from course_utils.bench.peers import PEERS, Items, Work, collate
from course_utils.data import Examples, TokenizedTexts
from course_utils.errors import CourseError
from course_utils.pixels import PixelStatistics


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
