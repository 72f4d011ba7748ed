"""Questions of lesson 02, data, splits and metrics; and its makers of dirt.

`resend` disguises a message as a customer does who writes a second time; `messy_csv` spoils a
clean set of messages in ten ways, each of which can be had alone.
"""

import csv
import html
import io
import random
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from course_utils.questions import Option, Prediction, Question

# --- dirt -----------------------------------------------------------------------------------

OPENINGS = ("Hello again, ", "Second time I write: ", "Reminder: ", "Did you get this? ", "FYI, ")
CLOSINGS = (" Thanks in advance.", " Please reply.", " Sent from my phone", " Still waiting.")

# Kinds of dirt, with the share of the messages that each one touches.
DIRT = {
    "wrong bytes": 0.3,
    "mojibake": 0.3,
    "HTML": 0.25,
    "empty texts": 0.05,
    "missing labels": 0.1,
    "label spellings": 0.5,
    "exact duplicates": 0.15,
    "near duplicates": 0.15,
    "contradictions": 0.2,
}
CURLY = 0.6  # share of messages whose writer's phone made ' to ’; part of any file, not dirt
NO_TEXT = ("", "   ", ".", "<p></p>", "&nbsp;")
NO_LABEL = ("", "n/a", "?", "tbd", "None")


def resend(text: str, generator: random.Random) -> str:
    """The message as its sender writes it a second time: nearly the same, never quite."""
    words = text.split()
    for _ in range(max(1, len(words) // 15)):
        i = generator.randrange(len(words))
        if len(words) > 6 and generator.random() < 0.4:
            del words[i]
        elif len(words[i]) > 4:  # a slip of the finger
            cut = generator.randrange(1, len(words[i]) - 1)
            words[i] = words[i][:cut] + words[i][cut + 1 :]
        else:
            words[i] = words[i].upper()
    changed = " ".join(words)
    if generator.random() < 0.4:
        changed = changed.lower()
    opening = generator.choice(OPENINGS) if generator.random() < 0.5 else ""
    return opening + changed + (generator.choice(CLOSINGS) if generator.random() < 0.5 else "")


def messy_csv(
    texts: Sequence[str], labels: Sequence[str], seed: int = 0, kinds: Collection[str] = tuple(DIRT)
) -> bytes:
    """A CSV file with the columns text and label, as it comes in real life.

    Args:
        texts, labels: the clean messages, without line breaks.
        seed: decides what is spoilt, and how.
        kinds: which kinds of `DIRT` there are; () gives the clean file.

    Returns:
        The file's bytes; they are not UTF-8 if "wrong bytes" is among the kinds.
    """
    if unknown := set(kinds) - set(DIRT):
        raise ValueError(f"unknown kinds of dirt {sorted(unknown)}; there are {list(DIRT)}")
    generator = random.Random(seed)
    rows = [
        (text.replace("'", "’") if generator.random() < CURLY else text, label)
        for text, label in zip(texts, labels, strict=True)
    ]
    names = sorted(set(labels))

    def some(kind: str) -> list[tuple[str, str]]:
        count = round(DIRT[kind] * len(texts)) if kind in kinds else 0
        return generator.sample(rows[: len(texts)], count)

    rows += some("exact duplicates")
    rows += [(resend(text, generator), label) for text, label in some("near duplicates")]
    rows += [
        (text, generator.choice([name for name in names if name != label]))
        for text, label in some("contradictions")
    ]
    rows += [(generator.choice(NO_TEXT), label) for _, label in some("empty texts")]
    generator.shuffle(rows)
    return b"text,label\n" + b"".join(_line(text, label, generator, kinds) for text, label in rows)


def _line(text: str, label: str, generator: random.Random, kinds: Collection[str]) -> bytes:
    """One row of the file, spoilt by chance."""

    def strikes(kind: str) -> bool:
        return generator.random() < DIRT[kind] and kind in kinds

    if strikes("HTML"):
        text = generator.choice(
            ("<p>{}</p>", '<div class="msg">{}<br></div>', "<span>{}</span>&nbsp;")
        ).format(html.escape(text))
    encoding = "utf-8"
    if strikes("mojibake"):
        text = _garbled(text)
    elif strikes("wrong bytes") and _fits_cp1252(text):
        encoding = "cp1252"
    if strikes("label spellings"):
        label = _misspelt(label, generator)
    if strikes("missing labels"):
        label = generator.choice(NO_LABEL)
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow((text, label))
    return line.getvalue().encode(encoding)


def _garbled(text: str) -> str:
    """Mojibake: the text's UTF-8 bytes read as if they were Latin-1, as Windows knows it."""
    try:
        return text.encode("utf-8").decode("cp1252")
    except UnicodeDecodeError:  # some bytes mean nothing there
        return text


def _fits_cp1252(text: str) -> bool:
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:  # an emoji
        return False
    return True


def _misspelt(label: str, generator: random.Random) -> str:
    words = label.replace("_", " ")
    cut = len(label) // 2
    return generator.choice(
        (
            words.capitalize() + " ",  # "Refund status "
            words.title(),
            label.upper(),
            label.replace("_", "-"),
            label[:cut] + label[cut + 1] + label[cut] + label[cut + 2 :],  # two letters swapped
        )
    )


# --- questions ------------------------------------------------------------------------------


def alarms(p: np.ndarray, truth: np.ndarray, threshold: float) -> str:
    """What happens if we say yes from a threshold on.

    Args:
        p: probability of yes for each message.
        truth: whether each one is a yes.
        threshold: from 0 to 1.
    """
    yes = p >= threshold
    hits, given, there = int((yes & truth).sum()), int(yes.sum()), int(truth.sum())
    right = f"{hits} of {given} alarms are right" if given else "no alarm at all"
    precision = f"precision {hits / given:.2f}, " if given else ""
    return (
        f"{right}, {hits} of {there} are found, {there - hits} missed "
        f"({precision}recall {hits / there:.2f})"
    )


PREDICTIONS = {
    "1": Prediction(
        "Two models: one learnt its training messages by heart, the other did not and is better "
        "on new messages. Copies of training messages slip into the test. Whose score rises more?",
        (
            "the better model's: it is better on everything",
            "the one that learnt by heart",
            "both alike, so the comparison stays fair",
            "neither: the copies are not exact",
        ),
    ),
    "2": Prediction(
        "A thousand candidates answer a hundred yes-or-no questions by tossing a coin. How many "
        "right answers does the best of them have?",
        ("about 50", "about 55", "about 65", "about 90"),
    ),
    "3": Prediction(
        "A messy file of training messages: which dirt costs most accuracy if it is left in?",
        (
            "garbled characters and leftover HTML: many messages look broken",
            "messages that occur twice",
            "labels spelt in several ways: a blank, a capital letter, a hyphen",
            "missing labels: those messages are lost",
        ),
    ),
}

# Training messages of exercise 1.
KNOWN = (
    "The blue kettle I ordered on Monday has not arrived and nobody answers the telephone.",
    "Could you please tell me whether the garden bench may stay outside during the winter?",
    "I was charged twice for the same pair of hiking boots, once on each card.",
    "My password is refused since you changed the sign-in page last week.",
    "Where is my order? It should have been here before the long weekend.",
    "The lamp came with a cracked shade and the plug was missing as well.",
    "Please cancel the coffee grinder, my sister has already given me one.",
)
# Its test messages: what disguise they wear, and how they read; "" is an honest one.
ARRIVING = (
    ("", "Your courier rang twice and then left the wardrobe with a neighbour I do not know."),
    ("exact", KNOWN[3]),
    ("case", KNOWN[2].upper().replace(",", "!").replace(".", "!!")),
    ("", "Where is my order? The tracking page shows a depot in another country since Friday."),
    (
        "wrapped",
        "Dear Fernhill team, second time I write: " + KNOWN[0] + " Thanks in advance, Ada.",
    ),
    ("word", KNOWN[1].replace("garden bench", "garden table")),
    ("", "Thanks in advance for the invoice, the tax office wants one with my full name on it."),
    ("cut", "The lamp came with a cracked shade and"),
    ("", "My password is fine, but the page that shows my invoices stays empty."),
    ("", "Do you sell a blue kettle without a whistle?"),
    (
        "markup",
        "<p>Please&nbsp;cancel the <b>coffee grinder</b>,\n my&nbsp;sister<br>has already "
        "<i>given</i> me one.</p>",
    ),
    ("", "It's not here."),
)
ORIGINALS = {0, 1, 2, 3, 5, 6}  # positions in KNOWN of what comes again
MISSED = {
    "exact": "a test message that is word for word in training was not found",
    "case": (
        "a message in capitals, with other punctuation, was not found: compare lower-case words "
        "instead of characters"
    ),
    "wrapped": (
        "a message with a greeting before it and thanks behind it was not found: do not compare "
        "whole messages, ask how much of the *training* message is in the test message"
    ),
    "word": (
        "a message in which one word was exchanged was not found: compare short runs of words, "
        "three or so, and be content with a good part of them"
    ),
    "cut": (
        "a message that is only the beginning of a training message was not found: divide the "
        "shared runs by those of the *shorter* of the two"
    ),
    "markup": (
        "a message with HTML and a line break in it was not found: remove the tags and take "
        "html.unescape, before you look for words"
    ),
}


def find_leaks(answer: object) -> str | None:
    """Try the handed-in function on planted cases."""
    if not callable(answer):
        return "a function is asked for: def find_leaks(train, test): … return positions"
    messages = [text for _, text in ARRIVING]
    try:
        found = answer(list(KNOWN), list(messages))
    except TypeError as error:
        return f"it could not be called with two lists of texts, training first: {error}"
    if found is None:
        return "it returns nothing: end it with return and the positions of the test messages"
    given = _without_mask(found)
    if not all(isinstance(entry, int | np.integer) for entry in given):
        return "positions are asked for, whole numbers such as [1, 4], not texts or similarities"
    positions = {int(entry) for entry in given}
    planted = {i for i, (disguise, _) in enumerate(ARRIVING) if disguise}
    if strangers := positions - set(range(len(messages))):
        return f"position {min(strangers)} is none of the {len(messages)} test messages"
    if positions in ({3}, ORIGINALS):
        return "positions in the *test* messages are asked for; these are those in training"
    for i in sorted(positions - planted):
        if len(positions) == len(messages):
            return "every test message is reported: a common word or two is not a leak yet"
        return (
            f"{messages[i]!r} is honest and was reported: a shared phrase is no leak; ask for a "
            "larger part of the message, or for longer runs of words"
        )
    for kind, hint in MISSED.items():
        if any(ARRIVING[i][0] == kind for i in planted - positions):
            return hint
    if _without_mask(answer(list(KNOWN), [messages[0]])):
        return "a single honest message is reported as soon as it comes alone: look at your limit"
    return None


def _without_mask(found: Iterable) -> list:
    """Positions, also where a True or False for each message was returned."""
    given = list(found)
    if all(isinstance(entry, bool | np.bool_) for entry in given):
        return [i for i, entry in enumerate(given) if entry]
    return given


Z = 1.96  # standard errors on either side of a 95 % interval
CASES = ((0.03, 0.15), (0.05, 0.2), (0.01, 0.08), (0.1, 0.3))


def needed(gain: float, disagreement: float) -> float:
    """Test examples at which the interval of a paired difference just leaves zero out."""
    return (Z / gain) ** 2 * (disagreement - gain**2)


def examples_needed(answer: object) -> str | None:
    """Compare the handed-in function with the formula, and with typical slips."""
    if not callable(answer):
        return "a function is asked for: def examples_needed(gain, disagreement): …"
    values = []
    for case in CASES:
        try:
            value = answer(*case)
        except TypeError as error:
            return f"it could not be called with two numbers, gain and disagreement: {error}"
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            return f"for {case} it gives {value!r}; a number of test examples is asked for"
        values.append(float(value))
    got = np.array(values)
    gains, disagreements = np.array(CASES).T
    # 1.96, 2 or more digits, with the small gain² or without it: a matter of taste.
    for z in (Z, 2.0, 1.959964):
        for kept in (1, 0):
            exact = (z / gains) ** 2 * (disagreements - kept * gains**2)
            if (abs(got - np.ceil(exact - 1e-9)) < 0.5).all() and (got == got.round()).all():
                return None
            if (abs(got - exact) < 1).all():
                if (got == got.round()).all():
                    return "rounded down, it is one example too few: round up with math.ceil"
                return "a test set has whole examples: round up with math.ceil"
    simple = (Z / gains) ** 2 * disagreements
    slips = {
        "one standard error fits into the gain, but 1.96 of them must: multiply it by 1.96": (
            simple / Z**2
        ),
        "1.96 is still to be squared: solve 1.96 · sqrt(disagreement / n) = gain for n": simple / Z,
        "the gain is still to be squared: half the gain needs four times the examples": (
            simple * gains
        ),
        "the square is missing: square both sides before you solve for n": np.sqrt(simple),
        "here the whole interval is as wide as the gain; only its lower half must fit between "
        "zero and the gain": simple * 4,
        "gain and disagreement are shares here: 0.03, not 3": simple / 1e4,
        "that is for one model's accuracy: the variance of the difference is about the "
        "disagreement itself": simple * (1 - disagreements),
    }
    for hint, slip in slips.items():
        if (abs(got - slip) < 1 + 0.04 * slip).all():
            return hint
    order = gains.argsort()
    if (np.diff(got[order]) >= 0).any():
        return "a smaller gain needs more examples: the gain belongs below the line, squared"
    few_or_many = "few" if values[0] < needed(*CASES[0]) else "many"
    return (
        f"for a gain of {CASES[0][0]} and a disagreement of {CASES[0][1]} it gives "
        f"{values[0]:.0f}, which is too {few_or_many}: set 1.96 standard errors equal to the gain "
        "and solve for n"
    )


EXERCISES = {"1": find_leaks, "2": examples_needed}

QUIZ = (
    Question(
        "A model for a fault that occurs in 1 % of the cases has 99 % accuracy. What do you ask?",
        (
            Option(
                "nothing: 99 % is excellent",
                'Somebody who always says "no fault" has 99 % as well.',
            ),
            Option(
                "its recall and precision on the faults",
                "They look only at what the model is there for: how many faults it finds, and how "
                "many of its alarms are right.",
                right=True,
            ),
            Option(
                "its accuracy on more examples",
                "A more exact number, but of a measure that hardly depends on the faults.",
            ),
        ),
    ),
    Question(
        "You tried 40 settings and report the best one's score on the test set. What is wrong?",
        (
            Option(
                "nothing, if all 40 were trained in the same way",
                "Then it is worst: the differences are luck, and you picked the luckiest.",
            ),
            Option(
                "the score is too high: part of the best one's lead is luck on these examples",
                "Choose on validation; then measure the one that you chose, once, on the test.",
                right=True,
            ),
            Option(
                "the score is too low: 40 settings are not enough",
                "More settings make the best score on these examples higher, and less true.",
            ),
        ),
    ),
    Question(
        "After temperature scaling the accuracy is the same as before. What was it good for?",
        (
            Option(
                "nothing: a method that leaves accuracy as it was has no use",
                "It has one as soon as somebody acts on the probability, such as 'above 0.9'.",
            ),
            Option(
                "a confidence of 0.9 now means right in about nine of ten cases",
                "Dividing by one number cannot change which class leads, only how sure it looks.",
                right=True,
            ),
            Option(
                "the model is now better on rare classes",
                "The order of the classes is untouched, for rare ones as for others.",
            ),
        ),
    ),
)
