# %% [markdown]
# # 20 · ResNet: features and fine-tuning
#
# A network that has learnt to tell photographs apart already knows edges, spots and textures. A
# factory that wants to find scratches has only a few hundred labelled pictures. How much of the
# old knowledge can it use, **how much of the network** should it train, and what can go wrong
# although every weight is frozen?
#
# **You will be able to**
#
# - turn a pre-trained image network into a classifier of your own pictures, in two ways, and
#   compare both with honest baselines;
# - decide how many stages to train, from a measurement of what each stage knows and costs;
# - recognise and cure the BatchNorm trap, in which a "frozen" network changes.
#
# **Builds on** lesson 00. **Words:** *features* – the numbers into which a network turns a
# picture; *body* – all of the network but its last layer, the *head*; *stage* – a group of layers
# one after another; *frozen* – not changed by training; *linear probe* – a linear classifier on
# features, to see what they know.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from course_utils import (
    check, claim, copy_of, describe, embed, evaluate, fit, freeze, load_image_model, load_task,
    plot_bars, plot_images, predict, quiz, recipes, select, set_mode, show_table,
    stages,
)

MODEL = select(PROFILE, quick="resnet18", full="resnet18-imagenet")
TASK = select(PROFILE, quick="surface", full="flowers")
TRAIN = select(PROFILE, quick=300, full=1020)  # labelled photographs
TEST = select(PROFILE, quick=240, full=2000)
SETTINGS = select(  # how the photographs are made
    PROFILE, quick={"train": TRAIN, "valid": 24, "test": TEST, "difficulty": 0.2},
    full={"size": 128},
)
EPOCHS = select(PROFILE, quick=3, full=10)
BATCH = select(PROFILE, quick=24, full=64)
LEARNING_RATE = select(PROFILE, quick=1e-3, full=1e-4)
# Points that claims ask for. Flowers are close to what the full model was pre-trained on, so there
# the last stages may be the best ones, and opening more may gain nothing.
LEAST = select(PROFILE, quick={"full": 6, "middle": 3, "open": 2},
               full={"full": -5, "middle": -40, "open": -5})

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
def train(recipe, pretrained=True, seed=SEED):
    """Train a fresh network; return it, the record of the run, and its test accuracy."""
    model = load_image_model(MODEL, len(task.classes), pretrained, seed)
    run = fit(model, task, recipe, seed=seed)
    return model, run, evaluate(model, task.test).accuracy


budget = dict(epochs=EPOCHS, batch_size=BATCH, validate=False)
_, scratch, accuracies["from scratch"] = train(recipes.from_scratch(**budget), pretrained=False)

# %% [markdown]
# ## 3 · Two ways to use a pre-trained network
#
# **Frozen features.** The body stays as it is and turns each picture into a vector; only a new
# linear head is trained. The body gives the same vectors in every epoch, so the course's core runs
# it once and keeps them. That makes a run cheap enough to repeat it with three seeds.

# %%
heads = [train(recipes.linear_probe(validate=False), seed=SEED + i) for i in range(3)]
first_model, frozen, _ = heads[0]
accuracies["frozen + linear head"] = [accuracy for _, _, accuracy in heads]
print(f"{frozen.trained_weights:,} of {frozen.total_weights:,} weights trained")

# %% [markdown]
# **Full fine-tuning.** Every weight may move: the body at a lower rate, the new head faster.

# %%
recipe = recipes.full_finetuning(learning_rate=LEARNING_RATE, **budget)
_, full, accuracies["full fine-tuning"] = train(recipe)

# %%
import numpy as np

middle = {name: float(np.median(value)) for name, value in accuracies.items()}
runs = {"from scratch": scratch, "frozen + linear head": frozen, "full fine-tuning": full}
show_table(
    [
        {
            "method": name, "test accuracy": middle[name], "trained weights": run.trained_weights,
            "seconds": run.seconds, "energy (Wh, estimate)": run.energy_wh,
        }
        for name, run in runs.items()
    ],
    "The same network, trained in three ways (frozen: median accuracy of three seeds)",
)

# %% [markdown]
# The two baselines without a network next to them:

# %%
summary = ", ".join(f"{name} {value:.2f}" for name, value in middle.items())
describe(
    plot_bars(accuracies, "test accuracy (share of right answers)"),
    f"Bars of test accuracy: {summary}.",
)

# %% [markdown]
# **The answer.** Comparing pixels is hardly better than guessing: a defect can lie anywhere, on any
# material. From random weights, so few epochs on so few pictures do not get far (more epochs would
# help; the comparison is at an equal budget). Features that were made for animals and vehicles
# already recognise defects in seconds. Fine-tuning then fits the features themselves to the task.

# %%
claim("20.1", "points of accuracy by which full fine-tuning beats the same network from scratch",
      100 * (middle["full fine-tuning"] - middle["from scratch"]), at_least=15)
claim("20.2", "points of accuracy by which full fine-tuning beats frozen features",
      100 * (middle["full fine-tuning"] - middle["frozen + linear head"]), at_least=LEAST["full"])
claim("20.3", "points of accuracy by which frozen features beat training from scratch, three seeds",
      [100 * (a - middle["from scratch"]) for a in accuracies["frozen + linear head"]], at_least=8)
claim("20.4", "percent of the weights that the frozen recipe trains",
      100 * frozen.trained_weights / frozen.total_weights, at_most=1)

# %% [markdown]
# ## 4 · What does each stage know?
#
# A ResNet is a list of stages: a *stem*, four *layers* and the head. Put a **linear probe** on the
# output of each: average the output over the picture, fit a logistic regression, and see how well
# the defects can be read off it. Nothing of the network is trained.

# %%
predict("20.2")

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def probe(model, stage):
    """Test accuracy of a linear classifier on what one stage gives."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    classifier.fit(embed(model, task.train, stage).numpy(), task.train.labels)
    return classifier.score(embed(model, task.test, stage).numpy(), task.test.labels)


body = load_image_model(MODEL, len(task.classes), seed=SEED)
BODY_STAGES = [stage.name for stage in stages(body) if stage.parameters][:-1]
probes = {name: probe(body, name) for name in BODY_STAGES}

# %% [markdown]
# One bar a stage, from the input to the output:

# %%
best = max(probes, key=probes.get)
readings = ", ".join(f"{name} {value:.2f}" for name, value in probes.items())
describe(
    plot_bars({"guessing": middle["guessing"], **probes}, "test accuracy of a linear probe"),
    f"Bars of the accuracy of a linear probe on each stage of the pre-trained network: {readings}. "
    f"The best stage is {best}.",
)

# %% [markdown]
# **The surprise: deeper is not always better.** The stem sees little but colours and edges. The
# stages in the middle know most about defects. The last one knows *less* again: to tell a cat
# from a lorry it throws away where the fine lines were, and a scratch is nothing but a fine line.
# That is what is meant by **early stages are general, late ones specific** (Yosinski et al., 2014).
# A head on the middle stage would also be cheaper: the stages behind it need not run at all.

# %%
last, first = BODY_STAGES[-1], BODY_STAGES[0]
claim("20.5", "points by which the best stage's probe beats that of the last stage",
      100 * (max(list(probes.values())[:-1]) - probes[last]), at_least=LEAST["middle"])
claim("20.6", "points by which the best stage's probe beats that of the first stage",
      100 * (probes[best] - probes[first]), at_least=15)

# %% [markdown]
# ## 5 · How many stages should you train?
#
# Between "the head alone" and "everything" lie the other boundaries. The later the boundary, the
# fewer weights are trained, and the more the cache saves.

# %%
opened = {"head": (frozen, middle["frozen + linear head"])}
for start in ("layer4", "layer3"):
    _, *opened[start] = train(recipes.top_stages(start, learning_rate=LEARNING_RATE, **budget))
opened["everything"] = full, middle["full fine-tuning"]
chance = 100 * (middle["full fine-tuning"] * (1 - middle["full fine-tuning"]) / TEST) ** 0.5
show_table(
    [
        {
            "train from": name, "trained weights": run.trained_weights,
            "share": f"{run.trained_weights / run.total_weights:.2%}",
            "test accuracy": accuracy, "seconds": run.seconds,
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
# ## 6 · A failure on purpose: the BatchNorm trap
#
# A good head is worth keeping. Say the first head is in use, and a colleague trains a **second head
# on the same body**, in a plain loop of her own. She freezes every weight of the body, so the first
# head is safe. Is it?
#
# The loop takes one argument, `set_training`: how the network is put into training mode.


# %%
import torch
import torch.nn.functional as F


def second_head(model, set_training):
    """Train a new head on a frozen body for one epoch, one small batch after another."""
    model.requires_grad_(False)
    model.fc = torch.nn.Linear(model.fc.in_features, len(task.classes)).to(model.fc.weight.device)
    optimizer = torch.optim.AdamW(model.fc.parameters(), lr=2e-3)
    set_training(model)
    for rows in torch.randperm(len(task.train)).split(8):
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
    "weights moved (%)": 0.0, "buffers moved (%)": 0.0, "first head": heads[0][2],
    "second head": "–",
}
rows = {"before": before, "model.train()": careless, "frozen stages in eval mode": careful}
show_table([{"body": name, **row} for name, row in rows.items()],
           "What training a second head did to the body and to both heads")

# %%
values = {name: row["first head"] for name, row in rows.items()}
listed = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
describe(
    plot_bars({"guessing": middle["guessing"], **values}, "test accuracy of the first head"),
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
      100 * (heads[0][2] - careless["first head"]), at_least=5)
claim("20.12", "percent of the buffers that moved with frozen stages in eval mode",
      careful["buffers moved (%)"], at_most=0)

# %% [markdown]
# ## 7 · Exercise: mend the drift
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
# ## 8 · Exercise: choose within a budget
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
# ## 9 · When to use it, and when not
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
made = [scratch, full, *(run for _, run, _ in heads), opened["layer4"][0], opened["layer3"][0]]
print(
    f"{len(made)} runs, {sum(run.seconds for run in made):.0f} s of training, about "
    f"{sum(run.energy_wh for run in made):.2f} Wh (an estimate), "
    f"peak memory {max(run.peak_memory_mb for run in made):.0f} MB"
)

# %% [markdown]
# ## What you can do now
#
# - *Turn a pre-trained network into a classifier of your own pictures, in two ways*: sections 2, 3.
# - *Decide how many stages to train*: sections 4, 5 and 8.
# - *Recognise and cure the BatchNorm trap*: sections 6 and 7.

# %%
quiz("20")

# %% [markdown]
# **Further reading.** He, Zhang, Ren and Sun (2016), *Deep residual learning for image
# recognition*. · Ioffe and Szegedy (2015), *Batch normalization: accelerating deep network training
# by reducing internal covariate shift*. · Yosinski, Clune, Bengio and Lipson (2014), *How
# transferable are features in deep neural networks?* · Li, Wang, Shi, Liu and Hou (2016), *Revisiting
# batch normalization for practical domain adaptation*. · Kornblith, Shlens and Le (2019), *Do better
# ImageNet models transfer better?*
