"""Finding things in pictures: boxes, a detector on a pre-trained network, and its precision.

A box is (x0, y0, x1, y1) in pixels; x1 and y1 lie just outside, so that a width is x1 - x0.

Shapes: B pictures, G cells of the grid, C classes, N and M boxes.
"""

import contextlib
import io
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils import assets
from course_utils.device import choose_compute
from course_utils.errors import AssetError, CourseError
from course_utils.pixels import PixelStatistics
from course_utils.stage import Stage, run_stages, set_mode, stages
from course_utils.surface import CLASSES as SURFACE_CLASSES
from course_utils.surface import generate_surfaces

STRIDE = 8  # pixels from one cell of the grid to the next
BLOOD_CELLS = ("RBC", "WBC", "Platelets")


# --- pictures with boxes ---------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """Boxes in one picture: the true ones, or those that a detector found.

    Attributes:
        boxes: (N, 4), in pixels.
        labels: (N,), numbers of classes.
        scores: (N,), how sure the detector is, 0 to 1; ones for true boxes.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, rows: Tensor) -> "Found":
        """The boxes at these positions, or where the mask is true."""
        return Found(self.boxes[rows], self.labels[rows], self.scores[rows])

    @staticmethod
    def true(boxes: Tensor, labels: Tensor) -> "Found":
        """True boxes, with scores of one."""
        return Found(boxes, labels, torch.ones(len(boxes)))


@dataclass(frozen=True)
class Scenes:
    """Pictures and the true boxes in each.

    Attributes:
        images: (B, 3, H, W), uint8; for a detector, H and W are multiples of `STRIDE`.
        truth: a `Found` for each picture.
        classes: their names.
    """

    images: Tensor
    truth: tuple[Found, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.truth):
            raise CourseError(f"{len(self.images)} pictures but boxes for {len(self.truth)}")

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> "Scenes":
        """The first so many pictures."""
        return replace(self, images=self.images[:count], truth=self.truth[:count])


def load_scenes(
    name: str, train: int, test: int, seed: int = 0, **settings
) -> tuple[Scenes, Scenes]:
    """Pictures to train on and to test on.

    Args:
        name: "trays" (generated) or "blood cells" (from COURSE_DATA_MIRROR).
        train, test: how many; of blood cells there are 205 and 72.
        settings: passed on to `make_trays` or `load_blood_cells`.
    """
    if name == "trays":
        first, second = (
            make_trays(count, 1000 * seed + i, **settings) for i, count in enumerate((train, test))
        )
        return first, second
    if name == "blood cells":
        return (load_blood_cells("train", **settings).first(train),
                load_blood_cells("test", **settings).first(test))  # fmt: skip
    raise CourseError(f"there are no pictures {name!r}; choose 'trays' or 'blood cells'")


def make_trays(count: int, seed: int = 0, difficulty: float = 0.2, size: int = 64) -> Scenes:
    """Trays of four parts, each a generated surface with at most one defect.

    Args:
        count: of trays.
        seed: as in `generate_surfaces`; train and test on different ones.
        difficulty: of the defects, 0 to 1.
        size: of a part, in pixels; a tray is twice as wide and high.
    """
    parts = generate_surfaces(4 * count, seed, difficulty=difficulty, size=size)
    # Six parts in a row hold each class once, four of six would hold few combinations: shuffle.
    order = torch.randperm(4 * count, generator=torch.Generator().manual_seed(seed))
    order = order.view(count, 2, 2)
    images = parts.images[order]  # (count, 2, 2, 3, size, size)
    images = images.permute(0, 3, 1, 4, 2, 5).reshape(count, 3, 2 * size, 2 * size)
    corners = torch.tensor([(0, 0), (size, 0), (0, size), (size, size)])
    truth = []
    for rows in order.view(count, 4):
        boxes = parts.boxes[rows] + corners.repeat(1, 2)
        there = parts.labels[rows] > 0  # class 0 is "ok"
        truth.append(Found.true(boxes[there], parts.labels[rows][there] - 1))
    return Scenes(images, tuple(truth), SURFACE_CLASSES[1:])


def load_blood_cells(split: str, size: tuple[int, int] = (240, 320)) -> Scenes:
    """BCCD (Shenggan, 2017), photographs of blood: red and white cells and platelets, with boxes.

    From the folder `bccd` of COURSE_DATA_MIRROR, a copy of github.com/Shenggan/BCCD_Dataset.

    Args:
        split: "train", "val" or "test", as its ImageSets say.
        size: height and width to which the photographs are resized.
    """
    from xml.etree import ElementTree

    import numpy as np
    from PIL import Image

    mirror = assets.data_mirror()
    folder = None if mirror is None else mirror / "bccd" / "BCCD"
    if folder is None or not folder.is_dir():
        raise AssetError(
            "the photographs of blood cells (BCCD) are not here: clone "
            "https://github.com/Shenggan/BCCD_Dataset into a folder named bccd, and set "
            f"COURSE_DATA_MIRROR to the folder that holds it (it is {str(mirror)!r})"
        )
    images, truth = [], []
    for name in (folder / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
        path = _listed(folder.parent, f"BCCD/JPEGImages/{name}.jpg")
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        scale = torch.tensor([size[1] / picture.width, size[0] / picture.height]).repeat(2)
        pixels = np.array(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
        images.append(torch.from_numpy(pixels).permute(2, 0, 1))
        boxes, labels = [], []
        annotation = _listed(folder.parent, f"BCCD/Annotations/{name}.xml")
        for thing in ElementTree.parse(annotation).getroot().iter("object"):
            box = [float(thing.findtext(f"bndbox/{edge}") or "nan")
                   for edge in ("xmin", "ymin", "xmax", "ymax")]  # fmt: skip
            if box[2] > box[0] and box[3] > box[1]:  # two boxes of BCCD have no area
                boxes.append(box)
                labels.append(BLOOD_CELLS.index(thing.findtext("name") or ""))
        truth.append(Found.true(torch.tensor(boxes).view(-1, 4) * scale,
                                torch.tensor(labels, dtype=torch.int64)))  # fmt: skip
    return Scenes(torch.stack(images), tuple(truth), BLOOD_CELLS)


def _listed(folder: Path, name: str) -> Path:
    """The file, checked against MANIFEST.sha256 where the copy has one."""
    manifest = folder / "MANIFEST.sha256"
    if manifest.is_file():
        return assets.verified(folder, name, manifest, "copy the dataset again")
    path = folder / name
    if not path.is_file():
        raise AssetError(f"the file {path} is missing; copy the dataset again")
    return path


# --- boxes -----------------------------------------------------------------------------------


def box_area(boxes: Tensor) -> Tensor:
    """(…, 4) → (…): width times height; 0 where a box is turned inside out."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each of N with each of M boxes: (N, M)."""
    return _overlap(a[:, None], b[None])[0]


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """The IoU of each pair, less where they are apart (Rezatofighi et al., 2019); -1 to 1.

    From the IoU is taken the share of the smallest box around both that belongs to neither, so
    that boxes which do not touch still pull at each other.

    Args:
        a, b: (…, 4), as many of both.
    """
    iou, union = _overlap(a, b)
    around = torch.cat([torch.minimum(a, b)[..., :2], torch.maximum(a, b)[..., 2:]], -1)
    hull = box_area(around).clamp(min=1e-9)
    return iou - (hull - union) / hull


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and union of boxes; shapes broadcast."""
    common = torch.cat([torch.maximum(a[..., :2], b[..., :2]),
                        torch.minimum(a[..., 2:], b[..., 2:])], -1)  # fmt: skip
    intersection = box_area(common)
    union = box_area(a) + box_area(b) - intersection
    return intersection / union.clamp(min=1e-9), union


def grid_points(height: int, width: int, stride: int = STRIDE) -> Tensor:
    """The centres (x, y) of all cells of a picture's grid, row by row: (G, 2)."""
    y, x = torch.meshgrid(
        torch.arange(height // stride), torch.arange(width // stride), indexing="ij"
    )
    return (torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride


# --- the network -----------------------------------------------------------------------------


class Detector(nn.Module):
    """A single-stage detector: for each cell of a grid, the logits of all classes and a box.

    Args:
        body: turns normalised pictures into a map with a cell every `STRIDE` pixels, such as
            `resnet_body` or `small_body`; each of its parts becomes a stage.
        num_classes: of things to find.
        pixels: how the body wants its pixels.
        width: channels of the head.
        prior: probability of every class in every cell before training.
        seed: decides the head's random weights.
        norm: batch normalisation in the head, with which it learns in far fewer epochs.
    """

    def __init__(
        self, body: nn.Sequential, num_classes: int, pixels: PixelStatistics | None = None,
        width: int = 64, prior: float = 0.01, seed: int = 0, norm: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.body, self.pixels = body, pixels or PixelStatistics()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            channels = body.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
            layers: list[nn.Module] = []
            for inside, side in ((channels, 1), (width, 3), (width, 3)):
                layers.append(nn.Conv2d(inside, width, side, padding=side // 2, bias=not norm))
                layers += [nn.BatchNorm2d(width), nn.ReLU(True)] if norm else [nn.ReLU(True)]
            self.head = nn.Sequential(*layers, nn.Conv2d(width, num_classes + 4, 3, padding=1))
            last = self.head[-1]
            last.weight[num_classes:] = 0  # at first each box is one cell large, on its cell
            last.bias.zero_()
            last.bias[:num_classes] = torch.logit(torch.tensor(prior))
        self.to(memory_format=torch.channels_last)

    def stages(self) -> list[Stage]:
        """The parts of the body, then the head."""
        parts = [*self.body.named_children(), ("head", self.head)]
        return [Stage(name, (part,), _running(part)) for name, part in parts]

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) → (B, C + 4, H / STRIDE, W / STRIDE)."""
        return self.head(self.body(self.pixels.normalize(images)))


def _running(part: nn.Module) -> Callable[[Tensor, object], Tensor]:
    return lambda x, mask: part(x)


class Both(nn.Module):
    """The map that comes in, and what a further layer makes of it, brought to the same size."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, F.interpolate(self.layer(x), size=x.shape[-2:])], 1)


def resnet_body(model: nn.Module) -> nn.Sequential:
    """A ResNet up to `layer3`: fine places from `layer2`, more of the surroundings from `layer3`.

    `layer2` has a cell every 8 pixels, `layer3` every 16. (The weights are shared with `model`.)
    """
    parts = {stage.name: nn.Sequential(*stage.modules) for stage in stages(model)}
    if not {"stem", "layer1", "layer2", "layer3"} <= set(parts):
        raise CourseError(f"resnet_body needs a ResNet, not a {type(model).__name__}")
    names = ("stem", "layer1", "layer2")
    return nn.Sequential(OrderedDict(
        [(name, parts[name]) for name in names] + [("layer3", Both(parts["layer3"]))]
    ))  # fmt: skip


def small_body(width: int = 16, seed: int = 0) -> nn.Sequential:
    """Four layers, quick enough to be trained from random weights: a map at 8 pixels a cell."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [
            nn.Sequential(
                nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside),
                nn.ReLU(True),
            )
            for inside, outside, stride in (
                (3, width, 2), (width, 2 * width, 2), (2 * width, 4 * width, 2),
                (4 * width, 4 * width, 1),
            )
        ]  # fmt: skip
    return nn.Sequential(OrderedDict((f"layer{i + 1}", part) for i, part in enumerate(layers)))


def decode(codes: Tensor, points: Tensor, stride: int = STRIDE) -> Tensor:
    """From a cell's four numbers to its box.

    The first two move the centre away from the cell's, in cells; the others are logarithms of
    width and height, in cells (as in YOLOX: Ge et al., 2021).

    Args:
        codes: (…, G, 4).
        points: (G, 2), the cells' centres.
    """
    centre = points + stride * codes[..., :2]
    half = stride * codes[..., 2:].clamp(max=5).exp() / 2
    return torch.cat([centre - half, centre + half], -1)


@torch.no_grad()
def run_frozen(parts: Sequence[Stage], images: Tensor, pixels: PixelStatistics) -> Tensor:
    """What the first stages, in eval mode, make of pictures; without stages, the normalised ones.

    Args:
        parts: stages, on the course's device.
        images: uint8 (B, 3, H, W).
    """
    set_mode(parts, False)
    device = choose_compute().device
    return torch.cat([
        run_stages(parts, pixels.normalize(piece.to(device))) for piece in images.split(50)
    ])  # fmt: skip


# --- how good is it --------------------------------------------------------------------------


def coco_ap(
    found: Sequence[Found],
    truth: Sequence[Found],
    classes: Sequence[str],
    sizes: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, float]:
    """Average precision in percent, as COCO defines it and pycocotools computes it.

    Of each class the 100 surest boxes of a picture count.

    Args:
        found, truth: boxes of each picture.
        classes: their names.
        sizes: names for ranges of size (the square root of a box's area, in pixels).

    Returns:
        "AP" (mean over IoUs from 0.5 to 0.95), "AP50", one of each class at an IoU of 0.5 and one
        of each size at an IoU of 0.5. NaN where there is nothing to find; all 0 if no box at all
        was found.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    sizes = dict(sizes or {})
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "info": {},
            "images": [{"id": i} for i in range(len(truth))],
            "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
            "annotations": [
                {**row, "id": i + 1, "iscrowd": 0} for i, row in enumerate(_rows(truth))
            ],
        }
        reference.createIndex()
        rows = _rows(found)
        if not rows:
            return dict.fromkeys(["AP", "AP50", *classes, *sizes], 0.0)
        run = COCOeval(reference, reference.loadRes(rows), "bbox")
        run.params.areaRng = [(0, 1e10), *((low**2, high**2) for low, high in sizes.values())]
        run.params.areaRngLbl = ["all", *sizes]
        run.evaluate()
        run.accumulate()
    # (IoUs, recalls, classes, sizes, most boxes a picture); -1 where there is nothing to find
    table = torch.from_numpy(run.eval["precision"])[..., -1]

    def mean(part: Tensor) -> float:
        counted = part[part > -1]
        return 100 * counted.mean().item() if len(counted) else float("nan")

    return {
        "AP": mean(table[..., 0]),
        "AP50": mean(table[0, ..., 0]),
        **{name: mean(table[0, :, i, 0]) for i, name in enumerate(classes)},
        **{name: mean(table[0, ..., i + 1]) for i, name in enumerate(sizes)},
    }


def _rows(pictures: Iterable[Found]) -> list[dict]:
    """Boxes as COCO writes them: corner, width and height."""
    rows = []
    for number, found in enumerate(pictures):
        for (x0, y0, x1, y1), label, score in zip(
            found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True
        ):
            rows.append({"image_id": number, "category_id": label, "score": score,
                         "bbox": [x0, y0, x1 - x0, y1 - y0],
                         "area": (x1 - x0) * (y1 - y0)})  # fmt: skip
    return rows
