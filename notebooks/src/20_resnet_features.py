# %% [markdown]
# # 20 · ResNet and VGG: features and fine-tuning
#
# A network that has learnt to tell photographs apart already knows edges, spots and textures. A
# factory that wants to find scratches has only a few hundred labelled pictures. How much of the
# old knowledge can it use, **how much of the network** should it train, does it matter **which
# network**, and what can go wrong although every weight is frozen?
#
# **You will be able to**
#
# - turn a pre-trained ResNet or VGG into a classifier of your own pictures, in two ways, with the
#   course's core and with fastai, and compare them with honest baselines;
# - decide how many stages to train, from a measurement of what each stage knows, how far
#   fine-tuning moves it and what it costs;
# - recognise and cure the BatchNorm trap, in which a "frozen" network changes.
#
# **Builds on** lesson 00. **Words:** *features* – the numbers into which a network turns a
# picture; *body* – all of the network but its last layer, the *head*; *stage* – a group of layers
# one after another; *frozen* – not changed by training; *linear probe* – a linear classifier on
# features, to see what they know; *CKA* – how alike two sets of features are, from 0 to 1.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from course_utils import (
    check, claim, copy_of, describe, embed_stages, evaluate, fit, freeze, load_image_model,
    load_task, new_axes, plot_bars, plot_images, plot_lines, predict, quiz, recipes,
    seed_everything, select, set_mode, show_table, stages, stopwatch,
)

MODEL = select(PROFILE, quick="resnet18", full="resnet50-imagenet")
OTHER = select(PROFILE, quick="vgg11", full="vgg16_bn-imagenet")  # the other architecture
TASK = select(PROFILE, quick="surface", full="flowers")
TRAIN = select(PROFILE, quick=120, full=1020)  # labelled photographs
TEST = select(PROFILE, quick=144, full=2000)
SETTINGS = select(  # how the photographs are made
    PROFILE, quick={"train": TRAIN, "valid": 12, "test": TEST, "difficulty": 0.2},
    full={"size": 128},
)
EPOCHS, OTHER_EPOCHS = select(PROFILE, quick=(3, 6), full=(10, 10))
BATCH = select(PROFILE, quick=12, full=64)
LEARNING_RATE = select(PROFILE, quick=1e-3, full=1e-4)
# Points that claims ask for. Flowers are close to what the full models were pre-trained on, so
# there the last stages may be the best ones, and opening more may gain nothing.
LEAST = select(PROFILE, quick={"full": 5, "middle": 3, "open": 2, "moved": 0.1, "ahead": 5},
               full={"full": -5, "middle": -40, "open": -5, "moved": 0.0, "ahead": -10})

# %% [markdown]
# ## 1 · The task: which defect is it?
#
# Five defects and "ok", on metal, iron, wood and tile. The pictures are generated, so we know
# where each defect is; the boxes show it to *you*, the network never sees them.

# %%
task = load_task(TASK, seed=SEED, **SETTINGS).limited(train=TRAIN, test=TEST, seed=SEED)
shown = task.train.subset(12, seed=SEED)
shown = shown.select(shown.labels.argsort(stable=True))
names = [task.classes[label] for label in shown.labels]
describe(
    plot_images(shown.inputs, names, boxes=shown.columns.get("boxes")),
    f"Twelve of the {len(task.train)} training photographs, with the defect in a box where there "
    f"is one: {', '.join(names)}.",
)

# %%
predict("20.1")

# %% [markdown]
# ## 2 · Baselines first
#
# **Guessing** the most frequent class needs nothing. **Nearest pictures** compares raw pixels: a
# picture gets the class of the five training pictures that differ least from it. It has no idea of
# a scratch, only of bright and dark places.

# %%
from sklearn.neighbors import KNeighborsClassifier

neighbours = KNeighborsClassifier(5)
neighbours.fit(task.train.inputs.flatten(1).numpy(), task.train.labels)
accuracies = {
    "guessing": task.test.labels.bincount().max().item() / len(task.test),
    "nearest pictures": neighbours.score(task.test.inputs.flatten(1).numpy(), task.test.labels),
}
accuracies

# %% [markdown]
# The third baseline is the **same network from random weights**, with as many epochs as
# fine-tuning will get. Whatever fine-tuning has more than this is owed to pre-training. All our
# runs begin with a fresh model, so they share one function:


# %%
def train(recipe, name=MODEL, pretrained=True, seed=SEED):
    """Train a fresh network; return it, the record of the run, and its test accuracy."""
    model = load_image_model(name, len(task.classes), pretrained, seed)
    run = fit(model, task, recipe, seed=seed)
    return model, run, evaluate(model, task.test).accuracy


budget = dict(epochs=EPOCHS, batch_size=BATCH, validate=False)
_, scratch, accuracies["from scratch"] = train(recipes.from_scratch(**budget), pretrained=False)

# %% [markdown]
# ## 3 · Two networks, two ways to use them
#
# Our first network is a **ResNet** (He et al., 2016): convolutions with a shortcut around every
# pair, so that a layer only adds to what it was given. The other is a **VGG** (Simonyan and
# Zisserman, 2015): convolutions one after another, and at the end two *hidden layers* that look at
# the whole picture at once. The originals are as different in size: a ResNet-50 has 26 million
# weights, a VGG-16 138 million, most of them in those hidden layers. Ours are small ones, both
# pre-trained by us on the hundred kinds of photographs of CIFAR-100.
#
# **Frozen features.** The body stays as it is and turns each picture into a vector; only a new
# linear head is trained. The body gives the same vectors in every epoch, so the course's core runs
# it once and keeps them. That makes a run cheap enough to repeat it with three seeds.

# %%
heads = {name: [train(recipes.linear_probe(validate=False), name, seed=SEED + i)
                for i in range(3)] for name in (MODEL, OTHER)}
first_model, frozen, _ = heads[MODEL][0]
frozen_accuracies = {name: [accuracy for _, _, accuracy in runs] for name, runs in heads.items()}
print(f"{frozen.trained_weights:,} of {frozen.total_weights:,} weights trained")

# %% [markdown]
# **Full fine-tuning.** Every weight may move: the body at a lower rate, the new head faster. The
# VGG gets more epochs: it has no shortcuts, and dropout in two narrow hidden layers, so it learns
# more slowly. (Try it with as many as the ResNet.)

# %%
recipe = recipes.full_finetuning(learning_rate=LEARNING_RATE, **budget)
longer = recipes.full_finetuning(learning_rate=LEARNING_RATE, **{**budget, "epochs": OTHER_EPOCHS})
tuned = {MODEL: train(recipe), OTHER: train(longer, OTHER)}
_, full, full_accuracy = tuned[MODEL]

# %% [markdown]
# All of it in one table:

# %%
import numpy as np

runs = {(MODEL, "from scratch"): (scratch, accuracies["from scratch"])}
for name in (MODEL, OTHER):
    runs[name, "frozen + linear head"] = heads[name][0][1], np.median(frozen_accuracies[name])
    runs[name, "full fine-tuning"] = tuned[name][1:]
show_table(
    [{"network": name, "method": method, "test accuracy": float(accuracy),
      "trained weights": run.trained_weights, "epochs": len(run.epochs), "seconds": run.seconds,
      "energy (Wh, estimate)": run.energy_wh} for (name, method), (run, accuracy) in runs.items()],
    "Two networks, trained in different ways (frozen: median accuracy of three seeds)",
)

# %% [markdown]
# The two baselines without a network next to them:

# %%
bars = {**accuracies}
for name in (MODEL, OTHER):
    bars[f"{name}, frozen"] = frozen_accuracies[name]
    bars[f"{name}, fine-tuned"] = tuned[name][2]
summary = ", ".join(f"{name} {np.median(value):.2f}" for name, value in bars.items())
describe(
    plot_bars(bars, "test accuracy (share of right answers)"),
    f"Bars of test accuracy: {summary}.",
)

# %% [markdown]
# **The answer.** Comparing pixels is hardly better than guessing: a defect can lie anywhere, on any
# material. From random weights, so few epochs on so few pictures do not get far (more epochs would
# help; the comparison is at an equal budget). Features that were made for animals and vehicles
# already recognise defects in seconds. Fine-tuning then fits the features themselves to the task.
# **The same order holds in both networks.** And the network that is better on the photographs of its
# pre-training (both model cards say how good) is better here as well, frozen or tuned, with fewer
# epochs: Kornblith, Shlens and Le (2019) found the same for sixteen networks and twelve tasks.

# %%
names = (MODEL, OTHER)
claim("20.1", "points of accuracy by which full fine-tuning beats the same network from scratch",
      100 * (full_accuracy - accuracies["from scratch"]), at_least=15)
claim("20.2", "points by which full fine-tuning beats frozen features, in each of the networks",
      [100 * (tuned[name][2] - np.median(frozen_accuracies[name])) for name in names],
      at_least=LEAST["full"])
claim("20.3", "points of accuracy by which frozen features beat training from scratch, three seeds",
      [100 * (a - accuracies["from scratch"]) for a in frozen_accuracies[MODEL]], at_least=8)
claim("20.4", "percent of the weights that the frozen recipe trains",
      100 * frozen.trained_weights / frozen.total_weights, at_most=1)
claim("20.13", "points by which the ResNet's frozen features are ahead of the VGG's, three seeds",
      [100 * (a - b) for a, b in zip(*frozen_accuracies.values(), strict=True)],
      at_least=LEAST["ahead"])

# %% [markdown]
# ## 4 · What does each stage know?
#
# A ResNet is a list of stages: a *stem*, four *layers* and the head. A VGG has five *blocks*, then
# its hidden layers. Put a **linear probe** on the output of each: average the output over the
# picture, fit a logistic regression, and see how well the defects can be read off it. Nothing of
# the network is trained.

# %%
predict("20.2")

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def body_stages(model):
    return [stage.name for stage in stages(model) if stage.parameters][:-1]


def probes(train_features, test_features):
    """Test accuracy of a linear classifier on what each stage gives."""
    found = {}
    for name in train_features:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        classifier.fit(train_features[name], task.train.labels)
        found[name] = classifier.score(test_features[name], task.test.labels)
    return found


# %% [markdown]
# One pass of each network over the pictures gives the features of all stages. We keep them for
# section 6.

# %%
features, known = {}, {}
for name in (MODEL, OTHER):
    model = load_image_model(name, len(task.classes), seed=SEED)
    features[name] = embed_stages(model, task.test, body_stages(model))
    known[name] = probes(embed_stages(model, task.train, body_stages(model)), features[name])

# %% [markdown]
# One bar a stage, from the input to the output:

# %%
guessing = accuracies["guessing"]
readings = "; ".join(f"{name}: " + ", ".join(f"{s} {v:.2f}" for s, v in found.items())
                     for name, found in known.items())
every = {f"{name} · {stage}": value for name, found in known.items()
         for stage, value in found.items()}
describe(
    plot_bars(every, "test accuracy of a linear probe", guessing),
    f"Bars of the accuracy of a linear probe on each stage of both networks. {readings}.",
)

# %% [markdown]
# **The surprise: deeper is not always better.** The first stage sees little but colours and edges.
# The stages in the middle know most about defects. The last one knows *less* again: to tell a cat
# from a lorry it throws away where the fine lines were, and a scratch is nothing but a fine line.
# That is what is meant by **early stages are general, late ones specific** (Yosinski et al., 2014).
# A head on the middle stage would also be cheaper: the stages behind it need not run at all.

# %%
falls = [100 * (max(list(found.values())[:-1]) - list(found.values())[-1])
         for found in known.values()]
rises = [100 * (max(found.values()) - next(iter(found.values()))) for found in known.values()]
claim("20.5", "points by which the best stage's probe beats that of the last stage, both networks",
      falls, at_least=LEAST["middle"])
claim("20.6", "points by which the best stage's probe beats that of the first stage, both networks",
      rises, at_least=15)

# %% [markdown]
# ## 5 · How many stages should you train?
#
# Between "the head alone" and "everything" lie the other boundaries. The later the boundary, the
# fewer weights are trained, and the more the cache saves.

# %%
opened = {"head": (frozen, np.median(frozen_accuracies[MODEL]))}
for start in ("layer4", "layer3"):
    _, *opened[start] = train(recipes.top_stages(start, learning_rate=LEARNING_RATE, **budget))
opened["everything"] = full, full_accuracy
chance = 100 * (full_accuracy * (1 - full_accuracy) / len(task.test)) ** 0.5
show_table(
    [
        {
            "train from": name, "trained weights": run.trained_weights,
            "share": f"{run.trained_weights / run.total_weights:.2%}",
            "test accuracy": float(accuracy), "seconds": run.seconds,
        }
        for name, (run, accuracy) in opened.items()
    ],
    f"Accuracy and cost by the first trained stage (one standard error: {chance:.1f} points)",
)

# %%
bars = {name: accuracy for name, (_, accuracy) in opened.items()}
points = "; ".join(f"{name} {accuracy:.2f}" for name, accuracy in bars.items())
describe(
    plot_bars(bars, "test accuracy, by the first trained stage"),
    f"Bars of test accuracy by the first trained stage: {points}.",
)

# %% [markdown]
# **The answer.** "Train only the last layers" is a common rule. Here it is not enough: what `layer3`
# hands over has already lost some of the fine lines, and training `layer4` cannot bring them back.
# Opening `layer3` as well helps. What the earliest stages add on top is small, and compared with the
# standard error one run cannot tell it from chance; more seeds could.
#
# Look at the costs, too. The stages up to `layer2` hold few of the weights, but take about half of
# the computing: as long as they are frozen, the cache saves it.

# %%
claim("20.7", "points by which training everything beats training from the last stage on",
      100 * (opened["everything"][1] - opened["layer4"][1]), at_least=LEAST["open"])
claim("20.8", "points by which training from layer3 on beats training the head alone",
      100 * (opened["layer3"][1] - opened["head"][1]), at_least=LEAST["open"])

# %% [markdown]
# ## 6 · What did fine-tuning move?
#
# Compare the features of a stage *before* and *after* full fine-tuning, on the same test pictures.
# **CKA** (centred kernel alignment; Kornblith et al., 2019) asks whether two sets of features find
# the same pictures alike: 1 means yes, up to a turn and a scale, 0 means not at all. Where it stays
# near 1, the old knowledge was taken over as it was.

# %%
predict("20.4")

# %%
from course_utils.lessons.lesson_20 import cka

kept, after = {}, {}
for name, (model, _, _) in tuned.items():
    new = embed_stages(model, task.test, body_stages(model))
    kept[name] = {stage: cka(features[name][stage], new[stage]) for stage in new}
    if name == MODEL:
        after = probes(embed_stages(model, task.train, body_stages(model)), new)

# %% [markdown]
# From the first stage of the body to its last:

# %%
axes = new_axes()
for (name, found), look in zip(kept.items(), ("o-", "s--"), strict=True):
    axes.plot(np.linspace(0, 1, len(found)), list(found.values()), look, label=name)
axes.set(ylim=(0, 1.05), ylabel="CKA, before and after", xlabel="depth in the body (first to last)")
axes.legend(frameon=False)
told = "; ".join(f"{name}: " + ", ".join(f"{s} {v:.2f}" for s, v in found.items())
                 for name, found in kept.items())
describe(axes, f"Likeness of each stage's features before and after fine-tuning. {told}.")

# %% [markdown]
# And what the ResNet's stages know about defects, before and after:

# %%
before = known[MODEL]
axes = plot_lines(range(len(before)), {
    "before fine-tuning": [[value] for value in before.values()],
    "after": [[value] for value in after.values()]}, "stage", "accuracy of a linear probe")
axes.set_xticks(range(len(before)), list(before))
told = ", ".join(f"{s} {before[s]:.2f} and {after[s]:.2f}" for s in before)
describe(axes, f"Accuracy of a linear probe on each stage, before and after: {told}.")

# %% [markdown]
# **What transferred.** The first stages are almost what they were: their edges and spots served as
# they came. The further back, the more was made new, and there the knowledge about defects has
# grown: the last stage, which knew least of the later ones, now knows most or nearly so. That is
# why opening the late stages pays first.

# %%
first_last = [(list(found.values())[0], list(found.values())[-1]) for found in kept.values()]
claim("20.14", "CKA of the first stage before and after fine-tuning, both networks",
      [first for first, _ in first_last], at_least=0.8)
claim("20.15", "CKA by which the last stage moved more than the first, both networks",
      [first - last for first, last in first_last], at_least=LEAST["moved"])
claim("20.16", "points that fine-tuning added to the probe of the ResNet's last stage",
      100 * (list(after.values())[-1] - list(before.values())[-1]), at_least=LEAST["full"])

# %% [markdown]
# ## 7 · The same in fastai
#
# In **fastai** (Howard and Gugger, 2020) a `Learner` holds network, data and loss, a *splitter*
# says which weights belong together, and two calls do the rest: `lr_find` and `fine_tune`.

# %%
import warnings
from tempfile import gettempdir

with warnings.catch_warnings():  # fastai uses torch.jit, which is on its way out
    warnings.simplefilter("ignore", FutureWarning)
    import fastai.callback.progress  # gives Learner its no_bar
    import fastai.callback.schedule  # and its lr_find and fine_tune  # noqa: F401
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner


def batches(examples, shuffle, pixels):
    pairs = list(zip(pixels.normalize(examples.inputs), examples.labels, strict=True))
    return DataLoader(pairs, bs=BATCH, shuffle=shuffle, num_workers=0, drop_last=shuffle)


def learner():
    seed_everything(SEED)
    model = load_image_model(MODEL, len(task.classes), seed=SEED)
    loaders = DataLoaders(batches(task.train, True, model.pixels),
                          batches(task.valid, False, model.pixels), device=DEVICE)
    return Learner(loaders, model, loss_func=F.cross_entropy, splitter=groups, wd=0.01,
                   train_bn=False,  # frozen: the weights of BatchNorm, too
                   path=gettempdir())  # where lr_find keeps the weights meanwhile


# %% [markdown]
# The groups are our stages. `lr_find` (Smith, 2017) trains for some steps at a rate that grows at
# each, then puts the weights back; a good rate lies where the loss falls, well before it explodes.

# %%
import torch
import torch.nn.functional as F

DEVICE = next(first_model.parameters()).device


def groups(model):
    return [list(part.parameters) for part in stages(model) if part.parameters]


by_fastai = learner()
with by_fastai.no_bar():
    by_fastai.freeze()
    found = by_fastai.lr_find(start_lr=1e-4, end_lr=1, num_it=20, show_plot=False)
rates, losses = by_fastai.recorder.lrs, [float(loss) for loss in by_fastai.recorder.losses]

# %%
axes = new_axes()
axes.plot(rates, losses, "o-", markersize=4)
axes.axvline(found.valley, color="0.4", linestyle=":")
axes.annotate(f"fastai's proposal: {found.valley:.2g}", (found.valley, max(losses)), (6, -8),
              textcoords="offset points")
axes.set(xscale="log", xlabel="learning rate", ylabel="loss (smoothed)")
describe(axes, f"Loss over the learning rate, from {rates[0]:.0e} to {rates[-1]:.0e}: from "
               f"{losses[0]:.2f} down to {min(losses):.2f}, at the end {losses[-1]:.2f}. fastai "
               f"proposes {found.valley:.2g}.")

# %% [markdown]
# `fine_tune` trains the head for one epoch with the rest frozen. Then it opens all and halves the
# rate, with **discriminative rates**: the full rate for the last group, a hundredth of it for the
# first, the others in between. Together that is as many epochs as ours had.

# %%
with by_fastai.no_bar(), by_fastai.no_logging(), stopwatch() as watch:
    by_fastai.fine_tune(EPOCHS - 1, base_lr=found.valley, freeze_epochs=1)
with_fastai = evaluate(by_fastai.model, task.test).accuracy
show_table(
    [{"with": name, "test accuracy": float(accuracy), "seconds": seconds}
     for name, accuracy, seconds in (("the core, full fine-tuning", full_accuracy, full.seconds),
                                     ("fastai, fine_tune", with_fastai, watch.seconds))],
    "The same network, pictures and number of epochs: one run each",
)

# %% [markdown]
# The same idea, and in so short a run fastai's version is behind. It spends an epoch on the head
# alone, opens the rest at half the rate, and gives the middle stages, which have to move here (section
# 6), only a fraction of that. For a long training on pictures like those of ImageNet that is a safe
# choice. **A recipe is made for a length of training and a distance between tasks**: try another
# `lr_mult`, or more epochs. (Its time includes a pass over the validation pictures after each epoch;
# one run each is no comparison of speed.)

# %%
claim("20.17", "points by which the core's full fine-tuning is ahead of fastai's fine_tune here",
      100 * (full_accuracy - with_fastai), at_least=LEAST["ahead"] - 3)

# %% [markdown]
# ## 8 · A failure on purpose: the BatchNorm trap
#
# A good head is worth keeping. Say the first head is in use, and a colleague trains a **second head
# on the same body**, in a plain loop of her own. She freezes every weight of the body, so the first
# head is safe. Is it?
#
# The loop takes one argument, `set_training`: how the network is put into training mode.


# %%
def second_head(model, set_training):
    """Train a new head on a frozen body, one small batch after another."""
    model.requires_grad_(False)
    model.fc = torch.nn.Linear(model.fc.in_features, len(task.classes)).to(model.fc.weight.device)
    optimizer = torch.optim.AdamW(model.fc.parameters(), lr=2e-3)
    set_training(model)
    for rows in torch.randperm(len(task.train))[:120].split(8):
        pixels = model.pixels.normalize(task.train.inputs[rows].to(model.fc.weight.device))
        labels = task.train.labels[rows].to(model.fc.weight.device)
        F.cross_entropy(model(pixels), labels).backward()
        optimizer.step()
        optimizer.zero_grad()


# %%
predict("20.3")

# %% [markdown]
# Afterwards we measure both heads, and compare the body with what it was, tensor by tensor: its
# **weights**, which training moves along gradients, and its **buffers**, which it keeps on the side.


# %%
def aftermath(set_training):
    """What the second head's training left behind, in percent."""
    model = copy_of(first_model)
    torch.manual_seed(SEED)
    second_head(model, set_training)
    second = evaluate(model, task.test).accuracy
    model.fc = copy_of(first_model.fc)
    old, buffers = first_model.state_dict(), {name for name, _ in model.named_buffers()}
    moved = {name for name, new in model.state_dict().items() if not torch.equal(old[name], new)}
    return {
        "weights moved (%)": 100 * len(moved - buffers) / len(old.keys() - buffers),
        "buffers moved (%)": 100 * len(moved & buffers) / len(buffers),
        "first head": evaluate(model, task.test).accuracy,
        "second head": second,
    }


careless = aftermath(lambda model: model.train())
careless

# %% [markdown]
# No weight has moved, and yet the first head has lost much of its accuracy.
#
# **Cause.** A BatchNorm layer (Ioffe and Szegedy, 2015) subtracts a mean and divides by a deviation.
# In training mode it takes both from the batch at hand, and mixes them into its *running
# statistics*, a tenth in every step; in eval mode it uses these. They are buffers: no gradient
# touches them, so `requires_grad_(False)` does not either. `model.train()` sets them moving, and
# the first head gets other features than those it was trained on.
#
# What makes it a **trap**: your own new head does not warn you. It grew up with the moved statistics,
# which now fit the new pictures. (Moving them on purpose is even a method: Li et al., 2016.) The
# damage shows where somebody relies on the body being what it was: another head, a cache of
# features, a test in eval mode.
#
# **Cure.** Frozen stages belong in **eval mode**. The course's `freeze` and `set_mode` see to that:


# %%
def keep_frozen_stages_in_eval_mode(model):
    freeze(stages(model)[:-1])
    set_mode(stages(model), True)


careful = aftermath(keep_frozen_stages_in_eval_mode)
before = {
    "weights moved (%)": 0.0, "buffers moved (%)": 0.0, "first head": heads[MODEL][0][2],
    "second head": "–",
}
rows = {"before": before, "model.train()": careless, "frozen stages in eval mode": careful}
show_table([{"body": name, **row} for name, row in rows.items()],
           "What training a second head did to the body and to both heads")

# %%
values = {name: row["first head"] for name, row in rows.items()}
listed = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
describe(
    plot_bars(values, "test accuracy of the first head", guessing),
    f"Bars of the first head's accuracy: {listed}. Only a body in training mode harms it.",
)

# %% [markdown]
# As claims:

# %%
claim("20.9", "percent of the frozen weights that moved in the careless loop",
      careless["weights moved (%)"], at_most=0)
claim("20.10", "percent of the BatchNorm buffers that moved in the careless loop",
      careless["buffers moved (%)"], at_least=99)
claim("20.11", "points of accuracy that the first head lost by that",
      100 * (heads[MODEL][0][2] - careless["first head"]), at_least=5)
claim("20.12", "percent of the buffers that moved with frozen stages in eval mode",
      careful["buffers moved (%)"], at_most=0)

# %% [markdown]
# ## 9 · Exercise: mend the drift
#
# In plain PyTorch, without the course's helpers: write a function that takes a ResNet and makes it
# ready to train its head `model.fc` and nothing else, and name it `freeze_body`. It changes the model
# in place. The check hands it a small ResNet **in training mode**, takes one training step, and looks
# at all weights and buffers.

# %%
freeze_body = ...
# solution begin


def only_the_head(model):
    model.requires_grad_(False)
    model.fc.requires_grad_(True)
    model.eval()


freeze_body = only_the_head
# solution end
check("20.1", freeze_body)

# %% [markdown]
# ## 10 · Exercise: choose within a budget
#
# Ten production lines share one computer. Each line has its own fine-tuned network, but a frozen
# prefix is the same for all: it runs **once** for a picture, and only the trained stages run once
# **for each line**. In the time that a part takes, the computer can compute as much as **six** whole
# networks. The stem costs next to nothing, and each of the four layers about a quarter. Hand in the
# recipe that promises the best accuracy within this budget, by the table of section 5.

# %%
line_recipe = recipes.top_stages("layer3")  # solution
check("20.2", line_recipe)

# %% [markdown]
# ## 11 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | begin with frozen features: seconds, and a baseline that is hard to fool | begin with the largest recipe |
# | probe the stages when the pictures differ from those of pre-training | assume that the last stage's features are the best |
# | choose how many stages to open by validation pictures of your own | choose by a rule, or by the test pictures as we could afford to |
# | keep frozen stages in eval mode, and compare the buffers once | trust `requires_grad = False` alone |
# | train from scratch when you have very many pictures of your own | train from scratch with a few hundred |
#
# **Cost of what you just ran:**

# %%
made = [scratch, *(run for name in names for _, run, _ in [*heads[name], tuned[name]]),
        opened["layer4"][0], opened["layer3"][0]]
print(
    f"{len(made)} runs with the core, {sum(run.seconds for run in made):.0f} s of training, about "
    f"{sum(run.energy_wh for run in made):.2f} Wh (an estimate), "
    f"peak memory {max(run.peak_memory_mb for run in made):.0f} MB"
)

# %% [markdown]
# ## What you can do now
#
# - *Turn a pre-trained ResNet or VGG into a classifier, with the core and with fastai*: sections 2,
#   3 and 7.
# - *Decide how many stages to train*: sections 4, 5, 6 and 10.
# - *Recognise and cure the BatchNorm trap*: sections 8 and 9.

# %%
quiz("20")

# %% [markdown]
# **Further reading.** He, Zhang, Ren and Sun (2016), *Deep residual learning for image
# recognition*. · Simonyan and Zisserman (2015), *Very deep convolutional networks for large-scale
# image recognition*. · Kornblith, Norouzi, Lee and Hinton (2019), *Similarity of neural network
# representations revisited* (CKA). · Smith (2017), *Cyclical learning rates for training neural
# networks* (the finder). · Howard and Gugger (2020), *fastai: a layered API for deep learning*.
# · Ioffe and Szegedy (2015), *Batch normalization: accelerating deep network training
# by reducing internal covariate shift*. · Yosinski, Clune, Bengio and Lipson (2014), *How
# transferable are features in deep neural networks?* · Li, Wang, Shi, Liu and Hou (2016), *Revisiting
# batch normalization for practical domain adaptation*. · Kornblith, Shlens and Le (2019), *Do better
# ImageNet models transfer better?*
