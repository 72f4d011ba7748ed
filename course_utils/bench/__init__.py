"""Measurements that take minutes, kept as JSON and as Markdown: `build/bench/NAME.*`.

    python -m course_utils bench                 # all
    python -m course_utils bench text-head       # one
    python -m course_utils bench --record        # and keep the result in the repository

See `BENCHMARKS` for the names. What was recorded lies in `results/`.
"""

from pathlib import Path

from course_utils import assets
from course_utils.bench import (
    baselines,
    evidence_image,
    evidence_text,
    imports,
    processes,
    profile,
    report,
    speed,
)
from course_utils.errors import CourseError
from course_utils.readme import update_goals

RESULTS = Path(__file__).parent / "results"
BENCHMARKS = {
    **speed.JOBS,  # the course's core beside Trainer, fastai, Lightning and a tutorial's loop
    "profile": "what the time of a step of each of the jobs above is made of, on a CPU",
    "processes": "two processes against one, each with a core of its own",
    "import": "seconds that importing course_utils adds to importing torch",
    "baselines": "test accuracy of ever more pre-training on each embedded task",
    "evidence-text": "the default recipes on public text datasets, beside published figures",
    "evidence-image": "the embedded ResNet on public images, against the same from scratch",
}
ON_PUBLIC_DATA = {"evidence-text": evidence_text.measure, "evidence-image": evidence_image.measure}


def bench(names: list[str], folder: Path, repeats: int = 5, record: bool = False) -> list[Path]:
    """Run benchmarks (all without names) and write their files; returns the tables' paths.

    Args:
        names: of `BENCHMARKS`; "gpu" stands for all that need one.
        folder: for the files, and in its folder "evidence" what can be used again by a later call.
        repeats: rounds or seeds.
        record: the files go to the repository's `results/` instead.
    """
    on_gpu = [name for name, job in speed.JOBS.items() if job.gpu]
    names = [each for name in names for each in (on_gpu if name == "gpu" else [name])]
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise CourseError(f"there is no benchmark {unknown[0]!r}; there are {sorted(BENCHMARKS)}")
    tables: list[Path] = []
    for name in names or _all():
        if name in speed.JOBS:
            content = speed.measure(speed.JOBS[name], repeats)
        elif name == "baselines":
            content = {"rows": baselines.baselines()}
        elif name in ON_PUBLIC_DATA:
            content = ON_PUBLIC_DATA[name](folder, repeats)
        elif name == "profile":
            content = profile.measure()
        elif name == "processes":
            content = processes.measure(repeats)
        else:
            content = imports.measure(repeats)
        if content["rows"]:
            tables.append(report.write({"name": name, **content}, RESULTS if record else folder))
    if record and tables:
        update_goals(RESULTS)
    return tables


def _all() -> list[str]:
    """All benchmarks but those for which there is no data here."""
    return [name for name in BENCHMARKS if name not in ON_PUBLIC_DATA or assets.data_mirror()]
