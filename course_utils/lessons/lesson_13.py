"""Questions of lesson 13, question answering and tagging."""

import math
from collections.abc import Sequence

from course_utils.questions import Option, Prediction, Question

PREDICTIONS = {
    "1": Prediction(
        "Some questions have no answer in their passage. Who scores the higher mean F1 over all "
        "questions?",
        (
            "the best sentence: it often holds the answer",
            "always saying that there is no answer",
            "both about the same",
        ),
    ),
    "2": Prediction(
        "A reader that always answers, and one that keeps silent below a threshold. What will the "
        "threshold change?",
        (
            "little: the answers stay the same",
            "it gains: questions without an answer are scored too",
            "it loses: some right answers are silenced",
        ),
    ),
    "3": Prediction(
        "A dictionary of all names in the training messages, against a tagger trained on the same "
        "messages. Which finds more of the names in new messages?",
        (
            "the dictionary: it makes no mistakes",
            "the tagger: most names in new messages were never seen before",
            "both the same: they saw the same messages",
        ),
    ),
}

# Margins, the F1 that answering would score, whether there is no answer, and what to say.
THRESHOLD_CASES: tuple[tuple[list[float], list[float], list[bool], str], ...] = (
    (
        [5.0, 4.0, 1.0, -2.0],
        [1.0, 1.0, 0.0, 0.0],
        [False, False, True, True],
        "the two sure answers are right and the two unsure ones should not be given",
    ),
    (
        [3.0, 2.0, 1.0],
        [1.0, 0.5, 0.8],
        [False, False, False],
        "every question has an answer here, so it is best to speak always: the threshold must lie "
        "below the lowest margin",
    ),
    (
        [3.0, 2.0, 1.0],
        [0.0, 0.0, 0.0],
        [True, True, True],
        "no question has an answer here, so it is best never to speak: the threshold must not lie "
        "below the highest margin",
    ),
    (
        [-1.0, -5.0, -9.0, -3.0],
        [1.0, 0.0, 0.0, 1.0],
        [False, True, True, False],
        "all margins are negative: a threshold need not be positive",
    ),
    (
        [6.0, 5.0, 4.0, 3.0, 2.0],
        [0.0, 1.0, 1.0, 1.0, 0.0],
        [True, False, False, False, True],
        "the surest answer is wrong; silencing it as well would cost more than it saves",
    ),
)


def mean_score(
    threshold: float, margins: Sequence[float], scores: Sequence[float], empty: Sequence[bool]
) -> float:
    """What a reader scores that speaks only above the threshold."""
    said = [
        score if margin > threshold else float(none)
        for margin, score, none in zip(margins, scores, empty, strict=True)
    ]
    return sum(said) / len(said)


def threshold_chooser(answer: object) -> str | None:
    """Try the handed-in function and see what its threshold scores."""
    if not callable(answer):
        return "a function is asked for: def choose(margins, scores, empty): … returns a threshold"
    for margins, scores, empty, why in THRESHOLD_CASES:
        result = answer(list(margins), list(scores), list(empty))
        if result is None or result is ...:
            return "the function returns nothing yet: end it with return and a threshold"
        if isinstance(result, bool) or not isinstance(result, int | float) or math.isnan(result):
            return f"it returns {result!r}; one number, the threshold, is asked for"
        candidates = [min(margins) - 1, *margins]
        best = max(candidates, key=lambda t: mean_score(t, margins, scores, empty))
        reached = mean_score(float(result), margins, scores, empty)
        if reached < mean_score(best, margins, scores, empty) - 1e-9:
            at_or_above = [
                s if m >= result else float(e)
                for m, s, e in zip(margins, scores, empty, strict=True)
            ]
            hint = (
                " With 'at or above' it would be right: the reader speaks only if its margin is "
                "above the threshold"
                if sum(at_or_above) / len(at_or_above) > reached + 1e-9
                else ""
            )
            return (
                f"for margins = {margins}, scores = {scores}, empty = {empty} your threshold "
                f"{result:g} scores {reached:.2f}, and {best:g} would score "
                f"{mean_score(best, margins, scores, empty):.2f}: {why}.{hint}"
            )
    return None


# Tags, the names that they spell, and what to say to those who read them otherwise.
TAG_CASES: tuple[tuple[list[str], list[tuple[int, int, str]], str], ...] = (
    (
        ["O", "B-DATE", "I-DATE", "B-DATE"],
        [(1, 2, "DATE"), (3, 3, "DATE")],
        "a B- begins a new name even right behind one of the same kind",
    ),
    (["O", "O"], [], "there is no name here"),
    (
        ["B-PLACE", "I-PLACE", "I-PLACE"],
        [(0, 2, "PLACE")],
        "a name may end with the text: mind the last one",
    ),
    (
        ["B-PERSON", "I-PLACE", "O"],
        [(0, 0, "PERSON"), (1, 1, "PLACE")],
        "an I- of another label cannot go on with the name before it; it begins a new one",
    ),
    (
        ["I-DATE", "I-DATE", "O", "I-DATE"],
        [(0, 1, "DATE"), (3, 3, "DATE")],
        "an I- behind O, or at the beginning, begins a name as well",
    ),
)


def tag_speller(answer: object) -> str | None:
    """Try the handed-in function on lists of tags."""
    if not callable(answer):
        return "a function is asked for: def spell(tags): … that returns a list of names"
    for tags, expected, why in TAG_CASES:
        result = answer(list(tags))
        if result is None or result is ...:
            return "the function returns nothing yet: end it with return and a list"
        if not isinstance(result, list | tuple | set) or not all(
            isinstance(name, list | tuple) and len(name) == 3 for name in result
        ):
            return f"it returns {result!r}; a list of (first, last, label) is asked for"
        found = sorted(tuple(name) for name in result)
        if found == expected:
            continue
        if found == sorted((first, last + 1, label) for first, last, label in expected):
            return "the second number is the name's last position, not the one behind it"
        return f"for {tags} it says {found}, and it should be {expected}: {why}"
    return None


EXERCISES = {"1": threshold_chooser, "2": tag_speller}

QUIZ = (
    Question(
        "A reader reaches F1 60 % on questions that have an answer. Your customers also ask many "
        "things that the manual does not say. What do you measure before you let it loose?",
        (
            Option(
                "exact match on the same questions",
                "That is stricter, and still blind to the questions that have no answer.",
            ),
            Option(
                "its F1 over questions with and without an answer, at a threshold chosen on others",
                "Section 5: over all questions, a reader that always answers scored less than one "
                "that never speaks.",
                right=True,
            ),
            Option(
                "the mean of its margins",
                "A margin says how sure it is, not whether it is right.",
            ),
        ),
    ),
    Question(
        "Your passages have 2,000 tokens, the encoder takes 512, answers have up to 30 tokens. "
        "Which stride is safe, if 480 tokens of the passage fit beside the question?",
        (
            Option(
                "480: then every token is read",
                "Every token is, but an answer that lies across a border is whole in no window.",
            ),
            Option(
                "450 or less",
                "Two windows then share 30 tokens or more, so an answer of 30 is whole in one of "
                "them.",
                right=True,
            ),
            Option(
                "a stride of 1, to be sure",
                "It is safe, and reads each token hundreds of times: the cost grows as the stride "
                "shrinks.",
            ),
        ),
    ),
    Question(
        "A tagger has 95 % of the tokens right. Is it good?",
        (
            Option(
                "yes: only one in twenty is wrong",
                "Most tokens are no names. Tagging nothing at all has most of them right too.",
            ),
            Option(
                "that cannot be said: count whole names, by precision and recall",
                "One wrong token spoils a name, and a name is what people need.",
                right=True,
            ),
            Option(
                "no: taggers reach 99 %",
                "That depends on how many tokens are names. Compare with the share of O.",
            ),
        ),
    ),
)
