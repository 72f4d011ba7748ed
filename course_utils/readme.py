"""Put measured results into README.md and into the page of the benchmarks: no number is typed."""

import json
from pathlib import Path

from course_utils.assets import ROOT
from course_utils.errors import CourseError

BEGIN = "<!-- results: made by `python -m course_utils readme` from build/run.json -->\n"
END = "<!-- end of results -->\n"
BEGIN_SPEED = "<!-- speed: made by `python -m course_utils readme` from recorded benchmarks -->\n"
END_SPEED = "<!-- end of speed -->\n"
BEGIN_GOALS = "<!-- goals: made by `python -m course_utils bench --record` from the tables -->\n"
END_GOALS = "<!-- end of goals -->\n"
EVIDENCE = ROOT / "notebooks" / "evidence.md"
BENCHMARKS = ROOT / "course_utils" / "bench" / "results"
# What the core set out to be: times as fast as the best-tuned peer, and as each peer's defaults.
GOALS: dict[str, dict[str, float]] = {
    "text-full": {"tuned": 1.5, "defaults": 4.0},
    "text-prefix": {"tuned": 2.5, "defaults": 6.0},
    "text-head": {"tuned": 12.0},
    "image-full": {"tuned": 1.2, "defaults": 2.0},
    "image-head": {"tuned": 12.0},
}


def summary_table(run: dict) -> str:
    """A line a lesson as Markdown; raises `CourseError` if one failed."""
    failed = [lesson["name"] for lesson in run["lessons"] if lesson["status"] != "passed"]
    if failed:
        raise CourseError(f"README shows whole runs only, and {', '.join(failed)} failed")
    lines = [
        f"**Measured** in the profile `{run['profile']}` on {run['device']}:",
        "",
        "| lesson | time | claims that held | one of them | measured |",
        "|---|---|---|---|---|",
    ]
    for lesson in run["lessons"]:
        claims = lesson["claims"]
        held = sum(claim["holds"] for claim in claims)
        one = claims[0]
        lines.append(
            f"| {lesson['name'][:2]} | {lesson['seconds']:.0f} s | {held} of {len(claims)} | "
            f"{one['text']} | {one['value']:.3g} |"
        )
    return "\n".join(lines) + "\n"


def results_table(run: dict) -> str:
    """All claims of a run as Markdown."""
    lines = [
        "# Every claim, as it was measured",
        "",
        f"Made by `python -m course_utils readme`: profile `{run['profile']}`, {run['device']}.",
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


def goals_table(folder: Path = BENCHMARKS) -> str:
    """Goals beside what was recorded, as Markdown; for what was missed, the profile's words.

    Args:
        folder: the tables of the last machine that recorded; those of others in folders inside.
    """
    letters: dict[str, str] = {}  # of the machines
    lines = ["| benchmark | over | goal | recorded | on | |", "|---|---|---|---|---|---|"]
    missed = []
    for name, goals in GOALS.items():
        files = [folder / f"{name}.json", *sorted(folder.glob(f"*/{name}.json"))]
        records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        for settings, goal in goals.items():
            over = "best-tuned peer" if settings == "tuned" else "every peer's defaults"
            for record in records:
                letter = letters.setdefault(record["hardware"], chr(ord("A") + len(letters)))
                rows = [row for row in record["rows"] if row["settings"] == settings]
                least = min(rows, key=_ratio)
                reached = least["ratio"] >= goal
                lines.append(
                    f"| `{name}` | {over} | {goal:g}× | {least['ratio']:.2f}× "
                    f"({least['system']}) | {letter} | "
                    f"{'reached' if reached else 'not reached'} |"
                )
                if not reached and name not in missed:
                    missed.append(name)
    lines += ["", *(f"{letter}: {machine}.  " for machine, letter in letters.items())]
    profile = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
    notes = [note for note in profile["notes"] if note.split(":")[0] in missed]
    lines += ["", f"What their time is made of, measured on {profile['hardware']}:", ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def update_goals(folder: Path = BENCHMARKS) -> None:
    """Write the goals' table between its marks in the folder's README.md."""
    page = folder / "README.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(
        _replaced(text, BEGIN_GOALS, goals_table(folder), END_GOALS, page), encoding="utf-8"
    )


def _ratio(row: dict) -> float:
    return row["ratio"]


def update_readme(run_file: Path, readme: Path = ROOT / "README.md") -> None:
    """Write a summary of `run_file` and the recorded speeds into README.md, all claims beside."""
    if not run_file.is_file():
        raise CourseError(f"there is no {run_file}: run the lessons first (make run)")
    run = json.loads(run_file.read_text(encoding="utf-8"))
    text = _replaced(readme.read_text(encoding="utf-8"), BEGIN, summary_table(run), END, readme)
    EVIDENCE.write_text(results_table(run), encoding="utf-8")
    text = _replaced(text, BEGIN_SPEED, speed_table(), END_SPEED, readme)
    readme.write_text(text, encoding="utf-8")


def _replaced(text: str, begin: str, new: str, end: str, where: Path) -> str:
    before, mark, rest = text.partition(begin)
    _, last, after = rest.partition(end)
    if not (mark and last):
        raise CourseError(f"{where} lacks the marks {begin.strip()!r} and {end.strip()!r}")
    return f"{before}{begin}{new}{end}{after}"
