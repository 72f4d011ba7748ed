"""Two processes under `torchrun` against one, on the same work, each process with one thread."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch

from course_utils import parallel
from course_utils.bench.report import spread
from course_utils.bench.speed import JOBS, load, our_recipe
from course_utils.train import fit

BATCH = 32  # of all processes together
JOB = "text-full"


def measure(repeats: int) -> dict:
    runs: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(repeats):
        for count in runs if repeat % 2 == 0 else reversed(runs):
            runs[count].append(_launch(count))
            print(f"{repeat + 1}/{repeats} {count} processes: {runs[count][-1]:.1f}", flush=True)
    rows = []
    for count, speeds in runs.items():
        shares = [a / b / count for a, b in zip(speeds, runs[1], strict=True)]
        rows.append(
            {
                "system": f"{count} process{'es' if count > 1 else ''}",
                "settings": f"one thread each, batch of {BATCH} in all",
                "examples_per_s": spread(speeds),
                "share of linear": f"{median(shares):.0%}",
            }
        )
    note = f"{JOBS[JOB].what}, {JOBS[JOB].train} examples, DDP; {os.cpu_count()} cores here."
    return {"rows": rows, "notes": [note]}


def _launch(count: int) -> float:
    """Examples a second with so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={count}", "-m", "course_utils.bench.processes", str(result),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=600)
        return json.loads(result.read_text())


def _work(result: Path) -> None:
    torch.set_num_threads(1)
    model, task = load(JOBS[JOB], 0)
    recipe = our_recipe(JOBS[JOB], batch_size=BATCH, epochs=2)
    history = fit(model, task, recipe, silent=True)
    if parallel.rank() == 0:
        result.write_text(json.dumps(len(task.train) * recipe.epochs / history.seconds))


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
