# %% [markdown]
# # 41 · LoRA: leave the weights alone, train beside them
#
# Full fine-tuning changes every weight and gives you, for each task, a second copy of
# the whole model. **LoRA** changes none: beside some layers it puts two thin matrices
# and trains only these. Do a few percent of the weights learn as much? Do they cost a
# few percent of the time? Do they forget less? This lesson measures all three, next to
# five other ways to move less than everything.
#
# **You will be able to**
#
# - write LoRA in a few lines and show that it is what the library `peft` does;
# - choose among full, half, gradual and low-rank fine-tuning by what they learn,
#   forget and cost;
# - keep one model and many adapters, swap them, merge them, and not mix that up.
#
# **Builds on** lessons 12 and 14. **Words:** *adapter* – a small addition to a layer,
# trained while the layer is frozen; *rank* – the number of independent directions in
# which a matrix can change its input; *moments* – the two numbers that the optimizer
# AdamW remembers for each weight it trains; *perplexity* – as unsure as between so many
# equally likely tokens (lesson 14); *forgetting* – what the model loses of what it knew.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from course_utils import (
    adapter_state, add_lora, check, claim, copy_of, describe, fit, load_adapter,
    load_language_model, merge_lora, new_axes, plot_lines, predict, quiz, recipes,
    run_stages, score, seed_everything, select, show_table, stages, stopwatch,
)
from course_utils.data import Task
from course_utils.docstrings import package_texts
from course_utils.language import language_examples, load_dialogues, perplexity

MODEL = select(PROFILE, quick="gpt2-docstrings", full="openai-community/gpt2")
TRAIN = select(PROFILE, quick=16, full=400)  # dialogues, drawn anew for each seed
TEST = select(PROFILE, quick=10, full=97)
LONGEST = select(PROFILE, quick=260, full=10_000)  # characters: short ones are quick
BATCH = select(PROFILE, quick=4, full=16)
SEEDS = [SEED, SEED + 1, SEED + 2]
EPOCHS, GRADUAL_EPOCHS = 2, 4
RATE = select(PROFILE, quick=1e-3, full=5e-5)  # of full fine-tuning
LORA_RATE = 5 * RATE
# Bounds of claims. GPT-2 has read far more than documentation: it moves less, either way.
LEAST = select(PROFILE, quick={"moves": 1.1, "gradual": 1.05, "dial": 1.2},
               full={"moves": 0.9, "gradual": 0.8, "dial": 1.0})
ATTENTION, ALL = ("c_attn",), ("c_attn", "c_proj", "c_fc")  # names of layers to adapt
RANK = 8

# %% [markdown]
# ## 1 · LoRA in a few lines
#
# A linear layer multiplies by a matrix W. Fine-tuning turns W into W + ΔW. LoRA (Hu et
# al., 2022) writes ΔW as a product of a tall and a wide matrix, **B A**, of rank r: for
# a layer from 256 to 768 numbers and r = 8 that is 8,192 numbers in place of 196,608.
# B begins at zero, so at first nothing changes.

# %%
import torch


class LowRank(torch.nn.Module):
    """A frozen layer and a low-rank addition; x (…, in) → (…, out)."""

    def __init__(self, base, inside, out, rank, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = torch.nn.Parameter(torch.randn(rank, inside) / inside**0.5)  # A
        self.up = torch.nn.Parameter(torch.zeros(out, rank))  # B
        self.scale = alpha / rank

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.down.T @ self.up.T)


# %% [markdown]
# `scale` is α / r. Whoever doubles the rank then need not look for another learning
# rate. That is the whole method. Is it what the library **peft** does? We let peft adapt
# our small GPT, copy its two matrices of one layer, and compare what comes out, and the
# gradients.

# %%
import warnings

from peft import LoraConfig, get_peft_model

model = load_language_model(MODEL, seed=SEED)
tokenizer = model.tokenizer
config = LoraConfig(r=RANK, lora_alpha=16, target_modules=list(ALL), fan_in_fan_out=True)
seed_everything(SEED)
with warnings.catch_warnings():  # peft asks transformers by a name that is on its way out
    warnings.simplefilter("ignore", FutureWarning)
    by_peft = get_peft_model(copy_of(model), config).eval()
theirs = by_peft.base_model.model.transformer.h[0].attn.c_attn
A, B = theirs.lora_A["default"].weight, theirs.lora_B["default"].weight
B.data = 0.1 * torch.randn(B.shape)  # at zero there would be nothing to compare

# %% [markdown]
# The same matrices in our class, and a random input:

# %%
inside, out = A.shape[1], B.shape[0]
ours = LowRank(theirs.base_layer, inside, out, RANK, alpha=16)
ours.down.data, ours.up.data = A.data.clone(), B.data.clone()
x = torch.randn(4, 10, inside)
for layer in (ours, theirs):
    layer(x).square().mean().backward()
difference = {"output": (ours(x) - theirs(x)).abs().max().item(),
              "gradient of A": (ours.down.grad - A.grad).abs().max().item()}
difference

# %%
claim("41.1", "largest difference from peft, outputs and gradients of a layer",
      max(difference.values()), at_most=1e-5)

# %% [markdown]
# From here on we use the course's `add_lora(model, rank, alpha, targets)`, the same in
# a form that `fit` knows: a stage that holds adapters trains only them.
#
# ## 2 · The task, and the skill to keep
#
# As in lesson 14: a small GPT that has read documentation is to answer customers. What
# it should **learn** is measured by its perplexity on test answers; what it **forgets**,
# by that on documentation, where it was at home. Both are averages over hundreds of
# tokens, so they are far less noisy than a share of right answers would be.

# %%
import math
import random


def answers(rows):
    """Dialogues as prompts with answers; only the answers count."""
    return language_examples([f" {row.agent}" for row in rows], tokenizer,
                             [row.prompt for row in rows])


def short(split):
    """The dialogues of a split that are short."""
    return [row for row in load_dialogues(split)
            if len(row.prompt) + len(row.agent) <= LONGEST]


def drawn(seed):
    """Training dialogues of a seed."""
    dialogues = short("train")
    random.Random(seed).shuffle(dialogues)
    return dialogues[:TRAIN]


# %% [markdown]
# The test dialogues, and pieces of documentation:

# %%
test = short("test")[:TEST]
test_answers = answers(test)
pieces = [text[:LONGEST] for text in package_texts("networkx", TEST, seed=SEED)]
documentation = language_examples(pieces, tokenizer)

# %% [markdown]
# **Baseline**: the model as it is.

# %%
def measured(model):
    result = score(model, test_answers, BATCH)
    return {"answers": math.exp(result.loss), "accuracy": 100 * result.accuracy,
            "documentation": perplexity(model, documentation)}


before = measured(model)
print("before: perplexity {answers:.0f} on answers ({accuracy:.0f} % of the next tokens "
      "right), {documentation:.0f} on documentation".format(**before))

# %%
predict("41.1")
predict("41.2")

# %% [markdown]
# ## 3 · Six ways, three draws
#
# - **full**: every weight, one rate.
# - **full, lower rate**: a fifth of it. The simplest way to move less.
# - **per-layer rates**: each layer at 0.7 of the rate of the one above it.
# - **gradual**: the last layer first, one more each epoch.
# - **half**: *half fine-tuning* (Hui et al., 2024). In each round a random half of the
#   matrices of each layer is frozen, in the next one another half.
# - **LoRA**: rank 8 beside every matrix of the blocks, at a higher rate: the adapters
#   have further to go than weights that are nearly right.

# %%
common = dict(epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE, head_learning_rate=None,
              validate=False)
WAYS = {
    "full": recipes.full_finetuning(**common),
    "full, lower rate": recipes.full_finetuning(**{**common, "learning_rate": RATE / 5}),
    "per-layer rates": recipes.discriminative(stage_decay=0.7, **common),
    "gradual": recipes.gradual_unfreezing(**{**common, "epochs": GRADUAL_EPOCHS}),
    "half": recipes.half_finetuning(**common),
    "LoRA": recipes.lora(**{**common, "learning_rate": LORA_RATE}),
}

# %% [markdown]
# A run tunes a copy of the model on the dialogues of its seed. With a rank it gets
# adapters first.

# %%
VOCABULARY = tuple(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
seconds = []


def tuned(recipe, rows, seed=SEED, rank=0, targets=ALL, base=model):
    """A copy of the base, tuned, and the record of its training."""
    learner = copy_of(base)
    if rank:
        seed_everything(seed)  # A is random
        add_lora(learner, rank, alpha=2 * rank, targets=targets)
    examples = answers(rows)
    task = Task("dialogues", "text", VOCABULARY, examples, examples, test_answers)
    history = fit(learner, task, recipe, seed=seed, silent=True)
    seconds.append(history.seconds)
    return learner, history


# %%
from course_utils.progress import Progress

bar, learners = Progress(len(WAYS) * len(SEEDS), "runs"), {}
runs = {name: [] for name in WAYS}
for seed in reversed(SEEDS):  # the learners of the first seed are kept for later
    for name, recipe in WAYS.items():
        rank = RANK if name == "LoRA" else 0
        learners[name], history = tuned(recipe, drawn(seed), seed, rank)
        runs[name].append({**measured(learners[name]), "seconds": history.seconds,
                           "weights": history.trained_weights})
        bar.update(len(seconds), name)

# %% [markdown]
# AdamW keeps two **moments** for each weight that it trains, 4 bytes each. Measured on
# an adapted model, after one step:

# %%
adapted = learners["LoRA"]
trained = [weight for weight in adapted.parameters() if weight.requires_grad]
optimizer = torch.optim.AdamW(trained)
for weight in trained:
    weight.grad = torch.zeros_like(weight)
optimizer.step()
held = sum(value.nbytes for state in optimizer.state.values() for value in state.values())
per_weight = held / sum(weight.numel() for weight in trained)
claim("41.2", "bytes that AdamW keeps for each weight that it trains", per_weight,
      at_least=8, at_most=8.1)

# %% [markdown]
# Medians of the three runs, and their range in brackets:

# %%
import numpy as np


def values(name, what):
    return [one[what] for one in runs[name]]


def spread(numbers, digits=1):
    return (f"{np.median(numbers):.{digits}f} "
            f"({min(numbers):.{digits}f} to {max(numbers):.{digits}f})")


show_table(
    [{"way": name, "answers": spread(values(name, "answers")),
      "next token right (%)": spread(values(name, "accuracy")),
      "documentation": spread(values(name, "documentation")),
      "trained weights": runs[name][0]["weights"],
      "moments (MB)": per_weight * runs[name][0]["weights"] / 1e6,
      "seconds": float(np.median(values(name, "seconds")))} for name in WAYS],
    f"Perplexity on answers and on documentation; before {before['answers']:.0f} and "
    f"{before['documentation']:.0f}",
)

# %%
from course_utils.plotting import MARKERS, PALETTE

axes = new_axes(height=4)
axes.plot(before["documentation"], before["answers"], "*", color="0.4", markersize=11,
          label="before")
for name, marker, colour in zip(WAYS, MARKERS, PALETTE, strict=False):
    axes.plot(values(name, "documentation"), values(name, "answers"), marker,
              color=colour, label=name, linestyle="none", markersize=7)
axes.set(xlabel="perplexity on documentation (forgetting: to the right)",
         ylabel="perplexity on answers (learning: down)", yscale="log")
ticks = [50, 60, 80, 100, 140]
axes.set_yticks(ticks, map(str, ticks))
axes.minorticks_off()
axes.legend(frameon=False)
listed = "; ".join(f"{name} {np.median(values(name, 'documentation')):.0f} and "
                   f"{np.median(values(name, 'answers')):.0f}" for name in WAYS)
describe(axes, "Points of perplexity on documentation and on answers, three runs a way: "
               f"{listed}.")

# %% [markdown]
# Read it as a map: down is learnt, right is forgotten; the lower left corner would be
# free. **The first surprise is the last column.** LoRA trains a few percent of the
# weights and does not take a few percent of the time. The forward pass is the same, and
# the gradient still has to travel through every layer to reach the adapters below it.
# Only the gradients of the weights themselves are saved, a third of the work at best,
# and in a small model the thin products eat most of that. What LoRA saves is *memory*.

# %%
def ratio(what, name, than):
    """One way's value over another's, seed by seed."""
    return [a / b for a, b in zip(values(name, what), values(than, what), strict=True)]


weights = {name: np.median(values(name, "weights")) for name in WAYS}
claim("41.3", "percent of the weights that LoRA trains",
      100 * weights["LoRA"] / weights["full"], at_most=4)
claim("41.4", "LoRA's perplexity on answers over that of full fine-tuning: it learns less",
      ratio("answers", "LoRA", "full"), at_least=LEAST["moves"])
claim("41.5", "full fine-tuning's perplexity on documentation over LoRA's: it forgets more",
      ratio("documentation", "full", "LoRA"), at_least=LEAST["moves"])
claim("41.6", "the same over that of half fine-tuning",
      ratio("documentation", "full", "half"), at_least=LEAST["moves"])

# %% [markdown]
# "LoRA learns less and forgets less" (Biderman et al., 2024) is what we see, too. But
# is that a virtue of low rank? **Moving less** in any way does that. So put LoRA beside
# the simplest way to move less, a lower rate for everything, and beside the layers
# opened one after another:

# %%
lower = "full, lower rate"
show_table(
    [{"way": name, **{what: spread(values(name, what))
                      for what in ("answers", "documentation")}}
     for name in ("LoRA", lower, "gradual")],
    "Perplexities again: who learns more, at about the same forgetting?",
)

# %% [markdown]
# **The second surprise.** LoRA and full fine-tuning at a fifth of the rate lie side by
# side: at this scale low rank buys no better bargain between learning and forgetting
# than small steps do. What does buy one is the *order*: gradual unfreezing forgets
# hardly more than LoRA and learns more. Choose LoRA for the memory and the copies it
# saves, which is a great deal, and not because it were kinder to old skills.

# %%
claim("41.7", "LoRA's perplexity on documentation over that of the lower rate",
      ratio("documentation", "LoRA", lower), at_least=0.8, at_most=1.25)
claim("41.8", "LoRA's perplexity on answers over that of gradual unfreezing",
      ratio("answers", "LoRA", "gradual"), at_least=LEAST["gradual"])
claim("41.9", "gradual unfreezing's perplexity on documentation over LoRA's",
      ratio("documentation", "gradual", "LoRA"), at_most=1.15)

# %% [markdown]
# ## 4 · Which rank, which layers, which rate?

# %%
predict("41.3")

# %% [markdown]
# One thing is changed at a time, with the dialogues of the first draw. (One run each:
# look for large differences only.)

# %%
def variant(rank=RANK, targets=ALL, rate=LORA_RATE):
    recipe = recipes.lora(**{**common, "learning_rate": rate})
    learner, history = tuned(recipe, drawn(SEED), SEED, rank, targets)
    return {**measured(learner), "weights": history.trained_weights}


tried = {
    "rank 8, all matrices": runs["LoRA"][-1],
    "rank 1": variant(rank=1),
    "rank 32": variant(rank=32),
    "attention's first matrix only": variant(targets=ATTENTION),
    "the rate of full fine-tuning": variant(rate=RATE),
    "four times the rate": variant(rate=4 * LORA_RATE),
}

# %%
show_table(
    [{"LoRA with": name, "answers": one["answers"],
      "documentation": one["documentation"], "trained weights": one["weights"]}
     for name, one in tried.items()],
    "Perplexity by rank, layers and rate; all else as in the first row",
)

# %% [markdown]
# The same on the map of section 3:

# %%
axes = new_axes()
names = list(tried)
for place, marker, colour in zip(range(len(names)), MARKERS, PALETTE, strict=False):
    one = tried[names[place]]
    axes.plot(one["documentation"], one["answers"], marker, color=colour, markersize=8,
              label=names[place], linestyle="none")
axes.set(xlabel="perplexity on documentation", ylabel="perplexity on answers")
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
listed = "; ".join(f"{name} {one['documentation']:.0f} and {one['answers']:.0f}"
                   for name, one in tried.items())
describe(axes, f"Perplexity on documentation and on answers by variant of LoRA: {listed}.")

# %% [markdown]
# Hu et al. (2022) found that a rank of 1 was often enough. For a model a thousand times
# as large, that may be; here it is not, in so few steps. All three dials do the same
# thing in different ways: they set **how far the model can get**. A higher rank and
# adapters beside more matrices bring its learning nearer to that of full fine-tuning;
# what they do to forgetting, one run each does not tell. The **rate** is the one that
# can ruin a run: that of full fine-tuning is too low for adapters, and four times ours
# loses the old field without gaining the new.

# %%
base = tried["rank 8, all matrices"]
claim("41.10", "perplexity on answers at rank 1, over that at rank 32",
      tried["rank 1"]["answers"] / tried["rank 32"]["answers"], at_least=LEAST["dial"])
claim("41.11", "perplexity on answers at full fine-tuning's rate, over that at LoRA's",
      tried["the rate of full fine-tuning"]["answers"] / base["answers"],
      at_least=LEAST["dial"])
claim("41.12", "perplexity on documentation at four times the rate, over that at LoRA's",
      tried["four times the rate"]["documentation"] / base["documentation"],
      at_least=LEAST["dial"])

# %% [markdown]
# ## 5 · Is the change really of low rank?
#
# LoRA *assumes* that ΔW needs few directions. Full fine-tuning assumes nothing, so ask
# it: take the change that it made to a matrix, split it into directions by singular
# values (each one's square is its share of the change), and count.

# %%
def directions(change):
    """Cumulated share of the change in its first 1, 2, … directions, from the largest."""
    squares = torch.linalg.svdvals(change.float()).square()
    return (squares.cumsum(0) / squares.sum()).tolist()


def first_matrix(learner):
    return learner.transformer.h[-1].attn.c_attn.weight.detach().cpu()


full_change = first_matrix(learners["full"]) - first_matrix(model)
noise = torch.randn(full_change.shape, generator=torch.Generator().manual_seed(SEED))
shares = {"full fine-tuning": directions(full_change), "noise": directions(noise)}

# %%
counts = [2**i for i in range(9) if 2**i <= len(shares["noise"])]
shown = {name: [share[count - 1] for count in counts] for name, share in shares.items()}
axes = plot_lines(counts, shown, "directions, the largest first", "share of the change",
                  log_x=True)
axes.set_xticks(counts, map(str, counts))
axes.minorticks_off()
axes.axvline(RANK, color="0.4", linestyle=":")
axes.annotate(f"rank {RANK}", (RANK, 0.92), (4, 0), textcoords="offset points")
reached = ", ".join(f"{name} {share[RANK - 1]:.0%}" for name, share in shares.items())
describe(axes, f"Share of a matrix's change in its first directions. In the first {RANK}: "
               f"{reached}.")

# %% [markdown]
# It is in between. A few directions hold far more of the change than they would of
# noise, so low rank is a sensible bet; but there is a long tail, which LoRA cannot
# follow. That is the part of the learning that it misses here.

# %%
claim("41.13", f"share of the change in {RANK} directions, in multiples of noise",
      shares["full fine-tuning"][RANK - 1] / shares["noise"][RANK - 1], at_least=2)
claim("41.14", f"share of the change that {RANK} directions leave out",
      1 - shares["full fine-tuning"][RANK - 1], at_least=0.1)

# %% [markdown]
# What a rank buys and costs, for this model:

# %%
from course_utils.labs import lab
from course_utils.lessons.lesson_41 import rank_report

shapes = [(layer.base.nx, layer.base.nf) for layer in adapted.modules()
          if hasattr(layer, "base")]
total = sum(weight.numel() for weight in model.parameters())
lab("The rank of the adapters",
    lambda rank: rank_report(int(rank), shapes, total, shares["full fine-tuning"]),
    {"rank": (1, 64, 1)}, [{"rank": 8}, {"rank": 1}, {"rank": 64}])

# %% [markdown]
# ## 6 · Merging
#
# In use, an adapter costs two small products for each layer and token. Add B A to W
# once, and the model is a plain one again, as fast as before.

# %%
ids = test_answers.inputs[0][None].long()
whole_text = torch.ones_like(ids)  # no padding to mask
merged = copy_of(adapted).cpu()
with torch.no_grad():
    separate = copy_of(adapted).cpu()(ids, attention_mask=whole_text).logits
    number = merge_lora(merged)
    together = merged(ids, attention_mask=whole_text).logits
print(f"{number} adapters merged")
claim("41.15", "largest change of an output by merging",
      (together - separate).abs().max().item(), at_most=1e-3)

# %% [markdown]
# ## 7 · One model, many customers
#
# Three shops use our assistant (the model that section 3 tuned fully), and each wants
# its own manner. One is brief, one is formal, one is cheerful. We make their training
# answers from ours:

# %%
from dataclasses import replace

MANNERS = {
    "brief": lambda text: text.split(". ")[0].rstrip(".") + ".",
    "formal": lambda text: f"Dear customer, {text} Yours faithfully, the service team.",
    "cheerful": lambda text: text.replace(".", "!") + " Have a lovely day!",
}


def in_manner(rows, name):
    return [replace(row, agent=MANNERS[name](row.agent)) for row in rows]


for name in MANNERS:
    print(f"{name:9} {in_manner(test[:1], name)[0].agent}")

# %% [markdown]
# Three adapters, trained one after another on the same frozen model. What is kept of
# each is the adapter alone:

# %%
assistant, adapters = learners["full"], {}
recipe = recipes.lora(**{**common, "learning_rate": LORA_RATE, "epochs": 2 * EPOCHS})
for name in MANNERS:
    learner, _ = tuned(recipe, in_manner(drawn(SEED), name), SEED, RANK, base=assistant)
    adapters[name] = adapter_state(learner.cpu())

size = sum(weight.nbytes for weight in adapters["brief"].values()) / 1e6
whole = sum(weight.nbytes for weight in assistant.parameters()) / 1e6
print(f"an adapter {size:.2f} MB, the model {whole:.1f} MB; a thousand customers: "
      f"{whole + 1000 * size:,.0f} MB instead of {1000 * whole:,.0f}")

# %% [markdown]
# **Serving.** One model stays in memory. For each message, put in the adapter of the
# customer it belongs to:

# %%
served = copy_of(assistant).cpu()
add_lora(served, RANK, alpha=2 * RANK, targets=ALL)
with stopwatch() as watch:
    for name in MANNERS:
        load_adapter(served, adapters[name])
print(f"a swap takes {1000 * watch.seconds / len(MANNERS):.1f} ms")

# %% [markdown]
# Does the manner come across? Each has a sign: the brief shop stops after a sentence, the
# formal one begins with "Dear", the cheerful one ends a sentence with "!". How probable
# is that token to the model, in its place in an answer?

# %%
@torch.no_grad()
def probability(model, text, token):
    """Percent that the model gives to a token (its first piece) after a text."""
    ids = tokenizer(tokenizer.bos_token + text, return_tensors="pt")["input_ids"]
    shares = run_stages(stages(model), ids)[0, -1].softmax(0)
    return 100 * shares[tokenizer(token)["input_ids"][0]].item()


# %% [markdown]
# The mean of it over some test dialogues, for the three signs:

# %%
def signs(model, rows=test[:6]):
    """The mean probability of each manner's sign, over some test dialogues."""
    places = [(row.prompt, f"{row.prompt} {row.agent.split('. ')[0].rstrip('.')}")
              for row in rows]
    asked = {"stops": [(f"{said}.", tokenizer.eos_token) for _, said in places],
             "Dear": [(prompt, " Dear") for prompt, _ in places],
             "!": [(said, "!") for _, said in places]}
    return {name: float(np.mean([probability(model, *one) for one in several]))
            for name, several in asked.items()}

# %% [markdown]
# And every adapter is tried on the test answers of every shop:

# %%
theirs = {name: answers(in_manner(test, name)) for name in MANNERS}
table, signed = {}, {}
for name in MANNERS:
    load_adapter(served, adapters[name])
    signed[name] = signs(served)
    table[name] = {shop: perplexity(served, theirs[shop]) for shop in MANNERS}

# %% [markdown]
# First the signs, then the perplexities:

# %%
show_table([{"adapter": name, **found} for name, found in signed.items()],
           "Probability of the sign of each manner (%), by adapter")

show_table([{"adapter": name, **row} for name, row in table.items()],
           "Perplexity on each shop's test answers, by adapter")

# %%
wrong = [table[name][shop] / table[shop][shop]
         for name in MANNERS for shop in MANNERS if name != shop]
claim("41.16", "times as unsure with another customer's adapter, at the least",
      min(wrong), at_least=1.1)

# %% [markdown]
# ## 8 · A failure on purpose: merged, and then another adapter
#
# The cheerful shop is the largest, so somebody merges its adapter "to make serving
# faster", and goes on loading the others on top of it.

# %%
load_adapter(served, adapters["cheerful"])
merge_lora(served)
add_lora(served, RANK, alpha=2 * RANK, targets=ALL)
load_adapter(served, adapters["brief"])
mixed = perplexity(served, theirs["brief"])
print(f"“!” with the brief shop's adapter: {signs(served)['!']:.1f} %, with a clean model "
      f"{signed['brief']['!']:.1f} %")
print(f"the brief shop's answers: perplexity {mixed:.1f}, with a clean model "
      f"{table['brief']['brief']:.1f}")

# %% [markdown]
# **Cause.** An adapter is a *difference* from the weights that it was trained beside.
# After the merge these weights are gone, and the second difference is added to the
# first. Nothing complains: all shapes fit. **Cure.** Merge a **copy**, or keep the base
# and never write to it; a fingerprint of the base, kept with each adapter and compared
# when it is loaded, catches the rest.

# %%
claim("41.17", "times as unsure for the brief shop on the merged model",
      mixed / table["brief"]["brief"], at_least=1.05)

# %% [markdown]
# ## 9 · Exercise: pick the rank
#
# A model has 12 blocks. In each you adapt two layers: one from 768 to 2304 numbers, and
# one from 768 to 3072. A customer's adapter may take up **2 MB**, stored as half
# precision (2 bytes a number; 1 MB is a million bytes). What is the largest rank?

# %%
rank = ...
# solution begin
a_rank = 12 * ((768 + 2304) + (768 + 3072))  # numbers that one more rank costs
rank = 2_000_000 // (2 * a_rank)
# solution end
check("41.1", rank)

# %% [markdown]
# ## 10 · Exercise: merge by hand
#
# Write `merge(weight, down, up, alpha)`: the merged weight of a linear layer, with
# `weight` (out, in), `down` (rank, in) and `up` (out, rank). The weight that is handed
# in must stay as it is.

# %%
merge = ...
# solution begin


def with_change(weight, down, up, alpha):
    return weight + alpha / down.shape[0] * up @ down


merge = with_change
# solution end
check("41.2", merge)

# %% [markdown]
# **With your own texts.** Put your dialogues (or any pairs of a prompt and an answer)
# in place of `drawn(seed)`, train adapters of rank 1 and 8, and find the smallest one
# whose perplexity on answers you held out is within a few percent of full fine-tuning.
#
# ## 11 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | use LoRA where memory is short, or many tasks share a model | use it to save time: most of the work stays |
# | look for the rate first; then give it more layers or rank | keep the rate of full fine-tuning |
# | compare with full fine-tuning at a lower rate, and with gradual | credit low rank with what a small step does |
# | measure old and new skill together | take a rank from a paper on a model a thousand times as large |
# | keep adapters apart from the base they were trained on | merge into a model that others share |
#
# **Cost of what you just ran:**

# %%
from course_utils.device import energy_wh

print(f"{len(seconds)} tunings, {sum(seconds):.0f} s of training, about "
      f"{energy_wh(sum(seconds)):.2f} Wh (an estimate)")

# %% [markdown]
# ## What you can do now
#
# - *Write LoRA, and show that it is what peft does*: section 1, exercise 10.
# - *Choose by what is learnt, forgotten and paid*: sections 3 to 5, exercise 9.
# - *Keep one model and many adapters*: sections 6 to 8.

# %%
quiz("41")

# %% [markdown]
# **Further reading.** Hu et al. (2022), *LoRA: low-rank adaptation of large language
# models*. · Biderman et al. (2024), *LoRA learns less and forgets less*. · Hui et al.
# (2024), *HFT: half fine-tuning for large language models*. · Aghajanyan, Gupta and
# Zettlemoyer (2021), *Intrinsic dimensionality explains the effectiveness of language
# model fine-tuning*. · Houlsby et al. (2019), *Parameter-efficient transfer learning
# for NLP*.
