"""From characters to tokens and back; windows, spans, names and their scores (reading.py)."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.data import IGNORED
from course_utils.errors import CourseError
from course_utils.models import load_text_model
from course_utils.reading import (
    Message,
    Question,
    best_answer,
    entities,
    entity_scores,
    exact_match,
    from_words,
    load_messages,
    load_questions,
    normalized,
    overlap_f1,
    span_examples,
    tag_names,
    tagged,
    windows,
)

quick = settings(deadline=None, max_examples=40)
LABELS = ("DATE", "PLACE")
TAGS = tag_names(LABELS)
passages = st.lists(
    st.sampled_from("the kettle boils in 20 minutes, unless 3.5 litres are too much! (see below)"
                    .split()), min_size=4, max_size=60,
).map(" ".join)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return load_text_model("minilm", 2).tokenizer


# --- texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("split, questions, messages", [
    ("train", 1080, 720), ("valid", 264, 181), ("test", 456, 299),
])  # fmt: skip
def test_the_embedded_texts_are_whole(split, questions, messages):
    found = load_questions("manuals", split)
    assert len(found) == questions and any(q.start < 0 for q in found)
    assert all(q.passage[q.start : q.end] == q.answer for q in found if q.start >= 0)
    named = load_messages("entities", split)
    assert len(named) == messages
    assert all(0 <= a < b <= len(m.text) for m in named for a, b, _ in m.entities)


@pytest.mark.mirror
def test_public_texts_are_divided_by_article(mirror, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(mirror))
    parts = [load_questions("xquad", split) for split in ("train", "valid", "test")]
    seen = [{q.passage for q in part} for part in parts]
    assert [len(each) for each in seen] == [160, 30, 50]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert sum(q.start >= 0 for part in parts for q in part) == 1190
    assert all(q.passage[q.start : q.end] == q.answer for p in parts for q in p if q.start >= 0)
    counts = [sum(len(m.entities) for m in load_messages("wnut17", split))
              for split in ("train", "valid", "test")]  # fmt: skip
    assert counts == [1975, 836, 1079]  # as published


@pytest.mark.parametrize("load, arguments, message", [
    (load_questions, ("manuals", "exam"), "no split 'exam'; there are train, valid, test"),
    (load_questions, ("squad", "test"), "no source 'squad'; there are manuals, xquad"),
    (load_messages, ("conll", "test"), "no source 'conll'; there are entities, wnut17"),
])  # fmt: skip
def test_unknown_texts_are_named(load, arguments, message):
    with pytest.raises(CourseError, match=message):
        load(*arguments)


def test_a_message_is_made_of_words():
    words, tags = ["In", "New", "York", "on", "May", "2"], ["O", "B-PLACE", "I-PLACE", "O",
                                                            "B-DATE", "I-DATE"]  # fmt: skip
    message = from_words(words, tags)
    assert [message.text[a:b] for a, b, _ in message.entities] == ["New York", "May 2"]


# --- windows --------------------------------------------------------------------------------


@quick
@given(passages, st.integers(14, 40), st.data())
def test_every_token_is_read_and_every_short_answer_is_whole_somewhere(passage, size, data):
    tokenizer = load_once()
    asked = "how long?"
    room = size - len(tokenizer.tokenize(asked)) - 3
    stride = data.draw(st.integers(1, room))
    cut = windows(tokenizer, asked, passage, size, stride)
    assert all(len(window.ids) <= size for window in cut)
    assert all(len(window.ids) == len(window.places) for window in cut)
    read = [place for window in cut for place in window.places if place]
    spans = tokenizer(passage, add_special_tokens=False, return_offsets_mapping=True)
    assert sorted(set(read)) == [tuple(place) for place in spans["offset_mapping"]]
    words = [m.span() for m in re.finditer(r"\S+", passage)]
    start, end = data.draw(st.sampled_from(words))
    tokens = sum(start < b and a < end for a, b in spans["offset_mapping"])
    labels = [window.label(start, end) for window in cut]
    for window, (first, last) in zip(cut, labels, strict=True):
        if first:
            assert passage[window.places[first][0] : window.places[last][1]] == passage[start:end]
    if tokens <= room - stride + 1:
        assert any(first for first, _ in labels)


def load_once(cache=[]):  # noqa: B006  (one tokenizer for all examples of a property)
    if not cache:
        cache.append(load_text_model("minilm", 2).tokenizer)
    return cache[0]


def test_without_an_answer_the_label_is_the_first_place(tokenizer):
    cut = windows(tokenizer, "why?", "Because it rains all day long in the hills.", 12, 4)
    assert [window.label(-1, -1) for window in cut] == [(0, 0)] * len(cut)
    assert len(cut) > 1 and cut[0].ids[0] == tokenizer.cls_token_id
    examples = span_examples(cut, [window.label(8, 10) for window in cut])
    assert examples.labels.shape == (len(cut), 2)


@pytest.mark.parametrize("size, stride, message", [
    (5, 1, "has no room beside a question of"), (20, 0, "stride is 0"), (20, 19, "stride is 19"),
])  # fmt: skip
def test_windows_that_cannot_be_are_refused(tokenizer, size, stride, message):
    with pytest.raises(CourseError, match=message):
        windows(tokenizer, "how long does it take?", "A minute or two.", size, stride)


def test_the_best_answer_of_all_windows_is_found(tokenizer):
    passage = "Boil the water for ten minutes and wait."
    cut = windows(tokenizer, "how long?", passage, 12, 3)
    start = passage.index("ten")
    logits = torch.zeros(len(cut), 2, 12)
    logits[:, :, 0] = 1.0  # "not here"
    holding = [i for i, window in enumerate(cut) if window.label(start, start + 11)[0]]
    first, last = cut[holding[-1]].label(start, start + 11)
    logits[holding[-1], 0, first], logits[holding[-1], 1, last] = 5.0, 4.0
    answer = best_answer(passage, cut, logits)
    assert (answer.text, answer.margin) == ("ten minutes", 5.0 + 4.0 - 2.0)
    logits[0, 1, 1] = 50.0  # a token of the question, and one before the beginning, do not count
    logits[holding[-1], 1, first - 1] = 50.0
    assert best_answer(passage, cut, logits).text in ("ten minutes",) or first - 1 > 4
    assert len(best_answer(passage, cut, logits, max_tokens=1).text.split()) == 1


# --- scores of answers ----------------------------------------------------------------------


@pytest.mark.parametrize("truth, answer, exact, f1", [
    ("40", "about 40 cups", 0, 0.5),
    ("the lid", "Lid.", 1, 1),
    ("five days", "a week", 0, 0),
    ("a b b c", "b b d", 0, 2 * 2 / 6),  # "a" is an article; b counts twice
    ("", "", 1, 1),
    ("", "something", 0, 0),
    ("something", "", 0, 0),
    ("The", "", 1, 1),
])  # fmt: skip
def test_answers_are_scored_as_in_squad(truth, answer, exact, f1):
    assert exact_match(truth, answer) == exact
    assert overlap_f1(truth, answer) == pytest.approx(f1)
    assert overlap_f1(answer, truth) == pytest.approx(f1)


@quick
@given(st.text("abc .A!", max_size=20), st.text("abc .A!", max_size=20))
def test_f1_lies_between_exact_match_and_one(truth, answer):
    assert exact_match(truth, answer) <= overlap_f1(truth, answer) <= 1
    assert overlap_f1(truth, truth) == 1
    assert normalized(" ".join(normalized(truth))) == normalized(truth)


# --- names ----------------------------------------------------------------------------------


def test_tags_begin_and_go_on():
    assert TAGS == ("O", "B-DATE", "I-DATE", "B-PLACE", "I-PLACE")


@pytest.mark.parametrize("tags, expected", [
    (["O", "B-DATE", "I-DATE", "B-DATE"], {(2, 5, "DATE"), (6, 7, "DATE")}),
    (["B-DATE", "I-PLACE", "O", "I-DATE"],
     {(0, 1, "DATE"), (2, 3, "PLACE"), (6, 7, "DATE")}),
    (["O", "O", "O", "O"], set()),
])  # fmt: skip
def test_tags_spell_names(tags, expected):
    assert entities(tags, [(0, 1), (2, 3), (4, 5), (6, 7)]) == expected


@quick
@given(st.lists(st.tuples(st.sampled_from(["kettle", "unhappiness", "Zyx", "20", "o'clock"]),
                          st.sampled_from([None, "DATE", "PLACE"]), st.integers(1, 3)),
                min_size=1, max_size=8))  # fmt: skip
def test_names_come_back_from_their_tags(pieces):
    text, spans = "", []
    for word, label, times in pieces:
        piece = " ".join([word] * times)
        if label:
            spans.append((len(text), len(text) + len(piece), label))
        text += piece + " and "
    message = Message(text, tuple(spans))
    examples = tagged([message], load_once(), TAGS)
    counted = [TAGS[i] for i in examples.labels.ids.tolist() if i != IGNORED]
    assert len(counted) == len(examples.columns["places"][0])
    assert entities(counted, examples.columns["places"][0]) == set(spans)


def test_only_the_first_token_of_a_word_counts(tokenizer):
    examples = tagged([Message("unhappiness today", ((12, 17, "DATE"),))], tokenizer, TAGS)
    tokens = tokenizer.convert_ids_to_tokens(examples.inputs.ids.tolist())
    labels = examples.labels.ids.tolist()
    assert len(tokens) > 4  # the first word is several tokens
    assert labels[0] == labels[-1] == IGNORED
    for token, label in zip(tokens, labels, strict=True):
        assert (label == IGNORED) == (token.startswith("##") or token in ("[CLS]", "[SEP]"))
    assert [TAGS[i] for i in labels if i != IGNORED] == ["O", "B-DATE"]


def test_all_embedded_names_survive_the_way_to_tokens_and_back(tokenizer):
    messages = load_messages("entities", "test")
    labels = sorted({label for m in messages for *_, label in m.entities})
    tags = tag_names(labels)
    examples = tagged(messages, tokenizer, tags)
    spelled = [
        entities([tags[i] for i in row.tolist() if i != IGNORED], places)
        for row, places in zip(examples.labels, examples.columns["places"], strict=True)
    ]
    assert spelled == [set(message.entities) for message in messages]


def test_names_are_scored_over_all_messages():
    truth = [{(0, 3, "DATE"), (5, 8, "PLACE")}, {(1, 2, "DATE")}, set()]
    found = [{(0, 3, "DATE"), (5, 8, "DATE")}, set(), {(0, 1, "PLACE")}]
    scores = entity_scores(truth, found)
    assert (scores.precision, scores.recall) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert scores.f1 == pytest.approx(1 / 3)
    nothing = entity_scores(truth, [set(), set(), set()])
    assert (nothing.precision, nothing.recall, nothing.f1) == (0, 0, 0)
    perfect = entity_scores(truth, truth)
    assert math.isclose(perfect.f1, 1.0)


def test_a_question_knows_where_its_answer_ends():
    assert Question("where?", "in the lid", "lid", 7).end == 10
