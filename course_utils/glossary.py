"""Every term of the course: a line for people who know no machine learning, and the definition."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """One entry."""

    name: str
    plain: str
    """For a reader who knows no machine learning."""
    technical: str
    lesson: str
    """The lesson that measures it, such as "11"."""
    origin: str = ""
    """Where the word comes from, where that helps to remember it."""

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


TERMS = (
    Term("accuracy", "How many answers of a hundred are right.",
         "The share of examples whose most probable class is the label.", "02"),
    Term("AdamW", "The rule by which each weight decides how far to move.",
         "Adam, which scales each weight's step by running means of its gradient and squared "
         "gradient, with weight decay applied apart from them (Loshchilov and Hutter, 2019).", "03",
         "adaptive moment estimation; W for weight decay"),
    Term("adapter", "A small part added to a model, trained while the rest stays as it is.",
         "Extra weights inside or beside a frozen layer, such as LoRA's two matrices.", "41"),
    Term("attention", "How a network lets each word look at the others.",
         "Each position's output is a mean of all positions' values, weighted by the softmax of "
         "scaled products of its query with their keys.", "10"),
    Term("attribution", "A number for each part of the input: how much the answer owes to it.",
         "A value for each input feature (pixel, token), from gradients, activations or removal, "
         "meant to explain one output.", "24"),
    Term("AUC", "How often an ill person is ranked above a healthy one.",
         "Area under the ROC curve: the chance that a positive example scores above a negative "
         "one, ties counting half.", "22", "area under the curve"),
    Term("augmentation", "Changing pictures a little, in ways that leave the answer true.",
         "Random label-preserving changes of training inputs, such as shifts and mirror images.",
         "21", "Latin augmentare, to increase: it makes more of the data"),
    Term("average precision", "One number for how well things are found, at all thresholds "
         "together.",
         "The area under precision over recall; COCO's AP is its mean over IoUs from 0.5 to 0.95.",
         "23", "short: AP"),
    Term("baseline", "The simple method that a new one has to beat.",
         "A reference result at low cost: the most frequent class, or word counts with a linear "
         "classifier.", "11"),
    Term("baseline input", "The input that stands for 'nothing is there'.",
         "The reference from which integrated gradients walk to the input, such as a grey or a "
         "blurred picture.", "24"),
    Term("batch", "The handful of examples that are looked at before each small change.",
         "The examples whose mean loss gives the gradient of one step.", "03"),
    Term("BatchNorm", "A part of image networks that evens out brightness and contrast inside.",
         "A layer that standardises each channel, by the batch's statistics in training and by "
         "running ones afterwards; frozen weights do not stop the running ones.", "20"),
    Term("BERT", "A network that reads a whole text at once.",
         "A transformer encoder pre-trained to fill in masked words (Devlin et al., 2019).", "10",
         "bidirectional encoder representations from transformers"),
    Term("bf16", "Numbers with fewer digits, quicker to multiply.",
         "Brain float: 16 bits with the exponent of fp32 and 8 bits of precision.", "03",
         "after Google Brain"),
    Term("BIO", "Marks that say where a name begins, goes on, and that there is none.",
         "A tagging scheme: B- opens an entity, I- continues it, O is outside of all.", "13",
         "begin, inside, outside"),
    Term("body", "All of an image network but the last layer, which answers.",
         "The pre-trained layers below the head; also called backbone.", "20"),
    Term("bootstrap", "Finding out how sure a result is by drawing the same data again and again.",
         "Resampling with replacement to estimate a statistic's spread (Efron, 1979).", "02",
         "to pull oneself up by one's own bootstraps"),
    Term("box", "The smallest rectangle around a thing.",
         "A bounding box, here (x0, y0, x1, y1) in pixels.", "23"),
    Term("calibration", "Whether a model that says “90 % sure” is right 9 times in 10.",
         "Agreement of predicted probabilities with observed frequencies; its error is measured "
         "by binning.", "02"),
    Term("checkpoint", "A saved state from which training can go on.",
         "Model, optimizer, schedule, order of the data and random state, written to a file at "
         "one moment.", "03"),
    Term("CKA", "How alike two ways are of seeing the same pictures, from 0 to 1.",
         "Centred kernel alignment: the likeness of two sets of features of the same examples, "
         "blind to rotations and to a common scale (Kornblith et al., 2019).", "20"),
    Term("claim", "A statement of this course that its own code measures, and that can fail.",
         "A measured number with a bound, checked on each run of the lesson.", "00"),
    Term("confidence", "How sure a model says it is.",
         "The probability that it gives to its own answer.", "02"),
    Term("cosine similarity", "How alike the directions of two lists of numbers are.",
         "The inner product of two vectors, each divided by its length.", "10"),
    Term("CutMix", "Learning from pictures with a piece of another one pasted in.",
         "A rectangle of one training image replaces that of another; the labels are mixed by "
         "area (Yun et al., 2019).", "21"),
    Term("deletion", "Taking away first what an explanation names first, and seeing how far the "
         "answer falls.",
         "Area under the class's probability as features are replaced in the order of their "
         "attribution (Petsiuk et al., 2018).", "24"),
    Term("discriminative rates", "Early layers learn more slowly than late ones.",
         "A learning rate for each layer, falling by a constant factor towards the input (Howard "
         "and Ruder, 2018).", "12"),
    Term("early stopping", "Ending the training when it no longer helps on new examples.",
         "Stop when the validation loss has not fallen for some epochs, and keep the best "
         "weights.", "21"),
    Term("embedding", "A list of numbers that stands for a word, a text or a picture.",
         "A vector in which distances mean similarity; also the table of token vectors.", "10"),
    Term("encoder", "The network that turns a text into numbers.",
         "A network from tokens to vectors, without the head.", "10"),
    Term("episode", "One draw of the few examples to learn from.",
         "A random draw of the labelled examples of a few-shot task.", "42"),
    Term("epoch", "One pass over all training examples.",
         "As many steps as it takes to use each training example once.", "03",
         "Greek epokhe, a fixed point in time"),
    Term("exact match", "Whether an answer is right to the last word.",
         "The share of questions whose predicted span equals an accepted answer after "
         "normalisation (Rajpurkar et al., 2016).", "13"),
    Term("F1", "One number for finding enough and being right about it.",
         "The harmonic mean of precision and recall.", "02"),
    Term("features", "The numbers into which a network turns a picture or a text.",
         "The output of the layers below the head.", "20"),
    Term("few-shot", "Learning from a handful of examples.",
         "Few labelled examples a class, from 1 to some dozens.", "42"),
    Term("fine-tuning", "Teaching a trained model a new task with a few examples.",
         "Training that starts from pre-trained weights, of all or some layers.", "01",
         "fine and tune: the last touches to an instrument that is nearly right"),
    Term("focal loss", "A loss in which easy answers count next to nothing.",
         "Cross-entropy times a power of one minus the right answer's probability (Lin et al., "
         "2017).", "23", "it puts the focus on what is hard"),
    Term("forgetting", "What a model can do no more after it has learnt something else.",
         "The loss of performance on an earlier task; catastrophic forgetting (McCloskey and "
         "Cohen, 1989).", "11"),
    Term("fp32", "The usual numbers of a computer, with about seven digits.",
         "IEEE single precision: 32 bits, 24 of them for the digits.", "03"),
    Term("from scratch", "Training a network that knows nothing yet.",
         "Training from random weights.", "01"),
    Term("frozen", "Not changed by training.",
         "Weights for which no gradient is computed.", "10"),
    Term("GPT", "A network that goes on writing where a text breaks off.",
         "A transformer decoder that predicts the next token from those to its left (Radford et "
         "al., 2018).", "14", "generative pre-trained transformer"),
    Term("gradient", "For each weight, the direction in which the error grows.",
         "The derivative of the loss with respect to the weights.", "03"),
    Term("gradual unfreezing", "Letting the last layer learn first, then one more at a time.",
         "The trained layers grow from the head down, one an epoch (Howard and Ruder, 2018).",
         "12"),
    Term("grid", "The squares of a picture that a detector asks one by one.",
         "The cells of a feature map, each a stride of pixels wide.", "23"),
    Term("half fine-tuning", "In each round another half of the model rests.",
         "A random half of the weights is frozen in each round (Hui et al., 2024).", "41"),
    Term("head", "The small last layer that gives the answer.",
         "The task-specific layer on the features, new and random at first.", "10"),
    Term("heat map", "A picture in colours of where an explanation points.",
         "Attributions of an image as a map over its pixels.", "24"),
    Term("hyper-parameter", "A choice that is made before training, such as how fast to learn.",
         "A setting that the gradient does not adjust: rates, epochs, sizes.", "40",
         "Greek hyper, above: it stands above the parameters"),
    Term("instruction tuning", "Teaching a language model to answer requests.",
         "Fine-tuning on pairs of request and answer, the loss on the answers.", "14"),
    Term("IoU", "How well two boxes agree, from 0 to 1.",
         "The area of their intersection over that of their union.", "23",
         "intersection over union"),
    Term("label", "The right answer to one example.",
         "The target of an example, such as its class.", "00"),
    Term("label smoothing", "Telling the model never to be quite sure.",
         "A share of the target's probability is spread over all classes (Szegedy et al., 2016).",
         "21"),
    Term("leak", "What should be new in the test is known from the training.",
         "Information of the test set that reaches training or selection.", "02"),
    Term("learning rate", "How far each step moves the weights.",
         "The factor of the (scaled) gradient in an update.", "11"),
    Term("linear probe", "A simple classifier on a network's numbers, to see what they know.",
         "A linear classifier on frozen features.", "10"),
    Term("logits", "The numbers behind a model's probabilities.",
         "Outputs before the softmax.", "21", "log of the odds"),
    Term("LoRA", "Training two thin matrices beside a large one that stays.",
         "Low-rank adaptation: W + (alpha/r) B A with frozen W (Hu et al., 2022).", "41",
         "low-rank adaptation"),
    Term("loss", "How wrong a model is, as one number.",
         "The quantity that training makes small; here mean cross-entropy in nats.", "03"),
    Term("metric", "What is counted to say how good a model is.",
         "A function of predictions and labels that is reported.", "02"),
    Term("mixup", "Learning from blends of two pictures.",
         "Training on convex combinations of two inputs and their labels (Zhang et al., 2018).",
         "21"),
    Term("model", "A function with millions of adjustable numbers.",
         "An architecture together with its weights.", "00"),
    Term("moments", "What the optimizer remembers of each weight's past.",
         "Running means of the gradient and of its square, two numbers a trained weight.", "41"),
    Term("net benefit", "The ill people found, less what the false alarms cost.",
         "True positives less false positives weighed by the odds of the threshold, per person "
         "(Vickers and Elkin, 2006).", "22"),
    Term("non-maximum suppression", "Keeping the surest of several boxes for one thing.",
         "Greedy removal of boxes of a class that overlap a higher-scored one.", "23",
         "what is not the maximum goes"),
    Term("overfitting", "Learning the training examples by heart instead of the rule.",
         "A training error that falls while the error on new data does not.", "21"),
    Term("padding", "Filling up short texts so that all are equally long.",
         "Tokens without meaning, masked out, that make a batch a rectangle.", "03"),
    Term("perplexity", "As unsure as between so many equally likely words.",
         "e to the mean cross-entropy a token.", "14"),
    Term("pointing game", "How often an explanation's strongest spot lies on the right thing.",
         "Share of examples whose attribution's maximum lies in the annotated region, with a "
         "tolerance (Zhang et al., 2016).", "24"),
    Term("pool", "The examples that nobody has labelled.",
         "Unlabelled data from which pseudo-labels are made.", "42"),
    Term("pooling", "Making one list of numbers out of many.",
         "Reducing the vectors of all tokens (or places) to one: mean, first, maximum.", "10"),
    Term("pre-trained", "Trained before, on a great amount of other data.",
         "Weights that come from training on a large general task.", "00"),
    Term("precision", "Of what was found, how much is right. (Of a number: how many digits.)",
         "True positives over predicted positives. (Of a number: the bits of its significand.)",
         "02"),
    Term("prevalence", "How many people of a hundred are ill.",
         "The share of positive examples in the population that is tested.", "22"),
    Term("profile", "A list of where the time goes. (Of a lesson: quick or full.)",
         "Operations with the time that each took.", "03"),
    Term("prompt", "The text that a language model is given to go on with.",
         "The tokens on which generation is conditioned.", "14"),
    Term("prototype", "The average example of a class.",
         "The mean feature vector of a class's examples (Snell et al., 2017).", "42"),
    Term("pruning", "Stopping a trial that looks hopeless.",
         "In a search: ending trials early by their intermediate scores.", "40"),
    Term("pseudo-label", "An answer that the model gives itself to learn more from.",
         "A confident prediction on unlabelled data, used as a label.", "42"),
    Term("rank", "In how many independent directions a matrix can act.",
         "The dimension of a matrix's column space; in LoRA, the inner size of B A.", "41"),
    Term("recall", "Of what is there, how much was found.",
         "True positives over actual positives.", "02"),
    Term("regularisation", "Whatever makes it harder to learn by heart.",
         "Changes of loss, data or training that reduce overfitting.", "21"),
    Term("replay", "Mixing in some of the old examples, so that they are not forgotten.",
         "Training on old-task data beside the new.", "14"),
    Term("ResNet", "An image network whose layers only add corrections.",
         "A convolutional network with residual connections (He et al., 2016).", "20",
         "residual network"),
    Term("sampler", "What chooses the next settings to try.",
         "The part of a search that proposes trials: random, TPE, …", "40"),
    Term("sampling", "Drawing the next word at random, by the model's odds.",
         "Drawing tokens from the predicted distribution, by temperature and top-p.", "14"),
    Term("schedule", "How the learning rate changes during training.",
         "The rate as a function of the step: warm-up, then decay.", "12"),
    Term("search space", "All settings that may be chosen.",
         "The hyper-parameters of a search, each with its range and scale.", "40"),
    Term("seed", "The number that decides everything random in a run.",
         "The start of the random generators: order, new weights, dropout.", "01"),
    Term("shortcut", "Something that goes with the answer where the model learnt, and nowhere "
         "else.",
         "A feature that is predictive in training and spurious outside of it (Geirhos et al., "
         "2020).", "22"),
    Term("shot", "One labelled example of each class.",
         "The number of labelled examples a class in few-shot learning.", "42"),
    Term("slice", "A part of the data that is looked at alone.",
         "A subset given by values of columns, on which a metric is computed apart.", "22"),
    Term("span", "A piece of a text, from here to there.",
         "A pair of first and last token.", "13"),
    Term("split", "A part of the data with one purpose.",
         "Training, validation (to choose by) and test (to report) examples, disjoint.", "02"),
    Term("stage", "A group of layers that is frozen or trained together.",
         "An element of the ordered list into which the course divides every model.", "10"),
    Term("step", "One small change of the weights.",
         "One update by the optimizer.", "03"),
    Term("temperature", "How daring a model is in choosing its next word.",
         "The divisor of the logits before the softmax.", "14", "from statistical physics"),
    Term("TF-IDF", "Counting words, rare ones more.",
         "Term frequency times inverse document frequency.", "10"),
    Term("threshold", "The probability from which on we say yes.",
         "The cut on a score that turns it into a decision.", "02"),
    Term("token", "A word or a piece of one, as the model reads it.",
         "An element of the tokenizer's vocabulary.", "10"),
    Term("transfer learning", "Using what was learnt for one thing to learn another.",
         "Reuse of weights or features across tasks or domains.", "01"),
    Term("trial", "One training run with one choice of settings.",
         "One evaluation of the objective in a hyper-parameter search.", "40"),
    Term("ULMFiT", "A recipe for fine-tuning texts, step by step.",
         "Discriminative rates, slanted triangular schedule, gradual unfreezing (Howard and Ruder, "
         "2018).", "12", "universal language model fine-tuning"),
    Term("warm-up", "Beginning with small steps.",
         "A rise of the learning rate from zero over the first steps.", "11"),
    Term("weight decay", "A gentle pull of all weights towards zero.",
         "Weights shrink by a constant share at each step, apart from the gradient.", "21"),
    Term("weights", "The adjustable numbers of a model.",
         "The parameters that training changes.", "00"),
    Term("zero-shot", "Answering without a single labelled example.",
         "Classification by similarity to descriptions of the classes.", "42"),
)  # fmt: skip

WORDS = re.compile(r"\*\*Words:\*\*(.*?)\n\n", re.DOTALL)
DEFINED = re.compile(r"(?<!\*)\*([^*]+)\*(\s+–)")


def find_term(name: str) -> Term | None:
    """The entry of a word, or None."""
    wanted = name.casefold()
    return next((term for term in TERMS if term.name.casefold() == wanted), None)


def words_of_lesson(text: str) -> list[str]:
    """The words that a lesson's opening defines (*word* – definition)."""
    plain = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    found = WORDS.search(plain)
    return re.findall(r"\*([^*]+)\*\s+–", found.group(1).replace("\n", " ")) if found else []


def linked(text: str, page: str) -> str:
    """Markdown in which each word that is defined (*word* – …) leads to its entry on a page."""

    def link(match: re.Match) -> str:
        term = find_term(match[1].replace("\n", " "))
        return match[0] if term is None else f"[*{match[1]}*]({page}#{term.anchor}){match[2]}"

    return DEFINED.sub(link, text)


def as_markdown() -> str:
    """All entries as a page, a heading each."""
    parts = [
        "# Glossary",
        "Made by `python -m course_utils build`. For each term, first a line for people who know "
        "no machine learning, then the definition and the lesson that measures it.",
    ]
    for term in TERMS:
        origin = f" *The word:* {term.origin}." if term.origin else ""
        technical = f"{term.technical}{origin} (Lesson {term.lesson})"
        parts += [f"## {term.name}", term.plain, technical]
    return "\n\n".join(parts) + "\n"
