"""Our own dropout, attention and convolution do what torch's do (course_utils/operations.py)."""

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_bert
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_utils import operations
from course_utils.operations import (
    NAME,
    attention,
    convolution,
    dropout,
    faster_operations,
    keep_factors,
)

quick = settings(deadline=None, max_examples=30)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_the_share_asked_for_and_keeps_the_mean(p, dtype):
    torch.manual_seed(0)
    factors = keep_factors(torch.empty(1_000_001, dtype=dtype), p).float()
    assert set(factors.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p), dtype=dtype).item()}
    error = 5 * (p * (1 - p) / len(factors)) ** 0.5  # five standard errors
    assert (factors == 0).float().mean().item() == pytest.approx(p, abs=error + 1 / 65536)


def test_neighbouring_values_are_dropped_independently():
    """Four of them come from one draw."""
    torch.manual_seed(1)
    dropped = (keep_factors(torch.empty(400_000), 0.5) == 0).double()
    for distance in (1, 2, 3, 4, 5):
        pairs = torch.stack([dropped[:-distance], dropped[distance:]])
        assert abs(torch.corrcoef(pairs)[0, 1].item()) < 0.01


@quick
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(0, 10**6))
def test_a_seed_decides_what_is_dropped(shape, seed):
    torch.manual_seed(seed)
    first = keep_factors(torch.empty(shape), 0.5)
    torch.manual_seed(seed)
    assert first.shape == tuple(shape) and first.equal(keep_factors(torch.empty(shape), 0.5))


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_extremes_are_torchs(p):
    x = torch.randn(10)
    assert dropout(x, p).equal(F.dropout(x, p))


def test_dropped_values_get_no_gradient():
    x = torch.randn(1000, requires_grad=True)
    y = dropout(x, 0.4)
    y.sum().backward()
    assert x.grad is not None and ((x.grad == 0) == (y == 0)).all()


class Causal(nn.Module):
    is_causal = True


@quick
@given(st.integers(1, 3), st.integers(1, 6), st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_attention_written_out_is_torchs_attention(size, length, masked, causal, seed):
    """Dropout of one in a billion makes the written-out path run without dropping anything."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(size, 2, length, 4, generator=generator) for _ in range(3))
    module = Causal() if causal else nn.Module()
    mask = None
    if masked:
        real = torch.randint(1, length + 1, (size, 1), generator=generator)
        mask = (torch.arange(length) < real)[:, None, None, :].expand(-1, 1, length, -1)
    plain, _ = attention(module, query, key, value, mask, 0.0, 0.7)
    written, _ = attention(module, query, key, value, mask, 1e-9, 0.7)
    expected = F.scaled_dot_product_attention(
        query, key, value, mask, is_causal=causal and mask is None, scale=0.7
    )
    torch.testing.assert_close(plain, expected.transpose(1, 2))
    torch.testing.assert_close(written, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_the_model_is_left_as_it_was():
    model = tiny_bert(dropout=0.3)
    before = [dict(module.__dict__) for module in model.modules()]
    try:
        with faster_operations(model):
            assert model.encoder.config._attn_implementation == NAME
            assert "forward" in model.dropout.__dict__
            raise RuntimeError("something went wrong inside")
    except RuntimeError:
        pass
    assert model.encoder.config._attn_implementation == "sdpa"
    assert [dict(module.__dict__) for module in model.modules()] == before


def test_switched_off_it_changes_nothing():
    model = tiny_bert(dropout=0.3)
    with faster_operations(model, enabled=False):
        assert model.encoder.config._attn_implementation == "sdpa"
        assert "forward" not in model.dropout.__dict__


@pytest.mark.parametrize("training", [False, True])
def test_without_dropout_the_model_gives_the_same(training):
    model = tiny_bert(dropout=0.0).train(training)
    ids = torch.randint(1, 32, (3, 7))
    mask = torch.ones(3, 7)
    mask[1, 4:] = 0
    expected = model(ids, mask)
    with faster_operations(model):
        torch.testing.assert_close(model(ids, mask), expected, atol=1e-6, rtol=1e-5)


# --- convolution ------------------------------------------------------------------------------


@quick
@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.tuples(*[st.integers(1, 5)] * 2),
    st.tuples(*[st.integers(1, 3)] * 2), st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(0, 2)] * 2), st.booleans(), st.integers(0, 10**6),
)  # fmt: skip
def test_a_convolution_as_one_product_is_torchs(
    size, channels, outputs, extent, kernel, stride, padding, biased, seed
):
    """Outputs and all gradients, for maps and kernels that need not be square."""
    extent = [max(e, k - 2 * p) for e, k, p in zip(extent, kernel, padding, strict=True)]
    torch.manual_seed(seed)
    x = torch.randn(size, channels, *extent, requires_grad=True)
    weight = torch.randn(outputs, channels, *kernel).to(memory_format=torch.channels_last)
    inputs = [x, weight.requires_grad_(), *([torch.randn(outputs, requires_grad=True)] * biased)]
    bias = inputs[2] if biased else None
    expected = F.conv2d(x, weight, bias, stride, padding)
    found = convolution(x, weight, bias, stride, padding)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    direction = torch.randn_like(expected)
    for own, torchs in zip(
        torch.autograd.grad(found, inputs, direction),
        torch.autograd.grad(expected, inputs, direction), strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(own, torchs, atol=1e-4, rtol=1e-4)


def residual(size: int) -> tuple[nn.Module, torch.Tensor]:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18(num_classes=3).to(memory_format=torch.channels_last).eval()
    return model, torch.randn(2, 3, size, size)


@pytest.mark.parametrize("size, products", [(64, 4), (128, 0)])
def test_only_small_maps_are_convolved_by_one_product(size, products, monkeypatch):
    """ResNet-18 has four 3x3 convolutions in its last stage, of 2x2 positions at 64 pixels."""
    model, x = residual(size)
    seen = []

    def counted(*arguments):
        seen.append(arguments[0].shape)
        return convolution(*arguments)

    monkeypatch.setattr(operations, "convolution", counted)
    with torch.no_grad():
        expected = model(x)
        assert not seen
        with faster_operations(model):
            torch.testing.assert_close(model(x), expected, atol=1e-4, rtol=1e-4)
    assert len(seen) == products


@pytest.mark.parametrize("changes", [
    dict(groups=2), dict(dilation=2, padding=2), dict(padding_mode="reflect"), dict(padding="same"),
    dict(kernel_size=1, padding=0), dict(),
], ids=str)  # fmt: skip
def test_convolutions_of_other_kinds_are_left_to_torch(changes, monkeypatch):
    """The last one is plain, but its channels do not come last."""
    torch.manual_seed(0)
    layer = nn.Conv2d(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1,
                         **changes})  # fmt: skip
    monkeypatch.setattr(operations, "convolution", None)
    for x in (torch.randn(2, 4, 2, 2), torch.randn(4, 2, 2)):
        expected = layer(x)
        with faster_operations(layer):
            torch.testing.assert_close(layer(x), expected)
