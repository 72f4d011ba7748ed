"""Where computing happens and in which precision, both chosen once and with their reason.

Does not know about models. Also here: seeding, wall time and peak memory.
"""

import ctypes
import os
import platform
import random
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from course_utils.errors import CourseError

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Compute:
    """A device, the precision of the matrix products on it, and why."""

    device: torch.device
    precision: str  # "fp32" or "bf16"
    reason: str

    def __str__(self) -> str:
        return f"{self.device} in {self.precision} ({self.reason})"

    def autocast(self) -> torch.autocast:
        """A context in which matrix products run in this precision."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"
        )


def choose_compute(precision: str = "auto") -> Compute:
    """Choose the fastest device here and, for "auto", bf16 where the hardware multiplies it.

    Args:
        precision: "auto", "fp32" (exact, the slowest) or "bf16".
    """
    if precision not in PRECISIONS:
        raise CourseError(f"precision {precision!r} is unknown; choose one of {PRECISIONS}")
    if torch.cuda.is_available():
        device, name = torch.device("cuda"), torch.cuda.get_device_name()
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        device, name = torch.device("cpu"), processor_name()
        abilities = torch.cpu.get_capabilities()
        has_bf16 = bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
    if precision != "auto":
        return Compute(device, precision, f"{name}; precision asked for")
    if has_bf16:
        return Compute(device, "bf16", f"{name}, bf16 instructions")
    return Compute(device, "fp32", f"{name}, no bf16 instructions")


def processor_name() -> str:
    """The processor's name as far as the system tells."""
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor()
    return f"{name or platform.machine()} with {torch.get_num_threads()} threads"


def keep_freed_memory() -> bool:
    """Let the process keep the memory that tensors free (glibc only); True if it worked.

    Training frees and asks for the same large blocks in every step. By default glibc hands each
    back to the system, which then clears it page by page, again and again.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # numbers from malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    largest = 2**31 - 1
    settings = ((mmap_threshold, 2**30), (trim_threshold, largest), (top_pad, 2**26))
    return all([mallopt(setting, value) == 1 for setting, value in settings])


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def peak_memory_mb() -> float:
    """Peak memory in MB: of the GPU where there is one, otherwise of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it, so that a clock reads true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Stopwatch:
    """Wall time in seconds; read `seconds` after the `with` block."""

    seconds: float = field(default=0.0)


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Measure the wall time of a block, the device's queued work included.

    >>> with stopwatch() as watch:
    ...     pass
    >>> watch.seconds < 1
    True
    """
    watch = Stopwatch()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    synchronize(device)
    start = time.perf_counter()
    yield watch
    synchronize(device)
    watch.seconds = time.perf_counter() - start


def energy_wh(seconds: float) -> float:
    """A rough estimate of the energy in watt-hours that `seconds` of full load take.

    A GPU is asked for its power limit; for a processor we assume 15 W a busy thread, a figure
    between a laptop's and a server's. An estimate for comparing runs, not a measurement.
    """
    if torch.cuda.is_available():
        watts = torch.cuda.power_draw() / 1000
    else:
        watts = 15.0 * min(torch.get_num_threads(), os.cpu_count() or 1)
    return watts * seconds / 3600
