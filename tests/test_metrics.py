"""Tests of metrics (course_utils/metrics.py): scikit-learn gives the same."""

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.errors import CourseError
from course_utils.metrics import accuracy, bootstrap_accuracy, confusion_matrix, macro_f1, spread

quick = settings(deadline=None, max_examples=40)


@st.composite
def predictions(draw):
    """(labels, predictions, number of classes)"""
    classes = draw(st.integers(2, 6))
    label = st.integers(0, classes - 1)
    pairs = draw(st.lists(st.tuples(label, label), min_size=1, max_size=60))
    return torch.tensor([a for a, _ in pairs]), torch.tensor([b for _, b in pairs]), classes


@quick
@given(predictions())
def test_accuracy(case):
    labels, predicted, _ = case
    assert accuracy(labels, predicted) == pytest.approx(
        sklearn.metrics.accuracy_score(labels, predicted)
    )


@quick
@given(predictions())
def test_confusion_matrix(case):
    labels, predicted, classes = case
    expected = sklearn.metrics.confusion_matrix(labels, predicted, labels=range(classes))
    assert confusion_matrix(labels, predicted, classes).numpy().tolist() == expected.tolist()


@quick
@given(predictions())
def test_macro_f1_leaves_absent_classes_out_as_scikit_learn_does(case):
    labels, predicted, classes = case
    expected = sklearn.metrics.f1_score(labels, predicted, average="macro", zero_division=0)
    assert macro_f1(labels, predicted, classes) == pytest.approx(expected)


@quick
@given(predictions())
def test_arrays_are_as_good_as_tensors(case):
    labels, predicted, classes = case
    a, b = labels.numpy(), predicted.numpy()
    assert accuracy(a, b) == accuracy(labels, predicted)
    assert macro_f1(a, b, classes) == macro_f1(labels, predicted, classes)


def test_rows_are_true_classes_and_columns_predicted_ones():
    matrix = confusion_matrix(torch.tensor([0, 0, 1]), torch.tensor([1, 1, 1]), 2)
    assert matrix.tolist() == [[0, 2], [0, 1]]


@quick
@given(predictions(), st.integers(0, 2**31))
def test_the_interval_holds_the_value_and_is_the_seeds(case, seed):
    labels, predicted, _ = case
    interval = bootstrap_accuracy(labels, predicted, seed, rounds=200)
    assert interval.value == pytest.approx(accuracy(labels, predicted))
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval == bootstrap_accuracy(labels, predicted, seed, rounds=200)


def test_the_interval_is_as_wide_as_drawing_the_examples_again_says():
    generator = np.random.default_rng(0)
    right = generator.random(200) < 0.8
    labels = torch.ones(200, dtype=torch.long)
    interval = bootstrap_accuracy(labels, torch.from_numpy(right).long())
    means = right[generator.integers(0, 200, (4000, 200))].mean(1)
    expected = np.quantile(means, [0.025, 0.975])
    assert [interval.low, interval.high] == pytest.approx(expected.tolist(), abs=0.011)


def test_more_examples_narrow_the_interval():
    def width(count):
        labels = torch.arange(count) % 2
        interval = bootstrap_accuracy(labels, torch.zeros(count, dtype=torch.long))
        return interval.high - interval.low

    assert width(1600) < 0.6 * width(400) < 0.36 * width(100)


def test_an_interval_reads_as_a_value_with_its_range():
    interval = bootstrap_accuracy(torch.ones(5), torch.ones(5))
    assert str(interval) == "1.000 [1.000, 1.000]"


@pytest.mark.parametrize("counts", [(3, 2), (0, 0), (0, 1)])
@pytest.mark.parametrize(
    "metric",
    [accuracy, bootstrap_accuracy, lambda a, b: macro_f1(a, b, 2),
     lambda a, b: confusion_matrix(a, b, 2)],
)  # fmt: skip
def test_labels_and_predictions_must_be_equally_many(metric, counts):
    labels, predicted = (torch.zeros(n, dtype=torch.long) for n in counts)
    with pytest.raises(CourseError, match=f"{counts[0]} labels and {counts[1]} predictions"):
        metric(labels, predicted)


def test_spread_is_the_median_and_the_range():
    assert spread([3.0, 1.0, 2.0]) == "2 (1 to 3)"
    assert spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0 to 3.0)"
    assert spread([0.5, 0.25], digits=2) == "0.38 (0.25 to 0.50)"
