"""The site's lessons and glossary as one PDF, printed by a browser that is on this machine."""

import re
import shutil
import subprocess
from pathlib import Path

from course_utils.errors import CourseError
from course_utils.site.layout import TITLE

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MAIN = re.compile(r"<main[^>]*>(.*)</main>", re.DOTALL)
PATIENCE = 300  # seconds


def print_pdf(site: Path) -> Path:
    """Print a site's lessons, in order, and its glossary; returns the file, beside the site.

    Raises:
        CourseError: there is no browser, or it fails.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise CourseError(
            f"no browser to print with (looked for {', '.join(BROWSERS)}): install one, or open "
            "a page of the site in your own browser and print it; the pages are made for paper"
        )
    pages = [*sorted(site.glob("[0-9][0-9]_*.html")), site / "glossary.html"]
    bodies = [MAIN.search(page.read_text(encoding="utf-8")) for page in pages]
    chapters = "".join(f'<section class="chapter">{body[1]}</section>' for body in bodies if body)
    whole, target = site / "whole.html", site.parent / "course.pdf"
    whole.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>'
        f'<link rel="stylesheet" href="style.css"></head><body>{chapters}</body></html>',
        encoding="utf-8",
    )
    target.unlink(missing_ok=True)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer",
               f"--print-to-pdf={target}", whole.resolve().as_uri()]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise CourseError(f"{browser} could not print the course: {error}") from error
    finally:
        whole.unlink()
    if not target.is_file():
        raise CourseError(f"{browser} ended without printing; try it with another browser")
    return target
