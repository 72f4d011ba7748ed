# %% [markdown]
# # 00 · Start here
#
# Take a model that somebody else trained on millions of texts or photographs. Show it a few hundred
# examples of *your* task. That is **fine-tuning**: the instrument is built, you only tune it. In
# this lesson you do it twice, for a text model and for an image model, and look at what changed in
# their answers.
#
# **You will be able to**
#
# - say whether your machine is ready for the course;
# - fine-tune a pre-trained text model and an image model with the same three lines;
# - tell, from a measurement, what the pre-trained model knew before and what fine-tuning added.
#
# **Builds on** nothing but a little Python. **Words:** *model* – a function with millions of
# adjustable numbers, its *weights*; *pre-trained* – the weights were already adjusted on a large
# general task; *label* – the right answer for one example; *accuracy* – the share of right answers.
#
# How to read a lesson: run the cells from top to bottom (Shift+Enter). Before a surprise you are
# asked to predict. Green lines are *claims*: statements that this very run has measured.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from course_utils import (
    Examples, accuracy, check, claim, describe, embed, evaluate, fit, load_image_model,
    load_task, load_text_model, plot_bars, plot_images, predict, quiz, recipes,
    select, show_table, tokenize,
)

TEXT_MODEL = select(PROFILE, quick="minilm", full="distilbert/distilbert-base-uncased")
TEXT_TASK = select(PROFILE, quick="tickets", full="ag_news")
IMAGE_MODEL = select(PROFILE, quick="resnet18", full="resnet18-imagenet")
IMAGE_TASK = select(PROFILE, quick="surface", full="flowers")
TEXT_TRAIN = select(PROFILE, quick=300, full=4000)  # labelled texts
IMAGE_TRAIN = select(PROFILE, quick=240, full=2500)  # labelled images
TEST = select(PROFILE, quick=180, full=240)  # texts; images in quick
EPOCHS = 4  # passes over the examples

# %% [markdown]
# ## 1 · Is this machine ready?
#
# The course needs no GPU. It uses one if there is one.

# %%
from course_utils.doctor import diagnose

facts, problems = diagnose()
print("\n".join(facts))
print("ready" if not problems else problems)

# %% [markdown]
# ## 2 · A text task: what does this customer want?
#
# The tickets were written for this course: customers of a shop, with typos, hedging, anger and two
# requests in one. The model has to name the intent.

# %%
task = load_task(TEXT_TASK).limited(train=TEXT_TRAIN, valid=60, test=TEST, seed=SEED)
print(task)
for text, label in list(task.test)[:4]:
    print(f"[{task.classes[label]}] {text}")

# %% [markdown]
# ## 3 · What does the pre-trained model know already?
#
# It was never shown a ticket. But it turns every text into a vector (a list of numbers), and texts
# of similar meaning into nearby vectors. So let us ask without any training: which *name of an
# intent* is nearest to the ticket?

# %%
predict("00.1")

# %%
import torch

model = load_text_model(TEXT_MODEL, len(task.classes), seed=SEED)
numbers = torch.arange(len(task.classes))
names = Examples([name.replace("_", " ") for name in task.classes], numbers)
unit_vectors = [
    torch.nn.functional.normalize(embed(model, examples), dim=1)
    for examples in (task.test, names)
]
nearest_name = (unit_vectors[0] @ unit_vectors[1].T).argmax(1)
accuracies = {
    "guessing": task.test.labels.bincount().max().item() / len(task.test),
    "no training: nearest name": accuracy(task.test.labels, nearest_name),
}
accuracies

# %% [markdown]
# Well above guessing, without a single labelled example. For some tasks that is already enough.
#
# ## 4 · Fine-tune it
#
# Three lines. The model gets a new *head* (the layer that names the classes, random at first), and
# we train the head and the last two of its layers. The earlier layers stay **frozen**: they hold
# general knowledge of English, and running them once is enough.

# %%
data = tokenize(task, model.tokenizer)
before = evaluate(model, data.test)
recipe = recipes.top_stages("layer4", epochs=EPOCHS, learning_rate=3e-4)
history = fit(model, data, recipe, seed=SEED)
after = evaluate(model, data.test)

# %% [markdown]
# What changed in its answers? A random head answers nonsense; look at the same tickets afterwards.

# %%
def answer(evaluation, i: int) -> str:
    return task.classes[int(evaluation.predictions[i])]


show_table(
    [
        {
            "ticket": task.test.inputs[i][:70],
            "before": answer(before, i),
            "after": answer(after, i),
            "true": task.classes[task.test.labels[i]],
        }
        for i in range(0, len(task.test), len(task.test) // 6)
    ],
    "Six test tickets, before and after fine-tuning",
)

# %% [markdown]
# Six tickets are anecdotes. All test tickets together:

# %%
accuracies["fine-tuned"] = after.accuracy
described = ", ".join(f"{name} {value:.2f}" for name, value in accuracies.items())
describe(
    plot_bars(accuracies, "test accuracy"),
    f"Bars of test accuracy on the texts: {described}.",
)

# %%
claim("00.1", "accuracy without training, in multiples of guessing",
      accuracies["no training: nearest name"] / accuracies["guessing"], at_least=1.5)
claim("00.2", "points of accuracy that fine-tuning added to that",
      100 * (after.accuracy - accuracies["no training: nearest name"]), at_least=8)

# %% [markdown]
# ## 5 · The same three lines for images
#
# Another model, another world: a ResNet-18 that was trained on photographs of animals, plants and
# things. It never saw a machined surface. The task: which defect does this surface have?

# %%
settings = {"train": IMAGE_TRAIN, "valid": 48, "test": TEST, "difficulty": 0.2}
image_task = load_task(IMAGE_TASK, **select(PROFILE, quick=settings, full={}))
image_task = image_task.limited(train=IMAGE_TRAIN, valid=200, test=400, seed=SEED)
print(image_task)

# %%
predict("00.2")

# %% [markdown]
# Again a new head, and again only the last stage is trained with it:

# %%
image_model = load_image_model(IMAGE_MODEL, len(image_task.classes), seed=SEED)
image_before = evaluate(image_model, image_task.test)
recipe = recipes.top_stages("layer4", epochs=EPOCHS, learning_rate=1e-3)
image_history = fit(image_model, image_task, recipe, seed=SEED)
image_after = evaluate(image_model, image_task.test)

# %% [markdown]
# Its answers to twelve test images, before → after:

# %%
shown = range(12)
answers = [
    [image_task.classes[run.predictions[i]] for run in (image_before, image_after)]
    for i in shown
]
titles = [" → ".join(pair) for pair in answers]
describe(
    plot_images(image_task.test.inputs[:12], titles),
    "Twelve test images, each with the model's answer before and after fine-tuning: "
    + "; ".join(titles),
)

# %%
claim("00.3", "points of accuracy that fine-tuning added on the images",
      100 * (image_after.accuracy - image_before.accuracy), at_least=20)
claim("00.4", "seconds of training for both models together",
      history.seconds + image_history.seconds, at_most=300)

# %% [markdown]
# ## 6 · A failure on purpose
#
# Errors are part of the work. The course's errors say what was received, what is allowed and what
# to do. Here a step is missing:

# %%
from course_utils.errors import CourseError

try:
    fit(model, task, recipes.full_finetuning())
except CourseError as error:
    print(error)

# %% [markdown]
# **Cause:** the model reads *tokens* (numbers of word pieces), and these are still texts.
# **Cure:** the error says it: `tokenize` first, as in section 4.
#
# ## 7 · Exercise: how much was trained?
#
# `history` knows how many weights the text model has (`history.total_weights`) and how many were
# trained (`history.trained_weights`). What **share** was trained?

# %%
share = history.trained_weights / history.total_weights  # solution
check("00.1", share)

# %% [markdown]
# ## 8 · Exercise: swap the task
#
# The course has another text task, `"reviews"`. Load it, and cut it to 200 training, 100 validation
# and 100 test texts with `limited`, as in section 2.

# %%
other = load_task("reviews").limited(train=200, valid=100, test=100)  # solution
check("00.2", other)

# %% [markdown]
# Does the recipe carry over? If your task is ready, this fine-tunes a fresh model on it.

# %%
if other is not ...:
    other_model = load_text_model("minilm", len(other.classes), seed=SEED)
    other_data = tokenize(other, other_model.tokenizer)
    fit(other_model, other_data, recipes.linear_probe(), seed=SEED)
    print(f"test accuracy {evaluate(other_model, other_data.test).accuracy:.2f}")

# %% [markdown]
# ## 9 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | ask first what the pre-trained model can do without training | train from nothing because you can |
# | keep test examples that the model never sees in training | judge a model by examples it was trained on |
# | look at single answers, not only at the accuracy | trust a number that you cannot explain |
#
# **Cost of what you just ran:**

# %%
runs = [history, image_history]
print(f"{sum(r.seconds for r in runs):.0f} s of training, about "
      f"{sum(r.energy_wh for r in runs):.2f} Wh (an estimate), "
      f"peak memory {image_history.peak_memory_mb:.0f} MB")

# %% [markdown]
# ## What you can do now
#
# - *Say whether your machine is ready*: section 1.
# - *Fine-tune a text model and an image model with the same three lines*: sections 4 and 5.
# - *Tell what the model knew before and what fine-tuning added*: sections 3 to 5.

# %%
quiz("00")

# %% [markdown]
# What you predict, answer, solve and measure is kept in one file on this machine,
# `journal.jsonl`, and goes nowhere else. Here is how far you are, in all lessons; where a
# session loses its files, download the journal and put it back later.

# %%
from course_utils import show_progress

show_progress()

# %% [markdown]
# **Further reading.** Pan and Yang (2010), *A survey on transfer learning*. · Reimers and Gurevych
# (2019), *Sentence-BERT*. · He, Zhang, Ren and Sun (2016), *Deep residual learning for image
# recognition*.
