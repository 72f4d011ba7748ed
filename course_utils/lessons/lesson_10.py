"""Questions of lesson 10, features from BERT."""

import torch
from torch import Tensor

from course_utils.questions import Option, Prediction, Question

PREDICTIONS = {
    "1": Prediction(
        "One vector for the whole text, from the last stage of an encoder that nobody has trained "
        "for this task. On which will a linear head do best?",
        (
            "the mean over all tokens",
            "the first token, [CLS]: it is there to stand for the whole text",
            "the last token, [SEP]: by then everything has been read",
            "all the same: every token has looked at all others",
        ),
    ),
    "2": Prediction(
        "A linear head on the mean of each stage. How does its accuracy go from the embeddings to "
        "the last layer?",
        (
            "it grows with every layer, most of all in the last ones",
            "it grows at first and then levels off",
            "the embeddings know nothing; all the layers know the same",
            "it is the same at every stage",
        ),
    ),
    "3": Prediction(
        "“Please cancel my order.” Which one will the encoder place nearer to it?",
        (
            "“I no longer want it, do not send it.”: the same meaning",
            "“Please do not cancel my order.”: the same words",
            "both equally near",
        ),
    ),
}


def masked_mean(answer: object) -> str | None:
    """Run the handed-in function on a small batch, and name the mistake its result shows."""
    if not callable(answer):
        return "a function is asked for: def masked_mean(x, mask): … that returns a tensor"
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)) + 1
    lengths = torch.tensor([5, 2, 3])
    mask = torch.arange(5) < lengths[:, None]
    try:
        result = answer(x.clone(), mask.clone())
    except RuntimeError as error:
        return (
            f"torch says: {error}. The mask has shape (B, T) and x has (B, T, D): give the mask a "
            "third dimension with mask.unsqueeze(-1) before you multiply"
        )
    if result is None or result is ...:
        return "the function returns nothing yet: end it with return and the tensor"
    if not isinstance(result, Tensor) or result.shape != (3, 4):
        received = tuple(result.shape) if isinstance(result, Tensor) else repr(result)
        return (
            f"one vector a text is asked for, shape (3, 4) for the check's batch, and this is "
            f"{received}: sum over dimension 1, the tokens"
        )
    total = (x * mask.unsqueeze(-1)).sum(1)
    wrong = {
        "that is the mean over all positions, padding included: leave out those where the mask is "
        "False": x.mean(1),
        "the padding is left out of the sum, but you divide by T, the length of the longest text: "
        "divide each text's sum by its own number of real tokens": total / 5,
        "that is the sum over the real tokens: divide it by how many they are": total,
        "you divide by the number of real tokens in the whole batch: each text needs its own, "
        "mask.sum(1, keepdim=True)": total / mask.sum(),
        "that is the first token: the mean over all real tokens is asked for": x[:, 0],
        "that is the mean over the padding: the mask is True at real tokens, so you have it the "
        "wrong way round": (x * ~mask.unsqueeze(-1)).sum(1) / (~mask).sum(1, keepdim=True),
    }
    for message, value in wrong.items():
        if _same(result, value):
            return message
    poisoned = torch.where(mask.unsqueeze(-1), x, torch.full_like(x, 100.0))
    if not _same(answer(poisoned, mask.clone()), result):
        return (
            "the result changes with what stands at the padded positions: set them to zero before "
            "you add up"
        )
    if not _same(result, total / lengths[:, None]):
        return (
            "padding has no influence, but the numbers are not the mean: divide the sum over the "
            "real tokens by their number, mask.sum(1, keepdim=True)"
        )
    return None


def _same(a: object, b: Tensor) -> bool:
    """Equal to rounding; not a number equals itself."""
    return (
        isinstance(a, Tensor)
        and a.shape == b.shape
        and torch.allclose(a.float(), b, atol=1e-4, equal_nan=True)
    )


# Validation accuracies for exercise 2, and a budget of layers.
BUDGETS = (
    ({"embeddings": 0.50, "layer0": 0.60, "layer1": 0.70, "layer2": 0.65, "layer3": 0.80}, 3),
    ({"embeddings": 0.50, "layer0": 0.60, "layer1": 0.70, "layer2": 0.75, "layer3": 0.80}, 2),
    ({"embeddings": 0.50, "layer0": 0.60, "layer1": 0.55, "layer2": 0.75}, 0),
    ({"embeddings": 0.50, "layer0": 0.70, "layer1": 0.70, "layer2": 0.65}, 3),
    ({"embeddings": 0.50, "layer0": 0.60, "layer1": 0.70}, 12),
)


def best_stage(accuracies: dict[str, float], layers: int) -> str:
    """The most accurate stage that needs at most so many layers; of equals the first."""
    affordable = list(accuracies)[: layers + 1]
    return max(affordable, key=lambda stage: accuracies[stage])


def choose_stage(answer: object) -> str | None:
    """Try the handed-in function on several tables and budgets."""
    if not callable(answer):
        return "a function is asked for: def choose(accuracies, layers): … that returns a name"
    for accuracies, layers in BUDGETS:
        result = answer(dict(accuracies), layers)
        case = f"for {accuracies} and a budget of {layers}"
        if result is None or result is ...:
            return "the function returns nothing yet: end it with return and a stage's name"
        if not isinstance(result, str) or result not in accuracies:
            return f"{case} it returns {result!r}: give back the name of a stage in the dictionary"
        needed = list(accuracies).index(result)
        right = best_stage(accuracies, layers)
        if needed > layers:
            return (
                f"{case} it chooses {result}, which needs {needed} layers: layer0 is the first "
                "layer and needs one, the embeddings need none"
            )
        if accuracies[result] < accuracies[right]:
            deepest = needed == min(layers, len(accuracies) - 1)
            why = "deeper is not always better: " if deepest else ""
            return (
                f"{case} it chooses {result} ({accuracies[result]:.2f}), but {why}{right} is "
                f"within the budget too and reaches {accuracies[right]:.2f}"
            )
        if result != right:
            return (
                f"{case} it chooses {result}: {right} is as accurate and needs fewer layers, so it "
                "is the cheaper one of equals"
            )
    return None


EXERCISES = {"1": masked_mean, "2": choose_stage}

QUIZ = (
    Question(
        "A colleague reports that a linear head reaches nearly the same, very high accuracy on "
        "every stage of the encoder, even on the embeddings. What is the first thing to ask?",
        (
            Option(
                "which pooling was used",
                "Pooling matters, but it does not lift every stage to the same height.",
            ),
            Option(
                "whether that was measured on the texts that the head was trained on",
                "Hundreds of numbers a text let a head learn much of its training texts by heart, "
                "at every stage: the last column of the table in section 5.",
                right=True,
            ),
            Option(
                "whether the features were standardised",
                "That changes an accuracy by a little and does not make the stages alike.",
            ),
        ),
    ),
    Question(
        "The same message gets different vectors on Monday and on Tuesday, from the same frozen "
        "encoder. Tested alone it is always the same. Where do you look?",
        (
            Option(
                "at the weights: somebody must have trained them",
                "Then the message tested alone would have changed as well.",
            ),
            Option(
                "at the pooling: does it use the mask?",
                "Alone there is no padding. In a batch there is, and as much of it as the longest "
                "text of that batch asks for.",
                right=True,
            ),
            Option(
                "at the random seed of the head",
                "The head comes after the vectors and cannot change them.",
            ),
        ),
    ),
    Question(
        "A shop wants to stop every order whose message is nearest to “please cancel my order”. "
        "What do you advise?",
        (
            Option(
                "fine: the encoder compares meanings",
                "Section 8: a message with the same words and the contrary meaning is nearer than "
                "most paraphrases.",
            ),
            Option(
                "the search may collect candidates; a classifier trained with labels decides",
                "Nearness says that a message is about cancelling, not that somebody wants it. "
                "Labels teach a head which directions decide.",
                right=True,
            ),
            Option(
                "word counts instead of the encoder",
                "They are fooled by common words even more, and miss every paraphrase.",
            ),
        ),
    ),
)
