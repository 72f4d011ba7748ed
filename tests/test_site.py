"""The website: complete, readable from disk, every link leads somewhere, usable by keyboard."""

import json
import re
from html import escape
from html.parser import HTMLParser
from urllib.parse import unquote

import nbformat
import pytest
from browser import browser, chromium
from nbformat.v4 import new_output

from course_utils.assets import ROOT
from course_utils.claims import MIME as CLAIM_MIME
from course_utils.errors import CourseError
from course_utils.faq import FAQ
from course_utils.glossary import TERMS
from course_utils.notebooks import lessons, repository
from course_utils.questions import lesson_module
from course_utils.runner import executed_folder
from course_utils.site import build_site
from course_utils.site.pdf import print_pdf

PNG = (  # one grey pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
FAILED = "99.1"


def claim(id: str, holds: bool = True) -> dict:
    return {"id": id, "text": f"points <of> claim {id}", "value": 1.5, "low": 1.0, "high": 2.0,
            "holds": holds, "at_least": 1, "at_most": None, "runs": 3}  # fmt: skip


def outputs() -> list:
    """One of each kind that a lesson has."""
    view = {"model_id": "abc", "version_major": 2, "version_minor": 0}
    return [
        new_output("stream", name="stdout", text="printed <line>\n"),
        new_output("stream", name="stderr", text="a library's noise\n"),
        new_output("display_data", data={
            "application/vnd.jupyter.widget-view+json": view,
            "text/html": "<ul><li>the static form</li></ul>", "text/plain": "plain form"}),
        new_output("display_data", data={
            "text/html": f'<img alt="Two bars." src="data:image/png;base64,{PNG}">'}),
        new_output("display_data", data={
            "text/html": "<table><caption>Numbers</caption><tbody><tr><td>1</td></tr></tbody>"
                         "</table>", "text/plain": "1"}),
        new_output("execute_result", data={"text/plain": "{'a': 1}"}),
        new_output("error", ename="E", evalue="v", traceback=["\x1b[31mE: v\x1b[0m"]),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site of all lessons; the first has outputs, the others have none (that takes minutes)."""
    build = tmp_path_factory.mktemp("build")
    folder = executed_folder(build, "quick")
    folder.mkdir(parents=True)
    for place, lesson in enumerate(lessons()):
        notebook = nbformat.read(lesson.solution, as_version=4)
        source = lesson.source.read_text(encoding="utf-8")
        ids = re.findall(r'claim\("([\d.]+)"', source)
        last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
        claims = [claim(id) for id in ids] + ([claim(FAILED, False)] if place == 0 else [])
        last.outputs = [
            new_output("display_data", data={
                CLAIM_MIME: one, "text/html": f'<div id="claim-{one["id"]}">✓ claim</div>'})
            for one in claims
        ]  # fmt: skip
        if place == 0:
            last.outputs += outputs()
        nbformat.write(notebook, folder / f"{lesson.name}.ipynb")
        record = {"name": lesson.name, "status": "passed", "seconds": 41.2, "peak_mb": 1234.0,
                  "claims": claims, "error": None, "device": "cpu in <fp32>",
                  "when": "2026-01-02T03:04:05+00:00"}  # fmt: skip
        (folder / f"{lesson.name}.json").write_text(json.dumps(record), encoding="utf-8")
    return build_site(build).parent


class Tags(HTMLParser):
    """The start tags of a page with their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str, attribute: str) -> list[str]:
        return [attrs[attribute] for name, attrs in self.tags if name == tag and attribute in attrs]


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Tags]:
    return {file.name: Tags(file.read_text(encoding="utf-8")) for file in site.glob("*.html")}


def text_of(site, name: str) -> str:
    return (site / name).read_text(encoding="utf-8")


def test_before_anything_ran_the_site_says_what_to_do(tmp_path):
    with pytest.raises(CourseError, match="make run"):
        build_site(tmp_path)


def test_every_lesson_has_a_page_and_a_notebook_to_download(site, pages):
    for lesson in lessons():
        assert f"{lesson.name}.html" in pages
        assert (site / f"{lesson.name}.ipynb").read_bytes() == lesson.learner.read_bytes()


def test_every_internal_link_resolves(site, pages):
    anchors = {name: {attrs["id"] for _, attrs in page.tags if "id" in attrs}
               for name, page in pages.items()}  # fmt: skip
    broken = []
    for name, page in pages.items():
        for url in page.all("a", "href"):
            if url.startswith(("http", "mailto:")):
                continue
            file, _, anchor = unquote(url).partition("#")
            file = file or name
            if not (site / file).is_file() or (anchor and anchor not in anchors[file]):
                broken.append((name, url))
    assert broken == []


def test_what_the_search_finds_is_there(site, pages):
    index = json.loads(text_of(site, "search-index.js").partition("=")[2].rstrip(";\n"))
    assert {"Glossary: learning rate", "Claim 12.1"} <= {entry["title"] for entry in index}
    for entry in index:
        file, _, anchor = entry["url"].partition("#")
        assert file in pages
        assert anchor == "" or any(attrs.get("id") == anchor for _, attrs in pages[file].tags)


def test_every_colab_button_leads_to_a_file_of_the_repository(pages):
    start = f"https://colab.research.google.com/github/{repository()}/blob/main/"
    links = [url for page in pages.values() for url in page.all("a", "href")
             if "colab.research" in url]  # fmt: skip
    assert len(links) == len(lessons())
    for url in links:
        assert url.startswith(start) and (ROOT / url.removeprefix(start)).is_file(), url


def test_pages_fetch_nothing_from_elsewhere(site, pages):
    for name, page in pages.items():
        for tag, attribute in (("script", "src"), ("img", "src"), ("link", "href")):
            for url in page.all(tag, attribute):
                assert url.startswith("data:") or (site / url).is_file(), (name, url)
    assert "http" not in text_of(site, "style.css") and "fetch(" not in text_of(site, "site.js")


def test_each_kind_of_output_has_its_static_form(site):
    page = text_of(site, f"{lessons()[0].name}.html")
    assert "printed &lt;line&gt;" in page and "a library&#x27;s noise" not in page
    assert "the static form" in page and "plain form" not in page and "widget-view" not in page
    assert "{&#x27;a&#x27;: 1}" in page and "E: v" in page and "\x1b" not in page
    assert re.search(r'role="group"[^>]*><table><caption>Numbers', page), "tables scroll"


def test_every_picture_has_words_and_headings_are_in_order(pages):
    for name, page in pages.items():
        assert all(page.all("img", "alt")) and len(page.all("img", "alt")) == len(
            page.all("img", "src")), name  # fmt: skip
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1 and levels.count(1) == 1, name
        assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False)), (name, levels)
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(set(ids)) == len(ids), (name, {i for i in ids if ids.count(i) > 1})


def test_the_evidence_has_every_claim_and_says_which_failed(site):
    page = text_of(site, "evidence.html")
    for lesson in lessons():
        for id in re.findall(r'claim\("([\d.]+)"', lesson.source.read_text(encoding="utf-8")):
            assert f'#claim-{id}">{id}</a> points &lt;of&gt; claim' in page
    assert page.count("does not hold") == 1 and "1.5 (1 to 2)" in page and "2026-01-02" in page


def test_words_of_a_lesson_link_to_the_glossary_and_terms_to_their_lesson(site):
    page = text_of(site, "12_freezing_and_unfreezing.html")
    assert '<a href="glossary.html#learning-rate"><em>learning' in page
    glossary = text_of(site, "glossary.html")
    assert all(f'id="{term.anchor}"' in glossary for term in TERMS)
    assert '<a href="12_freezing_and_unfreezing.html">Lesson 12</a>' in glossary


def test_every_answer_of_the_faq_rests_on_claims_that_exist(site):
    known = {id for lesson in lessons()
             for id in re.findall(r'claim\("([\d.]+)"', lesson.source.read_text(encoding="utf-8"))
             }  # fmt: skip
    for question in FAQ:
        assert question.claims and set(question.claims) <= known, question.text
        assert question.text in text_of(site, "faq.html").replace("&#x27;", "'")


def test_advice_is_gathered_from_every_lesson_that_gives_some(site):
    page = text_of(site, "advice.html")
    for lesson in lessons():
        if "| do | don't |" in lesson.source.read_text(encoding="utf-8"):
            title = lesson.source.read_text(encoding="utf-8").partition("# # ")[2].split("\n")[0]
            assert title in page.replace("&#x27;", "'")


def test_every_lesson_has_slides_with_its_pictures_claims_predictions_and_quiz(site):
    for lesson in lessons():
        page = text_of(site, f"slides-{lesson.name}.html")
        text = page.replace("&#x27;", "'").replace("&quot;", '"')
        questions = lesson_module(lesson.number)
        source = lesson.source.read_text(encoding="utf-8")
        for id, prediction in questions.PREDICTIONS.items():
            if f'predict("{lesson.number}.{id}")' in source:
                assert escape(prediction.text) in page, (lesson.name, id)
        assert all(escape(question.text) in page for question in questions.QUIZ)
        claims = len(re.findall(r'claim\("([\d.]+)"', source)) + (lesson == lessons()[0])  # FAILED
        assert page.count("✓ claim") == claims
        assert "You will be able to" in text and "don't</th>" in text.replace("’", "'")
    first = text_of(site, f"slides-{lessons()[0].name}.html")
    assert 'alt="Two bars."' in first and "<caption>Numbers" in first
    assert "printed" not in first


# --- in a real browser ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def chrome():
    with browser() as running:
        yield running


def test_the_course_is_printed_in_one_file_and_the_site_stays_as_it_was(site):
    chromium()  # or skip
    before = sorted(path.name for path in site.iterdir())
    printed = print_pdf(site)
    content = printed.read_bytes()
    assert content.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", content)) > 3 * len(
        lessons()
    )
    assert sorted(path.name for path in site.iterdir()) == before


def test_without_a_browser_printing_says_what_to_do(site, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(CourseError, match="no browser to print with.*print it"):
        print_pdf(site)


def test_the_search_finds_a_term_by_keyboard_alone(site, chrome):
    page = chrome.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("gradual unfreezing")
    results = page.locator("#results li")
    assert results.count() > 3 and "gradual unfreezing" in results.first.inner_text().lower()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"\.html#"))
    page.keyboard.press("/")
    page.keyboard.type("no such thing anywhere")
    assert "Nothing found" in page.locator("#results").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#results").is_hidden() and problems == []
    page.close()


def test_dark_mode_toggles_and_is_remembered_from_page_to_page(site, chrome):
    context = chrome.new_context(color_scheme="light")
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.click("#theme")
    assert page.evaluate(colour) != light
    page.goto((site / "glossary.html").as_uri())
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.click("#theme")
    assert page.evaluate(colour) == light
    context.close()


def test_slides_are_turned_by_keys_and_buttons_and_all_are_there_without_scripts(site, chrome):
    name = f"slides-{lessons()[0].name}.html"
    page = chrome.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((site / name).as_uri())
    shown = "[...document.querySelectorAll('.slide')].map((one) => !one.hidden)"
    count = len(page.evaluate(shown))
    assert page.evaluate(shown).index(True) == 0 and page.evaluate(shown).count(True) == 1
    page.keyboard.press("ArrowRight")
    page.click("#next")
    assert page.evaluate(shown).index(True) == 2 and page.url.endswith("#3")
    page.reload()
    assert page.locator("#place").inner_text() == f"3 of {count}"
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(shown).index(True) == count - 1 and page.locator("#next").is_disabled()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(shown).index(True) == 0 and problems == []
    page.close()
    context = chrome.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto((site / name).as_uri())
    assert all(one.is_visible() for one in plain.locator(".slide").all())
    context.close()


@pytest.mark.parametrize(("width", "theme"), [(1300, "light"), (390, "dark")])
def test_pages_are_accessible_and_fit_the_screen(site, chrome, width, theme):
    from axe_core_python.sync_playwright import Axe

    context = chrome.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
    )
    page = context.new_page()
    first = f"{lessons()[0].name}.html"
    for name in ("index.html", "glossary.html", "evidence.html", "faq.html", "advice.html",
                 "benchmarks.html", "timings.html", "teaching.html", first,
                 f"slides-{first}"):  # fmt: skip
        page.goto((site / name).as_uri())
        found = Axe().run(page)["violations"]
        told = [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found]
        assert told == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    context.close()
