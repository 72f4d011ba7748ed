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

    Also used for labels where each token has one of its own.

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
Labels: TypeAlias = Tensor | TokenizedTexts


@dataclass(frozen=True)
class Examples:
    """Inputs with labels.

    Attributes:
        inputs: n texts, n tokenized texts, or uint8 images of shape (n, 3, H, W).
        labels: class numbers, int64, shape (n,); or k numbers an example, shape (n, k), such as the
            first and the last token of an answer; or one number a token, as `TokenizedTexts` with
            the offsets of the inputs. `IGNORED` stands where a label does not count.
        columns: further columns of length n by name ("domain", "style", "boxes" …).
    """

    inputs: Inputs
    labels: Labels
    columns: dict[str, Tensor | list] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels):
            raise CourseError(
                f"{len(self.inputs)} inputs but {len(self.labels)} labels: each input needs one"
            )
        if isinstance(self.labels, TokenizedTexts):
            if not isinstance(self.inputs, TokenizedTexts):
                raise CourseError("one label a token needs texts that are tokenized already")
            unequal = (self.labels.lengths != self.inputs.lengths).nonzero().flatten().tolist()
            if unequal:
                i = unequal[0]
                raise CourseError(
                    f"text {i} has {int(self.inputs.lengths[i])} tokens but "
                    f"{int(self.labels.lengths[i])} labels: each token needs one "
                    f"({IGNORED} for one that does not count)"
                )

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple]:
        return zip(iter(self.inputs), (label.tolist() for label in self.labels), strict=True)

    def select(self, indices: Tensor | Sequence[int]) -> "Examples":
        """The examples at these positions, in this order."""
        indices = torch.as_tensor(indices)
        if indices.dtype == torch.bool:
            indices = indices.nonzero().flatten()

        def pick(values):
            if isinstance(values, list):
                return [values[i] for i in indices.tolist()]
            return values.select(indices) if isinstance(values, TokenizedTexts) else values[indices]

        columns = {name: pick(values) for name, values in self.columns.items()}
        return Examples(pick(self.inputs), pick(self.labels), columns)

    def fingerprint(self) -> str:
        """A short hexadecimal digest of inputs and labels: other data, another one."""
        digest = hashlib.sha256()
        labels = self.labels
        tensors = [labels.ids if isinstance(labels, TokenizedTexts) else labels]
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

        (Where labels are not one class an example, any random subset.) The subset of a smaller
        `count` with the same seed lies within that of a larger one.
        """
        if not 1 <= count <= len(self):
            raise CourseError(f"cannot take {count} of {len(self)} examples")
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        if not isinstance(self.labels, Tensor) or self.labels.ndim > 1:
            return self.select(order[:count])
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
        check_labels(examples, task.classes, f"the {name} split of {task.name!r}")
        check_inputs(examples.inputs, f"the {name} split of {task.name!r}")
    numbers = {name: examples.labels for name, examples in splits.items()}
    if not all(isinstance(labels, Tensor) and labels.ndim == 1 for labels in numbers.values()):
        return  # what follows is about one class an example
    found = {name: {int(label) for label in labels} for name, labels in numbers.items()}
    known = found["training"]
    if len(known) < 2:
        only = task.classes[next(iter(known))]
        raise CourseError(
            f"the training split of {task.name!r} has only one class, {only!r}: a classifier "
            "needs at least two; add examples of another class"
        )
    for name, labels in found.items():
        if unknown := sorted(labels - known):
            names = ", ".join(repr(task.classes[i]) for i in unknown)
            raise CourseError(
                f"the {name} split of {task.name!r} has classes that training lacks: {names}; "
                "add training examples of them or remove them"
            )


def check_labels(examples: Examples, classes: Sequence[str], where: str) -> None:
    """Raise `CourseError` for a label that is no class, or no place in its text."""
    labels = examples.labels
    if isinstance(labels, Tensor) and labels.ndim == 2:
        if isinstance(examples.inputs, TokenizedTexts):
            wrong = (labels >= examples.inputs.lengths[:, None]) | (labels < 0)
            wrong &= labels != IGNORED
            for i, place in wrong.nonzero().tolist()[:1]:
                raise CourseError(
                    f"{where}: example {i} has the label {int(labels[i, place])}, but its text has "
                    f"{int(examples.inputs.lengths[i])} tokens, which are numbered from 0"
                )
        return
    if isinstance(labels, TokenizedTexts):
        values = labels.ids[labels.ids != IGNORED]
        if len(values) == 0:
            raise CourseError(f"{where}: no token has a label that counts")
    else:
        values = labels
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= len(classes):
        raise CourseError(
            f"{where} has the label {low if low < 0 else high}, but labels number the "
            f"{len(classes)} classes from 0 to {len(classes) - 1}"
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


def causal_labels(
    texts: TokenizedTexts, prompt_lengths: Sequence[int] | None = None
) -> TokenizedTexts:
    """Labels of a language model: at each token, the id of the next one.

    Args:
        texts: the inputs.
        prompt_lengths: tokens at each text's beginning that the model is given and need not learn
            to write, as in instruction tuning; None: it learns all.

    Returns:
        One label a token; the last token of a text, and those before a token of the prompt, have
        the label `IGNORED`.
    """
    if prompt_lengths is not None and len(prompt_lengths) != len(texts):
        raise CourseError(
            f"{len(texts)} texts but {len(prompt_lengths)} prompt lengths: each text needs one"
        )
    labels = texts.ids.roll(-1)
    labels[texts.offsets[1:] - 1] = IGNORED
    if prompt_lengths is not None:
        places = torch.arange(len(labels)) - texts.offsets[:-1].repeat_interleave(texts.lengths)
        given = torch.as_tensor(prompt_lengths).repeat_interleave(texts.lengths)
        labels[places + 1 < given] = IGNORED
    return TokenizedTexts(labels, texts.offsets)
