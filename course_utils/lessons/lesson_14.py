"""Questions of lesson 14, GPT: adapting a language model."""

import math

from course_utils.questions import Option, Prediction, Question

PREDICTIONS = {
    "1": Prediction(
        "Two passes over a few dozen short dialogues, some seconds of training. How unsure will "
        "the model be of the shop's answers afterwards?",
        (
            "nearly as before: a few dozen texts are nothing beside what it has read",
            "half as unsure",
            "several times less unsure",
        ),
    ),
    "2": Prediction(
        "And of the documentation that it was at home in?",
        (
            "as sure as before: nothing was taken away",
            "even surer: more text makes a better model",
            "clearly less sure, after the same few seconds",
        ),
    ),
    "3": Prediction(
        "The assistant is asked the very questions that it was trained on. How many words in a row "
        "will its answers share with the training answers?",
        (
            "the whole answer: it has seen it twice",
            "about as many as answers that people wrote to other messages",
            "none: a network cannot copy",
        ),
    ),
}

# (sum of losses in nats, tokens) of each piece; all tokens alike would be a mistake's best friend.
PIECES = [(30.0, 10), (8.0, 40), (45.0, 15)]


def whole_perplexity(answer: object) -> str | None:
    """Try the handed-in function on pieces of unequal length."""
    if not callable(answer):
        return "a function is asked for: def from_pieces(pieces): … that returns a number"
    result = answer(list(PIECES))
    if result is None or result is ...:
        return "the function returns nothing yet: end it with return"
    if isinstance(result, bool) or not isinstance(result, int | float):
        return f"it returns {result!r}; a number is asked for"
    losses, counts = [loss for loss, _ in PIECES], [count for _, count in PIECES]
    mean = sum(losses) / sum(counts)
    mistakes = {
        mean: "that is the mean loss in nats; perplexity is e to the power of it",
        math.exp(sum(losses)): "the sum of the losses must be divided by the number of tokens",
        math.exp(sum(a / b for a, b in PIECES) / len(PIECES)): (
            "you take the mean of the pieces' means: a short piece then counts as much as a long "
            "one. Add up all losses and all counts, and divide once"
        ),
        sum(math.exp(a / b) for a, b in PIECES) / len(PIECES): (
            "you take the mean of the pieces' perplexities; means are taken of losses, and only "
            "then comes e to the power"
        ),
        2**mean: "the losses are in nats, so the base is e, not 2",
        math.exp(-mean): "that is one over the perplexity: look at the sign",
    }
    if math.isclose(result, math.exp(mean), rel_tol=1e-6):
        other = answer([(0.0, 5)])
        return None if math.isclose(other, 1.0) else f"for a text without loss it says {other}"
    for value, hint in mistakes.items():
        if math.isclose(result, value, rel_tol=1e-6):
            return hint
    return f"for {PIECES} it says {result:.4g}, and it should be {math.exp(mean):.4g}"


# Perplexities before and after, a limit, what is to be found, and what to say otherwise.
CASES: tuple[tuple[dict[str, float], dict[str, float], float, list[str], str], ...] = (
    (
        {"answers": 150.0, "documentation": 45.0, "letters": 80.0},
        {"answers": 30.0, "documentation": 110.0, "letters": 100.0},
        1.2,
        ["documentation", "letters"],
        "documentation became 2.4 times as unsure, letters 1.25 times, answers less unsure",
    ),
    (
        {"a": 10.0, "b": 100.0},
        {"a": 30.0, "b": 150.0},
        1.1,
        ["a", "b"],
        "b rose by more points, but a became three times as unsure and b one and a half times: "
        "compare by the ratio",
    ),
    ({"a": 10.0, "b": 20.0}, {"a": 9.0, "b": 20.0}, 1.0, [], "nothing became more unsure"),
    (
        {"a": 10.0, "b": 10.0, "c": 10.0},
        {"a": 13.0, "b": 12.0, "c": 15.0},
        1.25,
        ["c", "a"],
        "the worst comes first, and b stays under the limit",
    ),
)


def forgotten_fields(answer: object) -> str | None:
    """Try the handed-in function on perplexities before and after."""
    if not callable(answer):
        return "a function is asked for: def safe(before, after, limit): … that returns a list"
    for before, after, limit, expected, why in CASES:
        result = answer(dict(before), dict(after), limit)
        if result is None or result is ...:
            return "the function returns nothing yet: end it with return and a list of names"
        if not isinstance(result, list | tuple) or not all(isinstance(n, str) for n in result):
            return f"it returns {result!r}; a list of names is asked for"
        if list(result) != expected:
            order = " The names are right, their order is not." if set(result) == set(
                expected) else ""  # fmt: skip
            return (
                f"for before = {before}, after = {after} and limit = {limit} it says "
                f"{list(result)}, and it should be {expected}: {why}.{order}"
            )
    return None


EXERCISES = {"1": whole_perplexity, "2": forgotten_fields}

QUIZ = (
    Question(
        "A colleague's model has perplexity 12 on its texts, yours has 20 on yours. Whose model is "
        "better?",
        (
            Option(
                "the colleague's: lower is better",
                "On the same texts, cut into the same tokens. Other texts are easier or harder, "
                "and with another vocabulary a token is another thing.",
            ),
            Option(
                "that cannot be said from these two numbers",
                "Perplexity compares models on the same texts with the same tokens. Across "
                "vocabularies compare bits for each character.",
                right=True,
            ),
            Option(
                "yours: a high perplexity means a rich vocabulary",
                "It means that the model is unsure. A richer vocabulary can raise it, and then the "
                "two are not comparable.",
            ),
        ),
    ),
    Question(
        "After tuning, the assistant answers well but has become poor at its old task. You cannot "
        "train for longer. What first?",
        (
            Option(
                "train on more dialogues",
                "That pulls it further in the same direction: section 3 measured where it leads.",
            ),
            Option(
                "lower the temperature",
                "Sampling changes what is drawn, not what the model has lost.",
            ),
            Option(
                "mix in texts like those it was pre-trained on",
                "Replay was the cheapest cure of section 3: much less was forgotten, and the "
                "answers were nearly as good.",
                right=True,
            ),
        ),
    ),
    Question(
        "Your tuned model answers and then goes on for ever, inventing the customer's next "
        "message. Where do you look?",
        (
            Option(
                "at the labels of the last token of each training text",
                "If the end token never counts, as in section 7, or is cut off by truncation, the "
                "model is never taught to stop.",
                right=True,
            ),
            Option(
                "at the learning rate",
                "A wrong rate makes it worse at everything. Never stopping, with good answers, is "
                "one thing that was not taught.",
            ),
            Option(
                "at the number of tokens that it may write",
                "That limit cuts the text off; it does not make the model end it.",
            ),
        ),
    ),
)
