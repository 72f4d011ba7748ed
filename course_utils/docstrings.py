"""English sentences from the docstrings of installed packages: text that every learner already has.

The small language model was pre-trained on them (`data/models/gpt2_docstrings`), and is measured on
packages that it never saw. Files are read and parsed; nothing is imported or executed.
"""

import ast
import importlib.util
import random
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from course_utils.errors import CourseError

CODE = (">>>", ".. ", "```", "|", "---", "===", "://", "{", "}", "\\")  # none of these in prose
PLAIN_WORD = re.compile(r"[\"'(]*[A-Za-z][a-z]*(?:['-][a-z]+)*[\"')]*[.,;:!?]*[\"')]*")
# "x (int): How many." says "How many."
FIELD = re.compile(r"^(- |\* |\d+[.)] |[\w*]+ ?(\([^)]*\))?: )")
ROLE = re.compile(r":[a-z:]+:`~?\.?([^`<]*?)(?: <[^>]*>)?`")
MIN_WORDS, MIN_PLAIN = 8, 0.85


def docstrings(path: Path) -> list[str]:
    """The docstrings of a file's module, classes and functions; none if it is not valid Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in other people's strings
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):  # templates, tests of broken files
        return []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for node in ast.walk(tree) if isinstance(node, documented))
    return [text for node in nodes if (text := ast.get_docstring(node))]


def prose(docstring: str) -> list[str]:
    """The paragraphs that are English sentences, each on one line, without markup."""
    kept = []
    for block in blocks(docstring):
        text = ROLE.sub(r"\1", " ".join(block.split()))
        text = text.replace("`", "").replace("*", "").replace("\u2019", "'").replace("::", ":")
        text = FIELD.sub("", text)
        words = text.split()
        if (
            len(words) >= MIN_WORDS
            and text.isascii()
            and not any(mark in text for mark in CODE)
            and re.match(r"[A-Z\"'(]", text)
            and re.search(r"[.!?:]['\")]?$", text)
            and sum(bool(PLAIN_WORD.fullmatch(word)) for word in words) >= MIN_PLAIN * len(words)
        ):
            kept.append(text)
    return kept


def blocks(docstring: str) -> Iterator[str]:
    """Lines that follow each other at the same indentation."""
    lines: list[str] = []
    for line in [*docstring.splitlines(), ""]:
        if lines and (not line.strip() or _indent(line) != _indent(lines[0])):
            yield "\n".join(lines)
            lines = []
        if line.strip():
            lines.append(line)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def package_texts(package: str, count: int, seed: int = 0, min_words: int = 20) -> list[str]:
    """Prose of so many docstrings of an installed package, drawn at random.

    Args:
        package: its name, such as "networkx", which torch brings along.
        count: how many docstrings; each has at least `min_words` words, none comes twice.

    Raises:
        CourseError: the package is not installed, or has too few.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise CourseError(f"the package {package!r} is not installed: pip install {package}")
    files = sorted(Path(spec.origin).parent.rglob("*.py"))
    draw = random.Random(seed)
    draw.shuffle(files)
    texts: dict[str, None] = {}
    for path in files:
        for docstring in docstrings(path):
            text = "\n".join(prose(docstring))
            if len(text.split()) >= min_words:
                texts.setdefault(text)
        if len(texts) >= 3 * count:  # from more files than needed: not all from the same
            break
    if len(texts) < count:
        raise CourseError(
            f"{package!r} has {len(texts)} docstrings of {min_words} words or more, {count} were "
            "asked for; ask for fewer"
        )
    return draw.sample(list(texts), count)
