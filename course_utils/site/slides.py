"""Slides for a teacher's screen, made from a lesson's executed notebook.

A slide for the question, for each prediction, figure and table, for each paragraph that begins with
a bold statement, for the claims of a section, for the do's and don'ts and for the quiz. What is
said in between is the lesson itself.
"""

import re
from collections.abc import Iterator
from html import escape

from nbconvert.filters import markdown2html
from nbformat import NotebookNode

from course_utils.claims import MIME as CLAIM
from course_utils.questions import lesson_module
from course_utils.site.layout import TITLE, inline, scrolling

PREDICT = re.compile(r'predict\("(\d\d)\.(\d+)"\)')
STATEMENT = re.compile(r"\*\*(.+?)\*\*(.*)", re.DOTALL)
LONGEST = 75  # words of a paragraph on a slide
Slide = tuple[str, str]  # heading (Markdown), body (HTML)


def deck(name: str, title: str, notebook: NotebookNode) -> str:
    """The page with all slides of a lesson; without scripts they stand one below the other."""
    shown = "".join(
        _section(2 if place else 1, *slide)
        for place, slide in enumerate(slides(name[:2], notebook))
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Slides: {escape(title)} · {TITLE}</title>
<link rel="stylesheet" href="style.css">
<script src="slides.js" defer></script>
</head>
<body class="deck">
<main id="content">
{shown}</main>
<nav aria-label="Slides">
<a class="button" href="{name}.html">The lesson</a>
<button id="back" type="button" hidden>Back</button>
<span id="place" role="status"></span>
<button id="next" type="button" hidden>Next</button>
</nav>
</body>
</html>
"""


def _section(level: int, heading: str, body: str) -> str:
    return f'<section class="slide"><h{level}>{inline(heading)}</h{level}>{body}</section>\n'


def slides(lesson: str, notebook: NotebookNode) -> Iterator[Slide]:
    """Heading and body of each slide, in order."""
    heading, claims = "", list[str]()
    for cell in notebook.cells[1:]:  # the first one is the badge
        if cell.cell_type == "markdown":
            for piece in re.split(r"(?m)^(?=#{1,2} )", cell.source):
                found = re.match(r"#{1,2} (.+)", piece)
                if found:
                    yield from _claims(heading, claims)
                    claims, heading = [], found[1]
                yield from _words(heading, piece)
        elif cell.cell_type == "code":
            for id in PREDICT.finditer(cell.source):
                yield "What do you think?", _prediction(*id.groups())
            for output in cell.outputs:
                data = output.get("data", {})
                html = data.get("text/html", "")
                if CLAIM in data:
                    claims.append(html)
                elif "<img " in html:
                    yield heading, f'<div class="picture">{html}</div>'
                elif html.lstrip().startswith("<table"):
                    yield heading, scrolling(html)
    yield from _claims(heading, claims)
    for number, question in enumerate(lesson_module(lesson).QUIZ, 1):
        answer = next(i for i, option in enumerate(question.options) if option.right)
        options = "".join(f"<li>{escape(option.text)}</li>" for option in question.options)
        told = escape(f"{question.options[answer].text}. {question.options[answer].explanation}")
        yield (
            f"Question {number}",
            f"<p>{escape(question.text)}</p><ol>{options}</ol>"
            f"<details><summary>The answer</summary><p>{told}</p></details>",
        )


def _words(heading: str, source: str) -> Iterator[Slide]:
    """What of a text stands on slides: the opening, bold statements, and do and don't."""
    for paragraph in re.split(r"\n\s*\n", source):
        if paragraph.startswith("# "):
            opening = source[len(paragraph) :].strip().partition("\n\n")[0]
            yield heading, f"<p>{inline(opening)}</p>"
        elif paragraph.startswith("**You will be able to"):
            goals = source.partition(paragraph)[2].strip().partition("\n\n")[0]
            yield "You will be able to", markdown2html(goals)
        elif re.match(r"\| *do", paragraph):
            yield heading, scrolling(markdown2html(paragraph))
        elif re.match(r"\*\*(?!Builds|Words|Further|Cost)", paragraph):
            if len(paragraph.split()) <= LONGEST and (found := STATEMENT.match(paragraph)):
                rest = found[2].strip()
                body = f"<p>{inline(rest)}</p>" if re.search(r"\w", rest) else ""
                yield found[1].rstrip(".:"), body


def _claims(heading: str, claims: list[str]) -> Iterator[Slide]:
    if claims:
        yield f"{heading}: measured", re.sub(r' id="claim-[^"]*"', "", "".join(claims))


def _prediction(lesson: str, number: str) -> str:
    asked = lesson_module(lesson).PREDICTIONS[number]
    options = "".join(f"<li>{escape(option)}</li>" for option in asked.options)
    return f"<p>{escape(asked.text)}</p><ol>{options}</ol>"
