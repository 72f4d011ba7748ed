# %% [markdown]
# # 40 · Choosing hyper-parameters
#
# Learning rate, weight decay, dropout, width, batch size: somebody has to choose them.
# Libraries promise to do it for you, better than chance and in less time. This lesson
# puts them to the test as one should, with **equal budgets and several repeats**, and
# asks three questions: does a clever search beat a random one? Can the winner's score
# be believed? And which of all these settings was worth searching?
#
# **You will be able to**
#
# - find a learning rate in a second, and judge by a curve whether to trust it;
# - run a search with Optuna: random, TPE, with pruning, and in two processes at once;
# - report what a search has found without fooling yourself or others.
#
# **Builds on** lessons 10 and 12. **Words:** *hyper-parameter* – a setting that
# training does not learn, such as the learning rate; *trial* – one training run with
# one choice of settings; *search space* – the settings that may be chosen, each with
# its range; *sampler* – what chooses the next trial; *pruning* – stopping a trial
# that looks hopeless; *validation texts* choose, *test texts* report.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from dataclasses import replace

import numpy as np
import optuna
import torch
from optuna.distributions import (
    CategoricalDistribution, FloatDistribution, IntDistribution,
)

from course_utils import (
    check, claim, describe, embed, evaluate, fit, load_task, load_text_model, new_axes,
    plot_lines, predict, quiz, recipes, select, show_table, stopwatch, tokenize,
)
from course_utils.progress import Progress
from course_utils.lessons.lesson_40 import Vectors, new_head, right, steepest, train_head

optuna.logging.set_verbosity(optuna.logging.ERROR)
MODEL = select(PROFILE, quick="minilm", full="google-bert/bert-base-uncased")
TASK = select(PROFILE, quick="tickets", full="trec")
TRAIN = select(PROFILE, quick=160, full=1000)
HELD, VALID = select(PROFILE, quick=300, full=500), 60
LONGEST = select(PROFILE, quick=95, full=10_000)  # characters: short texts are quick
EPOCHS = 6  # of a trial
BUDGET = select(PROFILE, quick=24, full=40) * EPOCHS  # epochs that one search may spend
REPEATS = range(100 * SEED, 100 * SEED + select(PROFILE, quick=5, full=10))

# %% [markdown]
# ## 1 · Trials that cost next to nothing
#
# To compare ways of searching one has to repeat whole searches, and each is dozens of
# trainings. So we take trials that are cheap, but real: texts go through a frozen
# encoder **once**, and a trial trains only a small head on the vectors that come out.

# %%
def short(examples, count):
    """So many of those with at most `LONGEST` characters."""
    fitting = [i for i, x in enumerate(examples.inputs) if len(x) <= LONGEST]
    return examples.select(fitting).subset(count, SEED)


task = load_task(TASK)
encoder = load_text_model(MODEL, len(task.classes), seed=SEED)
train, held = short(task.train, TRAIN), short(task.test, HELD)
with stopwatch() as watch:
    train_vectors, held_vectors = embed(encoder, train), embed(encoder, held)
print(f"{TASK}, {len(task.classes)} classes: {len(train)} training texts, {len(held)} "
      f"held out; all their vectors in {watch.seconds:.1f} s")

# %% [markdown]
# The texts that are held out are divided anew for each repeat: sixty of them
# **choose** (validation), and the others **report** (test). That way no repeat's
# validation texts are easier than its test texts for any reason but chance.


# %%
def draw(repeat):
    """This repeat's division of the texts that are held out."""
    order = torch.randperm(len(held), generator=torch.Generator().manual_seed(repeat))
    choose, report = order[:VALID], order[VALID:]
    return Vectors(train_vectors, train.labels, held_vectors[choose],
                   held.labels[choose], held_vectors[report], held.labels[report])


draws = {repeat: draw(repeat) for repeat in REPEATS}

# %% [markdown]
# The head has one hidden layer; `train_head` (in `course_utils/lessons/lesson_40.py`,
# where other processes can import it, too) trains it with AdamW and hands it over after
# each epoch. Six settings are to be chosen. These are the **defaults**, with AdamW's
# rate as PyTorch sets it unless it is told otherwise:

# %%
DEFAULT = {"rate": 1e-3, "decay": 0.01, "dropout": 0.1, "width": 64, "batch": 32,
           "smoothing": 0.0}

# %% [markdown]
# Training with some settings, measured on both kinds of texts:

# %%
def scores(settings, repeat):
    """Percent right on validation and on test texts, after a whole training."""
    *_, head = train_head(draws[repeat], settings, EPOCHS, repeat)
    data = draws[repeat]
    return right(head, data.valid, data.valid_labels), right(
        head, data.test, data.test_labels)


# %%
with stopwatch() as watch:
    by_default = [scores(DEFAULT, repeat)[1] for repeat in REPEATS]
guessing = 100 * held.labels.bincount().max().item() / len(held)
print(f"guessing {guessing:.0f} %; defaults {np.median(by_default):.0f} % "
      f"({min(by_default):.0f} to {max(by_default):.0f}), "
      f"{watch.seconds / len(REPEATS):.2f} s a trial")

# %% [markdown]
# ## 2 · A learning-rate finder
#
# Smith (2017): train for a hundred steps while the rate grows by the same factor at
# each step, from far too low to far too high, and watch the loss. Where it falls
# fastest, the rate is worth a try; where it rises again, the rate is too high. It takes
# a few lines, one short run, and no validation texts:


# %%
def find_rate(data, settings, low=1e-5, high=1.0, steps=100):
    """Rates, and the smoothed training loss at each, until it has clearly risen."""
    head = new_head(settings, data.train.shape[1], len(task.classes), SEED)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=settings["decay"])
    rates, losses, mean = [], [], 0.0
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = low * (high / low) ** (step / (steps - 1))
        rows = torch.randint(len(data.train), (settings["batch"],))
        loss = torch.nn.functional.cross_entropy(
            head(data.train[rows]), data.train_labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = 0.9 * mean + 0.1 * loss.item()
        rates.append(optimizer.param_groups[0]["lr"])
        losses.append(mean / (1 - 0.9 ** (step + 1)))  # the mean began at zero
        if losses[-1] > 2 * losses[0]:
            break
    return rates, losses


# %%
rates, losses = find_rate(draws[REPEATS[0]], DEFAULT)
found, lowest = steepest(rates, losses), rates[int(np.argmin(losses))]
axes = new_axes()
axes.plot(rates, losses)
axes.axvline(found, color="0.4", linestyle=":", label=f"steepest: {found:.1g}")
axes.set(xlabel="learning rate", ylabel="training loss, smoothed (nats)", xscale="log")
axes.legend(frameon=False)
describe(axes, f"The loss of one short run in which the rate rises: flat at first, "
               f"falling fastest at {found:.1g}, lowest at {lowest:.1g}, then rising.")

# %% [markdown]
# ## 3 · Is it right?
#
# The honest test of a rate is to train with it. One trial for each of some rates over
# the whole range, with every repeat, and all else as in the defaults:

# %%
GRID = [float(rate) for rate in np.logspace(-5, 0, 11)]
sweep = {rate: [scores({**DEFAULT, "rate": rate}, repeat) for repeat in REPEATS]
         for rate in GRID}
tested = {rate: [test for _, test in pairs] for rate, pairs in sweep.items()}
found_test = [scores({**DEFAULT, "rate": found}, repeat)[1] for repeat in REPEATS]

# %%
axes = plot_lines(GRID, {"test accuracy": list(tested.values())}, "learning rate",
                  "right (%)", log_x=True)
axes.axvline(found, color="0.4", linestyle=":", label="the finder's rate")
axes.axvline(DEFAULT["rate"], color="0.4", linestyle="--", label="the default")
axes.legend(frameon=False, loc="upper left")
best = max(GRID, key=lambda rate: np.median(tested[rate]))
describe(axes, f"Test accuracy against the rate: {np.median(tested[GRID[0]]):.0f} % at "
               f"{GRID[0]:.0e}, a peak of {np.median(tested[best]):.0f} % at {best:.1g}, "
               f"{np.median(tested[GRID[-1]]):.0f} % at {GRID[-1]:.0e}.")

# %% [markdown]
# A mountain, and **the default stands on its slope**: the rate that a library fills in
# was right for somebody else's network. The finder comes near the top, but it is not
# exact. It looks at a hundred first steps, and knows nothing of the decay that follows,
# of the number of epochs, or of texts that it was not shown.

# %%
def gap(better, worse):
    """Points between two lists of test scores, repeat by repeat."""
    return [a - b for a, b in zip(better, worse, strict=True)]


claim("40.1", "test points that the finder's rate gains over the default",
      gap(found_test, by_default), at_least=3)
claim("40.2", "test points that the finder's rate stays behind the best one in hindsight",
      gap(tested[best], found_test), at_most=8)

# %% [markdown]
# ## 4 · Three ways to search
#
# Now all six settings at once. The **search space** says what may be chosen. What
# matters by its *factor* (twice as much, half as much) gets a logarithmic scale.

# %%
SPACE = {
    "rate": FloatDistribution(1e-5, 1.0, log=True),
    "decay": FloatDistribution(1e-4, 1.0, log=True),
    "dropout": FloatDistribution(0.0, 0.6),
    "width": IntDistribution(16, 256, log=True),
    "batch": CategoricalDistribution([32, 64, 128]),
    "smoothing": FloatDistribution(0.0, 0.3),
}

# %% [markdown]
# - **Random search** (Bergstra and Bengio, 2012): each trial is drawn by itself.
# - **TPE** (Bergstra and others, 2011): after some random trials, it divides those so
#   far into good and bad ones, and prefers values that are frequent among the good.
# - **TPE with pruning**: after each epoch a trial reports its validation score, and is
#   stopped if it is below the median of earlier trials at that epoch.
#
# For the same seed TPE's first trials are those of random search, so the two are
# paired. The **budget is counted in epochs**, because seconds on a shared machine are a
# matter of luck: a pruned trial pays for the epochs it had, and what it saves goes into
# further trials. (An epoch with small batches takes longer than one with large ones,
# and TPE thinks before each trial; the table has the seconds as well.)

# %%
def ways(seed):
    tpe = optuna.samplers.TPESampler
    never, median = optuna.pruners.NopPruner(), optuna.pruners.MedianPruner(5, 1)
    return {"random": (optuna.samplers.RandomSampler(seed), never),
            "TPE": (tpe(seed=seed, n_startup_trials=8), never),
            "TPE, pruned": (tpe(seed=seed, n_startup_trials=8), median)}


# %% [markdown]
# One trial, which tells the study after each epoch how it goes:

# %%
def run_trial(study, trial, repeat):
    """Train with a trial's settings and tell the study how it went."""
    data, pruned = draws[repeat], False
    training = train_head(data, trial.params, EPOCHS, repeat)
    for epoch, head in enumerate(training, 1):
        valid = right(head, data.valid, data.valid_labels)
        trial.report(valid, epoch)
        if pruned := epoch < EPOCHS and trial.should_prune():
            break
    study.tell(trial, state=optuna.trial.TrialState.PRUNED) if pruned else study.tell(
        trial, valid)
    return {"settings": trial.params, "valid": valid, "pruned": pruned, "epochs": epoch,
            "test": right(head, data.test, data.test_labels)}

# %% [markdown]
# The test score is written down for us, and no part of the search sees it. A search
# asks the study for settings until the budget is spent:

# %%
def search(sampler, pruner, repeat, budget=BUDGET, space=SPACE):
    """The trials of one search, in order."""
    study = optuna.create_study(sampler=sampler, pruner=pruner, direction="maximize")
    trials, spent = [], 0
    while spent < budget:
        trials.append(run_trial(study, study.ask(space), repeat))
        spent += trials[-1]["epochs"]
    return trials


def winner(trials):
    """The finished trial with the best validation score."""
    return max((t for t in trials if not t["pruned"]), key=lambda t: t["valid"])


# %%
predict("40.1")
predict("40.2")

# %% [markdown]
# Every way with every repeat; repeat by repeat, so that a slow moment of the machine
# meets all three:

# %%
WAYS = list(ways(SEED))
searches, seconds = {way: [] for way in WAYS}, {way: [] for way in WAYS}
bar = Progress(len(WAYS) * len(REPEATS), "searches")
for repeat in REPEATS:
    for way, (sampler, pruner) in ways(repeat).items():
        with stopwatch() as watch:
            searches[way].append(search(sampler, pruner, repeat))
        seconds[way].append(watch.seconds)
        bar.update(sum(map(len, searches.values())), way)

# %% [markdown]
# At each point of the budget, which trial would you hand in, and how good is it really,
# on test texts?

# %%
def so_far(trials, spent, what):
    """The score of the trial that leads after so many epochs."""
    ends = np.cumsum([t["epochs"] for t in trials])
    return winner([t for t, end in zip(trials, ends, strict=True) if end <= spent])[what]


POINTS = [int(p) for p in np.linspace(2 * EPOCHS, BUDGET, 12)]
curves = {way: [[so_far(trials, p, "test") for trials in searches[way]] for p in POINTS]
          for way in WAYS}

# %% [markdown]
# The dotted line is the defaults, the dashed one the finder's rate:

# %%
axes = plot_lines(POINTS, curves, "epochs spent", "test accuracy of the leader (%)")
axes.axhline(np.median(by_default), color="0.4", linestyle=":")
axes.axhline(np.median(found_test), color="0.4", linestyle="--")
levels = {"defaults": by_default, "one trial at the finder's rate": found_test}
for name, level in levels.items():
    axes.annotate(name, (POINTS[0], np.median(level)), (0, 4), color="0.3",
                  textcoords="offset points")
ends = "; ".join(f"{way} {np.median(curves[way][-1]):.0f} % (from "
                 f"{min(curves[way][-1]):.0f} to {max(curves[way][-1]):.0f})"
                 for way in WAYS)
describe(axes, f"Test accuracy of the leading trial as the budget is spent, median and "
               f"range over {len(REPEATS)} repeats; at the end: {ends}. The three bands "
               "overlap.")

# %% [markdown]
# To compare with something simpler, we add **one setting only**: the eleven rates of
# section 3, chosen by validation, all else left at the defaults.

# %%
from course_utils.metrics import spread

only_rate = [max((sweep[rate][i] for rate in GRID), key=lambda pair: pair[0])[1]
             for i in range(len(REPEATS))]  # pairs of validation and test scores
finder_cost = len(rates) * DEFAULT["batch"] / len(train)
rows = [("defaults", by_default, EPOCHS, "1", ""),
        ("the finder's rate", found_test, EPOCHS + finder_cost, "1", ""),
        ("eleven rates", only_rate, EPOCHS * len(GRID), str(len(GRID)), "")]
handed_in = {way: [winner(t)["test"] for t in searches[way]] for way in WAYS}
rows += [(way, handed_in[way], sum(t["epochs"] for t in searches[way][0]),
          f"{np.median([len(t) for t in searches[way]]):.0f}",
          f"{np.median(seconds[way]):.1f}") for way in WAYS]
show_table(
    [{"choice": name, "test accuracy (%)": spread(test, 1), "epochs": round(cost),
      "trials": trials, "seconds": took} for name, test, cost, trials, took in rows],
    f"Median and range over {len(REPEATS)} repeats",
)

# %% [markdown]
# **The surprise:** all searches beat the defaults by a wide margin, but so does the
# finder, with one short run and a single trial, and no search of six settings is
# clearly above it. Next to what a right rate gains, the differences *between* the
# searches are small: with some repeats one wins, with some the other. Pruning does what
# it promises, more trials for the same epochs; whether more trials help is another
# question, and here the answer is: hardly.
#
# This is a result for small budgets and a small head. A search of hundreds of trials,
# or one without any rate to start from, has more to gain.

# %%
against_random = gap(handed_in["TPE"], handed_in["random"])
print("TPE minus random, repeat by repeat:",
      ", ".join(f"{points:+.1f}" for points in against_random))
claim("40.3", "test points that random search gains over the defaults",
      gap(handed_in["random"], by_default), at_least=5)
claim("40.4", "test points between TPE and random search, either way",
      abs(np.median(against_random)), at_most=5)
claim("40.5", "test points that TPE on six settings gains over the finder's rate",
      gap(handed_in["TPE"], found_test), at_most=5)
claim("40.6", "times as many trials with pruning for the same epochs",
      [len(a) / len(b) for a, b in zip(searches["TPE, pruned"], searches["TPE"],
                                       strict=True)], at_least=1.2)

# %% [markdown]
# ## 5 · The winner's curse
#
# Each of these searches ends with a validation score that somebody might put into a
# report. Put the test score of the same trial beside it. To be fair: a repeat's sixty
# validation texts may simply be easier or harder than its test texts. That would show
# in **all** its trials, so we measure it on those that did not win, and take it off.

# %%
def ease(i):
    """Validation minus test, over the trials near the best rate that did not win."""
    pairs = [sweep[rate][i] for rate in GRID if best / 5 <= rate <= best * 5]
    for trials in (searches[way][i] for way in WAYS):
        pairs += [(t["valid"], t["test"]) for t in trials
                  if not t["pruned"] and t is not winner(trials)
                  and best / 5 <= t["settings"]["rate"] <= best * 5]
    return float(np.mean([valid - test for valid, test in pairs]))


eases = [ease(i) for i in range(len(REPEATS))]
everything = [pair for way in WAYS for pair in zip(searches[way], eases, strict=True)]
test_line = [[so_far(t, p, "test") for t, _ in everything] for p in POINTS]
valid_line = [[so_far(t, p, "valid") - easy for t, easy in everything] for p in POINTS]

# %%
axes = plot_lines(
    POINTS, {"validation, which chose": valid_line, "test, which did not": test_line},
    "epochs spent", "accuracy of the leader (%)")
apart = [float(np.median(np.subtract(*at)))
         for at in zip(valid_line, test_line, strict=True)]
describe(axes, f"Validation (less its ease) and test accuracy of the leading trial over "
               f"{len(everything)} searches. Validation minus test: {apart[0]:+.1f} "
               f"points at first, {apart[-1]:+.1f} at the end, in the median.")

# %% [markdown]
# The longer the search, the further the two part. A validation score is the true
# quality plus luck with these sixty texts. Who takes the highest of many takes one with
# much luck, and luck does not travel to other texts: the **winner's curse**.

# %%
flattered = {way: [winner(t)["valid"] - winner(t)["test"] - easy
                   for t, easy in zip(searches[way], eases, strict=True)]
             for way in WAYS}
show_table(
    [{"search": way, "winner, validation (%)": float(np.median([
        winner(t)["valid"] for t in searches[way]])),
      "winner, test (%)": float(np.median(handed_in[way])),
      "flattered by (points)": spread(flattered[way], 1)} for way in WAYS],
    f"Medians of {len(REPEATS)} repeats. The ease of the validation texts "
    f"({np.median(eases):+.1f} points) is taken off in the last column",
)

# %%
claim("40.7", "points by which validation flatters a winner, its ease taken off",
      [points for way in WAYS for points in flattered[way]], at_least=1)

# %% [markdown]
# And if the **test** texts choose? Then the same thing happens to the test score. It is
# milder here, because there are more of these texts, but nothing is left to find it out
# with:

# %%
peeked = {way: [max(t["test"] for t in trials if not t["pruned"])
                for trials in searches[way]] for way in WAYS}
cheated = [p - h for way in WAYS
           for p, h in zip(peeked[way], handed_in[way], strict=True)]
print(f"reported after peeking: {np.mean(cheated):.1f} points more than honestly chosen "
      f"on average, up to {max(cheated):.1f}")
claim("40.8", "points that choosing by the test texts adds to a report, on average",
      float(np.mean(cheated)), at_least=0.3)

# %% [markdown]
# ## 6 · Which setting mattered?
#
# The random trials of all repeats cover the space evenly, so they can tell. **fANOVA**
# (Hutter and others, 2014) fits a forest of trees to *settings → score* and divides the
# variance of its predictions among the settings.

# %%
predict("40.3")

# %%
from optuna.importance import FanovaImportanceEvaluator, get_param_importances


def importance(trials):
    """The share of the variance of the scores that each setting explains."""
    study = optuna.create_study(direction="maximize")
    for one in trials:
        study.add_trial(optuna.trial.create_trial(
            params=one["settings"], distributions=SPACE, value=one["valid"]))
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=SEED))


# %% [markdown]
# For all trials, and for those whose rate is about right:

# %%
drawn = [t for trials in searches["random"] for t in trials]
near = [t for t in drawn if found / 5 <= t["settings"]["rate"] <= found * 5]
shares = {"all trials": importance(drawn), "near the finder's rate": importance(near)}
show_table(
    [{"setting": name, **{what: part[name] for what, part in shares.items()}}
     for name in shares["all trials"]],
    f"Importance: all {len(drawn)} random trials, and {len(near)} within a factor of 5",
)

# %% [markdown]
# Over the whole space it is nearly the rate alone. Remember what the number means:
# importance **within these ranges**. Once the rate is about right (second column), the
# rest shares what is left, on few trials, so don't lean on the order of these.
#
# The same trials as **parallel coordinates**: a line a trial through all its settings,
# to its score on the right.


# %%
def heights(trials):
    """Where each trial's line crosses the axes, from 0 to 1; the score comes last."""
    columns = []
    for name, one in SPACE.items():
        values = np.array([t["settings"][name] for t in trials], dtype=float)
        ends = np.array(getattr(one, "choices", None) or (one.low, one.high))
        if getattr(one, "log", name == "batch"):
            values, ends = np.log(values), np.log(ends)
        columns.append((values - ends.min()) / (ends.max() - ends.min()))
    score = np.array([t["valid"] for t in trials])
    return np.column_stack([*columns, (score - score.min()) / np.ptp(score)])


# %%
import matplotlib

colours = matplotlib.colormaps["viridis"]
axes = new_axes(7.2, 3.8)
for row in sorted(heights(drawn).tolist(), key=lambda row: row[-1]):
    axes.plot(row, color=colours(row[-1]), alpha=0.3 + 0.6 * row[-1], linewidth=1.2)
ends = [(f"{min(one.choices)}", f"{max(one.choices)}") if hasattr(one, "choices")
        else (f"{one.low:g}", f"{one.high:g}") for one in SPACE.values()]
marks = [t["valid"] for t in drawn]
ends.append((f"{min(marks):.0f} %", f"{max(marks):.0f} %"))
for place, (_, high) in enumerate(ends):
    axes.axvline(place, color="0.3", linewidth=0.8)
    axes.annotate(high, (place, 1), (0, 4), ha="center", textcoords="offset points",
                  xycoords=("data", "axes fraction"))
axes.set_xticks(range(len(ends)), [f"{name}\n{low}" for name, (low, _) in
                                   zip([*SPACE, "valid"], ends, strict=True)])
axes.set_yticks([])
axes.grid(False)
axes.spines[["left", "bottom"]].set_visible(False)
top = [t["settings"]["rate"] for t in sorted(drawn, key=lambda t: t["valid"])[-10:]]
describe(axes, f"{len(drawn)} random trials as lines through six settings to the score. "
               f"The ten best all have rates from {min(top):.1g} to {max(top):.1g}; on "
               "the other axes their lines are everywhere.")

# %% [markdown]
# The bright lines meet in one place, on the first axis. Elsewhere they come from
# everywhere.

# %%
claim("40.9", "share of the variance that the learning rate explains",
      shares["all trials"]["rate"], at_least=0.5)
claim("40.10", "powers of ten that the rates of the ten best random trials span",
      float(np.log10(max(top) / min(top))), at_most=2.5)

# %% [markdown]
# ## 7 · Two processes, one study
#
# Trials need not wait for each other. A study in a **shared journal** (a file that each
# process appends to and reads) can be worked on by as many processes as you like. Each
# runs the same loop: read what all have found, ask for settings, train, tell.
#
# The processes are really started. A file says what to do; `work` in `lesson_40.py` is
# what they run.

# %%
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from optuna.distributions import distribution_to_json
from safetensors.torch import save_file

from course_utils.lessons.lesson_40 import open_study

# %% [markdown]
# The plan holds the place of the vectors, the space, and how much there is to do:

# %%
TRIALS, LONG = 8, 3 * EPOCHS  # longer trials: a start of Python has to pay off
folder = tempfile.TemporaryDirectory()
place = Path(folder.name)
save_file(draws[REPEATS[0]]._asdict(), place / "vectors.safetensors")
space = {name: distribution_to_json(one) for name, one in SPACE.items()}
_ = (place / "plan.json").write_text(json.dumps(
    {"vectors": str(place / "vectors.safetensors"), "space": space, "epochs": LONG,
     "trials": TRIALS, "seed": SEED}))

# %% [markdown]
# Mind two things. Both processes must **not** have the same seed, or they try the same
# settings twice; ours add their process number. And TPE should know of trials that are
# still running (`constant_liar=True`: take them for bad ones until they are told), or
# the second process searches where the first one does. (They wait for each other before
# the first trial, so that both have a share.)

# %%
def work_together(processes):
    """Run a study in so many processes; its finished trials and the seconds in all."""
    journal = place / f"{processes}.log"
    command = [sys.executable, "-m", "course_utils.lessons.lesson_40", str(journal),
               str(place / "plan.json"), str(processes)]
    open_study(journal, SEED)
    with stopwatch() as watch:
        running = [subprocess.Popen(command) for _ in range(processes)]
        codes = [one.wait() for one in running]
    assert not any(codes), f"a worker ended with {codes}"
    return open_study(journal, SEED).get_trials(), watch.seconds


together = {processes: work_together(processes) for processes in (1, 2)}
folder.cleanup()

# %% [markdown]
# Who did what? Each trial carries the number of its process.

# %%
from collections import Counter


def at_work(trials):
    """Seconds from the start of the first trial to the end of the last."""
    begin, end = (f(t for t in times) for f, times in (
        (min, [t.datetime_start for t in trials]),
        (max, [t.datetime_complete for t in trials])))
    return (end - begin).total_seconds()


# %% [markdown]
# The table of both runs:

# %%
workers = {n: Counter(t.user_attrs["process"] for t in trials)
           for n, (trials, _) in together.items()}
show_table(
    [{"processes": n, "trials of each": " + ".join(map(str, workers[n].values())),
      "seconds of trials": at_work(trials), "seconds with starting": whole,
      "best validation (%)": max(t.value for t in trials)}
     for n, (trials, whole) in together.items()],
    f"{TRIALS} trials of {LONG} epochs each",
)

# %%
claim("40.11", "share of the trials that the process with fewer of them made",
      min(workers[2].values()) / sum(workers[2].values()) * (len(workers[2]) == 2),
      at_least=0.1)

# %% [markdown]
# What two processes save depends on the machine: with two free cores up to half of the
# seconds of trials, with busy ones nothing at all, or less than nothing, as you can read
# in the table. The start of Python and PyTorch is paid by each of them. So parallel
# workers are for trials of minutes, and for several machines or GPUs; they don't pay
# for trials as short as ours. And the two runs need not end with the same winner:
# which trials TPE knows of now depends on who was faster.
#
# ## 8 · A failure on purpose: the wrong range
#
# Two mistakes that are both frequent. A **range copied** from a paper about fine-tuning
# *whole encoders*, for a head that begins at random. And a **plain scale**: the right
# ends, but without `log=True`. Ten random trials each:

# %%
predict("40.4")

# %%
TEN = 10 * EPOCHS
RANGES = {
    "copied range": FloatDistribution(1e-6, 1e-4, log=True),
    "plain scale": FloatDistribution(1e-5, 1.0),
}
never = optuna.pruners.NopPruner()
ten = {"logarithmic scale": [trials[:10] for trials in searches["random"]]}
for name, one in RANGES.items():
    space = {**SPACE, "rate": one}
    ten[name] = [search(optuna.samplers.RandomSampler(repeat), never, repeat, TEN, space)
                 for repeat in REPEATS]

# %% [markdown]
# Beside the winners, the chance that a trial's rate lies near a good one, which follows
# from the range alone:

# %%
def chance(one, good):
    """Percent of a range that lies within a factor of 5 of a good rate."""
    scale = np.log if one.log else np.asarray
    low, high = max(one.low, good / 5), min(one.high, good * 5)
    whole = scale(one.high) - scale(one.low)
    return float(100 * max(0, scale(high) - scale(low)) / whole)


chances = {name: chance(one, best) for name, one in
           {"logarithmic scale": SPACE["rate"], **RANGES}.items()}
show_table(
    [{"rate": name, "chance of a good rate (%)": chances[name],
      "winner, test (%)": spread([winner(t)["test"] for t in runs], 1)}
     for name, runs in ten.items()],
    f"Ten random trials, {len(REPEATS)} repeats; defaults: {np.median(by_default):.0f} %",
)

# %%
from course_utils.plotting import MARKERS

axes = new_axes(height=2.6)
for row, runs in enumerate(ten.values()):
    tried = [t["settings"]["rate"] for trials in runs for t in trials]
    axes.plot(tried, [row] * len(tried), MARKERS[row], alpha=0.5)
axes.axvspan(best / 5, best * 5, color="0.5", alpha=0.2, linewidth=0)
axes.set(xlabel="learning rates tried (shaded: near the best one)", xscale="log")
axes.set_yticks(range(len(ten)), list(ten))
axes.set_ylim(len(ten) - 0.5, -0.5)
told = "; ".join(f"{name} {share:.0f} %" for name, share in chances.items())
describe(axes, f"The rates tried in three ways. Chance of one near the best: {told}. "
               "The copied range leaves the good rates out; the plain scale crowds its "
               "trials at the upper end.")

# %% [markdown]
# **Cause.** The copied range does not hold the good rates, and no sampler, no budget
# and no other setting finds what the range leaves out: the winner of a whole search is
# worse than the defaults. The plain scale is a lottery: nine tenths of its trials lie in
# the highest power of ten. Here the good rates are not far from there, and so some
# repeats draw one; see the range in the table. With smaller rates it gets worse:

# %%
encoder_rate = 5e-4  # that of lesson 12
print(f"chance of a rate near {encoder_rate:g}: logarithmic scale "
      f"{chance(SPACE['rate'], encoder_rate):.0f} %, plain scale "
      f"{chance(RANGES['plain scale'], encoder_rate):.1f} %")
copied_test, log_test = ([winner(t)["test"] for t in ten[name]]
                         for name in ("copied range", "logarithmic scale"))
claim("40.12", "test points by which the defaults beat a search of the wrong range",
      gap(by_default, copied_test), at_least=3)
claim("40.13", "test points that the right range gains over it",
      gap(log_test, copied_test), at_least=10)
claim("40.14", "times as likely on a logarithmic scale as on a plain one: a good rate",
      chances["logarithmic scale"] / chances["plain scale"], at_least=1.3)

# %% [markdown]
# **Cure.** A logarithmic scale for whatever matters by its factor; ends that lie on both
# slopes of the mountain (the finder's curve shows them); and a look at the winner: *if
# it lies at the edge of its range, the range is wrong*.
#
# ## 9 · A small AutoML
#
# So far the kind of model was fixed. *AutoML* lets the search choose that, too
# (Thornton and others, 2013): here between counting words, a linear model on frozen
# vectors, and **real fine-tuning** with `fit`, its freezing depth and rate. Settings
# may depend on others: a rate is only asked for where something is trained.
#
# The task is small: is a review good or bad, from a few dozen short texts?

# %%
FEW = select(PROFILE, quick=36, full=128)
REAL_TRIALS = select(PROFILE, quick=8, full=24)
REVIEWS = select(PROFILE, quick="reviews", full="sst2")
FIRST_STAGES = select(PROFILE, quick=["head", "layer5", "layer3"],
                      full=["head", "layer11", "layer8", "embeddings"])
LONGEST = select(PROFILE, quick=80, full=10_000)
reviews = load_task(REVIEWS)
reviews = replace(reviews, train=short(reviews.train, FEW),
                  valid=short(reviews.valid, FEW),
                  test=short(reviews.test, select(PROFILE, quick=100, full=500)))
tokens = tokenize(reviews, encoder.tokenizer)
print(f"{reviews}, at most {LONGEST} characters each")

# %% [markdown]
# The two cheap kinds are one line of scikit-learn each. Fine-tuning reports after each
# epoch, and is pruned in the middle of `fit` by an exception:

# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

frozen = {part: embed(encoder, getattr(reviews, part)).numpy()
          for part in ("train", "valid", "test")}
texts = {part: getattr(reviews, part).inputs for part in frozen}
answers = {part: getattr(reviews, part).labels.numpy() for part in frozen}

# %% [markdown]
# A linear model of either kind:

# %%
def linear(kind, strength):
    """A trained linear model; percent right on validation and test texts."""
    model = LogisticRegression(C=strength, max_iter=1000)
    if kind == "words":
        model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), model)
    inputs = texts if kind == "words" else frozen
    model.fit(inputs["train"], answers["train"])
    return [100 * model.score(inputs[part], answers[part]) for part in ("valid", "test")]


# %%
def fine_tuned(recipe, trial=None):
    """A fine-tuned model; percent right on validation texts, and a way to test it."""
    model = load_text_model(MODEL, len(reviews.classes), seed=SEED)

    def report(epoch):
        if trial is not None:
            trial.report(100 * epoch.valid_accuracy, epoch.number)
            if epoch.number < recipe.epochs and trial.should_prune():
                raise optuna.TrialPruned

    history = fit(model, tokens, recipe, seed=SEED, on_epoch=report, silent=True)
    return (100 * history.epochs[-1].valid_accuracy,
            lambda: 100 * evaluate(model, tokens.test).accuracy)


# %% [markdown]
# The objective, written in Optuna's other style, where settings are asked for when they
# are needed:

# %%
common = dict(epochs=3, batch_size=8)


def objective(trial):
    kind = trial.suggest_categorical("kind", ["words", "vectors", "fine-tune"])
    if kind != "fine-tune":
        valid, test = linear(kind, trial.suggest_float("C", 0.01, 100, log=True))
        kept[trial.number] = lambda: test
        return valid
    recipe = recipes.top_stages(
        trial.suggest_categorical("first", FIRST_STAGES), **common,
        learning_rate=trial.suggest_float("rate", 1e-5, 1e-3, log=True),
        head_learning_rate=trial.suggest_float("head rate", 1e-4, 1e-2, log=True))
    valid, kept[trial.number] = fine_tuned(recipe, trial)
    return valid

# %% [markdown]
# The search. Of the models only the leader is kept:

# %%
def keep_best(study, trial):
    """Forget all models but the leader's: they are large."""
    for number in set(kept) - {study.best_trial.number}:
        del kept[number]


kept = {}
study = optuna.create_study(
    direction="maximize",
    sampler=optuna.samplers.TPESampler(seed=SEED, n_startup_trials=4),
    pruner=optuna.pruners.MedianPruner(2))
with stopwatch() as searching:
    study.optimize(objective, n_trials=REAL_TRIALS, callbacks=[keep_best])

# %% [markdown]
# Against it stands what the course's recipe does without any search, and a linear model
# on frozen vectors as scikit-learn sets it:

# %%
with stopwatch() as one_run:
    _, test_it = fine_tuned(recipes.full_finetuning(**common))
with stopwatch() as one_linear:
    _, linear_test = linear("vectors", 1.0)
default_test, chosen_test = test_it(), kept[study.best_trial.number]()

# %% [markdown]
# First what the search did, trial by trial:

# %%
def told(trial):
    return ", ".join(f"{name} {value:.2g}" if isinstance(value, float) else value
                     for name, value in trial.params.items())


show_table(
    [{"trial": t.number, "settings": told(t), "ended": t.state.name.lower(),
      "validation (%)": f"{t.value:.0f}" if t.value is not None else "",
      "seconds": t.duration.total_seconds()} for t in study.trials],
    f"{REAL_TRIALS} real trials in {searching.seconds:.0f} s",
)

# %%
error = 100 * (0.5 * 0.5 / len(reviews.test)) ** 0.5
print(f"default recipe: {default_test:.0f} % on {len(reviews.test)} test texts, "
      f"{one_run.seconds:.1f} s")
print(f"linear model:   {linear_test:.0f} %, {one_linear.seconds:.2f} s")
print(f"search:         {chosen_test:.0f} % ({told(study.best_trial)}), "
      f"{searching.seconds:.1f} s; validation promised {study.best_value:.0f} %")
print(f"one standard error of such a score is about {error:.0f} points")
claim("40.15", "times as long as a linear model on vectors: one default fine-tuning",
      one_run.seconds / one_linear.seconds, at_least=10)
claim("40.16", "test points that the search gains over the default recipe",
      chosen_test - default_test, at_most=12)

# %% [markdown]
# Read the last lines together: what was gained or **lost**, what it cost, and how large
# chance is. A search can end below the recipe that it was meant to improve, for three
# reasons. With a few dozen validation texts the choice among its trials is a lottery.
# Eight trials are few for a space with several kinds of model in it. And the sampler
# turns away from a kind after one poor trial of it. So give the default to the study as
# its **first trial** (`study.enqueue_trial`); then a search can only leave it for
# something that looked better. And use the seconds of the cheap kinds for validation
# texts rather than for more trials. What AutoML is good for here is to ask, in seconds,
# how far a linear model would get.
#
# ## 10 · Exercise: spend twenty trials well
#
# Your team has twenty trials for this head, on another task of the same kind. Hand in a
# search space, in the form of `SPACE` in section 4: only the settings that are worth
# searching (the others keep their defaults), with ranges and scales of which you have
# learnt something in sections 3, 6 and 8. The check reads it; nothing is run.

# %%
space_for_twenty = ...
# solution begin
space_for_twenty = {
    "rate": FloatDistribution(5e-4, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.6),
}
# solution end
check("40.1", space_for_twenty)

# %% [markdown]
# ## 11 · Exercise: an honest report
#
# Write `report(trials)`. Each trial has `valid`, `test` (percent) and `pruned`. Return
# two values: the number of the trial that you hand in, counted from 0, and the score
# that you report for it. Only finished trials count; a tie goes to the first.

# %%
def report(trials):
    # solution begin
    done = [i for i, trial in enumerate(trials) if not trial.pruned]
    number = max(done, key=lambda i: trials[i].valid)
    return number, trials[number].test
    # solution end


check("40.2", report)

# %% [markdown]
# ## 12 · Your data
#
# Take the vectors of a task of your own (lesson 10). Run the finder, then eleven rates,
# then twenty random trials, with three divisions into validation and test texts. Stop
# at the step whose gain is smaller than the differences between the divisions. Which
# step was it, and how many seconds had you spent by then?
#
# ## 13 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | search the learning rate first, alone, on a logarithmic scale | search six settings before the rate is right |
# | run the finder to see where the slopes are | take its number for the optimum |
# | start with random search: simple, parallel, hard to beat with few trials | expect a sampler to make up for a wrong range |
# | prune when trials are long and early scores tell | prune before the warm-up is over |
# | compare methods at equal budgets, and repeat | give your own method more trials than the baseline |
# | let validation choose and test report, once | report the validation score of the winner |
# | look whether the winner lies at the edge of its range | add trials when the range is wrong |
#
# **Cost of what you just ran:**

# %%
from course_utils.device import energy_wh

spent = {"searches": sum(map(sum, seconds.values())),
         "two processes": sum(whole for _, whole in together.values()),
         "AutoML": searching.seconds + one_run.seconds}
total = sum(spent.values())
print("; ".join(f"{name} {took:.0f} s" for name, took in spent.items())
      + f": about {energy_wh(total):.2f} Wh (an estimate)")

# %% [markdown]
# ## What you can do now
#
# - *Find a learning rate in a second, and judge it by a curve*: sections 2 and 3.
# - *Run a search: random, TPE, with pruning, in two processes*: sections 4, 7 and 9.
# - *Report what was found without fooling anybody*: sections 5, 8 and 11.

# %%
quiz("40")

# %% [markdown]
# **Further reading.** Bergstra, Bardenet, Bengio and Kégl (2011), *Algorithms for
# hyper-parameter optimization* (TPE). · Bergstra and Bengio (2012), *Random search for
# hyper-parameter optimization*. · Thornton, Hutter, Hoos and Leyton-Brown (2013),
# *Auto-WEKA*. · Hutter, Hoos and Leyton-Brown (2014), *An efficient approach for
# assessing hyperparameter importance*. · Smith (2017), *Cyclical learning rates for
# training neural networks*. · Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar (2018),
# *Hyperband*. · Akiba, Sano, Yanase, Ohta and Koyama (2019), *Optuna*. · Dodge,
# Gururangan, Card, Schwartz and Smith (2019), *Show your work: improved reporting of
# experimental results*.
