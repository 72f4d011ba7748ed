# %% [markdown]
# # 10 · Features from BERT
#
# A pre-trained encoder turns every text into numbers. You can use them without training
# the encoder at all: read the texts **once**, keep the numbers in a table, and work on
# the table. How far does that get you, **which numbers** do you take out, and what can
# make the numbers of one and the same text change?
#
# **You will be able to**
#
# - build a classifier and a search by meaning on a frozen encoder, and compare both
#   with word counts;
# - choose the pooling and the stage by measurement, and say what leaving the encoder
#   early costs;
# - recognise features that depend on their batch, and cure them.
#
# **Builds on** lesson 00. **Words:** *encoder* – the network that turns a text into
# numbers; *token* – a word or a piece of one, as the encoder reads it; *stage* – a
# group of layers, one after another; *frozen* – not changed by training; *pooling* –
# making one vector of the vectors of all tokens; *linear probe* – a linear classifier
# on such vectors, to see what they know.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from course_utils import (
    Examples, check, choose_compute, claim, describe, load_task, load_text_model,
    new_axes, plot_bars, plot_lines, predict, quiz, select, show_table, stages,
    stopwatch,
)

MODEL = select(PROFILE, quick="minilm", full="google-bert/bert-base-uncased")
TASK = select(PROFILE, quick="tickets", full="banking77")
SPLITS = select(PROFILE, quick={"train": 800, "valid": 200, "test": 500},
                full={"train": 3500, "valid": 700, "test": 1500})
LABELS = select(PROFILE, quick=(15, 30, 75, 150, 300, 600),
                full=(77, 154, 308, 770, 1500, 3000))  # labelled texts to learn from
FEW = select(PROFILE, quick=150, full=770)  # ten a class
DRAWS = 3  # every head is trained on so many random draws of the labelled texts
# Points that claims ask for. A plain BERT has only learnt to fill in missing words;
# nobody taught it to put similar texts near each other, so we ask less of it.
LEAST = select(PROFILE, quick={"few": 8, "mean": 8, "search": 6, "scale": 1},
               full={"few": -10, "mean": -5, "search": -30, "scale": -2})

# %% [markdown]
# ## 1 · The task: what does the customer want?
#
# Messages of customers, each with one *intent*. The tickets of the profile quick were
# written one by one, as by customers in a hurry, in anger, in broken English; nothing
# of the wording of the test messages appears in training.

# %%
task = load_task(TASK).limited(seed=SEED, **SPLITS)
print(task)
for text, label in list(task.train)[:4]:
    print(f"{task.classes[label]:20} {text}")

# %% [markdown]
# ## 2 · Read every text once
#
# The encoder is a list of stages: *embeddings* look up a vector for each token and its
# position; each *layer* then lets the tokens look at each other. We run the stages one
# after another and keep what each of them gives. A batch must be rectangular, so
# shorter texts are filled up with **padding**; the *mask* is true at real tokens.

# %%
import torch

encoder = load_text_model(MODEL, len(task.classes), seed=SEED)
parts = stages(encoder)[:-2]  # without the last two, "pool" and "head"
STAGES = [part.name for part in parts]
LAST = STAGES[-1]
compute = choose_compute()
encoder.to(compute.device)
seconds = dict.fromkeys(STAGES, 0.0)

# %% [markdown]
# Run a batch of texts through the stages. B is the number of texts, T the number of
# tokens of the longest, D the numbers of one vector.


# %%
@torch.no_grad()
def every_stage(texts):
    """What each stage gives for a batch of texts, (B, T, D), and the mask (B, T)."""
    batch = encoder.tokenizer(
        texts, padding=True, truncation=True, max_length=128, return_tensors="pt"
    ).to(compute.device)
    x, mask = batch["input_ids"], batch["attention_mask"].bool()
    outputs = {}
    for part in parts:
        with stopwatch() as watch, compute.autocast():
            x = part.run(x, mask)
        outputs[part.name] = x.float()
        seconds[part.name] += watch.seconds
    return outputs, mask


# %% [markdown]
# A text of seven tokens has seven vectors at each stage, one of seventy has seventy. A
# classifier wants **one** vector, so we pool, in three ways at once: the *mean* over
# the text's tokens; the *first* token, `[CLS]`, which BERT was given to stand for the
# whole text; and the *last* one, `[SEP]`, which marks the end. Texts of similar length
# share a batch: little padding to compute.

# %%
from course_utils.progress import Progress


def table_of(texts, name, size=32):
    """(stage, pooling) → (n, D), a vector for each text; the encoder runs once."""
    order = torch.tensor([len(text) for text in texts]).argsort()
    found, done, bar = {}, 0, Progress(len(texts), f"reading the {name} texts")
    for rows in order.split(size):
        outputs, mask = every_stage([texts[row] for row in rows.tolist()])
        for pooling in ("mean", "first", "last"):
            encoder.pooling = pooling
            for stage, x in outputs.items():
                pooled = encoder.pool(x, mask).cpu()
                found.setdefault((stage, pooling), []).append(pooled)
        done += len(rows)
        bar.update(done)
    return {key: torch.cat(batches)[order.argsort()] for key, batches in found.items()}


# %%
with stopwatch() as reading:
    train = table_of(task.train.inputs, "training")
    valid = table_of(task.valid.inputs, "validation")
    test = table_of(task.test.inputs, "test")

# %% [markdown]
# That was all that the encoder had to do for most of this lesson. Everything below is
# arithmetic on these tables:

# %%
n, width = train[LAST, "mean"].shape
print(f"{len(STAGES)} stages, 3 poolings, {n:,} training texts, {width} numbers each")

# %% [markdown]
# ## 3 · A linear head against word counts
#
# Two classifiers see the same labelled texts. **Counting words** needs no encoder:
# TF-IDF (how often a word occurs here, and how rare it is elsewhere) with logistic
# regression.

# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def count_words(rows):
    """Test accuracy of word counts, trained on these rows of the training texts."""
    classifier = LogisticRegression(C=10, solver="saga", tol=1e-2, random_state=SEED)
    words = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), classifier)
    chosen = task.train.select(rows)
    words.fit(chosen.inputs, chosen.labels)
    return words.score(task.test.inputs, task.test.labels)


# %% [markdown]
# The **linear head** is a logistic regression, too, but on vectors out of our tables.
# Later sections ask for some heads again, so we keep all of them (`cache`):


# %%
from functools import cache


@cache
def head(stage, pooling, rows):
    """A linear head that has learnt from these rows of the training table."""
    linear = LogisticRegression(C=0.01, tol=1e-3, max_iter=1000)
    vectors = train[stage, pooling][rows].numpy()
    return make_pipeline(StandardScaler(), linear).fit(vectors, task.train.labels[rows])


def probe(stage, pooling, rows):
    """Test accuracy of a linear head."""
    learnt = head(stage, pooling, rows)
    return learnt.score(test[stage, pooling].numpy(), task.test.labels)


# %% [markdown]
# How many labels does each of them need? We let the number grow, and draw the labelled
# texts several times.

# %%
numbered = Examples(task.train.inputs, task.train.labels, {"row": torch.arange(n)})


def draws(count):
    """Rows of `count` training texts, classes in proportion, drawn several times."""
    return [numbered.subset(count, SEED + i).columns["row"] for i in range(DRAWS)]


drawn = {count: draws(count) for count in LABELS}

# %% [markdown]
# Both of them, on every draw:

# %%
ENCODER, WORDS = "frozen encoder + linear head", "word counts"
curves = {
    ENCODER: [[probe(LAST, "mean", rows) for rows in drawn[count]] for count in LABELS],
    WORDS: [[count_words(rows) for rows in drawn[count]] for count in LABELS],
}

# %% [markdown]
# The bands are the range of the three draws:

# %%
import numpy as np

guessing = task.test.labels.bincount().max().item() / len(task.test)
axes = plot_lines(LABELS, curves, "labelled texts", "test accuracy", log_x=True)
axes.set_xticks(LABELS, LABELS)
axes.minorticks_off()
axes.axhline(guessing, color="0.4", linestyle=":")
axes.annotate("guessing", (LABELS[-1], guessing), (0, 4), ha="right",
              textcoords="offset points")
sizes = ", ".join(map(str, LABELS))
points = "; ".join(
    name + " " + ", ".join(f"{np.median(point):.2f}" for point in curve)
    for name, curve in curves.items()
)
describe(axes, f"Test accuracy for {sizes} labelled texts: {points}.")

# %% [markdown]
# The encoder helps most with a few labels a class (with a single one, both know too
# little). Word counts have to meet a word before they can use it; the encoder has met
# it long ago. With many labels the lines come closer.

# %%
few = LABELS.index(FEW)
gain = np.array(curves[ENCODER][few]) - np.array(curves[WORDS][few])
claim("10.1", f"points by which the frozen encoder beats word counts, {FEW} labels",
      list(100 * gain), at_least=LEAST["few"])

# %% [markdown]
# ## 4 · Which vector? Mean, first or last token
#
# The same head, the same texts, the last stage; only the pooling differs.

# %%
predict("10.1")

# %% [markdown]
# As a second measurement, we pool the first stage's vectors in the same three ways.

# %%
MANY = drawn[LABELS[-1]]
pooled = {
    f"{pooling} ({stage})": [probe(stage, pooling, rows) for rows in MANY]
    for stage in (LAST, STAGES[0]) for pooling in ("mean", "first", "last")
}
middle = {name: float(np.median(values)) for name, values in pooled.items()}

# %%
described = ", ".join(f"{name} {value:.2f}" for name, value in middle.items())
describe(
    plot_bars(pooled, "test accuracy of a linear head", chance=guessing),
    f"Bars of test accuracy for three poolings of the last and of the first stage: "
    f"{described}.",
)

# %% [markdown]
# **The mean wins**, and clearly. The encoder of the profile quick was pre-trained
# *with* the mean, so that is where its knowledge is; and a first token that nobody has
# trained for a task is just one more token. (Full fine-tuning can make it a good
# summary; a frozen encoder has not had that.)
#
# The lower half explains what the first token is. At the *embeddings* it is the same
# vector in every text, so a head on it can only guess. The last one, `[SEP]`, knows its
# position and so the length of the text, nothing else. All that they know at the end,
# they have **collected from the other tokens** on the way.

# %%
difference = np.array(pooled[f"mean ({LAST})"]) - np.array(pooled[f"first ({LAST})"])
claim("10.2", "points by which the mean beats the first token, last stage",
      list(100 * difference), at_least=LEAST["mean"])

# %% [markdown]
# ## 5 · Which stage? A probe on each
#
# Everybody takes the last stage. Is it the one that knows most? We put a linear head on
# each. To **choose** a stage we use the validation texts; the test texts are for the
# report.

# %%
predict("10.2")

# %% [markdown]
# One head for each stage and each draw; each answers the texts of both splits:

# %%
stage_heads = {stage: [head(stage, "mean", rows) for rows in MANY] for stage in STAGES}


def scores(stage, vectors, labels):
    """Accuracy of a stage's heads, a value a draw."""
    table = vectors[stage, "mean"].numpy()
    return [learnt.score(table, labels) for learnt in stage_heads[stage]]


probes = {stage: scores(stage, test, task.test.labels) for stage in STAGES}
chosen_by = {
    stage: float(np.median(scores(stage, valid, task.valid.labels))) for stage in STAGES
}
best = max(chosen_by, key=chosen_by.get)

# %%
tested = {stage: float(np.median(values)) for stage, values in probes.items()}
readings = ", ".join(f"{stage} {value:.2f}" for stage, value in tested.items())
describe(
    plot_bars(probes, "test accuracy of a linear head", chance=guessing),
    f"Bars of test accuracy of a linear head on each stage, mean pooling: {readings}.",
)

# %% [markdown]
# Next to it, what each stage costs: the share of the encoder's time up to and including
# it, as measured while we read the texts. The last column is a warning: on the texts
# that the heads learnt from, all stages look alike.

# %%
spent = np.cumsum([seconds[stage] for stage in STAGES]) / sum(seconds.values())
rows = MANY[0]
own = {
    stage: stage_heads[stage][0].score(train[stage, "mean"][rows], task.train.labels[rows])
    for stage in STAGES
}

# %%
show_table(
    [
        {"stage": stage, "time so far": f"{share:.0%}", "validation": chosen_by[stage],
         "test": tested[stage], "on its own training texts": own[stage]}
        for stage, share in zip(STAGES, spent, strict=True)
    ],
    f"Accuracy of a linear head on each stage; {best} is best by the validation texts",
)

# %% [markdown]
# **Two surprises.** The *embeddings* alone, before any layer has run, are about as good
# as word counts: their mean is a bag of words in which similar words have similar
# vectors. And the accuracy levels off before the end: the last layers add little or
# nothing for this head. So an **early exit** is cheap. Stop after half of the layers,
# and the column "time so far" says what is left of the cost:

# %%
EXIT = STAGES[len(STAGES) // 2]  # half of the layers
lost = np.array(probes[best]) - np.array(probes[EXIT])
claim("10.3", f"points that leaving after {EXIT} costs, against {best}",
      list(100 * lost), at_most=6)

# %% [markdown]
# ## 6 · Search by meaning
#
# Vectors need no labels at all to be useful: texts of similar meaning should have
# vectors that point in similar directions. *Cosine similarity* is 1 for the same
# direction and 0 for directions that have nothing in common. To search, compare a
# message with all training messages.


# %%
import torch.nn.functional as F


def similarity(a, b):
    """Cosine similarity of each row of a with each row of b, (n, m)."""
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


# %% [markdown]
# Two ways to make vectors of new texts: the encoder's last stage, and word counts.


# %%
def embed_texts(texts):
    outputs, mask = every_stage(texts)
    encoder.pooling = "mean"
    return encoder.pool(outputs[LAST], mask).cpu()


vectorizer = TfidfVectorizer().fit(task.train.inputs)


def word_vectors(texts):
    return torch.tensor(vectorizer.transform(texts).toarray(), dtype=torch.float32)


# %% [markdown]
# Whatever you ask, both methods answer. Try a message of your own:

# %%
message = "You took the money for my order twice."
index = {"encoder": train[LAST, "mean"], "word counts": word_vectors(task.train.inputs)}
answers = {
    "encoder": similarity(embed_texts([message]), index["encoder"])[0],
    "word counts": similarity(word_vectors([message]), index["word counts"])[0],
}

# %%
show_table(
    [
        {"by": name, "cosine": cosines[row].item(),
         "intent": task.classes[task.train.labels[row]],
         "nearest messages": task.train.inputs[row][:90]}
        for name, cosines in answers.items() for row in cosines.topk(3).indices.tolist()
    ],
    f"The three nearest training messages to “{message}”",
)

# %% [markdown]
# One message proves nothing. **Precision at 5** is the share of the five nearest
# messages that have the same intent as the one asked for, over all test messages.


# %%
def precision_at_5(cosines):
    nearest = cosines.topk(5, dim=1).indices
    same = task.train.labels[nearest] == task.test.labels[:, None]
    return same.double().mean().item()


# %%
by_words = similarity(word_vectors(task.test.inputs), index["word counts"])
words_found = precision_at_5(by_words)
found = {
    stage: precision_at_5(similarity(test[stage, "mean"], train[stage, "mean"]))
    for stage in STAGES
}

# %% [markdown]
# The last stage first:

# %%
print(f"word counts {words_found:.2f}, encoder {found[LAST]:.2f}")
claim("10.4", "points of precision at 5 by which the encoder beats word counts",
      100 * (found[LAST] - words_found), at_least=LEAST["search"])

# %% [markdown]
# And which stage is the one to search with? The same stages as in section 5, now for
# both uses:

# %%
axes = plot_lines(
    range(len(STAGES)),
    {"linear head: accuracy": list(probes.values()),
     "search: precision at 5": list(found.values())},
    "stage", "share of right answers",
)
axes.axhline(words_found, color="0.4", linestyle=":")
axes.annotate("search by word counts", (len(STAGES) - 1, words_found), (0, -12),
              textcoords="offset points", ha="right")
axes.set_xticks(range(len(STAGES)), STAGES, rotation=30)
axes.set_ylim(bottom=0)
searched = ", ".join(f"{stage} {value:.2f}" for stage, value in found.items())
describe(
    axes,
    f"Over the stages, a linear head's accuracy ({readings}) and the precision at 5 of "
    f"a search ({searched}); search by word counts {words_found:.2f}.",
)

# %% [markdown]
# A head and a search ask different things of the same vectors. A head is taught by
# labels **which directions count** and can ignore the others. A search weighs all
# directions alike; it needs a stage in which meaning is what most of the numbers are
# about. That is why the search starts lower and gains longer, while the head has all it
# can use some layers earlier: an early exit that is cheap for a classifier is dearer
# for a search.
#
# ## 7 · Scale: standardise or not?
#
# So far the heads got *standardised* features (each number minus its mean, divided by
# its standard deviation over the training texts), and the search got them raw. What if
# we swap?

# %%
def standardised(stage):
    """Test and training vectors, each number on the scale of the training texts."""
    scaler = StandardScaler().fit(train[stage, "mean"].numpy())
    return [
        torch.tensor(scaler.transform(vectors[stage, "mean"].numpy()))
        for vectors in (test, train)
    ]


# %% [markdown]
# We search again, and look at how the length of a vector is spread over its numbers:

# %%
scaled = {stage: precision_at_5(similarity(*standardised(stage))) for stage in STAGES}
share = {}
for stage in STAGES:
    squares = train[stage, "mean"].square().mean(0)
    share[stage] = (squares.topk(3).values.sum() / squares.sum()).item()

# %%
show_table(
    [
        {"stage": stage, "raw": found[stage], "standardised": scaled[stage],
         "share of the three largest": f"{share[stage]:.0%}"}
        for stage in STAGES
    ],
    f"Precision at 5 of the search; and how much of a vector's squared length lies in "
    f"three of its {width} numbers",
)

# %% [markdown]
# **A search gains by it.** In the middle stages a handful of numbers are huge, and
# nearly the same for every text (*rogue dimensions*; Timkey and van Schijndel, 2021).
# They dominate every cosine and say nothing. Standardising takes them down to size. The
# last stage of this encoder was trained for cosines, so there is little left to mend.

# %%
added = float(np.mean([scaled[stage] - found[stage] for stage in STAGES]))
claim("10.5", "points of precision at 5 that standardising adds, mean over the stages",
      100 * added, at_least=LEAST["scale"])

# %% [markdown]
# And the **head**? It can weigh each number as it likes, so scale should matter only
# through its *regularisation*: a smaller C pulls the weights more towards zero, and how
# hard that is depends on the scale. We let both choose their C by the validation texts:

# %%
def tuned(stage, *scaling):
    """The C that is best on the validation texts, and its test accuracy."""
    rows, results = MANY[0], []
    for C in (0.01, 0.1, 1, 10):
        linear = LogisticRegression(C=C, tol=1e-3, max_iter=1000)
        learnt = make_pipeline(*scaling, linear)
        learnt.fit(train[stage, "mean"][rows].numpy(), task.train.labels[rows])
        on_valid = learnt.score(valid[stage, "mean"].numpy(), task.valid.labels)
        on_test = learnt.score(test[stage, "mean"].numpy(), task.test.labels)
        results.append((on_valid, C, on_test))
    return max(results)[1:]


heads = {"raw": tuned(LAST), "standardised": tuned(LAST, StandardScaler())}
show_table(
    [{"features": name, "best C": float(C), "test accuracy": accuracy}
     for name, (C, accuracy) in heads.items()],
    "A linear head on the last stage, its C chosen by the validation texts",
)

# %% [markdown]
# "Always standardise" is a common rule. For the accuracy of a head whose C is chosen by
# validation we see no clear difference here; what standardising gives you is that one C
# suits stages of quite different scales.
#
# ## 8 · Where the search fails: word overlap and meaning
#
# Twelve messages, each with two companions that we wrote for it: one asks for **the
# same in other words**, the other uses **the same words for something else**, often the
# contrary. Which of the two will the encoder place nearer?

# %%
TRIPLES = [
    ("My parcel has not come.", "I am still waiting for my delivery.",
     "My parcel has come."),
    ("Please cancel my order.", "I no longer want it, do not send it.",
     "Please do not cancel my order."),
    ("I was charged twice.", "You took the money two times.", "I was charged once."),
    ("The kettle arrived broken.", "There is a crack in the lamp you sent.",
     "The kettle arrived early."),
    ("Where is my refund?", "You still owe me the money.", "Where is my parcel?"),
    ("I cannot log in.", "Your site does not accept my password.",
     "I cannot complain."),
    ("How do I return the shoes?", "I would like to send this coat back.",
     "How do I clean the shoes?"),
    ("I got the wrong size.", "This is not what I asked for.", "I got the right size."),
    ("My voucher does not work.", "The discount was refused at the till.",
     "My kettle does not work."),
    ("Delete my data.", "Erase everything that you know of me.", "Delete my order."),
    ("Send the sofa to my new house.", "I have moved, please change the address.",
     "Send the sofa to the repair shop."),
    ("I need the invoice for the desk.", "My accountant asks for a bill.",
     "I need the manual for the desk."),
]

# %%
predict("10.3")

# %% [markdown]
# For each message, the cosine with its two companions:


# %%
def two_cosines(vectors_of):
    """Cosine of each message with the same meaning and with the same words, (12, 2)."""
    message, *others = (vectors_of(list(texts)) for texts in zip(*TRIPLES, strict=True))
    return torch.stack([F.cosine_similarity(message, other) for other in others], 1)


pairs = {"encoder": two_cosines(embed_texts), "word counts": two_cosines(word_vectors)}
fooled = {name: (c[:, 1] > c[:, 0]).double().mean().item() for name, c in pairs.items()}
show_table(
    [
        {"by": name, "same meaning": cosines[:, 0].mean().item(),
         "same words": cosines[:, 1].mean().item(),
         "prefers the words": f"{fooled[name]:.0%}"}
        for name, cosines in pairs.items()
    ],
    "Mean cosine of the twelve messages with their two companions",
)

# %% [markdown]
# The encoder, message by message. The dotted line is the mean cosine of two tickets
# taken at random:

# %%
from course_utils.plotting import MARKERS

random_pair = similarity(test[LAST, "mean"], train[LAST, "mean"]).mean().item()
axes = new_axes(height=4.6)
rows = range(len(TRIPLES))
names = "same meaning, other words", "same words, other meaning"
for column, name in enumerate(names):
    axes.scatter(pairs["encoder"][:, column], rows, marker=MARKERS[column], label=name)
axes.axvline(random_pair, color="0.4", linestyle=":", label="two random messages")
axes.set_yticks(rows, [message for message, _, _ in TRIPLES])
axes.invert_yaxis()
axes.set(xlabel="cosine similarity, encoder")
axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.3, 1), ncols=2)
describe(
    axes,
    "Cosine similarity of twelve messages with two companions. The one with the same "
    f"words is nearer in {fooled['encoder']:.0%} of them; two random messages have "
    f"{random_pair:.2f}.",
)

# %% [markdown]
# Word counts hardly see a paraphrase: no common word, no similarity. The encoder does
# see it, in most cases well above the random pair. But it sees the common words
# **more**, and "do not cancel" is next to "cancel". Similarity means "is about the same
# things", not "wants the same". A precision far below a head's accuracy says so too.
#
# **What to do.** Search where nearness of topic is what you want (similar cases,
# duplicates, a shortlist). Where a "not" decides, let a classifier with labels decide,
# as in section 3.

# %%
claim("10.6", "share of the messages that the encoder places nearer to the same words",
      fooled["encoder"], at_least=0.5)

# %% [markdown]
# ## 9 · A failure on purpose: the company a text keeps
#
# A colleague puts the encoder into service. Messages come in batches of eight, and now
# and then a long one is among them. Her pooling is one line, `x.mean(1)`: the mean over
# the tokens. She has tested it on single messages, where it is right. To see what
# happens, we read some test messages one by one, and then again in batches with the
# longest training message among them.

# %%
queries = task.test.select(range(80))
longest = max(task.train.inputs, key=len)
alone = torch.cat([embed_texts([text]) for text in queries.inputs])

# %% [markdown]
# In company we pool in both ways, the careless one and the course's own:


# %%
def in_company(texts, size=8):
    """Two poolings of the last stage, each batch with the longest message in it."""
    careless, masked = [], []
    for start in range(0, len(texts), size):
        batch = texts[start : start + size]
        outputs, mask = every_stage([*batch, longest])
        encoder.pooling = "mean"
        careless.append(outputs[LAST].mean(1)[: len(batch)].cpu())
        masked.append(encoder.pool(outputs[LAST], mask)[: len(batch)].cpu())
    return torch.cat(careless), torch.cat(masked)


careless, masked = in_company(queries.inputs)

# %% [markdown]
# What becomes of the vectors, and of the answers of a head that was trained on the
# tables?

# %%
learnt = stage_heads[LAST][0]
before = learnt.predict(alone.numpy())
kinds = {
    "alone": alone, "in company, x.mean(1)": careless, "in company, masked": masked,
}
near = {name: F.cosine_similarity(vectors, alone) for name, vectors in kinds.items()}
changed = {
    name: float((learnt.predict(vectors.numpy()) != before).mean())
    for name, vectors in kinds.items()
}

# %%
show_table(
    [
        {"vectors": name, "accuracy": learnt.score(vectors.numpy(), queries.labels),
         "answers that changed": f"{changed[name]:.0%}",
         "cosine with the vector alone": near[name].mean().item()}
        for name, vectors in kinds.items()
    ],
    f"The same head, the same {len(queries)} messages, in different company",
)

# %% [markdown]
# Nothing about these messages has changed, and yet many get another answer. Which ones?

# %%
lengths = [len(encoder.tokenizer(text)["input_ids"]) for text in queries.inputs]
axes = new_axes()
for name, marker in zip(list(kinds)[1:], MARKERS, strict=False):
    axes.scatter(lengths, near[name], s=14, marker=marker, label=name, alpha=0.7)
axes.set(xlabel="length of the message (tokens)", ylabel="cosine with its vector alone")
axes.legend(frameon=False, loc="lower right")
low = near["in company, x.mean(1)"]
short = low[torch.tensor(lengths) <= np.median(lengths)].mean().item()
describe(
    axes,
    "Cosine of each message's vector in company with its vector alone, by length. "
    f"Without the mask {low.mean():.2f} on average, {short:.2f} for the shorter half; "
    f"with the mask {near['in company, masked'].mean():.2f}.",
)

# %% [markdown]
# **Cause.** The batch is as long as its longest message. The shorter ones are filled up
# with padding, the encoder gives a vector for each padded position as well, and
# `mean(1)` averages over *all* positions. The shorter a message, the more of its mean
# is padding. Alone, a message has no padding, so a test on single messages sees
# nothing. (The encoder did get the mask here, so its attention ignored the padding; it
# is the pooling that forgot it.)
#
# **Cure.** Average over real tokens only: add up where the mask is true, divide by how
# many these are. And test it: **a text's vector must not depend on its batch.**

# %%
claim("10.7", "percent of the answers that the company changes, without the mask",
      100 * changed["in company, x.mean(1)"], at_least=10)
claim("10.8", "percent of the answers that the company changes, with the mask",
      100 * changed["in company, masked"], at_most=5)

# %% [markdown]
# ## 10 · Exercise: the masked mean
#
# Write it yourself: `x` has shape (B, T, D), one vector for each token; `mask` has
# shape (B, T) and is true at real tokens. Give back (B, D).


# %%
masked_mean = ...
# solution begin


def mean_of_real_tokens(x, mask):
    weights = mask.unsqueeze(-1).to(x.dtype)
    return (x * weights).sum(1) / weights.sum(1)


masked_mean = mean_of_real_tokens
# solution end
check("10.1", masked_mean)

# %% [markdown]
# ## 11 · Exercise: choose the stage within a budget
#
# A phone can run only so many layers. Write `choose(accuracies, layers)`. `accuracies`
# is a dictionary like `chosen_by` of section 5: stage → validation accuracy, from
# "embeddings" (which needs no layer) over "layer0" (which needs one) to the last.
# `layers` is how many layers the phone can run. Give back the name of the stage to use:
# the most accurate one within the budget, and of equals the cheapest.


# %%
choose = ...
# solution begin


def best_within(accuracies, layers):
    affordable = list(accuracies)[: layers + 1]
    return max(affordable, key=accuracies.get)  # of equals, max takes the first


choose = best_within
# solution end
check("10.2", choose)

# %% [markdown]
# ## 12 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | begin with frozen features: one pass over the texts, then all is arithmetic | fine-tune before you know what the frozen encoder gives |
# | use them above all where labels are few | expect much over word counts where labels are many and words tell |
# | pool with the mask, and compare a text alone with the same text in a batch | trust a pooling that was tested on single texts |
# | choose the stage by validation texts, for the use you have (head or search) | take the last stage by habit, or probe on the training texts |
# | standardise before a cosine on middle stages | believe that a near neighbour wants the same |
#
# **Cost of what you just ran:**

# %%
from course_utils.device import energy_wh, peak_memory_mb

print(
    f"reading {len(task.train) + len(task.valid) + len(task.test):,} texts once: "
    f"{reading.seconds:.0f} s, about {energy_wh(reading.seconds):.2f} Wh (estimated); "
    f"peak memory {peak_memory_mb():.0f} MB; no weight of the encoder was trained"
)

# %% [markdown]
# ## What you can do now
#
# - *Build a classifier and a search on a frozen encoder*: sections 2, 3, 6 and 8.
# - *Choose the pooling and the stage, and say what an early exit costs*: sections 4, 5,
#   7 and 11.
# - *Recognise and cure features that depend on their batch*: sections 9 and 10.

# %%
quiz("10")

# %% [markdown]
# **Further reading.** Devlin, Chang, Lee and Toutanova (2019), *BERT: Pre-training of
# deep bidirectional transformers for language understanding*. · Reimers and Gurevych
# (2019), *Sentence-BERT: Sentence embeddings using Siamese BERT-networks*. · Tenney,
# Das and Pavlick (2019), *BERT rediscovers the classical NLP pipeline*. · Ethayarajh
# (2019), *How contextual are contextualized word representations?* · Timkey and van
# Schijndel (2021), *All bark and no bite: Rogue dimensions in transformer language
# models obscure representational quality*.
