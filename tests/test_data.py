"""Tests of examples, tasks and tokenized texts (course_utils/data.py)."""

import pytest
import torch
from conftest import TinyTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.data import (
    MAX_CHARACTERS,
    Examples,
    Task,
    TokenizedTexts,
    check_inputs,
    tokenize,
    tokenize_texts,
)
from course_utils.errors import CourseError

token_lists = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=9), max_size=12)
label_lists = st.lists(st.integers(0, 5), min_size=1, max_size=80)


def numbered(labels: list[int]) -> Examples:
    """Texts that tell their own position, with a column of each kind."""
    places = list(range(len(labels)))
    return Examples(
        [f"text {i}" for i in places],
        torch.tensor(labels),
        {"place": torch.tensor(places), "parity": ["odd" if i % 2 else "even" for i in places]},
    )


def places(examples: Examples) -> list[int]:
    return examples.columns["place"].tolist()


def task(train=("a", "b"), valid=("c",), test=("d",), labels=None, classes=("no", "yes")) -> Task:
    labels = {"train": [0, 1], "valid": [0], "test": [1], **(labels or {})}
    splits = {"train": train, "valid": valid, "test": test}
    return Task(
        "letters", "text", classes,
        **{
            name: Examples(list(texts), torch.tensor(labels[name], dtype=torch.long))
            for name, texts in splits.items()
        },
    )  # fmt: skip


# --- examples -------------------------------------------------------------------------------


@settings(deadline=None)
@given(label_lists, st.data())
def test_select_keeps_inputs_labels_and_columns_together(labels, data):
    examples = numbered(labels)
    wanted = data.draw(st.lists(st.integers(0, len(labels) - 1), max_size=30))
    chosen = examples.select(torch.tensor(wanted, dtype=torch.long))
    assert places(chosen) == wanted
    assert chosen.inputs == [f"text {i}" for i in wanted]
    assert chosen.labels.tolist() == [labels[i] for i in wanted]
    assert chosen.columns["parity"] == ["odd" if i % 2 else "even" for i in wanted]


@settings(deadline=None)
@given(label_lists)
def test_select_takes_a_mask(labels):
    examples = numbered(labels)
    mask = examples.labels == labels[0]
    assert places(examples.select(mask)) == [i for i, y in enumerate(labels) if y == labels[0]]


def test_select_works_on_images_and_token_ids():
    images = torch.arange(4 * 3 * 2 * 2, dtype=torch.uint8).view(4, 3, 2, 2)
    chosen = Examples(images, torch.arange(4)).select([3, 1])
    assert torch.equal(chosen.inputs, images[[3, 1]])
    texts = TokenizedTexts.from_lists([[1], [2, 2], [], [4]])
    chosen = Examples(texts, torch.arange(4)).select([3, 1, 2])
    assert [ids.tolist() for ids in chosen.inputs] == [[4], [2, 2], []]


@settings(deadline=None)
@given(label_lists)
def test_where_divides_the_examples(labels):
    examples = numbered(labels)
    odd, even = examples.where("parity", "odd"), examples.where("parity", "even")
    assert sorted(places(odd) + places(even)) == list(range(len(labels)))
    assert all(i % 2 for i in places(odd)) and not any(i % 2 for i in places(even))
    assert len(examples.where("parity", "neither")) == 0


def test_where_names_the_columns_that_there_are():
    with pytest.raises(CourseError, match=r"no column 'colour'.*\['parity', 'place'\]"):
        numbered([0, 1]).where("colour", "red")


@settings(deadline=None)
@given(label_lists, st.integers(0, 10), st.data())
def test_subsets_grow_and_keep_the_shares_of_the_classes(labels, seed, data):
    examples = numbered(labels)
    small = data.draw(st.integers(1, len(labels)))
    large = data.draw(st.integers(small, len(labels)))
    less, more = (examples.subset(count, seed) for count in (small, large))
    assert (len(less), len(more)) == (small, large)
    assert len(set(places(more))) == large, "an example was taken twice"
    assert set(places(less)) <= set(places(more))
    for label in set(labels):
        share = large * labels.count(label) / len(labels)
        assert abs(more.labels.tolist().count(label) - share) < 1


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(1, 40), st.integers(0, 5))
def test_shares_hold_where_one_class_outweighs_the_others(rare, size, seed):
    labels = [0] * size + list(range(1, rare + 1))
    for count in range(1, len(labels) + 1):
        taken = numbered(labels).subset(count, seed).labels.bincount(minlength=rare + 1)
        share = torch.tensor([size, *[1] * rare]) * count / len(labels)
        assert (taken - share).abs().max() < 1


def test_a_subset_is_decided_by_its_seed():
    examples = numbered([0, 1, 2] * 40)
    assert places(examples.subset(30, seed=1)) == places(examples.subset(30, seed=1))
    assert set(places(examples.subset(30, seed=1))) != set(places(examples.subset(30, seed=2)))


@pytest.mark.parametrize("count", [0, -1, 4])
def test_a_subset_of_impossible_size_is_refused(count):
    with pytest.raises(CourseError, match=f"cannot take {count} of 3"):
        numbered([0, 1, 0]).subset(count)


def test_each_input_needs_a_label():
    with pytest.raises(CourseError, match="2 inputs but 1 labels"):
        Examples(["a", "b"], torch.tensor([0]))


# --- tokenized texts ------------------------------------------------------------------------


@settings(deadline=None)
@given(token_lists)
def test_token_ids_come_back_as_they_went_in(lists):
    texts = TokenizedTexts.from_lists(lists)
    assert len(texts) == len(lists)
    assert [ids.tolist() for ids in texts] == lists
    assert texts.lengths.tolist() == [len(ids) for ids in lists]
    assert texts.ids.dtype == torch.int32 and len(texts.ids) == sum(map(len, lists))


@settings(deadline=None)
@given(token_lists.filter(len), st.data())
def test_texts_are_selected_and_counted_from_either_end(lists, data):
    texts = TokenizedTexts.from_lists(lists)
    wanted = data.draw(st.lists(st.integers(-len(lists), len(lists) - 1), max_size=8))
    chosen = texts.select(torch.tensor(wanted, dtype=torch.long))
    assert [ids.tolist() for ids in chosen] == [lists[i] for i in wanted]
    with pytest.raises(IndexError):
        texts[len(lists)]


def test_tokenize_turns_all_splits_and_changes_nothing_else():
    before = task(train=("abc", "de" * 50), valid=("f",), test=("gh",))
    after = tokenize(before, TinyTokenizer(), max_length=7)
    assert after.train.inputs.lengths.tolist() == [3, 7]
    assert after.valid.inputs.lengths.tolist() == [1]
    expected = TinyTokenizer()(["gh"])["input_ids"]
    assert [ids.tolist() for ids in after.test.inputs] == expected
    assert torch.equal(after.train.labels, before.train.labels)
    assert after.classes == before.classes and before.train.inputs[0] == "abc"


def test_tokenizing_twice_changes_nothing():
    once = tokenize(task(), TinyTokenizer())
    assert tokenize(once, TinyTokenizer()).train.inputs is once.train.inputs


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no text to tokenize"),
        (["fine", "  \n"], "text 1 is empty"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.uint8), "these are images"),
    ],
)
def test_what_cannot_be_tokenized_is_refused(texts, message):
    with pytest.raises(CourseError, match=message):
        tokenize_texts(texts, TinyTokenizer())


# --- tasks ----------------------------------------------------------------------------------


def test_a_sound_task_passes_and_describes_itself():
    assert str(task()) == "letters: 2 classes; 2 training, 1 validation, 1 test texts"


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_an_empty_split_is_refused(split):
    name = {"train": "training", "valid": "validation", "test": "test"}[split]
    with pytest.raises(CourseError, match=f"the {name} split of 'letters' is empty.*at least one"):
        task(**{split: ()}, labels={split: []})


def test_one_class_only_is_refused():
    with pytest.raises(CourseError, match=r"only one class, 'yes'.*at least two; add examples"):
        task(labels={"train": [1, 1], "valid": [1]})


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_class_that_training_lacks_is_named(split):
    name = {"valid": "validation", "test": "test"}[split]
    with pytest.raises(CourseError, match=f"the {name} split .* lacks: 'maybe'; add .* or remove"):
        task(labels={split: [2]}, classes=("no", "yes", "maybe"))


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("label", [-1, 2, 99])
def test_a_label_out_of_range_is_named(split, label):
    wrong = [0, label] if split == "train" else [label]
    with pytest.raises(CourseError, match=f"the label {label}, .* 2 classes from 0 to 1"):
        task(labels={split: wrong})


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\u00a0"])
def test_an_empty_text_is_refused_with_its_place(text):
    with pytest.raises(CourseError, match="training split.*text 1 is empty; remove it or fill"):
        task(train=("a", text))


@pytest.mark.parametrize("value", [None, 3.5, b"bytes", float("nan")])
def test_what_is_no_string_is_refused_with_its_value(value):
    with pytest.raises(CourseError, match=f"text 0 is {value!r}; every input must be a string"):
        task(test=(value,))


def test_a_document_of_a_million_characters_is_refused():
    with pytest.raises(CourseError, match=r"text 0 has 1,000,000 characters.*200,000; split it"):
        task(valid=("word " * 200_000,))
    assert task(valid=("x" * MAX_CHARACTERS,)), "the limit itself is allowed"


@pytest.mark.parametrize(
    "images",
    [
        torch.full((2, 3, 4, 4), float("nan")),
        torch.zeros(2, 4, 4, 3, dtype=torch.uint8),
        torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
        torch.zeros(2, 3, 4, dtype=torch.uint8),
    ],
    ids=["floats with NaN", "channels last", "grey", "three dimensions"],
)
def test_images_of_the_wrong_kind_are_refused(images):
    with pytest.raises(CourseError, match=r"shape \(2, .* and type .*expected uint8 of shape"):
        check_inputs(images, "photographs")


def test_limits_cut_each_split_in_proportion_and_never_grow_it():
    whole = Task(
        "letters", "text", ("no", "yes"), numbered([0, 0, 0, 1] * 10), numbered([0, 1]),
        numbered([0, 1] * 4),
    )  # fmt: skip
    small = whole.limited(train=20, valid=99, test=4)
    assert (len(small.train), len(small.valid), len(small.test)) == (20, 2, 4)
    assert small.train.labels.bincount().tolist() == [15, 5]
    assert small.test.labels.bincount().tolist() == [2, 2]


def test_with_train_checks_the_new_examples():
    with pytest.raises(CourseError, match="only one class"):
        task().with_train(Examples(["a", "b"], torch.tensor([0, 0])))
