# %% [markdown]
# # 03 · Inside the training core
#
# Two programs fine-tune the same model on the same texts, and what they learn is the same. One takes
# several times as long. **Where does the time go**, which tricks get it back, and how do you know
# that a trick has not changed what is learnt?
#
# **You will be able to**
#
# - read a training loop and its profile, and say where the time goes;
# - turn on the techniques that save time, one by one, and measure what each is worth *here*;
# - check that a faster run is still the same run: equal gradients, equal losses, equal weights.
#
# **Builds on** lesson 00. **Words:** *epoch* – one pass over the training texts; *batch* – the
# texts that one step looks at; *step* – one change of the weights; *padding* – filling short texts
# up so that a batch is a rectangle; *precision* – how many digits a number has: *fp32* about seven,
# *bf16* about two or three; *profile* – a list of operations with the time that each took.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
import time

import torch
import torch.nn.functional as F

from course_utils import (
    check, choose_compute, claim, copy_of, describe, fit, load_task, load_text_model,
    plot_bars, plot_lines, predict, quiz, recipes, seed_everything, select, show_table, tokenize,
)

MODEL = select(PROFILE, quick="minilm", full="google-bert/bert-base-uncased")
TASK = select(PROFILE, quick="tickets", full="banking77")
TRAIN = select(PROFILE, quick=32, full=4096)  # texts that are timed
BATCH = select(PROFILE, quick=8, full=64)
LEARNING_RATE = select(PROFILE, quick=2e-4, full=3e-5)
TOP = select(PROFILE, quick="layer4", full="layer8")  # the last third of the layers

# %% [markdown]
# ## 1 · A plain loop
#
# This is the loop of most tutorials. Read it line by line: everything that follows changes a line
# of it and nothing else. The three things that we shall change have been made arguments: which
# texts go together (`order`), the precision, and the optimizer.

# %%
compute = choose_compute()
original = load_text_model(MODEL, len(load_task(TASK).classes), seed=SEED).to(compute.device)
data = tokenize(load_task(TASK).limited(train=TRAIN, valid=64, seed=SEED), original.tokenizer)
texts, labels = list(data.train.inputs), data.train.labels


# %%
def pad(rows):
    """Token ids (B, T) of some texts, and a mask that is 1 at real tokens."""
    ids = torch.nn.utils.rnn.pad_sequence([texts[i].long() for i in rows], batch_first=True)
    lengths = torch.tensor([len(texts[i]) for i in rows])
    return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()


def loop(model, order, precision="fp32", fused=False):
    """One epoch; returns the mean loss of its texts."""
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, fused=fused or None)
    model.train()
    total = 0.0
    for rows in order:
        ids, mask = (x.to(compute.device) for x in pad(rows.tolist()))
        with torch.autocast(compute.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(ids, mask)
        loss = F.cross_entropy(logits.float(), labels[rows].to(compute.device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item() * len(rows)
    return total / len(labels)


# %% [markdown]
# A stopwatch around it. Computers are noisy: another program wakes up, the processor gets warm. So
# each variant runs **twice, in turns**, and the faster time counts.

# %%
def texts_per_second(variants, rounds=2):
    """The best speed of each variant; they take turns."""
    best = dict.fromkeys(variants, 0.0)
    for _ in range(rounds):
        for name, run in variants.items():
            seed_everything(SEED)
            start = time.perf_counter()
            run()
            best[name] = max(best[name], len(texts) / (time.perf_counter() - start))
    return best


def plain():
    return loop(copy_of(original), random_order)

# %%
seed_everything(SEED)
random_order = torch.randperm(len(texts)).split(BATCH)
speeds = texts_per_second({"plain loop": plain}, rounds=1)
print(f"{speeds['plain loop']:.0f} texts/s on {compute}")

# %% [markdown]
# ## 2 · How much of it is padding?

# %%
predict("03.1")

# %% [markdown]
# A batch is a rectangle: as wide as its longest text. Let us count the little squares that hold
# no word, for random batches and for batches of texts of **nearly the same length**.

# %%
def padding(order):
    """Share of computed tokens that are padding."""
    computed = sum(len(rows) * max(len(texts[i]) for i in rows) for rows in order)
    return 1 - sum(map(len, texts)) / computed


# %%
by_length = torch.tensor([len(text) for text in texts]).argsort()
grouped = by_length.split(BATCH)
grouped = [grouped[i] for i in torch.randperm(len(grouped))]  # the batches still come at random
shares = {"random batches": padding(random_order), "grouped by length": padding(grouped)}
describe(
    plot_bars(shares, "share of computed tokens that are padding"),
    "Bars of the share of padding: "
    + ", ".join(f"{name} {value:.2f}" for name, value in shares.items()) + ".",
)

# %% [markdown]
# Is the grouped loop still the same training? A text in a batch must get the same gradient however
# wide the batch is. We compare the gradient of eight texts in one padded batch with the sum of the
# gradients of each text alone, where nothing is padded.


# %%
def gradient(batches, weight):
    """The gradient of one weight matrix, added up over batches; nothing is dropped out."""
    model = copy_of(original).eval()
    for rows in batches:
        ids, mask = (x.to(compute.device) for x in pad(rows))
        loss = F.cross_entropy(model(ids, mask), labels[rows].to(compute.device), reduction="sum")
        loss.backward()
    return model.get_parameter(weight).grad


# %%
WEIGHT = "head.weight"
together, alone = gradient([list(range(8))], WEIGHT), gradient([[i] for i in range(8)], WEIGHT)
error = ((together - alone).norm() / alone.norm()).item()
claim("03.1", "share of padding that grouping by length saves",
      1 - shares["grouped by length"] / shares["random batches"], at_least=0.5)
claim("03.2", "relative difference of the gradient with padding and without",
      error, at_most=1e-3)

# %% [markdown]
# ## 3 · Where does the rest go?
#
# A **profiler** notes every operation and its time. It lists hundreds of names; we add them up by
# kind. The *matrix products* are what a network is made of. All other bars are overhead.

# %%
from torch.profiler import ProfilerActivity, profile

from course_utils.lessons.lesson_03 import time_by_kind


def profile_of(run):
    """Seconds by kind of operation."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    return time_by_kind(profiler.key_averages())


# %%
kinds = profile_of(lambda: loop(copy_of(original), grouped[:3]))
listed = ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in kinds.items())
describe(
    plot_bars(kinds, "seconds in three steps of the plain loop"),
    f"Bars of the time by kind of operation: {listed}.",
)

# %% [markdown]
# The bars tell what can help on *this* machine:
#
# - **matrix products**: fewer digits. In *bf16* a product needs half the memory traffic, and
#   processors and cards that know the format multiply two to eight times as fast. The weights and
#   their updates stay in fp32, only the products are rounded ("mixed precision", Micikevicius et
#   al., 2018).
# - **optimizer**: one *fused* pass over each weight instead of a dozen.
# - **random numbers**: dropout draws one for each value it looks at, in one thread.

# %%
variants = {
    "plain loop": plain,
    "+ grouped by length": lambda: loop(copy_of(original), grouped),
    "+ fused optimizer": lambda: loop(copy_of(original), grouped, fused=True),
}
if compute.precision == "bf16":  # where it is only emulated, it is many times slower
    variants["+ bf16"] = lambda: loop(copy_of(original), grouped, "bf16", fused=True)
speeds = texts_per_second(variants)
speeds

# %% [markdown]
# ## 4 · The course's core
#
# `fit` is this loop with all of that, and with two more techniques. Its **own dropout** makes four
# decisions from one random number. And its **live rows**: the table of words is half of this model,
# but a word that does not occur in the training texts has no gradient, so its row, and all that the
# optimizer keeps for it, is left out.

# %%
def core(**changes):
    """One epoch of the course's core; arguments switch techniques off."""
    recipe = recipes.full_finetuning(
        epochs=1, batch_size=BATCH, learning_rate=LEARNING_RATE, head_learning_rate=None,
        schedule="constant", warmup=0.0, validate=False, **changes,
    )
    return fit(copy_of(original), data, recipe, seed=SEED, silent=True)


# %%
speeds |= texts_per_second({"the course's core": core})
listed = ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items())
describe(
    plot_bars(speeds, "texts per second"),
    f"Bars of training speed in texts a second: {listed}.",
)

# %% [markdown]
# Which technique is worth what? Switch each off alone. This is called an **ablation**. Take the
# small differences with a grain of salt: two rounds on a busy machine cannot tell five percent from
# nothing (`python -m course_utils bench` measures it properly).

# %%
off = {
    "everything on": {}, "no grouping": dict(group_by_length=False),
    "torch's dropout": dict(faster_operations=False), "all words": dict(live_rows=False),
}
if compute.precision == "bf16":
    off["no bf16"] = dict(precision="fp32")
ablation = texts_per_second({name: lambda c=changes: core(**c) for name, changes in off.items()})
show_table(
    [
        {"technique": name, "texts/s": speed, "time": f"{ablation['everything on'] / speed:.2f}×"}
        for name, speed in ablation.items()
    ],
    "Speed with each technique switched off alone, and the time that this costs",
)

# %% [markdown]
# ## 5 · The trick that pays most: do not compute it again
#
# Often only the last layers are trained. The frozen ones in front give **the same output in every
# epoch**.

# %%
predict("03.2")

# %% [markdown]
# Count the work in passes through a layer. Forward is one pass. Backward costs two: one for the
# gradient of the layer's input and one for that of its weights. With four frozen layers, two
# trained ones and five epochs, that is 5 · (4 + 3 · 2) = 50 passes. If the output of the frozen
# layers is **kept**, it is 4 + 5 · 3 · 2 = 34. We call this the *frozen-prefix cache*.

# %%
import statistics

from course_utils.prefix_cache import forget


def top_layers(cache):
    """Five epochs of the last layers; returns the run, and how often a text passed a layer."""
    forget()  # nothing is kept from before
    model, passed = copy_of(original), []
    for layer in model.encoder.encoder.layer:
        layer.register_forward_hook(lambda _, inputs, __: passed.append(len(inputs[0])))
    recipe = recipes.top_stages(
        TOP, epochs=5, batch_size=BATCH, learning_rate=LEARNING_RATE, cache_prefix=cache,
        precision="fp32", validate=False,
    )
    return fit(model, data, recipe, seed=SEED, silent=True), sum(passed)


def steady_seconds(run):
    """The first epoch, and four like the median of the others: one hiccup does not count."""
    first, *others = run.column("seconds")
    return first + 4 * statistics.median(others)


# %%
(without, passes_without), (with_cache, passes_with) = top_layers(False), top_layers(True)
faster = steady_seconds(without) / steady_seconds(with_cache)
expected = (5 * (4 + 3 * 2)) / (4 + 5 * 3 * 2)
print(f"{faster:.2f} times as fast; by counting passes {expected:.2f}")

# %% [markdown]
# Faster, but is it the same? The losses of each epoch, once with and once without:

# %%
losses = {"without": without.column("train_loss"), "with": with_cache.column("train_loss")}
describe(
    plot_lines([1, 2, 3, 4, 5], losses, "epoch", "training loss (nats)"),
    "Training loss over five epochs with and without the cache; the two lines lie on each other: "
    + ", ".join(f"{loss:.2f}" for loss in losses["with"]) + ".",
)

# %%
apart = max(abs(a - b) for a, b in zip(losses["with"], losses["without"], strict=True))
claim("03.3", "largest difference of an epoch's loss with and without the cache, in nats",
      apart, at_most=1e-2)

# %% [markdown]
# Seconds depend on what else the machine is doing, so the claim is about something that does not:
# how often a text went **forward through a layer**, counted in both runs.

# %%
claim("03.4", "share of the forward passes that the cache saves in five epochs",
      1 - passes_with / passes_without, at_least=0.4)

# %% [markdown]
# The cache is exact only if the frozen layers see the same input in every epoch and roll no dice:
# no augmentation, no dropout in them. The core sees to both: a frozen stage is in eval mode, and
# with augmented pictures the cache stays off.
#
# ## 6 · A failure on purpose: the mean of the means
#
# When a batch does not fit into memory, it is cut into **micro-batches**, whose gradients add up
# before the step. (*Gradient accumulation*.) Somebody divides eight texts into five and three,
# takes the mean loss of each part, and averages the two.

# %%
predict("03.3")


# %%
def accumulated(parts, right):
    """The gradient added up over micro-batches, rightly or as the mean of means."""
    model, count = copy_of(original).eval(), sum(map(len, parts))
    for rows in parts:
        ids, mask = (x.to(compute.device) for x in pad(rows))
        total = F.cross_entropy(model(ids, mask), labels[rows].to(compute.device), reduction="sum")
        (total / count if right else total / len(rows) / len(parts)).backward()
    return model.get_parameter(WEIGHT).grad


parts, whole = [[0, 1, 2, 3, 4], [5, 6, 7]], together / 8
errors = {
    name: ((accumulated(parts, right) - whole).norm() / whole.norm()).item()
    for name, right in (("mean of means", False), ("sum over count", True))
}
errors

# %% [markdown]
# **Cause.** In the mean of means a text in the part of three weighs a sixth, one in the part of
# five a tenth. Widely used software had this error for years, with tokens instead of texts, and nobody
# saw it: the loss still went down. **Cure.** Add up *sums*, and divide once by the number of all
# that was added up. The core's `gradients` does that, for micro-batches and for processes alike.

# %%
claim("03.5", "relative error of the gradient from the mean of means",
      errors["mean of means"], at_least=0.01)
claim("03.6", "relative error of the gradient from the sum over the count",
      errors["sum over count"], at_most=1e-3)

# %% [markdown]
# ## 7 · More processes
#
# Two processors are twice one, if the work divides. Under `torchrun` the same `fit` runs in two
# processes; each takes half of every batch, and the gradients are added up over both. We write a
# little program, run it once here and once in two processes, and compare the weights.

# %%
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = '''
import sys
import torch
from course_utils import fit, load_task, load_text_model, recipes, tokenize

def train():
    model = load_text_model("minilm", 15, seed=0, dropout=0.0)
    for module in model.modules():  # no dice, so that both runs can be compared
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    data = tokenize(load_task("tickets").limited(train=20, valid=15), model.tokenizer)
    recipe = recipes.full_finetuning(epochs=1, precision="fp32", validate=False)
    fit(model, data, recipe, silent=True)
    return model.cpu().state_dict()

if __name__ == "__main__":
    torch.save(train(), sys.argv[1])
'''
folder = Path(tempfile.mkdtemp())
(folder / "program.py").write_text(PROGRAM)

# %% [markdown]
# (The two work on processors only, so that it runs the same everywhere. On several GPUs the command
# is the same, and `fit(…, shard=True)` also divides the weights among them.)

# %%
def run_in_two():
    """The weights after running the program in two processes."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    file = folder / "weights.pt"
    subprocess.run(
        [sys.executable, *launch, str(folder / "program.py"), str(file)], check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    return torch.load(file)


# %%
sys.path.append(str(folder))
import program

one, two = program.train(), run_in_two()
difference = max((one[name] - two[name]).abs().max().item() for name in one)
claim("03.7", "largest difference of a weight between one process and two",
      difference, at_most=2e-3)

# %% [markdown]
# The sums are added in another order, so the last digits differ; nothing else does.
#
# ## 8 · Never losing work
#
# A run of hours will be interrupted some day. `fit(…, checkpoint=file)` keeps a file from which it
# goes on. We stop a run in its second epoch and start it again; another run is left alone.


# %%
def stop_in_epoch(number):
    """A hook that behaves like somebody who presses Ctrl-C after an epoch."""

    def hook(epoch):
        if epoch.number == number:
            raise KeyboardInterrupt

    return hook


# %%
small = data.limited(train=24, valid=16)
recipe = recipes.top_stages(TOP, epochs=3, batch_size=BATCH, precision="fp32")
undisturbed, disturbed = copy_of(original), copy_of(original)
fit(undisturbed, small, recipe, seed=SEED, silent=True)
try:
    fit(disturbed, small, recipe, seed=SEED, silent=True, checkpoint=folder / "run.ckpt",
        on_epoch=stop_in_epoch(2))
except KeyboardInterrupt:
    print("stopped")

# %% [markdown]
# Somebody even spoils the weights in memory; the file has everything:

# %%
disturbed = copy_of(original)
fit(disturbed, small, recipe, seed=SEED, silent=True, checkpoint=folder / "run.ckpt")
unequal = [
    name for name, value in undisturbed.state_dict().items()
    if not torch.equal(value, disturbed.state_dict()[name])
]
claim("03.8", "weights that differ, bit for bit, after an interruption", len(unequal), at_most=0)

# %% [markdown]
# ## 9 · Exercise: predict the next speed-up
#
# Write a function that predicts what the cache is worth: `frozen` and `trained` are numbers of
# layers (they may be fractions), all equally large. A trained layer costs three passes an epoch.

# %%
speedup = ...
# solution begin


def count_passes(frozen, trained, epochs):
    without = epochs * (frozen + 3 * trained)
    return without / (frozen + epochs * 3 * trained)


speedup = count_passes
# solution end
check("03.1", speedup)

# %% [markdown]
# ## 10 · Exercise: mend the accumulation
#
# A loop collects a pair for each micro-batch: the **sum** of its losses and the **number** of its
# texts. Write a function that takes the list of pairs and returns the mean loss of the batch.

# %%
mean_loss = ...
# solution begin


def over_all(micro_batches):
    return sum(total for total, _ in micro_batches) / sum(count for _, count in micro_batches)


mean_loss = over_all
# solution end
check("03.2", mean_loss)

# %% [markdown]
# ## 11 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | profile before you tune: the largest bar first | optimise what you have not measured |
# | count the padding | sort *all* texts by length once and for all: the batches must come at random |
# | use bf16 where the hardware multiplies it | use it where it is emulated: it is slower there |
# | keep the output of frozen layers | keep it when pictures are augmented |
# | compare gradients or losses before and after a trick | believe a speed-up that changes the loss |
#
# **Cost of what you just ran:**

# %%
print(
    f"the five epochs of section 5: {without.seconds:.1f} s and about {without.energy_wh:.3f} Wh "
    f"without the cache, {with_cache.seconds:.1f} s and {with_cache.energy_wh:.3f} Wh with it "
    f"(estimates); peak memory {with_cache.peak_memory_mb:.0f} MB"
)

# %% [markdown]
# ## What you can do now
#
# - *Read a training loop and its profile*: sections 1 to 3.
# - *Turn on the techniques that save time, and measure each*: sections 2 to 5.
# - *Check that a faster run is still the same run*: sections 2, 5, 6, 7 and 8.
#
# The core itself can be read in one sitting: open `course_utils/train.py`.

# %%
quiz("03")

# %% [markdown]
# **Further reading.** Micikevicius et al. (2018), *Mixed precision training*. · Li et al. (2020),
# *PyTorch Distributed: experiences on accelerating data parallel training*. · Zhao et al. (2023),
# *PyTorch FSDP: experiences on scaling fully sharded data parallel*. · Loshchilov and Hutter (2019),
# *Decoupled weight decay regularization*. · Srivastava, Hinton, Krizhevsky, Sutskever and
# Salakhutdinov (2014), *Dropout: a simple way to prevent neural networks from overfitting*.
