"""From an executed notebook to the body of its page, and to what the search can find."""

import re
from dataclasses import dataclass
from html import escape, unescape

from nbconvert.filters import markdown2html, strip_ansi
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from course_utils.notebooks import repository
from course_utils.site.layout import Page, entry, scrolling

TAG = re.compile(r"<[^>]+>")
HEADING = re.compile(r"<h([1-6])[^>]*>(.*?)</h\1>", re.DOTALL)
REMOTE_PICTURE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")
GLOSSARY = re.compile(r'href="[^"]*glossary\.md#')  # a link of a notebook
BOOTSTRAP_CELL = 2  # its place in each notebook: for hosts, of no use to readers


@dataclass
class LessonPage:
    """The page of a lesson and how its run went."""

    page: Page
    record: dict


def lesson_page(name: str, notebook: NotebookNode, record: dict) -> LessonPage:
    """Render one executed lesson."""
    parts: list[str] = []
    for place, cell in enumerate(notebook.cells):
        if "injected-parameters" in cell.metadata.get("tags", []):
            continue  # papermill's copy of the profile
        if cell.cell_type == "markdown" and place > 0:  # the first one is the badge
            parts.append(_markdown(cell.source))
        elif cell.cell_type == "code" and place != BOOTSTRAP_CELL:
            parts.append(_code(cell.source) + "".join(map(_output, cell.outputs)))
    body = _with_anchors("\n".join(parts))
    first = HEADING.search(body)
    title = _plain(first[2]) if first else name
    head, mark, rest = body.partition("</h1>")
    page = Page(name, title, head + mark + _actions(name, record) + rest)
    page.entries = _sections(page)
    return LessonPage(page, record)


def _markdown(source: str) -> str:
    html = markdown2html(REMOTE_PICTURE.sub(r"\1", source))
    html = re.sub(r'<a class="anchor-link".*?</a>', "", html)
    html = html.replace("<table>", "\0").replace("</table>", "\1")
    html = re.sub("\0(.*?)\1", lambda m: scrolling(f"<table>{m[1]}</table>"), html, flags=re.DOTALL)
    return GLOSSARY.sub('href="glossary.html#', html)


def _code(source: str) -> str:
    html = highlight(source, PythonLexer(), HtmlFormatter(nowrap=True))
    return (
        '<div class="code" tabindex="0" role="group" aria-label="Code">'
        f"<pre><code>{html}</code></pre></div>"
    )


def _output(output: NotebookNode) -> str:
    """The static form of an output: its HTML, picture or text."""
    if output.output_type == "stream":
        return _text(output.text) if output.name == "stdout" else ""
    if output.output_type == "error":
        return _text(strip_ansi("\n".join(output.traceback)))
    data = output.get("data", {})
    if "text/html" in data:
        html = data["text/html"]
        html = scrolling(html) if html.lstrip().startswith("<table") else html
        return f'<div class="output">{html}</div>'
    return _text(data["text/plain"]) if "text/plain" in data else ""


def _text(text: str) -> str:
    return (
        '<div class="output text" tabindex="0" role="group" aria-label="Output">'
        f"<pre>{escape(text.rstrip())}</pre></div>"
    )


def _with_anchors(body: str) -> str:
    """Give each heading an id of its own, made of its words."""
    used: dict[str, int] = {}

    def anchored(match: re.Match) -> str:
        slug = re.sub(r"[^a-z0-9]+", "-", _plain(match[2]).lower()).strip("-") or "section"
        used[slug] = used.get(slug, 0) + 1
        slug = slug if used[slug] == 1 else f"{slug}-{used[slug]}"
        return f'<h{match[1]} id="{slug}">{match[2]}</h{match[1]}>'

    return HEADING.sub(anchored, body)


def _sections(page: Page) -> list[dict]:
    """What the search can find: one entry a heading, with the text below it."""
    found = []
    for piece in re.split(r"(?=<h[12] id=)", page.body):
        heading = re.match(r'<h([12]) id="([^"]+)">(.*?)</h\1>', piece, re.DOTALL)
        if heading:
            title = _plain(heading[3])
            shown = title if title == page.title else f"{page.title}: {title}"
            text = _plain(re.sub(r"<img [^>]*>", " ", piece[heading.end() :]))
            found.append(entry(shown, f"{page.url}#{heading[2]}", text))
    return found


def _actions(name: str, record: dict) -> str:
    held = sum(claim["holds"] for claim in record["claims"])
    colab = f"https://colab.research.google.com/github/{repository()}/blob/main/notebooks/"
    return (
        f'<p class="actions"><a class="button" href="{colab}{name}.ipynb">Open in Colab</a> '
        f'<a class="button" href="{name}.ipynb" download>Download the notebook</a> '
        f'<a class="button" href="slides-{name}.html">Slides</a></p>'
        f'<p class="run">This page was executed on {escape(record["when"][:10])} in '
        f"{record['seconds']:.0f} s on {escape(record['device'])}; {held} of "
        f"{len(record['claims'])} claims held.</p>"
    )


def _plain(html: str) -> str:
    return unescape(TAG.sub(" ", html)).replace("¶", "").strip()
