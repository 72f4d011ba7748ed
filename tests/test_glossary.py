"""The glossary knows every word that a lesson defines, and each entry has its lesson."""

import re

import pytest

from course_utils.glossary import TERMS, find_term, terms, words_of_lesson
from course_utils.notebooks import lessons


def source(lesson) -> str:
    return lesson.source.read_text(encoding="utf-8")


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.number)
def test_every_word_that_a_lesson_defines_is_in_the_glossary(lesson):
    words = words_of_lesson(source(lesson))
    assert len(words) >= 3, "the opening of a lesson defines its words"
    assert [word for word in words if find_term(word) is None] == []


@pytest.mark.parametrize("term", terms(), ids=lambda term: term.name)
def test_a_term_occurs_in_its_lesson_and_says_two_different_things(term):
    lesson = next(one for one in lessons() if one.number == term.lesson)
    stem = term.name.casefold().rstrip("s")
    text = re.sub(r"\s+(#\s+)?", " ", source(lesson)).casefold()
    assert stem in text or stem.replace("-", " ") in text or stem.replace("-", "") in text
    assert term.plain != term.technical and term.plain.endswith((".", ")"))


def test_terms_are_in_order_and_told_apart():
    names = [term.name.casefold() for term in TERMS]
    assert names == sorted(names), "keep the list in alphabetical order"
    anchors = [term.anchor for term in TERMS]
    assert len(set(anchors)) == len(anchors) and all(anchors)
    assert find_term("LEARNING rate") is not None and find_term("flux capacitor") is None
