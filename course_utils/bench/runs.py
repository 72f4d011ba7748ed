"""Long measurements in pieces: each run is kept in a small file as soon as it is done.

A second call goes on where the first one ended, and does again only what was decided otherwise.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from course_utils.bench.report import hardware, versions


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
