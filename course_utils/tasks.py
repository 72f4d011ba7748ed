"""Where tasks come from: embedded ones for the profile quick, public datasets for full.

`load_task("tickets")` needs no network. `load_task("ag_news")` reads the dataset from the
hub, or from the folder that COURSE_DATA_MIRROR names.
"""

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from course_utils import assets
from course_utils.data import Examples, Task
from course_utils.errors import AssetError, CourseError
from course_utils.radiographs import RadiographSet, generate_radiographs
from course_utils.surface import MATERIALS, SurfaceSet, generate_surfaces

SPLITS = ("train", "valid", "test")


def load_task(name: str, **settings) -> Task:
    """Load a task by name.

    Args:
        name: embedded: "radiographs", "tickets", "reviews", "surface", "digits"; public:
            "ag_news", "sst2", "banking77", "trec", "clinc150", "flowers", "pneumonia",
            "omniglot".
        settings: passed on, such as `load_task("surface", train=600, domain="lamp")`.

    Raises:
        CourseError: there is no such task.
        AssetError: a file is missing or damaged, or there is no network.
    """
    if name in EMBEDDED:
        return EMBEDDED[name](**settings)
    if name in PUBLIC_IMAGES:
        return PUBLIC_IMAGES[name](**settings)
    if name in PUBLIC_TEXTS:
        return load_public_texts(name, **settings)
    known = [*EMBEDDED, *PUBLIC_TEXTS, *PUBLIC_IMAGES]
    raise CourseError(f"there is no task {name!r}; the tasks are {', '.join(known)}")


# --- embedded -------------------------------------------------------------------------------


def load_tickets() -> Task:
    """Customers' messages to a shop, in 15 intents; columns "style" and "also"."""
    return _from_rows("tickets", read_csv(assets.embedded("tickets.csv")))


def load_reviews() -> Task:
    """Reviews, negative or positive; columns "domain" and "kind"."""
    return _from_rows("reviews", read_csv(assets.embedded("reviews.csv")))


def load_surfaces(
    train: int = 1200, valid: int = 300, test: int = 600, seed: int = 0, **settings
) -> Task:
    """Photographs of surfaces in six classes, generated; settings as `generate_surfaces`.

    Columns "boxes", "masks", "materials", "marked".
    """
    sets = _generated(generate_surfaces, (train, valid, test), seed, settings)
    return Task("surface", "image", SurfaceSet.CLASSES, *map(_surface_examples, sets))


def _generated(generate: Callable, counts: Iterable[int], seed: int, settings: dict) -> list:
    """A set for each split, from seeds far apart: nothing of one split is met in another."""
    return [generate(count, seed=1000 * seed + i, **settings) for i, count in enumerate(counts)]


def _surface_examples(surfaces: SurfaceSet) -> Examples:
    columns = {
        "boxes": surfaces.boxes, "masks": surfaces.masks, "marked": surfaces.marked,
        "materials": [MATERIALS[i] for i in surfaces.materials.tolist()],
    }  # fmt: skip
    return Examples(surfaces.images, surfaces.labels, columns)


def load_radiographs(
    train: int = 800, valid: int = 300, test: int = 600, seed: int = 0, **settings
) -> Task:
    """Drawings of chest radiographs, healthy or ill; settings as `generate_radiographs`.

    Columns "boxes", "masks", "marked", "mark_boxes", "hospitals". Nothing medical can be
    concluded from them.
    """
    sets = _generated(generate_radiographs, (train, valid, test), seed, settings)
    return Task("radiographs", "image", RadiographSet.CLASSES, *map(_radiograph_examples, sets))


def _radiograph_examples(found: RadiographSet) -> Examples:
    columns = {
        "boxes": found.boxes, "masks": found.masks, "marked": found.marked,
        "mark_boxes": found.mark_boxes, "hospitals": [found.hospital] * len(found),
    }  # fmt: skip
    return Examples(found.images, found.labels, columns)


def load_digits(size: int = 32) -> Task:
    """Handwritten digits, 8x8 pixels, as scikit-learn has them, here enlarged to `size`.

    Alpaydin and Kaynak (1998). Dark ink on white paper; divided in the order of the file.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    paper = (255 * (1 - found.images / 16)).astype(np.float32)
    cuts = [(0, 1000), (1000, 1300), (1300, len(paper))]
    parts = [_grey_examples(paper[a:b], found.target[a:b], size) for a, b in cuts]
    return Task("digits", "image", tuple("0123456789"), *parts)


EMBEDDED: dict[str, Callable[..., Task]] = {
    "radiographs": load_radiographs,
    "digits": load_digits,
    "tickets": load_tickets,
    "reviews": load_reviews,
    "surface": load_surfaces,
}


# --- public ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublicTexts:
    """A public text dataset: where it is on the hub, and what its columns are called."""

    hub: str
    text: str
    label: str
    folder: str  # in the mirror
    files: dict[str, str]  # split → file in the mirror
    names: tuple[str, ...] = ()  # class names, where the files hold numbers


PUBLIC_TEXTS = {
    "ag_news": PublicTexts(
        "fancyzhx/ag_news", "text", "label", "ag_news_part",
        {"train": "train_10k.csv", "test": "test.csv"}, ("World", "Sports", "Business", "Sci/Tech"),
    ),
    "sst2": PublicTexts(
        "SetFit/sst2", "text", "label", "sst2",
        {"train": "train.csv", "valid": "dev.csv", "test": "test.csv"}, ("negative", "positive"),
    ),
    "banking77": PublicTexts(
        "mteb/banking77", "text", "label_text", "banking77",
        {"train": "train.csv", "test": "test.csv"},
    ),
    "trec": PublicTexts(
        "SetFit/TREC-QC", "text", "label_coarse_original", "trec",
        {"train": "train.csv", "test": "test.csv"},
    ),
    "clinc150": PublicTexts(
        "DeepPavlov/clinc150", "utterance", "label", "clinc150",
        {"train": "train.csv", "valid": "val.csv", "test": "test.csv"},
    ),
}  # fmt: skip
VALID_SHARE = 0.1  # taken from training where a dataset has no validation split


def load_public_texts(name: str, seed: int = 0) -> Task:
    """Load a public text dataset: from COURSE_DATA_MIRROR if set, otherwise from the hub."""
    spec = PUBLIC_TEXTS[name]
    mirror = assets.data_mirror()
    rows = _mirror_rows(mirror / spec.folder, spec) if mirror else _hub_rows(name, spec)
    if not any(row["split"] == "valid" for row in rows):
        train = [row for row in rows if row["split"] == "train"]
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(train), generator=generator)[: int(VALID_SHARE * len(train))]
        for i in chosen.tolist():
            train[i]["split"] = "valid"
    return _from_rows(name, rows, spec.names)


def _in_mirror(folder: Path, file: str) -> Path:
    """A file of a dataset in the mirror, after a look at its checksum."""
    remedy = "copy the dataset again, or unset COURSE_DATA_MIRROR to download it"
    return assets.verified(folder, file, folder / "MANIFEST.sha256", remedy)


def _mirror_rows(folder: Path, spec: PublicTexts) -> list[dict[str, str]]:
    rows = []
    for split, file in spec.files.items():
        path = _in_mirror(folder, file)
        rows += [{**row, "split": split} for row in read_csv(path)]
    return rows


def _hub_rows(name: str, spec: PublicTexts) -> list[dict[str, str]]:
    with download_errors(name):
        import datasets

        datasets.disable_progress_bars()
        parts = datasets.load_dataset(spec.hub)
    own_names = {"train": "train", "validation": "valid", "test": "test"}
    return [
        {"text": row[spec.text], "label": str(row[spec.label]), "split": own_names[split]}
        for split in own_names
        if split in parts
        for row in parts[split]
    ]


class download_errors:
    """Turn the many ways in which a dataset can fail to arrive into one clear error."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, ImportError):
            raise AssetError(
                f"loading {self.name!r} needs the package {error.name}: pip install {error.name}"
            ) from error
        if isinstance(error, OSError | RuntimeError | ValueError):
            raise AssetError(
                f"the dataset {self.name!r} could not be loaded: {error}\nThe profile full needs "
                "a network (or a copy of the data that COURSE_DATA_MIRROR points to); check the "
                'connection, or set PROFILE = "quick"'
            ) from error


def load_flowers(size: int = 96, seed: int = 0) -> Task:
    """Photographs of flowers, cropped to squares of `size` pixels.

    From COURSE_DATA_MIRROR: five kinds, divided as its splits.csv says. Otherwise the Oxford
    flowers (Nilsback and Zisserman, 2008), 102 kinds, as torchvision downloads and checks them.
    """
    mirror = assets.data_mirror()
    if mirror is None:
        with download_errors("flowers"):
            return _oxford_flowers(size)
    folder = mirror / "flowers_96"
    table = _in_mirror(folder, "splits.csv")
    rows = [row for row in read_csv(table) if row["split"] in (*SPLITS, "val")]
    classes = tuple(sorted({row["label"] for row in rows}))

    def examples(*names: str) -> Examples:
        chosen = [row for row in rows if row["split"] in names]
        images = load_images((folder / "images" / row["file"] for row in chosen), size)
        return Examples(images, torch.tensor([classes.index(row["label"]) for row in chosen]))

    return Task(
        "flowers", "image", classes, examples("train"), examples("valid", "val"), examples("test")
    )


def _oxford_flowers(size: int) -> Task:
    from torchvision.datasets import Flowers102

    def examples(split: str) -> Examples:
        source = Flowers102(assets.DATA / "downloads", split=split, download=True)
        images = torch.stack([_square(image, size) for image, _ in source])
        return Examples(images, torch.tensor(source._labels))

    classes = tuple(f"flower {i + 1}" for i in range(102))
    # Its "test" split is the large one (6,149 photographs); "train" and "val" hold 1,020 each.
    return Task("flowers", "image", classes, examples("train"), examples("val"), examples("test"))


PNEUMONIA = "https://zenodo.org/records/10519652/files/pneumoniamnist.npz"
PNEUMONIA_MD5 = "28209eda62fecd6e6a2d98b1501bb15f"  # as MedMNIST publishes it


def load_pneumonia(size: int = 64) -> Task:
    """PneumoniaMNIST: children's chest radiographs of 28 pixels, healthy or with pneumonia.

    Kermany et al. (2018), shrunk by Yang et al. (2023), here enlarged to `size` pixels. From
    COURSE_DATA_MIRROR, or downloaded as MedMNIST publishes it. Training pictures that are also
    among the validation or test pictures are left out. Not for clinical use.
    """
    mirror = assets.data_mirror()
    if mirror is None:
        with download_errors("pneumonia"):
            path = _downloaded(PNEUMONIA, PNEUMONIA_MD5)
    else:
        folder = mirror / "pneumoniamnist"
        path = _in_mirror(folder, "pneumoniamnist.npz")
    with np.load(path) as file:
        found = {
            split: (file[f"{name}_images"], file[f"{name}_labels"].ravel())
            for split, name in (("train", "train"), ("valid", "val"), ("test", "test"))
        }
    images, labels = found["train"]
    others = {picture.tobytes() for split in ("valid", "test") for picture in found[split][0]}
    kept = np.array([picture.tobytes() not in others for picture in images])
    found["train"] = images[kept], labels[kept]
    parts = {split: _grey_examples(*found[split], size) for split in SPLITS}
    return Task("pneumonia", "image", RadiographSet.CLASSES, *parts.values())


def _downloaded(url: str, md5: str) -> Path:
    from torchvision.datasets.utils import download_url

    folder = assets.DATA / "downloads"
    download_url(url, str(folder), md5=md5)
    return folder / url.rpartition("/")[2]


def _grey_examples(images: np.ndarray, labels: np.ndarray, size: int) -> Examples:
    """Grey pictures (n, h, w), enlarged or shrunk, in three equal channels."""
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(images).unsqueeze(1).float(), size=(size, size), mode="bicubic",
        antialias=size < images.shape[-1],
    )  # fmt: skip
    whole = resized.round().clamp(0, 255).to(torch.uint8).repeat(1, 3, 1, 1)
    return Examples(whole, torch.from_numpy(labels).long())


def load_omniglot(size: int = 64) -> Task:
    """Handwritten characters of many alphabets, each drawn by the same 20 people.

    Lake, Salakhutdinov and Tenenbaum (2015), black on white, 105 pixels, here shrunk to `size`.
    Training pictures are by 12 of the people, validation by 3 and test by 5 others. From
    COURSE_DATA_MIRROR the "minimal" sets of 8 alphabets; otherwise the 30 of the "background"
    set, as torchvision downloads and checks them.
    """
    mirror = assets.data_mirror()
    if mirror is None:
        with download_errors("omniglot"):
            drawings = _background_omniglot()
    else:
        folder = mirror / "omniglot_small"
        path = _in_mirror(folder, "omniglot_small.npz")
        with np.load(path) as file:
            sets = [name for name in file.files if not name.endswith("_names")]
            drawings = {
                str(name): 255 * picture
                for one in sets
                for name, picture in zip(file[f"{one}_names"], file[one], strict=True)
            }
    # A name is such as "Greek/character01/0394_07.png": the seventh person's.
    names = sorted(drawings, key=lambda name: (name.rpartition("/")[0], name[-6:-4]))
    people = np.array([int(name[-6:-4]) for name in names])
    characters = [name.rpartition("/")[0] for name in names]
    classes = tuple(sorted(set(characters)))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for name in characters])
    pictures = np.stack([drawings[name] for name in names])

    def examples(first: int, last: int) -> Examples:
        rows = (people >= first) & (people <= last)
        return _grey_examples(pictures[rows], labels[rows], size)

    parts = examples(1, 12), examples(13, 15), examples(16, 20)
    return Task("omniglot", "image", classes, *parts)


def _background_omniglot() -> dict[str, np.ndarray]:
    from torchvision.datasets import Omniglot

    source = Omniglot(str(assets.DATA / "downloads"), background=True, download=True)
    return {
        f"{source._characters[label]}/{file}": np.asarray(source[number][0])
        for number, (file, label) in enumerate(source._flat_character_images)
    }


PUBLIC_IMAGES: dict[str, Callable[..., Task]] = {
    "omniglot": load_omniglot,
    "flowers": load_flowers,
    "pneumonia": load_pneumonia,
}


# --- files ----------------------------------------------------------------------------------


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with the columns "text"/"file" and "label" as dictionaries.

    Raises:
        CourseError: it is not UTF-8 or lacks a column.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise CourseError(
            f"{path} is not UTF-8 (byte {error.start} is {error.object[error.start]:#x}); save it "
            "as UTF-8, in a spreadsheet: 'CSV UTF-8'"
        ) from error
    if rows and ("label" not in rows[0] or not {"text", "file"} & set(rows[0])):
        raise CourseError(
            f"{path} has the columns {', '.join(filter(None, rows[0]))}; it needs 'label' and "
            "'text' (or 'file' for images)"
        )
    return rows


def load_images(paths: Iterable[Path], size: int) -> Tensor:
    """Read photographs as uint8 (n, 3, size, size): the middle square, resized.

    Raises:
        AssetError: a file is missing, truncated or not an image.
    """
    from PIL import Image, UnidentifiedImageError

    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                images.append(_square(image, size))
        except (
            OSError,
            UnidentifiedImageError,
            SyntaxError,
            Image.DecompressionBombError,
        ) as error:
            raise AssetError(
                f"the image {path} cannot be read ({error}); it is damaged or no image: get it "
                "again or remove it from the list"
            ) from error
    if not images:
        raise CourseError("there is no image to load: the list of paths is empty")
    return torch.stack(images)


def _square(image, size: int) -> Tensor:
    from PIL import ImageOps

    fitted = ImageOps.fit(image.convert("RGB"), (size, size))
    return torch.from_numpy(np.asarray(fitted).copy()).permute(2, 0, 1)


def _from_rows(name: str, rows: list[dict[str, str]], names: tuple[str, ...] = ()) -> Task:
    """Make a text task of rows with "text", "label", "split" and any further columns."""
    labels = sorted({row["label"] for row in rows})
    numbers = {label: i for i, label in enumerate(labels)}
    if names and set(labels) <= set(names):
        numbers = {label: i for i, label in enumerate(names)}
        labels = list(names)

    def examples(split: str) -> Examples:
        chosen = [row for row in rows if row["split"] == split]
        extra = [key for key in rows[0] if key not in ("text", "label", "split")]
        return Examples(
            [row["text"] for row in chosen],
            torch.tensor([numbers[row["label"]] for row in chosen], dtype=torch.long),
            {key: [row[key] for row in chosen] for key in extra},
        )

    classes = tuple(names) if names else tuple(labels)
    return Task(name, "text", classes, *(examples(split) for split in SPLITS))
