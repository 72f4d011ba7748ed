"""Pointing at places in texts: from characters to tokens and back, and how well it went.

For questions whose answer is a piece of a passage (SQuAD; Rajpurkar et al., 2016 and 2018) and for
names in messages (CoNLL-2003; Tjong Kim Sang and De Meulder, 2003). Long passages are read through
windows that overlap.
"""

import csv
import json
import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor

from course_utils import assets
from course_utils.data import IGNORED, Examples, TokenizedTexts
from course_utils.errors import CourseError
from course_utils.tasks import download_errors

Span: TypeAlias = tuple[int, int, str]  # first character, the one behind the last, label
OUTSIDE = "O"


# --- texts ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A question about a passage; `start` is the answer's first character, -1 if there is none."""

    text: str
    passage: str
    answer: str = ""
    start: int = -1

    @property
    def end(self) -> int:
        """The character behind the answer."""
        return self.start + len(self.answer)


@dataclass(frozen=True)
class Message:
    """A text in which names are marked."""

    text: str
    entities: tuple[Span, ...] = ()


SPLITS = ("train", "valid", "test")
REMEDY = "copy the dataset again, or unset COURSE_DATA_MIRROR to download it"


def load_questions(source: str, split: str) -> list[Question]:
    """Questions about passages.

    Args:
        source: "manuals" (embedded), or "xquad": the English questions of XQuAD (Artetxe et al.,
            2020), a test set of 48 articles that we divide by article, 32, 6 and 10. All of them
            can be answered; so every third one is also asked about another article's passage.
        split: "train", "valid" or "test".

    Raises:
        AssetError: the file is missing or damaged, or there is no network.
    """
    _check(source, ("manuals", "xquad"), split)
    if source == "xquad":
        return _xquad(split)
    passages = json.loads(assets.embedded("manuals.json").read_text(encoding="utf-8"))
    return [
        Question(question["question"], passage["passage"], question["answer"], question["start"])
        for passage in passages
        if passage["split"] == split
        for question in passage["questions"]
    ]


def _xquad(split: str) -> list[Question]:
    mirror = assets.data_mirror()
    if mirror is None:
        with download_errors("xquad"):
            import datasets

            rows = datasets.load_dataset("google/xquad", "xquad.en")["validation"]
            asked = [
                (row["context"], row["question"], row["answers"]["text"][0],
                 row["answers"]["answer_start"][0])
                for row in rows
            ]  # fmt: skip
    else:
        folder = mirror / "xquad"
        path = assets.verified(folder, "xquad.en.json", folder / "MANIFEST.sha256", REMEDY)
        asked = [
            (paragraph["context"], question["question"], question["answers"][0]["text"],
             question["answers"][0]["answer_start"])
            for article in json.loads(path.read_text(encoding="utf-8"))["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]  # fmt: skip
    passages = list(dict.fromkeys(passage for passage, *_ in asked))  # five an article, in order
    first, last = {"train": (0, 32), "valid": (32, 38), "test": (38, 48)}[split]
    own = passages[5 * first : 5 * last]
    mine = set(own)
    chosen = [Question(text, passage, answer, start)
              for passage, text, answer, start in asked if passage in mine]  # fmt: skip
    elsewhere = {passage: own[(i + 5) % len(own)] for i, passage in enumerate(own)}
    return chosen + [Question(q.text, elsewhere[q.passage]) for q in chosen[::3]]


def load_messages(source: str, split: str) -> list[Message]:
    """Messages with marked names.

    Args:
        source: "entities" (embedded), or "wnut17": names that are new or rare (Derczynski et al.,
            2017).
        split: "train", "valid" or "test".

    Raises:
        AssetError: the file is missing or damaged, or there is no network.
    """
    _check(source, ("entities", "wnut17"), split)
    if source == "wnut17":
        return _wnut17(split)
    with open(assets.embedded("entities.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Message(row["text"], tuple((a, b, label) for a, b, label in json.loads(row["entities"])))
        for row in rows
        if row["split"] == split
    ]


def _wnut17(split: str) -> list[Message]:
    name = {"train": "train", "valid": "dev", "test": "test"}[split]
    mirror = assets.data_mirror()
    if mirror is None:
        with download_errors("wnut17"):
            import datasets

            rows = datasets.load_dataset("leondz/wnut_17")[name.replace("dev", "validation")]
            tags = rows.features["ner_tags"].feature.names
            return [
                from_words(row["tokens"], [tags[i] for i in row["ner_tags"]]) for row in rows
            ]  # fmt: skip
    folder = mirror / "wnut17"
    path = assets.verified(folder, f"{name}.conll", folder / "MANIFEST.sha256", REMEDY)
    blocks = re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip())
    rows = [[line.split("\t") for line in block.splitlines()] for block in blocks]
    return [from_words([word for word, _ in row], [tag for _, tag in row]) for row in rows]


def from_words(words: Sequence[str], tags: Sequence[str]) -> Message:
    """A message of words with a tag each, joined by spaces."""
    ends = list(accumulate(len(word) + 1 for word in words))
    places = [(end - 1 - len(word), end - 1) for word, end in zip(words, ends, strict=True)]
    return Message(" ".join(words), tuple(sorted(entities(tags, places))))


def _check(source: str, sources: Sequence[str], split: str) -> None:
    for what, value, known in (("source", source, sources), ("split", split, SPLITS)):
        if value not in known:
            raise CourseError(f"there is no {what} {value!r}; there are {', '.join(known)}")


# --- questions ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """`[CLS] question [SEP] piece of the passage [SEP]`.

    Attributes:
        ids: the tokens.
        places: for each token of the passage its first character and the one behind its last one;
            None for all other tokens.
    """

    ids: list[int]
    places: list[tuple[int, int] | None]

    def label(self, start: int, end: int) -> tuple[int, int]:
        """The first and the last token of these characters; (0, 0) if they are not all here."""
        inside = [i for i, p in enumerate(self.places) if p and p[0] < end and p[1] > start]
        if start < 0 or not inside:
            return 0, 0
        first, last = self.places[inside[0]], self.places[inside[-1]]
        assert first is not None and last is not None
        return (inside[0], inside[-1]) if first[0] <= start and last[1] >= end else (0, 0)


def windows(tokenizer, question: str, passage: str, size: int, stride: int) -> list[Window]:
    """Cut a passage into pieces that overlap, each behind the question.

    Args:
        tokenizer: a fast one of transformers, with a token for the beginning and one between parts.
        size: tokens of a window, question and all.
        stride: tokens by which each window begins later than the one before; a piece of up to
            (tokens of the passage in a window - stride) is whole in at least one of them.

    Raises:
        CourseError: the question leaves no room, or the stride would jump over tokens.
    """
    asked = tokenizer(question, add_special_tokens=False)["input_ids"]
    read = tokenizer(
        passage, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )  # fmt: skip  (it is long on purpose)
    room = size - len(asked) - 3
    if room < 1:
        raise CourseError(
            f"a window of {size} tokens has no room beside a question of {len(asked)}: take a "
            f"larger size, at least {len(asked) + 4}"
        )
    if not 1 <= stride <= room:
        raise CourseError(
            f"stride is {stride}; with {room} tokens of the passage in a window it must be from 1 "
            f"to {room}, or tokens between two windows would never be read"
        )
    ids, places = read["input_ids"], [tuple(place) for place in read["offset_mapping"]]
    count = max(math.ceil((len(ids) - room) / stride), 0) + 1
    head: list[int] = [tokenizer.cls_token_id, *asked, tokenizer.sep_token_id]
    return [
        Window(
            [*head, *ids[start : start + room], tokenizer.sep_token_id],
            [*[None] * len(head), *places[start : start + room], None],
        )
        for start in range(0, count * stride, stride)
    ]


def span_examples(found: Sequence[Window], labels: Sequence[tuple[int, int]]) -> Examples:
    """Windows and the places of their answers as examples for a `SpanFinder`."""
    texts = TokenizedTexts.from_lists([window.ids for window in found])
    return Examples(texts, torch.tensor(labels))


@dataclass(frozen=True)
class Answer:
    """What was found: a piece of the passage, and how much likelier it is than "no answer"."""

    text: str
    margin: float


def best_answer(
    passage: str, found: Sequence[Window], logits: Tensor, max_tokens: int = 12
) -> Answer:
    """The best piece in any window of one passage.

    Args:
        found: its windows.
        logits: of a `SpanFinder`, (windows, 2, places).
        max_tokens: longer answers are not considered.

    Returns:
        The piece with the highest sum of its first and its last token's logit, less that of "no
        answer" in the same window.
    """
    best = Answer("", -math.inf)
    for window, scores in zip(found, logits, strict=True):
        first, last = scores.tolist()
        none = first[0] + last[0]
        tokens = [i for i, place in enumerate(window.places) if place]
        for i in tokens:
            for j in tokens[i - tokens[0] : i - tokens[0] + max_tokens]:
                margin = first[i] + last[j] - none
                if margin > best.margin:
                    start, end = window.places[i], window.places[j]
                    assert start is not None and end is not None
                    best = Answer(passage[start[0] : end[1]], margin)
    return best


def normalized(text: str) -> list[str]:
    """The words that count when answers are compared, as SQuAD does it.

    Small letters, without punctuation and without "a", "an" and "the".
    """
    plain = "".join(char for char in text.lower() if char not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def exact_match(truth: str, answer: str) -> float:
    """1 if both have the same words in the same order, otherwise 0."""
    return float(normalized(truth) == normalized(answer))


def overlap_f1(truth: str, answer: str) -> float:
    """F1 of the words that both have; with an empty one, whether both are empty."""
    one, other = normalized(truth), normalized(answer)
    if not one or not other:
        return float(one == other)
    shared = sum((Counter(one) & Counter(other)).values())
    return 2 * shared / (len(one) + len(other))


# --- names ----------------------------------------------------------------------------------


def tag_names(labels: Sequence[str]) -> tuple[str, ...]:
    """ "O", and for each label "B-" (it begins) and "I-" (it goes on)."""
    return (OUTSIDE, *(f"{begin}-{label}" for label in labels for begin in "BI"))


def tagged(messages: Sequence[Message], tokenizer, tags: Sequence[str]) -> Examples:
    """Messages as examples for a `TextTagger`: each word's first token has the word's tag.

    Further tokens of a word, and those around the text, do not count. What a word is, the tokenizer
    decides. `columns["places"]` has for each message the characters of the tokens that count.
    """
    numbers = {tag: i for i, tag in enumerate(tags)}
    encoded = tokenizer([message.text for message in messages], return_offsets_mapping=True)
    ids, rows, places = encoded["input_ids"], [], []
    for i, message in enumerate(messages):
        words = encoded.word_ids(i)
        begins = [word is not None and word != before
                  for word, before in zip(words, [None, *words[:-1]], strict=True)]  # fmt: skip
        spans = [encoded.word_to_chars(i, word) if begin else None
                 for word, begin in zip(words, begins, strict=True)]  # fmt: skip
        rows.append([numbers[_tag(message, span)] if span else IGNORED for span in spans])
        places.append([(span.start, span.end) for span in spans if span])
    return Examples(
        TokenizedTexts.from_lists(ids), TokenizedTexts.from_lists(rows), {"places": places}
    )


def _tag(message: Message, word) -> str:
    for start, end, label in message.entities:
        if word.start < end and word.end > start:
            return f"{'B' if word.start <= start else 'I'}-{label}"
    return OUTSIDE


def entities(tags: Sequence[str], places: Sequence[tuple[int, int]]) -> set[Span]:
    """The names that a message's tags spell.

    A name begins at "B-", or at an "I-" that has nothing of its own label before it (as seqeval
    reads tags by default), and goes on as long as "I-" of the same label follows.
    """
    found: list[Span] = []
    open_label = ""
    for tag, (start, end) in zip(tags, places, strict=True):
        mark, _, label = tag.partition("-")
        if mark == "I" and label == open_label:
            found[-1] = (found[-1][0], end, label)
        elif mark in ("B", "I"):
            found.append((start, end, label))
        open_label = label if mark in ("B", "I") else ""
    return set(found)


@dataclass(frozen=True)
class Scores:
    """Shares from 0 to 1; each is 0 where it would be a division by zero."""

    precision: float
    recall: float
    f1: float


def entity_scores(truth: Sequence[set[Span]], found: Sequence[set[Span]]) -> Scores:
    """Over all messages: a name counts as found if its borders and its label are right."""
    hits = sum(len(a & b) for a, b in zip(truth, found, strict=True))
    there, named = (sum(map(len, sets)) for sets in (truth, found))
    return Scores(
        hits / named if named else 0.0,
        hits / there if there else 0.0,
        2 * hits / (there + named) if there + named else 0.0,
    )
