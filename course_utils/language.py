"""Language models: how unsure they are, what they write, and what of it they have copied.

Shapes: V words of the vocabulary.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_utils import assets
from course_utils.data import Examples, TokenizedTexts, causal_labels
from course_utils.device import choose_compute
from course_utils.errors import CourseError
from course_utils.models import quiet_transformers
from course_utils.train import score


@dataclass(frozen=True)
class Dialogue:
    """A customer's message and the shop's answer."""

    topic: str
    customer: str
    agent: str

    @property
    def prompt(self) -> str:
        """What the model is given; it is to go on with a space and the answer."""
        return f"Customer: {self.customer}\nAgent:"


def load_dialogues(split: str) -> list[Dialogue]:
    """The embedded support dialogues of a split ("train", "valid", "test"), in a fixed order.

    Raises:
        AssetError: the file is missing or damaged.
        CourseError: there is no such split.
    """
    with open(assets.embedded("dialogues.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    splits = sorted({row["split"] for row in rows})
    if split not in splits:
        raise CourseError(f"there is no split {split!r} of the dialogues; there are {splits}")
    return [
        Dialogue(row["topic"], row["customer"], row["agent"])
        for row in rows
        if row["split"] == split
    ]


def perplexity(model: nn.Module, examples: Examples) -> float:
    """As unsure as between so many equally likely tokens: e to the mean loss in nats.

    Args:
        model: a language model (`load_language_model`).
        examples: tokenized texts whose labels are the next tokens (`causal_labels`).
    """
    return math.exp(score(model, examples, batch_size=16).loss)


def next_probabilities(logits: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """The distribution that the next token is drawn from, (V,) or (…, V).

    Args:
        logits: what the model gives, (V,) or (…, V).
        temperature: above 0; below 1 favours likely tokens, above 1 unlikely ones.
        top_p: above 0 and at most 1: of the most likely tokens as many as together reach this
            share are kept, at least one (nucleus sampling; Holtzman et al., 2020).
    """
    check_sampling(temperature, top_p)
    shares, order = (logits.float() / temperature).softmax(-1).sort(-1, descending=True)
    before = shares.cumsum(-1) - shares  # the share of the tokens that are more likely
    shares = shares.masked_fill(before >= top_p, 0.0)
    kept = torch.zeros_like(shares).scatter(-1, order, shares)
    return kept / kept.sum(-1, keepdim=True)


def check_sampling(temperature: float, top_p: float) -> None:
    """Raise `CourseError` for settings that no token can be drawn with."""
    if not 0 < temperature < math.inf:
        raise CourseError(f"temperature is {temperature}; it must be above 0, such as 0.7")
    if not 0 < top_p <= 1:
        raise CourseError(f"top_p is {top_p}; it must be above 0 and at most 1, such as 0.9")


@dataclass(frozen=True)
class Sample:
    """A text that a model wrote; `ended` is true if it stopped by itself."""

    text: str
    ended: bool


@torch.no_grad()
def write(
    model: nn.Module, prompts: Sequence[str], temperature: float = 0.7, top_p: float = 0.9,
    max_tokens: int = 60, seed: int = 0,
) -> list[Sample]:  # fmt: skip
    """Let a model go on from each prompt, with transformers' own `generate`.

    Args:
        model: a language model (`load_language_model`); left in eval mode.
        prompts: beginnings of texts; the token that begins a text is put before them.
        temperature, top_p: see `next_probabilities`.
        max_tokens: tokens to write at most.
        seed: decides what is drawn.
    """
    check_sampling(temperature, top_p)
    device = choose_compute().device
    model.to(device).eval()
    tokenizer = model.tokenizer
    inputs = tokenizer(
        [tokenizer.bos_token + prompt for prompt in prompts], return_tensors="pt", padding=True,
        padding_side="left",
    ).to(device)  # fmt: skip
    gpus = [device] if device.type == "cuda" else []
    with quiet_transformers(), torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        written = model.generate(
            inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=True,
            temperature=temperature, top_p=top_p, top_k=0, max_new_tokens=max_tokens,
            pad_token_id=model.pad_id,
        )  # fmt: skip
    new = written[:, inputs["input_ids"].shape[1] :]
    end = tokenizer.eos_token_id
    return [
        Sample(tokenizer.decode(row, skip_special_tokens=True).strip(), end in row.tolist())
        for row in new
    ]


def longest_copy(text: str, sources: Sequence[str]) -> int:
    """The length in words of the longest run that `text` shares with any of the sources."""
    words = text.lower().split()
    known = [f" {' '.join(source.lower().split())} " for source in sources]
    longest = 0
    for start in range(len(words)):
        while start + longest < len(words) and any(
            f" {' '.join(words[start : start + longest + 1])} " in source for source in known
        ):
            longest += 1
    return longest


def language_examples(
    texts: Sequence[str], tokenizer, prompts: Sequence[str] | None = None, max_tokens: int = 128
) -> Examples:
    """Texts for a language model, each between a beginning and an end mark.

    Args:
        texts: what the model is to go on with, or whole texts.
        tokenizer: `model.tokenizer`.
        prompts: what stands before each text and is given; no loss is counted on it.
        max_tokens: longer texts are cut.

    Returns:
        Tokenized texts whose labels are the next tokens, those of the prompt `IGNORED`.
    """
    starts = [tokenizer.bos_token + prompt for prompt in prompts or [""] * len(texts)]
    whole = [start + text + tokenizer.eos_token
             for start, text in zip(starts, texts, strict=True)]  # fmt: skip
    ids = tokenizer(whole, truncation=True, max_length=max_tokens)["input_ids"]
    inputs = TokenizedTexts.from_lists(ids)
    if prompts is None:
        return Examples(inputs, causal_labels(inputs))
    lengths = [len(start) for start in tokenizer(starts)["input_ids"]]
    return Examples(inputs, causal_labels(inputs, lengths))
