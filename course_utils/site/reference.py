"""The pages beside the lessons: glossary, questions, do and don't, evidence, times, benchmarks."""

import json
import re
from collections.abc import Sequence
from html import escape

from nbconvert.filters import markdown2html

from course_utils.faq import FAQ
from course_utils.glossary import TERMS
from course_utils.notebooks import TIMINGS, lessons
from course_utils.questions import lesson_module
from course_utils.readme import BENCHMARKS
from course_utils.site.layout import TITLE, Page, entry, inline, scrolling, table
from course_utils.teaching import MISCONCEPTIONS, PATHS, timetable

ADVICE = re.compile(r"^# \| do \| don't \|\n# \|[-|]+\|\n((?:# \|.*\n)+)", re.MULTILINE)


def home(pages: Sequence[Page], records: Sequence[dict]) -> Page:
    """The first page: what this is, and every lesson with how its run went."""
    rows = []
    for page, record in zip(pages, records, strict=True):
        held = sum(claim["holds"] for claim in record["claims"])
        rows.append((
            f'<a href="{page.url}">{escape(page.title)}</a>', f"{record['seconds']:.0f} s",
            f"{record['peak_mb']:,.0f} MB", f"{held} of {len(record['claims'])}",
        ))  # fmt: skip
    claims = sum(len(record["claims"]) for record in records)
    body = (
        f"<h1>{TITLE}</h1><p>A course on fine-tuning pre-trained networks for text and images. "
        f"Each of its statements is measured by code that can fail: {claims} "
        '<a href="evidence.html">claims</a> in what you see here. Every lesson runs offline on a '
        "laptop without a GPU.</p>"
        + table("The lessons, as they ran for these pages",
                ("lesson", "time", "peak memory", "claims that hold"), rows)
        + '<p>New words are in the <a href="glossary.html">glossary</a>; short answers are among '
        'the <a href="faq.html">questions</a>.</p>'
    )  # fmt: skip
    return Page("index", "Start", body)


def glossary(lesson_names: Sequence[str]) -> Page:
    """Every term: a plain line, the definition, and the lesson that measures it."""
    pages = {name[:2]: name for name in lesson_names}
    parts, entries = [], []
    for term in TERMS:
        where = pages.get(term.lesson)
        link = f'<a href="{where}.html">Lesson {term.lesson}</a>' if where else ""
        origin = f"<p><i>The word:</i> {escape(term.origin)}.</p>" if term.origin else ""
        parts.append(
            f'<dt id="{term.anchor}">{escape(term.name)}</dt><dd><p>{escape(term.plain)}</p>'
            f'<p class="technical">{escape(term.technical)} {link}</p>{origin}</dd>'
        )
        text = f"{term.plain} {term.technical} {term.origin}"
        entries.append(entry(f"Glossary: {term.name}", f"glossary.html#{term.anchor}", text))
    body = (
        "<h1>Glossary</h1><p>For each term, first a line for people who know no machine "
        "learning, then the definition and the lesson that measures it.</p>"
        f"<dl>{''.join(parts)}</dl>"
    )
    return Page("glossary", "Glossary", body, entries)


def faq(records: Sequence[dict]) -> Page:
    """Questions and answers, each with the claims behind it as they were measured."""
    measured_by_id = _measured(records)
    parts, entries = [], []
    for number, question in enumerate(FAQ, 1):
        measured = "".join(
            f"<li>{measured_by_id[id]}</li>" for id in question.claims if id in measured_by_id
        )
        parts.append(
            f'<h2 id="q{number}">{escape(question.text)}</h2><p>{escape(question.answer)}</p>'
            + (f"<p>Measured:</p><ul>{measured}</ul>" if measured else "")
        )
        entries.append(entry(question.text, f"faq.html#q{number}", question.answer))
    return Page("faq", "Questions", "<h1>Questions and answers</h1>" + "".join(parts), entries)


def dos_and_donts() -> Page:
    """The tables of advice of all lessons, gathered from their sources."""
    parts = ["<h1>Do and don't</h1><p>What the lessons advise, each after measuring it.</p>"]
    for lesson in lessons():
        source = lesson.source.read_text(encoding="utf-8")
        for number, match in enumerate(ADVICE.finditer(source)):
            cells = [line[2:].strip(" |").split("|") for line in match[1].splitlines()]
            rows = [[inline(cell) for cell in row] for row in cells if len(row) == 2]
            title = source.partition("# # ")[2].partition("\n")[0]
            head = f"<h2>{escape(title)}</h2>" if number == 0 else ""
            parts.append(head + table("From the lesson", ("do", "don't"), rows))
    return Page("advice", "Do and don't", "".join(parts))


def evidence(records: Sequence[dict]) -> Page:
    """Every claim with its measured value, range, runs, machine and date."""
    rows, entries = [], []
    for record in records:
        for claim in record["claims"]:
            runs = "1&nbsp;run" if claim["runs"] == 1 else f"{claim['runs']}&nbsp;runs"
            mark = "holds" if claim["holds"] else "<strong>does not hold</strong>"
            rows.append((
                _claim_link(claim, record), _value(claim), escape(_bound(claim)), runs, mark,
                escape(record["device"]),
                f'<span class="date">{escape(record["when"][:10])}</span>',
            ))  # fmt: skip
            entries.append(entry(
                f"Claim {claim['id']}", f"{record['name']}.html#claim-{claim['id']}", claim["text"]
            ))  # fmt: skip
    body = (
        "<h1>Evidence</h1><p>Every claim of the course, as its code measured it for these pages. "
        "A claim names its bound beforehand; a run that breaks it fails.</p>"
        + table("All claims",
                ("claim", "measured (median, range)", "bound", "runs", "", "machine", "date"), rows)
    )  # fmt: skip
    return Page("evidence", "Evidence", body, entries)


def timings() -> Page:
    """How long each lesson takes and how much memory, by machine."""
    kept = json.loads(TIMINGS.read_text(encoding="utf-8")) if TIMINGS.is_file() else {}
    names = {lesson.number: lesson.name for lesson in lessons()}
    rows = [
        (escape(names.get(number, number)), escape(run["profile"]), escape(run["hardware"]),
         f"{run['seconds']:.0f} s", f"{run['peak_mb']:,.0f} MB")
        for number, runs in kept.items() for run in runs.values()
    ]  # fmt: skip
    body = (
        "<h1>Time and memory</h1><p>Measured when a lesson was last recorded; loading the "
        "libraries is counted.</p>"
        + table("A whole lesson", ("lesson", "profile", "machine", "time", "peak memory"), rows)
    )
    return Page("timings", "Time and memory", body)


def benchmarks() -> Page:
    """The recorded benchmarks, as tables."""
    parts = [_markdown(BENCHMARKS / "README.md")]
    for file in (*sorted(BENCHMARKS.glob("*.md")), *sorted(BENCHMARKS.glob("*/*.md"))):
        name = str(file.relative_to(BENCHMARKS).with_suffix(""))
        if name != "README":
            section = f"<h2>{name}</h2>{_deeper(_markdown(file))}"
            parts.append(f'<section id="{name}">{section}</section>')
    body = re.sub(r'href="([a-z/-]+)\.md"', r'href="#\1"', "".join(parts))
    return Page("benchmarks", "Benchmarks", body)


def teaching(pages: Sequence[Page], records: Sequence[dict]) -> Page:
    """The instructor's guide: three paths by the minute, and what people believe beforehand."""
    links = {page.name[:2]: f'<a href="{page.url}">{escape(page.title)}</a>' for page in pages}
    parts = [
        "<h1>Teaching a workshop</h1><p>Three paths. The times hold for a room in which people "
        "run the lessons themselves, in pairs; a lesson's own running time is under "
        '<a href="timings.html">time and memory</a>.</p>'
        "<h2>The day before</h2><p>Send the quickstart of the README and ask everybody to run "
        "<code>make install</code> and <code>make doctor</code> at home: the first downloads some "
        "gigabytes, the second says whether all is well. Nothing needs the network after that.</p>"
        "<p>For thirty laptops and a bad network, run <code>python -m course_utils pack "
        "/path/to/stick</code> on a machine of the same kind as theirs (operating system, "
        "processor and Python version). It puts the course, all wheels and a script onto a USB "
        "stick; <code>sh install.sh</code> there installs from it with the network off.</p>"
        "<p>For a room in which nothing can be installed, one machine can serve all of it by "
        "JupyterHub: <code>pip install -e &quot;.[hub]&quot;</code>, then <code>"
        "COURSE_PASSWORD=… jupyterhub -f deploy/jupyterhub_config.py</code>. Learners open its "
        "address, type any name and the password, and find the notebooks. The file says what it "
        "needs and for whom it is safe. Count on a core and 2 GB of memory for each who "
        "computes at the same time, and try it the day before.</p>"
        "<h2>On the wall</h2><p>Each lesson has <b>slides</b> (the button at its top): its "
        "question, the predictions to vote on, its figures, what was measured, do and don't, the "
        "quiz with hidden answers. Arrow keys turn them; they print one a page.</p>"
    ]
    for path in PATHS:
        parts.append(f"<h2>{escape(path.name)}</h2>")
        for count, day in enumerate(timetable(path), 1):
            rows = [
                (start, f"{slot.minutes}&nbsp;min", links.get(slot.what, escape(slot.what)),
                 inline(slot.say) if slot.say else "")
                for start, slot in day
            ]  # fmt: skip
            name = f"Day {count}" if len(path.days) > 1 else "The schedule"
            parts.append(table(name, ("at", "for", "what", "say"), rows))
    parts.append(
        "<h2>What people believe</h2><p>Ask before the lesson runs, let the room vote, and come "
        "back to it when the claim has been measured. The lessons' own questions are below.</p>"
    )
    measured_by_id = _measured(records)
    for page in pages:
        number = page.name[:2]
        believed = [
            (escape(one.believed), escape(one.answer), measured_by_id.get(one.claim, ""))
            for one in MISCONCEPTIONS.get(number, ())
        ]  # fmt: skip
        asked = "".join(
            f"<li>{escape(question.text)}</li>"
            for question in lesson_module(number).PREDICTIONS.values()
        )
        parts.append(f"<h3>{escape(page.title)}</h3>")
        if believed:
            parts.append(table("Believed, and measured",
                               ("people say", "the lesson shows", "claim"), believed))  # fmt: skip
        parts.append(f"<p>Questions to vote on:</p><ul>{asked}</ul>")
    return Page("teaching", "Teaching", "".join(parts))


def _markdown(path) -> str:
    html = markdown2html(path.read_text(encoding="utf-8"))
    html = re.sub(r'<a class="anchor-link".*?</a>', "", html)
    html = re.sub(r"(<h\d) id=\"[^\"]*\"", r"\1", html)
    return re.sub(r"<table>.*?</table>", lambda match: scrolling(match[0]), html, flags=re.DOTALL)


def _deeper(html: str) -> str:
    """All headings one level deeper."""
    return re.sub(r"(</?h)(\d)", lambda m: f"{m[1]}{min(int(m[2]) + 1, 6)}", html)


def _measured(records: Sequence[dict]) -> dict[str, str]:
    """Each claim by its id, as a link with the measured value."""
    return {
        claim["id"]: f"{_claim_link(claim, record)}: {_value(claim)}"
        for record in records
        for claim in record["claims"]
    }


def _claim_link(claim: dict, record: dict) -> str:
    url = f"{record['name']}.html#claim-{claim['id']}"
    return f'<a href="{url}">{claim["id"]}</a> {escape(claim["text"])}'


def _value(claim: dict) -> str:
    if claim["value"] is None:
        return "not finite"
    spread = f" ({claim['low']:.3g} to {claim['high']:.3g})" if claim["runs"] > 1 else ""
    return f"{claim['value']:.3g}{spread}"


def _bound(claim: dict) -> str:
    limits = [f"at least {claim['at_least']:g}"] if claim["at_least"] is not None else []
    limits += [f"at most {claim['at_most']:g}"] if claim["at_most"] is not None else []
    return ", ".join(limits)
