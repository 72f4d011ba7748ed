# %% [markdown]
# # 24 · Seeing why: explanations
#
# A network finds scratches. Is it the scratch that it looks at? A *heat map* gives an
# answer in colours, and any heat map that lies on the scratch looks convincing. Here we
# know where every defect is, so explanations can be **scored**, against the defect and
# against the network itself. By two well-known scores a method does well that explains
# nothing at all; a third one finds it out.
#
# **You will be able to**
#
# - write Grad-CAM in a few lines, use it and integrated gradients from Captum, and check
#   both;
# - score an explanation in three ways, and say what each score cannot see;
# - find out from explanations, of pictures and of texts, that a model uses a shortcut.
#
# **Builds on** lessons 10, 20 and 22. **Words:** *attribution* – a number for each part
# of the input, for how much the answer owes to it; *heat map* – attributions as a
# picture; *pointing game* – how often a map's largest value lies in the right box;
# *baseline input* – the input that stands for "nothing is there"; *deletion* – taking
# away what an explanation names first, and seeing how far the answer falls; *shortcut* –
# a feature that goes with the label in the training data only.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
import numpy as np
import torch
import torch.nn.functional as F

from course_utils import (
    check, claim, copy_of, describe, evaluate, fit, load_image_model, load_task,
    load_text_model, plot_bars, plot_lines, predict, quiz, recipes, run_stages, select,
    show_table, stages, tokenize,
)
from course_utils.lessons.lesson_24 import (
    Words, area, blurred, centre, edges, energy, hits, inside, plot_maps,
    rank_correlation, replacing, show_words, smooth,
)

# %% [markdown]
# The settings. Pictures and boxes are drawn in the same way in both profiles; `full` takes
# more and larger ones.

# %%
MODEL = select(PROFILE, quick="resnet18", full="resnet18-imagenet")
TEXT_MODEL = select(PROFILE, quick="minilm", full="distilbert/distilbert-base-uncased")
TEXTS = select(PROFILE, quick="reviews", full="sst2")
SIZE = select(PROFILE, quick=64, full=224)  # side of a picture in pixels
TRAIN, TEST = select(PROFILE, quick=(96, 60), full=(3000, 600))
EPOCHS, BATCH, RATE = select(PROFILE, quick=(2, 12, 1e-3), full=(5, 64, 2e-4))
SEEDS = [SEED, SEED + 1, SEED + 2]
PICTURES = select(PROFILE, quick=16, full=60)  # to explain, for each seed
LONGEST = select(PROFILE, quick=13, full=16)  # words of an explained review
READ = select(PROFILE, quick=18, full=24)  # reviews to explain
FEW = select(PROFILE, quick=6, full=30)  # of them for what takes many passes
STEPS = select(PROFILE, quick=5, full=32)  # of integrated gradients
TOLERANCE = SIZE // 32  # pixels beside a box that still count
# Bounds of claims. Larger pictures have finer grids, so much is different in full.
LEAST = select(PROFILE, quick={"layer": 25, "edges": 15},
               full={"layer": -50, "edges": -60})

# %% [markdown]
# ## 1 · A network, and pictures whose evidence is known
#
# Three networks, which differ in their seed, learn the surface task of lesson 20.


# %%
def trained(task, seed, **changes):
    """A fine-tuned network, its weights fixed, and the record of its training."""
    model = load_image_model(MODEL, len(task.classes), seed=seed)
    settings = dict(epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE, validate=False)
    history = fit(model, task, recipes.top_stages("layer2", **{**settings, **changes}),
                  seed=seed, silent=True)
    return model.requires_grad_(False), history


task = load_task("surface", seed=SEED, train=TRAIN, valid=12, test=TEST, size=SIZE,
                 difficulty=0.2)
runs = [trained(task, seed) for seed in SEEDS]
models = [model for model, _ in runs]

# %% [markdown]
# What is there to explain? Only pictures that **have a defect** and that the network
# **gets right**: for a wrong answer nobody knows where the evidence should be.


# %%
def logits(model, images):
    return model(model.pixels.normalize(images.to(next(model.parameters()).device)))


def explained(model, examples, seed):
    """Test pictures with a defect, rightly classified, drawn at random; and the accuracy."""
    with torch.no_grad():
        right = logits(model, examples.inputs).argmax(1).cpu() == examples.labels
    found = examples.select(right & (examples.labels > 0))
    return found.subset(min(PICTURES, len(found)), seed), right.double().mean().item()


# %% [markdown]
# Their accuracy, and how many pictures each has to explain:

# %%
shown, accuracies = zip(*(explained(model, task.test, seed)
                          for model, seed in zip(models, SEEDS, strict=True)), strict=True)
show_table(
    [{"seed": seed, "test accuracy": accuracy, "explained pictures": len(some),
      "trained weights": run.trained_weights, "seconds": run.seconds,
      "energy (Wh, estimate)": run.energy_wh}
     for seed, accuracy, some, (_, run) in zip(SEEDS, accuracies, shown, runs, strict=True)],
    "The three networks",
)

# %% [markdown]
# ## 2 · Baselines that know no network
#
# - **Centre**: always point at the middle.
# - **Edges**: point where brightness changes most. It is a filter from 1968 (Sobel's).
#
# The **pointing game** (Zhang et al., 2016): an explanation is a hit if its largest value
# lies in the defect's box, or no more than `TOLERANCE` pixels beside it. A large box is
# easily hit, so a map of **noise** tells what chance would give.

# %%
predict("24.2")

# %%
def noise(images):
    source = torch.Generator().manual_seed(SEED)
    return smooth(torch.rand(images[:, 0].shape, generator=source))


def points(maps, examples):
    """Percent of the pictures in which the largest value lies in the box."""
    return 100 * hits(maps, examples.columns["boxes"], TOLERANCE).double().mean().item()


blind = {"noise": noise, "centre": centre, "edges": edges}
pointing = {name: [points(find(some.inputs), some) for some in shown]
            for name, find in blind.items()}
{name: f"{np.median(values):.0f} %" for name, values in pointing.items()}

# %% [markdown]
# ## 3 · Grad-CAM by hand
#
# The output of a stage is a stack of small maps, one for each feature. **Grad-CAM**
# (Selvaraju et al., 2017) asks how much the class's output would grow with each feature,
# averages that over the places, adds up the maps with these weights, keeps what is
# positive, and enlarges it to the picture. With a model that is a list of stages: run up
# to the stage, and from there on with a gradient.


# %%
def grad_cam(model, images, labels, stage):
    """Grad-CAM at a stage, enlarged to the pictures: (n, H, W)."""
    parts = stages(model)
    cut = [part.name for part in parts].index(stage) + 1
    device = next(model.parameters()).device
    with torch.no_grad():
        maps = run_stages(parts[:cut], images.to(device))
    maps = maps.detach().requires_grad_()
    scores = run_stages(parts[cut:], maps).gather(1, labels[:, None].to(device))
    (slopes,) = torch.autograd.grad(scores.sum(), maps)
    found = (slopes.mean((2, 3), keepdim=True) * maps.detach()).sum(1, keepdim=True).relu()
    return F.interpolate(found, images.shape[-2:], mode="bilinear")[:, 0].cpu()


# %% [markdown]
# The same by **Captum**, the library for explanations in PyTorch:

# %%
from captum.attr import IntegratedGradients, LayerGradCam

model, some = models[0], shown[0]
pixels = model.pixels.normalize(some.inputs).to(next(model.parameters()).device)
labels = some.labels.to(pixels.device)
theirs = LayerGradCam(model, model.layer3).attribute(pixels, labels, relu_attributions=True)
theirs = F.interpolate(theirs, some.inputs.shape[-2:], mode="bilinear")[:, 0].detach().cpu()
ours = grad_cam(model, some.inputs, some.labels, "layer3")
claim("24.1", "largest difference of our Grad-CAM from Captum's, as a share of its maximum",
      ((ours - theirs).abs().max() / theirs.max()).item(), at_most=1e-3)

# %% [markdown]
# ## 4 · Gradients, and gradients along a way
#
# The plain **gradient** says which pixels would change the output if they changed a
# little (Simonyan et al., 2014). **Integrated gradients** (Sundararajan et al., 2017)
# averages the gradients along the way from a *baseline input* to the picture, and
# multiplies each pixel's by how far it has changed. Its promise is **completeness**: all
# attributions together are the difference of the two outputs.


# %%
def gradient(model, images, labels):
    x = model.pixels.normalize(images.to(next(model.parameters()).device)).requires_grad_()
    scores = model(x).gather(1, labels[:, None].to(x.device))
    (slopes,) = torch.autograd.grad(scores.sum(), x)
    return smooth(slopes.abs().sum(1)).cpu()


def integrated(model, images, labels, steps=STEPS, nothing=blurred):
    """Attributions (n, 3, H, W), and how far their sums are off, relative to them."""
    device = next(model.parameters()).device
    x, start = (model.pixels.normalize(z.to(device)) for z in (images, nothing(images)))
    found, gaps = IntegratedGradients(model).attribute(
        x, start, target=labels.to(device), n_steps=steps, internal_batch_size=96,
        return_convergence_delta=True)
    return found.detach().cpu(), (gaps.abs().mean() / found.sum((1, 2, 3)).abs().mean()).item()


# %% [markdown]
# The way is walked in steps, so completeness holds only nearly. And what is "nothing"?
# A **grey** picture is common; a **blurred** one keeps the surface and loses what is small.

# %%
def grey(images):
    return torch.full_like(images, 124)


few, their_labels = some.inputs[:2], some.labels[:2]
counts = [2, 4, 8, 16]
gaps = {kind: [100 * integrated(model, few, their_labels, steps, nothing)[1]
               for steps in counts]
        for kind, nothing in {"grey": grey, "blurred": blurred}.items()}

# %% [markdown]
# How far the sum is off, by the number of steps:

# %%
axes = plot_lines(counts, gaps, "steps", "gap (% of the attributions' sum)", log_x=True)
axes.set_xticks(counts, map(str, counts))
axes.minorticks_off()
told = "; ".join(f"{kind}: " + ", ".join(f"{gap:.0f} %" for gap in line)
                 for kind, line in gaps.items())
describe(axes, f"Gap of completeness with {', '.join(map(str, counts))} steps, by baseline input: {told}.")

# %% [markdown]
# More steps close the gap. They do not make the map a better *explanation*: the check is
# one of arithmetic. Use it to choose the number of steps, and for no more.

# %%
claim("24.2", "gap of completeness with 16 steps, as a share of that with 2 steps",
      [line[-1] / line[0] for line in gaps.values()], at_most=0.3)

# %% [markdown]
# ## 5 · Who points best?

# %%
predict("24.1")

# %% [markdown]
# All maps of all three networks. (The sign of a gradient is dropped: a pixel matters, too,
# if it speaks against the class.)


# %%
def explain(model, examples):
    """A map (n, H, W) of each method."""
    images, labels = examples.inputs, examples.labels
    found = {name: find(images) for name, find in blind.items()}
    found["gradient"] = gradient(model, images, labels)
    found["integrated gradients"] = smooth(integrated(model, images, labels)[0].abs().sum(1))
    for stage in ("layer2", "layer3", "layer4"):
        found[f"Grad-CAM, {stage}"] = grad_cam(model, images, labels, stage)
    return found


maps = [explain(model, some) for model, some in zip(models, shown, strict=True)]
METHODS = list(maps[0])

# %% [markdown]
# Four pictures; the cross is the largest value, the frame the defect's box:

# %%
rows = [int((some.labels == label).nonzero()[0]) for label in some.labels.unique()[:4]]
drawn = {name: maps[0][name][rows] for name in METHODS if name not in ("noise", "centre")}
kinds = [task.classes[label] for label in some.labels[rows]]
boxes = some.columns["boxes"][rows]
told = "; ".join(f"{name} {int(hits(found, boxes, TOLERANCE).sum())} of {len(rows)}"
                 for name, found in drawn.items())
describe(plot_maps(some.inputs[rows], drawn, boxes, kinds),
         f"Four pictures ({', '.join(kinds)}) with the heat map of each method. Largest value "
         f"in the box: {told}.")

# %% [markdown]
# The scores. Beside the pointing game stands the share of a map's values that lies on
# the defect's **mask**, in multiples of the mask's share of the picture: 1 is chance.

# %%
from course_utils.metrics import spread

pairs = list(zip(maps, shown, strict=True))
pointing = {name: [points(found[name], some) for found, some in pairs] for name in METHODS}
on_mask = {
    name: [(energy(found[name], some.columns["masks"]).mean()
            / some.columns["masks"].double().mean()).item()
           for found, some in pairs] for name in METHODS}


show_table(
    [{"method": name, "knows the network": "no" if name in blind else "yes",
      "pointing game (%)": spread(pointing[name]),
      "on the mask, × chance": spread(on_mask[name], 1)} for name in METHODS],
    f"Medians of {len(SEEDS)} networks (range), {PICTURES} pictures each",
)

# %%
told = ", ".join(f"{name} {np.median(values):.0f} %" for name, values in pointing.items())
describe(plot_bars(pointing, "largest value in the box (% of pictures)"),
         f"Bars of the pointing game, three networks each: {told}.")

# %% [markdown]
# **Two surprises.** The *last* stage, which most tutorials take, is worse here than the
# middle of the picture: at 64 pixels its grid is too coarse to point. The finer grid of
# `layer2` does best of the three, in this network and at this size. And the **edge
# detector**, which has never seen a network, points better than Grad-CAM at both later
# stages, and keeps up with the best. On a plate a scratch is a strong edge. The pointing
# game asks whether a map agrees with *us*. It cannot ask whether it is about the network.
# (The mask tells a little more: edges find the defect, and much else beside it.)

# %%
def gains(scores, name, than):
    return [a - b for a, b in zip(scores[name], scores[than], strict=True)]


claim("24.3", "points by which Grad-CAM at layer2 beats layer4 in the pointing game",
      gains(pointing, "Grad-CAM, layer2", "Grad-CAM, layer4"), at_least=LEAST["layer"])
claim("24.4", "points by which Grad-CAM at layer2 beats the middle of the picture",
      gains(pointing, "Grad-CAM, layer2", "centre"), at_least=10)
claim("24.5", "points by which edges, without a network, beat Grad-CAM at layer3",
      gains(pointing, "edges", "Grad-CAM, layer3"), at_least=LEAST["edges"])

# %% [markdown]
# ## 6 · Ask the network: deletion and insertion
#
# If a map names the pixels that matter, then **deleting** them first must make the
# probability fall fast, and **inserting** them first into a blank picture must make it
# rise fast (Petsiuk et al., 2018). The area under each curve is a score that needs no
# box. As the blank picture we take the blurred one.

# %%
SHARES = select(PROFILE, quick=[0, 0.05, 0.3, 1], full=[0, 0.05, 0.2, 0.5, 1])
RIVALS = ["noise", "edges", "gradient", "integrated gradients", "Grad-CAM, layer2"]


def curves(model, examples, found):
    """Mean probability of the class by the share of pixels exchanged."""
    images, labels = examples.inputs[:FEW], examples.labels[:FEW]
    blank = blurred(images)

    def probability(batch):
        return logits(model, batch).softmax(1).cpu().gather(1, labels[:, None])[:, 0]

    orders = {name: found[name][:FEW] for name in RIVALS}
    return {"deletion": replacing(probability, images, blank, orders, SHARES),
            "insertion": replacing(probability, blank, images, orders, SHARES)}


lines = [curves(*one) for one in zip(models, shown, maps, strict=True)]

# %% [markdown]
# The curves of deletion, for all three networks:

# %%
deletion = {name: [[one["deletion"][name][i] for one in lines] for i in range(len(SHARES))]
            for name in RIVALS}
areas = {kind: {name: [area(one[kind][name], SHARES) for one in lines] for name in RIVALS}
         for kind in ("deletion", "insertion")}
axes = plot_lines([100 * share for share in SHARES], deletion, "pixels deleted (%)",
                  "probability of the class")
told = ", ".join(f"{name} {np.median(areas['deletion'][name]):.2f}" for name in RIVALS)
describe(axes, f"Probability of the class as pixels are deleted, the first-named ones first. "
               f"Area under the curve: {told}.")

# %%
show_table(
    [{"method": name, "deletion (lower is better)": spread(areas["deletion"][name], 2),
      "insertion (higher is better)": spread(areas["insertion"][name], 2),
      "pointing game (%)": spread(pointing[name])} for name in RIVALS],
    "Areas under the curves; and the pointing game again",
)

# %% [markdown]
# **Edges pass this exam, too.** They are far ahead of noise, and beside the gradient and
# Grad-CAM: who of these three is ahead, so few pictures cannot settle. The defects *are*
# edges, and the network uses them. Where integrated gradients are ahead, be careful:
# their way begins at the same blurred picture that deletion puts in, so the exam was set
# in their favour. And a half-deleted picture is one such as the network has never seen.

# %%
claim("24.6", "area under deletion that noise has more than integrated gradients",
      gains(areas["deletion"], "noise", "integrated gradients"), at_least=0.1)
claim("24.7", "area under deletion that noise has more than edges, which know no network",
      gains(areas["deletion"], "noise", "edges"), at_least=0.08)

# %% [markdown]
# ## 7 · A failure on purpose: an explanation of nothing
#
# Say somebody sells "EdgeExplain", with the scores of sections 5 and 6. How do you find
# out that it explains nothing? **Break the network.** Adebayo et al. (2018) replace its
# weights by random ones, from the head backwards. An explanation *of the network* must
# change; one that stays was about the picture.

# %%
predict("24.3")

# %%
def randomised(model, count, seed):
    """A copy whose last `count` stages have random weights."""
    broken = copy_of(model)
    torch.manual_seed(seed)
    for part in [part for part in stages(broken) if part.parameters][-count:]:
        for module in part.modules:
            for layer in module.modules():
                if hasattr(layer, "reset_parameters"):
                    layer.reset_parameters()
    return broken.eval()


CHECKED = {
    "edges": lambda model, images, labels: edges(images),
    "gradient": gradient,
    "Grad-CAM, layer2": lambda *given: grad_cam(*given, "layer2"),
}

# %% [markdown]
# How much do the maps still agree with those of the trained network? The *rank correlation*
# compares in which order two maps put the pixels: 1 is the same order, 0 is none in common.

# %%
names = [part.name for part in stages(models[0]) if part.parameters][::-1]
DEPTHS = [1, 3, len(names)]  # stages with random weights, counted from the head
kept = {name: [[1.0] * len(SEEDS)] for name in CHECKED}
for count in DEPTHS:
    for line in kept.values():
        line.append([])
    for seed, model, some, found in zip(SEEDS, models, shown, maps, strict=True):
        broken = randomised(model, count, seed)
        for name, method in CHECKED.items():
            new = method(broken, some.inputs[:FEW], some.labels[:FEW])
            agreement = rank_correlation(found[name][:FEW], new).mean().item()
            kept[name][-1].append(agreement)

# %%
axes = plot_lines([0, *DEPTHS], kept, "random weights from here to the head",
                  "rank correlation with before")
axes.set_xticks([0, *DEPTHS], ["none", *(names[count - 1] for count in DEPTHS)])
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
told = ", ".join(f"{name} {np.median(line[-1]):.2f}" for name, line in kept.items())
describe(axes, f"Agreement of maps with those of the trained network, as its stages become "
               f"random. With everything random: {told}.")

# %% [markdown]
# **Cause.** The edge detector takes the picture and nothing else. That its maps lie on
# defects is true and beside the point. **Cure.** Do this check before you look at any
# map: it needs no box and no label. How far a method falls hints at how much of its map
# was learnt; what it keeps with everything random comes from the picture, and from how
# the network is built.

# %%
claim("24.8", "rank correlation of the edge detector's maps with everything random",
      kept["edges"][-1], at_least=0.99)
claim("24.9", "rank correlation of Grad-CAM's maps at layer2 with everything random",
      kept["Grad-CAM, layer2"][-1], at_most=0.4)
claim("24.10", "rank correlation of the gradient's maps with everything random",
      kept["gradient"][-1], at_most=0.7)

# %% [markdown]
# ## 8 · Which words?
#
# The same questions about texts. A frozen encoder with a linear head reads reviews
# (lesson 10). We explain reviews that it gets right, in three groups, to see the spread.

# %%
reviews = load_task(TEXTS, **({"seed": SEED} if TEXTS == "sst2" else {}))
data = reviews.limited(train=select(PROFILE, quick=120, full=5000), valid=20, seed=SEED)
reader = load_text_model(TEXT_MODEL, len(data.classes), seed=SEED)
data = tokenize(data, reader.tokenizer)
fit(reader, data, recipes.linear_probe(validate=False), seed=SEED, silent=True)
reader = reader.requires_grad_(False).cpu().eval()
fitting = [i for i, text in enumerate(reviews.test.inputs) if 9 <= len(text.split()) <= LONGEST]
candidates = reviews.test.select(fitting)
if "kind" in candidates.columns:
    candidates = candidates.where("kind", "plain")
candidates = candidates.subset(2 * READ, seed=SEED)

# %% [markdown]
# Deleting a word means that no other word may attend to it, and that it is left out of
# the mean at the end:

# %%
with torch.no_grad():
    every = Words(candidates.inputs, reader.tokenizer)
    right = reader(every.ids, every.mask).argmax(1) == candidates.labels
read = candidates.select(right.nonzero().flatten()[:READ])
words = Words(read.inputs, reader.tokenizer)


@torch.no_grad()
def probability(mask):
    """What the reader gives to each review's class."""
    return reader(words.ids, mask).softmax(1).gather(1, read.labels[:, None])[:, 0]


before = probability(words.mask)
print(f"right: {right.double().mean():.0%} of {len(candidates)}; explained: {len(read)}")

# %% [markdown]
# - **Leaving out** each word alone: as many passes as the text has words.
# - **Integrated gradients** over the embeddings, with the empty token as "nothing".
# - **Attention**: how much each token is looked at, on average over layers and heads.

# %%
from captum.attr import LayerIntegratedGradients

word_numbers = torch.arange(words.longest)
scores = {"leaving out": torch.stack(
    [before - probability(words.without((word_numbers == w).expand(len(words), -1)))
     for w in word_numbers], 1)}
blank = torch.where(words.numbers >= 0, reader.pad_id, words.ids)
way = LayerIntegratedGradients(reader, reader.encoder.get_input_embeddings())
found = way.attribute(words.ids, blank, target=read.labels, n_steps=STEPS,
                      additional_forward_args=(words.mask,), internal_batch_size=60)
scores["integrated gradients"] = words.sums(found.sum(2))

# %% [markdown]
# Attention needs the plain computation, which keeps its weights:

# %%
reader.encoder.set_attn_implementation("eager")
with torch.no_grad():
    layers = reader.encoder(words.ids, attention_mask=words.mask.long(),
                            output_attentions=True).attentions
reader.encoder.set_attn_implementation("sdpa")
looked = torch.stack(layers).mean((0, 2))  # texts, who looks, at whom
real = words.mask[:, :, None]
scores["attention"] = words.sums((looked * real).sum(1) / real.sum(1))
generator = torch.Generator().manual_seed(SEED)
scores["chance"] = torch.rand(words.there.shape, generator=generator)

# %% [markdown]
# Two reviews as each method colours them (blue: for the class; orange: against). Do not
# expect the words that *you* would name: it is the network that is explained.

# %%
for name in ("leaving out", "integrated gradients", "attention"):
    show_words([(data.classes[read.labels[i]], words.words[i], scores[name][i].tolist())
                for i in (0, 1)], name)

# %%
predict("24.4")

# %% [markdown]
# Now take the three words with the largest scores away, together:

# %%
drops = {name: (before - probability(words.without(words.top(score, 3)))).chunk(3)
         for name, score in scores.items()}
drops = {name: [100 * group.mean().item() for group in groups]
         for name, groups in drops.items()}
told = ", ".join(f"{name} {np.median(values):.0f}" for name, values in drops.items())
describe(plot_bars(drops, "fall of the class's probability (points)"),
         f"Bars of how far the probability falls without the three first-named words: {told} "
         "points, medians of three groups of reviews.")

# %% [markdown]
# Where a network **looks** is not what its answer **rests on**: taking away what is most
# attended to does far less (Jain and Wallace, 2019, saw the like in other networks).
# Attention weights say how information is mixed, not what for; they have no sign, and are
# the same for every class. Leaving out is again examined with its own question, and costs
# a pass for each word.

# %%
claim("24.11", "points that integrated gradients' three words lower more than chance's",
      gains(drops, "integrated gradients", "chance"), at_least=5)
claim("24.12", "points that integrated gradients' three words lower more than attention's",
      gains(drops, "integrated gradients", "attention"), at_least=2)

# %% [markdown]
# ## 9 · An explanation finds a shortcut
#
# Lesson 22's drawings of chest radiographs: a portable scanner leaves a bright letter in
# a corner, and is brought to those who are very ill. One network learns from pictures
# where the mark **goes with illness**, one from pictures where it goes with **nothing**.
# (Drawings, not patients: nothing medical follows from them.)

# %%
DRAWN = dict(seed=SEED, train=select(PROFILE, quick=104, full=1000), valid=10,
             test=select(PROFILE, quick=40, full=400), size=SIZE)
BIASED, FAIR, ALWAYS, NEVER = (0.05, 0.95), (0.5, 0.5), (1.0, 1.0), (0.0, 0.0)
learners = {}
for name, marked in {"biased": BIASED, "fair": FAIR}.items():
    pictures = load_task("radiographs", marked=marked, **DRAWN)
    learner, _ = trained(pictures, SEED, batch_size=select(PROFILE, quick=8, full=32))
    learners[name] = learner, evaluate(learner, pictures.test).accuracy

# %% [markdown]
# Both are asked about ill people whose pictures all bear the mark: where does Grad-CAM
# for "pneumonia" point? The mark of `quick` is smaller than a cell of layer2's 8 x 8 grid,
# so here half such a cell beside it counts as a hit, and chance hits it more often, too.

# %%
only_test = {**DRAWN, "train": 20}  # which are not looked at
tests = {name: load_task("radiographs", marked=marked, **only_test).test
         for name, marked in {"always": ALWAYS, "never": NEVER}.items()}
ill = tests["always"].select(tests["always"].labels == 1)
HALF_A_CELL = SIZE // 16
audit = []
for name, (learner, accuracy) in learners.items():
    found = grad_cam(learner, ill.inputs, ill.labels, "layer2")
    audit.append({
        "trained on": name, "accuracy, own test": accuracy,
        "accuracy, no marks": evaluate(learner, tests["never"]).accuracy,
        **{f"maximum in the {what} (%)":
           100 * hits(found, ill.columns[column], HALF_A_CELL).double().mean().item()
           for what, column in {"mark": "mark_boxes", "opacity": "boxes"}.items()}})

# %% [markdown]
# Next to it what chance would give, the half cell beside each box counted in:

# %%
beside = HALF_A_CELL * torch.tensor([-1, -1, 1, 1])
chance = {column: inside(ill.columns[column] + beside, (SIZE, SIZE)).double().mean().item()
          for column in ("mark_boxes", "boxes")}
show_table(audit, f"Two networks; by chance {chance['mark_boxes']:.0%} would count as in the "
                  f"mark, and {chance['boxes']:.0%} as in the opacity")

# %%
chosen = torch.arange(3)
drawn = {name: grad_cam(learner, ill.inputs[chosen], ill.labels[chosen], "layer2")
         for name, (learner, _) in learners.items()}
told = "; ".join(f"{row['trained on']} {row['maximum in the mark (%)']:.0f} %" for row in audit)
describe(plot_maps(ill.inputs[chosen], drawn, ill.columns["mark_boxes"][chosen],
                   ["pneumonia"] * 3),
         f"Three drawn radiographs with a mark and the maps of both networks; the frame is "
         f"the mark. Over all, the largest value lies in the mark: {told}.")

# %% [markdown]
# The biased network looks better by its own test, whose pictures have the same bias. The
# map says in one glance what no accuracy on such a test can. But look at the *fair*
# network's row: compare both shares with what chance would give. Whatever stands out may
# draw a map. So a map raises a suspicion. To settle it, **take the mark away** and ask
# again. The same people were drawn with and without it:


# %%
def illness(learner, examples):
    """Mean probability of pneumonia for the ill, in percent."""
    some = examples.select(examples.labels == 1)
    with torch.no_grad():
        return 100 * logits(learner, some.inputs).softmax(1)[:, 1].mean().item()


falls = {name: illness(learner, tests["always"]) - illness(learner, tests["never"])
         for name, (learner, _) in learners.items()}
describe(plot_bars(falls, "fall of the probability of pneumonia without the mark (points)"),
         "Bars of how far the probability of pneumonia falls when the mark is taken away: "
         + ", ".join(f"{name} {fall:.0f} points" for name, fall in falls.items()) + ".")

# %% [markdown]
# That settles it, and it needed something that a map does not give: we had to *know* what
# to take away. Explanations show a shortcut to those who look for one.

# %%
claim("24.13", "percent of the maps of the biased network with their largest value in the mark",
      audit[0]["maximum in the mark (%)"], at_least=35)
claim("24.14", "points by which that is more than of the fair network",
      audit[0]["maximum in the mark (%)"] - audit[1]["maximum in the mark (%)"], at_least=15)
claim("24.15", "points by which the biased network's probability falls without the mark",
      falls["biased"], at_least=25)
claim("24.16", "points by which the fair network's changes, up or down",
      abs(falls["fair"]), at_most=20)

# %% [markdown]
# ## 10 · Exercise: the pointing game
#
# Write `pointing_game(maps, boxes, tolerance)`: the **share** of pictures whose largest
# value lies in the box, or at most `tolerance` pixels beside it. `maps` is (n, H, W);
# `boxes` is (n, 4) with x0, y0, x1, y1, where x1 and y1 are one past the last pixel. Pictures
# without a defect have a box of nan, and do not count at all.

# %%
def pointing_game(maps, boxes, tolerance):
    # solution begin
    known = ~boxes.isnan().any(1)
    place = maps[known].flatten(1).argmax(1)
    y, x = place // maps.shape[2], place % maps.shape[2]
    x0, y0, x1, y1 = boxes[known].T
    across = (x >= x0 - tolerance) & (x < x1 + tolerance)
    down = (y >= y0 - tolerance) & (y < y1 + tolerance)
    return (across & down).double().mean().item()
    # solution end


check("24.1", pointing_game)

# %% [markdown]
# ## 11 · Exercise: audit three models
#
# Three vendors hand you a model for radiographs and its explanations. The last column
# is the rank correlation of a model's maps with those after its weights were made random.

# %%
from course_utils.lessons.lesson_24 import AUDIT

show_table(AUDIT, "Three models (made up, so that they are clear)")

# %% [markdown]
# What do their explanations show that the answers rest on? For each: `"opacity"`,
# `"mark"`, or `"not shown"`.

# %%
verdicts = ...
# solution begin
verdicts = {"A": "opacity", "B": "mark", "C": "not shown"}
# solution end
check("24.2", verdicts)

# %% [markdown]
# **With your own model.** Take twenty inputs, mark by hand where the evidence is, and
# score two methods and an edge detector (for texts: the first words). Then make the
# weights random and look again.
#
# ## 12 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | make the weights random, before you trust a method | judge a map by how convincing it looks |
# | compare with the centre, edges and noise | report a pointing score without a baseline |
# | choose Grad-CAM's stage by a measurement | take the last stage because tutorials do |
# | check completeness to choose the steps | take completeness for being right |
# | say what stands for "nothing" | hide the baseline input, or choose it by the result |
# | look for a shortcut that you can name | conclude from nice maps that there is none |
# | measure what taking words away does | call attention weights an explanation |
#
# **Cost of what you just ran:**

# %%
from course_utils.device import energy_wh

total = sum(run.seconds for _, run in runs)
print(f"three networks: {total:.0f} s of training, about {energy_wh(total):.2f} Wh "
      "(an estimate)")

# %% [markdown]
# And what an explanation costs (the words are those of the longest review):

# %%
show_table(
    [{"method": "edges", "forward passes": 0, "backward passes": 0},
     {"method": "gradient, Grad-CAM", "forward passes": 1, "backward passes": 1},
     {"method": "integrated gradients", "forward passes": STEPS, "backward passes": STEPS},
     {"method": "leaving out each word", "forward passes": words.longest, "backward passes": 0}],
    "Passes through the network to explain one answer",
)

# %% [markdown]
# ## What you can do now
#
# - *Write Grad-CAM, use integrated gradients, and check both*: sections 3 and 4.
# - *Score an explanation in three ways*: sections 5 to 7, exercise 10.
# - *Find a shortcut from explanations*: sections 8 and 9, exercise 11.

# %%
quiz("24")

# %% [markdown]
# **What next.** Lesson 22 repairs the shortcut that section 9 finds; lesson 23 trains a
# network that is *told* where things are.
#
# **Further reading.** Selvaraju et al. (2017), *Grad-CAM: visual explanations from deep
# networks via gradient-based localization*. · Sundararajan, Taly and Yan (2017),
# *Axiomatic attribution for deep networks*. · Simonyan, Vedaldi and Zisserman (2014),
# *Deep inside convolutional networks: visualising image classification models and
# saliency maps*. · Zhang, Lin, Brandt, Shen and Sclaroff (2016), *Top-down neural
# attention by excitation backprop* (the pointing game). · Petsiuk, Das and Saenko (2018),
# *RISE: randomized input sampling for explanation of black-box models*. · Adebayo,
# Gilmer, Muelly, Goodfellow, Hardt and Kim (2018), *Sanity checks for saliency maps*. ·
# Jain and Wallace (2019), *Attention is not explanation*; and the answer by Wiegreffe and
# Pinter (2019), *Attention is not not explanation*.
