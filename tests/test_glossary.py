"""The glossary knows every word that a lesson defines, and each entry has its lesson."""

import re

import pytest

from course_utils.glossary import TERMS, as_markdown, find_term, linked, words_of_lesson
from course_utils.notebooks import lessons


def source(lesson) -> str:
    return lesson.source.read_text(encoding="utf-8")


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.number)
def test_every_word_that_a_lesson_defines_is_in_the_glossary(lesson):
    words = words_of_lesson(source(lesson))
    assert len(words) >= 3, "the opening of a lesson defines its words"
    assert [word for word in words if find_term(word) is None] == []


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
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


def test_a_defined_word_leads_to_its_entry_and_other_words_are_left_alone():
    text = "*learning\nrate* – how far; *flux* – unknown; **head** – bold; *token* without a dash"
    assert linked(text, "g.md") == text.replace(
        "*learning\nrate*", "[*learning\nrate*](g.md#learning-rate)"
    )


def test_every_link_to_the_page_of_terms_meets_a_heading_as_hosts_number_them():
    headings = re.findall(r"^## (.*)$", as_markdown(), re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in headings}
    assert {term.anchor for term in TERMS} == slugs
