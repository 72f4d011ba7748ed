"""Put the results of a run into README.md, so that no number there is typed."""

import json
from pathlib import Path

from course_utils.assets import ROOT
from course_utils.errors import CourseError

BEGIN = "<!-- results: made by `python -m course_utils readme` from build/run.json -->\n"
END = "<!-- end of results -->\n"
BEGIN_SPEED = "<!-- speed: made by `python -m course_utils readme` from recorded benchmarks -->\n"
END_SPEED = "<!-- end of speed -->\n"
BENCHMARKS = ROOT / "course_utils" / "bench" / "results"


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


def speed_table(folder: Path = BENCHMARKS) -> str:
    """The recorded comparisons with peers as Markdown, a line each."""
    lines = [
        "| benchmark | ours, examples/s | of the limit | over best-tuned peer | over defaults |",
        "|---|---|---|---|---|",
    ]
    hardware = set()
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        if "limit_examples_per_s" not in content:
            continue
        hardware.add(content["hardware"])
        ours = next(row for row in content["rows"] if row["ratio"] == 1 and not row["settings"])
        speed = ours["examples_per_s"]["median"]
        best = min((r for r in content["rows"] if r["settings"] == "tuned"), key=_ratio)
        plain = [row["ratio"] for row in content["rows"] if row["settings"] == "defaults"]
        lines.append(
            f"| `{content['name']}` | {speed:.0f} | {speed / content['limit_examples_per_s']:.0%} "
            f"| {best['ratio']:.2f}× ({best['system']}) | {min(plain):.1f}× to {max(plain):.1f}× |"
        )
    return "\n".join([*lines, "", f"Measured on {'; '.join(sorted(hardware))}.", ""])


def _ratio(row: dict) -> float:
    return row["ratio"]


def update_readme(run_file: Path, readme: Path = ROOT / "README.md") -> None:
    """Write the results of `run_file` and the recorded speeds between their marks in README.md."""
    if not run_file.is_file():
        raise CourseError(f"there is no {run_file}: run the lessons first (make run)")
    run = json.loads(run_file.read_text(encoding="utf-8"))
    text = _replaced(readme.read_text(encoding="utf-8"), BEGIN, results_table(run), END, readme)
    text = _replaced(text, BEGIN_SPEED, speed_table(), END_SPEED, readme)
    readme.write_text(text, encoding="utf-8")


def _replaced(text: str, begin: str, new: str, end: str, where: Path) -> str:
    before, mark, rest = text.partition(begin)
    _, last, after = rest.partition(end)
    if not (mark and last):
        raise CourseError(f"{where} lacks the marks {begin.strip()!r} and {end.strip()!r}")
    return f"{before}{begin}{new}{end}{after}"
