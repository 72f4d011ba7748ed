"""How long `import course_utils` takes on top of torch, in fresh processes."""

import subprocess
import sys

from course_utils.bench.report import spread

CODE = (
    "import time, torch; start = time.perf_counter(); "
    "import course_utils{}; print(time.perf_counter() - start)"
)
WHAT = {
    "import course_utils": "",
    "and the training core": "; from course_utils import fit",
}


def measure(repeats: int) -> dict:
    rows = []
    for system, more in WHAT.items():
        command = [sys.executable, "-c", CODE.format(more)]
        seconds = [
            float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(repeats)
        ]
        rows.append({"system": system, "seconds": spread(seconds)})
    return {"rows": rows}
