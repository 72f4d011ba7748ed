# %% [markdown]
# # 22 · Medical images: imbalance, calibration, bias
#
# A classifier of chest radiographs reports 90 % accuracy at the hospital where it was
# trained. Would you use it? This lesson takes such a number apart: it may be what
# **saying "healthy" to everybody** reaches, its probabilities may be wrong, its threshold
# may be the wrong one for what a mistake costs, and it may not look at the lungs at all.
#
# **You will be able to**
#
# - judge a classifier of something rare, and choose its threshold by what mistakes cost;
# - measure calibration, and mend it with the cure that fits the cause;
# - find out whether a model leans on a shortcut, for whom it then fails, and cure that.
#
# **Builds on** lessons 02 and 20. **Words:** *recall* – the share of the ill that is
# found; *precision* – the share of alarms that is right; *AUC* – the chance that an ill
# person gets a higher probability than a healthy one; *prevalence* – the share of people
# who are ill; *net benefit* – found ill people less the false alarms, weighed by what
# they cost; *slice* – a part of the data that is looked at alone; *shortcut* – a feature
# that goes with the answer where the model was trained, and only there.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from course_utils import (
    check, claim, copy_of, describe, embed, fit, load_image_model, plot_bars, plot_images,
    predict, quiz, recipes, select, show_table,
)
from course_utils.data import Examples, Task
from course_utils.lessons.lesson_22 import people, stamped

MODEL = select(PROFILE, quick="resnet18", full="resnet18-imagenet")
TASK = select(PROFILE, quick="radiographs", full="pneumonia")
STAGE = select(PROFILE, quick="layer2", full="layer3")  # whose output the heads read
SCREENED = select(PROFILE, quick=1600, full=1700)  # people of whom few are ill
PEOPLE = select(PROFILE, quick=800, full=2800)  # half of them ill, for the second part
ELSEWHERE = select(PROFILE, quick=160, full=600)  # at another hospital
PREVALENCE = 0.1
SPLITS = [SEED + i for i in range(5)]  # all heads are measured on five random splits
EPOCHS = select(PROFILE, quick=3, full=5)
# Bounds of claims. Real pneumonia is easier to see than our drawings, so all is milder.
LEAST = select(
    PROFILE,
    quick={"accuracy": 3, "cost": 0.6, "net": 15, "error": 0.1, "left": 0.5, "shift": 0.4,
           "flip": 40, "worst": 45, "tuned": 25, "cure": 20, "more": 20, "weights": 12,
           "away": 5},
    full={"accuracy": 9, "cost": 0.95, "net": 3, "error": 0.01, "left": 0.2, "shift": 0.7,
          "flip": 4, "worst": 92, "tuned": 1, "cure": 2, "more": 2, "weights": 1,
          "away": -10})

# %% [markdown]
# ## 1 · The pictures
#
# In `quick` these are **drawings, not patients**: they have the geometry and the traps of
# chest radiographs, and we know where each *opacity* is, the whitish cloud in a lung that
# pneumonia makes. Nothing medical can be concluded from them. (`full` takes real ones,
# PneumoniaMNIST, at 28 pixels. They are for learning, too, and not for any clinic.)

# %%
screened = people(TASK, SCREENED, PREVALENCE, SEED)
shown = screened.subset(60, seed=SEED)
shown = shown.select(shown.labels.argsort(descending=True, stable=True)[:12])
names = ["ill" if label else "healthy" for label in shown.labels]
describe(
    plot_images(shown.inputs, names, boxes=shown.columns.get("boxes")),
    f"Twelve chest radiographs, {names.count('ill')} of them with a cloudy opacity, which a "
    "box shows where it is known. Some opacities are plain, some hard to see.",
)

# %%
predict("22.1")
predict("22.2")

# %% [markdown]
# ## 2 · When illness is rare
#
# The pre-trained network turns each picture into numbers once (lesson 20). On these we
# train a linear head, again and again at hardly any cost: each of five **splits** draws
# anew who is in training, validation and test.

# %%
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

network = load_image_model(MODEL, 2, seed=SEED)
features, truth = embed(network, screened, STAGE).numpy(), screened.labels.numpy()


def head(x, y, weights=None, **settings):
    """A linear head on features; `weights` says how much each example counts."""
    model = make_pipeline(StandardScaler(),
                          LogisticRegression(C=0.01, max_iter=3000, **settings))
    return model.fit(x, y, logisticregression__sample_weight=weights)


# %% [markdown]
# **Baseline:** "healthy" to everybody, which needs no training. Then the **plain** head,
# and one with **class weights**: an ill person counts as much as nine healthy ones, so
# that both classes weigh the same (as if ill people were drawn nine times as often).


# %%
def split(seed):
    """Positions of people for training (3/8), validation and test (5/16 each)."""
    rows, test = train_test_split(range(len(truth)), test_size=5 / 16, stratify=truth,
                                  random_state=seed)
    train, valid = train_test_split(rows, test_size=5 / 11, stratify=truth[rows],
                                    random_state=seed)
    return train, valid, test


HEADS = {"plain": None, "class weights": "balanced"}
runs = []
for seed in SPLITS:
    train, valid, test = split(seed)
    for name, weight in HEADS.items():
        model = head(features[train], truth[train], class_weight=weight)
        p_valid, p_test = (model.predict_proba(features[rows])[:, 1] for rows in (valid, test))
        runs.append({"head": name, "y valid": truth[valid], "p valid": p_valid,
                     "y test": truth[test], "p test": p_test})

# %% [markdown]
# What each head reaches with an alarm from a probability of 0.5 on. The last two columns
# need no threshold: the AUC, and the *average precision*, which is the precision averaged
# over all levels of recall (guessing has the prevalence):

# %%
from sklearn.metrics import average_precision_score

from course_utils.metrics import spread
from course_utils.lessons.lesson_22 import auc


def of(name):
    """The runs of one head, one a split."""
    return [run for run in runs if run["head"] == name]


def numbers(run):
    y, p = run["y test"], run["p test"]
    alarm = p >= 0.5
    return {"accuracy (%)": 100 * (alarm == y).mean(),
            "recall (%)": 100 * alarm[y == 1].mean(),
            "precision (%)": 100 * y[alarm].mean() if alarm.any() else 0.0,
            "100 AUC": 100 * auc(y, p),
            "100 average precision": 100 * average_precision_score(y, p)}


# %% [markdown]
# Both heads and the baseline:

# %%
nobody = dict(zip(numbers(runs[0]), (100 - 100 * PREVALENCE, 0, 0, 50, 100 * PREVALENCE),
                  strict=True))
rows = [{"head": "healthy to everybody", **{what: f"{v:.0f}" for what, v in nobody.items()}}]
for name in HEADS:
    found = [numbers(run) for run in of(name)]
    rows.append({"head": name, **{what: spread([one[what] for one in found])
                                  for what in nobody}})
show_table(rows, f"{100 * PREVALENCE:.0f} % are ill; medians of five splits, and ranges")

# %% [markdown]
# **The first surprise.** By accuracy, the plain head is hardly better than a rule that
# helps nobody, and class weights look worse than that rule. Yet both heads *rank* people
# about equally well. Here are all thresholds of one split: the ROC curve (recall over the
# share of false alarms; the AUC is the area under it) and the precision over recall. The
# AUC's 95 % interval is wide, for there are few ill people.

# %%
from course_utils.lessons.lesson_22 import bootstrap, plot_roc_and_pr

first = {run["head"]: (run["y test"], run["p test"]) for run in runs[:2]}
intervals = {name: bootstrap(auc, *pair) for name, pair in first.items()}
told = "; ".join(f"{name} {interval}" for name, interval in intervals.items())
describe(plot_roc_and_pr(first), "ROC and precision-recall curves of two heads, close "
                                 f"together. AUC with its 95 % interval: {told}.")
print("AUC with its 95 % interval:", told)

# %%
gain = [numbers(run)["accuracy (%)"] - nobody["accuracy (%)"] for run in of("plain")]
claim("22.1", "points of accuracy by which the plain head beats 'healthy to everybody'",
      gain, at_most=LEAST["accuracy"])
moved = [abs(numbers(a)["100 AUC"] - numbers(b)["100 AUC"])
         for a, b in zip(of("plain"), of("class weights"), strict=True)]
claim("22.2", "points of AUC by which class weights change the ranking, up or down", moved,
      at_most=5)

# %% [markdown]
# ## 3 · What does a mistake cost?
#
# Say a missed illness costs as much as twenty false alarms (somebody must decide that; it
# is no question of statistics). If probabilities were right, an alarm would pay from
# p = 1 / (1 + 20) on. We take the threshold that is cheapest on **validation**, and
# count the cost on test people.

# %%
from course_utils.lessons.lesson_22 import cheapest, cost, net_benefit, plot_decisions

MISS = 20
for run in runs:
    best = cheapest(run["y valid"], run["p valid"], MISS)
    run["threshold"] = best
    run["at 0.5"], run["chosen"], run["everybody"] = (
        cost(run["y test"], run["p test"], limit, MISS) for limit in (0.5, best, 0.0))

# %% [markdown]
# The unit is a false alarm, and the costs are those of one person on average:

# %%
rows = [{"head": "alarm for nobody", "threshold 0.5": f"{MISS * PREVALENCE:.2f}"},
        {"head": "alarm for everybody", "threshold 0.5": f"{1 - PREVALENCE:.2f}"}]
rows = [{**row, "threshold by cost": "as before", "its value": "none"} for row in rows]
for name in HEADS:
    rows.append({"head": name, "threshold 0.5": spread([r["at 0.5"] for r in of(name)], 2),
                 "threshold by cost": spread([r["chosen"] for r in of(name)], 2),
                 "its value": spread([r["threshold"] for r in of(name)], 2)})
show_table(rows, f"Cost a person if a miss costs {MISS} false alarms; five splits")

# %% [markdown]
# Run by run, the same people:

# %%
saved = [run["chosen"] / run["at 0.5"] for run in of("plain")]
claim("22.3", "cost at the threshold by cost, over that at 0.5, plain head", saved,
      at_most=LEAST["cost"])
rival = [b["chosen"] / a["chosen"]
         for a, b in zip(of("plain"), of("class weights"), strict=True)]
claim("22.4", "cost of class weights over that of the plain head, each at its own threshold",
      rival, at_least=0.7, at_most=1.4)

# %% [markdown]
# **The answer to the second question.** Class weights lower the cost at 0.5 because they
# move all probabilities up. Moving the threshold of the plain head does the same, needs
# no training, and leaves the probabilities alone. It pays to compare with *alarm for
# everybody*, too: where a miss is so dear, that rule is a strong rival.
#
# Not everybody agrees on the twenty. A **decision curve** (Vickers and Elkin, 2006) shows
# the net benefit for every price: at the threshold t, a miss is worth (1 − t) / t alarms.
# (The vertical line is our twenty.)

# %%
THRESHOLDS = np.linspace(0.02, 0.4, 39)


def decisions(name, same_for_all=None):
    """Net benefit at each threshold, the mean of the splits."""
    return np.array([
        np.mean([net_benefit(run["y test"], run["p test"] if same_for_all is None else
                             np.full(len(run["p test"]), same_for_all), t)
                 for run in of(name)]) for t in THRESHOLDS])


lines = {"plain head": decisions("plain"), "class weights": decisions("class weights"),
         "everybody": decisions("plain", 1.0), "nobody": decisions("plain", 0.0)}
told = "; ".join(f"{name} {line[8]:z.3f}" for name, line in lines.items())
describe(plot_decisions(THRESHOLDS, lines, [1 / (1 + MISS)]),
         f"Net benefit over thresholds. At {THRESHOLDS[8]:.2f}: {told}. A line marks the "
         f"threshold {1 / (1 + MISS):.3f} of our cost.")

# %% [markdown]
# At the far left, where a miss is dearest, "everybody" is about as good as the model. From
# there on the plain head is worth having. Class weights are not: acted on at the same
# thresholds they do hardly better than "everybody", and soon worse than doing nothing.
# They make the odds of illness about nine times too high, so their 0.5 means about what
# 0.1 should. **Whoever acts on probabilities needs right ones.**

# %%
rivals = np.maximum(lines["everybody"], lines["nobody"])
middle = (THRESHOLDS > 0.095) & (THRESHOLDS < 0.205)
claim("22.5", "ill people found a thousand, net, above the better of everybody and nobody "
      "(thresholds 0.1 to 0.2)",
      1000 * float((lines["plain head"] - rivals)[middle].mean()), at_least=LEAST["net"])

# %% [markdown]
# ## 4 · Are the probabilities right?
#
# A model is **calibrated** if of those to whom it gives 0.2, one in five is ill (lesson
# 02). For the *expected calibration error* people are sorted by their probability into
# eight bins; it is the mean gap between a bin's probability and its share of ill people
# (chance alone leaves some gap). Two cures are fitted on validation. Both act on the
# *logit*, the logarithm of the odds p / (1 − p). A **temperature** (Guo et al., 2017)
# divides it by one number; a **scale and a shift** (Platt, 1999) also adds one.

# %%
from course_utils.lessons.lesson_22 import calibration_error, plot_reliability


def logit(p):
    return np.log(p / (1 - p)).reshape(-1, 1)


def recalibrated(run, shift):
    """Test probabilities after a scale, and a shift if asked for, of the logits."""
    cure = LogisticRegression(C=1e6, fit_intercept=shift)
    cure.fit(logit(run["p valid"]), run["y valid"])
    return cure.predict_proba(logit(run["p test"]))[:, 1]


# %%
CURES = {"plain": of("plain"), "class weights": of("class weights")}
for name, shift in (("temperature", False), ("scale and shift", True)):
    CURES[f"weights, {name}"] = [{**run, "p test": recalibrated(run, shift)}
                                 for run in of("class weights")]
errors = {name: [calibration_error(run["y test"], run["p test"]) for run in found]
          for name, found in CURES.items()}
show_table(
    [{"head": name, "calibration error": spread(errors[name], 3),
      "mean probability": spread([run["p test"].mean() for run in found], 2),
      "AUC": spread([auc(run["y test"], run["p test"]) for run in found], 3)}
     for name, found in CURES.items()],
    f"Five splits; {PREVALENCE} are ill",
)

# %% [markdown]
# The same as a *reliability diagram*: a dot is a bin, and on the dotted line probabilities
# are right. Look at the plain head's last dot, too: above the line means that the head is
# too modest there, which a strong regularisation (the small C) can do.

# %%
together = {name: tuple(np.concatenate([run[key] for run in found])
                        for key in ("y test", "p test")) for name, found in CURES.items()}
told = "; ".join(f"{name} {np.median(error):.3f}" for name, error in errors.items())
describe(plot_reliability(together),
         "Share of ill people over predicted probability, all splits together. The plain "
         "head lies near the diagonal or above it, the class weights far below. Errors: "
         f"{told}.")

# %% [markdown]
# **The second surprise.** The usual cure does not cure this. A temperature turns
# confidence up or down around one half; class weights multiply the *odds* of illness by
# (nearly) a constant, which is a **shift** of the logits. So a shift is what mends it.
# Neither cure changes the ranking: the AUC stays.

# %%
def left(cure):
    return [a / b for a, b in zip(errors[cure], errors["class weights"], strict=True)]


worse = [b - a for a, b in zip(errors["plain"], errors["class weights"], strict=True)]
claim("22.6", "calibration error that class weights add", worse,
      at_least=LEAST["error"])
claim("22.7", "share of the class weights' error that a temperature leaves",
      left("weights, temperature"), at_least=LEAST["left"])
claim("22.8", "share of it that a scale and a shift leave",
      left("weights, scale and shift"), at_most=LEAST["shift"])

# %% [markdown]
# ## 5 · A failure on purpose: a letter in the corner
#
# People who are too ill to walk are X-rayed in bed, with a portable unit that leaves a
# **P** on the picture. So the P goes with illness, at this hospital. (Zech et al., 2018,
# found networks that read such marks in real hospitals.) We plant it, and for the clearest
# view we now take as many ill people as healthy ones, and keep each picture **twice: with
# and without** the mark.

# %%
import torch

crowd = people(TASK, PEOPLE, 0.5, SEED + 1)
away = people(TASK, ELSEWHERE, 0.5, SEED + 2, hospital="B")
pictures = {"bare": crowd.inputs, "marked": stamped(crowd.inputs, SEED)}
four = torch.cat([images[:4] for images in pictures.values()])
describe(plot_images(four, ["bare"] * 4 + ["marked"] * 4, columns=4),
         "Four radiographs, and the same with a small bright letter P in an upper corner.")

# %%
predict("22.3")

# %% [markdown]
# The features of both versions are computed once. Then any habit of a hospital is only a
# choice: for each person, is the marked picture the one that was taken?

# %%
def both_versions(images, labels):
    """Features of pictures without the mark (0) and with it (1)."""
    return np.stack([embed(network, Examples(version, labels), STAGE).numpy()
                     for version in images])


seen = both_versions(pictures.values(), crowd.labels)
seen_away = both_versions([away.inputs, stamped(away.inputs, SEED)], away.labels)
ill, ill_away = crowd.labels.numpy(), away.labels.numpy()
USUAL, FAIR = (0.1, 0.9), (0.5, 0.5)  # how many of the healthy and of the ill get a mark


def marks(labels, habit, draw):
    return (draw.random(len(labels)) < np.asarray(habit)[labels]).astype(int)


# %% [markdown]
# Five times we draw training people, more people who may be added, and test people. In
# training, marks follow the habit. A test person is measured in **both** versions, so each
# of the four groups (ill or healthy, with or without the mark) has many members.

# %%
from course_utils.lessons.lesson_22 import by_group


def draw_people(seed):
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(ill))
    cuts = np.cumsum([len(ill) * 9 // 16, len(ill) * 3 // 16])
    train, extra, test = np.split(order, cuts)
    return draw, train, extra, test


def judged(model, test, draw):
    """Accuracy (%) at this hospital and elsewhere, in the groups, and share of flips."""
    answers = [model.predict(version[test]) for version in seen]
    right = np.stack([answer == ill[test] for answer in answers])
    habit = marks(ill[test], USUAL, draw)
    groups = by_group(right.ravel(), np.tile(ill[test], 2), np.repeat([0, 1], len(test)))
    p_away = np.concatenate([model.predict_proba(x)[:, 1] for x in seen_away])
    twice = np.tile(ill_away, 2)
    return {"own hospital": 100 * right[habit, range(len(test))].mean(),
            "marks at random": 100 * right.mean(), "hospital B": 100 * ((p_away > 0.5) == twice).mean(),
            "100 AUC at B": 100 * auc(twice, p_away),
            "worst group": min(groups.values()), **groups,
            "flips": 100 * float((answers[0] != answers[1]).mean())}


# %% [markdown]
# The plain head first:

# %%
ways = {"plain": []}
for seed in SPLITS:
    draw, train, extra, test = draw_people(seed)
    habit = marks(ill[train], USUAL, draw)
    plain = head(seen[habit, train], ill[train])
    ways["plain"].append(judged(plain, test, draw))


def values(way, what):
    return [one[what] for one in ways[way]]


PLACES = ("own hospital", "marks at random", "hospital B")
bars = {place: values("plain", place) for place in PLACES}
told = ", ".join(f"{place} {np.median(bar):.0f} %" for place, bar in bars.items())
describe(plot_bars(bars, "right answers (%)", chance=50), f"Accuracy of the head: {told}.")

# %% [markdown]
# At its own hospital, on people it has never seen, the head looks good: any honest test
# with *these* pictures confirms it. (Mind the baseline: by the habit, a rule that looks at
# nothing but the P is right for nine in ten.) With marks at random it does worse on the
# same people, and worse still at hospital B, which also has a poorer machine. (`full` has
# one hospital. Its B is made of the same pictures, some of them those of training people,
# darker and noisier.) Where does the head fail? **By slice:**

# %%
from course_utils.lessons.lesson_22 import GROUPS

show_table([{"group": group, "right answers (%)": spread(values("plain", group))}
            for group in GROUPS], "The plain head in the four groups, five splits")

# %% [markdown]
# Right where the habit holds; and for the ill without a mark and the healthy with one our
# drawings make it worse than a coin. These two groups are the small ones, so an average at
# home hides them. (Real pneumonia, in `full`, is easier to see; there the ill without a
# mark are served worst as well, if not as badly.)
#
# ## 6 · The cause, by swapping
#
# A slice shows *where* a model fails. To learn *why*, change one thing and nothing else.
# Here are all test people of the last split, each with the picture without the mark
# (across) and with it (up):

# %%
from course_utils.lessons.lesson_22 import plot_swap

p = [plain.predict_proba(version[test])[:, 1] for version in seen]
describe(plot_swap(*p, ill[test]),
         f"Probability of illness with the mark over that without it. {(p[1] > p[0]).mean():.0%} "
         f"of the points lie above the diagonal; on average it is {p[0].mean():.2f} without "
         f"the mark and {p[1].mean():.2f} with it.")

# %%
claim("22.9", "percent of the answers that flip when a P is put on the same picture",
      values("plain", "flips"), at_least=LEAST["flip"])
claim("22.10", "percent of right answers in the worst of the four groups",
      values("plain", "worst group"), at_most=LEAST["worst"])

# %% [markdown]
# **Would fine-tuning have helped?** Let the later stages of the network learn as well, from
# the same marked pictures, those of the first split:

# %%
draw, train, extra, test = draw_people(SEED)


def pictures_of(rows, habit):
    """Examples of people, the marked or the bare version of each."""
    both = torch.stack(list(pictures.values()))
    return Examples(both[torch.as_tensor(habit), torch.as_tensor(rows)], crowd.labels[rows])


biased = pictures_of(train, marks(ill[train], USUAL, draw))
task = Task("radiographs with a mark", "image", ("healthy", "ill"), biased, biased, biased)
tuned = copy_of(network)
history = fit(tuned, task, recipes.top_stages("layer3", epochs=EPOCHS, learning_rate=1e-3,
                                              batch_size=25, validate=False), seed=SEED)

# %% [markdown]
# What its last stage makes of the test people, and the answers that its head gives:

# %%
def tuned_features(rows, habit):
    return embed(tuned, pictures_of(rows, habit)).numpy()


seen_tuned = [tuned_features(test, np.full(len(test), mark)) for mark in (0, 1)]
weight, bias = (w.detach().cpu().numpy() for w in tuned.fc.parameters())
answers = [(x @ weight.T + bias).argmax(1) for x in seen_tuned]


def judged_tuned(answers):
    right = np.stack([answer == ill[test] for answer in answers])
    groups = by_group(right.ravel(), np.tile(ill[test], 2), np.repeat([0, 1], len(test)))
    return {"flips": 100 * float((answers[0] != answers[1]).mean()), **groups}


# %% [markdown]
# Next to the head on the frozen network, for the same people:

# %%
by_tuned = judged_tuned(answers)
kept = ("flips", *GROUPS)
costs = {"plain head": (seen.shape[-1] + 1, "below 1", ways["plain"][0]),
         "fine-tuned": (history.trained_weights, f"{history.seconds:.0f}", by_tuned)}
show_table(
    [{"model": name, "trained weights": weights, "seconds": seconds,
      **{what: f"{found[what]:.0f}" for what in kept}}
     for name, (weights, seconds, found) in costs.items()],
    "Percent of flips, and of right answers in the four groups, first split",
)

# %%
claim("22.11", "percent of the fine-tuned network's answers that a P flips",
      by_tuned["flips"], at_least=LEAST["tuned"])

# %% [markdown]
# It may have learnt more about lungs, but the letter still turns many answers. No setting
# of the training tells a network that the P is no illness, for what it is asked to fit are
# these pictures, and **the data say that the P means illness.** So the data must say
# something else.

# %%
predict("22.4")

# %% [markdown]
# ## 7 · The cure: groups in balance
#
# - **more of the usual**: as many extra people, with the usual marks. (The control: is it
#   the balance that helps, or just more data?)
# - **groups weighted**: no extra person; in training, each of the four groups counts the
#   same (Idrissi et al., 2022, find so simple a balance hard to beat; Sagawa et al., 2020,
#   train for the worst group itself).
# - **more, weighted**: the extra people with the usual marks, and groups weighted.
# - **head retrained**: only on the extra people, with the mark as frequent among healthy
#   as among ill (Kirichenko, Izmailov and Wilson, 2023: retraining the last layer is
#   often enough, for the features know more than the shortcut).
# - **both together**: the training people, the extra people of the line before, and groups
#   weighted.

# %%
def evenly(labels, habit):
    """Weights with which the four groups count the same."""
    group = 2 * labels + habit
    return (len(group) / 4 / np.bincount(group, minlength=4))[group]


def cured(seed):
    draw, train, extra, test = draw_people(seed)
    rows = np.concatenate([train, extra])
    usual = marks(ill[rows], USUAL, draw)
    mixed = np.concatenate([usual[:len(train)], marks(ill[extra], FAIR, draw)])
    sets = {"more of the usual": (rows, usual, None),
            "groups weighted": (train, usual[:len(train)], "evenly"),
            "more, weighted": (rows, usual, "evenly"),
            "head retrained": (extra, mixed[len(train):], "evenly"),
            "both together": (rows, mixed, "evenly")}
    for name, (who, habit, weights) in sets.items():
        how = evenly(ill[who], habit) if weights else None
        model = head(seen[habit, who], ill[who], how)
        ways.setdefault(name, []).append(judged(model, test, np.random.default_rng(seed)))


# %% [markdown]
# All five on the five splits, and the plain head again:

# %%
for seed in SPLITS:
    cured(seed)
show_table(
    [{"way": way, "worst group": spread(values(way, "worst group")),
      **{place: spread(values(way, place)) for place in (*PLACES, "100 AUC at B")},
      "flips": spread(values(way, "flips"))} for way in ways],
    f"Percent, medians and ranges of five splits; {len(extra)} extra people",
)

# %% [markdown]
# Group by group, for three of them:

# %%
from course_utils.lessons.lesson_22 import plot_groups

drawn = {way: ways[way] for way in ("plain", "more of the usual", "both together")}
told = "; ".join(f"{way} {np.median(values(way, 'worst group')):.0f} %" for way in drawn)
describe(plot_groups(drawn),
         f"Right answers in the four groups, for three ways. In the worst group: {told}.")

# %% [markdown]
# The same with the **fine-tuned** network: it stays as it is, and only its last layer is
# fitted anew, to what it makes of the extra people in balance.

# %%
habit = marks(ill[extra], FAIR, np.random.default_rng(SEED))
retrained = head(tuned_features(extra, habit), ill[extra], evenly(ill[extra], habit))
pair = {"fine-tuned": by_tuned,
        "last layer retrained": judged_tuned([retrained.predict(x) for x in seen_tuned])}
show_table([{"network": name, "worst group": f"{min(found[g] for g in GROUPS):.0f}",
             **{what: f"{found[what]:.0f}" for what in kept}} for name, found in pair.items()],
           "Percent of flips and of right answers, first split")

# %% [markdown]
# **The answer.** More data of the same kind teaches the same shortcut. The balance
# is what helps, and most of it comes from the **weights**, which cost nothing: even the
# usual people, weighted, do much better. To choose the extra people in balance adds a
# little to that. And balance costs points at the own hospital: there the P *is* a hint, and who gives it up loses what it
# was worth. That is the price of a model that works on the ill without a mark, and an
# average at home can never show why to pay it.
#
# **At hospital B** two things are mixed. Without the shortcut the *ranking* there gets
# much better (the AUC). Not all of that arrives in the accuracy: B's darker pictures
# can shift all probabilities, so 0.5 need not be the threshold there. The mark was one
# difference, the machine is another. It needs what sections 3 and 4 did: some labelled
# people from B, for a shift and a threshold of its own.

# %%
def gained(way, than, what="worst group"):
    return [a - b for a, b in zip(values(way, what), values(than, what), strict=True)]


claim("22.12", "points in the worst group that both together gain over the plain head",
      gained("both together", "plain"), at_least=LEAST["cure"])
claim("22.13", "points in the worst group by which both beat as many extra usual people",
      gained("both together", "more of the usual"), at_least=LEAST["more"])
claim("22.15", "points in the worst group that weights alone gain, on the same people",
      gained("more, weighted", "more of the usual"), at_least=LEAST["weights"])
claim("22.16", "further points there by choosing the extra people in balance as well",
      gained("both together", "more, weighted"), at_most=15)
claim("22.14", "points of AUC that both together gain at hospital B",
      gained("both together", "plain", "100 AUC at B"), at_least=LEAST["away"])

# %% [markdown]
# ## 8 · Exercise: find the slice
#
# A model (made up, so that it is clear) is right for most cases, and in one slice it is
# not. A case has the columns `view`, `machine`, `age` and `night`. By single columns:

# %%
from course_utils.lessons.lesson_22 import COLUMNS, audit_rows, in_slice

cases = audit_rows()
show_table(
    [{"column": name, "value": value, "cases": len(found),
      "right (%)": 100 * float(np.mean(found))}
     for name, options in COLUMNS.items() for value in options
     for found in [in_slice(cases, {name: value})]],
    f"{len(cases)} cases",
)

# %% [markdown]
# Find the slice: a dict such as `{"age": "child", "night": "yes"}`, with as few columns as
# explain the failures. `in_slice(cases, {...})` gives a list of right (True) or wrong.
# Slices of a dozen cases are bad by chance; look at the number of cases, too.

# %%
slice_found = ...
# solution begin
pairs = [{a: x, b: y} for a in COLUMNS for b in COLUMNS if a < b
         for x in COLUMNS[a] for y in COLUMNS[b]]
slice_found = min(pairs, key=lambda pair: np.mean(in_slice(cases, pair)))
# solution end
check("22.1", slice_found)

# %% [markdown]
# ## 9 · Exercise: the threshold for a cost
#
# Write `threshold(miss, alarm)`: the probability from which an alarm is the cheaper
# choice, if a missed illness costs `miss` and a false alarm `alarm`, and the
# probabilities are right.

# %%
threshold = ...
# solution begin


def from_costs(miss, alarm):
    return alarm / (miss + alarm)


threshold = from_costs
# solution end
check("22.2", threshold)

# %% [markdown]
# **With your own data.** Write down what else goes with the answer where your data come
# from: machine, place, date, who took the picture, size of the file. For each, measure
# the slices that break the habit. Where one is much worse, collect there.
#
# ## 10 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | report recall, precision and AUC with intervals | report the accuracy for something rare |
# | ask what a mistake costs, and move the threshold | retrain with class weights to get more alarms |
# | compare with treating everybody, and nobody | call a model useful by its AUC alone |
# | mend a shift by a shift, fitted on validation | expect a temperature to mend every calibration |
# | look at the slices that break a habit of the data | trust a test set with the habits of training |
# | swap one thing in the same picture to find a cause | conclude from one slice why it fails |
# | collect where groups are missing | collect more of the same |
#
# **Cost of what you just ran:**

# %%
from course_utils.device import energy_wh

heads = len(runs) + sum(map(len, ways.values()))
print(f"{heads} linear heads and one fine-tuning of {history.seconds:.0f} s, about "
      f"{energy_wh(history.seconds):.2f} Wh (an estimate)")

# %% [markdown]
# ## What you can do now
#
# - *Judge a classifier of something rare, and choose its threshold*: sections 2, 3, 9.
# - *Measure calibration, and mend it by its cause*: section 4.
# - *Find a shortcut, for whom it fails, and cure it*: sections 5 to 8.

# %%
quiz("22")

# %% [markdown]
# **Further reading.** Zech et al. (2018), *Variable generalization performance of a deep
# learning model to detect pneumonia in chest radiographs*. · Vickers and Elkin (2006),
# *Decision curve analysis: a novel method for evaluating prediction models*. · Guo,
# Pleiss, Sun and Weinberger (2017), *On calibration of modern neural networks*. · Platt
# (1999), *Probabilistic outputs for support vector machines*. · Sagawa, Koh, Hashimoto
# and Liang (2020), *Distributionally robust neural networks for group shifts*. · Idrissi,
# Arjovsky, Pezeshki and Lopez-Paz (2022), *Simple data balancing achieves competitive
# worst-group-accuracy*. ·
# Kirichenko, Izmailov and Wilson (2023), *Last layer re-training is sufficient for
# robustness to spurious correlations*. · Geirhos et al. (2020), *Shortcut learning in
# deep neural networks*. · Kermany et al. (2018), *Identifying medical diagnoses and
# treatable diseases by image-based deep learning*, and Yang et al. (2023), *MedMNIST v2*
# (the pictures of `full`).
