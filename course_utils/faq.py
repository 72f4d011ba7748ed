"""Questions that people ask about fine-tuning, each answered by claims that the lessons measure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Answered:
    """A question, a short answer in words, and the claims that it rests on."""

    text: str
    answer: str
    claims: tuple[str, ...]


FAQ = (
    Answered(
        "How many labels does fine-tuning save?",
        "Several times as many, where the pre-trained model has met the kind of text before: a "
        "frozen encoder with a linear head needs a fraction of the labels that counting words "
        "needs. With no label at all, the names of the classes already go a long way.",
        ("01.1", "01.2", "01.8"),
    ),
    Answered(
        "Is fine-tuning always better than training from scratch?",
        "No. Where the pre-training has nothing to do with the task, simple features win: in "
        "lesson 01 raw pixels are ahead of frozen features on small handwritten digits.",
        ("01.9", "01.13", "01.14", "20.1"),
    ),
    Answered(
        "Should I train everything, or only the head?",
        "Begin with the head: it costs seconds and forgets nothing. Open more layers when that is "
        "not enough; how much they add depends on how far the task is from the pre-training.",
        ("01.4", "01.11", "11.2", "12.1", "12.2", "20.2", "20.7"),
    ),
    Answered(
        "Which learning rate?",
        "The one number that decides. Too high, and the model loses what it knew and often the "
        "new task as well.",
        ("11.4", "11.5", "12.10"),
    ),
    Answered(
        "Does fine-tuning make a model forget?",
        "Yes, by as much as you let it move. Lower rates for early layers, opening layers one "
        "after another, and mixing in old examples all help.",
        ("11.3", "12.3", "12.4", "14.3", "14.4", "41.5"),
    ),
    Answered(
        "Is LoRA as good as full fine-tuning, and faster?",
        "It trains a few percent of the weights and needs as little of the optimizer's memory, "
        "but it learns less in the same steps, and saves far less time than weights. Its gentle "
        "forgetting is what small steps do, too.",
        ("41.3", "41.4", "41.7", "41.8"),
    ),
    Answered(
        "I froze the layers. Why does the model change?",
        "Frozen weights do not stop the running statistics of BatchNorm: put the frozen part in "
        "eval mode. And count what is trainable: some libraries leave norms trainable.",
        ("20.9", "20.10", "20.11", "20.12", "12.7", "12.8"),
    ),
    Answered(
        "My accuracy is high. Can I trust it?",
        "Look for leaks and duplicates first, then at how frequent the classes are, and put an "
        "interval around the number. The best of many candidates always promises too much.",
        ("02.1", "02.4", "02.11", "02.16"),
    ),
    Answered(
        "My model misses the rare class. What now?",
        "Move the threshold, chosen on validation examples, before anything else.",
        ("02.5", "02.6"),
    ),
    Answered(
        "Is this recipe better than that one?",
        "Compare over seeds, pair by pair, with an interval. With a hundred test texts, "
        "differences of several points are noise.",
        ("12.6", "02.10"),
    ),
    Answered(
        "My network overfits. Which cure?",
        "More pictures, if you can get them. Otherwise an augmentation that fits the task; one "
        "that does not fit does harm. Weight decay hardly matters in a short fine-tuning, and "
        "stopping at the lowest loss can cost accuracy.",
        ("21.4", "21.5", "21.8", "21.10", "21.12"),
    ),
    Answered(
        "ResNet or VGG: which network should I take?",
        "The one that is better on the pictures of its pre-training. What you do with it is the "
        "same for both: fine-tuning beats frozen features, and the late stages have to move.",
        ("20.2", "20.13", "20.15"),
    ),
    Answered(
        "My classes are very unequal. Should I weight them?",
        "Choose the threshold by what mistakes cost; that does the same as weights and leaves the "
        "probabilities honest.",
        ("22.1", "22.2", "22.3", "22.6"),
    ),
    Answered(
        "How do I know that my model has not learnt a shortcut?",
        "Look at slices, change the suspected sign on the same picture, and measure elsewhere; "
        "then balance the groups. A good average hides it.",
        ("22.9", "22.10", "22.13", "24.15"),
    ),
    Answered(
        "Can I trust a heat map?",
        "Only after a sanity check: one that stays the same when the weights are random explains "
        "the picture, not the network.",
        ("24.5", "24.8", "24.9"),
    ),
    Answered(
        "How do I choose the hyper-parameters?",
        "Find the learning rate first, on a logarithmic scale; a short finder run comes close. "
        "Random search and cleverer ones are hard to tell apart with a small budget. Report on "
        "examples that did not choose.",
        ("40.1", "40.2", "40.4", "40.7"),
    ),
    Answered(
        "I have a handful of labels, or none. What can I do?",
        "Write a sentence about each class and compare texts with it: that is worth several "
        "labels a class. Then put sentences and labels together.",
        ("42.1", "42.2", "42.3"),
    ),
    Answered(
        "Do unlabelled examples help?",
        "Yes, if pseudo-labels are taken class by class and the pool is like the task. The surest "
        "ones alone make things worse, although they are right.",
        ("42.9", "42.10", "42.11", "42.13"),
    ),
    Answered(
        "Which layer should I take features from?",
        "Often not the last one: probe the stages on validation examples. Mean pooling beats the "
        "first token unless that was trained.",
        ("10.2", "10.3", "20.5"),
    ),
    Answered(
        "How do I make a language model answer customers?",
        "Tune it on dialogues with the loss on the answers only, let the end token count, and "
        "look for copied runs before you publish it.",
        ("14.2", "14.6", "14.12", "14.13", "14.14"),
    ),
    Answered(
        "How do I read long documents?",
        "With windows that overlap: an answer beyond the first window is lost otherwise.",
        ("13.6", "13.7", "13.8"),
    ),
    Answered(
        "What makes training faster without changing the result?",
        "Do not compute padding, and run frozen layers once instead of in every epoch.",
        ("03.1", "03.3", "03.4"),
    ),
)
