"""From bytes to what a network expects: normalised pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PixelStatistics:
    """Mean and standard deviation of each colour (0 to 1) in the data of pre-training."""

    mean: tuple[float, float, float] = (0.507, 0.487, 0.441)
    std: tuple[float, float, float] = (0.267, 0.256, 0.276)

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) → float of mean about 0 and deviation about 1, channels last."""
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
        x = images.contiguous(memory_format=torch.channels_last)
        return (x.float() - 255 * mean) / (255 * std)

    def denormalize(self, x: Tensor) -> Tensor:
        """The inverse, for showing pictures: float (B, 3, H, W) → uint8."""
        mean = torch.tensor(self.mean, device=x.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=x.device).view(3, 1, 1)
        return ((x * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


IMAGENET = PixelStatistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
