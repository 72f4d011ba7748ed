"""Pre-train the embedded image models on CIFAR-100 photographs enlarged to 64 pixels.

    python data/models/pretrain_images.py resnet18 --work build/resnet18
    python data/models/pretrain_images.py vgg11 --work build/vgg11

A run is resumable: stop it at any time and start it again with the same command. It ends
by writing `model.safetensors` (half precision) and `result.json` into the model's folder.

Data: the folder `cifar100_q95` of $COURSE_DATA_MIRROR (sheets of 32x32 tiles) where there is
one, otherwise torchvision's own download of CIFAR-100 (Krizhevsky, 2009).

Two things make it affordable on a laptop's processor:

* progressive resizing (Howard, 2018): most epochs see small pictures, the last ones 64 px;
* the last stage works on 2x2 maps, where a padded convolution mostly multiplies zeros and
  the library's kernel is slow; `UnfoldedConv` computes the same numbers by one matrix product.

On glibc, keeping freed memory in the process is worth another tenth:
    MALLOC_MMAP_THRESHOLD_=17179869184 MALLOC_TRIM_THRESHOLD_=17179869184
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from course_utils.models import small_vgg11

HERE = Path(__file__).parent
BATCH_SIZE = 128
WARMUP = 0.1  # fraction of all steps
WEIGHT_DECAY = 5e-4
LABEL_SMOOTHING = 0.1
MEAN = (0.507, 0.487, 0.441)
STD = (0.267, 0.256, 0.276)


class UnfoldedConv(nn.Conv2d):
    """A 3x3 convolution as one matrix product: faster where the maps are tiny."""

    def forward(self, x):
        height, width = (-(-size // self.stride[0]) for size in x.shape[2:])
        patches = F.unfold(x, 3, padding=1, stride=self.stride).transpose(1, 2)
        out = patches.reshape(-1, patches.shape[2]) @ self.weight.flatten(1).T
        return out.view(len(x), height, width, -1).permute(0, 3, 1, 2)


def load_cifar100(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uint8 images of shape (n, 3, 32, 32) and labels of shape (n,)."""
    mirror = Path(os.environ.get("COURSE_DATA_MIRROR", "../shared/data")) / "cifar100_q95"
    if not mirror.is_dir():
        dataset = torchvision.datasets.CIFAR100(
            HERE / "download", train=split == "train", download=True
        )
        return torch.from_numpy(dataset.data).permute(0, 3, 1, 2), torch.tensor(dataset.targets)
    classes = (mirror / "classes.txt").read_text().split()
    sheets = [np.asarray(Image.open(mirror / split / f"{name}.jpg")) for name in classes]
    tiles = [s.reshape(-1, 32, 20, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3) for s in sheets]
    images = torch.from_numpy(np.concatenate(tiles)).permute(0, 3, 1, 2).contiguous()
    return images, torch.arange(len(classes)).repeat_interleave(len(tiles[0]))


def prepare(images: torch.Tensor, size: int) -> torch.Tensor:
    """Enlarge uint8 images to `size` pixels and normalise them."""
    x = images.float() / 255
    x = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    if size != x.shape[-1]:
        x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    return x.contiguous(memory_format=torch.channels_last)


def augment(images: torch.Tensor, flip: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift each image by up to 4 pixels and mirror those that `flip` marks."""
    images = torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
    padded = F.pad(images.float(), (4, 4, 4, 4), mode="reflect").to(torch.uint8)
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)  # (n, 3, 9, 9, 32, 32), a view
    dy, dx = torch.randint(0, 9, (2, len(images)), generator=generator)
    return windows[torch.arange(len(images)), :, dy, dx]


def warmup_and_decay(progress: float) -> float:
    """Share of the peak rate: linear warm-up, then linear decay; `progress` is from 0 to 1."""
    return min(progress / WARMUP, (1 - progress) / (1 - WARMUP))


def resnet18() -> nn.Module:
    model = torchvision.models.resnet18(num_classes=100, zero_init_residual=True)
    for module in model.layer4.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.__class__ = UnfoldedConv
    return model


@dataclass(frozen=True)
class Network:
    """How one of the models is made."""

    build: Callable[[], nn.Module]
    folder: str
    """Beside this file."""
    sizes: list[int]
    """Picture size in pixels, one entry an epoch."""
    learning_rate: float
    """Peak."""


NETWORKS = {
    "resnet18": Network(resnet18, "resnet18_cifar100", [32] * 6 + [48] * 8 + [64] * 5, 0.15),
    "vgg11": Network(lambda: small_vgg11(100), "vgg11_cifar100",
                     [32] * 6 + [48] * 3 + [64], 0.05),
}  # fmt: skip


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, size: int) -> float:
    model.eval()
    batches = zip(images.split(500), labels.split(500), strict=True)
    hits = sum((model(prepare(x, size)).argmax(1) == y).sum().item() for x, y in batches)
    return hits / len(labels)


def write_card(result: dict, card: Path) -> None:
    """Put the measured result into the model card."""
    line = (
        f"{100 * result['test_accuracy']:.1f} % of the 10,000 test photographs right (weights in "
        f"half precision, seed {result['seed']}, one run), after {result['epochs']} epochs in "
        f"{result['seconds'] / 60:.0f} minutes on {result['hardware']}, torch {result['torch']}."
    )
    before, _, rest = card.read_text(encoding="utf-8").partition("<!-- result -->\n")
    after = rest.partition("<!-- end of result -->\n")[2]
    text = f"{before}<!-- result -->\n{line}\n<!-- end of result -->\n{after}"
    card.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--work", type=Path, required=True, help="folder for the state of the run")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    state_file = args.work / "state.pt"
    network = NETWORKS[args.network]
    sizes, folder = network.sizes, HERE / network.folder

    torch.manual_seed(args.seed)
    images, labels = load_cifar100("train")
    model = network.build().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.0, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    first_flip = torch.rand(len(images), generator=torch.Generator().manual_seed(args.seed)) < 0.5
    first_epoch, seconds = 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first_epoch, seconds = state["epoch"], state["seconds"]
        print(f"resuming after epoch {first_epoch}", flush=True)

    steps_an_epoch = len(images) // BATCH_SIZE
    for epoch in range(first_epoch, len(sizes)):
        model.train()
        generator = torch.Generator().manual_seed(1000 * args.seed + epoch)
        order = torch.randperm(len(images), generator=generator)
        start, losses = time.time(), []
        for step in range(steps_an_epoch):
            chosen = order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]
            flip = first_flip[chosen] ^ bool(epoch % 2)  # each image mirrored every other epoch
            x = prepare(augment(images[chosen], flip, generator), sizes[epoch])
            done = (epoch * steps_an_epoch + step) / (len(sizes) * steps_an_epoch)
            rate = network.learning_rate * warmup_and_decay(done)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = F.cross_entropy(model(x), labels[chosen], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            if step % 50 == 0:
                average = torch.stack(losses[-50:]).mean()
                print(f"  epoch {epoch + 1} step {step} loss {average:.3f}", flush=True)
        seconds += time.time() - start
        print(
            f"epoch {epoch + 1}/{len(sizes)} at {sizes[epoch]} px: "
            f"loss {torch.stack(losses).mean():.3f}, {seconds:.0f} s in all",
            flush=True,
        )
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": epoch + 1,
            "seconds": seconds,
        }
        torch.save(state, args.work / "state.tmp")
        (args.work / "state.tmp").replace(state_file)

    half = {name: value.half() if value.is_floating_point() else value
            for name, value in model.state_dict().items()}  # fmt: skip
    model.load_state_dict(half)  # measure what is shipped
    result = {
        "test_accuracy": accuracy(model, *load_cifar100("test"), sizes[-1]),
        "epochs": len(sizes),
        "seed": args.seed,
        "seconds": round(seconds),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
    }
    tensors = {name: value.contiguous() for name, value in half.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"result": json.dumps(result)})
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    write_card(result, folder / "README.md")
    print(result)


if __name__ == "__main__":
    main()
