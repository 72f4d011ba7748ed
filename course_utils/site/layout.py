"""The frame of every page: navigation, search, light and dark, and what a keyboard needs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from nbconvert.filters import markdown2html

from course_utils.notebooks import repository

TITLE = "Fine-tuning, measured"


@dataclass
class Page:
    """One page of the site."""

    name: str
    """Of the file, without .html."""
    title: str
    body: str
    """HTML that begins with its h1."""
    entries: list[dict] = field(default_factory=list)
    """For the search: title, url, text."""
    before: "Page | None" = None
    after: "Page | None" = None

    @property
    def url(self) -> str:
        return f"{self.name}.html"

    @property
    def is_lesson(self) -> bool:
        return self.name[:2].isdigit()


def entry(title: str, url: str, text: str) -> dict:
    """One thing that the search can find."""
    return {"title": title, "url": url, "text": " ".join(text.split())}


def write_page(folder: Path, page: Page, pages: Sequence[Page]) -> None:
    """Write a page with its frame."""
    lessons = "".join(_link(other, page) for other in pages if other.is_lesson)
    others = "".join(_link(other, page) for other in pages if not other.is_lesson)
    around = "".join(
        f'<a rel="{rel}" href="{other.url}">{word}: {escape(other.title)}</a>'
        for other, rel, word in ((page.before, "prev", "Before"), (page.after, "next", "Next"))
        if other is not None
    )
    neighbours = f'<nav class="around" aria-label="Lessons around">{around}</nav>' if around else ""
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(page.title)} · {TITLE}</title>
<link rel="stylesheet" href="style.css">
<script src="site.js" defer></script>
<script src="search-index.js" defer></script>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<a class="home" href="index.html">{TITLE}</a>
<form role="search" aria-label="The course">
<label for="query">Search</label>
<input id="query" type="search" autocomplete="off" placeholder="press / to search"
 aria-controls="results">
</form>
<button id="theme" type="button">Dark</button>
</header>
<section id="results" aria-label="Search results" aria-live="polite" hidden></section>
<div class="columns">
<nav class="menu" aria-label="Pages">
<details open><summary>Lessons</summary><ul>{lessons}</ul></details>
<details open><summary>Reference</summary><ul>{others}</ul></details>
</nav>
<main id="content" tabindex="-1">
{page.body}
{neighbours}
</main>
</div>
<footer>Made from executed notebooks of <a
 href="https://github.com/{repository()}">{repository()}</a>.</footer>
</body>
</html>
"""
    (folder / page.url).write_text(text, encoding="utf-8")


def _link(other: Page, here: Page) -> str:
    current = ' aria-current="page"' if other is here else ""
    return f'<li><a href="{other.url}"{current}>{escape(other.title)}</a></li>'


def inline(text: str) -> str:
    """Markdown of a line or a paragraph as HTML, without the paragraph's own tags."""
    return re.sub(r"^\s*<p>|</p>\s*$", "", markdown2html(text.strip()))


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are HTML; the first cell of a row is its head. It scrolls by itself."""
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return scrolling(
        f"<table><caption>{caption}</caption><thead><tr>{names}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def scrolling(html: str) -> str:
    """A region that scrolls sideways, by touch and by keyboard."""
    return f'<div class="scroll" tabindex="0" role="group" aria-label="A table">{html}</div>'
