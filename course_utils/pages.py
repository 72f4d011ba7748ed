"""Render executed notebooks as plain web pages that work opened from disk, without a network."""

import json
import re
from html import escape
from pathlib import Path

import nbformat

REMOTE_PICTURE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")


def render_pages(build: Path, profile: str) -> Path:
    """Write one page a lesson and an index; returns the index's path."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab")
    # Nothing is fetched from outside; live widgets show their static form.
    exporter.mathjax_url = exporter.require_js_url = exporter.jupyter_widgets_base_url = ""
    exporter.mermaid_js_url = exporter.widget_renderer_url = ""
    folder = build / "pages"
    folder.mkdir(parents=True, exist_ok=True)
    run = json.loads((build / "run.json").read_text(encoding="utf-8"))
    rows = []
    for lesson in run["lessons"]:
        executed = build / "executed" / profile / f"{lesson['name']}.ipynb"
        if not executed.is_file():
            continue
        notebook = _static(nbformat.read(executed, as_version=4))
        page, _ = exporter.from_notebook_node(notebook)
        (folder / f"{lesson['name']}.html").write_text(page, encoding="utf-8")
        held = sum(claim["holds"] for claim in lesson["claims"])
        rows.append(
            f'<tr><td><a href="{lesson["name"]}.html">{escape(lesson["name"])}</a></td>'
            f"<td>{lesson['status']}</td><td>{lesson['seconds']:.0f} s</td>"
            f"<td>{lesson['peak_mb']:.0f} MB</td><td>{held} of {len(lesson['claims'])}</td></tr>"
        )
    index = folder / "index.html"
    index.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Fine-tuning, measured</title>'
        "<style>body{font:16px system-ui;max-width:50em;margin:2em auto;padding:0 1em}"
        "td,th{text-align:left;padding:.3em 1em .3em 0}</style>"
        "<h1>Fine-tuning, measured</h1>"
        f"<p>Profile {escape(profile)} on {escape(run['device'])}.</p>"
        "<table><tr><th>lesson</th><th>status</th><th>time</th><th>peak memory</th>"
        f"<th>claims that hold</th></tr>{''.join(rows)}</table></html>\n",
        encoding="utf-8",
    )
    return index


def _static(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop live widget views, so that each output's HTML or text form is shown.

    Pictures from elsewhere, such as the Colab badge, give way to their alternative text.
    """
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = REMOTE_PICTURE.sub(r"\1", cell.source)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    notebook.metadata.pop("widgets", None)
    return notebook
