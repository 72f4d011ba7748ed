"""What a learner has predicted, answered, solved and measured: one local file, a line an event.

Lines are only ever added, so that two notebooks may write at once and a cut-off line loses nothing
but itself. Nothing leaves the machine; the file can be downloaded and put back, for hosted
sessions that lose files.
"""

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from course_utils.assets import ROOT
from course_utils.errors import CourseError

KINDS = ("prediction", "quiz", "exercise", "claim")
OFF = "off"


def journal_file() -> Path | None:
    """Where the journal is: COURSE_JOURNAL, or `journal.jsonl` in the course's folder.

    None where COURSE_JOURNAL is "off", as in tests and when lessons are executed by a program.
    """
    place = os.environ.get("COURSE_JOURNAL", "")
    return None if place == OFF else Path(place) if place else ROOT / "journal.jsonl"


def note(kind: str, id: str, **facts: object) -> None:
    """Add an event to the journal; a folder that cannot be written to stops no lesson.

    Args:
        kind: "prediction", "quiz", "exercise" or "claim".
        id: lesson and number, such as "11.2".
        facts: what happened, in words and numbers that JSON knows.
    """
    path = journal_file()
    if path is None:
        return
    when = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"kind": kind, "id": id, "when": when, **facts}, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            # on a line of its own also where the one before was cut off
            file.write(b"\n" + line.encode() + b"\n")
    except OSError:  # a read-only course folder: the lesson is worth more than its record
        return


def events() -> list[dict]:
    """All events, oldest first; lines that are not complete are left out."""
    path = journal_file()
    if path is None or not path.is_file():
        return []
    return _events(path.read_bytes())


def latest(kind: str, found: Iterable[dict] | None = None) -> dict[str, dict]:
    """The last event of each id; for exercises the first right one counts, once there is one."""
    result: dict[str, dict] = {}
    for event in events() if found is None else found:
        if event["kind"] != kind:
            continue
        solved = kind == "exercise" and result.get(event["id"], {}).get("state") == "right"
        if not solved:
            result[event["id"]] = event
    return result


def restore(source: str | os.PathLike | bytes) -> int:
    """Take over the events of a downloaded journal that are not in this one yet.

    Args:
        source: the file, or its content.

    Returns:
        How many events were new.

    Raises:
        CourseError: it is no journal of this course; then nothing is changed.
    """
    path = journal_file()
    if path is None:
        raise CourseError("the journal is off (COURSE_JOURNAL=off): there is nothing to restore to")
    content = source if isinstance(source, bytes) else _read(Path(source))
    incoming = _events(content)
    if not incoming:
        raise CourseError(
            "this file is no journal of the course: not one of its lines is an event. It is the "
            "file that the progress table offers for download, journal.jsonl"
        )
    known = {json.dumps(event, sort_keys=True) for event in events()}
    fresh = [event for event in incoming if json.dumps(event, sort_keys=True) not in known]
    merged = sorted([*events(), *fresh], key=lambda event: event["when"])
    text = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in merged)
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(text.encode())
        temporary.replace(path)
    except OSError as error:
        raise CourseError(f"cannot write {path}: {error.strerror}") from error
    return len(fresh)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CourseError(f"cannot read {path}: {error.strerror}") from error


def _events(content: bytes) -> list[dict]:
    found = map(_event, content.splitlines())
    return [event for event in found if event is not None]


def _event(line: bytes) -> dict | None:
    """The event of a line, or None if it is not one."""
    try:
        event = json.loads(line)
    except ValueError:  # cut off in the middle, or not text at all
        return None
    if not isinstance(event, dict) or event.get("kind") not in KINDS:
        return None
    return event if all(isinstance(event.get(key), str) for key in ("id", "when")) else None
