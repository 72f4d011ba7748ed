"""Tests of the choice of device and precision, seeds and clocks (course_utils/device.py)."""

import random
import resource
import time

import numpy as np
import psutil
import pytest
import torch

from course_utils import device
from course_utils.device import Compute, choose_compute, energy_wh, seed_everything, stopwatch
from course_utils.errors import CourseError

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def with_abilities(monkeypatch, **abilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "Test", **abilities})


@pytest.mark.parametrize(
    "abilities, precision",
    [({}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"),
     ({"avx512_bf16": False}, "fp32")],
)  # fmt: skip
def test_auto_takes_bf16_only_where_the_processor_multiplies_it(
    monkeypatch, no_gpu, abilities, precision
):
    with_abilities(monkeypatch, **abilities)
    compute = choose_compute()
    assert (compute.device.type, compute.precision) == ("cpu", precision)
    assert "Test" in compute.reason and "bf16 instructions" in compute.reason


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_was_asked_for_is_used(monkeypatch, no_gpu, precision):
    with_abilities(monkeypatch, avx512_bf16=precision == "fp32")
    compute = choose_compute(precision)
    assert compute.precision == precision and "asked for" in compute.reason


def test_an_unknown_precision_lists_the_known_ones():
    with pytest.raises(CourseError, match="'fp64' is unknown; .*'auto', 'fp32', 'bf16'"):
        choose_compute("fp64")


@pytest.mark.parametrize("precision, dtype", [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_decides_the_type_of_matrix_products(precision, dtype):
    x = torch.ones(2, 2)
    with Compute(torch.device("cpu"), precision, "test").autocast():
        assert (x @ x).dtype == dtype


def test_a_choice_reads_as_a_sentence(no_gpu):
    assert str(Compute(torch.device("cpu"), "fp32", "why")) == "cpu in fp32 (why)"


def test_a_machine_that_tells_no_name_still_has_one(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    monkeypatch.setattr(device.platform, "processor", lambda: "")
    name = device.processor_name()
    assert name.split()[0] != "with" and f"{torch.get_num_threads()} threads" in name


@pytest.mark.skipif(not device.keep_freed_memory(), reason="another C library than glibc")
def test_freed_memory_is_used_again_without_asking_the_system():
    for _ in range(20):  # the first rounds still find their places
        torch.ones(4_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(4_000_000)  # 16 MB, about 4,000 pages
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 4_000


def test_where_memory_cannot_be_kept_nothing_happens(monkeypatch):
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: object())  # without mallopt
    assert device.keep_freed_memory() is False
    monkeypatch.setattr(device.sys, "platform", "darwin")
    assert device.keep_freed_memory() is False


def draw() -> tuple:
    return random.random(), np.random.random(), torch.rand(()).item()


def test_a_seed_decides_all_random_numbers():
    seed_everything(3)
    first = draw()
    seed_everything(3)
    assert draw() == first
    seed_everything(4)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


@pytest.mark.parametrize("seed", [0, 2**32 + 5, 2**40])
def test_large_seeds_are_allowed(seed):
    seed_everything(seed)


def test_a_stopwatch_measures_its_block():
    with stopwatch() as watch:
        time.sleep(0.05)
    after = watch.seconds
    time.sleep(0.02)
    assert 0.05 <= after < 5 and watch.seconds == after


def test_peak_memory_is_in_megabytes_and_at_least_what_is_used_now(no_gpu):
    used = psutil.Process().memory_info().rss / 1e6
    assert 0.95 * used <= device.peak_memory_mb() <= psutil.virtual_memory().total / 1e6


def test_energy_is_proportional_to_time(no_gpu):
    assert energy_wh(0) == 0
    assert energy_wh(3600) == pytest.approx(3600 * energy_wh(1))
    assert 1 <= energy_wh(3600) <= 15 * torch.get_num_threads()


@needs_gpu
@pytest.mark.gpu
def test_a_gpu_is_used_where_there_is_one():
    assert choose_compute().device.type == "cuda"
    assert device.peak_memory_mb() >= 0
    device.synchronize(torch.device("cuda"))
