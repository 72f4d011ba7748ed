"""Execute lessons with papermill, measure them, collect their claims.

Each lesson runs in a kernel of its own. A lesson that dies is recorded and the others go on.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import psutil

from course_utils import journal
from course_utils.assets import ROOT
from course_utils.claims import MIME as CLAIM_MIME
from course_utils.device import choose_compute
from course_utils.errors import CourseError
from course_utils.notebooks import TIMINGS, Lesson
from course_utils.profiles import check_profile
from course_utils.progress import Progress
from course_utils.questions import CHECK_MIME

BUILD = ROOT / "build"
CELL_TIMEOUT = 600  # seconds; a dead kernel is noticed at the latest then
SAMPLE_EVERY = 0.5  # seconds between two looks at the memory; looking takes time from the lesson


@dataclass
class LessonRun:
    """What executing a lesson gave. `status` is "passed" or "failed"."""

    name: str
    status: str
    seconds: float
    peak_mb: float
    claims: list[dict] = field(default_factory=list)
    error: str | None = None

    @property
    def claims_held(self) -> int:
        return sum(claim["holds"] for claim in self.claims)


class MemoryMeter:
    """Peak memory in MB of the kernels that this process has started.

    Args:
        on_sample: called at each look, with the seconds since the start.
    """

    def __init__(self, on_sample: Callable[[float], None] | None = None) -> None:
        self.peak_mb = 0.0
        self._on_sample = on_sample or (lambda seconds: None)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryMeter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        me, start = psutil.Process(), time.monotonic()
        while not self._done.wait(SAMPLE_EVERY):
            total = 0
            for child in me.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak_mb = max(self.peak_mb, total / 1e6)
            self._on_sample(time.monotonic() - start)


def run_lesson(
    lesson: Lesson, profile: str, folder: Path, on_sample: Callable[[float], None] | None = None
) -> LessonRun:
    """Execute a lesson's solution notebook; its executed copy goes to `folder`."""
    import papermill

    output = folder / f"{lesson.name}.ipynb"
    output.unlink(missing_ok=True)  # the claims of an earlier run are not this run's
    start = time.monotonic()
    error = None
    with MemoryMeter(on_sample) as memory:
        try:
            papermill.execute_notebook(
                lesson.solution, output, parameters={"PROFILE": profile}, progress_bar=False,
                log_output=False, cwd=lesson.solution.parent, execution_timeout=CELL_TIMEOUT,
                kernel_name="python3",
                # All is written by then, and unloading torch takes seconds.
                shutdown_kernel="immediate",
                # The kernel would warn that it talks to us without encryption, on this machine.
                extra_arguments=["--log-level=ERROR"],
            )  # fmt: skip
        except Exception as problem:  # a failing cell, a killed kernel, a timeout: all are recorded
            error = _brief(problem)
    seconds = time.monotonic() - start
    claims, unsolved = _records(output)
    if error is None and unsolved:
        error = f"the solution's own answer is not accepted in exercise {', '.join(unsolved)}"
    status = "failed" if error else "passed"
    return LessonRun(lesson.name, status, round(seconds, 1), round(memory.peak_mb), claims, error)


def _brief(problem: Exception) -> str:
    name, value = getattr(problem, "ename", ""), getattr(problem, "evalue", "")
    return f"{name}: {value}" if name else f"{type(problem).__name__}: {problem}"


def _records(path: Path) -> tuple[list[dict], list[str]]:
    """The claims of an executed notebook, and the exercises that were not solved."""
    if not path.is_file():
        return [], []
    claims, unsolved = [], []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if CLAIM_MIME in data:
                record = data[CLAIM_MIME]
                keys = (
                    "id",
                    "text",
                    "value",
                    "low",
                    "high",
                    "holds",
                    "at_least",
                    "at_most",
                    "runs",
                )
                claims.append({key: record[key] for key in keys})
            if CHECK_MIME in data and data[CHECK_MIME]["state"] != "right":
                unsolved.append(data[CHECK_MIME]["id"])
    return claims, unsolved


def run(
    chosen: list[Lesson],
    profile: str = "quick",
    build: Path = BUILD,
    report: Callable[[str], None] = print,
) -> list[LessonRun]:
    """Execute lessons in order; write `run.json`, and each lesson's executed copy and record.

    Raises:
        CourseError: there is nothing to run, or the folder cannot be written.
    """
    check_profile(profile)
    if not chosen:
        raise CourseError("there is no lesson to run: notebooks/src is empty")
    folder = executed_folder(build, profile)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
    except OSError as error:
        raise CourseError(
            f"cannot write to {folder} ({error.strerror}); make it writable, or name another "
            "folder with --build"
        ) from error
    os.environ["COURSE_JOURNAL"] = journal.OFF  # it is for learners, not for programs
    if profile == "quick":  # no library may try the network
        os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    expected = _expected(profile)
    results = []
    for number, lesson in enumerate(chosen, 1):
        guess = expected.get(lesson.number)
        title = f"[{number}/{len(chosen)}] {lesson.name}"
        about = f", expected about {guess:.0f} s" if guess else ""
        report(f"{title} …{about}")
        bar = Progress(round(guess or CELL_TIMEOUT), "        seconds")
        result = run_lesson(lesson, profile, folder, bar.tick)
        bar.clear()
        results.append(result)
        held = f"{result.claims_held}/{len(result.claims)} claims hold"
        report(f"        {result.status} in {result.seconds:.0f} s, {held}")
        if result.error:
            report(f"        {result.error}")
        write_run(results, profile, build)
        write_record(result, folder)
    return results


def executed_folder(build: Path, profile: str) -> Path:
    """Where the executed copies are, and beside each its record (`NN_name.json`)."""
    return build / "executed" / profile


def write_record(result: LessonRun, folder: Path) -> None:
    """Keep how one lesson ran, when, and on what, until it is run again."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    content = {**asdict(result), "device": str(choose_compute()), "when": when}
    text = json.dumps(content, indent=1) + "\n"
    (folder / f"{result.name}.json").write_text(text, encoding="utf-8")


def write_run(results: list[LessonRun], profile: str, build: Path = BUILD) -> None:
    """Write `build/run.json`."""
    content = {
        "profile": profile,
        "device": str(choose_compute()),
        "lessons": [asdict(result) for result in results],
    }
    temporary = build / "run.json.tmp"
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(build / "run.json")


def summary(results: list[LessonRun]) -> str:
    """A table of lessons, seconds, memory and claims."""
    width = max(len(result.name) for result in results)
    lines = [f"{'lesson':{width}}  status  seconds  peak MB  claims held / made"]
    lines += [
        f"{r.name:{width}}  {r.status}  {r.seconds:7.1f}  {r.peak_mb:7.0f}  "
        f"{r.claims_held} / {len(r.claims)}"
        for r in results
    ]
    return "\n".join(lines)


def record_timings(results: list[LessonRun], profile: str) -> None:
    """Keep the measured times of passed lessons in `notebooks/timings.json`, for their pages."""
    timings = json.loads(TIMINGS.read_text(encoding="utf-8")) if TIMINGS.is_file() else {}
    compute = choose_compute()
    for result in results:
        if result.status == "passed":
            timings.setdefault(result.name[:2], {})[f"{profile} {compute.device.type}"] = {
                "profile": profile,
                "hardware": str(compute.reason).split(";")[0],
                "seconds": result.seconds,
                "peak_mb": result.peak_mb,
            }
    text = json.dumps(dict(sorted(timings.items())), indent=1) + "\n"
    TIMINGS.write_text(text, encoding="utf-8")


def _expected(profile: str) -> dict[str, float]:
    timings = json.loads(TIMINGS.read_text(encoding="utf-8")) if TIMINGS.is_file() else {}
    return {
        number: run["seconds"]
        for number, runs in timings.items()
        for run in runs.values()
        if run["profile"] == profile
    }
