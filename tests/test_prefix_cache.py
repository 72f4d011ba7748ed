"""The frozen-prefix cache is exact, never stale, and spills to a file (prefix_cache.py)."""

import errno
import os

import pytest
import torch
from conftest import tiny_bert, tiny_image_task, tiny_text_task
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_utils import prefix_cache
from course_utils.batches import Batches
from course_utils.device import choose_compute
from course_utils.errors import CourseError
from course_utils.prefix_cache import CachedBatches, forget
from course_utils.recipes import linear_probe
from course_utils.stage import run_stages, set_mode, stages, train_from
from course_utils.train import fit

quick = settings(deadline=None, max_examples=15)
CPU = torch.device("cpu")
FP32 = choose_compute("fp32")


@pytest.fixture
def spilling(monkeypatch, tmp_path):
    """Everything goes to files in a folder of its own."""
    monkeypatch.setattr(prefix_cache, "SPILL_BYTES", 0)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    return tmp_path


def cached(model, examples, first, batch_size=5, compute=FP32) -> tuple[CachedBatches, list]:
    parts = stages(model)
    boundary = train_from(parts, first)
    set_mode(parts, False)
    source = Batches(examples, batch_size, CPU)
    return CachedBatches(source, parts[:boundary], compute), parts[boundary:]


@quick
@given(st.sampled_from(["layer0", "layer2", "pool", "head"]), st.integers(1, 9),
       st.integers(0, 10**6), st.booleans())  # fmt: skip
def test_the_rest_gives_the_same_logits_from_the_cache(first, batch_size, seed, spill):
    forget()
    model, examples = tiny_bert(), tiny_text_task(13, seed=seed).train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_cache, "SPILL_BYTES", 0 if spill else 2**30)
        source, rest = cached(model, examples, first, batch_size)
        generator = torch.Generator().manual_seed(seed)
        for batch in source.epoch(generator):
            raw = source.source.batch(batch.indices)
            expected = run_stages(stages(model), raw.inputs, raw.mask)
            found = run_stages(rest, batch.inputs, batch.mask)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
            assert batch.labels.equal(raw.labels)


class Seen:
    """Counts the texts that a model's first stage is given."""

    def __init__(self, model):
        self.count = 0
        model.encoder.embeddings.register_forward_hook(self.called)

    def called(self, _module, _inputs, output):
        self.count += len(output)


ALL = 90 + 2  # two are looked at first, to see whether the prefix is still what it was


def runs(model, task, changes=None, **fields) -> int:
    """How many texts a probe's training sends through the first stage."""
    seen = Seen(model)
    settings = dict(epochs=2, validate=False, precision="fp32", **fields)
    fit(model, task, linear_probe(**settings), silent=True)
    return seen.count


def test_a_second_run_on_the_same_prefix_and_data_computes_no_more_than_two_texts():
    task = tiny_text_task(90)
    assert runs(tiny_bert(), task) == ALL
    assert runs(tiny_bert(), task) == 2
    assert runs(tiny_bert(), task, batch_size=7) == 2


def change_weight(model):
    with torch.no_grad():
        model.encoder.encoder.layer[1].output.dense.weight[0, 0] += 0.01


def change_pooling(model):
    model.pooling = "first"


def change_buffer(model):
    model.encoder.embeddings.register_buffer("extra", torch.ones(1))


@pytest.mark.parametrize("change", [change_weight, change_pooling, change_buffer])
def test_another_prefix_is_computed_anew(change):
    task, model = tiny_text_task(90), tiny_bert()
    runs(tiny_bert(), task)
    change(model)
    assert runs(model, task) == ALL


def test_other_data_and_another_precision_are_computed_anew():
    task = tiny_text_task(90)
    runs(tiny_bert(), task)
    assert runs(tiny_bert(), tiny_text_task(90, seed=1)) == ALL
    changed = task.train.inputs.ids.clone()
    changed[-1] += 1
    other = task.with_train(
        type(task.train)(type(task.train.inputs)(changed, task.train.inputs.offsets),
                         task.train.labels)
    )  # fmt: skip
    assert runs(tiny_bert(), other) == ALL
    source, _ = cached(tiny_bert(), task.train, "head")
    half, _ = cached(tiny_bert(), task.train, "head", compute=choose_compute("bf16"))
    assert not source.rows.equal(half.rows)


def test_files_are_found_again_by_a_later_session(spilling):
    task = tiny_text_task(90)
    assert runs(tiny_bert(), task) == ALL
    (file,) = spilling.iterdir()
    forget()
    assert runs(tiny_bert(), task) == 2
    assert list(spilling.iterdir()) == [file]


def test_a_file_of_another_size_is_not_believed(spilling):
    task = tiny_text_task(90)
    runs(tiny_bert(), task)
    (file,) = spilling.iterdir()
    file.write_bytes(file.read_bytes()[:-8])
    assert runs(tiny_bert(), task) == ALL


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(spilling, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CourseError, match="COURSE_CACHE"):
        runs(tiny_bert(), tiny_text_task(90))
    assert list(spilling.iterdir()) == []


def test_memory_is_given_back_when_too_much_is_kept(monkeypatch):
    size = 90 * 16 * 4  # one set of pooled features
    monkeypatch.setattr(prefix_cache, "KEPT_BYTES", 2 * size)
    tasks = [tiny_text_task(90, seed=seed) for seed in range(3)]
    for task in tasks:
        runs(tiny_bert(), task)
    assert runs(tiny_bert(), tasks[2]) == 2 and runs(tiny_bert(), tasks[1]) == 2
    assert runs(tiny_bert(), tasks[0]) == ALL  # the one used least recently had to go


def test_images_are_cached_too(spilling):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 2, 4, stride=4), nn.Linear(2, 2)

        def stages(self):
            from course_utils.stage import Stage

            return [
                Stage("stem", (self.stem,), lambda x, mask: self.stem(x.float()).mean((2, 3))),
                Stage("head", (self.head,), lambda x, mask: self.head(x)),
            ]

    model, task = Model(), tiny_image_task(70)
    source, rest = cached(model, task.train, "head")
    for batch in source.epoch():
        expected = run_stages(stages(model), task.train.inputs[batch.indices])
        torch.testing.assert_close(run_stages(rest, batch.inputs), expected)
