"""Tests of the texts for reading as data: manuals, entities, dialogues."""

import csv
import json
import re
from collections import Counter, defaultdict
from itertools import combinations

import pytest

from course_utils import assets

SPLITS = ("train", "valid", "test")
LABELS = {"PERSON", "PLACE", "PRODUCT", "COMPANY", "DATE"}


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def runs_of_words(text: str, length: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def read_table(name: str) -> list[dict]:
    with open(assets.embedded(name), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def manuals() -> list[dict]:
    return json.loads(assets.embedded("manuals.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def entities() -> list[dict]:
    return [{**row, "spans": json.loads(row["entities"])} for row in read_table("entities.csv")]


@pytest.fixture(scope="module")
def dialogues() -> list[dict]:
    return read_table("dialogues.csv")


def assert_tidy(text: str, longest: int) -> None:
    assert text and text.isprintable() and text == text.strip(), repr(text)
    assert "  " not in text and len(text) <= longest, repr(text)


def is_inside_a_word(text: str, position: int) -> bool:
    """Whether cutting a text here would cut a word in two."""
    return 0 < position < len(text) and text[position - 1 : position + 1].isalnum()


def assert_different(texts: list[str]) -> None:
    normal = Counter(" ".join(words(text)) for text in texts)
    assert [text for text, count in normal.items() if count > 1] == []


def assert_no_run_in_two_splits(rows: list[dict], column: str, length: int) -> None:
    found = defaultdict(set)
    for row in rows:
        found[row["split"]] |= runs_of_words(row[column], length)
    assert set(found) == set(SPLITS) and all(len(runs) > 1000 for runs in found.values())
    for a, b in combinations(SPLITS, 2):
        assert found[a] & found[b] == set(), f"{a} and {b} share phrases"


def assert_shares(rows: list[dict], column: str, shares: tuple[float, ...]) -> None:
    """Each value of a column is divided as promised, give or take two rows and a percent."""
    kinds = Counter(row[column] for row in rows)
    found = Counter((row[column], row["split"]) for row in rows)
    for kind, size in kinds.items():
        for split, share in zip(SPLITS, shares, strict=True):
            off = found[kind, split] - share * size
            assert abs(off) <= 2 + 0.01 * size, f"{kind}, {split}: {found[kind, split]} of {size}"


# --- manuals --------------------------------------------------------------------------------


def test_the_manuals_have_the_promised_size(manuals):
    questions = [question for row in manuals for question in row["questions"]]
    unanswerable = sum(question["start"] < 0 for question in questions)
    assert len(manuals) >= 220 and len(questions) >= 1700
    assert 0.2 < unanswerable / len(questions) < 0.35
    assert set(Counter(row["kind"] for row in manuals)) == {"manual", "policy", "guide"}
    assert_shares(manuals, "kind", (0.6, 0.15, 0.25))


def test_every_passage_and_question_is_tidy(manuals):
    for row in manuals:
        assert set(row) == {"title", "kind", "passage", "split", "questions"}
        assert_tidy(row["title"], 80)
        assert_tidy(row["passage"], 1000)
        assert 6 <= len(row["questions"]) <= 10
        for question in row["questions"]:
            assert_tidy(question["question"], 120)
        assert_different([question["question"] for question in row["questions"]])


def test_every_answer_stands_where_it_says_and_only_there(manuals):
    for row in manuals:
        passage = row["passage"]
        for question in row["questions"]:
            answer, start = question["answer"], question["start"]
            if start == -1:
                assert answer == "", question
                continue
            assert passage[start : start + len(answer)] == answer, question
            assert passage.count(answer) == 1, f"{answer!r} is not the only one"


def test_answers_are_short_and_made_of_whole_words(manuals):
    for row in manuals:
        for question in row["questions"]:
            answer, start = question["answer"], question["start"]
            if not answer:
                continue
            assert_tidy(answer, 80)
            assert len(answer.split()) <= 10 and answer[-1] not in ".,;:", answer
            for position in (start, start + len(answer)):
                assert not is_inside_a_word(row["passage"], position), f"{answer!r} cuts a word"


def test_every_split_asks_what_cannot_be_answered(manuals):
    for split in SPLITS:
        asked = [q for row in manuals if row["split"] == split for q in row["questions"]]
        assert 0.2 < sum(q["start"] < 0 for q in asked) / len(asked) < 0.35, split
    for row in manuals:
        assert 2 <= sum(q["start"] < 0 for q in row["questions"]) <= 3, row["title"]


def test_no_passage_of_one_split_occurs_in_another(manuals):
    assert_different([row["passage"] for row in manuals])
    assert_different([row["title"] for row in manuals])
    assert_no_run_in_two_splits(manuals, "passage", 5)


# --- entities -------------------------------------------------------------------------------


def mentions(rows: list[dict], *splits: str) -> list[tuple[str, str]]:
    """(label, string in small letters) of each entity in some splits."""
    return [
        (label, row["text"][start:end].lower())
        for row in rows
        if row["split"] in splits
        for start, end, label in row["spans"]
    ]


def test_the_entities_have_the_promised_size(entities):
    labels = Counter(label for label, _ in mentions(entities, *SPLITS))
    assert len(entities) >= 1100 and set(labels) == LABELS and min(labels.values()) >= 400
    assert sum(not row["spans"] for row in entities) >= 100, "some texts have nothing to find"
    assert len({row["style"] for row in entities}) >= 6
    assert_shares(entities, "style", (0.6, 0.15, 0.25))


def test_every_entity_text_is_tidy(entities):
    for row in entities:
        assert_tidy(row["text"], 250)
        assert not re.search(r"[\[\]]", row["text"]), f"a mark was left: {row['text']}"
    assert_different([row["text"] for row in entities])


def test_spans_have_known_labels_and_do_not_overlap(entities):
    for row in entities:
        done = 0
        for start, end, label in row["spans"]:
            assert label in LABELS
            assert done <= start < end <= len(row["text"]), f"{row['spans']} in {row['text']!r}"
            done = end


def test_spans_are_whole_words(entities):
    for row in entities:
        for start, end, _ in row["spans"]:
            text = row["text"]
            assert_tidy(text[start:end], 50)
            assert not is_inside_a_word(text, start), f"{text[start:end]!r} in {text!r}"
            # "Phillipas leg": who makes typos forgets apostrophes.
            after = text[end : end + 2]
            ends = not is_inside_a_word(text, end) or (row["style"] == "typos" and after == "s ")
            assert ends, f"{text[start:end]!r} in {text!r}"


def test_no_phrase_with_entities_occurs_in_two_splits(entities):
    assert_no_run_in_two_splits(entities, "text", 5)


@pytest.mark.parametrize("label", ["PERSON", "PRODUCT", "COMPANY"])
def test_at_least_half_of_the_names_in_test_are_new(entities, label):
    known = set(mentions(entities, "train"))
    names = {found for found in mentions(entities, "test") if found[0] == label}
    assert len(names) >= 50
    assert len(names - known) >= 0.5 * len(names)


def test_one_string_can_be_several_things(entities):
    labels = defaultdict(set)
    for label, name in mentions(entities, *SPLITS):
        labels[name].add(label)
    assert sum(len(found) > 1 for found in labels.values()) >= 50, "context must decide"


# --- dialogues ------------------------------------------------------------------------------


def test_the_dialogues_have_the_promised_size(dialogues):
    topics = Counter(row["topic"] for row in dialogues)
    assert len(dialogues) >= 1000 and len(topics) >= 15 and min(topics.values()) >= 60
    assert set(dialogues[0]) == {"topic", "customer", "agent", "split"}
    assert_shares(dialogues, "topic", (0.8, 0.1, 0.1))


def test_every_dialogue_is_tidy(dialogues):
    for row in dialogues:
        assert_tidy(row["customer"], 200)
        assert_tidy(row["agent"], 300)
        assert 20 <= len(row["agent"].split()) <= 60, row["agent"]


def test_no_customer_and_no_answer_occurs_twice(dialogues):
    assert_different([row["customer"] for row in dialogues])
    assert_different([row["agent"] for row in dialogues])


def test_no_phrase_of_a_customer_occurs_in_two_splits(dialogues):
    assert_no_run_in_two_splits(dialogues, "customer", 5)


def test_no_long_phrase_of_the_agent_occurs_in_two_splits(dialogues):
    # Shorter ones do: "I am sorry that the" is the voice that a model is to learn.
    assert_no_run_in_two_splits(dialogues, "agent", 8)
