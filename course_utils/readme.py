"""Put the results of a run into README.md, so that no number there is typed."""

import json
from pathlib import Path

from course_utils.assets import ROOT
from course_utils.errors import CourseError

BEGIN = "<!-- results: made by `python -m course_utils readme` from build/run.json -->\n"
END = "<!-- end of results -->\n"


def results_table(run: dict) -> str:
    """The claims of a run as Markdown; raises `CourseError` if a lesson failed."""
    failed = [lesson["name"] for lesson in run["lessons"] if lesson["status"] != "passed"]
    if failed:
        raise CourseError(f"README shows whole runs only, and {', '.join(failed)} failed")
    seconds = ", ".join(f"{r['name'][:2]}: {r['seconds']:.0f} s" for r in run["lessons"])
    lines = [
        f"**Measured** in the profile `{run['profile']}` on {run['device']} ({seconds}):",
        "",
        "| claim | measured | must be |",
        "|---|---|---|",
    ]
    for lesson in run["lessons"]:
        for claim in lesson["claims"]:
            spread = ""
            if claim["runs"] > 1:
                spread = f" ({claim['low']:.3g} to {claim['high']:.3g} in {claim['runs']} runs)"
            bounds = [
                f"{sign} {claim[key]:g}"
                for key, sign in (("at_least", "≥"), ("at_most", "≤"))
                if claim[key] is not None
            ]
            lines.append(
                f"| {claim['id']} {claim['text']} | {claim['value']:.3g}{spread} | "
                f"{', '.join(bounds)} |"
            )
    return "\n".join(lines) + "\n"


def update_readme(run_file: Path, readme: Path = ROOT / "README.md") -> None:
    """Write the results of `run_file` between the two marks in README.md."""
    if not run_file.is_file():
        raise CourseError(f"there is no {run_file}: run the lessons first (make run)")
    run = json.loads(run_file.read_text(encoding="utf-8"))
    before, mark, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise CourseError(f"{readme} lacks the marks {BEGIN.strip()!r} and {END.strip()!r}")
    readme.write_text(f"{before}{BEGIN}{results_table(run)}{END}{after}", encoding="utf-8")
