"""Tests of learning rates, parameter groups and schedules (course_utils/optim.py)."""

import pytest
import torch
from conftest import tiny_bert
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils import checkpoint
from course_utils.optim import (
    build_optimizer,
    parameter_groups,
    schedule_factor,
    set_learning_rates,
    stage_rates,
)
from course_utils.recipes import SCHEDULES, Recipe
from course_utils.stage import Stage, stages

quick = settings(deadline=None, max_examples=40)

SHARE = st.floats(0, 1)
WARMUP = st.floats(0, 0.99)


@pytest.fixture(scope="module")
def parts():
    return stages(tiny_bert())


def recipe(**fields) -> Recipe:
    return Recipe("test", **fields)


# --- schedules ------------------------------------------------------------------------------


@quick
@given(SHARE, WARMUP, st.sampled_from(SCHEDULES))
def test_the_factor_is_a_share(progress, warmup, schedule):
    assert 0 <= schedule_factor(progress, recipe(warmup=warmup, schedule=schedule)) <= 1


@quick
@given(SHARE, SHARE, st.floats(0.01, 0.99), st.sampled_from(SCHEDULES))
def test_the_rate_rises_in_the_warmup(a, b, warmup, schedule):
    a, b = sorted((a * warmup, b * warmup))
    r = recipe(warmup=warmup, schedule=schedule)
    assert schedule_factor(a, r) <= schedule_factor(b, r)
    assert schedule_factor(a, r) == pytest.approx(a / warmup)


@quick
@given(SHARE, SHARE, WARMUP, st.sampled_from(SCHEDULES))
def test_the_rate_never_rises_after_the_warmup(a, b, warmup, schedule):
    a, b = sorted(warmup + (1 - warmup) * x for x in (a, b))
    r = recipe(warmup=warmup, schedule=schedule)
    assert schedule_factor(min(a, 1), r) >= schedule_factor(min(b, 1), r) - 1e-12


@quick
@given(WARMUP, st.sampled_from(SCHEDULES))
def test_the_peak_is_one_and_decay_ends_at_zero(warmup, schedule):
    r = recipe(warmup=warmup, schedule=schedule)
    assert schedule_factor(warmup, r) == pytest.approx(1)
    assert schedule_factor(1.0, r) == pytest.approx(float(schedule == "constant"), abs=1e-9)


@quick
@given(st.floats(0.01, 0.99), st.sampled_from(SCHEDULES))
def test_the_factor_is_continuous_where_the_warmup_ends(warmup, schedule):
    r = recipe(warmup=warmup, schedule=schedule)
    assert schedule_factor(warmup - 1e-7, r) == pytest.approx(1, abs=1e-4)
    assert schedule_factor(warmup + 1e-7, r) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("schedule, factor", [("linear", 0.5), ("cosine", 0.5), ("constant", 1)])
def test_half_way_down(schedule, factor):
    assert schedule_factor(0.6, recipe(warmup=0.2, schedule=schedule)) == pytest.approx(factor)


def test_the_schedules_are_those_of_transformers():
    from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

    for name, make in (
        ("linear", get_linear_schedule_with_warmup),
        ("cosine", get_cosine_schedule_with_warmup),
    ):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        theirs = make(optimizer, num_warmup_steps=4, num_training_steps=20)
        for step in range(20):
            ours = schedule_factor(step / 20, recipe(warmup=0.2, schedule=name))
            assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
            optimizer.step()
            theirs.step()


def test_set_learning_rates_scales_each_groups_own_peak(parts):
    optimizer = build_optimizer(parts, recipe(stage_decay=0.5))
    set_learning_rates(optimizer, 0.25)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.25 * group["peak_lr"])
    assert len({group["lr"] for group in optimizer.param_groups}) > 2


# --- a rate for each stage ------------------------------------------------------------------


def test_without_decay_all_stages_have_one_rate(parts):
    assert set(stage_rates(parts, recipe(learning_rate=3e-4)).values()) == {3e-4}


@quick
@given(st.floats(0.1, 1), st.floats(1e-6, 1e-2))
def test_each_stage_has_the_decayed_rate_of_the_next_one(decay, rate):
    parts = stages(tiny_bert(layers=2))
    rates = stage_rates(parts, recipe(learning_rate=rate, stage_decay=decay))
    assert list(rates) == ["embeddings", "layer0", "layer1", "head"]  # "pool" has no weights
    assert rates["head"] == rates["layer1"] == rate
    assert rates["layer0"] == pytest.approx(rate * decay)
    assert rates["embeddings"] == pytest.approx(rate * decay**2)


def test_the_head_may_have_its_own_rate(parts):
    rates = stage_rates(parts, recipe(learning_rate=1e-4, head_learning_rate=1e-2))
    assert rates.pop("head") == 1e-2
    assert set(rates.values()) == {1e-4}


# --- parameter groups -----------------------------------------------------------------------


def test_the_groups_hold_each_weight_once(parts):
    groups = parameter_groups(parts, recipe())
    grouped = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(grouped) == sorted(id(w) for part in parts for w in part.parameters)
    assert all(group["params"] for group in groups)


def test_only_matrices_decay_and_tables_do_not(parts):
    for group in parameter_groups(parts, recipe(weight_decay=0.3)):
        matrices = {w.ndim >= 2 and group["stage"] != "embeddings" for w in group["params"]}
        assert matrices == {group["weight_decay"] == 0.3}
        assert group["weight_decay"] in (0.0, 0.3)


def test_a_group_has_its_stages_rate(parts):
    r = recipe(stage_decay=0.5, head_learning_rate=1e-2)
    rates = stage_rates(parts, r)
    groups = parameter_groups(parts, r)
    assert {group["stage"] for group in groups} == set(rates)
    assert all(group["peak_lr"] == rates[group["stage"]] for group in groups)


@pytest.mark.parametrize("name, kind", [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_the_optimizer_is_the_recipes(parts, name, kind):
    optimizer = build_optimizer(parts, recipe(optimizer=name))
    assert type(optimizer) is kind
    if name == "sgd":
        assert {(g["momentum"], g["nesterov"]) for g in optimizer.param_groups} == {(0.9, True)}


def test_nothing_moves_before_the_schedule_sets_a_rate(parts):
    optimizer = build_optimizer(parts, recipe())
    assert {group["lr"] for group in optimizer.param_groups} == {0.0}


# --- weights with their channels last ---------------------------------------------------------


def small_convolutions() -> torch.nn.Module:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18(num_classes=3)
    return model.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_convolutions_move_as_with_torchs_own_optimizer(name):
    """The optimizer works on views in the order of memory; the weights must not notice."""
    r = recipe(optimizer=name, learning_rate=1e-2, weight_decay=0.1)
    ours, theirs = small_convolutions(), small_convolutions()
    own = build_optimizer(stages(ours), r)
    torchs = type(own)(
        parameter_groups(stages(theirs), r), lr=0.0,
        **({"momentum": 0.9, "nesterov": True} if name == "sgd" else {}),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            gradient = torch.randn(a.shape, generator=generator)
            if a.ndim == 4:
                gradient = gradient.contiguous(memory_format=torch.channels_last)
            a.grad, b.grad = gradient, gradient.clone()
        for optimizer in (own, torchs):
            set_learning_rates(optimizer, 1.0)
            optimizer.step()
    for (path, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-5, msg=path)


def test_the_optimizer_sees_contiguous_memory_and_keeps_no_gradient():
    """Otherwise a CPU's fused kernel copies it, or a gradient lives on through the next step."""
    model = small_convolutions()
    optimizer = build_optimizer(stages(model), recipe())
    seen = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert any(not weight.is_contiguous() for weight in model.parameters())
    assert all(weight.is_contiguous() for weight in seen)
    assert sorted(w.data_ptr() for w in seen) == sorted(w.data_ptr() for w in model.parameters())
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    own = {id(weight) for weight in model.parameters()}
    assert all(weight.grad is None for weight in seen if id(weight) not in own)


def test_a_convolution_without_gradient_stays():
    model = small_convolutions()
    optimizer = build_optimizer(stages(model), recipe(weight_decay=0.5))
    set_learning_rates(optimizer, 1.0)
    before = model.conv1.weight.detach().clone()
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    optimizer.step()
    assert torch.equal(model.conv1.weight, before)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_saved_optimizer_goes_on_bit_for_bit(name, tmp_path):
    """Moments of convolutions lie in the order of memory, and come back in it."""
    r = recipe(optimizer=name, learning_rate=1e-2)

    def steps(model, optimizer, numbers):
        set_learning_rates(optimizer, 1.0)
        for number in numbers:
            generator = torch.Generator().manual_seed(number)
            for weight in model.parameters():
                weight.grad = torch.randn(weight.shape, generator=generator)
            optimizer.step()

    whole, first, second = (small_convolutions() for _ in range(3))
    steps(whole, build_optimizer(stages(whole), r), range(4))
    optimizer = build_optimizer(stages(first), r)
    steps(first, optimizer, range(2))
    path = tmp_path / "run.ckpt"
    checkpoint.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, path)
    saved, optimizer = checkpoint.load(path), build_optimizer(stages(second), r)
    second.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    steps(second, optimizer, range(2, 4))
    for key, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key


def test_the_usual_loop_with_zero_grad_adds_no_gradients_up():
    def trained(clear) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
        model = model.to(memory_format=torch.channels_last)
        part = Stage("all", (model,), lambda x, mask: model(x), tuple(model.parameters()))
        optimizer = build_optimizer([part], recipe(learning_rate=0.1, optimizer="sgd"))
        set_learning_rates(optimizer, 1.0)
        x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
        for _ in range(3):
            clear(model, optimizer)
            model(x).pow(2).mean().backward()
            optimizer.step()
        return model[0].weight.detach()

    with_model = trained(lambda model, optimizer: model.zero_grad())
    assert torch.equal(trained(lambda model, optimizer: optimizer.zero_grad()), with_model)
