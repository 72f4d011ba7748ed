# %% [markdown]
# # 11 · Fine-tuning BERT: sentiment and tickets
#
# A model that has read a great deal can learn to judge reviews from a few hundred examples, if
# you choose **one number** well: the learning rate. This lesson measures what happens when it is
# too low, right, and too high, on the new task *and* on what the model knew before.
#
# **You will be able to**
#
# - fine-tune a pre-trained BERT on your own labelled texts and compare it with honest baselines;
# - choose a learning rate by looking at a loss curve, and rescue a run that diverges;
# - measure what fine-tuning made the model forget.
#
# **Builds on** lesson 00. **Words:** *encoder* – the network that turns a text into numbers;
# *head* – the small layer on top that turns these numbers into an answer; *learning rate* – how
# far each step moves the weights.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from course_utils import (
    check, claim, describe, embed, evaluate, fit, load_task, load_text_model, plot_bars,
    plot_history, plot_lines, predict, quiz, recipes, select, show_table, tokenize,
)

MODEL = select(PROFILE, quick="minilm", full="google-bert/bert-base-uncased")
TASK = select(PROFILE, quick="reviews", full="sst2")
TRAIN = select(PROFILE, quick=400, full=6000)  # labelled examples
DIAL_TRAIN = select(PROFILE, quick=200, full=2000)  # to compare learning rates
EPOCHS = 2
LEARNING_RATE = select(PROFILE, quick=3e-4, full=2e-5)
TOO_LOW, TOO_HIGH = LEARNING_RATE / 300, LEARNING_RATE * 30

# %% [markdown]
# ## 1 · The task: is this review good or bad?
#
# The reviews were written for this course. Some are plain, some hang on a negation, some are
# ironic, and some praise and blame at once. Nothing of the wording of the test reviews appears in
# training. Read a few before you trust any number.

# %%
task = load_task(TASK).limited(train=TRAIN, valid=40, test=240, seed=SEED)
print(task)
for text, label in list(task.train)[:5]:
    print(f"{task.classes[label]:9} {text}")

# %% [markdown]
# ## 2 · Predict
#
# Before anything runs, commit yourself.

# %%
predict("11.1")

# %% [markdown]
# ## 3 · Baselines first
#
# **Guessing** the more frequent class needs no model at all. **Counting words** (TF-IDF with
# logistic regression) is what people used before BERT, trains in a second, and is often good
# enough. A neural network has to beat both to earn its cost.

# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

words = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10))
words.fit(task.train.inputs, task.train.labels)
accuracies = {
    "guessing": task.test.labels.bincount().max().item() / len(task.test),
    "word counts": words.score(task.test.inputs, task.test.labels),
}
accuracies

# %% [markdown]
# ## 4 · A frozen encoder with a linear head
#
# Now the pre-trained encoder. First we leave it as it is: each text becomes a vector, and only a
# linear layer on top is trained. Because the encoder is **frozen**, it gives the same vectors in
# every epoch, so the course's core runs it *once* and keeps the result (the *frozen-prefix
# cache*). Twenty epochs then cost hardly more than one.

# %%
model = load_text_model(MODEL, len(task.classes), seed=SEED)
data = tokenize(task, model.tokenizer)
history = fit(model, data, recipes.linear_probe(), seed=SEED)
accuracies["frozen + linear head"] = evaluate(model, data.test).accuracy
print(f"{history.trained_weights:,} of {history.total_weights:,} weights trained")

# %% [markdown]
# ## 5 · Full fine-tuning
#
# Now every weight may move, but slowly: the encoder at a low rate, the new head faster. A short
# **warm-up** raises the rate from zero, because the first gradients come from a random head and
# would push the encoder in random directions.

# %%
recipe = recipes.full_finetuning(epochs=EPOCHS, learning_rate=LEARNING_RATE)
model = load_text_model(MODEL, len(task.classes), seed=SEED)
full = fit(model, data, recipe, seed=SEED)
accuracies["full fine-tuning"] = evaluate(model, data.test).accuracy

# %% [markdown]
# All four side by side:

# %%
summary = ", ".join(f"{name} {value:.2f}" for name, value in accuracies.items())
describe(
    plot_bars(accuracies, "test accuracy", chance=accuracies["guessing"]),
    f"Bars of test accuracy on the reviews: {summary}.",
)

# %% [markdown]
# What the bars show, as claims that this run has to keep:

# %%
claim("11.1", "points of accuracy by which full fine-tuning beats word counts",
      100 * (accuracies["full fine-tuning"] - accuracies["word counts"]), at_least=2)
gain = accuracies["full fine-tuning"] - accuracies["frozen + linear head"]
claim("11.2", "points of accuracy by which full fine-tuning beats the frozen encoder",
      100 * gain, at_least=3)

# %% [markdown]
# ## 6 · The decisive dial
#
# Same model, same data, same number of steps; only the learning rate of the encoder differs:
# a three-hundredth of the good one, the good one, and thirty times as much. To keep the comparison
# short, we train the upper half of the encoder (from `layer3` on) on fewer texts.
#
# We measure two things: accuracy on the **new** task, and an **old** skill. The encoder was
# pre-trained to put texts of similar meaning near each other. To see how much of that is left, we
# take customers' tickets, which the reviews never mention, and ask: does a ticket's nearest
# neighbour have the same intent?

# %%
import torch

tickets = load_task("tickets").test.subset(120, seed=SEED)


def old_skill(model) -> float:
    """Share of tickets whose nearest neighbour has the same intent."""
    vectors = torch.nn.functional.normalize(embed(model, tickets), dim=1)
    similarity = vectors @ vectors.T
    similarity.fill_diagonal_(-1)  # a ticket is not its own neighbour
    nearest = similarity.argmax(1)
    return (tickets.labels[nearest] == tickets.labels).double().mean().item()


before = old_skill(load_text_model(MODEL, len(task.classes), seed=SEED))
print(f"before fine-tuning: {before:.2f}")

# %%
predict("11.2")

# %% [markdown]
# Now the three runs, each from the same pre-trained encoder:

# %%
small = data.limited(train=DIAL_TRAIN, test=160, seed=SEED)
rates = {"too low": TOO_LOW, "right": LEARNING_RATE, "too high": TOO_HIGH}
runs, new_task, old_task = [], {}, {}


def both_skills(rate, name="tried"):
    """The record of a run at this rate, its accuracy, and what is left of the old skill."""
    model = load_text_model(MODEL, len(task.classes), seed=SEED)
    recipe = recipes.top_stages(
        "layer3", name=f"{name}: {rate:.0e}", epochs=EPOCHS, learning_rate=rate,
        validate=False,
    )
    history = fit(model, small, recipe, seed=SEED)
    return history, evaluate(model, small.test).accuracy, old_skill(model)


for name, rate in rates.items():
    history, new_task[name], old_task[name] = both_skills(rate, name)
    runs.append(history)

# %%
show_table(
    [
        {"rate": name, "value": f"{rates[name]:.0e}", "new task": new_task[name],
         "old skill": old_task[name]}
        for name in rates
    ],
    f"Accuracy on the reviews and the old skill (before fine-tuning: {before:.2f})",
)

# %% [markdown]
# The same as a picture. Mind the logarithmic axis: the rates lie a factor of thousands apart.

# %%
axes = plot_lines(
    list(rates.values()),
    {
        "new task (reviews)": list(new_task.values()),
        "old skill (tickets)": list(old_task.values()),
    },
    "learning rate of the encoder", "accuracy", log_x=True,
)
axes.axhline(before, color="0.4", linestyle=":")
axes.annotate("old skill before", (TOO_LOW, before), (0, 4), textcoords="offset points")
describe(
    axes,
    "Accuracy over the learning rate, from the lowest rate to the highest. New task: "
    + ", ".join(f"{value:.2f}" for value in new_task.values())
    + "; old skill: " + ", ".join(f"{value:.2f}" for value in old_task.values()) + ".",
)

# %% [markdown]
# Try other rates: each one you choose is trained anew, which takes some seconds. (Where
# the dial does not move, there are the three rates from above.)

# %%
import math

from course_utils.labs import lab


def at_power(power):
    """Both skills after training at the rate ten to this power."""
    rate = 10**power
    known = [name for name in rates if math.isclose(rates[name], rate, rel_tol=1e-6)]
    new, old = ((new_task[known[0]], old_task[known[0]]) if known else both_skills(rate)[1:])
    return f"rate {rate:.0e}: new task {new:.2f}, old skill {old:.2f} (before {before:.2f})"


lab("The learning rate, as a power of ten", at_power, {"power": (-6.5, -1.5, 0.1)},
    [{"power": math.log10(rate)} for rate in rates.values()])

# %% [markdown]
# Too low: nothing is lost, and little is learnt. Too high: the new task is not learnt **and** the
# old skill is gone; the steps are so long that they trample on what pre-training built. This is
# *catastrophic forgetting* (McCloskey and Cohen, 1989).

# %%
claim("11.3", "share of the old skill that is left after the right rate",
      old_task["right"] / before, at_least=0.6)
claim("11.4", "share of the old skill that is left after the rate that is too high",
      old_task["too high"] / before, at_most=0.5)
claim("11.5", "points on the new task by which the right rate beats the too high one",
      100 * (new_task["right"] - new_task["too high"]), at_least=5)

# %% [markdown]
# ## 7 · A failure on purpose
#
# What does a bad learning rate look like *while* it runs? Not always like an explosion. Compare
# the training losses: chance level for two classes is ln 2 ≈ 0.69 nats.

# %%
axes = plot_history(runs, "train_loss")
axes.axhline(0.693, color="0.4", linestyle=":")
final = ", ".join(f"{r.recipe} ends at {r.epochs[-1].train_loss:.2f}" for r in runs)
describe(
    axes,
    f"Training loss over the epochs for three learning rates: {final}; guessing is 0.69.",
)

# %% [markdown]
# **Cause.** A loss that stays at chance has two causes that look alike: the rate is too low (the
# loss moves, slowly) or far too high (the encoder is destroyed in the first steps, and nothing is
# left to learn from).
#
# **Cure.** Lower the rate tenfold until the loss falls in the first epoch; keep the warm-up; keep
# the limit on the gradient's length (`max_grad_norm`). If a loss becomes NaN, the course's `fit`
# stops and names the step.
#
# ## 8 · Exercise: rescue a diverging run
#
# Somebody hands you this recipe. It ends at chance. Change as little as you can so that a run
# would learn the reviews. (To see it, run `fit` with your recipe as in section 5.)

# %%
broken = recipes.full_finetuning(
    name="broken", epochs=2, learning_rate=3e-2, head_learning_rate=3e-2, warmup=0.0,
    max_grad_norm=0.0,
)

# %%
rescued = ...
# solution begin
rescued = recipes.full_finetuning(name="rescued", epochs=2, learning_rate=3e-4)
# solution end
check("11.1", rescued)

# %% [markdown]
# ## 9 · Exercise: what would you report?
#
# A colleague says: "A rate ten times lower forgets even less, so it must be better." Use the table
# of section 6: which of the three rates would you choose for a system that must judge reviews
# *and* keep its sense of meaning for a search over tickets? Answer with its name.

# %%
choice = "right"  # solution
check("11.2", choice)

# %% [markdown]
# ## 10 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | run a baseline of word counts first | fine-tune because it is fashionable |
# | try three rates a factor ten apart on a small part of the data | trust a rate from somebody else's task |
# | keep the warm-up and the gradient limit | judge a run by its training loss alone |
# | measure an old skill that you still need | assume that what you do not measure is kept |
#
# **Cost of what you just ran:**

# %%
total = sum(run.seconds for run in [full, *runs])
energy = sum(run.energy_wh for run in [full, *runs])
print(
    f"{total:.0f} s of training, about {energy:.2f} Wh (an estimate), "
    f"peak memory {full.peak_memory_mb:.0f} MB"
)

# %% [markdown]
# ## What you can do now
#
# - *Fine-tune a pre-trained BERT and compare it with honest baselines*: sections 3 to 5.
# - *Choose a learning rate by its curve and rescue a diverging run*: sections 6 to 8.
# - *Measure what was forgotten*: section 6.

# %%
quiz("11")

# %% [markdown]
# **Further reading.** Devlin, Chang, Lee and Toutanova (2019), *BERT: Pre-training of deep
# bidirectional transformers for language understanding*. · Howard and Ruder (2018), *Universal
# language model fine-tuning for text classification*. · Mosbach, Andriushchenko and Klakow (2021),
# *On the stability of fine-tuning BERT*. · McCloskey and Cohen (1989), *Catastrophic interference
# in connectionist networks*.
