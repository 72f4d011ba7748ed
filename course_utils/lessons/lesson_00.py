"""Questions of lesson 00, start here."""

from course_utils.data import Task
from course_utils.questions import Option, Prediction, Question, number_between

PREDICTIONS = {
    "1": Prediction(
        "Without any training on tickets: how often is the nearest name the right intent?",
        (
            "as often as guessing",
            "a few times as often as guessing",
            "nearly always",
        ),
    ),
    "2": Prediction(
        "A network that has seen animals, plants and things: does that help with scratches on "
        "metal?",
        (
            "no: surfaces are nothing like animals",
            "yes: edges and textures are the same everywhere",
            "only if all of it is trained again",
        ),
    ),
}


def share_trained(answer: object) -> str | None:
    if isinstance(answer, int | float) and 10 <= answer <= 30:
        return "that looks like percent; a share is a number between 0 and 1"
    if isinstance(answer, int | float) and answer > 30:
        return "that is a number of weights; divide the trained ones by all of them"
    return number_between(
        0.1,
        0.3,
        "too small: did you divide something else by the total? Two of six layers were trained",
        "too large: the frozen layers and the vocabulary are part of the total",
    )(answer)


def swapped_task(answer: object) -> str | None:
    if not isinstance(answer, Task):
        return 'a task is asked for: load_task("reviews"), then .limited(…)'
    if answer.name != "reviews":
        return f'this is the task {answer.name!r}; load "reviews"'
    sizes = (len(answer.train), len(answer.valid), len(answer.test))
    if sizes != (200, 100, 100):
        return (
            f"it has {sizes[0]} training, {sizes[1]} validation and {sizes[2]} test texts; cut it "
            "to 200, 100 and 100 with .limited(train=…, valid=…, test=…)"
        )
    return None


EXERCISES = {"1": share_trained, "2": swapped_task}

QUIZ = (
    Question(
        "Why was the model with the new, random head at chance level before training?",
        (
            Option(
                "the pre-trained body knows nothing about tickets",
                "It does: the nearest name was right far more often than guessing (section 3).",
            ),
            Option(
                "the body was fine, but nothing connected what it knows to the class names",
                "The head makes that connection, and its weights were random.",
                right=True,
            ),
            Option(
                "the tickets were not tokenized",
                "They were; without tokens it would have stopped with an error.",
            ),
        ),
    ),
    Question(
        "What does 'frozen' mean?",
        (
            Option(
                "the layer is left out",
                "It still runs on every text; only its weights do not change.",
            ),
            Option(
                "the layer runs, but its weights do not change in training",
                "And as its output never changes, it can be computed once and kept.",
                right=True,
            ),
            Option(
                "the layer is trained more slowly",
                "That would be a lower learning rate. Frozen means not at all.",
            ),
        ),
    ),
    Question(
        "The accuracy was measured on test texts. Why not on the training texts?",
        (
            Option(
                "there are too many of them",
                "Speed is not the reason.",
            ),
            Option(
                "the model may remember them, which says nothing about new tickets",
                "You want to know how it does on tickets that nobody has written yet.",
                right=True,
            ),
            Option(
                "the training texts have no labels",
                "They do: that is how the model learnt.",
            ),
        ),
    ),
)
