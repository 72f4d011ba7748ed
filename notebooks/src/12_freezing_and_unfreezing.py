# %% [markdown]
# # 12 · Freezing, gradual unfreezing, discriminative rates
#
# You have a few dozen labelled texts and a pre-trained encoder. Train the head alone?
# The last layers? Everything? Everything, but the early layers more slowly? One layer
# after another? Each way has its paper and its followers. This lesson runs **all five
# on the same texts, three times**, and asks two questions: which differences are real,
# and what does each way cost, in seconds and in old knowledge?
#
# **You will be able to**
#
# - freeze and unfreeze a network by stages, and give each stage a rate of its own, in
#   the course's core and in fastai;
# - compare ways of fine-tuning by accuracy, cost and forgetting at once;
# - decide from several runs whether a difference is real, with a paired interval.
#
# **Builds on** lesson 11. **Words:** *encoder* – the network that turns a text into
# numbers; *head* – the small layer on top that answers; *stage* – a layer of the
# encoder, its embeddings or the head; *frozen* – not changed by training; *learning
# rate* – how far each step moves the weights; *seed* – the number that decides all that
# is random in a run.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from course_utils import (
    check, choose_compute, claim, describe, embed, evaluate, fit, load_task,
    load_text_model, new_axes, plot_lines, predict, quiz, recipes, seed_everything,
    select, show_table, stages, stopwatch, tokenize,
)

MODEL = select(PROFILE, quick="minilm", full="google-bert/bert-base-uncased")
TASK = select(PROFILE, quick="reviews", full="trec")
TRAIN = select(PROFILE, quick=64, full=1000)  # labelled texts, drawn anew for each seed
TEST = select(PROFILE, quick=120, full=500)
LONGEST = select(PROFILE, quick=90, full=10_000)  # characters: short texts are quick
SEEDS = [SEED, SEED + 1, SEED + 2]
EPOCHS, GRADUAL_EPOCHS = select(PROFILE, quick=(2, 3), full=(3, 6))
BATCH = select(PROFILE, quick=8, full=16)
LEARNING_RATE = select(PROFILE, quick=5e-4, full=5e-5)  # of the encoder's last layer
HEAD_RATE = select(PROFILE, quick=2e-3, full=1e-3)
DECAY = 0.7  # each layer's rate is this factor of that of the layer above it
TOP = select(PROFILE, quick="layer4", full="layer10")  # the last two layers
# Points, multiples and shares that claims ask for. The larger encoder was not taught to
# put similar texts near each other, so it has less of the old skill to lose.
LEAST = select(
    PROFILE,
    quick={"full": 0, "gradual": 3, "slower": 1.5, "left": 0.5, "cure": 5},
    full={"full": -5, "gradual": -10, "slower": -10, "left": 0.9, "cure": 5},
)

# %% [markdown]
# ## 1 · The task, and the skill to keep
#
# New task: is a review good or bad? Each seed draws its own training texts, because
# other texts are as much a matter of chance as another random head. Only short reviews
# that say plainly what they mean (the others are ironic, or of two minds), so that
# fifteen runs stay within a minute.

# %%
from dataclasses import replace


def short(examples):
    """Those of at most `LONGEST` characters; of the reviews, the plain ones."""
    kinds = examples.columns.get("kind", ["plain"] * len(examples))
    return examples.select([i for i, text in enumerate(examples.inputs)
                            if len(text) <= LONGEST and kinds[i] == "plain"])


task = load_task(TASK)
task = replace(task, train=short(task.train), test=short(task.test))
task = task.limited(valid=24, test=TEST, seed=SEED)

# %% [markdown]
# A look at what they are like:

# %%
draws = {seed: task.train.subset(TRAIN, seed) for seed in SEEDS}
print(f"{task}; {TRAIN} training texts a seed")
for text, label in list(draws[SEED])[:3]:
    print(f"{task.classes[label]:9} {text}")

# %% [markdown]
# **Old skill**, as in lesson 11: does a ticket's nearest neighbour have the same
# intent? Before we touch it the encoder does that far better than chance, and nothing
# in the new task asks for it. What is missing afterwards, we call *forgotten*.

# %%
import torch

tickets = short(load_task("tickets").test).subset(90, seed=SEED)


def old_skill(model):
    """Percent of the tickets whose nearest neighbour has the same intent."""
    vectors = torch.nn.functional.normalize(embed(model, tickets), dim=1)
    similarity = vectors @ vectors.T
    similarity.fill_diagonal_(-1)  # a ticket is not its own neighbour
    same = tickets.labels[similarity.argmax(1)] == tickets.labels
    return 100 * same.double().mean().item()


start = load_text_model(MODEL, len(task.classes), seed=SEED)
data = tokenize(task, start.tokenizer)
before = old_skill(start)
print(f"before any training: {before:.0f} %")

# %% [markdown]
# ## 2 · Five recipes
#
# - **head only**: the encoder is frozen.
# - **last two layers**: and the head; what lies below is frozen.
# - **full**: every weight at one rate, the new head faster.
# - **discriminative**: the same, but each layer's rate is a fixed factor of that of the
#   layer above it. Early layers are general, so they need not move much.
# - **gradual**: begin with the head alone, and open one more layer after each epoch, so
#   that no gradient of a still random head reaches the encoder.
#
# The last one with discriminative rates and a *slanted triangular* schedule (a short
# rise of all rates, then a long linear fall) is **ULMFiT** (Howard and Ruder, 2018).

# %%
common = dict(epochs=EPOCHS, batch_size=BATCH, learning_rate=LEARNING_RATE,
              head_learning_rate=HEAD_RATE, validate=False)
slow_start = dict(warmup=0.1, schedule="linear")  # the slanted triangle
RECIPES = {
    "head only": recipes.linear_probe(batch_size=BATCH, validate=False),
    "last two layers": recipes.top_stages(TOP, **common),
    "full": recipes.full_finetuning(**common),
    "discriminative": recipes.discriminative(stage_decay=DECAY, **common),
    "gradual": recipes.gradual_unfreezing(
        stage_decay=DECAY, **{**common, **slow_start, "epochs": GRADUAL_EPOCHS}),
}

# %% [markdown]
# What the last recipe is going to do, before anything runs. A line begins where its
# stage is opened. Mind the logarithmic axis: a triangle looks round on it.

# %%
from itertools import cycle

from course_utils.lessons.lesson_12 import planned_rates

times, rates = planned_rates(stages(start), RECIPES["gradual"])
axes = new_axes()
styles = cycle(["-", "--", "-.", ":"])
for stage in reversed(rates):
    axes.plot(times, rates[stage], next(styles), label=stage)
axes.set(xlabel="epochs done", ylabel="learning rate", yscale="log")
axes.set_ylim(bottom=LEARNING_RATE / 200)
axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.05, 0))
opened = ", ".join(reversed(rates))
describe(axes, f"Learning rates over the epochs of gradual unfreezing. One stage is "
               f"opened after another: {opened}; each lower one at a lower rate.")

# %% [markdown]
# Before you predict: how much is trained, and how much is computed, when training
# begins at a certain stage?

# %%
from course_utils.labs import lab
from course_utils.lessons.lesson_12 import cost_from

weights = {part.name: sum(weight.numel() for weight in part.parameters)
           for part in stages(start)}
lab("The first trained stage, by its number",
    lambda first: cost_from(weights, int(first), EPOCHS),
    {"first": (0, len(weights) - 1, 1)},
    [{"first": 0}, {"first": len(weights) // 2}, {"first": len(weights) - 1}])

# %% [markdown]
# And now:

# %%
predict("12.1")
predict("12.2")

# %% [markdown]
# ## 3 · Baselines first
#
# **Guessing** the more frequent class, and **counting words** (TF-IDF with logistic
# regression) on the same draws:

# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

guessing = 100 * task.test.labels.bincount().max().item() / len(task.test)
counted = []
for texts in draws.values():
    words = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10))
    words.fit(texts.inputs, texts.labels)
    counted.append(100 * words.score(task.test.inputs, task.test.labels))
shares = ", ".join(f"{share:.0f} %" for share in counted)
print(f"guessing {guessing:.0f} %; word counts, a draw each: {shares}")

# %% [markdown]
# ## 4 · Fifteen runs
#
# Besides accuracy and old skill we note how far each stage has moved: the length of the
# change of its weights, as a share of the length of the weights.


# %%
def moved(model):
    """Percent by which each stage's weights differ from those before training."""
    shares = {}
    for old, new in zip(stages(start), stages(model), strict=True):
        if old.parameters and old.name != "head":
            pairs = list(zip(old.parameters, new.parameters, strict=True))
            change = sum((a - b).square().sum().item() for a, b in pairs)
            length = sum(a.square().sum().item() for a, _ in pairs)
            shares[old.name] = 100 * (change / length) ** 0.5
    return shares


# %% [markdown]
# A run is measured by three things: which test texts are right, what is forgotten, how
# long it took.

# %%
def measured(model, seconds):
    result = evaluate(model, data.test)
    right = (result.predictions == result.labels).double().numpy()
    return {"right": right, "accuracy": 100 * result.accuracy, "seconds": seconds,
            "forgotten": before - old_skill(model), "moved": moved(model)}


def run(recipe, seed):
    """Train a fresh model on a seed's texts and measure it."""
    model = load_text_model(MODEL, len(task.classes), seed=seed)
    drawn = data.with_train(data.train.subset(TRAIN, seed))
    history = fit(model, drawn, recipe, seed=seed, silent=True)
    return {**measured(model, history.seconds), "weights": history.trained_weights}


# %%
from course_utils.progress import Progress

runs, bar = {name: [] for name in RECIPES}, Progress(len(RECIPES) * len(SEEDS), "runs")
for seed in SEEDS:  # seed by seed, so that a slow moment of the machine meets all
    for name, recipe in RECIPES.items():
        runs[name].append(run(recipe, seed))
        bar.update(sum(map(len, runs.values())), name)

# %% [markdown]
# The table: median of the three runs, and their range in brackets.

# %%
import numpy as np

from course_utils.metrics import spread


def values(name, what):
    return [one[what] for one in runs[name]]


show_table(
    [{"recipe": name, "accuracy (%)": spread(values(name, "accuracy"), 1),
      "forgotten (points)": spread(values(name, "forgotten"), 1),
      "trained weights": runs[name][0]["weights"],
      "seconds": float(np.median(values(name, "seconds")))} for name in RECIPES],
    f"Accuracy on {len(task.test)} texts, and points lost of the old {before:.0f} %",
)

# %%
from course_utils.plotting import MARKERS, PALETTE


def point_with_range(axes, x, y, **style):
    """The median of both, with a line for the range of each."""
    middle = [np.median(x)], [np.median(y)]
    wide, high = [[[np.median(v) - min(v)], [max(v) - np.median(v)]] for v in (x, y)]
    axes.errorbar(*middle, xerr=wide, yerr=high, capsize=3, **style)


axes = new_axes(height=4)
for name, marker, colour in zip(RECIPES, MARKERS, PALETTE, strict=False):
    point_with_range(axes, values(name, "forgotten"), values(name, "accuracy"),
                     fmt=marker, color=colour, label=name, markersize=8)
axes.set(xlabel="forgotten (points of the old skill)",
         ylabel="accuracy on the new task (%)")
axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
listed = "; ".join(
    f"{name} {np.median(values(name, 'accuracy')):.0f} % and "
    f"{np.median(values(name, 'forgotten')):.0f} points" for name in RECIPES)
describe(axes, f"Accuracy against forgetting, a point a recipe with ranges: {listed}.")

# %% [markdown]
# Up is better, left is better; the costs are in the table. **The surprise** is on the
# horizontal axis: recipes that are neighbours in accuracy lie far apart in what they
# forget, and the one with the most freedom forgets most.

# %%
def per_seed(what, name, than):
    """The difference between two recipes, seed by seed."""
    return [a - b for a, b in zip(values(name, what), values(than, what), strict=True)]


claim("12.1", "points of accuracy that full fine-tuning adds to the head alone",
      per_seed("accuracy", "full", "head only"), at_least=LEAST["full"])
claim("12.2", "points of the old skill that training the head alone costs",
      values("head only", "forgotten"), at_most=0)
claim("12.3", "points by which full fine-tuning forgets more than gradual unfreezing",
      per_seed("forgotten", "full", "gradual"), at_least=LEAST["gradual"])
claim("12.4", "points by which full fine-tuning forgets more than discriminative rates",
      per_seed("forgotten", "full", "discriminative"), at_least=LEAST["slower"])

# %% [markdown]
# ## 5 · Where the weights moved
#
# The recipes differ in *where* they let the weights move, and that can be measured: the
# change of each stage, in percent of the length of its weights.

# %%
STAGES = [part.name for part in stages(start) if part.parameters][:-1]


def journey(runs):
    """Percent of change for each stage, a value a run; not a number where frozen."""
    return [[one["moved"][stage] or np.nan for one in runs] for stage in STAGES]


# %%
axes = plot_lines(range(len(STAGES)), {name: journey(runs[name]) for name in RECIPES},
                  "stage, from input to output", "change of the weights (%)")
axes.set_yscale("log")
axes.set_xticks(range(len(STAGES)), STAGES, rotation=30)
ends = "; ".join(
    f"{name} {np.median(values_at[-1]):.2g} % in {STAGES[-1]}"
    for name, values_at in ((name, journey(runs[name])) for name in RECIPES)
    if name != "head only")
describe(axes, f"How far each stage moved, by recipe, on a logarithmic axis: {ends}. "
               "Frozen stages have no point; lower rates mean shorter journeys.")

# %% [markdown]
# Every recipe moves the last layer about as far. They differ in how deep the movement
# goes: one rate for all moves the first layer as far as the last, and that is where the
# old skill goes. With discriminative rates all weights are trained too, but the early
# ones barely leave their place. (Of the *embeddings* only the rows of words that occur
# in the training texts can move, a small part of the table.)
#
# ## 6 · Which differences are real?
#
# Look at the accuracies seed by seed before you believe any median:

# %%
show_table(
    [{"seed": seed, **{name: values(name, "accuracy")[i] for name in RECIPES},
      "winner": max(RECIPES, key=lambda name: values(name, "accuracy")[i])}
     for i, seed in enumerate(SEEDS)],
    "Accuracy in percent, seed by seed, and the winner",
)

# %% [markdown]
# A paper with one seed would name one winner. To do better, use two things. First,
# **pair**: all recipes saw the same training texts and answered the same test texts, so
# take differences text by text; what is hard for both cancels. Second, a **bootstrap
# interval** (Efron, 1979): draw the runs and the test texts again, with replacement,
# two thousand times, and see where 95 % of the mean differences fall. If zero is
# inside, these data cannot tell the two apart.


# %%
def interval(differences, rounds=2000):
    """The mean difference and its 95 % bootstrap interval.

    differences: one a text, shape (runs, texts); or a plain list, one a run.
    """
    table, draw = np.atleast_2d(differences), np.random.default_rng(SEED)
    means = []
    for _ in range(rounds):
        rows, columns = (draw.integers(size, size=size) for size in table.shape)
        means.append(table[rows][:, columns].mean())
    return table.mean(), *np.quantile(means, [0.025, 0.975])


# %% [markdown]
# Each recipe against full fine-tuning, over three runs and all test texts:

# %%
others = [name for name in RECIPES if name != "full"]
against_full = {
    name: interval(100 * np.subtract(values(name, "right"), values("full", "right")))
    for name in others
}

# %%
axes = new_axes(height=2.6)
for row, (mean, low, high) in enumerate(against_full.values()):
    place = list(RECIPES).index(others[row])
    axes.errorbar(mean, row, xerr=[[mean - low], [high - mean]], fmt=MARKERS[place],
                  color=PALETTE[place], capsize=4)
axes.axvline(0, color="0.4", linestyle=":")
axes.set_yticks(range(len(others)), others)
axes.margins(y=0.2)
axes.invert_yaxis()
axes.set(xlabel="points of accuracy, against full fine-tuning (95 % interval)")
told = "; ".join(f"{name} {mean:+.1f} ({low:+.1f} to {high:+.1f})"
                 for name, (mean, low, high) in against_full.items())
describe(axes, f"Each recipe minus full fine-tuning, with its interval: {told}.")

# %% [markdown]
# In words:

# %%
for name, (mean, low, high) in against_full.items():
    verdict = "cannot be told from full" if low <= 0 <= high else "differs from full"
    print(f"{name:16} {mean:+5.1f} points ({low:+.1f} to {high:+.1f}): {verdict}")
widths = [(high - low) / 2 for _, low, high in against_full.values()]
claim("12.6", "points that a difference must have, at the least, to be seen here",
      min(widths), at_least=1)

# %% [markdown]
# **The answer.** With so few texts, the differences *between* the recipes that train
# some of the encoder are within the noise: the winner changes with the seed, and the
# intervals that hold zero are wide. "Cannot be told" is not "equal": a recipe may be
# some points worse, and these runs would not show it. What does show is the rest: what
# is forgotten, how many weights are trained, how long it takes. So choose by these, and
# ask for more texts, not for another schedule, if it is accuracy that you need.

# %% [markdown]
# ## 7 · The same in fastai
#
# ULMFiT comes from the authors of **fastai** (Howard and Gugger, 2020), and there it is
# a way of life: `freeze_to`, one cycle, `freeze_to`, one cycle. Three things are
# needed. Batches of our tokenized texts:

# %%
import warnings

from torch.nn.utils.rnn import pad_sequence

with warnings.catch_warnings():  # fastai uses torch.jit, which is on its way out
    warnings.simplefilter("ignore", FutureWarning)
    import fastai.callback.progress  # gives Learner its no_bar
    import fastai.callback.schedule  # and its fit_one_cycle  # noqa: F401
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner

# %%


def pad(rows):
    """(token ids, label) a text → ids (B, T), mask (B, T), labels (B,)."""
    texts, labels = zip(*rows, strict=True)
    lengths = torch.tensor([len(text) for text in texts])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = pad_sequence(texts, batch_first=True)
    return ids.long(), mask.long(), torch.tensor(labels)


def batches(examples, shuffle):
    return DataLoader(list(examples), bs=BATCH, shuffle=shuffle, create_batch=pad,
                      num_workers=0, device=choose_compute().device)


# %% [markdown]
# A **splitter**, which gives fastai the stages as groups of weights. And a `Learner`,
# which holds it all:

# %%
def groups(model):
    return [list(part.parameters) for part in stages(model) if part.parameters]


def learner(**settings):
    seed_everything(SEED)
    model = load_text_model(MODEL, len(task.classes), seed=SEED)
    loaders = DataLoaders(batches(data.train.subset(TRAIN, SEED), True),
                          batches(data.valid, False), device=choose_compute().device)
    return Learner(loaders, model, loss_func=torch.nn.functional.cross_entropy,
                   splitter=groups, wd=0.01, **settings)


# %% [markdown]
# Freeze all but the last group, and count what is left to train:

# %%
def trainable(model):
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


head_alone = runs["head only"][0]["weights"]
counts = {}
for train_bn in (True, False):  # True is the default
    frozen = learner(train_bn=train_bn)
    frozen.freeze_to(-1)
    counts[train_bn] = trainable(frozen.model)
print(f"the head has {head_alone:,} weights; trained by default: {counts[True]:,}, "
      f"with train_bn=False: {counts[False]:,}")

# %% [markdown]
# **Mind this.** By default fastai goes on training all norms of a frozen part
# (`train_bn`). That was made for the BatchNorm of image networks, but a BERT's layer
# norms count too: the "frozen" encoder changes, and every backward pass has to go all
# the way down. `train_bn=False` freezes what you mean to freeze.

# %%
claim("12.7", "trainable weights after fastai's freeze, in multiples of the head's",
      counts[True] / head_alone, at_least=2)
claim("12.8", "the same with train_bn=False", counts[False] / head_alone, at_most=1)

# %% [markdown]
# Now the recipe. `slice(low, high)` spreads the rates over the groups, each the same
# factor above the one below; `fit_one_cycle` raises and lowers them, once for each
# opened layer. We take the head's rate of our recipe, and a factor that gives the last
# group but one its rate as well. (A slice knows only one factor, so the layers below
# get less than in our recipe.)

# %%
ulmfit = learner(train_bn=False)
factor = HEAD_RATE / LEARNING_RATE
spread_rates = slice(HEAD_RATE / factor ** (len(STAGES)), HEAD_RATE)
with ulmfit.no_bar(), ulmfit.no_logging(), stopwatch() as watch:
    for opened in range(1, GRADUAL_EPOCHS + 1):
        ulmfit.freeze_to(-opened)
        ulmfit.fit_one_cycle(1, spread_rates)
by_fastai = measured(ulmfit.model, watch.seconds)

# %%
ours = runs["gradual"][0]
show_table(
    [{"with": name, "accuracy (%)": one["accuracy"],
      "forgotten (points)": one["forgotten"], "seconds": one["seconds"]}
     for name, one in (("the core", ours), ("fastai", by_fastai))],
    "ULMFiT by our core and by fastai: one run each, on the same texts",
)
difference = interval(100 * (by_fastai["right"] - ours["right"]))
print("fastai minus core: {:+.1f} points ({:+.1f} to {:+.1f})".format(*difference))

# %% [markdown]
# The same idea, not the same run: fastai makes one cycle per opened layer where our
# recipe has one triangle over all, its order of texts is another, and so is its Adam.
# Its batches mix short texts with long ones, it computes in full precision unless told
# otherwise, and its time includes a pass over the validation texts after each epoch;
# one run of each is no comparison of speed.

# %%
claim("12.9", "points of accuracy by which fastai and the core differ",
      abs(difference[0]), at_most=15)

# %% [markdown]
# ## 8 · A failure on purpose: one high rate for all
#
# "The head learns well at its high rate, so let everything learn at it, from the first
# step." Nothing else is changed, and one epoch is enough to see what happens:

# %%
predict("12.3")

# %%
rate = RECIPES["head only"].learning_rate
careless = recipes.full_finetuning(
    name="all at the head's rate", **{**common, "epochs": 1, "learning_rate": rate,
                                      "head_learning_rate": rate})
failed = run(careless, SEED)

# %% [markdown]
# Beside it, the first runs of two recipes from above, with the same texts and head:

# %%
compared = {careless.name: failed}
compared.update({name: runs[name][0] for name in ("full", "gradual")})
first, last = STAGES[1], STAGES[-1]
show_table(
    [{"recipe": name, "accuracy (%)": one["accuracy"],
      "forgotten (points)": one["forgotten"],
      f"change of {first} (%)": one["moved"][first],
      f"change of {last} (%)": one["moved"][last]} for name, one in compared.items()],
    f"One run each; guessing gives {guessing:.0f} %, the old skill was {before:.0f} %",
)

# %% [markdown]
# **Cause.** The head begins at random. What it sends back in the first steps says
# nothing about reviews, and at this rate the encoder follows it, every layer, at once.
# The early layers suffer like the late ones, although they had the least to learn.
#
# **Cure.** Any one of three: let the head learn first (`train_from=-1` and
# `unfreeze_every`), give the encoder a rate of its own (`head_learning_rate` is for the
# head alone), and let rates fall towards the input (`stage_decay`). The rate of an
# opened layer still has to be right: no order of opening mends a rate that is too high.

# %%
claim("12.10", "share of the old skill that is left after one epoch at the head's rate",
      1 - failed["forgotten"] / before, at_most=LEAST["left"])
claim("12.11", "points of accuracy by which gradual unfreezing beats it",
      runs["gradual"][0]["accuracy"] - failed["accuracy"], at_least=LEAST["cure"])

# %% [markdown]
# ## 9 · Exercise: a schedule under a budget
#
# The team that searches the tickets uses the same small encoder (six layers; the last
# three and the head have a little over five million weights). They let you fine-tune
# it, on conditions:
#
# - in the first epoch nothing but the head moves, and then one layer after another;
# - at the end at most six million weights are trained, and at least five;
# - of the trained layers, the lowest has between a tenth and a half of the rate of the
#   last one;
# - at most six epochs, on a slanted triangle.
#
# Hand in the recipe. The check reads its fields; nothing is run.

# %%
careful = ...
# solution begin
careful = recipes.gradual_unfreezing(
    epochs=4, unfreeze_every=1, stage_decay=0.6, learning_rate=5e-4,
    head_learning_rate=2e-3, warmup=0.1, schedule="linear",
)
# solution end
check("12.1", careful)

# %% [markdown]
# ## 10 · Exercise: is the difference real?
#
# You get two lists of accuracies, of method a and of method b; the same position is the
# same seed. Write `is_real(a, b)`: True if one of the two is really better, False if
# these lists cannot tell. `interval` from section 6 also takes a plain list.

# %%
def is_real(a, b):
    # solution begin
    _, low, high = interval(np.array(b) - np.array(a))
    return bool(low > 0 or high < 0)
    # solution end


check("12.2", is_real)

# %% [markdown]
# ## 11 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | begin with the head alone: seconds, and nothing is forgotten | begin with a schedule from a paper |
# | open the last layers when the head is not enough | open everything for a gain you cannot measure |
# | give the encoder its own, lower rate | train the encoder at the head's rate |
# | open gradually when an old skill must survive, or time is short | expect accuracy from the order of opening alone |
# | compare by pairs, over seeds, with an interval | report the best seed, or one |
# | count the trainable weights after freezing | trust a library's word "frozen" |
#
# **Cost of what you just ran:**

# %%
from course_utils.device import energy_wh

made = [failed, by_fastai, *(one for name in RECIPES for one in runs[name])]
total = sum(one["seconds"] for one in made)
print(f"{len(made)} runs, {total:.0f} s of training, about {energy_wh(total):.2f} Wh "
      "(an estimate)")

# %% [markdown]
# ## What you can do now
#
# - *Freeze and unfreeze by stages, and give each its rate, in our core and in fastai*:
#   sections 2, 5, 7 and 9.
# - *Compare by accuracy, cost and forgetting at once*: section 4.
# - *Decide whether a difference is real*: sections 6 and 10.

# %%
quiz("12")

# %% [markdown]
# **Further reading.** Howard and Ruder (2018), *Universal language model fine-tuning
# for text classification*. · Howard and Gugger (2020), *fastai: a layered API for deep
# learning*. · Smith (2018), *A disciplined approach to neural network
# hyper-parameters*. · Dodge, Ilharco, Schwartz, Farhadi, Hajishirzi and Smith (2020),
# *Fine-tuning pretrained language models: weight initializations, data orders, and
# early stopping*. · Efron (1979), *Bootstrap methods: another look at the jackknife*.
