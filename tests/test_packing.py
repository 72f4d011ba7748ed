"""Packed equals padded (course_utils/packing.py)."""

import pytest
import torch
from conftest import TinyTokenizer, tiny_bert, tiny_text_task
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_utils.batches import Batches
from course_utils.data import Examples, TokenizedTexts
from course_utils.device import choose_compute
from course_utils.errors import CourseError
from course_utils.models import TextClassifier
from course_utils.operations import faster_operations
from course_utils.packing import Packing, pack_texts
from course_utils.parallel import Replicas
from course_utils.recipes import full_finetuning
from course_utils.stage import run_stages, stages
from course_utils.train import fit, gradients

quick = settings(deadline=None, max_examples=20)
CPU = torch.device("cpu")


def tiny(family: str, pooling: str = "mean") -> TextClassifier:
    """A tiny model of a family of transformers, without dropout."""
    import transformers

    torch.manual_seed(0)
    if family == "bert":
        model = tiny_bert()
        model.pooling = pooling
        return model
    if family == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=32, n_positions=64, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0,
        )  # fmt: skip
        body: nn.Module = transformers.GPT2Model(config)
    else:
        config = transformers.DistilBertConfig(
            vocab_size=32, max_position_embeddings=64, dim=16, n_layers=2, n_heads=2,
            hidden_dim=32, dropout=0.0, attention_dropout=0.0,
        )  # fmt: skip
        body = transformers.DistilBertModel(config)
    return TextClassifier(body, TinyTokenizer(), 3, pooling, dropout=0.0).eval()


FAMILIES, POOLINGS = ("bert", "distilbert", "gpt2"), ("mean", "first", "last")
MODELS = {(family, pooling): tiny(family, pooling) for family in FAMILIES for pooling in POOLINGS}


@quick
@given(st.sampled_from(sorted(MODELS)), st.integers(1, 12), st.integers(0, 10**6),
       st.integers(1, 4))  # fmt: skip
def test_packed_texts_give_the_logits_and_gradients_of_padded_ones(key, size, seed, micro_batches):
    model, examples = MODELS[key], tiny_text_task(12, seed=seed).train
    parts, recipe = stages(model), full_finetuning()
    results = []
    for pack in (False, True):
        batch = Batches(examples, size, CPU, pack=pack).batch(torch.arange(size))
        with faster_operations(model, packed=pack):
            logits = run_stages(parts, batch.inputs, batch.mask)
            gradients(Replicas(parts), batch, recipe, choose_compute("fp32"), micro_batches)
        results.append((logits, [weight.grad.clone() for weight in model.parameters()]))
    (padded, padded_gradients), (packed, packed_gradients) = results
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-4)
    for one, other in zip(packed_gradients, padded_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("changes", [
    {}, dict(accumulate=3), dict(train_from="layer1", cache_prefix=False), dict(live_rows=False),
    dict(faster_operations=False),
])  # fmt: skip
def test_a_packed_run_ends_as_a_padded_one(changes):
    ends = []
    for pack in (False, True):
        model = tiny_bert()
        recipe = full_finetuning(epochs=2, batch_size=8, precision="fp32", pack=pack, **changes)
        history = fit(model, tiny_text_task(30), recipe, silent=True)
        ends.append((history.column("train_loss"), list(model.parameters())))
    assert ends[1][0] == pytest.approx(ends[0][0], rel=1e-4)
    for one, other in zip(ends[1][1], ends[0][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@quick
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.data())
def test_each_text_keeps_its_tokens_and_positions(lengths, data):
    texts = TokenizedTexts.from_lists([[i + 1] * n for i, n in enumerate(lengths)])
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=6))
    ids, packing = pack_texts(texts, torch.tensor(chosen))
    assert ids.shape == (1, sum(lengths[i] for i in chosen)) and len(packing) == len(chosen)
    assert ids[0].tolist() == [i + 1 for i in chosen for _ in range(lengths[i])]
    assert packing.positions()[0].tolist() == [p for i in chosen for p in range(lengths[i])]
    assert packing.longest == max(lengths[i] for i in chosen)


@quick
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 9))
def test_a_packed_batch_splits_into_whole_texts(lengths, parts):
    size = len(lengths)
    texts = TokenizedTexts.from_lists([[i + 1] * n for i, n in enumerate(lengths)])
    examples = Examples(texts, torch.arange(size))
    batch = Batches(examples, size, CPU, pack=True).batch(torch.arange(size))
    pieces = batch.split(parts)
    assert torch.cat([piece.inputs for piece in pieces], 1).equal(batch.inputs)
    assert torch.cat([piece.labels for piece in pieces]).equal(batch.labels)
    for piece in pieces:
        assert isinstance(piece.mask, Packing) and len(piece.mask) == len(piece)
        assert piece.mask.lengths.sum() == piece.inputs.shape[1]


def test_packing_refuses_a_model_that_cannot_pool_it():
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16)  # fmt: skip
    model = BertForSequenceClassification(config)
    with pytest.raises(CourseError, match="load_text_model"):
        fit(model, tiny_text_task(), full_finetuning(pack=True), silent=True)
