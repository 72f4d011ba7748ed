"""Training only the words that occur changes nothing else (course_utils/live_rows.py)."""

import pytest
import torch
from conftest import tiny_bert, tiny_image_task, tiny_text_task
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.live_rows import live_rows, own_table
from course_utils.recipes import full_finetuning
from course_utils.train import evaluate, fit

quick = settings(deadline=None, max_examples=10)


def table(model) -> torch.nn.Embedding:
    found = own_table(model)
    assert found is not None
    return found


@quick
@given(
    st.integers(6, 30), st.integers(0, 10**6), st.sampled_from(["adamw", "sgd"]),
    st.sampled_from([0.0, 0.3]),
)  # fmt: skip
def test_the_weights_are_those_of_training_the_whole_table(count, seed, optimizer, decay):
    ends = []
    for switch in (False, True):
        model = tiny_bert()
        recipe = full_finetuning(
            epochs=2, batch_size=8, learning_rate=1e-3, optimizer=optimizer, weight_decay=decay,
            precision="fp32", live_rows=switch,
        )  # fmt: skip
        history = fit(model, tiny_text_task(count, seed=seed), recipe, silent=True)
        ends.append((history, model.state_dict()))
    (whole, expected), (live, found) = ends
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4, msg=name)
    assert live.column("valid_loss") == pytest.approx(whole.column("valid_loss"), rel=1e-4)
    assert live.trained_weights == whole.trained_weights


def test_words_that_do_not_occur_keep_their_rows_bit_for_bit():
    model, task = tiny_bert(), tiny_text_task()
    weight = table(model).weight
    before = weight.detach().clone()
    fit(model, task, full_finetuning(epochs=1, weight_decay=0.5), silent=True)
    assert table(model).weight is weight
    occurring = task.train.inputs.ids.unique().long()
    others = torch.ones(len(before), dtype=torch.bool).index_fill(0, occurring, False)
    assert others.any() and weight[others].equal(before[others])
    assert not weight[occurring].equal(before[occurring])


def test_inside_the_table_is_small_and_the_state_is_whole():
    model, task = tiny_bert(), tiny_text_task()
    before = model.state_dict()
    with live_rows(model, task.train.inputs):
        occurring = task.train.inputs.ids.unique().long()
        assert len(table(model).weight) == len(occurring) < 32
        inside = model.state_dict()
        assert all(inside[name].equal(value) for name, value in before.items())
        with torch.no_grad():
            table(model).weight.add_(1.0)
        name = "encoder.embeddings.word_embeddings.weight"
        assert model.state_dict()[name][occurring].equal(before[name][occurring] + 1)
        model.load_state_dict(before)
        assert table(model).weight.equal(before[name][occurring])
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_a_text_of_words_that_do_not_occur_is_understood_inside():
    model = tiny_bert()
    task = tiny_text_task(30)
    expected = evaluate(model, task.test, precision="fp32").logits
    few = task.train.inputs.select(torch.tensor([0]))
    with live_rows(model, few):
        torch.testing.assert_close(evaluate(model, task.test, precision="fp32").logits, expected)


def test_an_error_inside_leaves_the_whole_table():
    model = tiny_bert()
    weight = table(model).weight
    with (
        pytest.raises(RuntimeError, match="inside"),
        live_rows(model, tiny_text_task().train.inputs),
    ):
        raise RuntimeError("something went wrong inside")
    assert table(model).weight is weight and "forward" not in table(model).__dict__


def test_a_table_that_is_also_the_output_is_left_alone():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config)
    assert own_table(model) is None
    with live_rows(model, tiny_text_task().train.inputs):
        assert len(model.transformer.wte.weight) == 32


def test_images_are_left_alone():
    model = tiny_bert()
    with live_rows(model, tiny_image_task().train.inputs):
        assert len(table(model).weight) == 32
