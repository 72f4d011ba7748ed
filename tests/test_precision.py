"""bf16 stays within its rounding of fp32: losses and gradients (course_utils/train.py)."""

import pytest
import torch
from conftest import tiny_bert, tiny_text_task
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.batches import Batches
from course_utils.device import choose_compute
from course_utils.operations import faster_operations
from course_utils.parallel import Replicas
from course_utils.recipes import Recipe
from course_utils.stage import stages
from course_utils.train import gradients

ROUNDING = 2**-8  # of bf16, which keeps 8 bits of a number


@settings(deadline=None, max_examples=15)
@given(size=st.integers(3, 16), seed=st.integers(0, 10**6), faster=st.booleans())
def test_a_gradient_in_bf16_is_that_of_fp32_to_its_rounding(size, seed, faster):
    """Each of some ten products in a row rounds once, and errors add up like random steps."""
    torch.manual_seed(seed)
    model = tiny_bert(layers=2).train()
    for weight in model.parameters():  # other weights for each seed
        torch.nn.init.normal_(weight, std=0.2) if weight.ndim > 1 else None
    batch = Batches(tiny_text_task(size, seed=seed).train, size, torch.device("cpu"))
    found = {}
    for precision in ("fp32", "bf16"):
        with faster_operations(model, faster):
            loss, count = gradients(
                Replicas(stages(model)), next(iter(batch.epoch())), Recipe("test"),
                choose_compute(precision), 1,
            )  # fmt: skip
        found[precision] = (loss / count, [w.grad.clone() for w in model.parameters()])
    (loss, exact), (rounded_loss, rounded) = found["fp32"], found["bf16"]
    assert rounded_loss.item() == pytest.approx(loss.item(), rel=2 * ROUNDING)
    flat, off = (torch.cat([g.flatten() for g in gs]) for gs in (exact, rounded))
    assert {g.dtype for g in rounded} == {torch.float32}
    assert 0 < (flat - off).norm() <= 6 * ROUNDING * flat.norm()
