# %% [markdown]
# # 21 · Overfitting and its cures
#
# Thirty-six labelled pictures, six of them with a wrong label: that is what an hour of
# labelling gives. A network with millions of weights learns all of them by heart in
# seconds, the wrong ones too. Books list the cures: weight decay, dropout, stopping
# early, label smoothing, augmentation, mixup, CutMix. This lesson gives **each of them
# the same pictures**, and asks which help, which do nothing, and what one would have
# gained by labelling more pictures instead.
#
# **You will be able to**
#
# - see from curves that a run overfits, and tell "wrong more often" from "too sure";
# - switch seven cures on, in a recipe or in a loop of your own, and measure each against
#   a baseline with paired differences;
# - judge whether an augmentation fits your task, before it does harm.
#
# **Builds on** lesson 20. **Words:** *overfitting* – learning what holds for the
# training pictures; *regularisation* – whatever makes that harder; *augmentation* –
# changing pictures at random in ways that leave their label true; *confidence* – the
# probability that a model gives its own answer; *logits* – its outputs before they
# become probabilities.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from course_utils import (
    check, choose_compute, claim, copy_of, describe, embed, fit, load_image_model,
    load_task, plot_bars, plot_images, plot_lines, predict, quiz, recipes, run_stages,
    seed_everything, select, set_mode, show_table, stages, stopwatch, train_from,
)

# %% [markdown]
# The settings. Flowers, in the full profile, have their own say in what claims ask for.

# %%
MODEL = select(PROFILE, quick="resnet18", full="resnet18-imagenet")
TASK = select(PROFILE, quick="surface", full="flowers")
SETTINGS = select(
    PROFILE, quick={"train": 144, "valid": 48, "test": 240, "difficulty": 0.2},
    full={"size": 128},
)
TRAIN = select(PROFILE, quick=36, full=510)  # labelled pictures, drawn anew for each seed
WRONG = 1 / 6  # share of them with a wrong label
TEST = select(PROFILE, quick=240, full=2000)
SEEDS = [SEED, SEED + 1, SEED + 2]
LAST = select(PROFILE, quick="layer3", full="layer4")  # the stage that we train
BLOCKS = select(PROFILE, quick=1, full=2)  # of its two blocks, those that we keep
EPOCHS, BATCH = select(PROFILE, quick=(8, 6), full=(30, 16))
LEARNING_RATE, HEAD_RATE = select(PROFILE, quick=(3e-3, 1e-2), full=(3e-4, 1e-2))
LEAST = select(
    PROFILE,
    quick={"gap": 1, "clueless": 0.9, "decay": 3, "stop": 1, "calm": 0.03, "sure": 2,
           "turns": 0.03, "twice": 4, "label": -4, "gone": 6, "crop": 1,
           "cutmix": 3},
    full={"gap": 0, "clueless": 0, "decay": 5, "stop": -10, "calm": -1, "sure": -5,
          "turns": -1, "twice": 0, "label": -5, "gone": 1, "crop": -10,
          "cutmix": 20},
)

# %% [markdown]
# ## 1 · Few pictures, and some wrong labels
#
# The defects of lesson 20 again. Each seed draws its own pictures, and a sixth of them
# get a wrong label, as it happens when people label in a hurry. Validation and test
# pictures have right ones.

# %%
from course_utils.lessons.lesson_21 import with_mistakes

task = load_task(TASK, seed=SEED, **SETTINGS).limited(test=TEST, seed=SEED)
TRAIN = min(TRAIN, len(task.train) // 2)  # so that twice as many can be had


def drawn(count, wrong=WRONG):
    """For each seed so many training pictures, a share of them with wrong labels."""
    classes = len(task.classes)
    return {seed: with_mistakes(task.train.subset(count, seed), wrong, classes, seed)
            for seed in SEEDS}


few, right = drawn(TRAIN), drawn(TRAIN, wrong=0)

# %% [markdown]
# Twelve of them, as the network gets them. Six with right labels, six with wrong ones:

# %%
mistaken = few[SEED].labels != right[SEED].labels
rows = torch.cat([(~mistaken).nonzero()[:6], mistaken.nonzero()[:6]]).flatten()
shown, true = few[SEED].select(rows), right[SEED].labels[rows]
names = [
    task.classes[label] + ("" if label == other else f"\n(is: {task.classes[other]})")
    for label, other in zip(shown.labels, true, strict=True)
]
listed = ", ".join(names).replace("\n", " ")
describe(plot_images(shown.inputs, names),
         f"Twelve of {TRAIN} training pictures with their labels: {listed}.")

# %% [markdown]
# Our network is the ResNet-18 up to `layer3`, one of the middle stages, which knew more
# about defects than the last one in lesson 20. Of its two blocks we keep the first: that
# is enough here, and a run takes half the time. What lies before `layer3` stays frozen.

# %%
trunk = load_image_model(MODEL, len(task.classes), seed=SEED)
setattr(trunk, LAST, getattr(trunk, LAST)[:BLOCKS])
later = ["layer1", "layer2", "layer3", "layer4"]
for name in later[later.index(LAST) + 1 :]:
    setattr(trunk, name, torch.nn.Identity())
width = getattr(trunk, LAST)[-1].bn2.num_features

# %% [markdown]
# Each run gets a copy with a new head. Dropout stands ready before it, switched off.


# %%
def fresh(seed, dropout=0.0):
    """A copy of the pre-trained network up to `LAST`, with a new head."""
    seed_everything(seed)
    model, head = copy_of(trunk), torch.nn.Linear(width, len(task.classes))
    model.fc = torch.nn.Sequential(torch.nn.Dropout(dropout), head)
    return model.to(choose_compute().device)


# %% [markdown]
# Every run is measured on the test pictures in **four ways**: the share of right
# answers; the *test loss* (the mean of minus the logarithm of the probability of the
# right class); the mean confidence; and *too sure*, confidence minus accuracy, in
# points. A model that is right in 60 % of the cases where it says 60 % is *calibrated*;
# ours should be near zero. What the frozen stages make of the test pictures is the same
# for all runs, so it is computed once.


# %%
@torch.no_grad()
def passed(parts, inputs):
    """What some stages, in eval mode, make of inputs."""
    set_mode(parts, False)
    return torch.cat([run_stages(parts, piece) for piece in inputs.split(64)])


start = fresh(SEED)
FIRST = train_from(stages(start), LAST)  # the number of the first trained stage
test_pictures = task.test.inputs.to(choose_compute().device)
handed_over = passed(stages(start)[:FIRST], test_pictures)

# %% [markdown]
# A run ends here:


# %%
def measured(model, seconds):
    logits = passed(stages(model)[FIRST:], handed_over).float().cpu()
    labels = task.test.labels
    hits = (logits.argmax(1) == labels).double().numpy()
    sure = logits.softmax(1).amax(1).mean().item()
    return {"right": hits, "accuracy": 100 * hits.mean(),
            "loss": F.cross_entropy(logits, labels).item(),
            "too sure": 100 * (sure - hits.mean()), "seconds": seconds}


# %% [markdown]
# ## 2 · Baselines first
#
# **Knowing nothing**: the same probability for every class. Its accuracy is chance, and
# its loss the logarithm of the number of classes, *whatever* the right answers are. And
# a **linear probe** as in lesson 20: a logistic regression on the frozen features.

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

chance, clueless = 100 / len(task.classes), math.log(len(task.classes))
maps = passed(stages(start)[FIRST : FIRST + 1], handed_over)  # what `LAST` makes of them
test_features, probes = maps.mean((2, 3)).cpu().numpy(), []
for pictures in few.values():
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    probe.fit(embed(start, pictures, LAST).numpy(), pictures.labels)
    probes.append(100 * probe.score(test_features, task.test.labels))
print(f"knowing nothing: accuracy {chance:.0f} %, loss {clueless:.2f}; linear probe: "
      + ", ".join(f"{accuracy:.0f} %" for accuracy in probes))

# %% [markdown]
# Now the baseline that all cures have to beat: `LAST` and the head are trained, with
# **no regularisation at all**. This one is validated after each epoch, to get curves.

# %%
predict("21.1")
predict("21.2")

# %% [markdown]
# All runs share these settings; a cure changes one field of the recipe.

# %%
common = dict(epochs=EPOCHS, batch_size=BATCH, learning_rate=LEARNING_RATE,
              head_learning_rate=HEAD_RATE, weight_decay=0.0, validate=False)


def recipe(name, **changes):
    return recipes.top_stages(LAST, **{**common, "name": name, **changes})


def run(recipe, seed, train=few, dropout=0.0):
    """Train a fresh network on a seed's pictures and measure it."""
    model = fresh(seed, dropout)
    history = fit(model, task.with_train(train[seed]), recipe, seed=seed, silent=True)
    return {**measured(model, history.seconds), "history": history}


plain = recipe("nothing", validate=True)
runs = {"nothing": [run(plain, seed) for seed in SEEDS]}

# %% [markdown]
# ## 3 · Curves that come apart

# %%
def over_epochs(what, scale=1.0):
    """A list for each epoch, with a value a seed."""
    columns = [one["history"].column(what) for one in runs["nothing"]]
    return [[scale * value for value in epoch] for epoch in zip(*columns, strict=True)]


train_loss, valid_loss = over_epochs("train_loss"), over_epochs("valid_loss")
numbers = range(1, EPOCHS + 1)
axes = plot_lines(numbers, {"training": train_loss, "validation": valid_loss},
                  "epoch", "loss (nats)")
axes.axhline(clueless, color="0.3", linestyle=":")
axes.annotate("knowing nothing", (EPOCHS, clueless), (0, -12), ha="right",
              textcoords="offset points")
ends = [np.median(line[i]) for line in (train_loss, valid_loss) for i in (0, -1)]
describe(axes, f"Losses over {EPOCHS} epochs, three seeds. Training falls from "
               "{:.2f} to {:.2f}, validation goes from {:.2f} to {:.2f}. ".format(*ends)
               + f"Knowing nothing would be {clueless:.2f}.")

# %% [markdown]
# The textbook says: stop, it overfits. Here is the accuracy on the same pictures, in the
# same epochs:

# %%
accuracies = over_epochs("valid_accuracy", 100)
axes = plot_lines(numbers, {"validation": accuracies}, "epoch", "accuracy (%)")
axes.axhline(chance, color="0.3", linestyle=":")
axes.annotate("guessing", (EPOCHS, chance), (0, 4), ha="right",
              textcoords="offset points")
axes.set_ylim(bottom=0)
describe(axes, "Validation accuracy over the epochs, three seeds: the median goes from "
               f"{np.median(accuracies[0]):.0f} to {np.median(accuracies[-1]):.0f} %.")

# %% [markdown]
# **The surprise.** By its loss the trained network is *no better than one that knows
# nothing*. By its accuracy it is far better than guessing. Both are true. Accuracy asks
# only which class comes first. The loss asks how much probability the right class got,
# and a network that has learnt wrong labels by heart is very sure where it is wrong.
# Overfitting shows first as **being too sure**.

# %%
def values(name, what):
    return [one[what] for one in runs[name]]


gaps = [one["history"].epochs[-1] for one in runs["nothing"]]
claim("21.1", "nats by which the last validation loss is above the last training loss",
      [last.valid_loss - last.train_loss for last in gaps], at_least=LEAST["gap"])
claim("21.2", "test loss without any cure, in multiples of that of knowing nothing",
      [loss / clueless for loss in values("nothing", "loss")], at_least=LEAST["clueless"])
claim("21.3", "test accuracy without any cure, in multiples of guessing",
      [found / chance for found in values("nothing", "accuracy")], at_least=1.4)

# %% [markdown]
# ## 4 · Cures that are a field of the recipe
#
# - **Weight decay** pulls all weights towards zero a little at each step.
# - **Dropout** (Srivastava et al., 2014) leaves out half of the features, others at each
#   step, before the head.
# - **Early stopping**: end when the validation loss has not fallen for three epochs
#   (`patience`), and keep the best weights (`keep_best`).
# - **Label smoothing** (Szegedy et al., 2016): a tenth of the target goes to all classes
#   alike, so that being entirely sure no longer pays.
# - **Augmentation**: at each step the pictures are changed at random (`augment`).
#
# A surface has no up and no left, so its defects may be turned and mirrored. **Mind
# this:** a transform of `torchvision.transforms.v2` that is given a whole batch draws
# *once for all its pictures*. We want each picture to get its own:


# %%
def turn_and_flip(images):
    """Each picture by a random quarter turn, and half of them mirrored."""
    changed = []
    for image in images:
        image = image.rot90(int(torch.randint(4, ())), (1, 2))
        changed.append(image.flip(2) if torch.rand(()) < 0.5 else image)
    return torch.stack(changed)


# %% [markdown]
# The same picture six times:

# %%
seed_everything(SEED)
labels = right[SEED].labels
one = right[SEED].inputs[labels.argmax()]  # the first of the last class
names = [task.classes[labels.max()]] * 6
describe(plot_images(turn_and_flip(one.repeat(6, 1, 1, 1)), names),
         "The same training picture six times, each turned or mirrored in its own way. "
         "The defect is in another place each time, and it is the same defect.")

# %% [markdown]
# What each cure changes in the recipe; the last one takes all that are not about
# stopping:

# %%
CURES = {
    "weight decay": dict(weight_decay=0.1),
    "dropout": dict(),
    "early stopping": dict(validate=True, patience=3, keep_best=True),
    "label smoothing": dict(label_smoothing=0.1),
    "turns and flips": dict(augment=turn_and_flip),
    "all of these": dict(weight_decay=0.1, label_smoothing=0.1, augment=turn_and_flip),
}
WITH_DROPOUT = {"dropout", "all of these"}

# %% [markdown]
# Seed by seed, so that a slow moment of the machine meets all:

# %%
from course_utils.progress import Progress

bar = Progress(len(CURES) * len(SEEDS), "runs")
for seed in SEEDS:
    for name, changes in CURES.items():
        made = run(recipe(name, **changes), seed, dropout=0.5 * (name in WITH_DROPOUT))
        runs.setdefault(name, []).append(made)
        bar.update(sum(map(len, runs.values())) - len(SEEDS), name)

# %% [markdown]
# ## 5 · Cures that need their own loop: mixup and CutMix
#
# **Mixup** (Zhang et al., 2018) lays one picture over another, transparently, and mixes
# their labels in the same share, drawn anew for each batch. **CutMix** (Yun et al., 2019)
# pastes a square of the one into the other, and the share is that of the area. `fit` takes
# one class a picture, so mixed labels need a loop. Here it is: the core of `fit` and
# nothing else, with the same optimizer and rates. The loss against a mixed label is the
# mixed loss.

# %%
from course_utils.optim import build_optimizer, schedule_factor, set_learning_rates


def fit_mixed(model, examples, recipe, seed, mix, strength):
    """Train on pairs of pictures, mixed; only the stages from `LAST` on."""
    seed_everything(seed)
    parts, shares = stages(model), torch.distributions.Beta(strength, strength)
    optimizer = build_optimizer(parts[train_from(parts, recipe.train_from):], recipe)
    images, labels = examples.inputs, examples.labels
    set_mode(parts, True)
    for epoch in range(recipe.epochs):
        batches = torch.randperm(len(labels)).split(recipe.batch_size)
        for step, rows in enumerate(batches):
            progress = (epoch + step / len(batches)) / recipe.epochs
            set_learning_rates(optimizer, schedule_factor(progress, recipe))
            others, share = rows[torch.randperm(len(rows))], shares.sample()
            mixed, share = mix(images[rows], images[others], share)
            logits = run_stages(parts, mixed)
            loss = (share * F.cross_entropy(logits, labels[rows])
                    + (1 - share) * F.cross_entropy(logits, labels[others]))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
            optimizer.step()


# %% [markdown]
# The two ways to mix; each returns the share of the first picture's label as well:


# %%
def laid_over(images, others, share):
    return (share * images.float() + (1 - share) * others.float()).byte(), share


def pasted(images, others, share):
    side = images.shape[-1]
    cut = int(side * (1 - share) ** 0.5)
    top, left = torch.randint(side - cut + 1, (2,))
    images, square = images.clone(), (..., slice(top, top + cut), slice(left, left + cut))
    images[square] = others[square]
    return images, 1 - (cut / side) ** 2


# %% [markdown]
# Three pairs of training pictures, mixed in both ways, half and half:

# %%
seed_everything(SEED)
pairs = right[SEED].select(torch.arange(6))
one, other, half_of_it = pairs.inputs[:3], pairs.inputs[3:], torch.tensor(0.5)
both = [f"{task.classes[a]} +\n{task.classes[b]}"
        for a, b in zip(pairs.labels[:3], pairs.labels[3:], strict=True)]
shown = torch.cat([mix(one, other, half_of_it)[0] for mix in (laid_over, pasted)])
describe(plot_images(shown, both * 2, columns=3),
         f"Pairs of pictures ({', '.join(both)}), laid over each other above, and with a "
         "square of the second pasted into the first below.".replace("\n", " "))

# %% [markdown]
# A whole run with each of them. (On a GPU, the pictures go there first.)


# %%
def run_mixed(name, seed, mix, strength):
    model, device = fresh(seed), choose_compute().device
    there = few[seed]
    there = replace(there, inputs=there.inputs.to(device), labels=there.labels.to(device))
    with stopwatch() as watch:
        fit_mixed(model, there, recipe(name), seed, mix, strength)
    return measured(model, watch.seconds)


MIXES = {"mixup": (laid_over, 0.4), "CutMix": (pasted, 1.0)}  # strengths of their papers
for name, settings in MIXES.items():
    runs[name] = [run_mixed(name, seed, *settings) for seed in SEEDS]

# %% [markdown]
# ## 6 · What helped?
#
# Before we look, one more competitor that is no technique at all: **twice the pictures**,
# with as large a share of wrong labels. They get half the epochs, so that the number of
# steps is the same for all.

# %%
twice = drawn(2 * TRAIN)
half = recipe("twice the pictures", epochs=EPOCHS // 2)
runs["twice the pictures"] = [run(half, seed, twice) for seed in SEEDS]

# %% [markdown]
# The median of three seeds, with the range in brackets:

# %%
from course_utils.metrics import spread

show_table(
    [{"cure": name, "accuracy (%)": spread(values(name, "accuracy"), 0),
      "test loss": spread(values(name, "loss"), 2),
      "too sure (points)": spread(values(name, "too sure"), 0),
      "seconds": float(np.median(values(name, "seconds")))} for name in runs],
    f"{TRAIN} pictures; knowing nothing: accuracy {chance:.0f} %, loss {clueless:.2f}",
)

# %% [markdown]
# Which differences are real? As in lesson 12: all runs of a seed answered the same test
# pictures, so we take differences picture by picture, draw runs and pictures again with
# replacement, and look where 95 % of the mean differences fall (Efron, 1979).

# %%
from course_utils.lessons.lesson_21 import interval, plot_gains, plot_loss_and_accuracy


def against(name, baseline="nothing"):
    """Points of accuracy gained, with a 95 % interval."""
    return interval(100 * np.subtract(values(name, "right"), values(baseline, "right")))


gains = {name: against(name) for name in runs if name != "nothing"}
gains = dict(sorted(gains.items(), key=lambda pair: pair[1][0]))

# %% [markdown]
# Each against no cure. A grey square is one that these runs cannot tell from nothing:

# %%
told = "; ".join(f"{name} {mean:+.1f} ({low:+.1f} to {high:+.1f})"
                 for name, (mean, low, high) in gains.items())
describe(plot_gains(gains),
         f"Gain in accuracy of each cure, with its interval, from worst to best: {told}.")

# %% [markdown]
# The other half of the story, accuracy *and* loss. Up is better, left is better:

# %%
means = {name: (np.mean(values(name, "loss")), np.mean(values(name, "accuracy")))
         for name in runs}
told = "; ".join(f"{name} {loss:.2f} and {found:.0f} %"
                 for name, (loss, found) in means.items())
describe(plot_loss_and_accuracy(means, clueless),
         f"Test loss and test accuracy of each cure, means of three seeds: {told}.")

# %% [markdown]
# **The answer**, from the two figures:
#
# - **Early stopping harms here**, and yet it does what it promises: the loss is lower
#   than without it. It is about that of knowing nothing, and in some draws so is the
#   network, which has hardly begun to learn. `patience` looks at the loss, and the loss
#   turns when the model gets too sure, long before the answers stop getting better.
# - **Weight decay does nothing** at a usual value; the number below says why. **Dropout**
#   and **label smoothing** make the network less sure, which is worth having, and change
#   few answers. **Mixup** and **CutMix** gain nothing that would pay for a loop of their
#   own. A likely reason: a defect under half of another surface is hard to see, and a
#   pasted square may cover it, while its label keeps its share.
# - **Turns and flips** are the best cure by accuracy, and lower the loss too: they tell it
#   something true that so few pictures do not show, that a turned scratch is a scratch.
#   Adding everything else to them makes it less sure, and no better.
# - **Twice the pictures** are at least as good as every cure, at the same cost of training;
#   over turns and flips their lead is small, and need not be there in every draw.
#
# Be careful with the middle of the figure. Three draws of so few pictures show a
# difference of ten points, and hardly one of five: the intervals of most cures hold
# zero. Where that is so, ask whether all seeds agree, and whether the loss agrees too.

# %%
def per_seed(what, name, than="nothing"):
    return [a - b for a, b in zip(values(name, what), values(than, what), strict=True)]


steps = EPOCHS * math.ceil(TRAIN / BATCH)
decayed = 100 * steps * LEARNING_RATE * CURES["weight decay"]["weight_decay"]
print(f"{steps} steps of weight decay shrink a weight by {decayed:.1f} % at the most")
claim("21.4", "points of accuracy by which weight decay changes anything, up or down",
      [abs(change) for change in per_seed("accuracy", "weight decay")],
      at_most=LEAST["decay"])
claim("21.5", "points of accuracy that early stopping at the lowest loss costs",
      -gains["early stopping"][0], at_least=LEAST["stop"])
claim("21.6", "nats by which the same early stopping lowers the test loss",
      [-change for change in per_seed("loss", "early stopping")], at_least=LEAST["calm"])
claim("21.7", "points by which dropout makes the network less sure of itself",
      [-change for change in per_seed("too sure", "dropout")], at_least=LEAST["sure"])

# %% [markdown]
# And those that matter. (The best cure is picked by the test pictures, which is in
# its favour.)

# %%
claim("21.8", "nats by which turns and flips lower the test loss",
      [-change for change in per_seed("loss", "turns and flips")], at_least=LEAST["turns"])
claim("21.13", "points of accuracy that CutMix gains", gains["CutMix"][0],
      at_most=LEAST["cutmix"])
claim("21.9", "points of accuracy that twice the pictures gain",
      gains["twice the pictures"][0], at_least=LEAST["twice"])
cures = [*CURES, *MIXES]
best = max(cures, key=lambda name: np.mean(values(name, "accuracy")))
listed = ", ".join(f"{change:+.1f}" for change in per_seed("accuracy", best))
print(f"The best cure was {best!r}, seed by seed {listed} points.")
claim("21.10", "points of accuracy of twice the pictures over the best cure",
      against("twice the pictures", best)[0], at_least=LEAST["label"])

# %% [markdown]
# **One more label against every cure.** If you can get more labels, or mend wrong ones,
# do that first. Then add the augmentation that fits, which costs no labelling at all:
# the two are no rivals.
#
# ## 7 · A failure on purpose: the usual crop
#
# Most networks for ImageNet were trained with `RandomResizedCrop`: a random part of the
# picture, from 8 to 100 % of its area, enlarged. It is the first line of many recipes,
# and a stronger change than turns and flips.

# %%
predict("21.3")

# %%
from torchvision.transforms import v2

crop = v2.RandomResizedCrop(task.train.inputs.shape[-1])  # everything else as by default


def crop_each(images):
    return torch.stack([crop(image) for image in images])


runs["usual crop"] = [run(recipe("crop", augment=crop_each), seed) for seed in SEEDS]

# %% [markdown]
# Why? These pictures come with a mask of where the defect is (the network never sees
# it). The transforms of v2 can change picture and mask alike, so we can count how often
# nothing is left of the defect that the label names. (Flowers have no masks; there we
# take the middle of the picture.)

# %%
from course_utils.lessons.lesson_21 import changed_with_masks

seed_everything(SEED)
crops, labels, left = changed_with_masks(task.train, crop)
gone = left == 0
share_gone = gone.double().mean().item()
print(f"In {share_gone:.0%} of {len(gone)} crops nothing is left of the defect.")

# %% [markdown]
# Six of these, with the label that the network is told to learn:

# %%
rows = gone.nonzero().flatten()[:6]
told = [f"label: {task.classes[label]}" for label in labels[rows]]
describe(plot_images(crops[rows], told),
         f"Six crops from which the defect is gone: {', '.join(told)}. What is left is a "
         "surface without a defect.")

# %% [markdown]
# And what it does to the accuracy:

# %%
rivals = ("turns and flips", "nothing", "usual crop")
show_table(
    [{"augmentation": name, "accuracy (%)": spread(values(name, "accuracy"), 0),
      "test loss": spread(values(name, "loss"), 2)} for name in rivals],
    "The same pictures and steps, three seeds",
)

# %%
axes = plot_bars({name: values(name, "accuracy") for name in rivals}, "test accuracy (%)",
                 chance)
heights = ", ".join(f"{name} {np.median(values(name, 'accuracy')):.0f} %"
                    for name in rivals)
describe(axes, f"Bars of test accuracy, three seeds each: {heights}; guessing "
               f"{chance:.0f} %.")

# %% [markdown]
# The stronger augmentation has lost what the gentle one gained.
#
# **Cause.** A crop of a cat is a cat. A crop of a plate with a hole is, often, a plate
# without a hole, and the label still says "hole". We paid for a stronger augmentation
# with more wrong labels, and we have enough of these.
#
# **Cure.** Ask of each change: would *I* still give it this label? Then look at a few
# dozen augmented pictures with their labels, before you train. The same question rules
# out turns for digits (6 and 9), flips for texts and for left and right, and changes of
# colour where colour is the class.

# %%
lost = against("usual crop", "turns and flips")
print("usual crop minus turns and flips: {:+.1f} ({:+.1f} to {:+.1f})".format(*lost))
claim("21.11", "percent of the crops in which nothing is left of the defect",
      100 * share_gone, at_least=LEAST["gone"])
claim("21.12", "points of accuracy by which turns and flips beat the usual crop",
      -lost[0], at_least=LEAST["crop"])

# %% [markdown]
# ## 8 · Exercise: beat the baseline with fifty labels
#
# A railway has fifty pictures of signal lamps: an arrow, red or green, that points to
# the left or to the right. Four classes, and no more labels to be had.

# %%
from course_utils.lessons.lesson_21 import SIGNALS, signal_lamps

lamps, lamp_labels = signal_lamps()
kinds = [SIGNALS[label] for label in lamp_labels[:6]]
describe(plot_images(lamps[:6], kinds), f"Six signal lamps: {'; '.join(kinds)}.")

# %% [markdown]
# Write `augment(images)`, which takes a batch of whole bytes (B, 3, H, W) and returns it
# changed at random, each picture in its own way, so that every label stays true. Small
# shifts and changes of light are what a shaky camera at dusk will do anyway.

# %%
def augment(images):
    # solution begin
    shaky = v2.Compose([v2.RandomAffine(0, translate=(0.1, 0.1)),
                        v2.ColorJitter(brightness=0.2)])
    return torch.stack([shaky(image) for image in images])
    # solution end


check("21.1", augment)

# %% [markdown]
# ## 9 · Exercise: read the curves
#
# Four runs (made up, so that they are clear):

# %%
from course_utils.lessons.lesson_21 import CURVES, plot_curves

ends = "; ".join(f"run {name}: training {lines['training'][-1]:.2f}, validation "
                 f"{lines['validation'][-1]:.2f}" for name, lines in CURVES.items())
describe(plot_curves(), f"Training and validation losses of four runs, at the end {ends}.")

# %%
show_table(
    [{"epoch": i + 1, "validation loss": CURVES["A"]["validation"][i],
      "validation accuracy (%)": CURVES["A"]["accuracy"][i]} for i in range(10)],
    "Run A in numbers",
)

# %% [markdown]
# Give each of the four one of these verdicts: `"overfits"`, `"learns well"`, `"learns too
# slowly"`, `"learns too fast"`. And for run A two numbers of epochs: where you would stop
# if probabilities matter (the lowest loss), and where if only the answers matter (the
# highest accuracy).

# %%
reading = ...
# solution begin
reading = {
    "A": "overfits", "B": "learns too slowly", "C": "learns well", "D": "learns too fast",
    "lowest loss": 4, "highest accuracy": 7,
}
# solution end
check("21.2", reading)

# %% [markdown]
# ## 10 · With your own data
#
# Write down, before you train, three changes that leave your labels true and one that
# does not. Train with and without the three, three seeds each, and take the paired
# interval. Then label as many examples again as you have, and compare with that.
#
# ## 11 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | plot training and validation, loss *and* accuracy | judge by the training loss, or by one curve |
# | ask for more labels, and look for wrong ones, first | tune weight decay on a hundred pictures |
# | augment with changes that leave your labels true | copy the augmentation of another task |
# | let each picture have its own change | hand a whole batch to a transform that draws once |
# | stop by the number that you will be judged by | let `patience` choose without a look |
# | smooth labels, or use dropout, if probabilities matter | expect other answers from them |
# | report what did not help | try ten cures and report the luckiest |
#
# **Cost of what you just ran:**

# %%
from course_utils.device import energy_wh

made = [one for name in runs for one in runs[name]]
total = sum(one["seconds"] for one in made)
print(f"{len(made)} runs, {total:.0f} s of training, about {energy_wh(total):.2f} Wh "
      "(an estimate)")

# %% [markdown]
# ## What you can do now
#
# - *See that a run overfits, and tell "wrong more often" from "too sure"*: sections 3, 9.
# - *Switch seven cures on and measure each against a baseline*: sections 4 to 6.
# - *Judge whether an augmentation fits your task*: sections 7 and 8.

# %%
quiz("21")

# %% [markdown]
# **Further reading.** Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014),
# *Dropout: a simple way to prevent neural networks from overfitting*. · Szegedy,
# Vanhoucke, Ioffe, Shlens and Wojna (2016), *Rethinking the Inception architecture for
# computer vision* (label smoothing). · Zhang, Cisse, Dauphin and Lopez-Paz (2018),
# *mixup: beyond empirical risk minimization*. · Yun et al. (2019), *CutMix:
# regularization strategy to train strong classifiers with localizable features*. · Zhang,
# Bengio, Hardt, Recht and Vinyals (2017), *Understanding deep learning requires
# rethinking generalization* (networks that learn random labels by heart). · Guo, Pleiss, Sun and
# Weinberger (2017), *On calibration of modern neural networks*.
