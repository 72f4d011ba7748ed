"""The instructor's guide as data: three paths by the minute, what to say, what people get wrong."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """A part of a workshop."""

    minutes: int
    what: str
    """A lesson's number, or words for anything else, such as "Break"."""
    say: str = ""
    """What to tell the room."""


@dataclass(frozen=True)
class Path:
    """A workshop of a certain length."""

    name: str
    starts: tuple[str, ...]
    """When each day begins, such as "9:00"."""
    days: tuple[tuple[Slot, ...], ...]


@dataclass(frozen=True)
class Misconception:
    """What people believe before they run a lesson, and the claim that says otherwise."""

    believed: str
    answer: str
    claim: str


WELCOME = Slot(
    10, "Welcome and install check",
    "Everybody runs `make doctor`. Pair those whose machine is not ready with a neighbour; do not "
    "debug installations in front of the room.",
)  # fmt: skip
WRAP = Slot(
    15, "What we take home",
    "Each pair names one number that surprised them, and one thing they will do differently. Show "
    "`python -m course_utils progress`.",
)  # fmt: skip
BREAK = Slot(15, "Break")
LUNCH = Slot(60, "Lunch")

PATHS = (
    Path("Ninety minutes", ("10:00",), ((
        WELCOME,
        Slot(25, "00", "Let them predict by a show of hands, then run all. The point of this half "
             "hour: three lines of code, and a number before and after."),
        Slot(5, "Break"),
        Slot(35, "11", "Stop at the learning-rate dial and let the room choose a rate. Ask what a "
             "falling loss does not tell you."),
        Slot(15, "The site: glossary and evidence",
             "Open the evidence page. Let them pick a claim they doubt and find the cell that "
             "measures it."),
    ),)),
    Path("One day", ("9:00",), ((
        WELCOME,
        Slot(35, "00", "As an appetiser: run first, explain after."),
        Slot(50, "01", "The curve over labels is the argument for the whole day. Dwell on the case "
             "where raw pixels win."),
        BREAK,
        Slot(60, "11", "The exercise of the diverging run, in pairs; collect the hints they got."),
        LUNCH,
        Slot(55, "12", "Before the table of differences: ask who would write a paper about it."),
        Slot(50, "20", "The BatchNorm trap works best if half of the room falls into it first."),
        BREAK,
        Slot(55, "02", "Hand out the file with the leak and let them report an accuracy before "
             "anybody says the word leak."),
        Slot(30, "41", "Sections 1 to 3. Ask for the price in time before you show it."),
        WRAP,
    ),)),
    Path("Two days", ("9:00", "9:00"), ((
        WELCOME,
        Slot(35, "00", "Run first, explain after."),
        Slot(50, "01", "The curve over labels is the argument for both days."),
        BREAK,
        Slot(60, "02", "Accuracy before the word leak is said."),
        LUNCH,
        Slot(45, "10", "Let them search with a message of their own."),
        Slot(60, "11", "The diverging run in pairs."),
        BREAK,
        Slot(60, "12", "Who would write a paper about these differences?"),
        WRAP,
    ), (
        Slot(60, "20", "Half of the room falls into the BatchNorm trap."),
        Slot(50, "21", "Vote for a cure before the table, and count the votes after it."),
        BREAK,
        Slot(50, "22", "Show the accuracy first, and ask who would let it into a clinic."),
        LUNCH,
        Slot(45, "41", "Ask for the price of LoRA in time before you show it."),
        Slot(40, "42", "Let everybody write descriptions of the classes; compare accuracies."),
        Slot(45, "40", "Who would stop the search first? Then look at the test score."),
        BREAK,
        Slot(45, "14", "Read samples aloud at temperatures 0.3 and 1.5."),
        WRAP,
    ))),
)  # fmt: skip

MISCONCEPTIONS = {
    "00": (Misconception("A pre-trained model knows nothing about my task before I train it.",
                         "By the names of the classes alone it is far above guessing.", "00.1"),),
    "01": (Misconception("Fine-tuning always beats features.",
                         "On the tickets it gains next to nothing for several times the time.",
                         "01.4"),
           Misconception("Pre-training never hurts.",
                         "Raw pixels are ahead where the pre-training has nothing to offer.",
                         "01.13"),),
    "02": (Misconception("A high accuracy means a good model.",
                         "Always saying no is nearly as accurate, and finds nothing.", "02.4"),
           Misconception("The best of twenty candidates is that good.",
                         "It promises more than it delivers.", "02.11"),),
    "10": (Misconception("The first token stands for the whole text.",
                         "The mean is far better, unless the first token was trained.", "10.2"),),
    "11": (Misconception("A higher learning rate only learns faster.",
                         "It destroys the old skill and the new one.", "11.4"),),
    "12": (Misconception("The recipe of the newest paper is the best.",
                         "With a hundred texts the differences drown in noise.", "12.6"),
           Misconception("Frozen is frozen, in every library.",
                         "fastai goes on training the norms by default.", "12.7"),),
    "14": (Misconception("Tuning a language model only adds to what it can do.",
                         "In the same seconds it loses much of its old field.", "14.3"),),
    "20": (Misconception("Frozen weights cannot change what the network gives.",
                         "BatchNorm's statistics drift and cost accuracy.", "20.11"),),
    "21": (Misconception("Stopping at the lowest loss gives the best model.",
                         "It lowers the loss and costs accuracy.", "21.5"),
           Misconception("A cure for overfitting beats more pictures.",
                         "Twice the pictures are at least as good as the best cure.", "21.10"),),
    "22": (Misconception("If illness is rare, class weights make the better classifier.",
                         "They move the threshold and leave the ranking as it was.", "22.2"),
           Misconception("More data of the same kind cures a shortcut.",
                         "It teaches the same shortcut; balanced groups help.", "22.13"),),
    "23": (Misconception("A falling loss means that something is learnt.",
                         "Nearly all answers are right, and little is found.", "23.15"),),
    "24": (Misconception("A heat map on the right spot shows what the network looks at.",
                         "A filter that knows no network finds the spot better.", "24.5"),),
    "40": (Misconception("A clever search finds clearly better settings than chance.",
                         "The two are within noise of each other at this budget.", "40.4"),
           Misconception("The best validation score is what I will get.",
                         "The winner is flattered.", "40.7"),),
    "41": (Misconception("A few percent of the weights cost a few percent of the time.",
                         "The memory shrinks, the time hardly does.", "41.3"),
           Misconception("Low rank is what makes LoRA forget less.",
                         "Full fine-tuning at a lower rate forgets as little.", "41.7"),),
    "42": (Misconception("The surest pseudo-labels are the ones to add.",
                         "They are right, and still ruin the model.", "42.10"),),
}  # fmt: skip


def timetable(path: Path) -> list[list[tuple[str, Slot]]]:
    """For each day the slots with the time at which each begins, such as ("9:10", slot)."""
    days = []
    for start, slots in zip(path.starts, path.days, strict=True):
        hours, minutes = map(int, start.split(":"))
        now = 60 * hours + minutes
        day = []
        for slot in slots:
            day.append((f"{now // 60}:{now % 60:02d}", slot))
            now += slot.minutes
        days.append(day)
    return days
