# %% [markdown]
# # 13 · Question answering and tagging
#
# Until now a network gave one answer for a whole text. Here it has to **point**: at the
# words of a manual that answer a question, or at the names in a message. And sometimes
# the right thing to point at is nothing. Can an encoder learn that from some hundred
# examples, and how do you measure an answer that is nearly right?
#
# **You will be able to**
#
# - turn places in a text into labels for tokens, and predictions back into text;
# - read a document that is longer than the network's view, by sliding windows;
# - let a reader say "there is no answer", and measure it by exact match and F1.
#
# **Builds on** lesson 11. **Words:** *span* – a piece of a text, from one token to
# another; *token* – a word or a piece of one; *BIO* – tags that say that a name
# **b**egins here, goes on (is **i**nside), or that there is none (**o**utside);
# *recall* – the share of what is there that was found; *precision* – the share of what
# was found that is right; *F1* – their harmonic mean.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
from course_utils import (
    check, claim, describe, evaluate, fit, load_span_finder, load_tagger,
    plot_bars, plot_lines, predict, quiz, recipes, select, show_table,
)
from course_utils.data import IGNORED, Task
from course_utils.reading import (
    best_answer, entities, entity_scores, exact_match, load_messages, load_questions,
    normalized, overlap_f1, span_examples, tag_names, tagged, windows,
)

MODEL = select(PROFILE, quick="minilm", full="google-bert/bert-base-uncased")
MANUALS, NAMES = select(PROFILE, quick=("manuals", "entities"), full=("xquad", "wnut17"))
TRAIN, BATCH = select(PROFILE, quick=(180, 8), full=(1102, 16))  # questions
VALID, TEST = select(PROFILE, quick=(9, 9), full=(30, 50))  # passages, with their questions
MESSAGES, TEST_MESSAGES = select(PROFILE, quick=(160, 120), full=(3394, 1287))
SIZE = select(PROFILE, quick=48, full=128)  # tokens that the reader sees at once
STRIDE = select(PROFILE, quick=20, full=48)  # tokens from one window to the next
TOP, RATE = select(PROFILE, quick=("layer3", 5e-4), full=("embeddings", 5e-5))

# %% [markdown]
# ## 1 · Questions about manuals

# %%
import random


def some(rows, count):
    """So many of them, drawn by the seed."""
    return random.Random(SEED).sample(rows, min(count, len(rows)))


def of_passages(rows, count):
    """All questions of so many passages."""
    passages = some(list(dict.fromkeys(row.passage for row in rows)), count)
    return [row for row in rows if row.passage in passages]


train = some(load_questions(MANUALS, "train"), TRAIN)
valid = of_passages(load_questions(MANUALS, "valid"), VALID)
test = of_passages(load_questions(MANUALS, "test"), TEST)
print(test[0].passage, "\n")
for question in test[:8]:
    print(f"{question.text} → {question.answer or '(not in the text)'}")

# %% [markdown]
# How do you score an answer? **Exact match** asks for the same words. **F1** counts the
# words that both have, so that "about 40 cups" for "40" is not worth nothing. Case,
# punctuation and articles do not count. Both are those of SQuAD, the data set that made
# the task known (Rajpurkar et al., 2016).

# %%
pairs = [("about 40 cups", "40"), ("the lid", "Lid."), ("five days", "a week"), ("", "")]
show_table(
    [{"right": a or "(none)", "given": b or "(none)", "exact match": exact_match(a, b),
      "F1": overlap_f1(a, b)} for a, b in pairs],
    "Four answers and their scores",
)

# %% [markdown]
# ## 2 · Baselines first
#
# Point at **the sentence that shares most words** with the question; or say **always
# "no answer"**, which is right whenever there is none.

# %%
import re


def likely_sentence(question):
    """The sentence of the passage with most of the question's words."""
    asked = set(normalized(question.text))
    sentences = re.split(r"(?<=[.!?;:]) ", question.passage)
    return max(sentences, key=lambda sentence: len(asked & set(normalized(sentence))))


def mean_f1(questions, answers):
    scores = [overlap_f1(q.answer, a) for q, a in zip(questions, answers, strict=True)]
    return 100 * sum(scores) / len(scores)


answerable = [question for question in test if question.start >= 0]
baselines = {
    "best sentence": mean_f1(test, [likely_sentence(question) for question in test]),
    "always no answer": mean_f1(test, [""] * len(test)),
}
found = sum(q.answer in likely_sentence(q) for q in answerable) / len(answerable)
print(f"{baselines}; of {len(answerable)} answers {found:.0%} lie in that sentence")

# %%
predict("13.1")

# %% [markdown]
# ## 3 · Windows
#
# Attention costs grow with the square of the length, and every encoder has a longest
# text that it can take. So a long passage is read through **windows** that overlap, and
# each window begins with the question. We use small ones, so that a laptop keeps up; the
# way of working is that of any long document.

# %%
model = load_span_finder(MODEL, seed=SEED)
tokenizer = model.tokenizer
example = answerable[0]
cut = windows(tokenizer, example.text, example.passage, SIZE, STRIDE)
rows = []
for number, window in enumerate(cut):
    first, last = window.label(example.start, example.end)
    pieces = tokenizer.convert_ids_to_tokens(window.ids[first : last + 1])
    rows.append({"window": number, "tokens": len(window.ids),
                 "label": f"{first} to {last}", "which is": " ".join(pieces)})
show_table(rows, f"Where “{example.answer}” lies in each window")

# %% [markdown]
# The label is two token numbers: where the answer **begins** and where it **ends**. A
# window that does not hold all of it gets 0 and 0: place 0 is the mark `[CLS]`, and it
# stands for *not here* (Devlin et al., 2019). A verification that nothing is lost on
# the way from characters to tokens and back:

# %%
whole, kept = 0, 0
for question in answerable:
    for window in windows(tokenizer, question.text, question.passage, SIZE, STRIDE):
        first, last = window.label(question.start, question.end)
        if first:
            whole += 1
            piece = question.passage[window.places[first][0] : window.places[last][1]]
            kept += question.answer in piece
claim("13.1", "share of labels that give the answer's characters back",
      kept / whole, at_least=1)

# %% [markdown]
# ## 4 · Fine-tuning a reader
#
# For training, each question gives one window with its answer, and one without. The
# head is a single linear layer with two outputs a token: *begins here*, *ends here*.
# The lower layers stay frozen, so that they run only once.

# %%
def training_windows(questions):
    """One window with the answer, if there is one, and one without."""
    draw, chosen, labels = random.Random(SEED), [], []
    for question in questions:
        cut = windows(tokenizer, question.text, question.passage, SIZE, STRIDE)
        placed = [window.label(question.start, question.end) for window in cut]
        for wanted in (True, False):
            fitting = [i for i, label in enumerate(placed) if (label != (0, 0)) == wanted]
            if fitting:
                i = draw.choice(fitting)
                chosen.append(cut[i])
                labels.append(placed[i])
    return span_examples(chosen, labels)


# %% [markdown]
# Training is `fit`, with labels that are places instead of classes:

# %%
pointing = training_windows(train)
few = pointing.select(range(8))
task = Task("manuals", "text", (), pointing, few, few)  # nothing is chosen by the last two
recipe = recipes.top_stages(TOP, epochs=3, batch_size=BATCH, learning_rate=RATE,
                            head_learning_rate=2e-3, validate=False)
history = fit(model, task, recipe, seed=SEED, silent=True)
print(f"{len(pointing)} windows, {history.seconds:.0f} s; loss "
      + " → ".join(f"{loss:.2f}" for loss in history.column("train_loss")))

# %% [markdown]
# To answer, read **all** windows. In each, every pair of a begin and an end is scored by
# the sum of its two logits, less the score of *not here*: the **margin**. The best pair
# of all windows is the answer.

# %%
def read(questions):
    """The best answer to each question, with its margin."""
    cut = [windows(tokenizer, q.text, q.passage, SIZE, STRIDE) for q in questions]
    flat = [window for each in cut for window in each]
    logits = evaluate(model, span_examples(flat, [(0, 0)] * len(flat))).logits
    parts = logits.split([len(each) for each in cut])
    return [best_answer(q.passage, each, part)
            for q, each, part in zip(questions, cut, parts, strict=True)], cut, parts


test_answers, test_windows, test_logits = read(test)
show_table(
    [{"question": q.text, "right": q.answer or "(none)", "given": a.text,
      "margin": a.margin} for q, a in list(zip(test, test_answers, strict=True))[:6]],
    "Six test questions",
)

# %% [markdown]
# ## 5 · Daring to say nothing
#
# A reader that always answers is wrong on each question that has none. The margin tells
# how sure it is; below a **threshold** it should keep silent. Choose the threshold on
# the *validation* questions, and look at the test questions once.

# %%
predict("13.2")

# %%
valid_answers, _, _ = read(valid)


def silenced(answers, threshold):
    return [answer.text if answer.margin > threshold else "" for answer in answers]


thresholds = sorted(answer.margin for answer in valid_answers)
curve = [mean_f1(valid, silenced(valid_answers, t)) for t in thresholds]
threshold = thresholds[max(range(len(curve)), key=curve.__getitem__)]

# %% [markdown]
# What the dial does, on validation and, for once, on test questions beside it:

# %%
axes = plot_lines(thresholds, {
    "validation": curve,
    "test": [mean_f1(test, silenced(test_answers, t)) for t in thresholds],
}, "threshold of the margin", "mean F1 (%)")
axes.axvline(threshold, color="0.4", linestyle=":")
describe(axes, "Mean F1 against the threshold, for validation and test questions: from "
               f"{curve[0]:.0f} % where it always answers over {max(curve):.0f} % at the "
               f"chosen {threshold:.1f} to {curve[-1]:.0f} % where it hardly does.")

# %%
scores = {
    **baselines,
    "reader, always answers": mean_f1(test, [answer.text for answer in test_answers]),
    "reader with threshold": mean_f1(test, silenced(test_answers, threshold)),
}
listed = ", ".join(f"{name} {value:.0f} %" for name, value in scores.items())
describe(plot_bars(scores, f"mean F1 on {len(test)} test questions (%)"),
         f"Bars of mean F1: {listed}.")

# %% [markdown]
# **The surprise.** On the questions *with* an answer the reader is better than word
# overlap, as you will see at once (by how much depends on the passages: here are few).
# Yet a reader that always answers scores less, over all questions, than one that never
# says a word! The dial brings most of that back.

# %%
only = [i for i, question in enumerate(test) if question.start >= 0]
f1 = mean_f1(answerable, [test_answers[i].text for i in only])
em = 100 * sum(
    exact_match(test[i].answer, test_answers[i].text) for i in only) / len(only)
sentence = mean_f1(answerable, [likely_sentence(q) for q in answerable])
print(f"with an answer: exact match {em:.0f} %, F1 {f1:.0f} %, best sentence "
      f"{sentence:.0f} %")
claim("13.2", "points of F1 by which the reader beats the best sentence, with an answer",
      f1 - sentence, at_least=0)
claim("13.3", "points of F1 that the threshold adds, over all questions",
      scores["reader with threshold"] - scores["reader, always answers"], at_least=2)
claim("13.4", "points of F1 by which never answering beats always answering",
      baselines["always no answer"] - scores["reader, always answers"], at_least=0)
claim("13.5", "points of F1 between exact match and F1, with an answer",
      f1 - em, at_least=3)

# %% [markdown]
# Two words of caution. The threshold was chosen on a few dozen questions, so it is
# itself uncertain: look how ragged both curves are. And compare it with *always no
# answer* before you are proud of it.
#
# **What is missing?** Some hundred questions teach what the task is, not how to read.
# Readers of products have seen a hundred thousand questions first (SQuAD), and are then
# tuned to their manuals: the same two steps, the first one larger.
#
# ## 6 · A failure on purpose: the rest is cut off
#
# Tokenizers cut what is too long without a word. Somebody reads each passage through
# its **first window only**.

# %%
first_only = [best_answer(q.passage, cut[:1], logits[:1])
              for q, cut, logits in zip(test, test_windows, test_logits, strict=True)]
truncated = mean_f1(answerable, [first_only[i].text for i in only])
visible = sum(test_windows[i][0].label(test[i].start, test[i].end) != (0, 0) for i in only)
print(f"F1 {truncated:.0f} % instead of {f1:.0f} %; "
      f"{visible} of {len(only)} answers lie in the first window")

# %% [markdown]
# **Cause.** Most answers lie behind the cut, and nothing says so: the reader answers
# all the same. **Cure.** Sliding windows. The stride must leave an overlap longer than
# the longest answer, or an answer on the border is whole in no window:

# %%
def whole_somewhere(stride):
    """Percent of the answers that at least one window holds completely."""
    held = 0
    for q in answerable:
        cut = windows(tokenizer, q.text, q.passage, SIZE, stride)
        held += any(window.label(q.start, q.end) != (0, 0) for window in cut)
    return 100 * held / len(answerable)


held = {"first window only": 100 * visible / len(only),
        f"stride of {STRIDE}": whole_somewhere(STRIDE)}

# %%
listed = ", ".join(f"{name} {value:.0f} %" for name, value in held.items())
describe(plot_bars(held, "answers that some window holds completely (%)"),
         f"Bars of the share of answers that a window holds: {listed}.")
claim("13.6", "percent of the answers that the sliding windows hold completely",
      held[f"stride of {STRIDE}"], at_least=99)
claim("13.7", "percent of the answers that the first window holds",
      held["first window only"], at_most=60)
claim("13.8", "points of F1 lost by reading the first window only",
      f1 - truncated, at_least=4)

# %% [markdown]
# ## 7 · Names in messages
#
# The second task points at *many* places: persons, places, products, dates, companies.
# Every token gets a tag. One label a **word**: only its first token counts, the rest is
# ignored.

# %%
messages = some(load_messages(NAMES, "train"), MESSAGES)
test_messages = load_messages(NAMES, "test")[:TEST_MESSAGES]
LABELS = sorted({label for m in messages for *_, label in m.entities})
TAGS = tag_names(LABELS)
names_train, names_test = (tagged(rows, tokenizer, TAGS)
                           for rows in (messages, test_messages))

# %%
ids, labels = names_train.inputs[0].tolist(), names_train.labels[0].tolist()
shown = [{"token": token, "tag": "(ignored)" if label == IGNORED else TAGS[label]}
         for token, label in zip(tokenizer.convert_ids_to_tokens(ids), labels, strict=True)]
print(messages[0].text)
show_table(shown[:14], "Its first tokens and their tags")

# %% [markdown]
# **Baselines.** *Always O*: most words are no names. And a **dictionary** of all names
# in the training messages. A name counts as found if its borders **and** its kind are
# right; precision, recall and F1 are taken over names, not over tokens.

# %%
truth = [set(message.entities) for message in test_messages]
known = {m.text[a:b].lower(): label for m in messages for a, b, label in m.entities}


def looked_up(message):
    """The dictionary's names in a message, where they first occur."""
    text = message.text.lower()
    places = {name: re.search(rf"\b{re.escape(name)}\b", text) for name in known}
    return {(m.start(), m.end(), known[name]) for name, m in places.items() if m}


by_dictionary = entity_scores(truth, [looked_up(message) for message in test_messages])

# %%
predict("13.3")

# %% [markdown]
# The tagger is trained as the reader was; only its labels are others.

# %%
from dataclasses import replace

tagger = load_tagger(MODEL, len(TAGS), seed=SEED)
few = names_train.select(range(8))
history_names = fit(
    tagger, Task("names", "text", TAGS, names_train, names_test, names_test),
    replace(recipe, name="names"), seed=SEED, silent=True)
result = evaluate(tagger, names_test)
always_o = (result.labels == 0).double().mean().item()

# %% [markdown]
# From the tags of each message back to names:

# %%
def named(predictions, examples):
    """A set of names for each message."""
    counts = [len(places) for places in examples.columns["places"]]
    return [entities([TAGS[i] for i in part.tolist()], places)
            for part, places in zip(predictions.split(counts), examples.columns["places"],
                                    strict=True)]


by_tagger = named(result.predictions, names_test)
scores_tagger = entity_scores(truth, by_tagger)
show_table(
    [{"method": name, "tokens right (%)": tokens, "precision": 100 * s.precision,
      "recall": 100 * s.recall, "F1": 100 * s.f1}
     for name, tokens, s in (
         ("always O", 100 * always_o, entity_scores(truth, [set() for _ in truth])),
         ("dictionary", "", by_dictionary),
         ("tagger", 100 * result.accuracy, scores_tagger))],
    f"Names in {len(test_messages)} test messages, percent",
)

# %% [markdown]
# "Always O" has most tokens right and finds **nothing**: the share of right tokens is no
# measure here. The dictionary cannot find names that it has not seen. The tagger has
# learnt what a name *looks* like in its sentence:

# %%
new = [{s for s in spans if m.text[s[0] : s[1]].lower() not in known}
       for m, spans in zip(test_messages, truth, strict=True)]
seen_before = 1 - sum(map(len, new)) / sum(map(len, truth))
new_found = sum(len(a & b) for a, b in zip(new, by_tagger, strict=True)) / sum(
    map(len, new))
claim("13.9", "points of entity F1 by which the tagger beats the dictionary",
      100 * (scores_tagger.f1 - by_dictionary.f1), at_least=10)
claim("13.10", "percent of the test names not seen in training that it finds",
      100 * new_found, at_least=20)
claim("13.11", "percent of tokens that are right without finding any name",
      100 * always_o, at_least=70)

# %%
kinds = {label: 100 * entity_scores(*(
    [{s for s in spans if s[2] == label} for spans in rows]
    for rows in (truth, by_tagger))).f1 for label in LABELS}
listed = ", ".join(f"{name.lower()} {value:.0f} %" for name, value in kinds.items())
describe(plot_bars(kinds, "F1 of the tagger, by kind of name (%)"),
         f"Bars of entity F1 by kind: {listed}.")
print(f"{seen_before:.0%} of the test names had been seen in training")

# %% [markdown]
# ## 8 · Exercise: unanswerable questions
#
# For each validation question you have the margin of the reader's answer, the F1 that
# the answer would score, and whether the question has no answer (silence then scores 1,
# otherwise 0). Write `choose(margins, scores, empty)`: it returns the threshold with the
# best mean score, when the reader speaks only if its margin is **above** the threshold.
# Mind that never speaking, and always speaking, may be best.

# %%
choose = ...
# solution begin


def best_threshold(margins, scores, empty):
    def total(threshold):
        return sum(s if m > threshold else float(e)
                   for m, s, e in zip(margins, scores, empty, strict=True))

    return max([min(margins) - 1, *margins], key=total)


choose = best_threshold
# solution end
check("13.1", choose)

# %% [markdown]
# ## 9 · Exercise: from tags to names
#
# Write `spell(tags)`: a list such as `["O", "B-DATE", "I-DATE", "B-DATE"]` becomes a list
# of `(first, last, label)` by position, here `[(1, 2, "DATE"), (3, 3, "DATE")]`. An `I-`
# whose label differs from the name before it, or that follows `O`, begins a new name.

# %%
spell = ...
# solution begin


def from_tags(tags):
    names = []
    before = "O"
    for i, tag in enumerate(tags):
        if tag.startswith("I-") and before[2:] == tag[2:]:
            names[-1] = (names[-1][0], i, tag[2:])
        elif tag != "O":
            names.append((i, i, tag[2:]))
        before = tag
    return names


spell = from_tags
# solution end
check("13.2", spell)

# %% [markdown]
# ## 10 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | report exact match and F1, with and without answer | give one number for all questions |
# | choose the threshold on validation questions | let a reader answer everything |
# | slide windows with an overlap longer than an answer | let the tokenizer cut in silence |
# | count whole names | count tokens: most are no names |
# | check labels by turning them back into text | trust an alignment that you have not seen |
#
# **Cost of what you just ran:**

# %%
from course_utils.device import energy_wh

total = history.seconds + history_names.seconds
print(f"two trainings, {total:.0f} s, about {energy_wh(total):.2f} Wh (an estimate); "
      f"{history.trained_weights:,} of {history.total_weights:,} weights were trained")

# %% [markdown]
# ## What you can do now
#
# - *Turn places into labels and predictions back into text*: sections 3, 7 and 9.
# - *Read long documents by sliding windows*: sections 3 and 6.
# - *Let a reader say nothing, and measure it*: sections 1, 5 and 8.

# %%
quiz("13")

# %% [markdown]
# **Further reading.** Rajpurkar, Zhang, Lopyrev and Liang (2016), *SQuAD: 100,000+
# questions for machine comprehension of text*. · Rajpurkar, Jia and Liang (2018), *Know
# what you don't know: unanswerable questions for SQuAD*. · Devlin, Chang, Lee and
# Toutanova (2019), *BERT*. · Tjong Kim Sang and De Meulder (2003), *Introduction to the
# CoNLL-2003 shared task*. · Derczynski, Nichols, van Erp and Limsopatham (2017),
# *Results of the WNUT2017 shared task*.
