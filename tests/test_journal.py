"""The learner's journal loses nothing, and the progress made from it is right."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils import __main__ as door
from course_utils import journal, learner
from course_utils.claims import ClaimFailed, claim
from course_utils.errors import CourseError
from course_utils.lessons import lesson_11
from course_utils.questions import check, predict, quiz


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    monkeypatch.setenv("COURSE_JOURNAL", str(path))
    return path


def test_nothing_is_written_where_the_journal_is_off(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_JOURNAL", journal.OFF)
    monkeypatch.chdir(tmp_path)
    journal.note("claim", "11.1", value=1.0, holds=True)
    assert journal.events() == [] and list(tmp_path.iterdir()) == []
    with pytest.raises(CourseError, match="journal is off"):
        journal.restore(b"")


def test_it_is_in_the_course_folder_unless_said_otherwise(monkeypatch):
    monkeypatch.delenv("COURSE_JOURNAL")
    assert journal.journal_file() == journal.ROOT / "journal.jsonl"


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400), texts=st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_a_cut_off_file_keeps_every_whole_line_and_can_be_added_to(tmp_path_factory, cut, texts):
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_JOURNAL", str(path))
        for number, text in enumerate(texts):
            journal.note("prediction", f"11.{number}", choice=text)
        whole = journal.events()
        assert [event["choice"] for event in whole] == texts
        path.write_bytes(path.read_bytes()[:cut])
        kept = journal.events()
        assert kept == whole[: len(kept)] and len(kept) >= path.read_bytes().count(b"}\n")
        journal.note("claim", "11.1", value=0.5, holds=True)
        assert journal.events()[:-1] == kept and journal.events()[-1]["kind"] == "claim"


def test_two_processes_write_at_once_and_no_event_is_lost(file):
    program = (
        "import sys; from course_utils import journal\n"
        "for i in range(200): journal.note('claim', f'{sys.argv[1]}.{i}', value=i, holds=True)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, name]) for name in ("11", "12")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(journal.latest("claim")) == 400


def test_a_folder_that_cannot_be_written_to_stops_no_lesson(tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file where a folder is needed")
    monkeypatch.setenv("COURSE_JOURNAL", str(tmp_path / "taken" / "journal.jsonl"))
    check("11.1", 1.0)
    assert journal.events() == []


def test_restoring_adds_what_is_new_and_nothing_twice(file, tmp_path):
    journal.note("exercise", "11.1", state="wrong")
    saved = tmp_path / "downloaded.jsonl"
    saved.write_bytes(file.read_bytes())
    journal.note("exercise", "11.1", state="right")
    assert journal.restore(saved) == 0 and len(journal.events()) == 2
    file.unlink()
    journal.note("exercise", "12.1", state="right")
    assert journal.restore(saved.read_bytes()) == 1
    assert {event["id"] for event in journal.events()} == {"11.1", "12.1"}
    assert journal.restore(saved) == 0


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[1, 2]\n", b'{"kind": "claim"}\n'])
def test_a_foreign_file_is_refused_and_changes_nothing(file, content):
    journal.note("exercise", "11.1", state="right")
    before = file.read_bytes()
    with pytest.raises(CourseError, match="no journal of the course"):
        journal.restore(content)
    assert file.read_bytes() == before
    with pytest.raises(CourseError, match="cannot read"):
        journal.restore(file.parent / "nowhere.jsonl")


def test_checks_and_claims_of_a_lesson_are_noted(file):
    check("11.1", ...)
    assert journal.events() == [], "an exercise that was not attempted is no event"
    check("11.1", "nonsense")
    claim("11.9", "one is positive", 1.0, at_least=0)
    with pytest.raises(ClaimFailed):
        claim("11.8", "nothing is more than one", float("nan"), at_least=1)
    kinds = [(e["kind"], e["id"], e.get("state", e.get("holds"))) for e in journal.events()]
    assert kinds == [
        ("exercise", "11.1", "wrong"), ("claim", "11.9", True), ("claim", "11.8", False),
    ]  # fmt: skip


def test_choices_in_the_widgets_are_noted(file, monkeypatch):
    import IPython.display
    import ipywidgets

    from course_utils import questions

    boxes, real_box = [], ipywidgets.VBox
    monkeypatch.setattr(questions, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", lambda *a, **k: None)
    monkeypatch.setattr(ipywidgets, "VBox", lambda parts: boxes.append(parts) or real_box(parts))
    predict("11.1")
    quiz("11")
    boxes[0][1].value = 1
    question = lesson_11.QUIZ[0]
    right = next(i for i, option in enumerate(question.options) if option.right)
    boxes[1][1].value = (right + 1) % len(question.options)
    boxes[1][1].value = right
    assert journal.latest("prediction")["11.1"]["choice"] == lesson_11.PREDICTIONS["1"].options[1]
    assert journal.latest("quiz")["11.1"]["right"] is True
    one = next(one for one in learner.standing() if one.lesson.startswith("11"))
    assert (one.predicted, one.answered, one.right) == (1, 1, 1)


def test_a_solved_exercise_stays_solved(file):
    for state in ("wrong", "right", "wrong"):
        journal.note("exercise", "11.1", state=state)
    one = next(one for one in learner.standing() if one.lesson.startswith("11"))
    assert one.solved == 1 and one.exercises == len(lesson_11.EXERCISES)


def test_the_command_shows_the_table_and_the_next_step(file, tmp_path, capsys):
    assert door.main(["progress"]) == 0
    assert "Next: 00_start_here" in capsys.readouterr().out
    saved = tmp_path / "saved.jsonl"
    event = {"kind": "exercise", "id": "11.1", "state": "right", "when": "2026-01-01T00:00:00"}
    saved.write_text(json.dumps(event) + "\n", encoding="utf-8")
    assert door.main(["progress", "--restore", str(saved)]) == 0
    said = capsys.readouterr().out
    assert "1 events were new" in said and str(file) in said
    waiting = len(lesson_11.EXERCISES) - 1
    assert ("Next: in 11_fine_tuning_bert" in said) == (waiting > 0)
    assert door.main(["progress", "--restore", str(tmp_path / "none")]) == 2


def test_all_done_says_so():
    done = learner.Standing("11_x", 1, 1, 3, 3, 3, 2, 2, 5)
    assert learner.next_step([done]) == "All exercises are solved."
    waiting = learner.Standing("12_y", 1, 1, 3, 3, 3, 1, 2, 5)
    assert learner.next_step([done, waiting]) == "Next: in 12_y, an exercise waits."


def test_the_widget_offers_the_file_and_takes_it_back(file, monkeypatch):
    import IPython.display
    import ipywidgets

    boxes, bundles, real_box = [], [], ipywidgets.VBox
    monkeypatch.setattr(learner, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: bundles.append(bundle))
    monkeypatch.setattr(ipywidgets, "VBox", lambda parts: boxes.append(parts) or real_box(parts))
    learner.show_progress()
    table, upload, answer = boxes[0]
    assert "Nothing is kept yet" in table.value and "00_start_here" in bundles[0]["text/plain"]
    event = {"kind": "exercise", "id": "11.1", "state": "right", "when": "2026-01-01T00:00:00"}
    content = memoryview(json.dumps(event).encode())
    upload.value = ({"name": "journal.jsonl", "type": "", "size": len(content),
                     "content": content, "last_modified": datetime.now(UTC)},)  # fmt: skip
    assert "1 events were new" in answer.value and 'download="journal.jsonl"' in table.value
