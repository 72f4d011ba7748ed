# %% [markdown]
# # 14 · GPT: adapting a language model
#
# A **language model** has read a lot and does one thing: it guesses the next word. This
# one has read the documentation of Python packages, nothing else. Can it learn, from a
# few dozen short dialogues and in seconds, to answer customers of a shop? And what
# becomes of the things it knew?
#
# **You will be able to**
#
# - measure a language model by its perplexity, in its own field and outside it;
# - tune it to answer, with the loss on the answers only, and keep what it must not
#   forget;
# - sample from it on purpose, and test whether it writes or only recites.
#
# **Builds on** lesson 11. **Words:** *token* – a piece of a word, what the model reads
# and writes; *prompt* – the text that it is given to go on with; *GPT* – generative
# pre-trained transformer, a network that sees only what stands to its left; *sampling*
# – drawing the next token at random, by the shares that the model gives.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from course_utils import (
    Examples, TokenizedTexts, check, claim, copy_of, describe, fit,
    load_language_model, new_axes, plot_bars, plot_lines, predict, quiz, recipes, select,
    show_table,
)
from course_utils.data import IGNORED, Task
from course_utils.docstrings import package_texts
from course_utils.language import (
    language_examples, load_dialogues, longest_copy, next_probabilities, perplexity, write,
)

MODEL = select(PROFILE, quick="gpt2-docstrings", full="openai-community/gpt2")
TRAIN = select(PROFILE, quick=48, full=808)  # dialogues
TEST = select(PROFILE, quick=24, full=97)
EPOCHS = 2
BATCH = select(PROFILE, quick=4, full=8)
RATE = select(PROFILE, quick=1e-3, full=5e-5)
LOW_RATE = RATE / 5
# Bounds of claims. GPT-2 has read far more, so it gains less here and loses less.
LEAST = select(PROFILE, quick={"gain": 2, "lost": 1.4, "kept": 1.1, "uses": 1.1},
               full={"gain": 1.2, "lost": 1.0, "kept": 1.0, "uses": 1.05})

# %% [markdown]
# ## 1 · What does it know?
#
# Two kinds of text. **General**: documentation of a package that was held out of the
# pre-training; it lies on your disk, because PyTorch brings it along. **New**: what
# customers wrote to a shop, and what the shop answered.

# %%
import random

dialogues = load_dialogues("train")
random.Random(SEED).shuffle(dialogues)
train, test = dialogues[:TRAIN], load_dialogues("test")[:TEST]
general = package_texts("networkx", TEST, seed=SEED)
shown = test[5]
print(f"general: {general[0][:200]} …\n\n{shown.prompt} {shown.agent}")

# %% [markdown]
# A text becomes a row of tokens, and the label of each token is **the next one**.

# %%
model = load_language_model(MODEL, seed=SEED)
tokenizer = model.tokenizer
one = language_examples(["The graph is empty."], tokenizer)
names = tokenizer.convert_ids_to_tokens(one.inputs[0].tolist())
show_table(
    [{"it has read": " ".join(names[: i + 1]), "it is to guess": following}
     for i, following in enumerate(names[1:])],
    "One short text is that many exercises (Ġ is a space before a word)",
)

# %% [markdown]
# **Perplexity** is the usual score: *as unsure as between so many equally likely
# tokens*. Guessing blindly scores the size of the vocabulary; knowing every next token
# scores 1. It is e to the mean loss.
#
# ## 2 · Baselines first
#
# What do simpler models score on the answers? **All tokens alike**, and **counting**:
# each token by how often it occurs in the training answers.

# %%
import math

import torch


def answers(rows):
    """Dialogues as prompts with answers; only the answers count."""
    return language_examples([f" {row.agent}" for row in rows], tokenizer,
                             [row.prompt for row in rows])


def targets(examples):
    return examples.labels.ids[examples.labels.ids != IGNORED].long()


test_answers, test_general = answers(test), language_examples(general, tokenizer)
counts = torch.bincount(targets(answers(train)), minlength=len(tokenizer)) + 1.0
surprise = -(counts / counts.sum()).log()[targets(test_answers)].mean().item()
scores = {
    "all tokens alike": float(len(tokenizer)),
    "counting tokens": math.exp(surprise),
    "the language model": perplexity(model, test_answers),
}

# %%
axes = plot_bars(scores, "perplexity on the answers of the shop (logarithmic)")
axes.set(xscale="log", xlim=(10, 20 * len(tokenizer)))
listed = ", ".join(f"{name} {value:.0f}" for name, value in scores.items())
describe(axes, f"Bars of perplexity on a logarithmic axis: {listed}.")

# %% [markdown]
# The model has never seen a dialogue, yet it beats counting in the shop's own answers:
# English is English. In its own field it is far surer:

# %%
before = {"answers": scores["the language model"],
          "general": perplexity(model, test_general)}
print(f"before tuning: {before['answers']:.0f} on answers, "
      f"{before['general']:.0f} on documentation")
claim("14.1", "times as unsure on answers as on documentation, before tuning",
      before["answers"] / before["general"], at_least=select(PROFILE, quick=1.5, full=0.2))
for start in ("The function returns", "If the file does not exist,", shown.prompt):
    print("·", start, "→", write(model, [start], seed=SEED)[0].text)

# %%
predict("14.1")
predict("14.2")

# %% [markdown]
# ## 3 · Four ways to adapt it
#
# - **everything**: the loss counts on the whole dialogue, as in pre-training (*domain
#   adaptation*);
# - **answers only**: the customer's words are given, not to be learnt (*instruction
#   tuning*);
# - **lower rate**: the same at a fifth of the learning rate;
# - **mixed**: the same, and among the dialogues a third as many pieces of
#   documentation of another package (*replay*).

# %%
def whole(rows):
    """Dialogues in which every token counts."""
    return language_examples([f"{row.prompt} {row.agent}" for row in rows], tokenizer)


def joined(first, second):
    """Both sets of examples as one."""
    def both(one, other):
        return TokenizedTexts.from_lists([row.tolist() for row in [*one, *other]])

    return Examples(both(first.inputs, second.inputs), both(first.labels, second.labels))


replay = language_examples(package_texts("sklearn", TRAIN // 3, seed=SEED), tokenizer)
WAYS = {
    "everything": (whole(train), RATE),
    "answers only": (answers(train), RATE),
    "lower rate": (answers(train), LOW_RATE),
    "mixed": (joined(answers(train), replay), RATE),
}

# %% [markdown]
# Tuning is `fit`, as ever: a language model is a classifier of the next token, and its
# classes are the vocabulary.

# %%
VOCABULARY = tuple(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
seconds = []


def tuned(examples, rate, epochs=EPOCHS, batch_size=BATCH):
    """A copy of the model, tuned."""
    task = Task("dialogues", "text", VOCABULARY, examples, test_answers, test_answers)
    recipe = recipes.full_finetuning(
        epochs=epochs, batch_size=batch_size, learning_rate=rate,
        head_learning_rate=None, validate=False)
    learner = copy_of(model)
    seconds.append(fit(learner, task, recipe, seed=SEED, silent=True).seconds)
    return learner


# %%
learners = {name: tuned(examples, rate) for name, (examples, rate) in WAYS.items()}
after = {name: {"answers": perplexity(learner, test_answers),
                "general": perplexity(learner, test_general)}
         for name, learner in learners.items()}

# %% [markdown]
# One table and one figure: down is better at the new task, left is better at the old
# one.

# %%
everything = {"before": before, **after}
show_table(
    [{"way": name, "answers": scores["answers"], "documentation": scores["general"]}
     for name, scores in everything.items()],
    f"Perplexity on {len(test)} test answers and on documentation, {len(train)} dialogues",
)

# %%
from course_utils.plotting import MARKERS, PALETTE

axes = new_axes(height=4)
for (name, scores), marker, colour in zip(
    everything.items(), MARKERS, PALETTE, strict=False
):
    axes.plot(scores["general"], scores["answers"], marker, color=colour, markersize=9,
              label=name, linestyle="none")
axes.set(xlabel="perplexity on documentation (the old field)",
         ylabel="perplexity on answers (the new field)")
axes.set_ylim(bottom=0)
axes.legend(frameon=False)
listed = "; ".join(f"{name} {scores['general']:.0f} and {scores['answers']:.0f}"
                   for name, scores in everything.items())
describe(axes, "Points of perplexity on documentation and on answers, one for each way: "
               f"{listed}.")

# %% [markdown]
# **The surprise.** A few seconds of tuning make the model several times surer of the
# shop's answers, and in the same seconds it loses much of the field in which it was at
# home, although nobody took anything away from it. Of the cures, a lower rate keeps the
# old field but learns the new one only in part; mixing in a little of the old text
# keeps more of it at hardly any cost for the new one.

# %%
plain, mixed = after["answers only"], after["mixed"]
claim("14.2", "times less unsure on the answers, by tuning on answers only",
      before["answers"] / plain["answers"], at_least=LEAST["gain"])
claim("14.3", "times more unsure on documentation after it (forgetting)",
      plain["general"] / before["general"], at_least=LEAST["lost"])
claim("14.4", "times less forgetting of documentation where some is mixed in",
      plain["general"] / mixed["general"], at_least=LEAST["kept"])
claim("14.5", "perplexity on answers that mixing costs, as a factor",
      mixed["answers"] / plain["answers"], at_most=1.25)

# %% [markdown]
# What is **answers only** good for, when "everything" does as well on answers? Look at
# what the second one learnt besides: to write the customer's part.

# %%
questions = {name: perplexity(learners[name], whole(test))
             for name in ("everything", "answers only")}
print("perplexity on whole dialogues: "
      + ", ".join(f"{name} {value:.0f}" for name, value in questions.items()))
claim("14.6", "times less unsure on the whole dialogue, with the loss on everything",
      questions["answers only"] / questions["everything"], at_least=1.2)

# %% [markdown]
# An assistant needs no customers of its own making: with the loss on answers only, all
# of a small model's capacity goes into the part that it will have to write.
#
# ## 4 · Does it read the question?
#
# A model could learn to write polite answers without looking at the message. Give each
# true answer **another customer's message** and see whether it gets harder to guess.

# %%
from dataclasses import replace

swapped = [replace(row, customer=test[(i + 7) % len(test)].customer)
           for i, row in enumerate(test)]
assistant = learners["answers only"]
harder = perplexity(assistant, answers(swapped)) / plain["answers"]
claim("14.7", "times as unsure of an answer with somebody else's message before it",
      harder, at_least=LEAST["uses"])

# %% [markdown]
# It does read: the words of the message make the right answer likelier. Now let it
# write.

# %% [markdown]
# ## 5 · Sampling
#
# The model gives a share to every token. **Temperature** sharpens the shares (below 1)
# or flattens them (above 1); **top-p** throws away the unlikely rest: of the likeliest
# tokens it keeps as many as together reach the share p (Holtzman et al., 2020). Here is
# what is left to draw from, when the answer begins with "I":

# %%
from course_utils import run_stages, stages

begun = tokenizer(tokenizer.bos_token + shown.prompt + " I")["input_ids"]
with torch.no_grad():
    logits = run_stages(stages(assistant.cpu()), torch.tensor([begun]))[0, -1]
rows = []
for temperature, top_p in ((1.0, 1.0), (0.5, 1.0), (1.0, 0.9), (2.0, 1.0)):
    shares = next_probabilities(logits, temperature, top_p)
    best = shares.topk(3).indices.tolist()
    rows.append({
        "temperature": temperature, "top-p": top_p,
        "tokens left": int((shares > 1e-6).sum()),
        "likeliest": ", ".join(f"{tokenizer.decode([i])!r} {shares[i]:.0%}" for i in best),
    })
show_table(rows, "The next token after “I”")

# %% [markdown]
# The function in three lines, for one distribution. It sorts, adds up, and cuts:

# %%
def nucleus(shares, top_p):
    """Keep the likeliest tokens that together reach top_p; shares (V,)."""
    ordered, order = shares.sort(descending=True)
    ordered[ordered.cumsum(0) - ordered >= top_p] = 0.0
    return torch.zeros_like(shares).scatter(0, order, ordered) / ordered.sum()


apart = (nucleus(logits.softmax(0), 0.9) - next_probabilities(logits, 1.0, 0.9)).abs()
claim("14.8", "largest difference of a share between these lines and the package's",
      apart.max().item(), at_most=1e-5)

# %% [markdown]
# Move the dials. (Where they do not move, there are three settings to compare.)

# %%
from course_utils.labs import lab


def answer(temperature, top_p):
    """The assistant's answer to one message."""
    return write(assistant, [shown.prompt], temperature, top_p, seed=SEED)[0].text


lab(f"“{shown.customer}”", answer,
    {"temperature": (0.1, 2.0, 0.1), "top_p": (0.1, 1.0, 0.05)},
    [{"temperature": 0.7, "top_p": 0.9}, {"temperature": 0.2, "top_p": 0.9},
     {"temperature": 1.8, "top_p": 1.0}])

# %% [markdown]
# Measured over many answers: how many *different* words does it use?

# %%
prompts = [row.prompt for row in test[:12]]
TEMPERATURES = [0.3, 0.7, 1.0, 1.5]
variety = []
for temperature in TEMPERATURES:
    samples = write(assistant, prompts, temperature, 1.0, max_tokens=40, seed=SEED)
    words = " ".join(sample.text.lower() for sample in samples).split()
    variety.append(100 * len(set(words)) / len(words))

# %%
axes = plot_lines(TEMPERATURES, {"the assistant": variety}, "temperature",
                  "different words (% of all words)")
listed = ", ".join(f"{v:.0f} % at {t:g}" for t, v in zip(TEMPERATURES, variety, strict=True))
describe(axes, f"Share of different words against temperature, rising: {listed}.")
claim("14.9", "times as many different words at the highest temperature as at the lowest",
      variety[-1] / variety[0], at_least=1.4)

# %% [markdown]
# Cold answers repeat themselves, hot ones fall apart; in between you choose. Mind what
# this small model does *not* do. It has the manner of the shop, not its facts: nothing
# that it says about a delivery is true. And it garbles things that it never met in
# documentation, which it has to spell from pieces of words.
#
# ## 6 · Does it write, or recite?
#
# Look for the longest run of words that an answer shares with **any** training answer.
# Answers that people wrote to other messages share some too; that is the yardstick. The
# assistant is asked the questions that it was trained on, and so is a *reciter*, which
# saw eight dialogues again and again.

# %%
predict("14.3")

# %% [markdown]
# The reciter is trained, and both answer, coldly:

# %%
FEW = train[:8]
reciter = tuned(answers(FEW), 3 * RATE, epochs=select(PROFILE, quick=8, full=40),
                batch_size=BATCH // 2)


def copied(learner, rows):
    """Longest runs copied from training answers, when asked the rows' questions."""
    written = write(learner, [row.prompt for row in rows], 0.3, seed=SEED, max_tokens=80)
    return [longest_copy(sample.text, [row.agent for row in train]) for sample in written]


people = [longest_copy(row.agent, [other.agent for other in train]) for row in test]
runs = {"people": people, "assistant": copied(assistant, FEW),
        "reciter": copied(reciter, FEW)}

# %%
axes = plot_bars(runs, "longest run copied from a training answer (words)")
listed = "; ".join(f"{name} {sorted(values)[len(values) // 2]} (at most {max(values)})"
                   for name, values in runs.items())
describe(axes, f"Bars of the longest copied run of words, with ranges: {listed}.")

# %% [markdown]
# And the price of reciting, on messages that it has not seen:

# %%
recited = perplexity(reciter, test_answers)
print(f"perplexity on its {len(FEW)} training answers "
      f"{perplexity(reciter, answers(FEW)):.2f}, on test answers {recited:.0f}; "
      f"the assistant's {plain['answers']:.0f}")
claim("14.10", "words that the reciter copies in a row (median)",
      sorted(runs["reciter"])[len(FEW) // 2], at_least=12)
claim("14.11", "longest run that the assistant copies, over the longest of people",
      max(runs["assistant"]) / max(people), at_most=2)
claim("14.12", "times as unsure as the assistant on new messages, by reciting",
      recited / plain["answers"], at_least=1.5)

# %% [markdown]
# A model that recites gives away what it was trained on, word for word. With private
# messages that is a leak; a falling training loss does not tell you.
#
# ## 7 · A failure on purpose: it never stops
#
# Rows of unequal length are filled up with a *padding* token. This tokenizer has none
# of its own, so the **end** token is used for it, as is common. Somebody therefore lets
# no label count that is this token, "because padding must not be learnt".

# %%
examples = answers(train)
kept = examples.labels.ids.clone()
kept[kept == tokenizer.eos_token_id] = IGNORED  # the mistake
careless = tuned(Examples(examples.inputs, TokenizedTexts(kept, examples.labels.offsets)),
                 RATE)


def ending(learner):
    """Share of the answers that end by themselves within 90 tokens."""
    written = write(learner, prompts, seed=SEED, max_tokens=90)
    return sum(sample.ended for sample in written) / len(written)


ends = {"end token learnt": ending(assistant), "end token masked": ending(careless)}
ends

# %% [markdown]
# **Cause.** Every answer's real end was masked together with the padding. The model was
# never asked to stop, and what it knew of stopping has gone. The loss looks fine, even
# a little better. **Cure.** Decide what counts by *position*, not by the token's
# number: our labels ignore what lies beyond a text, and its own end counts.

# %%
claim("14.13", "share of answers that end by themselves, end token learnt",
      ends["end token learnt"], at_least=0.55)
claim("14.14", "the same with the end token masked", ends["end token masked"], at_most=0.3)

# %% [markdown]
# ## 8 · Exercise: perplexity from sums
#
# A long text was scored in pieces: for each piece you have the **sum** of its losses
# (nats) and its **number** of tokens. Write a function that takes the list of pairs and
# returns the perplexity of the whole.

# %%
whole_perplexity = ...
# solution begin


def from_pieces(pieces):
    return math.exp(sum(loss for loss, _ in pieces) / sum(count for _, count in pieces))


whole_perplexity = from_pieces
# solution end
check("14.1", whole_perplexity)

# %% [markdown]
# ## 9 · Exercise: catch the forgetting
#
# Your team tunes a model every week and looks at one number, the perplexity on new
# answers. Write `safe(before, after, limit)`: both are dictionaries from a field's name
# to its perplexity. It returns the names of all fields that became **more than**
# `limit` times as unsure, the worst first.

# %%
safe = ...
# solution begin


def forgotten(before, after, limit):
    worse = {name: after[name] / before[name] for name in before}
    return sorted((n for n in worse if worse[n] > limit), key=worse.get, reverse=True)


safe = forgotten
# solution end
check("14.2", safe)

# %% [markdown]
# ## 10 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | measure the old field too, before and after | look at the new task alone |
# | count the loss on answers only, for an assistant | mask labels by token number |
# | mix in some of the old text | hope that a few epochs cannot hurt |
# | look for copied runs before you publish a model | train on private texts and hope |
# | tune a manner, and bring facts in by search | expect facts from a few dialogues |
#
# **Cost of what you just ran:**

# %%
from course_utils.device import energy_wh

print(f"{len(seconds)} tunings, {sum(seconds):.0f} s of training, about "
      f"{energy_wh(sum(seconds)):.2f} Wh (an estimate)")

# %% [markdown]
# ## What you can do now
#
# - *Measure a language model by its perplexity, in its field and outside*: sections 1
#   to 3, exercise 8.
# - *Tune it to answer, and keep what it must not forget*: sections 3, 4, 7 and 9.
# - *Sample on purpose, and test whether it recites*: sections 5 and 6.

# %%
quiz("14")

# %% [markdown]
# **Further reading.** Radford et al. (2019), *Language models are unsupervised
# multitask learners*. · Gururangan et al. (2020), *Don't stop pretraining: adapt
# language models to domains and tasks*. · Ouyang et al. (2022), *Training language
# models to follow instructions with human feedback*. · Holtzman, Buys, Du, Forbes and
# Choi (2020), *The curious case of neural text degeneration*. · Carlini et al. (2021),
# *Extracting training data from large language models*. · McCloskey and Cohen (1989),
# *Catastrophic interference in connectionist networks*.
