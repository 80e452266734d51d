"""From stored pixels to what a network sees: scaling, and the warps of the `paper` protocol.

Parameters of a warp are drawn per image, then applied in bulk. Rotation and crop are one bilinear
warp here; the reference rotates by nearest neighbour first.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from rdkit_vae.datasets.images import Pixels
from rdkit_vae.trial import PROTOCOLS, Trial

_DEGREES, _SCALE, _RATIO, _TRIES = 10.0, (0.9, 1.0), (0.9, 1.1), 10


def to_unit(pixels: Pixels, levels: int, device: torch.device) -> Tensor:
    """uint8 pixels to float32 in [0, 1] on the device; shape kept."""
    return torch.from_numpy(np.array(pixels)).to(device).float().div_(levels - 1)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """`draw(rng, n)` gives (n, ...) parameters; `apply(x, parameters)` warps (n, C, H, W)."""

    draw: Callable[[np.random.Generator, int], npt.NDArray[np.float32]]
    apply: Callable[[Tensor, Tensor], Tensor]


def _draw_affine(rng: np.random.Generator, n: int) -> npt.NDArray[np.float32]:
    """Rotation by +-10 degrees, then a crop of 0.9-1 of the area at ratio 0.9-1.1: (n, 2, 3)."""
    angle = np.deg2rad(rng.uniform(-_DEGREES, _DEGREES, n))
    area = rng.uniform(*_SCALE, (n, _TRIES))
    ratio = np.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1]), (n, _TRIES)))
    widths, heights = np.sqrt(area * ratio), np.sqrt(area / ratio)
    fits = (widths <= 1) & (heights <= 1)
    chosen = np.arange(n), fits.argmax(axis=1)  # the first try that fits
    width = np.where(fits.any(axis=1), widths[chosen], 1.0)
    height = np.where(fits.any(axis=1), heights[chosen], 1.0)
    x = rng.uniform(-1, 1, n) * (1 - width)  # centre of the crop; the image spans [-1, 1]
    y = rng.uniform(-1, 1, n) * (1 - height)
    cos, sin = np.cos(angle), np.sin(angle)
    rows = [
        [cos * width, -sin * height, cos * x - sin * y],
        [sin * width, cos * height, sin * x + cos * y],
    ]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1).astype(np.float32)


def _apply_affine(x: Tensor, theta: Tensor) -> Tensor:
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _draw_flip(rng: np.random.Generator, n: int) -> npt.NDArray[np.float32]:
    return rng.integers(0, 2, n).astype(np.float32)


def _apply_flip(x: Tensor, flips: Tensor) -> Tensor:
    return torch.where(flips[:, None, None, None] > 0, x.flip(3), x)


# The datasets for which the paper names a warp; on others the protocol warps nothing.
AUGMENTATIONS: Mapping[str, Augmentation] = {
    "mnist": Augmentation(draw=_draw_affine, apply=_apply_affine),
    "celeba": Augmentation(draw=_draw_flip, apply=_apply_flip),
}


def augmentation_of(trial: Trial) -> Augmentation | None:
    """The warp of a trial's protocol on its dataset; None where it has none."""
    return AUGMENTATIONS.get(trial.dataset) if PROTOCOLS[trial.protocol].augments else None
