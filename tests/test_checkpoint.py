"""Tests of checkpoints (course_utils/checkpoint.py, run_state.py): nothing is ever lost."""

import builtins
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from conftest import tiny_bert, tiny_image_task, tiny_text_task
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from course_utils import checkpoint, train
from course_utils.checkpoint import CheckpointError
from course_utils.recipes import Recipe
from course_utils.run_state import RunState
from course_utils.stage import Stage
from course_utils.train import fit

in_folder = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class TinyImageModel(nn.Module):
    """BatchNorm (buffers), dropout, and two stages with weights."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(4, 2)

    def stages(self):
        def stem(x, mask):
            return self.norm(self.stem(x.float() / 255)).relu().mean((2, 3))

        def head(x, mask):
            return self.head(self.drop(x))

        return [
            Stage("stem", (self.stem, self.norm), stem),
            Stage("head", (self.drop, self.head), head),
        ]


def flip_some(images):
    """Mirror each picture with probability 1/2, by torch's random numbers."""
    return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)


def image_model():
    torch.manual_seed(0)
    return TinyImageModel()


def bert_with_dropout():
    return tiny_bert(dropout=0.1, layers=2)


def recipe(**fields) -> Recipe:
    return Recipe("test", **{"batch_size": 6, "learning_rate": 3e-3, "precision": "fp32", **fields})


def texts():
    return tiny_text_task(24)


def images():
    return tiny_image_task(24, 2, 8)


# name: (model, task, recipe)
SCENARIOS: dict[str, tuple[Callable, Callable, Recipe]] = {
    "adamw": (bert_with_dropout, texts, recipe(epochs=3, keep_best=True)),
    "sgd": (bert_with_dropout, texts, recipe(epochs=3, optimizer="sgd", schedule="cosine")),
    "gradual unfreezing with the cache": (
        bert_with_dropout, texts,
        recipe(epochs=5, train_from=-1, unfreeze_every=2, stage_decay=0.7, patience=4),
    ),
    "augmented images": (
        image_model, images, recipe(epochs=4, augment=flip_some, accumulate=2)
    ),
}  # fmt: skip


def run(scenario: str, **options):
    """Train from the beginning or from the checkpoint; returns (weights, losses)."""
    make, task, how = SCENARIOS[scenario]
    model = make()
    history = fit(model, task(), how, seed=5, silent=True, **options)
    losses = [(e.train_loss, e.valid_loss, e.first_stage) for e in history.epochs]
    return model.state_dict(), (losses, history.best_epoch, history.trained_weights)


@cache
def uninterrupted(scenario: str):
    return run(scenario)


def assert_same(found, expected):
    """Weights and buffers bit for bit, and the same record of every epoch."""
    assert found[0].keys() == expected[0].keys()
    for name, value in expected[0].items():
        assert torch.equal(found[0][name], value), name
    assert found[1] == expected[1]


# --- the file -------------------------------------------------------------------------------

STATE = {
    "weights": {"a": torch.arange(5.0), "b": torch.tensor([1, 2])},
    "position": (1, 2, 3), "name": "run", "best": None, "loss": float("inf"),
}  # fmt: skip


def is_state(found: dict) -> bool:
    weights = found["weights"]
    rest = {k: v for k, v in found.items() if k != "weights"}
    return (
        rest == {k: v for k, v in STATE.items() if k != "weights"}
        and torch.equal(weights["a"], STATE["weights"]["a"])
        and torch.equal(weights["b"], STATE["weights"]["b"])
    )


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "run.ckpt"
    checkpoint.save(STATE, path)
    return path


def test_what_was_saved_is_loaded(saved):
    assert is_state(checkpoint.load(saved))
    assert [p.name for p in saved.parent.iterdir()] == ["run.ckpt"]  # no temporary file is left


def test_missing_folders_are_made(tmp_path):
    checkpoint.save(STATE, tmp_path / "a" / "b" / "run.ckpt")
    assert is_state(checkpoint.load(str(tmp_path / "a" / "b" / "run.ckpt")))


@in_folder
@given(st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(saved, share):
    whole = saved.read_bytes()
    cut = saved.with_name("cut")
    cut.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="cut is (damaged|not a checkpoint)"):
        checkpoint.load(cut)


@in_folder
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_one_flipped_bit_is_noticed(saved, position, bit):
    raw = bytearray(saved.read_bytes())
    raw[position % len(raw)] ^= 1 << bit
    flipped = saved.with_name("flipped")
    flipped.write_bytes(raw)
    with pytest.raises(CheckpointError, match="flipped is (damaged|not a checkpoint)"):
        checkpoint.load(flipped)


def test_a_longer_file_is_refused(saved):
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match="damaged.*delete it"):
        checkpoint.load(saved)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"course checkpoint 9\n" + b"x" * 90])
def test_a_foreign_file_is_refused(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(CheckpointError, match="other is not a checkpoint of this course"):
        checkpoint.load(tmp_path / "other")


def test_a_file_of_torch_save_is_refused(tmp_path):
    torch.save({"a": 1}, tmp_path / "plain.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "plain.pt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read .*none.ckpt.*No such file"):
        checkpoint.load(tmp_path / "none.ckpt")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    checkpoint.save({"identity": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match="[Ww]eights.only"):
        checkpoint.load(tmp_path / "evil.ckpt")
    assert not (tmp_path / "evil").exists()


# --- a disk that fails ----------------------------------------------------------------------


@contextmanager
def failing(place: str, code: int = errno.ENOSPC, after: int = 0):
    """From the call number `after` on, opening for writing, fsync or renaming fails."""
    calls = iter(range(10**6))
    real = {"open": builtins.open, "fsync": os.fsync, "replace": os.replace}[place]

    def fails(*arguments, **options):
        if place == "open" and "w" not in str(arguments[1:2]):
            return real(*arguments, **options)
        if next(calls) < after:
            return real(*arguments, **options)
        raise OSError(code, os.strerror(code))

    with patch.object(builtins if place == "open" else os, place, fails):
        yield


@pytest.mark.parametrize("place", ["open", "fsync", "replace"])
@pytest.mark.parametrize("code, words", [
    (errno.ENOSPC, "No space left"), (errno.EACCES, "Permission denied"),
])  # fmt: skip
def test_a_failing_disk_is_one_clear_error_and_the_old_checkpoint_stays(saved, place, code, words):
    with failing(place, code), pytest.raises(CheckpointError) as error:
        checkpoint.save({"new": torch.zeros(400_000)}, saved)
    message = str(error.value)
    assert str(saved) in message and words in message and "last good one is kept" in message
    assert "needs 2 MB" in message and "free some space" in message
    assert is_state(checkpoint.load(saved))
    assert [p.name for p in saved.parent.iterdir()] == ["run.ckpt"]


def test_a_folder_that_cannot_be_one_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CheckpointError, match="cannot write the checkpoint .*file/run.ckpt"):
        checkpoint.save(STATE, tmp_path / "file" / "run.ckpt")


def test_training_on_a_disk_that_fills_can_be_resumed_later(tmp_path):
    path = tmp_path / "run.ckpt"
    with failing("fsync", after=8), pytest.raises(CheckpointError, match="No space left"):
        run("adamw", checkpoint=path, checkpoint_every=1)
    assert_same(run("adamw", checkpoint=path), uninterrupted("adamw"))


# --- another run's checkpoint ---------------------------------------------------------------


def resume_as(path: Path, how: Recipe | None = None, task=None, seed: int = 5, model=None):
    make, make_task, original = SCENARIOS["adamw"]
    fit(model or make(), task or make_task(), how or original, seed, checkpoint=path, silent=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "run.ckpt"
    run("adamw", checkpoint=path)
    return path


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda: dict(how=recipe(epochs=9, keep_best=True)), ["epochs was 3, now 9"]),
        (lambda: dict(seed=6), ["seed was 5, now 6"]),
        (
            lambda: dict(task=texts().limited(train=21)),
            ["training data was '"],
        ),
        (lambda: dict(model=tiny_bert(layers=1)), ["model was 'TextClassifier with "]),
        (
            lambda: dict(how=replace(SCENARIOS["adamw"][2], learning_rate=1e-5, accumulate=2),
                         seed=7),
            ["learning_rate was 0.003, now 1e-05", "accumulate was 1, now 2", "seed was 5, now 7"],
        ),
    ],
)  # fmt: skip
def test_a_changed_run_is_refused_with_a_list_of_what_changed(finished, change, words):
    before = finished.read_bytes()
    with pytest.raises(CheckpointError, match="belongs to another run") as error:
        resume_as(finished, **change())
    assert all(word in str(error.value) for word in words)
    assert str(error.value).count(" was ") == len(words)  # and nothing that did not
    assert finished.read_bytes() == before


def test_another_augmentation_is_another_run(tmp_path):
    path = tmp_path / "run.ckpt"
    run("augmented images", checkpoint=path)
    make, task, how = SCENARIOS["augmented images"]
    with pytest.raises(CheckpointError, match="augment was 'flip_some', now '.*clone'"):
        fit(make(), task(), replace(how, augment=torch.clone), 5, checkpoint=path, silent=True)


def test_an_augmentation_may_be_an_object(tmp_path):
    """It is known by what it is called, not by where it lies in memory."""

    class Flip:
        def __call__(self, images):
            return images.flip(3)

    make, task, how = SCENARIOS["augmented images"]
    for _ in range(2):
        fit(make(), task(), replace(how, augment=Flip()), 5, checkpoint=tmp_path / "c", silent=True)


def test_resuming_a_finished_run_changes_nothing(finished):
    assert_same(run("adamw", checkpoint=finished), uninterrupted("adamw"))


def test_resuming_a_finished_gradual_run_reports_the_same(tmp_path):
    name = "gradual unfreezing with the cache"
    run(name, checkpoint=tmp_path / "c")
    assert_same(run(name, checkpoint=tmp_path / "c"), uninterrupted(name))


def test_keeping_checkpoints_does_not_change_a_run(tmp_path):
    for every in (1, 3):
        found = run("augmented images", checkpoint=tmp_path / f"c{every}", checkpoint_every=every)
        assert_same(found, uninterrupted("augmented images"))


# --- interrupted and resumed ----------------------------------------------------------------

# (where, attribute, whether the call is made before the interruption)
PLACES = {
    "before a step": (train, "train_step", False),
    "in a step, dropout drawn": (train, "gradients", True),
    "weights changed, step not counted": (RunState, "add", False),
    "step counted": (RunState, "add", True),
    "before validation": (train, "_score", False),
    "after validation": (train, "_score", True),
    "epoch closed": (RunState, "finish_epoch", True),
    "prefix cached": (train, "cached", True),
}


class Crash(Exception):
    """Stands for a kernel that dies: no handler of the package knows it."""


@contextmanager
def stopping(place: str, after: int, error: type[BaseException]):
    """Raise `error` at the call number `after` of the place."""
    owner, name, call_first = PLACES[place]
    real, calls = getattr(owner, name), iter(range(10**6))

    def stops(*arguments, **options):
        due = next(calls) == after
        if due and not call_first:
            raise error
        result = real(*arguments, **options)
        if due:
            raise error
        return result

    with patch.object(owner, name, stops):
        yield


@settings(deadline=None, max_examples=12, phases=set(Phase) - {Phase.shrink})
@given(
    place=st.sampled_from(sorted(PLACES)),
    stops=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    every=st.integers(1, 4),
    error=st.sampled_from([KeyboardInterrupt, Crash]),
)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_stopped_anywhere_ends_as_if_it_had_not_been(
    tmp_path_factory, scenario, place, stops, every, error
):
    path = tmp_path_factory.mktemp("stopped") / "run.ckpt"
    for after in stops:
        try:
            with stopping(place, after, error):
                run(scenario, checkpoint=path, checkpoint_every=every)
        except error:
            pass
    found = run(scenario, checkpoint=path, checkpoint_every=every)
    assert_same(found, uninterrupted(scenario))


@pytest.mark.parametrize("place", sorted(set(PLACES) - {"weights changed, step not counted"}))
def test_an_interrupted_run_saves_all_that_was_done(tmp_path, place):
    """Also between two regular checkpoints, which are far apart here."""
    path = tmp_path / "run.ckpt"
    with stopping(place, 2, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        run("gradual unfreezing with the cache", checkpoint=path, checkpoint_every=10**6)
    epoch, step, _ = checkpoint.load(path)["position"]
    assert (epoch, step) >= (0, 2)
    name = "gradual unfreezing with the cache"
    assert_same(run(name, checkpoint=path), uninterrupted(name))


def test_a_state_that_is_half_changed_is_not_saved(tmp_path):
    path = tmp_path / "run.ckpt"
    stop = stopping("weights changed, step not counted", 2, KeyboardInterrupt)
    with stop, pytest.raises(KeyboardInterrupt):
        run("adamw", checkpoint=path, checkpoint_every=10**6)
    assert not path.exists()


@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_an_interruption_from_the_hook_keeps_the_epoch(tmp_path, epoch):
    def stop(record):
        if record.number == epoch:
            raise KeyboardInterrupt

    name, path = "gradual unfreezing with the cache", tmp_path / "run.ckpt"
    with pytest.raises(KeyboardInterrupt):
        run(name, checkpoint=path, on_epoch=stop)
    assert checkpoint.load(path)["position"][:2] == (epoch, 0)
    shown = []
    assert_same(run(name, checkpoint=path, on_epoch=shown.append), uninterrupted(name))
    assert [record.number for record in shown] == list(range(epoch + 1, 6))


# --- killed ---------------------------------------------------------------------------------

KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import torch
torch.set_num_threads(1)
import test_checkpoint as tests
from course_utils import checkpoint

folder, wanted, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
names = list(tests.SCENARIOS)


def child(scenario, path, slow_disk):
    pid = os.fork()
    if pid:
        return pid
    try:
        if slow_disk:
            fsync = os.fsync
            os.fsync = lambda f: (time.sleep(0.03), fsync(f))
        found = tests.run(scenario, checkpoint=path, checkpoint_every=chance.choice([1, 2]))
        tests.assert_same(found, tests.uninterrupted(scenario))  # computed before the fork
        os._exit(0)
    except BaseException as error:
        path.with_name("error").write_text(repr(error)[:2000])
    os._exit(1)


def version(path):
    try:
        return path.stat().st_ino, path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def wait_for(pid, happened):
    # until something happened or the child has ended
    while not happened() and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.0003)


for name in names:
    tests.uninterrupted(name)  # also warms everything that is imported late

report = {"kills": 0, "while writing": 0, "resumed": 0, "runs": 0, "errors": []}
while report["kills"] < wanted:
    scenario = names[report["runs"] % len(names)]
    path = folder / f"run{report['runs']}" / "run.ckpt"
    temporary = path.with_name("run.ckpt.tmp")
    path.parent.mkdir()
    report["runs"] += 1
    kills_here, status = 0, None
    while status is None or os.WIFSIGNALED(status):
        slow_disk = chance.random() < 0.6
        leftover = version(temporary)  # of an earlier killed write
        pid = child(scenario, path, slow_disk)
        if kills_here < 10:
            for _ in range(chance.randrange(4)):  # let it write a few checkpoints
                last = version(path)
                wait_for(pid, lambda: version(path) != last)
            if chance.random() < 0.4:
                wait_for(pid, lambda: version(temporary) not in (None, leftover))
            else:
                time.sleep(chance.uniform(0, 0.05))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            kills_here += 1
            report["kills"] += 1
            report["while writing"] += version(temporary) not in (None, leftover)
            if path.exists():
                checkpoint.load(path)  # always whole
                report["resumed"] += 1
    if status != 0:
        report["errors"].append(f"{scenario}: {path.with_name('error').read_text()}")
print(json.dumps(report))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_runs_killed_at_any_instant_end_as_if_they_had_not_been(tmp_path):
    """SIGKILL 36 times, some while a checkpoint is being written; every run is then finished."""
    here = Path(__file__).parent
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), "36", "0"],
        env=environment, capture_output=True, text=True, cwd=here.parent,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["errors"] == []
    assert report["kills"] >= 36 and report["while writing"] >= 3 and report["resumed"] >= 12
