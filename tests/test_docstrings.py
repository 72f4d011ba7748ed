"""English from docstrings (course_utils/docstrings.py)."""

import pytest

from course_utils.docstrings import docstrings, package_texts, prose
from course_utils.errors import CourseError

SOURCE = '''
"""A module that adds two numbers and says what it did."""


class Adder:
    """Adds."""

    def add(self, a, b):
        """Return the sum of the two numbers that it was given.

        Args:
            a (int): The first of the two numbers that are added.
            b: The second one.

        >>> Adder().add(1, 2)
        3
        """
        "not a docstring, although it is a string of some words."
'''


def test_docstrings_of_modules_classes_and_functions_are_found(tmp_path):
    file = tmp_path / "adder.py"
    file.write_text(SOURCE, encoding="utf-8")
    found = docstrings(file)
    assert len(found) == 3 and found[1] == "Adds."


@pytest.mark.parametrize("content", [b"def broken(:\n", b"\xff\xfe\x00", b"x = 'null \x00'"])
def test_what_is_no_python_has_none(tmp_path, content):
    file = tmp_path / "broken.py"
    file.write_bytes(content)
    assert docstrings(file) == []


@pytest.mark.parametrize("docstring, kept", [
    ("Return the sum of the two numbers that it was given.",
     ["Return the sum of the two numbers that it was given."]),
    ("Too short.", []),
    ("it begins with a small letter and is left out of it.", []),
    ("It ends without a full stop and so it is left out", []),
    (">>> It shows some code and therefore it is not kept here.", []),
    ("The value of `x` is *never* changed by this function here.",
     ["The value of x is never changed by this function here."]),
    ("Calls :func:`~package.run` on every file that has been found.",
     ["Calls package.run on every file that has been found."]),
    ("number (int): How many of the files are to be read at most.",
     ["How many of the files are to be read at most."]),
    ("A first sentence of no less than eight plain words.\n\nA second one that is also long "
     "enough to stay.",
     ["A first sentence of no less than eight plain words.",
      "A second one that is also long enough to stay."]),
    ("x1 y2 z3 w4 v5 u6 t7 s8 r9 q0.", []),
])  # fmt: skip
def test_prose_is_what_reads_as_sentences(docstring, kept):
    assert prose(docstring) == kept


def test_texts_of_a_package_are_drawn_by_the_seed():
    one, same, other = (package_texts("networkx", 12, seed=seed) for seed in (0, 0, 1))
    assert one == same != other
    assert len(set(one)) == 12 and all(len(text.split()) >= 20 for text in one)


def test_a_package_that_is_not_there_or_too_small_is_named():
    with pytest.raises(CourseError, match="'no_such_package' is not installed"):
        package_texts("no_such_package", 3)
    with pytest.raises(CourseError, match="were asked for; ask for fewer"):
        package_texts("course_utils.surface", 10_000)
