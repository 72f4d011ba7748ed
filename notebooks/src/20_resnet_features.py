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
    plot_bars, plot_images, plot_lines, predict, quiz, recipes, select, set_mode, show_table,
    stages,
)

MODEL = select(PROFILE, quick="resnet18", full="resnet18-imagenet")
TASK = select(PROFILE, quick="surface", full="flowers")
TRAIN = select(PROFILE, quick=360, full=1020)  # labelled photographs
TEST = select(PROFILE, quick=240, full=2000)
SETTINGS = select(  # how the photographs are made
    PROFILE, quick={"train": TRAIN, "valid": 24, "test": TEST, "difficulty": 0.2},
    full={"size": 128},
)
EPOCHS = select(PROFILE, quick=3, full=10)
BATCH = select(PROFILE, quick=24, full=64)
LEARNING_RATE = select(PROFILE, quick=1e-3, full=1e-4)

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

# %%
summary = ", ".join(f"{name} {value:.2f}" for name, value in middle.items())
describe(
    plot_bars(accuracies, "test accuracy", chance=accuracies["guessing"]),
    f"Bars of test accuracy: {summary}.",
)

# %% [markdown]
# TODO answer

# %%
claim("20.1", "points of accuracy by which full fine-tuning beats the same network from scratch",
      100 * (middle["full fine-tuning"] - middle["from scratch"]), at_least=8)
claim("20.2", "points of accuracy by which full fine-tuning beats frozen features",
      100 * (middle["full fine-tuning"] - middle["frozen + linear head"]), at_least=5)
claim("20.3", "share of the weights that the frozen recipe trains, in percent",
      100 * frozen.trained_weights / frozen.total_weights, at_most=1)
claim("20.4", "points by which frozen features beat the nearest pictures, over three seeds",
      [100 * (a - middle["nearest pictures"]) for a in accuracies["frozen + linear head"]],
      at_least=5)

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

# %%
best = max(probes, key=probes.get)
readings = ", ".join(f"{name} {value:.2f}" for name, value in probes.items())
describe(
    plot_bars(probes, "test accuracy of a linear probe", chance=accuracies["guessing"]),
    f"Bars of the accuracy of a linear probe on each stage of the pre-trained network: {readings}. "
    f"The best stage is {best}.",
)

# %% [markdown]
# TODO

# %% [markdown]
# ## 5 · How many stages should you train?
#
# Between "the head alone" and "everything" lie the other boundaries. The later the boundary, the
# fewer weights are trained, and the more the cache saves.

# %%
opened = {"head": (frozen, middle["frozen + linear head"]), "everything": (full, middle["full fine-tuning"])}
for first in ("layer4", "layer3"):
    _, run, accuracy = train(recipes.top_stages(first, learning_rate=LEARNING_RATE, **budget))
    opened[first] = run, accuracy
opened = {name: opened[name] for name in ("head", "layer4", "layer3", "everything")}

# %%
show_table(
    [
        {
            "train from": name, "trained weights": run.trained_weights,
            "share": f"{run.trained_weights / run.total_weights:.1%}",
            "test accuracy": accuracy, "seconds": run.seconds,
        }
        for name, (run, accuracy) in opened.items()
    ],
    "Accuracy and cost by the first trained stage",
)

# %%
axes = plot_lines(
    [run.trained_weights / 1e6 for run, _ in opened.values()],
    {"one run each": [accuracy for _, accuracy in opened.values()]},
    "trained weights (millions)", "test accuracy", log_x=True,
)
for name, (run, accuracy) in opened.items():
    axes.annotate(name, (run.trained_weights / 1e6, accuracy), (-4, -12),
                  textcoords="offset points", ha="right", fontsize=9)
points = "; ".join(f"from {name} {accuracy:.2f}" for name, (_, accuracy) in opened.items())
describe(axes, f"Test accuracy over the number of trained weights, by first stage: {points}.")

# %% [markdown]
# TODO

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
# Afterwards we compare the body with what it was, tensor by tensor, and put the first head back.


# %%
def aftermath(set_training):
    """Share of the body's weights and buffers that moved; accuracy of the first head then."""
    model = copy_of(first_model)
    torch.manual_seed(SEED)
    second_head(model, set_training)
    model.fc = copy_of(first_model).fc
    old, buffers = first_model.state_dict(), {name for name, _ in model.named_buffers()}
    moved = {name: not torch.equal(old[name], new) for name, new in model.state_dict().items()}
    shares = [
        sum(moved[name] for name in names) / len(names) for names in (moved.keys() - buffers, buffers)
    ]
    return *shares, evaluate(model, task.test).accuracy


untouched = evaluate(first_model, task.test).accuracy
careless = aftermath(lambda model: model.train())

# %%
TODO
