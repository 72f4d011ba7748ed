"""Adapters change only what they say, equal peft's, and can be merged and swapped."""

import copy

import pytest
import torch
from conftest import tiny_bert, tiny_text_task
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_utils import recipes
from course_utils.errors import CourseError
from course_utils.lora import LoRALinear, adapter_state, add_lora, load_adapter, merge_lora
from course_utils.stage import count_weights, stages, unfreeze
from course_utils.train import fit

IDS = torch.arange(24).view(2, 12)


def tiny_gpt() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=2, n_head=2,
                        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def disturb(model: nn.Module, seed: int = 1) -> None:
    """Give the adapters' B, which begin at zero, something to do."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, LoRALinear):
            module.up.data = 0.1 * torch.randn(module.up.shape, generator=generator)


def output(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        result = model(IDS)
    return result if isinstance(result, torch.Tensor) else result.logits


MODELS = {
    "BERT": (tiny_bert, ("query", "value")),
    "BERT, all": (tiny_bert, ("query", "key", "value", "dense")),
    "GPT-2": (tiny_gpt, ("c_attn", "c_proj", "c_fc")),
}
each_model = pytest.mark.parametrize(("make", "targets"), MODELS.values(), ids=MODELS)


@each_model
def test_an_adapter_changes_nothing_at_first_and_something_later(make, targets):
    model = make()
    before = output(model)
    assert add_lora(model, 4, targets=targets) > 0
    assert torch.equal(output(model), before)
    disturb(model)
    assert (output(model) - before).abs().max() > 1e-3


@each_model
def test_merging_changes_no_output_and_leaves_the_plain_model(make, targets):
    model = make()
    names = list(model.state_dict())
    number = add_lora(model, 4, targets=targets)
    disturb(model)
    before = output(model)
    assert merge_lora(model) == number
    torch.testing.assert_close(output(model), before, rtol=1e-5, atol=1e-6)
    assert list(model.state_dict()) == names and merge_lora(model) == 0


@settings(deadline=None, max_examples=20)
@given(rank=st.integers(1, 8), out=st.integers(8, 20), inside=st.integers(8, 20),
       alpha=st.floats(0.5, 64))  # fmt: skip
def test_the_addition_is_the_product_of_two_thin_matrices(rank, out, inside, alpha):
    layer = LoRALinear(nn.Linear(inside, out), rank, alpha)
    nn.init.normal_(layer.up)
    x = torch.randn(3, 5, inside)
    change = (alpha / rank) * layer.up @ layer.down
    expected = x @ (layer.base.weight + change).T + layer.base.bias
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)
    assert torch.linalg.matrix_rank(change) <= rank


@each_model
def test_outputs_and_gradients_are_those_of_peft(make, targets):
    from peft import LoraConfig, get_peft_model

    ours, theirs = make(), make()
    add_lora(ours, 4, alpha=8, targets=targets)
    disturb(ours)
    for part in stages(ours):
        unfreeze([part])
    config = LoraConfig(r=4, lora_alpha=8, target_modules=list(targets), lora_dropout=0.0,
                        fan_in_fan_out=make is tiny_gpt)  # fmt: skip
    get_peft_model(theirs if make is tiny_gpt else theirs.encoder, config)
    theirs.eval()
    pairs = []
    peft_layers = {n.replace("base_model.model.", ""): m for n, m in theirs.named_modules()
                   if hasattr(m, "lora_A")}  # fmt: skip
    for name, module in ours.named_modules():
        if isinstance(module, LoRALinear):
            layer = peft_layers.pop(name)
            layer.lora_A["default"].weight.data = module.down.data.clone()
            layer.lora_B["default"].weight.data = module.up.data.clone()
            pairs += [(module.down, layer.lora_A["default"].weight),
                      (module.up, layer.lora_B["default"].weight)]  # fmt: skip
    assert pairs and not peft_layers
    torch.testing.assert_close(output(ours), output(theirs), rtol=1e-5, atol=1e-6)
    for model in (ours, theirs):
        result = model(IDS)
        (result if isinstance(result, torch.Tensor) else result.logits).square().sum().backward()
    for mine, other in pairs:
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_fit_trains_the_adapters_and_the_head_and_nothing_else():
    model, task = tiny_bert(dropout=0.1), tiny_text_task()
    torch.manual_seed(0)
    add_lora(model, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    history = fit(model, task, recipes.lora(epochs=2, precision="fp32"), silent=True)
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    expected = {n for n in before if n.endswith((".down", ".up")) or n.startswith("head")}
    assert moved == expected
    assert history.trained_weights == sum(before[name].numel() for name in expected)
    assert history.trained_weights == count_weights(stages(model))[0]


def test_adapters_are_learnt_at_a_frozen_base():
    model, task = tiny_bert(), tiny_text_task()
    torch.manual_seed(0)
    add_lora(model, 4, targets=("query", "key", "value", "dense"))
    recipe = recipes.lora(epochs=16, learning_rate=1e-2, precision="fp32")
    history = fit(model, task, recipe, silent=True)
    assert history.epochs[-1].train_loss < 0.6 * history.epochs[0].train_loss


def test_one_base_serves_many_adapters():
    model = tiny_bert()
    torch.manual_seed(0)
    add_lora(model, 2)
    base = {n: v.clone() for n, v in model.state_dict().items() if ".base." in n}
    kept, outputs = {}, {}
    for seed in (1, 2):
        disturb(model, seed)
        nn.init.normal_(model.head.weight)
        kept[seed], outputs[seed] = adapter_state(model), output(model)
    assert not torch.equal(outputs[1], outputs[2])
    for seed in (1, 2, 1):
        load_adapter(model, kept[seed])
        assert torch.equal(output(model), outputs[seed])
    assert all(torch.equal(model.state_dict()[name], value) for name, value in base.items())
    small = sum(value.numel() for value in kept[1].values())
    assert small < sum(value.numel() for value in model.state_dict().values()) / 10


@pytest.mark.parametrize("spoil", ["rank", "missing", "classes"])
def test_an_adapter_that_does_not_fit_changes_nothing(spoil):
    model, other = tiny_bert(), tiny_bert(num_classes=5 if spoil == "classes" else 3)
    add_lora(model, 2)
    add_lora(other, 4 if spoil == "rank" else 2)
    disturb(other)
    state = adapter_state(other)
    if spoil == "missing":
        state.popitem()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CourseError, match="does not fit.*add_lora with the rank"):
        load_adapter(model, state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_wrong_use_is_explained():
    with pytest.raises(CourseError, match="'querry'.*dense, .*query"):
        add_lora(tiny_bert(), targets=("querry", "value"))
    with pytest.raises(CourseError, match="rank is 17.*from 1 to 16"):
        add_lora(tiny_bert(), rank=17)
    with pytest.raises(CourseError, match="rank is 0"):
        add_lora(tiny_bert(), rank=0)
    model = tiny_bert()
    with pytest.raises(CourseError, match="no adapters"):
        adapter_state(model)
    add_lora(model)
    with pytest.raises(CourseError, match="already"):
        add_lora(model)
