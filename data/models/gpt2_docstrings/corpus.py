"""The text that the small GPT-2 is pre-trained on: English sentences from docstrings.

Reads every `*.py` file of the running Python's standard library and installed packages, and keeps
the paragraphs of their docstrings that read as prose (course_utils/docstrings.py), each once.

    python data/models/gpt2_docstrings/corpus.py        # how much there is, a few samples
"""

import random
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from course_utils.docstrings import docstrings, prose

# Packages whose docstrings the model never sees: perplexity is measured on them.
HELD_OUT = ("networkx", "tornado", "oauthlib", "PIL", "babel", "websockets")
# The course's own packages and tools that only some environments have would make the corpus differ.
LEFT_OUT = ("course_utils", "pip", "setuptools")


def documents() -> list[tuple[str, str]]:
    """(package, text) of every docstring that has prose; paragraphs are separated by a newline."""
    files = [
        (path, path.relative_to(root).parts[0].removesuffix(".py") if site else "stdlib")
        for root, site in _roots()
        for path in sorted(root.rglob("*.py"))
        if site or "site-packages" not in path.parts
    ]
    files = [(path, package) for path, package in files if package not in LEFT_OUT]
    seen: set[str] = set()
    found = []
    with ProcessPoolExecutor() as pool:
        texts_of = pool.map(docstrings, [path for path, _ in files], chunksize=64)
        for (_, package), texts in zip(files, texts_of, strict=True):
            for text in texts:
                new = [each for each in prose(text) if _once(each, seen)]
                if new:
                    found.append((package, "\n".join(new)))
    return found


def _roots() -> Iterator[tuple[Path, bool]]:
    yield Path(sysconfig.get_paths()["stdlib"]), False
    yield Path(sysconfig.get_paths()["purelib"]), True


def _once(paragraph: str, seen: set[str]) -> bool:
    """True the first time that these letters come."""
    letters = re.sub(r"[^a-z]", "", paragraph.lower())
    new = letters not in seen
    seen.add(letters)
    return new


def main() -> None:
    found = documents()
    sizes = Counter()
    for package, text in found:
        sizes[package] += len(text)
    print(f"{len(found)} docstrings, {sum(sizes.values()) / 1e6:.1f} million characters")
    print(", ".join(f"{name} {size}" for name, size in sizes.most_common(30)))
    print(f"held out: {sum(sizes[name] for name in HELD_OUT) / 1e6:.2f} million characters")
    for package, text in random.Random(0).sample(found, 20):
        print(f"\n[{package}] {text}")


if __name__ == "__main__":
    main()
