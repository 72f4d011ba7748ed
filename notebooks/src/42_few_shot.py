# %% [markdown]
# # 42 · Few-shot and unlabelled data
#
# A shop wants its messages sorted into six intents, and nobody has labelled any. How far
# do you come with **no label at all**, with one a class, with eight? What is worth
# training when there are twelve texts? And there are hundreds of texts without labels:
# can a model label them for itself? This lesson measures it, with many draws of the
# labelled texts, because with so few of them luck is a large part of any result.
#
# **You will be able to**
#
# - classify with no label or a few: by descriptions, prototypes, a probe, and by
#   contrastive tuning of the encoder, from scratch and with the library setfit;
# - draw learning curves whose bands show the luck of the draw, and read from them how
#   many labels a method is worth;
# - use unlabelled texts through pseudo-labels, and see and cure the way in which that
#   goes wrong.
#
# **Builds on** lessons 10 and 12. **Words:** *shot* – a labelled text a class; *zero-shot*
# – without any; *episode* – one random draw of the labelled texts; *prototype* – the
# mean vector of a class; *cosine similarity* – the inner product of two vectors of
# length one; *pool* – the texts without labels; *pseudo-label* – a label that a model,
# not a person, gave.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from dataclasses import replace

import numpy as np
import torch

from course_utils import (
    check, choose_compute, claim, describe, embed, evaluate, fit, load_task,
    load_text_model, new_axes, plot_lines, predict, quiz, recipes, seed_everything,
    select, set_mode, show_table, stages, stopwatch, tokenize, train_from,
)
from course_utils.data import Examples

MODEL = select(PROFILE, quick="minilm", full="sentence-transformers/all-MiniLM-L12-v2")
TASK = select(PROFILE, quick="tickets", full="banking77")
LONGEST = select(PROFILE, quick=90, full=10_000)  # characters: short texts are quick

# %% [markdown]
# Sizes, episodes and training, and then what the claims ask for. (77 classes that are
# described by bare names are another task than six, so `full` has bounds of its own.)

# %%
SIZES = select(PROFILE, quick=(1, 2, 4, 8, 16, 32), full=(1, 2, 4, 8, 16))
EPISODES = range(SEED, SEED + select(PROFILE, quick=10, full=5))  # of the cheap methods
TUNED_SIZES = (2, 8)  # labels a class for methods that train the encoder …
FEW = {2: EPISODES[:3], 8: EPISODES[:1]}  # … and their episodes
STEPS = select(PROFILE, quick=6, full=60)  # of contrastive tuning
BATCH = select(PROFILE, quick=12, full=128)  # texts a step
RATE = select(PROFILE, quick=3e-4, full=5e-5)
FULL_EPOCHS = select(PROFILE, quick={2: 6, 8: 2}, full={2: 30, 8: 15})

# %%
LEAST = select(
    PROFILE,
    quick={"zero": 2, "luck": 8, "both": 4, "labels": 6, "probe": 2, "pairs": 8,
           "untrained": 1, "right": 85, "surest": -5, "each": 5, "corrected": 1, "even": 2,
           "last": -4, "places": 8, "middle": 8},
    full={"zero": -12, "luck": 2, "both": 1, "labels": 3, "probe": -3, "pairs": 8,
          "untrained": -3, "right": 80, "surest": 5, "each": -2, "corrected": 5, "even": -5,
          "last": 60, "places": -5, "middle": -5},
)

# %% [markdown]
# ## 1 · The task, and what an episode is
#
# Six intents of the tickets, the short texts only. Each intent gets one sentence of
# *description*, written once and not tuned on any text (banking77, in the profile
# `full`, has 77 intents; there the names have to do):

# %%
DESCRIPTIONS = select(PROFILE, full={}, quick={
    "damaged_item": "The item arrived broken",
    "delivery_change": "Please deliver to another address or at another time",
    "discount_code": "My voucher or discount code does not work",
    "order_cancel": "I want to cancel my order",
    "product_question": "A question about a product before I buy it",
    "return_request": "I want to send an item back",
})
whole = load_task(TASK)
classes = tuple(DESCRIPTIONS) or whole.classes
sentences = [DESCRIPTIONS.get(name, name.replace("_", " ")) for name in classes]


# %%
def narrowed(examples):
    """The short texts of the chosen classes, with the numbers of these classes."""
    rows = [(text, classes.index(whole.classes[label])) for text, label in examples
            if len(text) <= LONGEST and whole.classes[label] in classes]
    return Examples([text for text, _ in rows], torch.tensor([label for _, label in rows]))


task = replace(whole, classes=classes, train=narrowed(whole.train),
               valid=narrowed(whole.valid), test=narrowed(whole.test))
print(f"{task}; the rarest class has {task.train.labels.bincount().min()} training texts")
for text, label in list(task.train)[:3]:
    print(f"{classes[label]:16} {text}")

# %% [markdown]
# **All texts go through the frozen encoder once.** From then on an episode of a cheap
# method takes milliseconds, so we can afford many. The encoder is one that was trained
# on pairs of sentences, so that texts of the same meaning lie near each other.

# %%
start = load_text_model(MODEL, len(classes), seed=SEED)


def unit(vectors):
    """Vectors of length one."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def vectors_of(model, texts):
    """A unit vector for each text, by the encoder of a model."""
    return unit(embed(model, Examples(list(texts), torch.zeros(len(texts)).long())).numpy())

# %% [markdown]
# All training texts, all test texts, and the sentences:

# %%
with stopwatch() as embedding:
    X, X_test = (vectors_of(start, part.inputs) for part in (task.train, task.test))
    told = vectors_of(start, sentences)
y, y_test = task.train.labels.numpy(), task.test.labels.numpy()
print(f"{len(X) + len(X_test)} texts embedded in {embedding.seconds:.1f} s")

# %% [markdown]
# An **episode** draws n texts of each class. The rest of the training texts is the
# pool: we look at its texts, and not at its labels.


# %%
def draw(shots, episode):
    """Positions of `shots` training texts of each class."""
    order = np.random.default_rng(episode).permutation(len(y))
    return np.concatenate([order[y[order] == c][:shots] for c in range(len(classes))])


def percent(guesses):
    return 100 * float((guesses == y_test).mean())


# %%
predict("42.1")

# %% [markdown]
# ## 2 · No label at all
#
# A description is a text, so it has a vector. **Zero-shot:** a message belongs to the
# class whose description is most similar to it. Beside it, what guessing gives, and the
# bare names of the classes in place of sentences.

# %%
names = vectors_of(start, [name.replace("_", " ") for name in classes])
guessing = 100 * np.bincount(y_test).max() / len(y_test)
zero_shot = percent((X_test @ told.T).argmax(1))
by_name = percent((X_test @ names.T).argmax(1))
print(f"guessing {guessing:.0f} %, class names {by_name:.0f} %, "
      f"descriptions {zero_shot:.0f} %")

# %% [markdown]
# ## 3 · A few labels, and a frozen encoder
#
# Four ways that only look at vectors:
#
# - **words**: TF-IDF and logistic regression, the baseline without an encoder;
# - **prototypes** (Snell, Swersky and Zemel, 2017): a class is the mean of its vectors,
#   a message belongs to the nearest. Nothing is trained;
# - **linear probe**: logistic regression on the vectors;
# - **prototypes and descriptions**: the description counts like a few texts more.

# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

WEIGHT = 4  # texts that a description counts for


def prototypes(vectors, labels, weight=0, described=told):
    """One unit vector a class, with `weight` times its description in the mean."""
    sums = [vectors[labels == c].sum(0) for c in range(len(classes))]
    return unit(np.stack(sums) + weight * described)


def probe(vectors, labels):
    """Logistic regression, by the solver that is quickest for a few long vectors."""
    return LogisticRegression(C=10, solver="newton-cg", tol=1e-3).fit(vectors, labels)

# %% [markdown]
# Each of them is a function from an episode to its test accuracy:

# %%
words = TfidfVectorizer(ngram_range=(1, 2))  # its weights need texts, and no labels
W, W_test = words.fit_transform(task.train.inputs), words.transform(task.test.inputs)


def nearest(rows, weight=0):
    return percent((X_test @ prototypes(X[rows], y[rows], weight).T).argmax(1))


METHODS = {
    "words": lambda rows: percent(probe(W[rows], y[rows]).predict(W_test)),
    "prototypes": nearest,
    "linear probe": lambda rows: percent(probe(X[rows], y[rows]).predict(X_test)),
    "prototypes + descriptions": lambda rows: nearest(rows, WEIGHT),
}

# %% [markdown]
# All methods, all sizes, all episodes:

# %%
with stopwatch() as cheap:
    curves = {name: [[score(draw(n, e)) for e in EPISODES] for n in SIZES]
              for name, score in METHODS.items()}
runs = len(METHODS) * len(SIZES) * len(EPISODES)
print(f"{runs} trainings in {cheap.seconds:.1f} s")

# %% [markdown]
# The lines are medians, the bands reach from the worst episode to the best:

# %%
from course_utils.lessons.lesson_42 import ticks_and_legend

axes = plot_lines(SIZES, curves, "labels a class", "test accuracy (%)", log_x=True)
axes.axhline(zero_shot, color="0.2", linestyle="--", label="descriptions, no label")
axes.axhline(guessing, color="0.2", linestyle=":", label="guessing")
ticks_and_legend(axes, SIZES)
listed = "; ".join(
    f"{name} from {np.median(lines[0]):.0f} % to {np.median(lines[-1]):.0f} %"
    for name, lines in curves.items())
describe(axes, f"Accuracy from {SIZES[0]} to {SIZES[-1]} labels a class, medians with "
               f"bands of {len(EPISODES)} episodes: {listed}. A dashed line at "
               f"{zero_shot:.0f} % for no label at all.")

# %% [markdown]
# The numbers: median, and the range over the episodes.

# %%
from course_utils.metrics import spread

show_table(
    [{"labels a class": n, **{name: spread(lines[i]) for name, lines in curves.items()}}
     for i, n in enumerate(SIZES)],
    f"Test accuracy in percent; without any label, descriptions give {zero_shot:.0f}",
)

# %% [markdown]
# And the place where the curves cross:

# %%
ahead = [n for n, scores in zip(SIZES, curves["prototypes"], strict=True)
         if np.median(scores) > zero_shot]
print(f"prototypes are ahead of the descriptions from {ahead[0]} labels a class on")

# %% [markdown]
# Three things to see. **The surprise:** one sentence a class is worth several labelled
# texts a class. **The luck:** with one label a class, the same method on another draw is
# another result altogether; a paper with one draw reports its luck. **The gift:** a
# description *and* the few labels are better than either, while labels are few. With more
# of them the probe goes ahead, because it may weigh each number of the vector anew.

# %%
one, two = SIZES.index(1), SIZES.index(2)
claim("42.1", "points by which descriptions, without a label, beat two-label prototypes",
      [zero_shot - score for score in curves["prototypes"][two]], at_least=LEAST["zero"])
claim("42.2", "points between the luckiest and the unluckiest one-label episode",
      max(curves["prototypes"][one]) - min(curves["prototypes"][one]),
      at_least=LEAST["luck"])
claim("42.3", "points that the descriptions add to two-label prototypes",
      [with_it - without for with_it, without in zip(
          curves["prototypes + descriptions"][two], curves["prototypes"][two],
          strict=True)], at_least=LEAST["both"])
claim("42.4", "points by which the probe beats the descriptions with eight labels a class",
      [score - zero_shot for score in curves["linear probe"][SIZES.index(8)]],
      at_least=LEAST["labels"])

# %% [markdown]
# ## 4 · Training the encoder on twelve texts
#
# **Full fine-tuning** puts a random head on top and trains everything. **Contrastive
# tuning** needs no head: it takes the texts in *pairs*. Two texts of one class shall have
# the cosine similarity 1, two of different classes 0. Twelve texts make sixty-six pairs,
# and each of them says something to the encoder itself. Afterwards a probe is put on the
# new vectors. This is the idea of **SetFit** (Tunstall and others, 2022). By hand:

# %%
predict("42.2")

# %%
def similarities(model, texts):
    """Cosine similarities of all pairs of texts, with gradients."""
    batch = model.tokenizer(texts, padding=True, truncation=True, max_length=128,
                            return_tensors="pt").to(choose_compute().device)
    mask = batch["attention_mask"]
    hidden = model.encoder(batch["input_ids"], attention_mask=mask).last_hidden_state
    vectors = torch.nn.functional.normalize(model.pool(hidden, mask.bool()), dim=1)
    return vectors @ vectors.T

# %% [markdown]
# The goal for each pair, and how far off it is:

# %%
def contrastive_loss(similar, labels):
    """Squared errors; pairs of one class and pairs of two weigh the same."""
    same = labels[:, None] == labels
    itself = torch.eye(len(labels), dtype=torch.bool, device=same.device)
    error = (similar - same.float()).square()
    return (error[same & ~itself].mean() + error[~same].mean()) / 2

# %% [markdown]
# The loop has nothing new: batches, a rate that falls, a step. Each text of a batch goes
# through the encoder **once** and takes part in all pairs of the batch. The table of
# words stays frozen: it is half of all weights, and twelve texts hold few words.


# %%
def contrastive(rows, episode):
    """An encoder tuned on the pairs of some training texts."""
    seed_everything(episode)
    model = load_text_model(MODEL, len(classes)).to(choose_compute().device)
    train_from(stages(model), 1)
    set_mode(stages(model), True)
    weights = [w for w in model.encoder.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, fused=True)
    for step in range(STEPS):
        chosen = np.random.permutation(rows)[:BATCH]
        labels = torch.tensor(y[chosen], device=choose_compute().device)
        similar = similarities(model, [task.train.inputs[i] for i in chosen])
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        optimizer.zero_grad()
        contrastive_loss(similar, labels).backward()
        optimizer.step()
    return model

# %% [markdown]
# The tuned encoder is judged like the frozen one, by a probe on its vectors. And it still
# is an encoder of sentences, so we can ask for descriptions, too:

# %%
def after_tuning(model, rows):
    """Test guesses of a tuned encoder: by a probe; by prototypes and descriptions."""
    own, test, described = (vectors_of(model, texts) for texts in (
        [task.train.inputs[i] for i in rows], task.test.inputs, sentences))
    means = prototypes(own, y[rows], WEIGHT, described)
    return probe(own, y[rows]).predict(test), (test @ means.T).argmax(1)

# %% [markdown]
# And its rival, by the course's `fit`:

# %%
data = tokenize(task, start.tokenizer)


def fully_tuned(rows, episode):
    """Test accuracy after full fine-tuning with a new head."""
    model = load_text_model(MODEL, len(classes), seed=episode)
    recipe = recipes.full_finetuning(
        epochs=FULL_EPOCHS[len(rows) // len(classes)], batch_size=12, validate=False,
        learning_rate=RATE, head_learning_rate=5e-3)
    fit(model, data.with_train(data.train.select(rows)), recipe, seed=episode, silent=True)
    return 100 * evaluate(model, data.test).accuracy

# %% [markdown]
# Training costs hundreds of times what a probe costs, so these two get two sizes and only
# **three episodes and one**; the cheap methods are shown for the same ones. We keep what
# each contrastive run guessed, and how long the tuning alone took.

# %%
from course_utils.progress import Progress

kept = {}


def pair_tuned(rows, episode):
    with stopwatch() as watch:
        model = contrastive(rows, episode)
    guesses, with_descriptions = after_tuning(model, rows)
    kept[len(rows) // len(classes), episode] = guesses, with_descriptions, watch.seconds
    return percent(guesses)


TUNERS = {"contrastive": pair_tuned, "full fine-tuning": fully_tuned}

# %% [markdown]
# Eight trainings:

# %%
tuned = {name: {n: [] for n in TUNED_SIZES} for name in TUNERS}
seconds = {name: {n: [] for n in TUNED_SIZES} for name in TUNERS}
plan = [(n, e, name) for n in TUNED_SIZES for e in FEW[n] for name in TUNERS]
bar = Progress(len(plan), "trainings")
for done, (n, episode, name) in enumerate(plan, 1):
    with stopwatch() as watch:
        tuned[name][n].append(TUNERS[name](draw(n, episode), episode))
    seconds[name][n].append(watch.seconds)
    bar.update(done, name)

# %% [markdown]
# Median and range of the episodes; the seconds hold training and test.

# %%
tuned["contrastive + descriptions"] = {
    n: [percent(kept[n, e][1]) for e in FEW[n]] for n in TUNED_SIZES}
for name in ("linear probe", "prototypes + descriptions"):
    tuned[name] = {n: curves[name][SIZES.index(n)][:len(FEW[n])] for n in TUNED_SIZES}
show_table(
    [{"method": name, **{f"{n} labels a class": spread(tuned[name][n]) for n in TUNED_SIZES},
      "seconds": ", ".join(f"{np.mean(s):.1f}" for s in seconds[name].values())
      if name in seconds else "the same" if "contrastive" in name else "under 0.1"}
     for name in tuned],
    "Accuracy in percent, all methods on the same episodes; mean seconds for each size",
)

# %% [markdown]
# The same as a picture, a point an episode:

# %%
from course_utils.plotting import MARKERS, PALETTE

axes = new_axes(height=3.4)
for place, (name, marker, colour) in enumerate(zip(tuned, MARKERS, PALETTE, strict=False)):
    for row, n in enumerate(TUNED_SIZES):
        x = np.full(len(FEW[n]), row + 0.12 * (place - 2))
        axes.plot(x, tuned[name][n], marker, color=colour, alpha=0.8,
                  label=name if row == 0 else None)
axes.axhline(zero_shot, color="0.2", linestyle="--", label="descriptions, no label")
axes.set_xticks(range(len(TUNED_SIZES)), [f"{n} labels a class" for n in TUNED_SIZES])
axes.set(ylabel="test accuracy (%)")
axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
listed = "; ".join(f"{name} {' and '.join(f'{np.median(s):.0f} %' for s in both.values())}"
                   for name, both in tuned.items())
describe(axes, f"A point an episode for {len(tuned)} methods; medians at {TUNED_SIZES[0]} "
               f"and at {TUNED_SIZES[1]} labels a class: {listed}.")

# %% [markdown]
# With two labels a class, training the encoder gains some points over the probe, for
# hundreds of times its time. The papers' favourite are the pairs, because nothing random
# stands between a text and the encoder, while full fine-tuning has a random head to learn
# from the same few texts. Here the two end within a few points of each other, and which
# one is ahead changes with the draw: three draws of twelve texts do not tell them apart.
# And look at the dashed line and the rightmost points: what was trained on the labels
# alone is no clear step ahead of sentences that somebody wrote, and labels and sentences
# together need no training to be as good. With eight labels a class every method has
# passed the line.

# %%
def gained(name, than, n):
    return [a - b for a, b in zip(tuned[name][n], tuned[than][n], strict=True)]


small = TUNED_SIZES[0]
claim("42.5", "points by which pairs beat the probe with two labels a class",
      gained("contrastive", "linear probe", small), at_least=LEAST["probe"])
claim("42.6", "points between pairs and full fine-tuning there, either way",
      abs(np.median(gained("contrastive", "full fine-tuning", small))),
      at_most=LEAST["pairs"])
claim("42.7", "points by which prototypes and descriptions, untrained, beat the latter",
      gained("prototypes + descriptions", "full fine-tuning", small),
      at_least=LEAST["untrained"])

# %% [markdown]
# ## 5 · The same with the library setfit
#
# `setfit` does this in a few lines: it makes the pairs, tunes a sentence encoder on them
# and fits the logistic regression. On the texts of the first episode, with our number of
# steps and our rate. (It trains the table of words as well, encodes both texts of every
# pair, and asks the hub for its accuracy unless `metric` is a function.)

# %%
from course_utils.lessons.lesson_42 import quiet_libraries
from course_utils.models import encoder_source

with quiet_libraries():
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from setfit import SetFitModel, Trainer, TrainingArguments

few = draw(TUNED_SIZES[0], SEED)
texts = [task.train.inputs[i] for i in few]
size = len(few)  # pairs a step

# %% [markdown]
# Everything it writes goes to a folder that vanishes:

# %%
import tempfile

with quiet_libraries(), tempfile.TemporaryDirectory() as folder:
    body = SentenceTransformer(encoder_source(MODEL), device=str(choose_compute().device))
    by_library = SetFitModel(body, LogisticRegression(C=10), normalize_embeddings=True)
    settings = TrainingArguments(
        folder, batch_size=size, num_epochs=1, num_iterations=STEPS // 2, seed=SEED,
        body_learning_rate=RATE, report_to="none", save_strategy="no",
        show_progress_bar=False)
    trainer = Trainer(by_library, settings, metric=lambda guesses, labels: {},
                      train_dataset=Dataset.from_dict({"text": texts, "label": y[few]}))
    with stopwatch() as library_time:
        trainer.train()

# %% [markdown]
# Beside it, our run of section 4 on these texts:

# %%
own_guesses, _, own_seconds = kept[TUNED_SIZES[0], SEED]
with quiet_libraries():
    guesses = np.asarray(by_library.predict(task.test.inputs))
pairs = size * (size - 1) // 2
show_table(
    [{"by": "our loop", "accuracy (%)": percent(own_guesses), "pairs a step": pairs,
      "texts encoded a step": size, "seconds": own_seconds},
     {"by": "setfit", "accuracy (%)": percent(guesses), "pairs a step": size,
      "texts encoded a step": 2 * size, "seconds": library_time.seconds}],
    f"{STEPS} steps each on the same {len(few)} texts",
)

# %% [markdown]
# The accuracies agree as well as two runs on so few texts can. All pairs of a batch come
# for the price of encoding each text once; with the loss of a pair at a time, one pays
# two encodings for each.

# %%
claim("42.8", "points by which setfit and our loop differ on the same texts",
      abs(percent(guesses) - percent(own_guesses)), at_most=10)

# %% [markdown]
# ## 6 · Unlabelled texts: pseudo-labels
#
# The pool costs nothing. **Self-training:** fit the probe on the few labels; let it
# label the pool; add some of these pseudo-labels to the training texts; fit again;
# repeat. Which of them to add is the whole art:
#
# - **all** of them;
# - those **surer than a half**: probability above 0.5;
# - **the surest**: the share of the pool with the highest probability, which grows from
#   round to round up to a half;
# - **the surest of each class**: as many in all, but the same number from each class.

# %%
ROUNDS, KEEP, SHOTS = 5, 0.5, 4


def all_of_them(guess, sure, count):
    return np.arange(len(guess))


def above_a_half(guess, sure, count):
    return np.flatnonzero(sure >= min(0.5, sure.max()))


def surest(guess, sure, count):
    return np.argsort(-sure)[:count]


def surest_of_each(guess, sure, count):
    places = [np.flatnonzero(guess == c) for c in range(len(classes))]
    each = max(1, count // len(classes))
    return np.concatenate([p[np.argsort(-sure[p])[:each]] for p in places])


# %%
predict("42.3")

# %% [markdown]
# The loop around it. It also remembers what was added, so that we can look into it later:


# %%
def self_train(rows, pool, choose, corrected=False):
    """Per round: test accuracy, and the pseudo-labels used: (position, class).

    corrected: replace each chosen pseudo-label by the true label.
    """
    model, steps = probe(X[rows], y[rows]), []
    accuracies = [percent(model.predict(X_test))]
    for step in range(1, ROUNDS + 1):
        chances = model.predict_proba(X[pool])
        guess, sure = model.classes_[chances.argmax(1)], chances.max(1)
        chosen = choose(guess, sure, int(KEEP * len(pool) * step / ROUNDS))
        added = y[pool[chosen]] if corrected else guess[chosen]
        steps.append((pool[chosen], added))
        model = probe(np.concatenate([X[rows], X[pool[chosen]]]),
                      np.concatenate([y[rows], added]))
        accuracies.append(percent(model.predict(X_test)))
    return accuracies, steps

# %% [markdown]
# Four labels a class, the rest of the training texts as the pool, all episodes:

# %%
def rest(rows):
    """All other training texts."""
    return np.setdiff1d(np.arange(len(y)), rows)


def trained(choose, **settings):
    return [self_train(draw(SHOTS, e), rest(draw(SHOTS, e)), choose, **settings)
            for e in EPISODES]


# %%
with stopwatch() as self_training:
    results = {"all": trained(all_of_them), "surer than a half": trained(above_a_half),
               "the surest": trained(surest),
               "the surest of each class": trained(surest_of_each)}
lines = {name: np.array([one[0] for one in many]).T for name, many in results.items()}

# %% [markdown]
# Three of the four as a figure; the fixed threshold is in the table below.

# %%
drawn = {name: lines[name] for name in lines if name != "surer than a half"}
axes = plot_lines(range(ROUNDS + 1), drawn, "round", "test accuracy (%)")
axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
listed = "; ".join(f"{name} {np.median(one[-1]):.0f} %" for name, one in drawn.items())
describe(axes, f"Accuracy over {ROUNDS} rounds of self-training, medians with bands of "
               f"{len(EPISODES)} episodes. Start {np.median(lines['all'][0]):.0f} %; "
               f"end: {listed}.")

# %% [markdown]
# ### A failure on purpose: the surest half
#
# To take the surest is what most of us would do first, and it ruins the model. Are its
# pseudo-labels wrong? We count how many are right, and of which classes they are. And we
# do the experiment that decides: the same choice, but **every chosen label is corrected by
# hand** before it is used.

# %%
name = "the surest, corrected"
results[name] = trained(surest, corrected=True)
lines[name] = np.array([one[0] for one in results[name]]).T


def right(name, step):
    """Percent of the pseudo-labels of a round that are right, for each episode."""
    used = [one[1][step] for one in results[name]]
    return [100 * (y[taken] == added).mean() for taken, added in used]


def largest_class(name):
    """Percent of the last pseudo-labels that are of the most frequent class."""
    last = [one[1][-1][1] for one in results[name]]
    return [100 * np.bincount(added).max() / len(added) for added in last]

# %% [markdown]
# Medians over the episodes:

# %%
show_table(
    [{"added": name, "right, round 1 (%)": float(np.median(right(name, 0))),
      f"right, round {ROUNDS} (%)": float(np.median(right(name, -1))),
      "largest class (%)": float(np.median(largest_class(name))),
      "accuracy before": spread(lines[name][0]), "after": spread(lines[name][-1])}
     for name in results],
    f"Medians of {len(EPISODES)} episodes",
)

# %% [markdown]
# **Cause.** In the first round nearly all of the surest pseudo-labels are right, more
# than of those that are spread over the classes. But by chance one class is a little
# easier than the others; the surest texts are mostly its texts; after the next fit it
# is larger, so the probe is surer of it still. The other classes starve, and only then
# do the labels become wrong. This is *confirmation*: a model that is taught by itself
# is told what it believes already. Correcting by hand keeps it from falling, but even
# perfect labels for the surest texts are worth no more than unchecked ones that are
# spread over the classes. So the share of right labels does not show the fault. A count
# a class does.
#
# **Cure.** The same number from each class: the model may choose which texts, and not how
# many of each kind. That is one line more, and it turns the loss into a large gain from
# texts that nobody labelled. A fixed threshold is no cure: it lets the easy classes
# through first, as the surest half does.

# %%
def changes(name):
    return (lines[name][-1] - lines[name][0]).tolist()


claim("42.9", "percent of the surest pseudo-labels that are right in the first round",
      right("the surest", 0), at_least=LEAST["right"])
claim("42.10", "points that they change in the end",
      changes("the surest"), at_most=LEAST["surest"])
claim("42.11", "points that the surest of each class change",
      changes("the surest of each class"), at_least=LEAST["each"])
claim("42.12", "points by which the surest corrected by hand beat these",
      (lines["the surest, corrected"][-1] - lines["the surest of each class"][-1]).tolist(),
      at_most=LEAST["corrected"])

# %% [markdown]
# ### Where the cure ends
#
# "The same number from each class" is knowledge that we put in: that the pool holds about
# as many of each. Let it hold all texts of the first class and few of the others. And how
# many labels does one need at the start? Both, for the balanced choice:

# %%
OTHERS = select(PROFILE, quick=5, full=10)


def lopsided(rows):
    """A pool with all of class 0, and few of each other class."""
    left = rest(rows)
    parts = [left[y[left] == c][: None if c == 0 else OTHERS] for c in range(len(classes))]
    return np.concatenate(parts)


def gain(shots, episode, pool_of):
    rows = draw(shots, episode)
    accuracies, *_ = self_train(rows, pool_of(rows), surest_of_each)
    return accuracies[-1] - accuracies[0]


START_SIZES = (1, 4, 16)
gains = {name: [[gain(n, e, pool_of) for e in EPISODES] for n in START_SIZES]
         for name, pool_of in {"even pool": rest, "lopsided pool": lopsided}.items()}
axes = plot_lines(START_SIZES, gains, "labels a class", "gain (points)", log_x=True)
axes.axhline(0, color="0.2", linestyle=":", label="no gain")
ticks_and_legend(axes, START_SIZES)
listed = "; ".join(f"{name} {np.median(g[0]):+.0f} with {START_SIZES[0]}, "
                   f"{np.median(g[-1]):+.0f} with {START_SIZES[-1]}"
                   for name, g in gains.items())
describe(axes, "Points gained by balanced pseudo-labels against labels a class, medians "
               f"with bands of {len(EPISODES)} episodes: {listed}.")

# %% [markdown]
# Pseudo-labels help most where labels are few and the pool is like the task. With more
# labels there is less to gain; with a lopsided pool the even choice forces wrong labels on
# the rare classes. If you know the shares of the classes, take pseudo-labels in these
# shares; if you know nothing of the pool, label a hundred of its texts first and count.

# %%
even, uneven = (gains[name][START_SIZES.index(SHOTS)] for name in gains)
claim("42.13", "points gained from an even pool beyond those from a lopsided one",
      [a - b for a, b in zip(even, uneven, strict=True)], at_least=LEAST["even"])

# %% [markdown]
# ## 7 · Without words: one drawing a class
#
# Prototypes need vectors, not texts. Now handwritten **digits** (in `full` the characters
# of Omniglot, Lake and others, 2015), and a ResNet that learnt from photographs of animals
# and cars. There is no sentence to write about a stroke, so zero-shot is out. What is left
# is a few drawings, and the question which vectors of a picture to take.

# %%
predict("42.4")

# %%
from course_utils import load_image_model, run_stages

IMAGE_TASK = select(PROFILE, quick="digits", full="omniglot")
IMAGE_MODEL = select(PROFILE, quick="resnet18", full="resnet18-imagenet")
CHOSEN = select(PROFILE, quick=10, full=20)  # classes of an episode …
DRAWINGS = (1, 2, 5)  # … and drawings of each
sizes = select(PROFILE, quick={"train": 400, "test": 300}, full={})
drawings = load_task(IMAGE_TASK).limited(**sizes, seed=SEED)
network = load_image_model(IMAGE_MODEL, len(drawings.classes)).to(choose_compute().device)

# %% [markdown]
# A stage of the network makes **maps** of a picture: many numbers for each place. Mostly
# they are averaged over all places. For a photograph that is sensible, as a dog is a dog on
# the left and on the right. Is it for a 6 and a 9?


# %%
@torch.no_grad()
def maps(pictures, stage):
    """What a stage makes of pictures: (n, channels, height, width)."""
    parts = stages(network)
    parts = parts[: 1 + [part.name for part in parts].index(stage)]
    set_mode(parts, False)
    pieces = (piece.to(choose_compute().device) for piece in pictures.split(64))
    return torch.cat([run_stages(parts, piece).float().cpu() for piece in pieces])


# %%
MIDDLE, LAST = "layer2", "layer4"


def views(pictures):
    """Four kinds of vectors of the same pictures."""
    middle, last = maps(pictures, MIDDLE), maps(pictures, LAST)
    in_places = torch.nn.functional.adaptive_avg_pool2d(middle, 4)  # 4 x 4 places
    return {"pixels": pictures[:, 0].float().flatten(1), "last stage": last.mean((2, 3)),
            "middle stage": middle.mean((2, 3)),
            "middle stage, in places": in_places.flatten(1)}


# %% [markdown]
# Vectors of length one, after the mean of all drawings is taken off (most of a drawing is
# paper, and paper is alike everywhere):

# %%
with stopwatch() as drawing:
    seen, asked = views(drawings.train.inputs), views(drawings.test.inputs)
centred = {kind: [unit((part[kind] - seen[kind].mean(0)).numpy()) for part in (seen, asked)]
           for kind in seen}
digit, digit_test = drawings.train.labels.numpy(), drawings.test.labels.numpy()

# %% [markdown]
# An episode draws the classes, too, if there are more than it needs. (The field calls it
# *ten ways, one shot*.)


# %%
def episode_score(kind, shots, episode):
    """Percent of the test drawings of an episode that are nearest to their prototype."""
    random, (known, new) = np.random.default_rng(episode), centred[kind]
    ways = random.permutation(np.unique(digit))[:CHOSEN]
    drawn = [random.permutation(np.flatnonzero(digit == c))[:shots] for c in ways]
    means = unit(np.stack([known[rows].mean(0) for rows in drawn]))
    rows = np.flatnonzero(np.isin(digit_test, ways))
    return 100 * float((ways[(new[rows] @ means.T).argmax(1)] == digit_test[rows]).mean())


pictured = {kind: [[episode_score(kind, n, e) for e in EPISODES] for n in DRAWINGS]
            for kind in centred}

# %%
axes = plot_lines(DRAWINGS, pictured, "drawings a class", "test accuracy (%)", log_x=True)
axes.axhline(100 / CHOSEN, color="0.2", linestyle=":", label="guessing")
ticks_and_legend(axes, DRAWINGS)
listed = "; ".join(
    f"{kind} from {np.median(lines[0]):.0f} % to {np.median(lines[-1]):.0f} %"
    for kind, lines in pictured.items())
describe(axes, f"Accuracy of prototypes from {DRAWINGS[0]} to {DRAWINGS[-1]} drawings a "
               f"class, medians with bands of {len(EPISODES)} episodes: {listed}.")

# %% [markdown]
# The last stage, the one that everybody takes, is **worse than the bare pixels**: it has
# learnt to tell a frog from a truck, and to forget where in the picture things are. The
# middle stage knows strokes and bends, and with their places kept it beats both. (On
# Omniglot, with thin lines on large paper, pixels fall behind as two people's lines share
# few of them; the order of the stages stays.) The further your task is from what a network
# was trained on, the earlier the stage to take (lesson 20 looks at all of them), and
# whether place matters is for you to say.

# %%
def one_drawing(kind, than):
    """Points between two kinds of vectors with one drawing a class, a value an episode."""
    return [a - b for a, b in zip(pictured[kind][0], pictured[than][0], strict=True)]


claim("42.14", "points of the last stage over bare pixels, one drawing a class",
      one_drawing("last stage", "pixels"), at_most=LEAST["last"])
claim("42.15", "points that keeping the places adds to the middle stage",
      one_drawing("middle stage, in places", "middle stage"), at_least=LEAST["places"])
claim("42.16", "points by which the middle stage, in places, beats the last one",
      one_drawing("middle stage, in places", "last stage"), at_least=LEAST["middle"])

# %% [markdown]
# ## 8 · Exercise: the prototype classifier
#
# Write `nearest_class(vectors, labels, queries)`. `vectors` are unit vectors, an array
# (n, D); `labels` their class numbers, any whole numbers, in any order, as many of each as
# there happen to be; `queries` unit vectors (m, D). Return a label for each query: that of
# the prototype with the highest cosine similarity.

# %%
def nearest_class(vectors, labels, queries):
    # solution begin
    found = np.unique(labels)
    means = unit(np.stack([vectors[labels == c].mean(0) for c in found]))
    return found[(queries @ means.T).argmax(1)]
    # solution end


check("42.1", nearest_class)

# %% [markdown]
# ## 9 · Exercise: a threshold for pseudo-labels
#
# You may keep a pseudo-label only if such labels are right often enough. You have some
# texts with known labels: the array `sure` holds the model's probability for its guess,
# `right` is true where the guess was right. Write `threshold(sure, right, wanted)`: the
# **lowest** confidence of the list such that, of all texts with at least this confidence,
# a share of at least `wanted` is right. If there is none, return `float("inf")`.

# %%
def threshold(sure, right, wanted):
    # solution begin
    good = [t for t in np.unique(sure) if right[sure >= t].mean() >= wanted]
    return min(good, default=float("inf"))
    # solution end


check("42.2", threshold)

# %% [markdown]
# And then look at the classes of what it keeps: section 6 shows why a threshold alone is
# not enough.
#
# ## 10 · Your data
#
# Take texts of your own in a few classes. Write one sentence a class and note its accuracy
# on fifty texts that you label for testing. Then label two texts a class, and put both
# together (`prototypes` with a weight). How many labels did your sentences save you? Is
# there a class that no sentence describes, such as "anything else"? What do you do with it?
#
# ## 11 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | write a sentence a class before you label anything | label first and count later |
# | use sentences and labels together while labels are few | drop the sentences at the first label |
# | report many draws of the few texts, with their range | report one draw |
# | tune on pairs when there are a few labels a class | put a random head on a dozen texts |
# | choose pseudo-labels class by class | take the surest and hope |
# | count the classes of what you add | trust the share of right pseudo-labels alone |
# | keep labelled texts aside for the test | choose thresholds on the test texts |
# | far from photographs, try an earlier stage | take the last stage of a network untried |
#
# **Cost of what you just ran:**

# %%
from course_utils.device import energy_wh

training = sum(sum(s) for sizes in seconds.values() for s in sizes.values())
training += library_time.seconds
total = (embedding.seconds + cheap.seconds + self_training.seconds + drawing.seconds
         + training)
print(f"embedding {embedding.seconds + drawing.seconds:.0f} s, {runs} cheap trainings "
      f"{cheap.seconds:.0f} s, self-training {self_training.seconds:.0f} s, training "
      f"encoders {training:.0f} s; about {energy_wh(total):.2f} Wh (an estimate)")

# %% [markdown]
# ## What you can do now
#
# - *Classify with no label or a few*: sections 2 to 5, 7 and 8.
# - *Draw curves with the luck of the draw, and read what a method is worth*: section 3.
# - *Use unlabelled texts, and see and cure what goes wrong*: sections 6 and 9.

# %%
quiz("42")

# %% [markdown]
# **Further reading.** Snell, Swersky and Zemel (2017), *Prototypical networks for few-shot
# learning*. · Lake, Salakhutdinov and Tenenbaum (2015), *Human-level concept learning
# through probabilistic program induction* (Omniglot). · Tunstall, Reimers, Jo, Bates,
# Korat, Wasserblat and Pereg (2022), *Efficient few-shot learning without prompts*. ·
# Reimers and Gurevych (2019), *Sentence-BERT: sentence embeddings using Siamese
# BERT-networks*. · Lee (2013), *Pseudo-label: the simple
# and efficient semi-supervised learning method for deep neural networks*. · Arazo, Ortego,
# Albert, O'Connor and McGuinness (2020), *Pseudo-labeling and confirmation bias in deep
# semi-supervised learning*. · Casanueva, Temčinas, Gerz, Henderson and Vulić (2020),
# *Efficient intent detection with dual sentence encoders* (banking77).
