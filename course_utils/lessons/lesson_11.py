"""Questions of lesson 11, fine-tuning BERT."""

from course_utils.questions import Option, Prediction, Question
from course_utils.recipes import Recipe

PREDICTIONS = {
    "1": Prediction(
        "The encoder has read a great deal but never saw these reviews. With a few hundred "
        "labelled ones, which will be best on the test reviews?",
        (
            "counting words",
            "the frozen encoder with a linear head",
            "full fine-tuning",
            "no visible difference",
        ),
    ),
    "2": Prediction(
        "At a learning rate thirty times too high, what happens to the old skill (finding tickets "
        "of similar meaning)?",
        (
            "nothing: tickets are another task",
            "it gets a little worse",
            "most of it is lost",
            "it gets better",
        ),
    ),
}


def rescue(answer: object) -> str | None:
    if not isinstance(answer, Recipe):
        return "a recipe is asked for, such as recipes.full_finetuning(learning_rate=…)"
    if answer.train_from != 0:
        return "freezing avoids the question: rescue the run with all weights trained"
    if answer.learning_rate > 2e-3:
        return (
            f"an encoder's learning rate of {answer.learning_rate:.0e} is still in the range that "
            "destroyed it in section 6; go down by factors of ten"
        )
    if answer.learning_rate < 2e-5:
        return (
            f"at {answer.learning_rate:.0e} nothing breaks, but hardly anything is learnt in two "
            "epochs: see the lowest rate of section 6"
        )
    if (answer.head_learning_rate or answer.learning_rate) > 1e-2:
        return "the head's own rate (head_learning_rate) is still too high; try 2e-3"
    return None


def which_rate(answer: object) -> str | None:
    if not isinstance(answer, str) or answer not in ("too low", "right", "too high"):
        return 'answer with one of the names in the table: "too low", "right" or "too high"'
    if answer == "too low":
        return (
            "it forgets least, but look at its accuracy on the reviews: a system that has learnt "
            "nothing is no use, however little it forgot"
        )
    if answer == "too high":
        return "it loses on both sides: look at both columns of the table"
    return None


EXERCISES = {"1": rescue, "2": which_rate}

QUIZ = (
    Question(
        "Your loss stays at chance level from the first epoch on. What do you try first?",
        (
            Option(
                "train ten times longer",
                "If the encoder was destroyed in the first steps, more epochs will not mend it.",
            ),
            Option(
                "a learning rate ten times lower",
                "It costs one short run and tells the two causes apart: if the loss now falls, "
                "the rate was too high; if it still does not move, go the other way.",
                right=True,
            ),
            Option(
                "a larger model",
                "A larger model is more sensitive to the rate, not less.",
            ),
        ),
    ),
    Question(
        "Why does the head get a higher learning rate than the encoder?",
        (
            Option(
                "it is larger",
                "It is by far the smaller part: look at the trained weights in section 4.",
            ),
            Option(
                "it starts from random weights, while the encoder is already good",
                "The head must move far, the encoder only a little.",
                right=True,
            ),
            Option(
                "it is never frozen",
                "True, but that is not the reason: what counts is how far it has to move.",
            ),
        ),
    ),
    Question(
        "Full fine-tuning beats the frozen encoder by two points on 60 test examples. "
        "What follows?",
        (
            Option(
                "fine-tuning is better here",
                "Two points of 60 are about one example. That is well within chance.",
            ),
            Option(
                "nothing yet: measure on more examples and over several seeds",
                "With 60 examples an accuracy is uncertain by about twelve points either way.",
                right=True,
            ),
            Option(
                "the frozen encoder is better, since it is cheaper",
                "Cheaper, yes; but the measurement does not say which one is better.",
            ),
        ),
    ),
)
