"""Labels other than one class an example: places in a text, and one label a token."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import TinyTokenizer, tiny_bert
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_utils.batches import Batches
from course_utils.data import IGNORED, Examples, Task, TokenizedTexts, causal_labels
from course_utils.device import choose_compute
from course_utils.errors import CourseError
from course_utils.models import SpanFinder, TextTagger
from course_utils.operations import faster_operations
from course_utils.parallel import Replicas
from course_utils.recipes import full_finetuning, top_stages
from course_utils.stage import run_stages, stages
from course_utils.train import evaluate, fit, gradients, score

quick = settings(deadline=None, max_examples=15)
CPU = torch.device("cpu")
FP32 = choose_compute("fp32")
TAGS = ("none", "even", "three")

texts = st.lists(st.lists(st.integers(1, 31), min_size=2, max_size=9), min_size=1, max_size=7)
tagged = texts.map(lambda rows: tagging(rows))


def tagging(rows: list[list[int]]) -> Examples:
    """Each token's tag follows from its id; the first token has none that counts."""
    labels = [[IGNORED, *((1 if i % 2 == 0 else 2 if i % 3 == 0 else 0) for i in row[1:])]
              for row in rows]  # fmt: skip
    return Examples(TokenizedTexts.from_lists(rows), TokenizedTexts.from_lists(labels))


def pointing(rows: list[list[int]]) -> Examples:
    """The answer begins at the smallest id and ends at the largest one."""
    spans = [[row.index(min(row)), row.index(max(row))] for row in rows]
    return Examples(TokenizedTexts.from_lists(rows), torch.tensor(spans))


def many(kind, count: int = 40, seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(3, 12, (count,), generator=generator).tolist()
    return kind([torch.randint(1, 31, (n,), generator=generator).tolist() for n in sizes])


def task(kind) -> Task:
    return Task("tiny", "text", TAGS, many(kind), many(kind, 12, 1), many(kind, 12, 2))


def tagger() -> TextTagger:
    torch.manual_seed(0)
    return TextTagger(tiny_bert().encoder, TinyTokenizer(), len(TAGS), dropout=0.0).eval()


def finder() -> SpanFinder:
    torch.manual_seed(0)
    return SpanFinder(tiny_bert().encoder, TinyTokenizer(), dropout=0.0).eval()


def tiny_gpt() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=32, n_positions=64, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    model.pad_id = 0
    return model


def all_gradients(model: nn.Module, batch, micro_batches: int = 1) -> tuple[float, list]:
    parts = stages(model)
    loss, count = gradients(Replicas(parts), batch, full_finetuning(), FP32, micro_batches)
    found = [None if w.grad is None else w.grad.clone() for w in model.parameters()]
    return loss.item() / int(count), found


def assert_same(ours: list, theirs: list) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-3)


# --- examples -------------------------------------------------------------------------------


@quick
@given(tagged, st.data())
def test_selected_examples_keep_their_labels(examples, data):
    chosen = data.draw(st.lists(st.integers(0, len(examples) - 1), min_size=1, max_size=9))
    picked = examples.select(chosen)
    for (ids, labels), i in zip(picked, chosen, strict=True):
        assert ids.tolist() == examples.inputs[i].tolist()
        assert labels == examples.labels[i].tolist()


@pytest.mark.parametrize("kind", [tagging, pointing])
def test_a_smaller_subset_lies_within_a_larger_one(kind):
    examples = many(kind)
    small, large = ({tuple(ids.tolist()) for ids, _ in examples.subset(n, 3)} for n in (7, 20))
    assert len(small) == 7 and small < large


def test_the_fingerprint_knows_the_labels():
    rows = [[5, 6, 7], [8, 9]]
    one = tagging(rows)
    other = Examples(one.inputs, TokenizedTexts.from_lists([[IGNORED, 1, 1], [IGNORED, 2]]))
    assert one.fingerprint() == tagging(rows).fingerprint() != other.fingerprint()


def test_each_token_needs_a_label():
    inputs = TokenizedTexts.from_lists([[5, 6], [7, 8, 9]])
    with pytest.raises(CourseError, match="text 1 has 3 tokens but 2 labels"):
        Examples(inputs, TokenizedTexts.from_lists([[0, 0], [0, 0]]))
    with pytest.raises(CourseError, match="tokenized already"):
        Examples(["two words"], TokenizedTexts.from_lists([[0, 0]]))


@pytest.mark.parametrize("labels, message", [
    (TokenizedTexts.from_lists([[0, 1, 3], [0, 0]]), "has the label 3, but labels number the 3"),
    (TokenizedTexts.from_lists([[IGNORED] * 3, [IGNORED] * 2]), "no token has a label that counts"),
    (torch.tensor([[0, 2], [1, 2]]), "example 1 has the label 2, but its text has 2 tokens"),
    (torch.tensor([[0, 2], [-1, 1]]), "example 1 has the label -1"),
])  # fmt: skip
def test_labels_that_cannot_be_are_refused(labels, message):
    wrong = Examples(TokenizedTexts.from_lists([[4, 5, 6], [7, 8]]), labels)
    with pytest.raises(CourseError, match=message):
        Task("tiny", "text", TAGS, wrong, wrong, wrong)


def test_places_that_do_not_count_are_allowed():
    rows = TokenizedTexts.from_lists([[4, 5, 6], [7, 8]])
    some = Examples(rows, torch.tensor([[0, 2], [IGNORED, IGNORED]]))
    Task("tiny", "text", (), some, some, some)


# --- training -------------------------------------------------------------------------------


@quick
@given(tagged, st.integers(1, 4))
def test_one_label_a_token_gives_the_same_gradient_padded_packed_and_alone(examples, pieces):
    model, everything = tagger(), torch.arange(len(examples))
    padded = Batches(examples, 8, CPU).batch(everything)
    packed = Batches(examples, 8, CPU, pack=True).batch(everything)
    loss, expected = all_gradients(model, padded)
    cut_loss, cut = all_gradients(model, padded, pieces)
    with faster_operations(model, packed=True):
        packed_loss, laid = all_gradients(model, packed, pieces)
    assert cut_loss == pytest.approx(loss, rel=1e-4)
    assert packed_loss == pytest.approx(loss, rel=1e-4)
    assert_same(cut, expected)
    assert_same(laid, expected)
    sums = [0.0, 0]
    for i in range(len(examples)):
        batch = Batches(examples, 1, CPU).batch(torch.tensor([i]))
        logits = run_stages(stages(model), batch.inputs, batch.mask)
        sums[0] += F.cross_entropy(logits[0], batch.labels[0], reduction="sum").item()
        sums[1] += int((batch.labels != IGNORED).sum())
    assert sums[0] / sums[1] == pytest.approx(loss, rel=1e-4)


@quick
@given(texts, st.integers(1, 4))
def test_the_loss_of_places_is_the_mean_over_first_and_last(rows, pieces):
    model, examples = finder(), pointing(rows)
    batch = Batches(examples, 8, CPU).batch(torch.arange(len(rows)))
    loss, found = all_gradients(model, batch, pieces)
    logits = model(batch.inputs, batch.mask)
    first, last = (F.cross_entropy(logits[:, i], batch.labels[:, i]) for i in (0, 1))
    assert loss == pytest.approx(((first + last) / 2).item(), rel=1e-4)
    model.zero_grad()
    ((first + last) / 2).backward()
    assert_same(found, [weight.grad for weight in model.parameters()])


@quick
@given(texts)
def test_the_loss_of_a_language_model_is_that_of_transformers(rows):
    model = tiny_gpt()
    inputs = TokenizedTexts.from_lists(rows)
    batch = Batches(Examples(inputs, causal_labels(inputs)), 8, CPU).batch(torch.arange(len(rows)))
    unshifted = batch.inputs.clone()  # transformers shifts by itself
    if batch.mask is not None:
        unshifted[~batch.mask] = IGNORED
    loss, found = all_gradients(model, batch)
    mask = None if batch.mask is None else batch.mask.long()
    model.zero_grad()
    theirs = model(batch.inputs, attention_mask=mask, labels=unshifted).loss
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=1e-4)
    assert_same(found, [weight.grad for weight in model.parameters()])


both = pytest.mark.parametrize("model, kind", [(tagger, tagging), (finder, pointing)])


def top_layers(one: nn.Module, kind, **changes):
    recipe = top_stages("layer1", precision="fp32", batch_size=7, **changes)
    return fit(one, task(kind), recipe, silent=True).column("train_loss")


@both
def test_they_are_learnt(model, kind):
    losses = top_layers(model(), kind, epochs=12, learning_rate=1e-2)
    assert losses[-1] < 0.8 * losses[0]


@both
def test_the_cache_is_exact_for_them(model, kind):
    ends = []
    for cache in (True, False):
        one = model()
        losses = top_layers(one, kind, epochs=3, learning_rate=1e-3, cache_prefix=cache)
        # (a bias that shifts all places alike has no gradient but rounding: look at shares)
        ends.append((losses, evaluate(one, task(kind).test, precision="fp32").probabilities))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-4)
    torch.testing.assert_close(ends[0][1], ends[1][1], atol=1e-4, rtol=1e-3)


def test_a_language_model_learns_a_pattern():
    rows = TokenizedTexts.from_lists(
        [[(start + i) % 6 + 1 for i in range(9)] for start in range(6)]
    )
    examples = Examples(rows, causal_labels(rows))
    vocabulary = tuple(map(str, range(32)))
    model = tiny_gpt()
    before = score(model, examples)
    counting = Task("counting", "text", vocabulary, examples, examples, examples)
    recipe = full_finetuning(epochs=60, learning_rate=1e-2, head_learning_rate=None,
                             batch_size=6)  # fmt: skip
    fit(model, counting, recipe, silent=True)
    after = score(model, examples)
    assert after.count == before.count == 6 * 8
    assert after.loss < before.loss / 4 and after.accuracy > 0.9


# --- measuring ------------------------------------------------------------------------------


@quick
@given(tagged, st.integers(1, 4))
def test_predictions_of_tokens_come_in_the_order_of_the_texts(examples, batch_size):
    model = tagger()
    result = evaluate(model, examples, batch_size, "fp32")
    logits = torch.cat([model(ids[None].long())[0, 1:] for ids in examples.inputs])
    labels = torch.cat([labels[1:] for labels in examples.labels])
    torch.testing.assert_close(result.logits, logits, atol=1e-5, rtol=1e-4)
    assert result.labels.tolist() == labels.tolist()
    assert result.accuracy == pytest.approx((logits.argmax(-1) == labels).double().mean().item())
    assert result.loss == pytest.approx(F.cross_entropy(logits, labels.long()).item(), rel=1e-4)
    assert score(model, examples, batch_size, "fp32").loss == pytest.approx(result.loss)


def test_predicted_places_lie_in_their_text():
    model, examples = finder(), many(pointing)
    result = evaluate(model, examples, 6, "fp32")
    assert result.logits.shape == (40, 2, int(examples.inputs.lengths.max()))
    beyond = torch.arange(result.logits.shape[2]) >= examples.inputs.lengths[:, None, None]
    assert (result.logits[beyond.expand_as(result.logits)] == -math.inf).all()
    assert (result.predictions < examples.inputs.lengths[:, None]).all()
    assert result.labels.equal(examples.labels)


# --- labels of a language model -------------------------------------------------------------


@quick
@given(texts, st.data())
def test_each_token_is_to_predict_the_next_one_outside_the_prompt(rows, data):
    prompts = [data.draw(st.integers(0, len(row))) for row in rows]
    labels = causal_labels(TokenizedTexts.from_lists(rows), prompts)
    for row, prompt, found in zip(rows, prompts, labels, strict=True):
        expected = [row[t + 1] if t + 1 < len(row) and t + 1 >= prompt else IGNORED
                    for t in range(len(row))]  # fmt: skip
        assert found.tolist() == expected


def test_without_prompts_only_the_last_token_has_nothing_to_predict():
    rows = [[3, 1, 4], [1, 5]]
    labels = causal_labels(TokenizedTexts.from_lists(rows))
    assert [row.tolist() for row in labels] == [[1, 4, IGNORED], [5, IGNORED]]


def test_each_text_needs_a_prompt_length():
    with pytest.raises(CourseError, match="2 texts but 1 prompt lengths"):
        causal_labels(TokenizedTexts.from_lists([[1, 2], [3, 4]]), [1])


def test_a_finder_takes_no_packed_texts():
    with pytest.raises(CourseError, match="pack=True needs a text classifier or tagger"):
        fit(finder(), task(pointing), full_finetuning(pack=True), silent=True)
