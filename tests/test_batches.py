"""Tests of batches (course_utils/batches.py)."""

import pytest
import torch
from conftest import tiny_image_task, tiny_text_task
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.batches import POOL, Batch, Batches, epoch_order, pad_texts
from course_utils.data import Examples, TokenizedTexts

quick = settings(deadline=None, max_examples=40)

CPU = torch.device("cpu")
LISTS = st.lists(st.integers(1, 30), min_size=1, max_size=90)  # lengths of texts


def texts(lengths: list[int]) -> TokenizedTexts:
    """Texts of these lengths; text i consists of the number i + 1."""
    return TokenizedTexts.from_lists([[i + 1] * n for i, n in enumerate(lengths)])


def generator(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)


SEEDS = st.none() | st.integers(0, 2**40)


@quick
@given(LISTS, st.integers(1, 20), SEEDS, st.booleans())
def test_each_example_is_in_exactly_one_batch(lengths, batch_size, seed, is_text):
    lengths_tensor = torch.tensor(lengths) if is_text else None
    order = epoch_order(lengths_tensor, len(lengths), batch_size, generator(seed))
    assert sorted(torch.cat(order).tolist()) == list(range(len(lengths)))


@quick
@given(LISTS, st.integers(1, 20), SEEDS)
def test_all_batches_are_full_but_one(lengths, batch_size, seed):
    order = epoch_order(torch.tensor(lengths), len(lengths), batch_size, generator(seed))
    sizes = sorted(map(len, order), reverse=True)
    assert len(sizes) == -(-len(lengths) // batch_size)
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)


@quick
@given(LISTS, st.integers(1, 20))
def test_the_fixed_order_goes_from_short_to_long(lengths, batch_size):
    order = epoch_order(torch.tensor(lengths), len(lengths), batch_size, None)
    assert torch.tensor(lengths)[torch.cat(order)].tolist() == sorted(lengths)


@quick
@given(LISTS, st.integers(1, 20), st.integers(0, 2**40))
def test_a_pool_of_texts_needs_no_more_padding_than_its_sorted_order(lengths, batch_size, seed):
    lengths = torch.tensor(lengths[: POOL * batch_size])  # one pool
    order = epoch_order(lengths, len(lengths), batch_size, generator(seed))
    spans = sorted((int(lengths[b].min()), int(lengths[b].max())) for b in order)
    ends, starts = [end for _, end in spans[:-1]], [start for start, _ in spans[1:]]
    assert all(end <= start for end, start in zip(ends, starts, strict=True))  # no overlap


@quick
@given(st.integers(40, 90), st.integers(1, 8), st.integers(0, 2**40), st.booleans())
def test_the_seed_decides_the_order(count, batch_size, seed, is_text):
    lengths = torch.arange(count) % 7 if is_text else None

    def order(seed):
        return torch.cat(epoch_order(lengths, count, batch_size, generator(seed))).tolist()

    assert order(seed) == order(seed)
    assert order(seed) != order(seed + 1)


def test_one_generator_gives_another_order_each_epoch():
    source = Batches(tiny_image_task().train, 4, CPU)
    one = generator(0)
    assert torch.cat(source.order(one)).tolist() != torch.cat(source.order(one)).tolist()


@quick
@given(LISTS, st.data())
def test_texts_are_padded_on_the_right_and_the_mask_says_where(lengths, data):
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=12))
    pad_id = data.draw(st.sampled_from([0, 99]))
    ids, mask = pad_texts(texts(lengths), torch.tensor(chosen), pad_id)
    assert ids.dtype == torch.int64 and ids.shape == (len(chosen), max(lengths[i] for i in chosen))
    for row, i in enumerate(chosen):
        assert ids[row].tolist() == [i + 1] * lengths[i] + [pad_id] * (ids.shape[1] - lengths[i])
        if mask is not None:
            assert mask[row].tolist() == [t < lengths[i] for t in range(ids.shape[1])]


@quick
@given(LISTS, st.data())
def test_there_is_a_mask_only_where_something_is_padded(lengths, data):
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=6))
    _, mask = pad_texts(texts(lengths), torch.tensor(chosen), 0)
    assert (mask is None) is (len({lengths[i] for i in chosen}) == 1)


@quick
@given(LISTS, st.integers(1, 9), SEEDS)
def test_an_epoch_carries_inputs_and_labels_of_the_same_examples(lengths, batch_size, seed):
    source = Batches(Examples(texts(lengths), torch.arange(len(lengths))), batch_size, CPU)
    batches = list(source.epoch(generator(seed)))
    assert len(batches) == len(source)
    for batch in batches:
        assert batch.labels.tolist() == batch.indices.tolist()
        assert (batch.inputs[:, 0] - 1).tolist() == batch.labels.tolist()


@quick
@given(st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_splitting_keeps_every_row_in_order(size, parts, masked):
    rows = torch.arange(size)
    mask = (rows[:, None] % 3 >= torch.arange(2)) if masked else None
    batch = Batch(rows[:, None].repeat(1, 2), mask, rows + 100, rows + 200)
    pieces = batch.split(parts)
    assert torch.cat([p.inputs for p in pieces]).equal(batch.inputs)
    assert torch.cat([p.labels for p in pieces]).equal(batch.labels)
    assert torch.cat([p.indices for p in pieces]).equal(batch.indices)
    assert [p.mask is None for p in pieces] == [not masked] * len(pieces)
    assert not masked or torch.cat([p.mask for p in pieces]).equal(mask)


@quick
@given(st.integers(1, 30), st.integers(1, 30))
def test_micro_batches_are_as_small_as_asked_for(size, parts):
    rows = torch.arange(size)
    pieces = Batch(rows, None, rows, rows).split(parts)
    assert 1 <= len(pieces) <= parts
    assert max(map(len, pieces)) == -(-size // parts)
    assert min(map(len, pieces)) >= 1


def test_images_are_the_rows_of_the_data():
    examples = tiny_image_task().train
    for batch in Batches(examples, 5, CPU).epoch(generator(3)):
        assert batch.inputs.dtype == torch.uint8 and batch.mask is None
        assert batch.inputs.equal(examples.inputs[batch.indices])
        assert batch.labels.equal(examples.labels[batch.indices])


def test_augmentation_gets_the_whole_batch_and_changes_the_images_only():
    seen = []

    def invert(images):
        seen.append(tuple(images.shape))
        return 255 - images

    source = Batches(tiny_image_task().train, 5, CPU, augment=invert)
    batch = source.batch(torch.tensor([4, 2]))
    changed = source.augmented(batch)
    assert seen == [(2, 3, 32, 32)]  # `batch` itself does not augment
    assert changed.inputs.equal(255 - batch.inputs)
    assert changed.labels.equal(batch.labels) and changed.indices.equal(batch.indices)


@pytest.mark.parametrize("batch_size, batches", [(1, 60), (7, 9), (60, 1), (1000, 1)])
def test_the_length_is_the_number_of_batches(batch_size, batches):
    source = Batches(tiny_text_task(60).train, batch_size, CPU)
    assert len(source) == batches == len(list(source.epoch()))
