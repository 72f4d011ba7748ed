# %% [markdown]
# # 23 · Object detection: a YOLO-style detector
#
# A classifier says *what* is in a picture. A detector also says *where*, and how many. Does
# that need another kind of network? No: it needs the network of lesson 20, asked at **each
# place of a grid** in place of once. What is new is around it: what to ask of which place,
# what to do when ten places answer at once, and how to count what is right.
#
# **You will be able to**
#
# - build a single-stage detector on a pre-trained network: targets, loss, boxes, and the
#   removal of duplicates, each in a few lines, and checked against the libraries;
# - measure it as everybody does (average precision, AP50, COCO's AP), and by the size of
#   things;
# - recognise the failure in which the loss falls and little is found.
#
# **Builds on** lesson 20. **Words:** *box* – the smallest rectangle around a thing; *IoU* –
# intersection over union, how well two boxes agree; *grid* – the cells of a feature map, each
# a square of the picture; *recall* – the share of the things that are found; *average
# precision* – precision, averaged over all recalls; *non-maximum suppression* – keeping the
# surest of several boxes for one thing; *focal loss* – cross-entropy in which easy answers
# count little.

# %% tags=["parameters"]
PROFILE = "quick"  # "quick": any laptop, no network · "full": a GPU and the network
SEED = 0

# %%
import math

import numpy as np
import torch
import torch.nn.functional as F

from course_utils import (
    check, choose_compute, claim, copy_of, describe, freeze, load_image_model, plot_bars,
    plot_lines, predict, quiz, recipes, run_stages, seed_everything, select, set_mode,
    show_table, stages, stopwatch,
)
from course_utils.detection import (
    STRIDE, Detector, Found, box_area, box_iou, coco_ap, decode, generalized_iou,
    grid_points, load_scenes, resnet_body, run_frozen, small_body,
)
from course_utils.lessons.lesson_23 import counted, plot_scenes
from course_utils.metrics import spread

# %% [markdown]
# The settings. In the full profile the pictures are photographs of blood cells.

# %%
MODEL = select(PROFILE, quick="resnet18", full="resnet18-imagenet")
PICTURES = select(PROFILE, quick="trays", full="blood cells")
SETTINGS = select(PROFILE, quick={"train": 160, "test": 80, "difficulty": 0.2},
                  full={"train": 205, "test": 72, "size": (240, 320)})
EPOCHS, SCRATCH_EPOCHS = select(PROFILE, quick=(6, 4), full=(40, 27))
FCOS_EPOCHS = select(PROFILE, quick=5, full=20)
BATCH, LEARNING_RATE = 8, 3e-3
SEEDS = [SEED, SEED + 1, SEED + 2]
DEVICE = choose_compute().device
SIZES = select(  # names for sizes: the square root of a box's area, in pixels
    PROFILE, quick={"under 12 px": (0, 12), "12 to 24 px": (12, 24), "over 24 px": (24, 999)},
    full={"under 24 px": (0, 24), "24 to 48 px": (24, 48), "over 48 px": (48, 999)})
LEAST = select(
    PROFILE,
    quick={"untold": 3, "duplicates": 6, "sure": 15, "idle": 20, "scratch": 6, "big": 10,
           "small": 3, "drowned": 15},
    full={"untold": 0, "duplicates": 5, "sure": 0, "idle": 15, "scratch": -20, "big": 0,
          "small": -20, "drowned": 5})

# %% [markdown]
# ## 1 · The task: trays
#
# A tray holds four of the surfaces of lesson 20, each with at most one defect. So a picture
# of 128 pixels shows from none to four defects of five kinds. We made them, so we know each
# box to the pixel.

# %%
train, test = load_scenes(PICTURES, seed=SEED, **SETTINGS)
CLASSES = train.classes
listed = "; ".join(counted(true, CLASSES) for true in train.truth[:4])
describe(plot_scenes(train, range(4)),
         f"Four of {len(train)} training pictures with their true boxes: {listed}.")

# %% [markdown]
# Look at the sizes: some holes are smaller than a cell of the grid we shall use (8 pixels),
# and scratches are thin lines in large boxes.

# %%
every = torch.cat([true.boxes for true in train.truth])
kinds = torch.cat([true.labels for true in train.truth])
sides = box_area(every).sqrt()
show_table(
    [{"kind": name, "boxes": int((kinds == i).sum()),
      "median size (px)": sides[kinds == i].median().item(),
      "smallest (px)": sides[kinds == i].min().item()} for i, name in enumerate(CLASSES)],
    "What there is to find; the size is the square root of a box's area",
)

# %% [markdown]
# ## 2 · How a detector is judged
#
# **IoU.** A box is right if it overlaps a true box of its class enough. "Enough" is measured
# by the *intersection over union*: the area that both share, over the area that they cover
# together. 1 is perfect, 0 is apart; 0.5 is the usual mark.
#
# **Precision and recall.** Sort all boxes of a class by their score, the surest first. Each
# in turn takes, of the true boxes that are still free, the one that it overlaps best. If
# that is enough, it is a *hit*, otherwise a false alarm. **Each thing counts once**, so a
# second box for it is a false alarm, too.


# %%
def judged(found, truth, label, enough=0.5):
    """Scores of all boxes of a class, whether each is a hit, and how many things there are."""
    scores, hits, things = [], [], 0
    for guess, true in zip(found, truth, strict=True):
        guess, true = (one.select(one.labels == label) for one in (guess, true))
        free = torch.ones(len(true))
        things += len(true)
        for row in guess.scores.argsort(descending=True):
            overlap = free * box_iou(guess.boxes[row][None], true.boxes)[0]
            hit = len(true) > 0 and overlap.max().item() >= enough
            if hit:
                free[overlap.argmax()] = 0
            scores.append(guess.scores[row])
            hits.append(float(hit))
    return torch.tensor(scores), torch.tensor(hits), things


# %% [markdown]
# Going down the list, the recall rises and the precision, mostly, falls. **Average
# precision** is the area under that curve. By custom the precision at a recall is the best
# that is reached at this recall or beyond, so that the curve never rises.


# %%
def average_precision(found, truth, label):
    """The area under precision over recall; also the curve."""
    scores, hits, things = judged(found, truth, label)
    right = hits[scores.argsort(descending=True, stable=True)].cumsum(0)
    precision = right / torch.arange(1, len(right) + 1)
    recall = right / max(things, 1)
    best = precision.flip(0).cummax(0).values.flip(0)
    steps = recall.diff(prepend=torch.zeros(1))
    return 100 * (best * steps).sum().item(), best, recall


# %% [markdown]
# Averaged over the classes, this is **AP50** (50 for the IoU of 0.5). COCO's **AP** (Lin et
# al., 2014) is the mean of AP50, AP55, … AP95: it also asks for tight boxes. The reference
# is the package `pycocotools`; our `coco_ap` hands everything over to it and keeps it from
# printing.
#
# **A baseline without training**: into the middle of each quarter we put a box of the mean
# size, of the most frequent kind. Every tray has its parts there. Is that worth anything?

# %%
height, width = train.images.shape[-2:]
middles = torch.tensor([(x, y) for y in (0.25, 0.75) for x in (0.25, 0.75)])
middles = middles * torch.tensor([width, height])
half = (every[:, 2:] - every[:, :2]).mean(0) / 2
bet = Found(torch.cat([middles - half, middles + half], 1),
            torch.full((4,), int(kinds.bincount().argmax())), torch.ones(4))
idle = coco_ap([bet] * len(test), test.truth, CLASSES)
print(f"without training: AP50 {idle['AP50']:.1f}, AP {idle['AP']:.1f}")

# %% [markdown]
# ## 3 · The network: one question a cell
#
# The body is the ResNet-18 of lesson 20 up to `layer3`. `layer2` gives 128 numbers for each
# square of 8 × 8 pixels; `layer3` gives 256 for each of 16 × 16 and has seen more of the
# surroundings. We lay both on one grid. The **head** is a few convolutions with batch
# normalisation (`norm`: it learns in far fewer epochs so): for each cell it says how likely
# each class is, and four numbers that make a box. There is no second
# look at regions, hence *single-stage* (YOLO: Redmon et al., 2016), and no set of
# prepared boxes, hence *anchor-free* (FCOS: Tian et al., 2019; YOLOX: Ge et al., 2021). A
# new head gives each class the small probability `prior`; section 11 shows why.


# %%
network = load_image_model(MODEL, len(CLASSES))


def fresh(seed, prior=0.01):
    """A copy of the pre-trained body with a new head."""
    body = copy_of(resnet_body(network))
    model = Detector(body, len(CLASSES), network.pixels, prior=prior, seed=seed, norm=True)
    return model.to(DEVICE)


model = fresh(SEED)
FIRST = len(stages(model)) - 1  # only the head is trained
show_table([{"stage": part.name, "weights": part.num_weights} for part in stages(model)],
           "The detector as a list of stages")

# %% [markdown]
# The body stays frozen, so its maps are made **once** and kept: an epoch then only has to
# train the head.

# %%
maps = {name: run_frozen(stages(model)[:FIRST], scenes.images, model.pixels)
        for name, scenes in {"train": train, "test": test}.items()}
points = grid_points(height, width)  # the centres of the cells, (x, y)
print("maps of the training pictures:", tuple(maps["train"].shape))

# %% [markdown]
# ## 4 · Which cell answers for what?
#
# A detector is trained on *answers of cells*, so every true box must be made the duty of
# some cells. Our rule: **the four cells around a box's centre**, that is all whose centre
# is less than one cell away from it, to the side and up or down. (At the picture's edge,
# or where a box's centre is right on a cell's, they are fewer.) Where two boxes claim a
# cell, the smaller one gets it, as in FCOS.


# %%
def owners(points, boxes):
    """For each cell the number of the box that it must answer for; -1 for none."""
    if not len(boxes):
        return torch.full((len(points),), -1)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    apart = (points[:, None] - centres).abs().amax(2)  # (cells, boxes)
    area = torch.where(apart < STRIDE, box_area(boxes), math.inf)
    smallest = area.min(1)
    return torch.where(smallest.values.isinf(), -1, smallest.indices)


# %% [markdown]
# The first picture, and the cells that must answer:

# %%
from course_utils.lessons.lesson_23 import plot_assignment

owner = owners(points, train.truth[0].boxes)
describe(plot_assignment(train, 0, points, owner),
         f"A picture with {counted(train.truth[0], CLASSES)} in true boxes; beside it the "
         f"grid of {len(points)} cells, {int((owner >= 0).sum())} of which must answer.")

# %% [markdown]
# Written down for all pictures: what should each cell say? A 1 at its class, and a box.
# All other cells should say "none of the classes".


# %%
def targets(scenes):
    """What the cells should say: classes (B, G, C) and boxes (B, G, 4)."""
    wanted = torch.zeros(len(scenes), len(points), len(CLASSES))
    boxes = torch.zeros(len(scenes), len(points), 4)
    for row, true in enumerate(scenes.truth):
        owner = owners(points, true.boxes)
        full = owner >= 0
        wanted[row, full, true.labels[owner[full]]] = 1
        boxes[row, full] = true.boxes[owner[full]]
    return wanted.to(DEVICE), boxes.to(DEVICE)


wanted, wanted_boxes = targets(train)

# %% [markdown]
# Two numbers to remember. First, how few cells have anything to say. Second, why the rule
# matters: FCOS lets a cell answer only if its centre lies *inside* the box. How many true
# boxes would then be nobody's duty?

# %%
full_cells = 100 * (wanted.amax(2) > 0).double().mean().item()
x, y = points[:, :1], points[:, 1:]
inside = (x > every[:, 0]) & (x < every[:, 2]) & (y > every[:, 1]) & (y < every[:, 3])
small = next(iter(SIZES.values()))[1]  # px
untold = 100 * (~inside.any(0))[sides < small].double().mean().item()
claim("23.1", "percent of the cells that must answer for a box", full_cells,
      at_most=8)
claim("23.2", f"percent of the boxes under {small} px that hold no cell's centre", untold,
      at_least=LEAST["untold"])

# %% [markdown]
# ## 5 · The loss
#
# **Classes.** Each class of each cell is a yes-or-no question. Nearly all answers are "no",
# and most of these are easy. The **focal loss** (Lin et al., 2017) multiplies the
# cross-entropy by the square of how wrong the answer is: what is nearly right counts next
# to nothing. (`balance`, the paper's alpha, is a weight for yes and one for no.) And the
# sum is divided by the number of *full* cells, those that must answer, not of all.
#
# **Boxes.** Only for the full cells: 1 minus the *generalised* IoU (Rezatofighi et al.,
# 2019), which still pulls where two boxes do not touch.


# %%
def cells(output):
    """What the head gives, as a row of cells: (B, C + 4, H, W) → (B, cells, C + 4)."""
    return output.flatten(2).transpose(1, 2)


def focal_loss(logits, wanted, balance=0.25):
    """Cross-entropy of yes-or-no questions, easy ones nearly ignored."""
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    wrong = (logits.sigmoid() - wanted).abs()
    return torch.where(wanted > 0, balance, 1 - balance) * wrong**2 * entropy


def detection_loss(output, wanted, boxes):
    """Of what the head says about the cells: classes and boxes, for each full cell."""
    logits, codes = output.split([len(CLASSES), 4], 2)
    full = wanted.amax(2) > 0
    guessed = decode(codes, points.to(codes.device))
    by_class = focal_loss(logits, wanted).sum()
    by_box = (1 - generalized_iou(guessed[full], boxes[full])).sum()
    return (by_class + by_box) / full.sum().clamp(min=1)


# %% [markdown]
# `decode` turns four numbers into a box: two move the cell's centre, two are logarithms of
# width and height. Are our pieces what the libraries have?

# %%
import torchvision.ops as ops

seed_everything(SEED)
corners = 100 * torch.rand(50, 2)
some = torch.cat([corners, corners + 40 * torch.rand(50, 2)], 1)
logits, yes = torch.randn(50, 5), (torch.rand(50, 5) < 0.1).float()
mine = [box_iou(some, every), generalized_iou(some, some.flip(0)),
        focal_loss(logits, yes)]
theirs = [ops.box_iou(some, every), ops.generalized_box_iou(some, some.flip(0)).diagonal(),
          ops.sigmoid_focal_loss(logits, yes)]
claim("23.3", "largest difference from torchvision: IoU, generalised IoU, focal loss",
      max((a - b).abs().max().item() for a, b in zip(mine, theirs, strict=True)),
      at_most=1e-4)

# %% [markdown]
# ## 6 · Training
#
# `fit` of the course knows classes, not boxes, so here is its core once more, with our
# loss. It trains the stages from `first` on, on maps that the stages before have made.

# %%
from course_utils.optim import build_optimizer, schedule_factor, set_learning_rates


def train_on(model, inputs, first=FIRST, epochs=EPOCHS, seed=SEED, loss=detection_loss):
    recipe = recipes.full_finetuning(
        epochs=epochs, learning_rate=LEARNING_RATE, head_learning_rate=LEARNING_RATE,
        schedule="cosine")
    parts = stages(model)[first:]
    freeze(stages(model)[:first])
    optimizer = build_optimizer(parts, recipe)
    set_mode(parts, True)
    seed_everything(seed)
    losses = []  # of the steps
    for epoch in range(epochs):
        batches = torch.randperm(len(inputs)).split(BATCH)
        for step, rows in enumerate(batches):
            progress = (epoch + step / len(batches)) / epochs
            set_learning_rates(optimizer, schedule_factor(progress, recipe))
            output = cells(run_stages(parts, inputs[rows]))
            value = loss(output, wanted[rows], wanted_boxes[rows])
            model.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            losses.append(value.item())
    return losses


# %%
predict("23.1")
predict("23.2")

# %% [markdown]
# Three heads, from three seeds, on the same pictures:

# %%
from course_utils.progress import Progress

bar, heads, seconds = Progress(len(SEEDS), "heads"), [], {"pre-trained": []}
falling = {}  # the loss of each seed's steps
for seed in SEEDS:
    model = fresh(seed)
    with stopwatch() as watch:
        falling[seed] = train_on(model, maps["train"], seed=seed)
    heads.append(model)
    seconds["pre-trained"].append(watch.seconds)
    bar.update(len(heads))

# %% [markdown]
# ## 7 · From cells to boxes, and away with duplicates
#
# Each cell now gives its most likely class and a box. We keep those with a score over 0.1.


# %%
@torch.no_grad()
def answers_of(model, inputs, first=FIRST, limit=0.1):
    """A `Found` for each picture, with duplicates."""
    parts, found = stages(model)[first:], []
    set_mode(parts, False)
    edge = torch.tensor([width, height, width, height])
    for piece in inputs.split(50):
        for output in cells(run_stages(parts, piece)).float().cpu():
            scores, labels = output[:, :-4].sigmoid().max(1)
            boxes = decode(output[:, -4:], points).clamp(min=0).minimum(edge)
            found.append(Found(boxes, labels, scores).select(scores > limit))
    return found


answers = [answers_of(model, maps["test"]) for model in heads]
raw = answers[0]

# %% [markdown]
# Four cells were taught to answer for each thing, so each thing is found several times.
# **Non-maximum suppression** keeps the surest box, drops those of the same class that
# overlap it, and goes on with what is left:


# %%
def nms(found, overlap=0.5):
    """Without boxes that overlap a surer one of the same class."""
    left, kept = found.scores.argsort(descending=True), []
    while len(left):
        best, others = left[0], left[1:]
        kept.append(int(best))
        same = found.labels[others] == found.labels[best]
        close = box_iou(found.boxes[best][None], found.boxes[others])[0] > overlap
        left = others[~(same & close)]
    return found.select(torch.tensor(kept, dtype=torch.int64))


# %% [markdown]
# Class by class, beside torchvision's:

# %%
different = 0
for picture in raw:
    for label in range(len(CLASSES)):
        one = picture.select(picture.labels == label)
        kept = one.select(ops.nms(one.boxes, one.scores, 0.5))
        different += not torch.equal(nms(one).boxes, kept.boxes)
claim("23.4", "pictures and classes in which torchvision's suppression keeps other boxes",
      different, at_most=0)

# %% [markdown]
# A test picture with many things, before and after (scores over 0.3):

# %%
row = max(range(len(test)), key=lambda i: len(test.truth[i]))
before = raw[row].select(raw[row].scores > 0.3)
after = nms(before)
describe(plot_scenes(test, [row] * 3, [test.truth[row], before, after],
                     ["true boxes", "raw answers", "after suppression"]),
         f"The true boxes ({counted(test.truth[row], CLASSES)}), the raw answers "
         f"({len(before)} boxes), and what suppression leaves ({len(after)} boxes).")

# %%
found = [[nms(picture) for picture in one] for one in answers]  # for each head
clean = found[0]
results = [coco_ap(one, test.truth, CLASSES, SIZES) for one in found]
doubled = [coco_ap(one, test.truth, CLASSES)["AP50"] for one in answers]
show_table(
    [{"boxes": "raw", "AP50": spread(doubled, 1), "boxes a picture":
      np.mean([len(one) for one in raw])},
     {"boxes": "after suppression", "AP50": spread([one["AP50"] for one in results], 1),
      "boxes a picture": np.mean([len(one) for one in clean])}],
    "What duplicates cost (AP50: median of three heads, and range; boxes: the first head)",
)
claim("23.5", "points of AP50 that are lost without suppression",
      [one["AP50"] - raw50 for one, raw50 in zip(results, doubled, strict=True)],
      at_least=LEAST["duplicates"])

# %% [markdown]
# **The answer.** No thing counts twice, so every further box for it is a false alarm: the
# precision falls.
#
# ## 8 · How good is it, then?
#
# First, can we trust the yardstick? Our ten lines and pycocotools, for the first head:

# %%
curves = [average_precision(clean, test.truth, i) for i in range(len(CLASSES))]
show_table(
    [{"class": name, "ours": curves[i][0], "pycocotools": results[0][name]}
     for i, name in enumerate(CLASSES)],
    "AP50 of each class, in percent",
)
claim("23.6", "largest difference of a class's AP50 from that of pycocotools, in points",
      max(abs(curves[i][0] - results[0][name]) for i, name in enumerate(CLASSES)),
      at_most=3)

# %% [markdown]
# Why not exactly the same? pycocotools reads the curve at 101 recalls, 0 to 1 in hundredths,
# and takes the mean; we take the area itself. With a few dozen things a class, the two are
# not quite the same.
#
# **Choosing a threshold.** AP looks at all thresholds; whoever uses the detector needs one.

# %%
from course_utils.lessons.lesson_23 import plot_precision_recall

parts = [judged(clean, test.truth, i) for i in range(len(CLASSES))]
scores, hits = (torch.cat([part[i] for part in parts]) for i in (0, 1))
things = sum(part[2] for part in parts)
order = scores.argsort(descending=True)
right = hits[order].cumsum(0)
curve = right / torch.arange(1, len(right) + 1), right / things
marks = {}
for limit in (0.2, 0.3, 0.4, 0.5):
    kept = hits[scores > limit]
    marks[limit] = kept.mean().item(), kept.sum().item() / things

# %% [markdown]
# All classes together:

# %%
told = "; ".join(f"over {limit:g} precision {p:.2f}, recall {r:.2f}"
                 for limit, (p, r) in marks.items())
describe(plot_precision_recall({"first head": curve}, marks),
         f"Precision over recall of {things} defects, with thresholds on the score: {told}.")

# %%
gains = [marks[0.4][0] - marks[0.2][0], marks[0.2][1] - marks[0.4][1]]
print(f"From 0.2 to 0.4: precision {100 * gains[0]:+.0f} points, recall "
      f"{-100 * gains[1]:+.0f} points")
claim("23.7", "points of precision that the threshold 0.4 gains over 0.2",
      100 * gains[0], at_least=LEAST["sure"])

# %% [markdown]
# A score is no probability of a hit: it was trained on the class of a cell, and knows
# nothing of how well the box fits, nor of duplicates. So look at the curve, and choose the
# threshold on validation pictures by what a miss and a false alarm cost *you*.
#
# ## 9 · Against no pre-training, and against a library
#
# **From scratch.** A ResNet from random weights would cost many times as much a pass. So
# we take a small network made for the purpose (four layers, each trained), with the same
# kind of head, and as many epochs as cost about what training one of our heads costs, in
# multiplications. (The one pass that made our maps comes on top and is not counted: all
# heads share it.)

# %%
predict("23.3")

# %%
from torch.utils.flop_counter import FlopCounterMode


def operations(model, inputs, first):
    """Of a pass over one batch, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        train_on(model, inputs[:BATCH], first, epochs=1)
    return counter.get_total_flops()


def from_scratch(seed):
    return Detector(small_body(seed=seed), len(CLASSES), seed=seed, norm=True).to(DEVICE)


pixels = run_frozen([], train.images, from_scratch(SEED).pixels)
test_pixels = run_frozen([], test.images, from_scratch(SEED).pixels)
share = (SCRATCH_EPOCHS * operations(from_scratch(SEED), pixels, 0)
         / (EPOCHS * operations(fresh(SEED), maps["train"], FIRST)))
print(f"from scratch: {SCRATCH_EPOCHS} epochs, {share:.2f} times the multiplications")

# %% [markdown]
# The runs:

# %%
scratch_results, seconds["from scratch"] = [], []
for seed in SEEDS:
    model = from_scratch(seed)
    with stopwatch() as watch:
        train_on(model, pixels, 0, SCRATCH_EPOCHS, seed)
    guesses = [nms(one) for one in answers_of(model, test_pixels, 0)]
    scratch_results.append(coco_ap(guesses, test.truth, CLASSES))
    seconds["from scratch"].append(watch.seconds)

# %% [markdown]
# **torchvision's detector.** `torchvision.models.detection` has FCOS whole: its own rule
# for cells, its loss, a *centreness* for each cell (how near the middle of its box it
# lies), its suppression. We put it on **our frozen maps**, as wide as our head, so that
# only the detectors differ. (Its transform and its interface want pictures, so it gets
# them; what it sees is what its backbone hands over.)

# %%
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead


class KeptMaps(torch.nn.Module):
    """A backbone for torchvision that hands over maps made before."""

    out_channels = 64

    def __init__(self, channels):
        super().__init__()
        self.narrow, self.maps = torch.nn.Conv2d(channels, self.out_channels, 1), None

    def forward(self, images):
        return {"map": self.narrow(self.maps).relu()}


seed_everything(SEED)
backbone = KeptMaps(maps["train"].shape[1])
fcos = FCOS(backbone, len(CLASSES), head=FCOSHead(64, 1, len(CLASSES), num_convs=1),
            anchor_generator=AnchorGenerator(((STRIDE,),), ((1.0,),)), score_thresh=0.1,
            nms_thresh=0.5, min_size=height, max_size=width).to(DEVICE)

# %% [markdown]
# It takes and gives lists of dictionaries, and computes its own losses. It does more in
# each pass, so its epochs are dearer than ours, and it gets no more of them:

# %%
def train_fcos(epochs=FCOS_EPOCHS):
    truth = [{"boxes": true.boxes.to(DEVICE), "labels": true.labels.to(DEVICE)}
             for true in train.truth]
    optimizer = torch.optim.AdamW(fcos.parameters(), LEARNING_RATE, weight_decay=0.01)
    steps = epochs * math.ceil(len(train) / BATCH)
    decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps,
                                                pct_start=0.1)
    fcos.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(train)).split(BATCH):
            backbone.maps = maps["train"][rows]
            pictures = list(train.images[rows].to(DEVICE) / 255)
            losses = fcos(pictures, [truth[row] for row in rows])
            optimizer.zero_grad()
            sum(losses.values()).backward()
            torch.nn.utils.clip_grad_norm_(fcos.parameters(), 5.0)
            optimizer.step()
            decay.step()


with stopwatch() as watch:
    train_fcos()
seconds["torchvision's FCOS"] = [watch.seconds]

# %% [markdown]
# What it finds, and all side by side:


# %%
@torch.no_grad()
def fcos_answers():
    fcos.eval()
    guesses = []
    for rows in torch.arange(len(test)).split(50):
        backbone.maps = maps["test"][rows]
        for one in fcos(list(test.images[rows].to(DEVICE) / 255)):
            guess = (one[name].cpu() for name in ("boxes", "labels", "scores"))
            guesses.append(Found(*guess))
    return guesses


library = coco_ap(fcos_answers(), test.truth, CLASSES)

# %%
from course_utils.device import energy_wh

rows = {"from scratch": (scratch_results, from_scratch(0), SCRATCH_EPOCHS),
        "pre-trained": (results, heads[0].head, EPOCHS),
        "torchvision's FCOS": ([library], fcos, FCOS_EPOCHS)}
nothing = {"detector": "no training", "AP50": f"{idle['AP50']:.1f}",
           "AP": f"{idle['AP']:.1f}", "epochs": 0, "trained weights": 0, "seconds": 0.0,
           "energy (Wh, estimate)": 0.0}
show_table(
    [nothing] + [
        {"detector": name, "AP50": spread([one["AP50"] for one in runs], 1),
         "AP": spread([one["AP"] for one in runs], 1), "epochs": epochs,
         "trained weights": sum(weight.numel() for weight in network.parameters()),
         "seconds": float(np.median(seconds[name])),
         "energy (Wh, estimate)": energy_wh(float(np.median(seconds[name])))}
        for name, (runs, network, epochs) in rows.items()],
    f"Test pictures: {len(test)}; one run of FCOS, else three seeds and their range",
)

# %% [markdown]
# The same as bars:

# %%
bars = {"no training": round(idle["AP50"], 1), **{name: [one["AP50"] for one in runs]
                                        for name, (runs, _, _) in rows.items()}}
told = ", ".join(f"{name} {np.median(value):.1f}" for name, value in bars.items())
describe(plot_bars(bars, "AP50 (%)"), f"Bars of AP50: {told}.")

# %% [markdown]
# **The answer.** On features that photographs of animals and things have taught, a small
# head soon learns where defects are. A network that has to learn its features, too, gets
# clearly less far with about as many multiplications in training. (It does get somewhere:
# from scratch is slow, not lost.) And the library's detector plays in the same league as
# ours: the parts you have just written are nearly all that there is to it.

# %%
claim("23.8", "points of AP50 by which the pre-trained body beats the bet without training",
      [one["AP50"] - idle["AP50"] for one in results], at_least=LEAST["idle"])
claim("23.9", "points of AP50 by which it beats the network from scratch, seed by seed",
      [one["AP50"] - other["AP50"]
       for one, other in zip(results, scratch_results, strict=True)],
      at_least=LEAST["scratch"])
claim("23.10", "AP50 of torchvision's FCOS over the median of ours",
      library["AP50"] / np.median([one["AP50"] for one in results]),
      at_least=0.5, at_most=1.5)
claim("23.11", "COCO's AP over AP50, of the same boxes",
      [one["AP"] / one["AP50"] for one in results],
      at_most=select(PROFILE, quick=0.5, full=0.9))

# %% [markdown]
# The last claim is about reading papers: the very same boxes have a high "AP" or a low one,
# whichever you quote, so always say which one it is.

# %% [markdown]
# ## 10 · What is hard to find?

# %%
predict("23.4")

# %% [markdown]
# Take each true box and the box of its class (score over 0.2) that overlaps it best. Is it
# found **loosely**, with an IoU of at least 0.1? And is it boxed **well**, with 0.5?

# %%
overlaps, size, kind = [], [], []
for guess, true in zip(sum(found, []), test.truth * len(heads), strict=True):
    for box, label in zip(true.boxes, true.labels, strict=True):
        same = guess.boxes[(guess.labels == label) & (guess.scores > 0.2)]
        overlaps.append(box_iou(box[None], same).amax().item() if len(same) else 0.0)
        size.append(box_area(box[None]).sqrt().item())
        kind.append(int(label))
overlaps, size, kind = (np.array(values) for values in (overlaps, size, kind))

# %% [markdown]
# By class and by size, all heads together. (*Precision* is that of the first head's boxes
# over 0.2.)


# %%
def share_found(rows, enough):
    return 100 * (overlaps[rows] >= enough).mean() if rows.any() else float("nan")


def precision_of(label):
    """Percent of a class's boxes over 0.2 that are right, of the first head."""
    scores, hits, _ = judged(clean, test.truth, label)
    return 100 * hits[scores > 0.2].mean().item()


groups = {name: (kind == i, f"{precision_of(i):.0f}") for i, name in enumerate(CLASSES)}
groups |= {name: ((size >= low) & (size < high), "")
           for name, (low, high) in SIZES.items()}

# %%
show_table(
    [{"what": name, "true boxes": int(rows.sum()) // len(heads),
      "median size (px)": float(np.median(size[rows])) if rows.any() else float("nan"),
      "found loosely (%)": share_found(rows, 0.1), "boxed well (%)": share_found(rows, 0.5),
      "precision (%)": precision, "AP50": spread([one[name] for one in results])}
     for name, (rows, precision) in groups.items()],
    "Finding and boxing",
)

# %% [markdown]
# **The surprise.** Small things are said to be hard, and COCO's tables have a row for them.
# Here the *kind* matters more than the size: the smallest defects, holes, are ahead of
# scratches and cracks, which are far larger. A hole is a dark spot, whole within a cell or
# two. A scratch or crack is a thin line: much else looks like a piece of one (see the
# precision), and its box is decided by its two ends, which may lie cells away from the
# middle that must answer.
#
# Size counts, too, but more for the box than for the finding: the smallest things are
# *boxed well* less often than the largest, since an error of two pixels is much of a small
# box and little of a large one. (Kind and size are mixed here: most of the smallest are
# holes, and hardly any of the largest.)

# %%
THIN, ROUND = select(PROFILE, quick=(("scratch", "crack"), ("hole",)),
                     full=(("Platelets",), ("WBC",)))


def mean_of(one, names):
    return np.mean([one[name] for name in names])


smallest, *_, largest = (share_found(groups[name][0], 0.5) for name in SIZES)
claim("23.12", f"points of AP50 by which {ROUND[0]}s are ahead of {' and '.join(THIN)}",
      [mean_of(one, ROUND) - mean_of(one, THIN) for one in results], at_least=LEAST["big"])
claim("23.13", "points by which the largest boxes are boxed well more often than the smallest",
      largest - smallest, at_least=LEAST["small"])

# %% [markdown]
# ## 11 · A failure on purpose: drowned in empty cells
#
# A colleague finds our loss too clever. Each answer is a yes or no, so she takes plain
# cross-entropy, and its mean over all answers, as everywhere else in this course. Her head
# begins undecided, at a probability of a half.


# %%
def plain_loss(output, wanted, boxes):
    logits, codes = output.split([len(CLASSES), 4], 2)
    full = wanted.amax(2) > 0
    guessed = decode(codes, points.to(codes.device))
    by_box = 1 - generalized_iou(guessed[full], boxes[full])
    return F.binary_cross_entropy_with_logits(logits, wanted) + by_box.mean()


drowned = fresh(SEED, prior=0.5)
sinking = train_on(drowned, maps["train"], loss=plain_loss)
timid = answers_of(drowned, maps["test"], limit=0.02)

# %% [markdown]
# Its loss falls as nicely as ours did:

# %%
runs = {"plain mean": sinking, "focal, a full cell": falling[SEED]}
seen = {name: [part.mean().item() / losses[0] for part in torch.tensor(losses).chunk(20)]
        for name, losses in runs.items()}
share_done = [100 * (part + 0.5) / 20 for part in range(20)]
told = ", ".join(f"{name} {line[-1]:.2f}" for name, line in seen.items())
describe(plot_lines(share_done, seen, "training done (%)", "loss, as a share of the first"),
         f"Two losses that fall, each as a share of its first value. At the end: {told}.")

# %% [markdown]
# By the accuracy of its answers, too, this looks like a splendid model:

# %%
wanted_test = targets(test)[0].cpu()


@torch.no_grad()
def share_right(model):
    """Percent of all yes-or-no answers that are right."""
    output = cells(run_stages(stages(model)[FIRST:], maps["test"])).float().cpu()
    return 100 * ((output[..., :-4] > 0) == (wanted_test > 0)).double().mean().item()


failed = coco_ap([nms(one) for one in timid], test.truth, CLASSES)["AP50"]
show_table(
    [{"loss": name, "answers right (%)": f"{share_right(model):.2f}",
      "boxes with a score over 0.3": sum(int((one.scores > 0.3).sum()) for one in boxes),
      "AP50": ap50} for name, model, boxes, ap50 in (
        ("plain mean", drowned, timid, failed), ("focal, a full cell", heads[0], raw,
                                                 results[0]["AP50"]))],
    f"Two losses; saying no everywhere would be right in "
    f"{100 * (1 - wanted_test.mean().item()):.2f} % of the answers",
)

# %% [markdown]
# **Cause** (and the answer to your first prediction). Next to no answer is a yes, as the
# table's title says. In the mean, the few full cells have next to no weight: from log 2,
# that of an undecided answer, the loss falls most of its way by saying "no" everywhere.
# **Cure.** Count by full cells, let easy answers weigh little (focal loss), and begin at a
# small probability (the `prior`), so that the first steps are not spent on learning that
# most cells are empty.

# %%
claim("23.14", "percent of the answers that the failed detector has right",
      share_right(drowned), at_least=97)
claim("23.15", "points of AP50 that the plain mean costs", results[0]["AP50"] - failed,
      at_least=LEAST["drowned"])

# %% [markdown]
# ## 12 · Exercise: intersection over union
#
# Write `iou(a, b)` for two boxes, each four numbers x0, y0, x1, y1.

# %%
iou = ...
# solution begin


def of_two(a, b):
    wide = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    high = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return wide * high / (sum(areas) - wide * high)


iou = of_two
# solution end
check("23.1", iou)

# %% [markdown]
# ## 13 · Exercise: a threshold for a wanted precision
#
# A detector found these boxes in a few pictures with 16 things (made up, the surest first;
# 1 is a hit). At least 80 % of the boxes that are kept shall be right, and under that
# condition as many things as possible shall be found. From which score on do you keep, and
# what is the recall?

# %%
from course_utils.lessons.lesson_23 import RIGHT, SCORES, THINGS

show_table([{"score": score, "hit": hit} for score, hit in zip(SCORES, RIGHT, strict=True)],
           f"Boxes that were found; there are {THINGS} things")

# %%
choice = ...
# solution begin
kept = np.cumsum(RIGHT)
precise = np.flatnonzero(kept / np.arange(1, len(kept) + 1) >= 0.8)
choice = {"threshold": SCORES[precise[-1]], "recall": kept[precise[-1]] / THINGS}
# solution end
check("23.2", choice)

# %% [markdown]
# ## 14 · Small objects, and your own pictures (open)
#
# - *A finer grid.* Enlarge all pictures to twice the size (`F.interpolate`), boxes too,
#   train again, and compare the AP50 of holes. What does it cost, and what becomes of
#   scratches?
# - *Open `layer3`.* Let `run_frozen` stop before it (`FIRST - 1`), and train it too, at a
#   lower rate.
# - *Your own pictures*: make a `Scenes` (pictures whose sides are multiples of a cell, a
#   `Found.true(boxes, labels)` for each, names). Before you train, draw the boxes of twenty
#   pictures, and count how many of them hold no cell's centre.
#
# ## 15 · When to use it, and when not
#
# | do | don't |
# |---|---|
# | draw the true boxes, and the cells that must answer, first | trust boxes that went through a resize unseen |
# | say which AP it is: AP50, or the mean from 50 to 95 | compare numbers from two yardsticks |
# | look at precision and recall at *your* threshold | take a score for a probability |
# | look at each class and each size | report one mean |
# | count the loss by full cells | watch the loss alone: it falls while little is found |
# | take a library's detector for work, now that you know its parts | write your own for work |
# | classify (lesson 20) where one thing fills the picture | detect where nobody asks where |
#
# **Cost of what you just ran:**

# %%
total = sum(sum(one) for one in seconds.values())
print(f"{sum(map(len, seconds.values()))} trainings in the table, {total:.0f} s, about "
      f"{energy_wh(total):.2f} Wh (an estimate)")

# %% [markdown]
# ## What you can do now
#
# - *Build a single-stage detector and check its pieces against the libraries*: sections 3
#   to 7, exercise 12.
# - *Measure it as everybody does, and by size*: sections 2, 8 and 10, exercise 13.
# - *Recognise the loss that falls while little is found*: section 11.

# %%
quiz("23")

# %% [markdown]
# **Further reading.** Redmon, Divvala, Girshick and Farhadi (2016), *You only look once:
# unified, real-time object detection*. · Lin, Goyal, Girshick, He and Dollár (2017), *Focal
# loss for dense object detection*. · Tian, Shen, Chen and He (2019), *FCOS: fully
# convolutional one-stage object detection*. · Rezatofighi et al. (2019), *Generalized
# intersection over union: a metric and a loss for bounding box regression*. · Ge, Liu, Wang,
# Li and Sun (2021), *YOLOX: exceeding YOLO series in 2021*. · Lin et al. (2014), *Microsoft
# COCO: common objects in context*.
