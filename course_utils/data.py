"""Tasks: examples with labels, split into training, validation and test.

Does not know where a task comes from (`tasks.py`) or how it is batched (`batches.py`).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from course_utils.errors import CourseError

IGNORED = -100  # a label that does not count, as in torch's cross-entropy
MAX_CHARACTERS = 200_000  # a longer text is surely a mistake: about 40,000 words


@dataclass(frozen=True)
class TokenizedTexts:
    """Texts as token ids, laid end to end so that no memory is spent on padding.

    Attributes:
        ids: all ids, int32, shape (sum of lengths,).
        offsets: text i is ids[offsets[i]:offsets[i + 1]]; int64, shape (n + 1,).
    """

    ids: Tensor
    offsets: Tensor

    @staticmethod
    def from_lists(lists: Sequence[Sequence[int]]) -> "TokenizedTexts":
        lengths = torch.tensor([0] + [len(ids) for ids in lists])
        parts = [np.asarray(ids, dtype=np.int32) for ids in lists]
        flat = np.concatenate([np.zeros(0, dtype=np.int32), *parts])
        return TokenizedTexts(torch.from_numpy(flat), lengths.cumsum(0))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Tensor:
        """One text's ids."""
        index = range(len(self))[index]  # a negative one counts from the end
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def select(self, indices: Tensor) -> "TokenizedTexts":
        return TokenizedTexts.from_lists([self[int(i)].tolist() for i in indices])

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> Tensor:
        """Number of tokens of each text, shape (n,)."""
        return self.offsets.diff()


Inputs: TypeAlias = list[str] | TokenizedTexts | Tensor


@dataclass(frozen=True)
class Examples:
    """Inputs with labels.

    Attributes:
        inputs: n texts, n tokenized texts, or uint8 images of shape (n, 3, H, W).
        labels: class numbers, int64, shape (n,).
        columns: further columns of length n by name ("domain", "style", "boxes" …).
    """

    inputs: Inputs
    labels: Tensor
    columns: dict[str, Tensor | list] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels):
            raise CourseError(
                f"{len(self.inputs)} inputs but {len(self.labels)} labels: each input needs one"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple]:
        return zip(iter(self.inputs), self.labels.tolist(), strict=True)

    def select(self, indices: Tensor | Sequence[int]) -> "Examples":
        """The examples at these positions, in this order."""
        indices = torch.as_tensor(indices)
        if indices.dtype == torch.bool:
            indices = indices.nonzero().flatten()

        def pick(values):
            if isinstance(values, list):
                return [values[i] for i in indices.tolist()]
            return values.select(indices) if isinstance(values, TokenizedTexts) else values[indices]

        return Examples(
            pick(self.inputs), self.labels[indices], {k: pick(v) for k, v in self.columns.items()}
        )

    def fingerprint(self) -> str:
        """A short hexadecimal digest of inputs and labels: other data, another one."""
        digest = hashlib.sha256()
        tensors = [self.labels]
        if isinstance(self.inputs, list):
            digest.update("\0".join(self.inputs).encode())
        elif isinstance(self.inputs, TokenizedTexts):
            tensors += [self.inputs.ids, self.inputs.offsets]
        else:
            tensors.append(self.inputs)
        for tensor in tensors:
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def where(self, column: str, value) -> "Examples":
        """The examples whose column has this value."""
        if column not in self.columns:
            raise CourseError(f"no column {column!r}; there are {sorted(self.columns)}")
        return self.select(torch.tensor([v == value for v in self.columns[column]]))

    def subset(self, count: int, seed: int = 0) -> "Examples":
        """A random subset in which every class keeps its share as nearly as can be.

        The subset of a smaller `count` with the same seed lies within that of a larger one.
        """
        if not 1 <= count <= len(self):
            raise CourseError(f"cannot take {count} of {len(self)} examples")
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        found, sizes = self.labels.unique(return_counts=True)
        mixed = torch.randperm(len(found), generator=generator)  # settles ties between classes
        members = [order[self.labels[order] == label] for label in found[mixed]]
        share = sizes[mixed].numpy() / len(self)
        # Tijdeman's rule (1980): of the classes that lag by `slack` or more, the one that must
        # be served soonest comes next. No class is ever a whole example off its share.
        slack = 0.5 / max(len(found) - 1, 1)
        taken = np.zeros(len(found), dtype=int)
        chosen = []
        for step in range(1, count + 1):
            lags = share * step - taken >= slack - 1e-9
            due = int(np.where(lags, (taken + 1 - slack) / share, np.inf).argmin())
            chosen.append(members[due][taken[due]])
            taken[due] += 1
        return self.select(torch.stack(chosen))


@dataclass(frozen=True)
class Task:
    """A named task with its three splits."""

    name: str
    kind: str  # "text" or "image"
    classes: tuple[str, ...]
    train: Examples
    valid: Examples
    test: Examples

    def __post_init__(self) -> None:
        check_task(self)

    def __str__(self) -> str:
        sizes = f"{len(self.train)} training, {len(self.valid)} validation, {len(self.test)} test"
        return f"{self.name}: {len(self.classes)} classes; {sizes} {self.kind}s"

    def with_train(self, train: Examples) -> "Task":
        """The same task with other training examples."""
        return replace(self, train=train)

    def limited(self, train: int | None = None, valid: int | None = None, test: int | None = None,
                seed: int = 0) -> "Task":  # fmt: skip
        """The same task with at most so many examples a split, classes in proportion."""

        def cut(examples: Examples, count: int | None) -> Examples:
            if count is None or count >= len(examples):
                return examples
            return examples.subset(count, seed)

        return replace(
            self, train=cut(self.train, train), valid=cut(self.valid, valid),
            test=cut(self.test, test),
        )  # fmt: skip


def check_task(task: Task) -> None:
    """Raise `CourseError` at the first thing that would spoil a training or its measurement."""
    splits = {"training": task.train, "validation": task.valid, "test": task.test}
    for name, examples in splits.items():
        if len(examples) == 0:
            raise CourseError(
                f"the {name} split of {task.name!r} is empty; each split needs at least one example"
            )
        if (low := int(examples.labels.min())) < 0 or int(examples.labels.max()) >= len(
            task.classes
        ):
            worst = low if low < 0 else int(examples.labels.max())
            raise CourseError(
                f"the {name} split of {task.name!r} has the label {worst}, but labels number the "
                f"{len(task.classes)} classes from 0 to {len(task.classes) - 1}"
            )
        check_inputs(examples.inputs, f"the {name} split of {task.name!r}")
    known = set(task.train.labels.tolist())
    if len(known) < 2:
        only = task.classes[known.pop()]
        raise CourseError(
            f"the training split of {task.name!r} has only one class, {only!r}: a classifier "
            "needs at least two; add examples of another class"
        )
    for name, examples in list(splits.items())[1:]:
        if unknown := sorted(set(examples.labels.tolist()) - known):
            names = ", ".join(repr(task.classes[i]) for i in unknown)
            raise CourseError(
                f"the {name} split of {task.name!r} has classes that training lacks: {names}; "
                "add training examples of them or remove them"
            )


def check_inputs(inputs: Inputs, where: str) -> None:
    """Raise `CourseError` for empty or absurdly long texts and for images that are none."""
    if isinstance(inputs, list):
        for i, text in enumerate(inputs):
            if not isinstance(text, str):
                raise CourseError(f"{where}: text {i} is {text!r}; every input must be a string")
            if not text.strip():
                raise CourseError(f"{where}: text {i} is empty; remove it or fill it in")
            if len(text) > MAX_CHARACTERS:
                raise CourseError(
                    f"{where}: text {i} has {len(text):,} characters, the limit is "
                    f"{MAX_CHARACTERS:,}; split it into passages"
                )
    elif isinstance(inputs, Tensor):
        if inputs.ndim != 4 or inputs.shape[1] != 3 or inputs.dtype != torch.uint8:
            raise CourseError(
                f"{where}: images have shape {tuple(inputs.shape)} and type {inputs.dtype}; "
                "expected uint8 of shape (n, 3, height, width)"
            )


def tokenize(task: Task, tokenizer, max_length: int = 128) -> Task:
    """Turn a task's texts into token ids, once, before any training.

    Args:
        task: a text task.
        tokenizer: a tokenizer of transformers (`model.tokenizer`).
        max_length: longer texts are cut to so many tokens.

    Returns:
        The same task with `TokenizedTexts` as inputs.
    """

    def tokenized(split: Examples) -> Examples:
        return replace(split, inputs=tokenize_texts(split.inputs, tokenizer, max_length))

    return replace(
        task,
        train=tokenized(task.train),
        valid=tokenized(task.valid),
        test=tokenized(task.test),
    )


def tokenize_texts(texts: Inputs, tokenizer, max_length: int = 128) -> TokenizedTexts:
    """Turn texts into token ids; see `tokenize`."""
    if isinstance(texts, TokenizedTexts):
        return texts
    if not isinstance(texts, list):
        raise CourseError("only texts can be tokenized, and these are images")
    check_inputs(texts, "texts to tokenize")
    if not texts:
        raise CourseError("there is no text to tokenize")
    encoded = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    return TokenizedTexts.from_lists(encoded)
