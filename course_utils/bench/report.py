"""What was measured, on what: as JSON and as a Markdown table."""

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from course_utils.device import choose_compute

PACKAGES = (
    "torch", "torchvision", "transformers", "accelerate", "fastai", "pytorch-lightning",
    "scikit-learn",
)  # fmt: skip


def hardware() -> str:
    """Processor or GPU, precision and system."""
    return f"{choose_compute()}, {platform.system()} {platform.machine()}"


def versions() -> dict[str, str]:
    """Versions of what decides a measurement, as far as it is installed."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Median and range, as rows hold them."""
    return {"median": median(values), "low": min(values), "high": max(values)}


def write(content: dict, folder: Path) -> Path:
    """Write `NAME.json` and `NAME.md`; returns the path of the table."""
    content = {"hardware": hardware(), "versions": versions(), **content}
    name = content["name"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    table = folder / f"{name}.md"
    table.write_text(markdown(content), encoding="utf-8")
    return table


def markdown(content: dict) -> str:
    """A benchmark's rows as a Markdown table, with notes, hardware and versions below."""
    rows = [{key: _cell(value) for key, value in row.items()} for row in content["rows"]]
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(row[name] for name in names) + " |" for row in rows]
    used = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    notes = content.get("notes", [])
    measured = f"Measured on {content['hardware']}; {used}."
    return "\n".join([*lines, "", *[line + "\n" for line in notes], measured, ""])


def _cell(value: object) -> str:
    if isinstance(value, dict):  # a median with its range
        return f"{value['median']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
