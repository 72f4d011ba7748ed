"""Language models (course_utils/language.py), on the embedded one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.data import IGNORED
from course_utils.device import choose_compute
from course_utils.errors import AssetError, CourseError
from course_utils.language import (
    language_examples,
    load_dialogues,
    longest_copy,
    next_probabilities,
    perplexity,
    write,
)
from course_utils.models import load_language_model
from course_utils.stage import run_stages, stages

quick = settings(deadline=None, max_examples=40)
logits = st.lists(st.floats(-20, 20), min_size=2, max_size=30).map(torch.tensor)
words = st.lists(st.sampled_from("a b c d e".split()), max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def model():
    return load_language_model("gpt2-docstrings")


# --- the embedded model ---------------------------------------------------------------------


def test_the_stages_are_the_model(model):
    ids = torch.tensor(model.tokenizer(["Return the number of items."])["input_ids"])
    torch.testing.assert_close(run_stages(stages(model), ids), model(ids).logits)


def test_it_knows_english_from_noise(model):
    english = language_examples(["Return the number of items in the list."], model.tokenizer)
    noise = language_examples(["the of Return items list in number the."], model.tokenizer)
    untrained = load_language_model("gpt2-docstrings", pretrained=False)
    assert perplexity(model, english) < 60
    assert perplexity(model, noise) > 3 * perplexity(model, english)
    assert perplexity(untrained, english) == pytest.approx(len(model.tokenizer), rel=0.3)


def test_perplexity_is_that_of_transformers_loss(model):
    text = "If the file does not exist, it is created."
    ids = torch.tensor([language_examples([text], model.tokenizer).inputs[0].tolist()])
    with choose_compute().autocast():
        expected = math.exp(model(ids, labels=ids).loss.item())
    found = perplexity(model, language_examples([text], model.tokenizer))
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_damaged_model_is_refused(monkeypatch, tmp_path):
    from course_utils import assets

    monkeypatch.setattr(assets, "DATA", tmp_path)
    assets.embedded.cache_clear()
    (tmp_path / "SHA256SUMS").write_text("00  models/gpt2_docstrings/config.json\n")
    with pytest.raises(AssetError, match="config.json is missing"):
        load_language_model("gpt2-docstrings")
    assets.embedded.cache_clear()


# --- examples -------------------------------------------------------------------------------


def test_only_what_follows_the_prompt_counts(model):
    tokenizer = model.tokenizer
    examples = language_examples([" I am sorry."], tokenizer, ["Customer: It broke.\nAgent:"])
    ids, labels = examples.inputs[0].tolist(), examples.labels[0]
    counted = labels[labels != IGNORED].tolist()
    assert tokenizer.decode(counted) == " I am sorry.<|endoftext|>"
    assert (
        tokenizer.decode(ids) == "<|endoftext|>Customer: It broke.\nAgent: I am sorry.<|endoftext|>"
    )
    everything = language_examples(["It broke."], tokenizer)
    assert int((everything.labels.ids != IGNORED).sum()) == len(everything.inputs.ids) - 1


def test_dialogues_are_read_by_split():
    splits = {name: load_dialogues(name) for name in ("train", "valid", "test")}
    assert [len(rows) for rows in splits.values()] == [808, 105, 97]
    row = splits["test"][0]
    assert row.prompt == f"Customer: {row.customer}\nAgent:"
    with pytest.raises(CourseError, match=r"no split 'exam' of the dialogues; there are \['test'"):
        load_dialogues("exam")


# --- sampling -------------------------------------------------------------------------------


@quick
@given(logits, st.floats(0.1, 3), st.floats(0.05, 1))
def test_the_nucleus_is_the_smallest_set_that_reaches_its_share(scores, temperature, top_p):
    full = next_probabilities(scores, temperature)
    torch.testing.assert_close(full, (scores / temperature).softmax(0))
    kept = next_probabilities(scores, temperature, top_p)
    inside = kept > 0
    assert inside.any() and kept.sum().item() == pytest.approx(1, abs=1e-5)
    mass = full[inside].sum().item()
    assert mass >= top_p - 1e-4
    assert mass - full[inside].min().item() <= top_p + 1e-4  # without the last one it would not
    if (~inside).any():
        assert full[~inside].max() <= full[inside].min() + 1e-6
    torch.testing.assert_close(kept[inside], full[inside] / mass, atol=1e-5, rtol=1e-3)


@quick
@given(st.lists(st.integers(-50, 50), min_size=3, max_size=30, unique=True), st.floats(0.2, 0.95))
def test_it_is_the_nucleus_of_transformers(tenths, top_p):
    from transformers import TopPLogitsWarper

    scores = torch.tensor([tenths]) / 10
    theirs = TopPLogitsWarper(top_p)(None, scores).softmax(-1)
    ours = next_probabilities(scores, top_p=top_p)
    full = scores.softmax(-1)
    sums = full.sort(descending=True).values.cumsum(-1)
    if (sums - top_p).abs().min() > 1e-4:  # a tie is decided by rounding
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("settings, message", [
    (dict(temperature=0.0), "temperature is 0.0; it must be above 0"),
    (dict(temperature=math.nan), "temperature is nan"),
    (dict(top_p=0.0), "top_p is 0.0; it must be above 0 and at most 1"),
    (dict(top_p=1.5), "top_p is 1.5"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings, message, model):
    with pytest.raises(CourseError, match=message):
        next_probabilities(torch.zeros(3), **settings)
    with pytest.raises(CourseError, match=message):
        write(model, ["Return"], **settings)


def test_what_is_written_depends_on_the_seed_and_nothing_else(model, capsys):
    prompts = ["Return the", "If the file does not exist,"]
    state = torch.get_rng_state()
    one, same, other = (write(model, prompts, max_tokens=12, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    assert torch.get_rng_state().equal(state)
    assert all("<|endoftext|>" not in sample.text for sample in one)
    cold = [write(model, prompts, temperature=0.01, max_tokens=8, seed=seed) for seed in (1, 2)]
    assert cold[0] == cold[1]
    alone = write(model, prompts[:1], temperature=0.01, max_tokens=8)
    assert alone[0] == cold[0][0]  # beside a longer prompt, it is padded and says the same
    assert capsys.readouterr().err == ""


# --- copies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text, expected", [
    ("we will send it back", 5), ("We WILL send", 3), ("send it today", 2), ("no", 0), ("", 0),
    ("will wills", 1), ("it back we will", 2),
])  # fmt: skip
def test_the_longest_run_of_words(text, expected):
    assert longest_copy(text, ["Sorry, we will send it back", "today is fine"]) == expected


@quick
@given(words, st.lists(words, max_size=4))
def test_a_run_is_the_longest_that_any_source_holds(text, sources):
    tokens = text.split()
    runs = {
        tuple(tokens[i:j]) for i in range(len(tokens)) for j in range(i + 1, len(tokens) + 1)
    }  # fmt: skip
    known = {
        tuple(source.split()[i:j])
        for source in sources
        for i in range(len(source.split()))
        for j in range(i + 1, len(source.split()) + 1)
    }
    assert longest_copy(text, sources) == max((len(run) for run in runs & known), default=0)
