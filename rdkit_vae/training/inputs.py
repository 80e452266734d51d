"""From stored pixels to what a network sees: scaling, and the warps of the `paper` protocol.

A warp's parameters follow from uniform numbers, some for each image, and are applied in bulk.
Rotation and crop are one bilinear warp here; the reference rotates to the nearest pixel first, and
crops at whole ones, so its images are less smooth, and harder.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rdkit_vae.config.trial import Trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.models import Shape

_DEGREES, _SCALE, _RATIO, _TRIES = 10.0, (0.9, 1.0), (0.9, 1.1), 10


def to_unit(pixels: Tensor, levels: int) -> Tensor:
    """uint8 pixels to float32 in [0, 1]; shape and device kept."""
    return pixels.float().div_(levels - 1)


class Split:
    """A split as a place to take batches from: on a GPU if it fits there, else where it is.

    The split itself is mapped from a file, or shared; only batches of it are ever copied, but for
    the one copy that a GPU holds.

    Attributes:
        place: the device of the positions to take.
    """

    def __init__(self, images: Images, split: str, device: torch.device) -> None:
        self._stored, self._device = images.split(split), device
        self._held: Tensor | None = None
        self.place = torch.device("cpu")
        if device.type == "cuda" and self._stored.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
            self._held, self.place = torch.from_numpy(np.array(self._stored)).to(device), device

    def take(self, positions: Tensor) -> Tensor:
        """The uint8 images at `positions`, of any shape S, on the device: S + (C, H, W)."""
        if self._held is not None:
            return self._held[positions]
        taken = torch.from_numpy(self._stored[positions.numpy()])
        if self._device.type == "cuda":  # the copy is queued behind the steps before it
            return taken.pin_memory().to(self._device, non_blocking=True)
        return taken


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A random warp of images.

    Attributes:
        numbers: U, how many uniform numbers of [0, 1) it takes for an image.
        parameters: (n, U) numbers, float64, to the float32 parameters (n, ...) of n warps.
        apply: warps (n, C, H, W) images by their parameters.
    """

    numbers: int
    parameters: Callable[[Tensor], Tensor]
    apply: Callable[[Tensor, Tensor], Tensor]


def _affine(numbers: Tensor) -> Tensor:
    """Rotation by +-10 degrees, then a crop of 0.9-1 of the area at ratio 0.9-1.1: (n, 2, 3)."""
    angles, areas, ratios, places = torch.split(numbers, [1, _TRIES, _TRIES, 2], dim=1)
    angle = math.radians(_DEGREES) * (2 * angles[:, 0] - 1)
    area = _SCALE[0] + (_SCALE[1] - _SCALE[0]) * areas
    low, high = math.log(_RATIO[0]), math.log(_RATIO[1])
    ratio = (low + (high - low) * ratios).exp()
    widths, heights = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    chosen = fits.byte().argmax(dim=1, keepdim=True)  # the first try that fits
    whole = fits.any(dim=1).logical_not()  # where none does
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
    """Whether to flip, (n,): one half are."""
    return (numbers[:, 0] < 0.5).float()


def _apply_flip(x: Tensor, flips: Tensor) -> Tensor:
    return torch.where(flips[:, None, None, None] > 0, x.flip(3), x)


# By the dataset for which the paper names a warp; see `config.trial.WARPS`.
AUGMENTATIONS: Mapping[str, Augmentation] = {
    "mnist": Augmentation(numbers=3 + 2 * _TRIES, parameters=_affine, apply=_apply_affine),
    "celeba": Augmentation(numbers=1, parameters=_flip, apply=_apply_flip),
}


def augmentation_of(trial: Trial, shape: Shape) -> Augmentation | None:
    """The warp of a trial's protocol for images of a shape; None where it does not warp.

    Raises:
        BadInput: it warps, and has no warp for them.
    """
    warp = trial.warp(shape)
    return AUGMENTATIONS[warp.dataset] if warp else None
