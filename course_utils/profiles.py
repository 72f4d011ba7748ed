"""The two profiles. A profile selects assets and sizes; it never changes a lesson's code."""

from typing import TypeVar

from course_utils.errors import CourseError

PROFILES = ("quick", "full")
T = TypeVar("T")


def check_profile(profile: str) -> str:
    """Return `profile` unchanged, or raise `CourseError` if there is no such profile."""
    if profile not in PROFILES:
        raise CourseError(
            f"there is no profile {profile!r}; the profiles are {', '.join(PROFILES)}: "
            'set PROFILE = "quick" (any laptop, no network) or "full" (a GPU and the network)'
        )
    return profile


def select(profile: str, *, quick: T, full: T) -> T:
    """Return the value that belongs to the profile.

    >>> select("quick", quick=8, full=64)
    8
    """
    return {"quick": quick, "full": full}[check_profile(profile)]
