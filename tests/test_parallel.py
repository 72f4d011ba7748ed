"""Two processes under torchrun give what one gives (course_utils/parallel.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_bert, tiny_image_task, tiny_text_task
from parallel_worker import work

from course_utils import checkpoint, parallel
from course_utils.batches import Batches
from course_utils.data import IGNORED
from course_utils.errors import CourseError
from course_utils.recipes import full_finetuning, gradual_unfreezing
from course_utils.train import fit

CPU = torch.device("cpu")


def launch(folder: Path, processes: int = 2, **settings) -> list[dict]:
    """Run the worker under torchrun; each process's result."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={processes}", str(Path(__file__).with_name("parallel_worker.py")),
        str(folder / "result"), json.dumps(settings),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"result.{rank}") for rank in range(processes)]


def assert_equal(found: dict, expected: dict) -> None:
    for name, value in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], value, atol=2e-5, rtol=1e-4, msg=name)
    for losses in ("train_loss", "valid_loss"):
        assert found[losses] == pytest.approx(expected[losses], rel=1e-4)


# 41 texts in batches of 8: the last batch has one text, so one process has none of its own. 43: it
# has three, and the processes have unequally many to cut into micro-batches.
@pytest.mark.slow
@pytest.mark.parametrize("settings", [
    dict(),
    dict(accumulate=2, label_smoothing=0.1),
    dict(train_from="layer1"),
    dict(shard=True),
    dict(shard=True, train_from="layer1", accumulate=3, count=43),
    dict(train_from=-1, unfreeze_every=1, epochs=3),
    dict(half_every=1),
], ids=["DDP", "DDP accumulating", "DDP cached prefix", "FSDP2", "FSDP2 cached accumulating",
        "DDP unfreezing", "DDP halves"])  # fmt: skip
def test_two_processes_give_what_one_gives(settings, tmp_path):
    expected = work(dict(settings, shard=False))
    first, second = launch(tmp_path, **settings)
    assert_equal(first, expected)
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name])
    assert first["train_loss"] == second["train_loss"]


@pytest.mark.slow
def test_two_processes_that_died_resume_to_the_same_weights(tmp_path):
    """In the middle of an epoch; with dropout, so that each one's random numbers must come back."""
    settings = dict(epochs=3, dropout=0.2)
    (whole, _) = launch(tmp_path, **settings)
    saved = tmp_path / "run.ckpt"
    with pytest.raises(AssertionError):  # they die
        launch(tmp_path, **settings, checkpoint=str(saved), dies_after=2)
    state = checkpoint.load(saved)
    assert len(state["rng"]) == 2 and state["position"][:2] == (1, 4)  # of 6 steps
    for _ in range(2):  # to the end; and once more, with nothing left to do
        (again, other) = launch(tmp_path, **settings, checkpoint=str(saved))
        for name, value in whole["weights"].items():
            assert torch.equal(again["weights"][name], value)
            assert torch.equal(other["weights"][name], value)
        assert again["train_loss"] == whole["train_loss"]


def test_a_share_without_examples_holds_one_that_does_not_count(monkeypatch):
    source = Batches(tiny_text_task(9).train, 4, CPU)
    monkeypatch.setattr(parallel, "count", lambda: 2)
    monkeypatch.setattr(parallel, "rank", lambda: 1)
    batch = parallel.own_share(source, torch.tensor([5]))
    assert batch.labels.tolist() == [IGNORED]
    assert parallel.own_share(source, torch.tensor([5, 2, 7])).indices.tolist() == [2]


def test_shares_are_the_whole_batch(monkeypatch):
    source = Batches(tiny_image_task(12).train, 4, CPU)
    monkeypatch.setattr(parallel, "count", lambda: 3)
    indices = torch.tensor([4, 2, 9, 1, 0])
    found = []
    for rank in range(3):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        found += parallel.own_share(source, indices).indices.tolist()
    assert sorted(found) == sorted(indices.tolist())


def test_sharding_needs_several_processes():
    with pytest.raises(CourseError, match="torchrun"):
        fit(tiny_bert(), tiny_text_task(), full_finetuning(), shard=True, silent=True)


def test_sharding_refuses_what_it_does_not_know(tmp_path):
    for recipe, where in ((gradual_unfreezing(), None), (full_finetuning(), tmp_path / "a")):
        with pytest.raises(CourseError, match="use DDP"):
            fit(tiny_bert(), tiny_text_task(), recipe, shard=True, checkpoint=where, silent=True)
