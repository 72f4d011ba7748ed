"""The frozen-prefix cache: run the frozen stages once, keep their output, train only the rest.

Exact: a frozen prefix without dropout, on inputs that are not augmented, gives the same output
in every epoch. Feature extraction and the tuning of the last stages then cost a fraction.

What was computed is kept under a key made of all that it depends on, for the next run on the same
prefix and data (another seed, another head). Up to `SPILL_BYTES` it stays in memory; more goes to
a memory-mapped file, in the folder that COURSE_CACHE names, where later sessions find it again, or
else in a temporary folder that goes with the process.

Shapes: N examples, T_i tokens of text i, D features.
"""

import atexit
import hashlib
import math
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from course_utils.batches import Batch, Batches
from course_utils.device import Compute
from course_utils.errors import CourseError
from course_utils.stage import Stage, inference, run_stages

TEXTS_AT_ONCE, IMAGES_AT_ONCE = 32, 64  # no gradients, so there is room; measured to be quickest
SPILL_BYTES = 2**30  # larger outputs live in a memory-mapped file
HASHED_AT_ONCE = 2**22  # bytes that one thread hashes without a break
KEPT_BYTES = 2**28  # of smaller ones, as many of the last used ones as fit stay in memory

_kept: OrderedDict[str, Tensor] = OrderedDict()


def forget() -> None:
    """Free the memory of all that is kept."""
    _kept.clear()


class CachedBatches:
    """The same batches as `source` gives, with the prefix's output as inputs.

    Args:
        source: batches of raw inputs, without augmentation.
        prefix: the frozen stages; left in eval mode.
        compute: device and precision.
    """

    def __init__(self, source: Batches, prefix: Sequence[Stage], compute: Compute):
        self.source = source
        size = IMAGES_AT_ONCE if source.texts is None else TEXTS_AT_ONCE
        filling = Batches(source.examples, size, source.device, source.pad_id)
        order = filling.order()
        two = filling.batch(torch.stack([order[0][0], order[-1][-1]]))  # shortest, longest text

        def fill(rows: Tensor) -> None:
            for batch in map(filling.batch, order):
                self._put(run_stages(prefix, batch.inputs, batch.mask), batch.indices, rows)

        with inference(prefix, compute):
            sample = run_stages(prefix, two.inputs, two.mask)
            # One row a token, or one an example where the prefix gives one (pooled texts, images).
            self.per_token = source.lengths is not None and sample.ndim == 3
            if self.per_token and source.texts is not None:
                shape = (len(source.texts.ids), *sample.shape[2:])
            else:
                shape = (len(source.examples), *sample.shape[1:])
            key = fingerprint(source, prefix, compute, sample)
            self.rows = kept_or_computed(key, shape, sample.dtype, compute.device, fill)

    def __len__(self) -> int:
        return len(self.source)

    def _put(self, output: Tensor, indices: Tensor, rows: Tensor) -> None:
        """Copy a batch's output to where its examples belong."""
        if not self.per_token or self.source.texts is None:
            rows[indices.to(rows.device)] = output.to(rows.device)
            return
        offsets = self.source.texts.offsets
        for row, i in zip(output, indices.tolist(), strict=True):
            rows[offsets[i] : offsets[i + 1]] = row[: offsets[i + 1] - offsets[i]]

    def order(self, generator: torch.Generator | None = None) -> list[Tensor]:
        """Which examples form each batch: the same as in `source`."""
        return self.source.order(generator)

    def epoch(self, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield each example once, in the order in which `source` would."""
        return map(self.batch, self.order(generator))

    def batch(self, indices: Tensor) -> Batch:
        labels, device = self.source.labels_of(indices), self.source.device
        if not self.per_token or self.source.texts is None:
            return Batch(self.rows[indices.to(self.rows.device)].to(device), None, labels, indices)
        offsets = self.source.texts.offsets
        lengths = offsets[indices + 1] - offsets[indices]
        spans = [(offsets[i], offsets[i + 1]) for i in indices.tolist()]
        inputs = pad_sequence([self.rows[start:end] for start, end in spans], batch_first=True)
        mask = None
        if not bool((lengths == lengths[0]).all()):
            mask = (torch.arange(inputs.shape[1]) < lengths[:, None]).to(device)
        return Batch(inputs.to(device), mask, labels, indices)

    def augmented(self, batch: Batch) -> Batch:
        return batch


def fingerprint(source: Batches, prefix: Sequence[Stage], compute: Compute, sample: Tensor) -> str:
    """A key of all that the prefix's output depends on.

    The weights and buffers of the prefix, the inputs, the precision, and what the prefix makes of
    two examples: that tells apart what weights do not show, such as another pooling, another
    normalisation of pixels, or another processor's rounding.
    """
    about = f"{torch.__version__} {compute.device.type} {compute.precision}"
    inputs = source.texts.ids if source.texts is not None else source.images
    state = [t for p in prefix for m in p.modules for t in (*m.parameters(), *m.buffers())]
    lengths = [] if source.lengths is None else [source.lengths]
    pieces = []
    for tensor in (*state, *([] if inputs is None else [inputs]), *lengths, sample):
        about += f" {tuple(tensor.shape)} {tensor.dtype}"
        pieces += tensor.detach().cpu().flatten().view(torch.uint8).split(HASHED_AT_ONCE)
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # hashing needs no interpreter
        digests = threads.map(lambda piece: hashlib.sha256(piece.numpy().data).digest(), pieces)
        return hashlib.sha256(about.encode() + b"".join(digests)).hexdigest()


def kept_or_computed(
    key: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device,
    fill: Callable[[Tensor], None],
) -> Tensor:  # fmt: skip
    """What is kept under this key, in memory or in a file; otherwise room that `fill` has filled.

    Raises:
        CourseError: the disk has no room for the file.
    """
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key]
    size = math.prod(shape) * dtype.itemsize
    if size > SPILL_BYTES:
        return _in_file(key, shape, dtype, size, fill)
    rows = torch.empty(shape, dtype=dtype, device=device)
    fill(rows)
    if size <= KEPT_BYTES:
        _kept[key] = rows
    while sum(rows.nbytes for rows in _kept.values()) > KEPT_BYTES:
        _kept.popitem(last=False)
    return rows


def _in_file(
    key: str, shape: tuple[int, ...], dtype: torch.dtype, size: int, fill: Callable[[Tensor], None]
) -> Tensor:
    lasting = os.environ.get("COURSE_CACHE")
    folder = Path(lasting) if lasting else _temporary_folder()
    path = folder / f"prefix-{key}"

    def mapped(file: Path) -> Tensor:
        flat = torch.from_file(str(file), shared=True, size=math.prod(shape), dtype=dtype)
        return flat.view(shape)

    if path.is_file() and path.stat().st_size == size:
        return mapped(path)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")  # renamed when it is whole
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as file:
            # Real room, not a promise: a full disk must be noticed here, where it can be said.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        fill(mapped(unfinished))
        os.replace(unfinished, path)
    except OSError as error:
        raise CourseError(
            f"the frozen stages' output ({size / 1e9:.1f} GB) does not fit into {folder} "
            f"({error.strerror}); free some space, name a larger folder in COURSE_CACHE, or use a "
            "recipe with cache_prefix=False"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return mapped(path)


@cache
def _temporary_folder() -> Path:
    """A folder that goes when the process ends."""
    folder = tempfile.mkdtemp(prefix="course-cache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
