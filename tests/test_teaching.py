"""The instructor's guide: schedules add up, name lessons that exist, and leave time to breathe."""

import json
import re

import pytest

from course_utils.notebooks import TIMINGS, lessons
from course_utils.teaching import MISCONCEPTIONS, PATHS, timetable

NUMBERS = {lesson.number for lesson in lessons()}
LENGTH = {"Ninety minutes": 90, "One day": 480, "Two days": 480}  # at most, a day
each_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)


@each_path
def test_a_schedule_fits_its_day(path):
    assert len(path.starts) == len(path.days)
    for day in path.days:
        total = sum(slot.minutes for slot in day)
        assert 0.85 * LENGTH[path.name] <= total <= LENGTH[path.name]


@each_path
def test_lessons_exist_and_their_slots_are_long_enough_to_run_them(path):
    timings = json.loads(TIMINGS.read_text(encoding="utf-8"))
    for slot in (slot for day in path.days for slot in day):
        if re.fullmatch(r"\d\d", slot.what):
            assert slot.what in NUMBERS and len(slot.say) > 20
            seconds = [run["seconds"] for run in timings.get(slot.what, {}).values()]
            # run twice over, on laptops half as fast, it still leaves most of the slot to talk
            assert all(slot.minutes * 60 >= 8 * one for one in seconds)
    taught = [slot.what for day in path.days for slot in day if slot.what in NUMBERS]
    assert len(set(taught)) == len(taught), "no lesson twice"


@each_path
def test_nobody_sits_for_two_hours_and_a_half_without_a_break(path):
    for day in path.days:
        sitting = 0
        for slot in day:
            sitting = 0 if slot.what in ("Break", "Lunch") else sitting + slot.minutes
            assert sitting <= 150


def test_the_timetable_counts_hours_and_minutes():
    (day,) = timetable(PATHS[0])
    assert [start for start, _ in day] == ["10:00", "10:10", "10:35", "10:40", "11:15"]


@pytest.mark.parametrize("number", MISCONCEPTIONS)
def test_a_misconception_is_answered_by_a_claim_of_its_lesson(number):
    lesson = next(lesson for lesson in lessons() if lesson.number == number)
    claims = re.findall(r'claim\("([\d.]+)"', lesson.source.read_text(encoding="utf-8"))
    for one in MISCONCEPTIONS[number]:
        assert one.claim in claims and one.believed != one.answer
