"""Checkpoints: complete, atomic and checksummed.

A file begins with a line that names the format and a line with the sha256 of the rest, which
is a dictionary of tensors and plain values, loaded with `weights_only=True`.
"""

import hashlib
import io
import os
from pathlib import Path

import torch

from course_utils.errors import CourseError

FORMAT = b"course checkpoint 2\n"  # 2: moments of convolutions in the order of memory


class CheckpointError(CourseError):
    """A checkpoint is damaged, foreign, or belongs to another run."""


def save(state: dict, path: str | os.PathLike) -> None:
    """Write a checkpoint so that `path` always holds a whole one, the old or the new.

    Raises:
        CheckpointError: the folder cannot be written or the disk is full; the last good
            checkpoint is kept.
    """
    path = Path(path)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    digest = hashlib.sha256(content).hexdigest().encode() + b"\n"
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(FORMAT + digest)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass  # the message below matters more than a leftover
        raise CheckpointError(
            f"cannot write the checkpoint {path} ({error.strerror}); the last good one is kept. "
            f"It needs {len(content) / 1e6:.0f} MB: free some space or choose another folder"
        ) from error


def load(path: str | os.PathLike) -> dict:
    """Read a checkpoint.

    Raises:
        CheckpointError: it is missing, truncated, changed, or not one of ours.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path} ({error.strerror})") from error
    start = len(FORMAT) + 65
    if not raw.startswith(FORMAT):
        raise CheckpointError(f"{path} is not a checkpoint of this course; name another file")
    content = memoryview(raw)[start:]
    if hashlib.sha256(content).hexdigest().encode() + b"\n" != raw[len(FORMAT) : start]:
        raise CheckpointError(
            f"the checkpoint {path} is damaged (its checksum does not fit); delete it to start anew"
        )
    return torch.load(io.BytesIO(content), weights_only=True)
