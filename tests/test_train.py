"""Tests of the training core (course_utils/train.py)."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_bert, tiny_image_task, tiny_text_task
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_utils import train
from course_utils.batches import Batch, Batches
from course_utils.data import IGNORED, Examples, Task
from course_utils.device import choose_compute
from course_utils.errors import CourseError
from course_utils.history import Score
from course_utils.models import copy_of
from course_utils.optim import stage_rates
from course_utils.parallel import Replicas
from course_utils.recipes import (
    Recipe,
    full_finetuning,
    gradual_unfreezing,
    half_finetuning,
    linear_probe,
)
from course_utils.run_state import NonFiniteLoss
from course_utils.stage import Stage, run_stages, stages
from course_utils.train import evaluate, fit, gradients, loss_sum

quick = settings(deadline=None, max_examples=20)
CPU = torch.device("cpu")


class TinyImageModel(nn.Module):
    """Four stages without BatchNorm; `seen` holds the batch size of each call of the first."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.body = nn.Conv2d(3, 4, 4, stride=4), nn.Linear(4, 8)
        self.drop, self.head = nn.Dropout(dropout), nn.Linear(8, 2)
        self.seen: list[int] = []

    def stages(self):
        return [
            Stage("stem", (self.stem,), self.run_stem),
            Stage("body", (self.body,), lambda x, mask: self.body(x).relu()),
            Stage("drop", (self.drop,), lambda x, mask: self.drop(x)),
            Stage("head", (self.head,), self.run_head),
        ]

    def run_stem(self, x, mask):
        self.seen.append(len(x))
        return self.stem(x.float() / 255 - 0.5).relu().mean((2, 3))

    def run_head(self, x, mask):
        return self.head(x)


def recipe(**fields) -> Recipe:
    defaults = dict(
        epochs=2, batch_size=8, learning_rate=3e-3, precision="fp32", validate=False, warmup=0.0
    )
    return Recipe("test", **{**defaults, **fields})


def train_texts(model=None, count=24, seed=0, on_epoch=None, **fields):
    """Fit a tiny BERT; returns (model, history)."""
    model = model or tiny_bert()
    task = tiny_text_task(count)
    history = fit(model, task, recipe(**fields), seed, on_epoch=on_epoch, silent=True)
    return model, history


def train_images(model=None, task=None, seed=0, on_epoch=None, **fields):
    model = model or TinyImageModel()
    task = task or tiny_image_task(24, 2, 8)
    history = fit(model, task, recipe(**fields), seed, on_epoch=on_epoch, silent=True)
    return model, history


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(a, b) -> bool:
    """Bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


def assert_close(a, b, atol=1e-5):
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=atol, rtol=1e-3, msg=name)


def changed_stages(model, before) -> list[str]:
    """Names of the stages whose weights differ from the snapshot `before`."""
    names, now = {id(p): n for n, p in model.named_parameters()}, model.state_dict()
    return [
        part.name
        for part in stages(model)
        if any(not torch.equal(now[names[id(p)]], before[names[id(p)]]) for p in part.parameters)
    ]


# --- it learns ------------------------------------------------------------------------------


def test_texts_are_learnt():
    model, history = train_texts(count=60, epochs=8, learning_rate=1e-2, validate=True)
    losses = history.column("train_loss")
    assert losses[-1] < 0.3 * losses[0]
    assert evaluate(model, tiny_text_task().test).accuracy > 0.9


def test_images_are_learnt():
    model, history = train_images(epochs=15, learning_rate=2e-2, validate=True)
    assert history.column("train_loss")[-1] < 0.5 * history.column("train_loss")[0]
    assert history.column("valid_accuracy")[-1] > 0.9


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_seed_decides_the_weights(optimizer):
    def run(seed):
        model, history = train_texts(tiny_bert(dropout=0.1), seed=seed, optimizer=optimizer)
        return weights(model), history.column("train_loss")

    (a, losses_a), (b, losses_b), (c, _) = run(1), run(1), run(2)
    assert same(a, b) and losses_a == losses_b
    assert not same(a, c)


def test_each_epoch_has_another_order():
    sums = []  # of each batch's pixels

    def spy(images):
        sums.append(int(images.sum()))
        return images

    train_images(augment=spy, epochs=2, batch_size=4)
    assert sum(sums[:6]) == sum(sums[6:]) and sums[:6] != sums[6:]


def test_each_epoch_is_recorded_and_shown_once():
    shown = []
    model, history = train_texts(epochs=3, validate=True, on_epoch=shown.append)
    assert shown == history.epochs and history.column("number") == [1, 2, 3]
    assert history.recipe == "test" and history.best_epoch == 3
    assert (
        history.trained_weights
        == history.total_weights
        == sum(p.numel() for p in model.parameters())
    )
    assert history.seconds == pytest.approx(sum(history.column("seconds"))) and history.seconds > 0
    again = evaluate(model, tiny_text_task(24).valid, precision="fp32")
    assert history.epochs[-1].valid_loss == again.loss


def test_the_model_is_left_in_eval_mode():
    model, _ = train_texts(tiny_bert(dropout=0.1), epochs=1)
    assert not any(module.training for part in stages(model) for module in part.modules)


# --- the frozen-prefix cache ----------------------------------------------------------------


@pytest.mark.parametrize("first", [-1, "pool", "layer2", "layer0"])
def test_the_cache_is_exact_for_texts(first):
    """Dropout is on everywhere: asleep in the prefix, and drawing the same in the suffix."""
    fields = dict(epochs=3, train_from=first, validate=True)
    plain, plain_history = train_texts(tiny_bert(dropout=0.1), cache_prefix=False, **fields)
    cached, cached_history = train_texts(tiny_bert(dropout=0.1), cache_prefix=True, **fields)
    for column in ("train_loss", "valid_loss"):
        assert cached_history.column(column) == pytest.approx(
            plain_history.column(column), rel=1e-4
        )
    assert_close(weights(cached), weights(plain), atol=1e-4)


@pytest.mark.parametrize("first", [1, 2, 3])
def test_the_cache_is_exact_for_images(first):
    fields = dict(epochs=4, train_from=first, validate=True)
    plain, plain_history = train_images(TinyImageModel(0.2), cache_prefix=False, **fields)
    cached, cached_history = train_images(TinyImageModel(0.2), cache_prefix=True, **fields)
    assert cached_history.column("train_loss") == pytest.approx(
        plain_history.column("train_loss"), rel=1e-5
    )
    assert_close(weights(cached), weights(plain))


@pytest.mark.parametrize("fields, calls", [
    # a look at two images, then all at once: for the training and for the validation images
    (dict(train_from=1, epochs=4), 2 + 2),
    (dict(train_from=1, epochs=4, cache_prefix=False), 4 * (3 + 1)),
    (dict(train_from=0, epochs=4), 4 * (3 + 1)),
    (dict(train_from=1, epochs=1), 3 + 1),  # one epoch: nothing to gain
])  # fmt: skip
def test_the_prefix_runs_once_where_it_is_cached(fields, calls):
    model, _ = train_images(validate=True, **fields)
    assert len(model.seen) == calls


def test_gradual_unfreezing_with_the_cache_is_exact():
    fields = dict(epochs=6, train_from=-1, unfreeze_every=2, validate=True)
    plain, _ = train_texts(cache_prefix=False, **fields)
    cached, _ = train_texts(cache_prefix=True, **fields)
    assert_close(weights(cached), weights(plain), atol=1e-4)


# --- gradients, micro-batches, padding ------------------------------------------------------

MODEL = tiny_bert(layers=1)  # shared and never trained
PARTS = stages(MODEL)


def gradient(batch, micro_batches=1, **fields) -> dict[str, torch.Tensor]:
    gradients(Replicas(PARTS), batch, recipe(**fields), choose_compute("fp32"), micro_batches)
    return {name: p.grad.clone() for name, p in MODEL.named_parameters()}


@quick
@given(st.integers(1, 13), st.integers(1, 13), st.floats(0, 0.5))
def test_micro_batches_add_up_to_the_gradient_of_the_batch(size, micro_batches, smoothing):
    source = Batches(tiny_text_task(13).train, size, CPU)
    batch = source.batch(torch.arange(size))
    whole = gradient(batch, label_smoothing=smoothing)
    assert_close(gradient(batch, micro_batches, label_smoothing=smoothing), whole, atol=1e-6)


@quick
@given(st.integers(2, 10), st.integers(0, 10**6))
def test_padding_does_not_change_the_gradient(size, seed):
    examples = tiny_text_task(30, seed=seed).train
    padded = gradient(Batches(examples, size, CPU).batch(torch.arange(size)))
    total = {name: torch.zeros_like(value) for name, value in padded.items()}
    for i in range(size):  # one text alone is never padded
        for name, value in gradient(Batches(examples, 1, CPU).batch(torch.tensor([i]))).items():
            total[name] += value / size
    assert_close(padded, total, atol=1e-6)


class Tagger(nn.Module):
    """One answer for each token."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def stages(self):
        return [
            Stage("table", (self.table,), lambda x, mask: self.table(x)),
            Stage("head", (self.head,), lambda x, mask: self.head(x)),
        ]


@quick
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 10**6))
def test_the_mean_is_over_tokens_however_unequal_the_micro_batches(size, micro_batches, seed):
    """Some texts have many tokens that count, some few, some none."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 9, (size, 6), generator=generator)
    labels = torch.randint(0, 3, (size, 6), generator=generator)
    counts = torch.randint(0, 7, (size, 1), generator=generator)
    labels[torch.arange(6) >= counts] = IGNORED
    labels[0, 0] = 1  # at least one counts
    model = Tagger()
    F.cross_entropy(model.head(model.table(ids)).flatten(0, 1), labels.flatten()).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    batch = Batch(ids, None, labels, torch.arange(size))
    gradients(
        Replicas(stages(model)), batch, recipe(), choose_compute("fp32"), min(micro_batches, size)
    )
    assert_close({name: p.grad for name, p in model.named_parameters()}, expected, atol=1e-6)


def test_the_gradient_is_that_of_torchs_mean_loss():
    batch = Batches(tiny_text_task(9).train, 9, CPU).batch(torch.arange(9))
    found = gradient(batch)
    MODEL.zero_grad()
    F.cross_entropy(run_stages(PARTS, batch.inputs, batch.mask), batch.labels).backward()
    assert_close(found, {name: p.grad for name, p in MODEL.named_parameters()}, atol=1e-6)


@pytest.mark.parametrize("accumulate", [2, 3, 8])
def test_accumulating_trains_as_the_large_batch_does(accumulate):
    """21 examples in batches of 8: the last batch is ragged, and so are its micro-batches."""
    large, history = train_texts(count=21)
    small, small_history = train_texts(count=21, accumulate=accumulate)
    assert_close(weights(small), weights(large), atol=3e-4)
    assert small_history.column("train_loss") == pytest.approx(
        history.column("train_loss"), rel=1e-4
    )


def test_accumulating_really_cuts_the_batch():
    model, _ = train_images(accumulate=3, epochs=1)
    assert model.seen == [3, 3, 2] * 3


@pytest.mark.parametrize("batch_size", [4, 7, 23, 64])
def test_the_recorded_loss_is_a_mean_over_examples_even_if_the_last_batch_is_ragged(batch_size):
    model, history = train_texts(count=23, batch_size=batch_size, learning_rate=1e-12, epochs=1)
    expected = evaluate(model, tiny_text_task(23).train, precision="fp32").loss
    assert history.epochs[0].train_loss == pytest.approx(expected, rel=1e-5)


# --- the loss -------------------------------------------------------------------------------


@quick
@given(
    st.lists(st.sampled_from([0, 1, 2, IGNORED]), min_size=1, max_size=12),
    st.floats(0, 0.9), st.integers(0, 10**6),
)  # fmt: skip
def test_the_loss_is_torchs_cross_entropy(labels, smoothing, seed):
    labels = torch.tensor(labels)
    logits = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed))
    count = (labels != IGNORED).sum()
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing) * count if count else 0
    assert loss_sum(logits, labels, smoothing).item() == pytest.approx(float(expected), abs=1e-4)


def test_the_loss_of_a_sequence_is_summed_over_its_tokens():
    logits, labels = torch.randn(2, 5, 7), torch.randint(0, 7, (2, 5))
    expected = F.cross_entropy(logits.transpose(1, 2), labels, reduction="sum")
    torch.testing.assert_close(loss_sum(logits, labels), expected)


def test_the_loss_is_computed_in_fp32():
    logits = torch.randn(4, 3).bfloat16()
    assert loss_sum(logits, torch.zeros(4, dtype=torch.long)).dtype == torch.float32


def test_label_smoothing_keeps_the_model_less_sure():
    sharp, _ = train_texts(epochs=12, learning_rate=1e-2)
    smooth, _ = train_texts(epochs=12, learning_rate=1e-2, label_smoothing=0.4)
    test = tiny_text_task().test
    surest = [evaluate(m, test).probabilities.max(1).values.mean() for m in (sharp, smooth)]
    assert surest[1] < surest[0] - 0.1


# --- stopping early, keeping the best -------------------------------------------------------


@pytest.fixture
def scripted(monkeypatch):
    """Make the validation losses those of a list."""

    def script(*losses):
        upcoming = iter(losses)
        monkeypatch.setattr(
            train, "_score",
            lambda *_: Score(next(upcoming), 0.5, 1),
        )  # fmt: skip

    return script


@pytest.mark.parametrize("patience, losses, epochs", [
    (1, [1.0, 1.1, 0.5, 0.4], 2),
    (2, [1.0, 0.5, 0.6, 0.7, 0.4], 4),
    (2, [1.0, 1.1, 0.9, 1.0, 0.8, 0.9], 6),
    (1, [1.0, 1.0, 0.5], 2),  # as good as before is no progress
    (0, [1.0, 2.0, 3.0, 4.0], 4),
])  # fmt: skip
def test_training_stops_when_patience_runs_out(scripted, patience, losses, epochs):
    scripted(*losses)
    _, history = train_images(epochs=len(losses), patience=patience, validate=True)
    assert len(history.epochs) == epochs


@pytest.mark.parametrize("keep_best, kept", [(True, 2), (False, 4)])
def test_the_best_epochs_weights_are_kept_if_asked_for(scripted, keep_best, kept):
    scripted(1.0, 0.5, 0.6, 0.7)
    model, after = TinyImageModel(), []
    _, history = train_images(
        model, epochs=4, keep_best=keep_best, validate=True,
        on_epoch=lambda _: after.append(weights(model)),
    )  # fmt: skip
    assert same(weights(model), after[kept - 1]) and history.best_epoch == kept
    assert not same(after[1], after[3])


def test_a_validation_loss_that_is_not_finite_is_never_the_best(scripted):
    scripted(1.0, math.nan, 0.9, math.nan)
    _, history = train_images(epochs=4, keep_best=True, validate=True)
    assert history.best_epoch == 3


def test_without_validation_nothing_is_measured():
    _, history = train_images(epochs=2)
    assert all(math.isnan(loss) for loss in history.column("valid_loss"))


# --- which stages move, and how fast --------------------------------------------------------


@pytest.mark.parametrize("every, first_stages", [
    (1, ["head", "layer2", "layer1", "layer0", "embeddings", "embeddings"]),
    (2, ["head", "head", "layer2", "layer2", "layer1", "layer1"]),
    (0, ["head"] * 6),
])  # fmt: skip
def test_gradual_unfreezing_opens_one_stage_after_the_other(every, first_stages):
    model, names = tiny_bert(), [part.name for part in stages(tiny_bert())]
    start, opened = weights(model), []
    _, history = train_texts(
        model, count=12, epochs=6, train_from=-1, unfreeze_every=every,
        on_epoch=lambda _: opened.append(changed_stages(model, start)),
    )  # fmt: skip
    assert history.column("first_stage") == first_stages
    for epoch, first in enumerate(first_stages):
        expected = [n for n in names[names.index(first) :] if n != "pool"]
        assert opened[epoch] == expected


def test_the_history_counts_the_weights_trained_at_the_end():
    model, history = train_texts(count=12, epochs=2, train_from=-1, unfreeze_every=1)
    parts = {part.name: part for part in stages(model)}
    assert history.trained_weights == parts["head"].num_weights + parts["layer2"].num_weights


def test_a_stage_without_weights_may_be_the_first_one():
    model = tiny_bert()
    start = weights(model)
    _, history = train_texts(model, count=12, train_from="pool")
    assert changed_stages(model, start) == ["head"]


@pytest.mark.parametrize("decay, head_rate", [(1.0, None), (0.5, None), (0.5, 1e-1)])
def test_each_stage_moves_at_its_own_rate(decay, head_rate):
    """The first step of Adam moves every weight that has a gradient by the learning rate."""
    model = TinyImageModel()
    before = weights(model)
    r = dict(
        epochs=1, batch_size=24, learning_rate=1e-3, stage_decay=decay, weight_decay=0.0,
        head_learning_rate=head_rate, schedule="constant", max_grad_norm=0.0,
    )  # fmt: skip
    train_images(model, **r)
    for name, rate in stage_rates(stages(model), recipe(**r)).items():
        moved = (weights(model)[f"{name}.weight"] - before[f"{name}.weight"]).abs().max().item()
        assert moved == pytest.approx(rate, rel=0.05), name


@pytest.mark.parametrize("limit, shorter", [(1e-3, True), (1e9, False), (0.0, False)])
def test_long_gradients_are_shortened(limit, shorter):
    model = TinyImageModel()
    before = weights(model)
    train_images(
        model, epochs=1, batch_size=24, optimizer="sgd", learning_rate=1.0, weight_decay=0.0,
        schedule="constant", max_grad_norm=limit,
    )  # fmt: skip
    moved = sum(((v - before[k]) ** 2).sum() for k, v in weights(model).items()).sqrt().item()
    # Nesterov momentum makes the first step 1.9 times the gradient.
    assert moved == pytest.approx(1.9e-3, rel=0.01) if shorter else moved > 1.9e-2


def test_an_unknown_stage_is_named_before_training_starts():
    with pytest.raises(CourseError, match="no stage 'layer9'"):
        train_images(train_from="layer9")


# --- losses that are not finite -------------------------------------------------------------


class Exploding(TinyImageModel):
    """Gives NaN from the n-th call on."""

    def __init__(self, at: int):
        super().__init__()
        self.at = at

    def run_head(self, x, mask):
        return self.head(x) * (math.nan if len(self.seen) >= self.at else 1)


@pytest.mark.parametrize("at, place", [
    (1, "epoch 1, at step 20 "), (20, "epoch 1, at step 20 "), (21, "epoch 1, at step 30 "),
    (31, "epoch 2, at step 20 "),
])  # fmt: skip
def test_a_loss_that_is_not_finite_stops_with_step_and_causes(at, place):
    with pytest.raises(NonFiniteLoss) as error:
        train_images(Exploding(at), tiny_image_task(30, 2, 8), batch_size=1, epochs=3)
    message = str(error.value)
    assert place in message and "became nan" in message
    assert "learning rate is too high" in message and "NaN or infinite" in message


def test_a_learning_rate_that_is_too_high_is_reported_with_its_value():
    with pytest.raises(NonFiniteLoss, match=r"learning rate of 1.0e\+30"):
        train_images(
            optimizer="sgd", learning_rate=1e30, schedule="constant", epochs=9, max_grad_norm=0.0
        )


# --- out of memory --------------------------------------------------------------------------


class Hungry(TinyImageModel):
    """Runs out of memory, after dropout has drawn, with more than `limit` images at once."""

    def __init__(self, limit: int, dropout: float = 0.0):
        super().__init__(dropout)
        self.limit = limit

    def run_head(self, x, mask):
        if self.training_now() and len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        return super().run_head(x, mask)

    def training_now(self) -> bool:
        return self.head.training


@pytest.mark.parametrize("limit, pieces", [(4, 2), (3, 4), (2, 4), (1, 8)])
def test_out_of_memory_cuts_the_batch_and_keeps_the_result(limit, pieces, capsys):
    plain, _ = train_images()
    hungry, _ = train_images(Hungry(limit))
    assert_close(weights(hungry), weights(plain))
    assert f"{pieces} micro-batches" in capsys.readouterr().out
    assert max(hungry.seen[-pieces:]) <= limit


def test_out_of_memory_gives_bit_for_bit_what_accumulating_would_have_given():
    """The step that failed has drawn dropout already: the random numbers are wound back."""
    accumulated, _ = train_images(TinyImageModel(0.3), accumulate=2)
    hungry, _ = train_images(Hungry(4, 0.3))
    assert same(weights(hungry), weights(accumulated))


def test_it_is_said_once_how_often_the_batch_is_cut(capsys):
    train_images(Hungry(4), epochs=3)
    assert capsys.readouterr().out.count("ran out of memory") == 1


def test_out_of_memory_with_a_single_example_says_what_to_do():
    with pytest.raises(CourseError, match="single example.*max_length.*smaller model"):
        train_images(Hungry(0))


# --- evaluation -----------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_evaluation_keeps_the_order_of_the_examples(batch_size):
    examples = tiny_text_task().test
    model = tiny_bert()
    result = evaluate(model, examples, batch_size, precision="fp32")
    with torch.no_grad():
        rows = [model(ids.long()[None])[0] for ids, _ in examples]
    torch.testing.assert_close(result.logits, torch.stack(rows), atol=1e-5, rtol=1e-4)
    assert result.labels.equal(examples.labels)


@pytest.mark.parametrize("batch_size", [4, 12])
def test_evaluation_numbers_are_those_of_its_logits(batch_size):
    examples = tiny_image_task(24, 2, 8).test
    result = evaluate(TinyImageModel(), examples, batch_size)
    assert result.loss == pytest.approx(F.cross_entropy(result.logits, examples.labels).item())
    assert result.predictions.equal(result.logits.argmax(1))
    assert result.accuracy == (result.predictions == examples.labels).double().mean().item()
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(len(examples)))


def test_evaluation_uses_no_dropout_and_leaves_no_gradient():
    model = TinyImageModel(0.9).train()
    examples = tiny_image_task(24, 2, 8).test
    first, second = evaluate(model, examples), evaluate(model, examples)
    assert first.logits.equal(second.logits) and not first.logits.requires_grad
    assert not model.drop.training and model.head.weight.grad is None


def test_an_empty_split_cannot_be_scored():
    nothing = Examples(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), torch.zeros(0).long())
    with pytest.raises(CourseError, match="no example to evaluate on"):
        evaluate(TinyImageModel(), nothing)


# --- input that is not ready ----------------------------------------------------------------


def test_texts_that_are_not_tokenized_are_refused():
    raw = Examples(["one text", "another"], torch.tensor([0, 1]))
    with pytest.raises(CourseError, match=r"not tokenized yet: call tokenize\(task, model"):
        fit(tiny_bert(), Task("raw", "text", ("a", "b"), raw, raw, raw), recipe(), silent=True)
    with pytest.raises(CourseError, match="not tokenized yet"):
        evaluate(tiny_bert(), raw)


# --- augmentation ---------------------------------------------------------------------------


def test_augmentation_sees_each_training_batch_as_bytes_and_no_other():
    seen = []

    def spy(images):
        seen.append((len(images), images.dtype))
        return images

    train_images(augment=spy, epochs=2, batch_size=10, validate=True)
    sizes = sorted(n for n, _ in seen)
    assert sizes == [4, 4, 10, 10, 10, 10] and {t for _, t in seen} == {torch.uint8}


def test_augmentation_is_not_applied_when_measuring():
    """A model trained on black pictures is measured on the real ones."""
    model, history = train_images(augment=torch.zeros_like, epochs=1, validate=True)
    real = evaluate(model, tiny_image_task(24, 2, 8).valid, precision="fp32")
    assert history.epochs[0].valid_loss == pytest.approx(real.loss)
    assert history.epochs[0].train_loss != pytest.approx(real.loss, rel=1e-3)


def test_augmentation_switches_the_cache_of_the_training_images_off():
    model, _ = train_images(augment=torch.clone, train_from=-1, epochs=4, validate=True)
    training_batches, validation_batches = 4 * 3, 2  # validation is not augmented, so cached
    assert len(model.seen) == training_batches + validation_batches


# --- precision ------------------------------------------------------------------------------


def test_bf16_is_close_to_fp32_and_keeps_the_weights_in_fp32():
    fp32, fp32_history = train_texts(count=48, epochs=3)
    bf16, bf16_history = train_texts(count=48, epochs=3, precision="bf16")
    assert bf16_history.column("train_loss") == pytest.approx(
        fp32_history.column("train_loss"), rel=0.05
    )
    assert not same(weights(bf16), weights(fp32))
    assert {v.dtype for v in weights(bf16).values()} == {torch.float32}


def test_bf16_with_the_cache_is_close_to_bf16_without():
    fields = dict(precision="bf16", train_from="layer1", epochs=3)
    _, plain = train_texts(cache_prefix=False, **fields)
    _, cached = train_texts(cache_prefix=True, **fields)
    assert cached.column("train_loss") == pytest.approx(plain.column("train_loss"), rel=0.03)


# --- the named recipes run ------------------------------------------------------------------


@pytest.mark.parametrize("make", [linear_probe, full_finetuning, gradual_unfreezing])
def test_a_copy_is_trained_and_the_original_is_not(make):
    original = tiny_bert()
    before = weights(original)
    copy = copy_of(original)
    fit(copy, tiny_text_task(12), make(epochs=2, precision="fp32"), silent=True)
    assert same(weights(original), before) and not same(weights(copy), before)


def test_a_frozen_backbones_features_of_the_test_split_are_computed_once(monkeypatch):
    data, model = tiny_text_task(), tiny_bert()
    everything = evaluate(model, data.test, precision="fp32")
    fit(model, data, linear_probe(epochs=1, precision="fp32", validate=False), silent=True)
    first = evaluate(model, data.test, precision="fp32")
    assert not first.logits.equal(everything.logits)  # another head
    used = []
    layer = model.encoder.encoder.layer[0]
    layer.register_forward_hook(lambda *_: used.append(len(used)))
    again = evaluate(model, data.test, precision="fp32")
    assert len(used) <= 1  # the first batch, by which what is kept is recognised
    torch.testing.assert_close(again.logits, first.logits)
    direct = torch.cat([model(ids[None].long()) for ids in data.test.inputs])
    torch.testing.assert_close(again.logits, direct, atol=1e-5, rtol=1e-4)


def trained_names(model) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), number=st.integers(0, 50))
def test_a_round_of_half_fine_tuning_freezes_half_of_each_stage_but_the_head(seed, number):
    model = tiny_bert()
    parts = stages(model)
    train.begin_phase(parts, train.Phase(0, number), seed)
    for part in parts[:-1]:
        trained = sum(weight.requires_grad for weight in part.parameters)
        assert trained == len(part.parameters) - len(part.parameters) // 2
    assert all(weight.requires_grad for weight in parts[-1].parameters)
    before = trained_names(model)
    train.begin_phase(parts, train.Phase(0, number), seed)
    assert trained_names(model) == before  # the seed decides


def test_half_fine_tuning_moves_only_the_half_of_the_round():
    model, task, rounds = tiny_bert(), tiny_text_task(), []
    state = {}

    def look(epoch) -> None:
        now = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        moved = {name for name in now if not torch.equal(now[name], state[name])}
        assert moved <= trained_names(model)
        rounds.append(frozenset(trained_names(model)))
        state.update(now)

    state.update({name: weight.detach().clone() for name, weight in model.named_parameters()})
    recipe = half_finetuning(epochs=4, half_every=2, live_rows=False, precision="fp32")
    history = fit(model, task, recipe, silent=True, on_epoch=look)
    assert rounds[0] == rounds[1] != rounds[2] == rounds[3]
    assert history.trained_weights < 0.8 * history.total_weights


def test_half_fine_tuning_goes_on_where_it_was(tmp_path):
    def run(stop_after=None, checkpoint=None):
        model = tiny_bert(dropout=0.2)

        def stop(epoch) -> None:
            if epoch.number == stop_after:
                raise RuntimeError("stopped")

        recipe = half_finetuning(epochs=4, precision="fp32")
        fit(model, tiny_text_task(), recipe, silent=True, on_epoch=stop, checkpoint=checkpoint,
            checkpoint_every=1)  # fmt: skip
        return model.state_dict()

    whole, path = run(), tmp_path / "run.ckpt"
    with pytest.raises(RuntimeError, match="stopped"):
        run(3, path)
    again = run(None, path)
    assert all(torch.equal(again[name], value) for name, value in whole.items())
