"""Lesson 20: CKA has the properties that make it a measure of likeness."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_utils.lessons.lesson_20 import cka


def features(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@given(st.integers(10, 60), st.integers(1, 30), st.integers(0, 99), st.floats(0.1, 50))
def test_turned_scaled_and_shifted_features_are_the_same(rows, columns, seed, scale):
    x = features(rows, columns, seed)
    turn = torch.linalg.qr(features(columns, columns, seed + 1))[0]
    assert cka(x, x) == pytest.approx(1)
    assert cka(x, scale * x @ turn + 3) == pytest.approx(1, abs=1e-3)


def test_it_does_not_matter_which_comes_first():
    x, y = features(40, 5), features(40, 5) + features(40, 5, 1)
    assert cka(x, y) == pytest.approx(cka(y, x))
    assert 0.2 < cka(x, y) < 0.9


def test_many_features_of_few_examples_are_not_alike_by_chance():
    found = [cka(features(50, 400, seed), features(50, 400, 1000 + seed)) for seed in range(20)]
    assert abs(sum(found) / len(found)) < 0.05


def test_the_more_noise_the_less_alike():
    x = features(80, 10)
    found = [cka(x, x + noise * features(80, 10, 5)) for noise in (0, 0.5, 1, 2, 4)]
    assert found == sorted(found, reverse=True)
