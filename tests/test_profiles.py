"""Tests of the two profiles (course_utils/profiles.py)."""

import pytest

from course_utils.errors import CourseError
from course_utils.profiles import PROFILES, check_profile, select


def test_each_profile_selects_its_own_value():
    assert select("quick", quick=8, full=64) == 8
    assert select("full", quick=8, full=64) == 64
    assert [check_profile(name) for name in PROFILES] == ["quick", "full"]


@pytest.mark.parametrize("profile", ["", "Quick", "fast", None, 0])
def test_an_unknown_profile_is_named_with_those_that_exist(profile):
    with pytest.raises(CourseError, match=f"no profile {profile!r}; the profiles are quick, full"):
        select(profile, quick=1, full=2)


def test_a_value_for_each_profile_is_required():
    with pytest.raises(TypeError):
        select("quick", quick=1)
