"""Questions of lesson 20, ResNet and VGG: features and fine-tuning."""

import copy

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from course_utils.questions import Option, Prediction, Question
from course_utils.recipes import Recipe
from course_utils.stage import stages, train_from

PREDICTIONS = {
    "1": Prediction(
        "The network was pre-trained on photographs of animals, vehicles and plants, and has never "
        "seen a scratch. A few hundred labelled surfaces, the same few epochs for all: which comes "
        "out on top?",
        (
            "comparing pixels with the nearest known picture",
            "the same network from random weights",
            "the frozen network with a new linear head",
            "the whole network, fine-tuned",
        ),
    ),
    "2": Prediction(
        "A linear classifier on the output of each stage: from which stage does it recognise the "
        "defects best?",
        (
            "the first: a defect is a matter of edges",
            "one in the middle",
            "the last: deeper is better",
            "all the same",
        ),
    ),
    "3": Prediction(
        "Every weight of the body is frozen, and a second head is trained on it. What happens to "
        "the first head's accuracy?",
        (
            "nothing: no weight of the first head or the body moves",
            "it falls, although no weight moved",
            "it rises: the body has seen more pictures",
        ),
    ),
    "4": Prediction(
        "The whole network is fine-tuned on pictures of defects, all stages of the body at the "
        "same rate. Which stage's features change most?",
        (
            "the first ones: they see the new pictures first",
            "the last ones",
            "all alike: they had the same rate",
        ),
    ),
}


def cka(x: Tensor, y: Tensor) -> float:
    """How alike two sets of features of the same examples are (Kornblith et al., 2019).

    Linear centred kernel alignment, with the unbiased estimate of Song et al. (2012): with few
    examples and many features the plain one finds likeness in noise.

    Args:
        x, y: (n, features), n of at least 4; the numbers of features may differ.

    Returns:
        1 where they are the same up to a rotation and a scale, about 0 where they have nothing
        in common (then it may be a little below).
    """
    kernels = [(z.double() @ z.double().T).fill_diagonal_(0) for z in (x, y)]

    def shared(a: Tensor, b: Tensor) -> float:
        n = len(a)
        sums = a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * (a.sum(0) @ b.sum(1)) / (n - 2)
        return float((a * b).sum() + sums)

    a, b = kernels
    return shared(a, b) / (shared(a, a) * shared(b, b)) ** 0.5


LINES = 10  # production lines of exercise 2
BUDGET = 6  # runs of a whole network that they may cost together
# What each stage costs of a whole run; layer1 to layer4 are made to cost the same.
COSTS = {"layer1": 0.25, "layer2": 0.25, "layer3": 0.25, "layer4": 0.25}


def freeze_body(answer: object) -> str | None:
    """Run the handed-in function on a small network, take a step, see what moved."""
    if not callable(answer):
        return "a function is asked for that takes the network: def freeze_body(model): …"
    model = _small_resnet()
    model.train()
    result = answer(model)
    model = result if isinstance(result, nn.Module) else model
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    if not all(weight.requires_grad for weight in model.fc.parameters()):
        return "the head is frozen too, so nothing can be learnt: leave model.fc trainable"
    before = copy.deepcopy(model.state_dict())
    # Statistics of the batch instead of the stored ones: then the neighbours in it matter.
    with torch.no_grad():
        alone, together = model(images[:2]), model(images)[:2]
    model.load_state_dict(before)
    _one_step(model, images)
    after = model.state_dict()
    moved = {
        name
        for name, old in before.items()
        if not name.startswith("fc.") and not torch.equal(old, after[name])
    }
    buffers = moved & {name for name, _ in model.named_buffers()}
    if moved - buffers:
        return (
            f"weights of the body moved in a training step, {min(moved - buffers)} among them: "
            "set requires_grad to False, or use the course's freeze on all stages but the last"
        )
    if buffers:
        return (
            f"no weight of the body moved, but {len(buffers)} buffers did, {min(buffers)} among "
            "them: the BatchNorm layers are still in training mode; put the body into eval mode"
        )
    if not torch.allclose(alone, together, atol=1e-4):
        return (
            "the stored statistics stay, but they are not used: a picture's result depends on the "
            "others in its batch; put the body into eval mode instead of switching the storing off"
        )
    if all(torch.equal(before[f"fc.{name}"], after[f"fc.{name}"]) for name in ("weight", "bias")):
        return "the head did not move in a training step: leave it trainable"
    return None


def _small_resnet() -> ResNet:
    """A ResNet with one block a stage and random weights: fast enough for a check."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=6)


def _one_step(model: nn.Module, images: Tensor) -> None:
    labels = torch.arange(len(images)) % 6
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, weight_decay=0.01)
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def within_budget(answer: object) -> str | None:
    if not isinstance(answer, Recipe):
        return 'a recipe is asked for, such as recipes.top_stages("layer1")'
    if answer.unfreeze_every:
        return (
            "with gradual unfreezing more and more is trained; choose one boundary for all epochs"
        )
    with torch.device("meta"):  # only counted, never computed
        parts = stages(ResNet(BasicBlock, [2, 2, 2, 2], num_classes=6))
    boundary = train_from(parts, answer.train_from)
    own = sum(COSTS.get(part.name, 0) for part in parts[boundary:])
    runs = 1 - own + LINES * own
    if runs > BUDGET:
        return (
            f"the trained stages cost {own:g} of a network and run {LINES} times, the frozen ones "
            f"cost {1 - own:g} and run once: {runs:g} networks, and the budget is {BUDGET}; freeze "
            "more stages"
        )
    if parts[boundary].name != "layer3":
        return (
            f"this costs {runs:g} networks and the budget is {BUDGET}: there is room to train "
            "more of it, and the table of section 5 shows what that gives"
        )
    return None


EXERCISES = {"1": freeze_body, "2": within_budget}

QUIZ = (
    Question(
        "You freeze a ResNet's body with requires_grad = False and call model.train(). What still "
        "changes in the body?",
        (
            Option(
                "nothing",
                "The weights stay, but a network also has buffers: section 8 counts those that "
                "moved.",
            ),
            Option(
                "the running means and variances of its BatchNorm layers",
                "They are buffers, not weights: no gradient touches them, every forward pass in "
                "training mode does.",
                right=True,
            ),
            Option(
                "the weights of its BatchNorm layers",
                "Scale and shift are weights with requires_grad, so they are frozen; the running "
                "statistics are something else.",
            ),
        ),
    ),
    Question(
        "Frozen features reach 60 %, fine-tuning 85 %, and training takes seconds either way. Your "
        "colleague wants to keep the frozen body. Which is a good reason?",
        (
            Option(
                "a frozen body is always the safer choice",
                "Safe against forgetting, yes; but here it leaves 25 points on the table.",
            ),
            Option(
                "one body can serve many heads: it is stored, loaded and run only once",
                "Ten tasks then cost little more than one, which can be worth many points.",
                right=True,
            ),
            Option(
                "frozen features cannot overfit",
                "The head can: with few examples and many features it learns them by heart.",
            ),
        ),
    ),
    Question(
        "Your pictures are X-ray images, and the network was pre-trained on holiday photographs. "
        "Where do you begin?",
        (
            Option(
                "from scratch: the domains have nothing in common",
                "The first stages know edges, spots and textures, which X-ray images have as well.",
            ),
            Option(
                "with the head alone, and stop there",
                "A good first measurement, but late stages are the most specific to the old "
                "pictures, and the head cannot change them.",
            ),
            Option(
                "with the head, then open stages from the end while the validation accuracy grows",
                "Each step costs more than the one before; the measurement says when to stop.",
                right=True,
            ),
        ),
    ),
)
