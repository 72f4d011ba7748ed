"""Checks of what a generator is asked for: what is wrong is said with what is allowed."""

from collections.abc import Iterable

import numpy as np

WHOLE, REAL = (int, np.integer), (int, float, np.number)


def number(value, low, high, kind) -> bool:
    """Whether it is a number of this kind from low to high; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high


def common_rules(count, seed, size):
    """The rules that all generators of pictures share."""
    return (
        ("count", count, number(count, 1, np.inf, WHOLE), "a whole number of at least 1"),
        ("seed", seed, number(seed, 0, np.inf, WHOLE), "a whole number of at least 0"),
        ("size", size, number(size, 32, 256, WHOLE), "a whole number of pixels from 32 to 256"),
    )


def check(rules: Iterable[tuple[str, object, bool, str]]) -> None:
    """Raise a ValueError for the first rule that is broken.

    Args:
        rules: name, value, whether it is fine, and what is allowed, in words.
    """
    for name, value, fine, allowed in rules:
        if not fine:
            raise ValueError(
                f"{name}={value!r} is not allowed: it must be {allowed}. Change {name}."
            )
