"""Long measurements in pieces: each run is kept in a small file as soon as it is done.

A second call goes on where the first one ended, and does again only what was decided otherwise.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from course_utils import assets
from course_utils.bench.report import hardware, versions
from course_utils.errors import CourseError

Job = tuple[str, str, int]  # dataset, method, seed


def file_of(dataset: str, method: str, seed: int) -> str:
    return f"{dataset}-{method}-{seed}.json"


def collect(
    name: str, jobs: Iterable[Job], datasets: str, folder: Path, repeats: int,
    recall: Callable[[Path, str, str, int], dict], measured: str,
) -> dict[tuple[str, str], list[dict]]:  # fmt: skip
    """Do or recall the runs of a benchmark on public data; each (dataset, method)'s, by seed.

    Args:
        name: the benchmark's.
        jobs: in the order of the work.
        datasets: folders of the mirror that it needs, in words.
        folder: the runs lie in its folder "evidence".
        repeats: seeds; a further one counts where it is done.
        recall: given that folder, dataset, method and seed.
        measured: what of a run is printed, a share.

    Raises:
        CourseError: there is no mirror of the datasets.
    """
    if assets.data_mirror() is None:
        raise CourseError(
            f"COURSE_DATA_MIRROR is not set; {name} needs it: set it to the folder that "
            f"holds the datasets {datasets}"
        )
    runs: dict[tuple[str, str], list[dict]] = {}
    for dataset, method, seed in jobs:
        if seed >= repeats and not (folder / "evidence" / file_of(dataset, method, seed)).exists():
            continue
        run = recall(folder / "evidence", dataset, method, seed)
        runs.setdefault((dataset, method), []).append(run)
        print(f"{dataset} {method} seed {seed}: {run[measured]:.2%}", flush=True)
    return runs


def kept_run(path: Path, identity: dict, do: Callable[[Path], dict]) -> dict:
    """The run that the file holds, if it has the same identity; otherwise do it and keep it.

    Args:
        path: a JSON file.
        identity: all that decides the run; if this is the same, it need not be done again.
        do: is given the path of a checkpoint, which is removed afterwards.
    """
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["identity"] == json.loads(json.dumps(identity)):
            return found
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    checkpoint = path.with_name(f"{path.stem}-{digest}.checkpoint")
    run = {
        "identity": identity, **do(checkpoint), "hardware": hardware(), "versions": versions(),
    }  # fmt: skip
    unfinished = path.with_suffix(".tmp")  # a kill while writing must not leave half a file
    unfinished.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
    checkpoint.unlink(missing_ok=True)
    return run
