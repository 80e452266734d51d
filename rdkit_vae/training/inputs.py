"""From stored pixels to network inputs: scaling, and the augmentations of the `paper` protocol.

The parameters of an augmentation are computed from uniform random numbers and applied to many
images at once. Rotation and crop are one bilinear warp here. The reference code first rotates to
the nearest pixel and then crops at whole pixels, so its images are less smooth and harder to model.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rdkit_vae.config.foreign import Subject
from rdkit_vae.datasets.images import Images
from rdkit_vae.models import Shape

_DEGREES, _SCALE, _RATIO, _TRIES = 10.0, (0.9, 1.0), (0.9, 1.1), 10


def to_unit(pixels: Tensor, levels: int) -> Tensor:
    """Converts uint8 pixels to float32 in [0, 1], of the same shape and on the same device."""
    return pixels.float().div_(levels - 1)


class Split:
    """A split to take batches from; copied to the GPU if it fits there.

    Otherwise it stays where it is, mapped from a file or shared, and only batches are copied.

    Attributes:
        place: the device on which `take` expects positions.
    """

    def __init__(self, images: Images, split: str, device: torch.device) -> None:
        self._stored, self._device = images.split(split), device
        self._on_gpu: Tensor | None = None
        self.place = torch.device("cpu")
        if device.type == "cuda" and self._stored.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
            self._on_gpu, self.place = torch.from_numpy(np.array(self._stored)).to(device), device

    def take(self, positions: Tensor) -> Tensor:
        """Returns the uint8 images at `positions` of shape S on the device: S + (C, H, W)."""
        if self._on_gpu is not None:
            return self._on_gpu[positions]
        taken = torch.from_numpy(self._stored[positions.numpy()])
        if self._device.type == "cuda":  # the copy does not wait for earlier steps
            return taken.pin_memory().to(self._device, non_blocking=True)
        return taken


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A random warp of images.

    Attributes:
        numbers: U, the count of uniform random numbers per image.
        parameters: maps (n, U) float64 numbers in [0, 1) to the float32 parameters (n, ...).
        apply: warps (n, C, H, W) images by their parameters.
    """

    numbers: int
    parameters: Callable[[Tensor], Tensor]
    apply: Callable[[Tensor, Tensor], Tensor]


def _affine(numbers: Tensor) -> Tensor:
    """Rotates by up to 10 degrees and crops to 0.9-1 of the area at ratio 0.9-1.1: (n, 2, 3)."""
    angles, areas, ratios, places = torch.split(numbers, [1, _TRIES, _TRIES, 2], dim=1)
    angle = math.radians(_DEGREES) * (2 * angles[:, 0] - 1)
    area = _SCALE[0] + (_SCALE[1] - _SCALE[0]) * areas
    low, high = math.log(_RATIO[0]), math.log(_RATIO[1])
    ratio = (low + (high - low) * ratios).exp()
    widths, heights = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    chosen = fits.byte().argmax(dim=1, keepdim=True)  # the first try that fits
    whole = fits.any(dim=1).logical_not()  # where no try fits
    width = widths.gather(1, chosen)[:, 0].masked_fill(whole, 1.0)
    height = heights.gather(1, chosen)[:, 0].masked_fill(whole, 1.0)
    x = (2 * places[:, 0] - 1) * (1 - width)  # centre of the crop; the image spans [-1, 1]
    y = (2 * places[:, 1] - 1) * (1 - height)
    cos, sin = angle.cos(), angle.sin()
    across = torch.stack([cos * width, -sin * height, cos * x - sin * y], dim=1)
    down = torch.stack([sin * width, cos * height, sin * x + cos * y], dim=1)
    return torch.stack([across, down], dim=1).float()


def _apply_affine(x: Tensor, theta: Tensor) -> Tensor:
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _flip(numbers: Tensor) -> Tensor:
    """Decides for each image whether to flip it, with probability 1/2: (n,)."""
    return (numbers[:, 0] < 0.5).float()


def _apply_flip(x: Tensor, flips: Tensor) -> Tensor:
    return torch.where(flips[:, None, None, None] > 0, x.flip(3), x)


# By `config.trial.Warp.dataset`.
AUGMENTATIONS: Mapping[str, Augmentation] = {
    "mnist": Augmentation(numbers=3 + 2 * _TRIES, parameters=_affine, apply=_apply_affine),
    "celeba": Augmentation(numbers=1, parameters=_flip, apply=_apply_flip),
}


def augmentation_of(trial: Subject, shape: Shape) -> Augmentation | None:
    """Returns the augmentation of images of a shape; None if the trial's protocol has none.

    Raises:
        BadInput: the protocol augments, but not images of this shape.
    """
    warp = trial.warp(shape)
    return AUGMENTATIONS[warp.dataset] if warp else None
