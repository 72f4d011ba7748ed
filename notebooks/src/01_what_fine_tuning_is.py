# %% [markdown]
# # 01 · What fine-tuning is
#
# Somebody has trained a large network on a great deal of data, and you have a task of
# your own with few labels. **Fine-tuning** is to go on training from their weights
# instead of beginning with random ones. It is said to save labels, time and computing,
# and to be more accurate. This lesson measures each of these, for texts and for images,
# and asks the question behind them: **how much of the gain comes from the tuning, and
# when is it not worth it?**
#
# **You will be able to**
#
# - tell *from scratch*, *frozen* and *fine-tuned* apart, and compare them fairly;
# - read a learning curve: how many labels, points and seconds are saved, and where;
# - say when the pre-trained model alone is enough, and when to leave it aside.
#
# **Builds on** lesson 00. **Words:** *label* – the right answer to an example;
# *pre-trained* – trained before, on other data; *from scratch* – trained on your labels
# only, from random weights; *frozen* – not changed by training; *head* – the small last
# layer that answers; *seed* – the number that decides all that is random in a run.
#
# The word joins *fine* (small, detailed) and *tune* (adjust an instrument). It came from
# physics and engineering: the drawing is nearly finished, and the last touches are yours.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from course_utils import (
    Examples, check, claim, describe, embed, evaluate, fit, load_image_model, load_task,
    load_text_model, plot_bars, predict, quiz, recipes, select, show_table, stopwatch, tokenize,
)

SEEDS = [SEED, SEED + 1, SEED + 2]
TEXT_MODEL = select(PROFILE, quick="minilm", full="google-bert/bert-base-uncased")
TEXT_TASK = select(PROFILE, quick="tickets", full="ag_news")
TEXT_SIZES = select(PROFILE, quick=[15, 30, 60, 120, 240], full=[16, 64, 256, 1024, 4096])
TEXT_TUNED = select(PROFILE, quick={30: 4, 60: 3}, full={64: 8, 256: 4, 1024: 3})  # epochs
TEXT_TEST, TOP = select(PROFILE, quick=(90, "layer5"), full=(2000, "embeddings"))
TEXT_RATE = select(PROFILE, quick=5e-4, full=5e-5)
IMAGE_MODEL = select(PROFILE, quick="resnet18", full="resnet18-imagenet")
IMAGE_TASK = select(PROFILE, quick="surface", full="flowers")
IMAGE_SIZES = select(PROFILE, quick=[24, 72, 216], full=[102, 510, 1020])
IMAGE_TUNED = select(PROFILE, quick={24: 2, 72: 3}, full={102: 20, 510: 10})  # epochs
IMAGE_TEST, IMAGE_RATE = select(PROFILE, quick=(84, 1e-3), full=(2000, 2e-4))
SETTINGS = select(PROFILE, full={"size": 128}, quick={
    "train": 216, "valid": 12, "test": 84, "difficulty": 0.0, "size": 40})
# What claims ask for. The larger models were not made to compare texts, so their names are
# worth less; and flowers are so near to ImageNet that there is little left to tune.
LEAST = select(PROFILE, quick={"labels": 1.5, "text": 5, "steps": 0, "names": 30, "tuned": 2},
               full={"labels": 1, "text": -2, "steps": -20, "names": 1, "tuned": -5})
MOST = select(PROFILE, quick={"gain": 10, "digits": 3}, full={"gain": 15, "digits": 15})

# %% [markdown]
# ## 1 · Texts: support tickets
#
# A message comes in, and the shop wants to know what it is about.

# %%
task = load_task(TEXT_TASK).limited(valid=15, test=TEXT_TEST, seed=SEED)
everything = task.train  # for the end of section 3
task = task.limited(train=max(TEXT_SIZES), seed=SEED)
guessing = 100 * task.test.labels.bincount().max().item() / len(task.test)
print(f"{task}\nguessing the most frequent class: {guessing:.0f} %")
for text, label in list(task.train)[:3]:
    print(f"{task.classes[label]:16} {text}")

# %% [markdown]
# A *learning curve* shows accuracy against the number of labels. For each number we
# draw the labelled texts anew with each of three seeds, since luck in the draw is
# part of life; a method's band goes from its worst seed to its best.

# %%
import torch


def draws(size, train):
    """Which training examples each seed gets: positions, one list a seed."""
    numbered = Examples(train.inputs, train.labels, {"row": torch.arange(len(train))})
    return [numbered.subset(size, seed).columns["row"] for seed in SEEDS]


# %%
predict("01.1")
predict("01.2")

# %% [markdown]
# ## 2 · From scratch
#
# **Word counts** (TF-IDF with logistic regression) know nothing before they see your
# labels. They are the baseline that a network from scratch has to beat.

# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer


def count_words(train):
    """Test accuracy in percent of word counts that learn from these texts."""
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, tol=1e-3))
    model.fit(train.inputs, train.labels)
    return 100 * model.score(task.test.inputs, task.test.labels)


words = {size: [count_words(task.train.select(rows)) for rows in draws(size, task.train)]
         for size in TEXT_SIZES}
words[len(everything)] = [count_words(everything)] * len(SEEDS)  # all labels, no draw

# %% [markdown]
# And a **transformer from scratch**: the encoder that we are going to use, with random
# weights. Six layers are many for so few texts, so we give it a better chance and keep
# one of them. One run shows where this leads:

# %%
start = load_text_model(TEXT_MODEL, len(task.classes), seed=SEED)
data = tokenize(task, start.tokenizer, max_length=32)
KEY = sorted(TEXT_TUNED)[-1]  # the number of labels that we compare at

small = load_text_model(TEXT_MODEL, len(task.classes), pretrained=False, seed=SEED)
small.encoder.encoder.layer = small.encoder.encoder.layer[:1]
drawn = data.with_train(data.train.select(draws(KEY, task.train)[0]))
fit(small, drawn, recipes.from_scratch(epochs=6, batch_size=8, validate=False), SEED)
transformer = 100 * evaluate(small, data.test).accuracy
print(f"{KEY} labels: transformer from scratch {transformer:.0f} %, "
      f"word counts {words[KEY][0]:.0f} %")

# %% [markdown]
# A transformer has to learn from your labels what a word is. Counting is the better way
# to begin from nothing, so word counts stand for "from scratch" from here on.
#
# ## 3 · Frozen, and fine-tuned
#
# **Frozen**: the pre-trained encoder turns each text into a vector, once; a linear head
# learns from the vectors. Whatever the number of labels, the vectors are the same.


# %%
def linear_head():
    """A linear classifier on vectors that were brought to the same length."""
    classifier = LogisticRegression(C=10, tol=1e-3, max_iter=500)
    return make_pipeline(Normalizer(), classifier)


def frozen_curve(train, test, task, sizes):
    """Accuracies (%) of a linear head on vectors, for each number of labels and seed."""
    curve = {size: [] for size in sizes}
    for size in sizes:
        for rows in draws(size, task.train):
            head = linear_head().fit(train[rows], task.train.labels[rows])
            curve[size].append(100 * head.score(test, task.test.labels))
    return curve


with stopwatch() as watch:
    train_vectors = embed(start, data.train)
seconds_a_text = watch.seconds / len(data.train)
test_vectors = embed(start, data.test)
frozen = frozen_curve(train_vectors, test_vectors, data, TEXT_SIZES)

# %% [markdown]
# **Fine-tuned**: a new head again, but the encoder's weights move too. On a laptop we
# move its last layer (`full` moves all). The same function will train from scratch
# in section 5.

# %%
from course_utils.progress import Progress

used = []  # seconds of all training


def trained_curve(load, task, epochs, recipe):
    """Accuracies (%) and seconds of training, for each number of labels and seed."""
    curve, seconds = {size: [] for size in epochs}, {size: [] for size in epochs}
    bar = Progress(len(epochs) * len(SEEDS), "runs")
    for size in epochs:
        for seed, rows in zip(SEEDS, draws(size, task.train), strict=True):
            model = load(seed)
            drawn = task.with_train(task.train.select(rows))
            run = fit(model, drawn, recipe(epochs[size]), seed=seed, silent=True)
            curve[size].append(100 * evaluate(model, task.test).accuracy)
            seconds[size].append(run.seconds)
            used.append(run.seconds)
            bar.update(sum(map(len, curve.values())), f"{size} labels")
    return curve, seconds


# %% [markdown]
# Three seeds for each number of labels:

# %%
tuned, tuned_seconds = trained_curve(
    lambda seed: load_text_model(TEXT_MODEL, len(task.classes), seed=seed), data, TEXT_TUNED,
    lambda epochs: recipes.top_stages(TOP, epochs=epochs, batch_size=8, validate=False,
                                      learning_rate=TEXT_RATE, head_learning_rate=1e-2),
)

# %% [markdown]
# The three curves:

# %%
import numpy as np

from course_utils.lessons.lesson_01 import labels_needed, of_seed, plot_curves


def told(curves):
    """The medians in words, for those who cannot see the figure."""
    return "; ".join(
        f"{name}: " + ", ".join(f"{np.median(v):.0f} % at {n}" for n, v in curve.items())
        for name, curve in curves.items())


curves = {"word counts, from scratch": words, "frozen": frozen, "fine-tuned": tuned}
describe(plot_curves(curves, guessing), f"Text accuracy against labels. {told(curves)}.")

# %% [markdown]
# (At the largest numbers a line has no band: there each seed gets all texts of the set.)
# Read it in two directions. **Upwards** at one number of labels: points gained.
# **Sideways** at one accuracy: labels saved. For the second we read off the straight
# line between two points of the curve from scratch (`labels_needed`).

# %%
def times_the_labels(curve, target_curve, size):
    """Labels that `curve` needs for what `target_curve` reaches, in multiples, by seed."""
    return [labels_needed(*of_seed(curve, i), target_curve[size][i]) / size
            for i in range(len(SEEDS))]


def gains(better, worse, size):
    """Points by which one is better than the other, by seed."""
    return [a - b for a, b in zip(better[size], worse[size], strict=True)]


saved = times_the_labels(words, frozen, KEY)
print(f"labels that word counts need for what frozen reaches with {KEY}, by seed: "
      + ", ".join("more than all" if np.isinf(x) else f"{x:.1f} times as many" for x in saved))
claim("01.1", "label saving: times as many labels that word counts need to equal frozen",
      saved, at_least=LEAST["labels"])
claim("01.2", "points of accuracy by which frozen features beat word counts",
      gains(frozen, words, KEY), at_least=LEAST["text"])
claim("01.3", "points of accuracy by which word counts beat a transformer from scratch",
      words[KEY][0] - transformer, at_least=0)

# %% [markdown]
# **The surprise** is the third curve. Most of the gain is there *before* anything is
# tuned, and tuning adds little here, if anything. What it costs:

# %%
frozen_seconds = KEY * seconds_a_text
cost = [seconds / frozen_seconds for seconds in tuned_seconds[KEY]]
show_table(
    [{"way": "frozen", "seconds": frozen_seconds, "accuracy (%)": np.median(frozen[KEY])},
     {"way": "fine-tuned", "seconds": np.median(tuned_seconds[KEY]),
      "accuracy (%)": np.median(tuned[KEY])}],
    f"Training with {KEY} labelled texts, medians of {len(SEEDS)} seeds",
)
first_step, second_step = gains(frozen, words, KEY), gains(tuned, frozen, KEY)
claim("01.4", "points of accuracy that fine-tuning gains on frozen features, tickets",
      second_step, at_most=MOST["gain"])
claim("01.5", "points by which the step from scratch to frozen is larger than that to tuned",
      [a - b for a, b in zip(first_step, second_step, strict=True)], at_least=LEAST["steps"])
claim("01.6", "times as long that fine-tuning takes, compared with frozen, tickets",
      cost, at_least=1.2)

# %% [markdown]
# This encoder was made to tell similar texts from others (*sentence embeddings*), and
# tickets need just that. Lessons 11 and 12 have tasks with more to gain.
#
# **And with many labels?** Take all that there are for word counts, and the largest
# draw for the encoder:

# %%
by_counting, by_encoder = words[len(everything)][0], frozen[max(TEXT_SIZES)][0]
print(f"word counts with all {len(everything):,} labels: {by_counting:.0f} %; "
      f"frozen with {max(TEXT_SIZES)}: {by_encoder:.0f} %")
claim("01.7", "points that word counts with all labels are behind frozen with fewer",
      by_encoder - by_counting, at_most=6)

# %% [markdown]
# Labels can replace pre-training, if somebody pays for them.
#
# ## 4 · The pre-trained model alone
#
# No label at all: turn the *names* of the classes into vectors, and give each ticket the
# name that it is most similar to.

# %%
names = [name.replace("_", " ") for name in task.classes]
of_names = embed(start, Examples(names, torch.arange(len(names))))
normalize = torch.nn.functional.normalize
similarity = normalize(test_vectors) @ normalize(of_names).T
alone = 100 * (similarity.argmax(1) == task.test.labels).double().mean().item()
print(f"{alone:.0f} % right; guessing {guessing:.0f} %")

# %% [markdown]
# How many labels is that worth?

# %%
worth = [labels_needed(*of_seed(words, i), alone) for i in range(len(SEEDS))]
claim("01.8", "labels that word counts need to equal class names without any label",
      worth, at_least=LEAST["names"])

# %% [markdown]
# To sort a heap roughly, or to begin before anybody has labelled, that is enough.
#
# ## 5 · Images: surface inspection
#
# Six classes, five defects and "ok", and a network pre-trained on photographs of animals
# and things. Here **from scratch** is the same network with random weights and the same
# number of epochs.

# %%
images = load_task(IMAGE_TASK, seed=SEED, **SETTINGS)
images = images.limited(train=max(IMAGE_SIZES), test=IMAGE_TEST, seed=SEED)
budget = dict(batch_size=16, validate=False)
image_guessing = 100 * images.test.labels.bincount().max().item() / len(images.test)
print(images)

# %% [markdown]
# The curve of frozen features, as before:


# %%
def network(seed, pretrained=True):
    return load_image_model(IMAGE_MODEL, len(images.classes), pretrained, seed)


with stopwatch() as watch:
    train_vectors = embed(network(SEED), images.train)
seconds_an_image = watch.seconds / len(images.train)
test_vectors = embed(network(SEED), images.test)
frozen_images = frozen_curve(train_vectors, test_vectors, images, IMAGE_SIZES)

# %% [markdown]
# From scratch, every weight is trained. For fine-tuning, the two earliest stages stay
# frozen: edges are edges everywhere, and it saves time.

# %%
scratch_images, scratch_seconds = trained_curve(
    lambda seed: network(seed, pretrained=False), images, IMAGE_TUNED,
    lambda epochs: recipes.from_scratch(epochs=epochs, **budget),
)
tuned_images, image_seconds = trained_curve(
    network, images, IMAGE_TUNED,
    lambda epochs: recipes.top_stages("layer2", epochs=epochs, learning_rate=IMAGE_RATE,
                                      **budget),
)

# %% [markdown]
# The same figure as for texts:

# %%
curves = {"from scratch": scratch_images, "frozen": frozen_images, "fine-tuned": tuned_images}
describe(plot_curves(curves, image_guessing),
         f"Image accuracy against labels. {told(curves)}.")

# %% [markdown]
# At the larger number of labels:

# %%
MANY = max(IMAGE_TUNED)
rows = {"from scratch": (scratch_images[MANY], scratch_seconds[MANY]),
        "frozen": (frozen_images[MANY], [MANY * seconds_an_image]),
        "fine-tuned": (tuned_images[MANY], image_seconds[MANY])}
show_table(
    [{"way": name, "accuracy (%)": np.median(accuracy),
      "range": f"{min(accuracy):.0f} to {max(accuracy):.0f}", "seconds": np.median(seconds)}
     for name, (accuracy, seconds) in rows.items()],
    f"{MANY} labelled pictures, medians of {len(SEEDS)} seeds",
)

# %% [markdown]
# As claims:

# %%
claim("01.9", "points of accuracy by which fine-tuning beats the same network from scratch",
      gains(tuned_images, scratch_images, MANY), at_least=8)
claim("01.10", "points of accuracy by which frozen features beat it",
      gains(frozen_images, scratch_images, MANY), at_least=3)
claim("01.11", "points of accuracy by which fine-tuning beats frozen features",
      gains(tuned_images, frozen_images, MANY), at_least=LEAST["tuned"])
claim("01.12", "times as long that training from scratch takes, compared with frozen",
      [s / (MANY * seconds_an_image) for s in scratch_seconds[MANY]], at_least=2)

# %% [markdown]
# Frozen features of photographs help with defects, and here **tuning them pays**: the
# features were made for another kind of picture. It is not for lack of epochs that
# scratch is hardly better than guessing: a longer run learns these few pictures by heart,
# which is of no use for others. (Try it: multiply the epochs.) It lacks pictures.
#
# ## 6 · A failure on purpose: the wrong model for the task
#
# "Pre-trained is always better." Take handwritten digits, 8 by 8 pixels, enlarge them
# for the same network, and put a small classifier on the *raw pixels* beside it (a
# support vector machine, from scratch).

# %%
predict("01.3")

# %%
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

pixels, digits = load_digits(return_X_y=True)
chosen = np.random.default_rng(SEED).permutation(len(digits))[:500]
pixels, digits = pixels[chosen], torch.tensor(digits[chosen])
large = torch.nn.functional.interpolate(
    torch.tensor(pixels).view(-1, 1, 8, 8) / 16 * 255, size=32, mode="bilinear")
pictures = large.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
features = embed(network(SEED), Examples(pictures, digits)).numpy()

# %% [markdown]
# Some of the digits to learn from, the others to test. The features get another head
# here, each number brought to the same spread, since they do better with it:

# %%
DIGIT_SIZES, train, test = [20, 50, 100, 250], slice(250), slice(250, None)


def digit_curve(make, inputs):
    pool = Examples(pictures[train], digits[train])
    return {size: [100 * make().fit(inputs[train][rows], digits[train][rows])
                   .score(inputs[test], digits[test]) for rows in draws(size, pool)]
            for size in DIGIT_SIZES}


on_pixels = digit_curve(lambda: SVC(C=10), pixels)
on_features = digit_curve(
    lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-3)),
    features)

# %% [markdown]
# And the curves:

# %%
curves = {"raw pixels, from scratch": on_pixels, "frozen features": on_features}
describe(plot_curves(curves, 10), f"Digit accuracy against labels. {told(curves)}.")

# %% [markdown]
# **Cause.** What the network knows, colours, fur and wheels, is not in these pictures,
# and what is in them, a few strokes in fixed places, is easy to read from the pixels.
# **Cure.** A baseline from scratch, before anything large. It costs a second. (The other
# cure is a model that was pre-trained on something nearer.)

# %%
claim("01.13", "points that frozen features are ahead of raw pixels, at 100 labels",
      gains(on_features, on_pixels, 100), at_most=MOST["digits"])
claim("01.14", "points that frozen features are ahead of raw pixels, at 250 labels",
      on_features[250][0] - on_pixels[250][0], at_most=MOST["digits"])

# %% [markdown]
# ## 7 · The answer
#
# Each step of the three tasks, in points:

# %%
steps = {"scratch → frozen, texts": gains(frozen, words, KEY),
         "frozen → tuned, texts": gains(tuned, frozen, KEY),
         "scratch → frozen, images": gains(frozen_images, scratch_images, MANY),
         "frozen → tuned, images": gains(tuned_images, frozen_images, MANY),
         "scratch → frozen, digits": gains(on_features, on_pixels, 100)}
listed = "; ".join(f"{name} {np.median(values):+.0f} points" for name, values in steps.items())
describe(plot_bars(steps, "points of accuracy gained (median and range)"),
         f"Gain of each step, for three tasks: {listed}.")

# %% [markdown]
# *Pre-training* saves the labels. *Tuning* is a second step, which pays where the
# features do not fit the task yet. Where they fit already, a head is enough; where they
# have nothing to do with the task, neither helps. You cannot know which case is yours
# without the cheap baselines: names, a head, and something from scratch.
#
# ## 8 · Exercise: find the break-even point
#
# From how many labels on is training from scratch as good? You get rising `sizes` and
# two lists of accuracies. Return the smallest size from which scratch is *at least* as
# good at this and every larger size that was measured, or `None` if there is none.

# %%
def break_even(sizes, scratch, tuned):
    # solution begin
    point = None
    for size, ours, theirs in zip(sizes[::-1], scratch[::-1], tuned[::-1], strict=True):
        if ours < theirs:
            break
        point = size
    return point
    # solution end


check("01.1", break_even)

# %% [markdown]
# ## 9 · Exercise: which way?
#
# For each situation the first thing to hand over: `"alone"` (no training), `"frozen"`
# (a head), `"tune"`, or `"scratch"`.
#
# - *sort*: ten thousand unlabelled messages, to be put roughly into folders with plain
#   names, today;
# - *tickets*: 60 labelled tickets, a laptop, a sentence encoder;
# - *defects*: 100 labelled pictures of scratches, a network of photographs, an hour;
# - *digits*: a thousand tiny black-and-white digits, a processor of a pocket calculator.

# %%
ways = ...
# solution begin
ways = {"sort": "alone", "tickets": "frozen", "defects": "tune", "digits": "scratch"}
# solution end
check("01.2", ways)

# %% [markdown]
# ## 10 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | begin with a pre-trained model when labels are few | train a large network from scratch on few labels |
# | try it frozen first: seconds | tune because the word is in the title |
# | tune where frozen features fall short | take the nearest model, whatever it was trained on |
# | draw labels with several seeds, and show the band | compare curves of one lucky draw |
# | keep a cheap baseline from scratch | believe "always" |
#
# **Cost of what you just ran:**

# %%
from course_utils.device import energy_wh

print(f"{len(used)} training runs, {sum(used):.0f} s, about {energy_wh(sum(used)):.2f} Wh "
      "(an estimate)")

# %% [markdown]
# ## What you can do now
#
# - *Tell from scratch, frozen and fine-tuned apart, and compare them fairly*: sections
#   2, 3 and 5.
# - *Read a learning curve: labels, points, seconds*: sections 3, 5 and 8.
# - *Say when the model alone is enough, and when to leave it aside*: sections 4, 6, 9.

# %%
quiz("01")

# %% [markdown]
# **Further reading.** Pan and Yang (2010), *A survey on transfer learning*. · Yosinski,
# Clune, Bengio and Lipson (2014), *How transferable are features in deep neural
# networks?* · He, Girshick and Dollár (2019), *Rethinking ImageNet pre-training*. ·
# Kornblith, Shlens and Le (2019), *Do better ImageNet models transfer better?* · Reimers
# and Gurevych (2019), *Sentence-BERT*.
