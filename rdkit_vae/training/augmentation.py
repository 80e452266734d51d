"""The augmentations of the `paper` protocol, for many images at once.

The paper's reference code applies torchvision's transforms to 8-bit images, which Pillow computes
in whole numbers. `mnist` follows that arithmetic to the last bit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rdkit_vae.config.foreign import Subject
from rdkit_vae.models import Shape

_DEGREES, _SCALE, _RATIO, _TRIES = 10.0, (0.9, 1.0), (0.9, 1.1), 10
_ROTATION_BITS = 16  # after the binary point, of coordinates in Pillow's rotation
_WEIGHT_BITS = 22  # of weights in Pillow's resizing


def to_unit(pixels: Tensor, levels: int) -> Tensor:
    """Converts uint8 pixels to float32 in [0, 1], of the same shape and on the same device."""
    return pixels.float().div_(levels - 1)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A random warp of images.

    Attributes:
        numbers: U, the count of uniform random numbers per image.
        parameters: maps (n, U) float64 numbers in [0, 1) and the shape of the images to the
            parameters (n, ...).
        inputs: maps (n, C, H, W) uint8 pixels, their number of levels and the parameters to warped
            float32 images in [0, 1].
        keeps_levels: whether the warped pixels are grey levels again.
    """

    numbers: int
    parameters: Callable[[Tensor, Shape], Tensor]
    inputs: Callable[[Tensor, int, Tensor], Tensor]
    keeps_levels: bool = True


def _rotation_and_crop(numbers: Tensor, shape: Shape) -> Tensor:
    """Draws rotations and crops as torchvision does: (n, 10) whole numbers, for `rotated` (6) and
    `resized_crop` (4)."""
    angles, areas, ratios, places = torch.split(numbers, [1, _TRIES, _TRIES, 2], dim=1)
    box = crop_of(areas, ratios, places, shape)
    return torch.cat([rotation_of(_DEGREES * (2 * angles[:, 0] - 1), shape), box], dim=1)


def rotation_of(degrees: Tensor, shape: Shape) -> Tensor:
    """Returns the affine maps of rotations about the centre, counterclockwise, in fixed point.

    Args:
        degrees: (n,) float64.
        shape: C, H, W.

    Returns:
        (n, 6) int32 coefficients (a, b, c, d, e, f) in 2^-16 pixels: the pixel in column x and row
        y comes from column ax + by + c and row dx + ey + f.
    """
    _, height, width = shape
    radians = -torch.deg2rad(degrees)
    cos, sin = radians.cos(), radians.sin()
    x, y = width / 2, height / 2  # the centre stays where it is
    c, f = x - cos * x - sin * y, y + sin * x - cos * y
    # Coordinates are those of the middle of a pixel.
    fixed = [cos, sin, c + (cos + sin) / 2, -sin, cos, f + (cos - sin) / 2]
    return torch.stack(fixed, dim=1).mul(2**_ROTATION_BITS).add(0.5).floor().int()


def crop_of(areas: Tensor, ratios: Tensor, places: Tensor, shape: Shape) -> Tensor:
    """Returns crops of 0.9-1 of the area with a ratio of width to height of 0.9-1.1.

    Args:
        areas, ratios: (n, 10) uniform numbers; the first pair whose crop fits is used.
        places: (n, 2) uniform numbers, for top and left.
        shape: C, H, W.

    Returns:
        (n, 4) int32: top, left, height and width in pixels. Where no pair fits, the largest central
        crop of a ratio of 0.9-1.1.
    """
    _, height, width = shape
    area = height * width * (_SCALE[0] + (_SCALE[1] - _SCALE[0]) * areas)
    low, high = math.log(_RATIO[0]), math.log(_RATIO[1])
    ratio = (low + (high - low) * ratios).exp()
    sides = torch.stack([(area / ratio).sqrt().round(), (area * ratio).sqrt().round()], dim=2)
    whole = torch.tensor([height, width], device=areas.device)
    fits = ((sides > 0) & (sides <= whole)).all(dim=2)
    first = fits.byte().argmax(dim=1)[:, None, None].expand(-1, 1, 2)
    chosen = sides.gather(1, first)[:, 0]  # (n, 2)
    offset = (places * (whole - chosen + 1)).floor()
    central = torch.tensor(_central(height, width), device=areas.device, dtype=chosen.dtype)
    box = torch.cat([offset, chosen], dim=1)
    return torch.where(fits.any(dim=1, keepdim=True), box, central).int()


def _central(height: int, width: int) -> tuple[int, int, int, int]:
    rows, columns = height, width
    if width / height < _RATIO[0]:
        rows = round(width / _RATIO[0])
    elif width / height > _RATIO[1]:
        columns = round(height * _RATIO[1])
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def rotated(pixels: Tensor, maps: Tensor) -> Tensor:
    """Rotates images to the nearest pixel; the corners become 0.

    Args:
        pixels: (n, C, H, W) uint8.
        maps: (n, 6) as `rotation_of` returns.
    """
    height, width = pixels.shape[2:]
    x = torch.arange(width, device=pixels.device, dtype=torch.int32)
    y = torch.arange(height, device=pixels.device, dtype=torch.int32)[:, None]
    a, b, c, d, e, f = maps[..., None, None].unbind(1)  # (n, 1, 1) each
    column = (a * x + (b * y + c)).bitwise_right_shift_(_ROTATION_BITS)  # (n, H, W)
    row = (d * x + (e * y + f)).bitwise_right_shift_(_ROTATION_BITS)
    # A border of zeros, to which all places outside the image are moved
    bordered = F.pad(pixels, (1, 1, 1, 1)).flatten(2)
    source = row.clamp_(-1, height).add_(1).mul_(width + 2).add_(column.clamp_(-1, width)).add_(1)
    source = source.flatten(1)[:, None].long().expand(-1, pixels.shape[1], -1)
    return bordered.gather(2, source).view_as(pixels)


def resized_crop(pixels: Tensor, boxes: Tensor) -> Tensor:
    """Enlarges crops to the size of their images, bilinearly, and rounds them to whole levels.

    A crop is never larger than its image, so antialiasing changes nothing.

    Args:
        pixels: (n, C, H, W) uint8.
        boxes: (n, 4) as `crop_of` returns.
    """
    top, left, height, width = boxes.unbind(1)
    return _enlarged(_enlarged(pixels, left, width, 3), top, height, 2)


def _enlarged(pixels: Tensor, start: Tensor, length: Tensor, dim: int) -> Tensor:
    """Enlarges a part of an axis of images to the whole axis."""
    size = pixels.shape[dim]
    place = torch.arange(size, device=pixels.device, dtype=torch.float64) + 0.5
    centre = place * (length[:, None].double() / size)  # (n, size), in the crop
    first = (centre - 0.5).int()  # rounds towards 0, which stays in the crop
    last = torch.minimum(first + 1, length[:, None] - 1)
    at_end = (centre < 0.5) | (last == first)  # where a single pixel has all the weight
    weight = torch.where(at_end, 1.0, first + 1.5 - centre)
    near = (weight * 2**_WEIGHT_BITS + 0.5).int()
    far = ((1 - weight) * 2**_WEIGHT_BITS + 0.5).int()
    sides = [1] * pixels.dim()
    sides[0], sides[dim] = near.shape

    def taken(position: Tensor) -> Tensor:
        index = (start[:, None] + position).long().view(sides).expand_as(pixels)
        return pixels.gather(dim, index).int()

    total = taken(first).mul_(near.view(sides)).add_(1 << (_WEIGHT_BITS - 1))
    total += taken(last).mul_(far.view(sides))
    return total.bitwise_right_shift_(_WEIGHT_BITS).to(torch.uint8)


def _rotated_and_cropped(pixels: Tensor, levels: int, parameters: Tensor) -> Tensor:
    maps, boxes = torch.split(parameters, [6, 4], dim=1)
    return to_unit(resized_crop(rotated(pixels, maps), boxes), levels)


def _bilinear_map(numbers: Tensor, shape: Shape) -> Tensor:
    """Draws a rotation and a crop, together as one affine map of [-1, 1] x [-1, 1]: (n, 2, 3)."""
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


def _bilinearly_warped(pixels: Tensor, levels: int, theta: Tensor) -> Tensor:
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(to_unit(pixels, levels), grid, align_corners=False)


def _flips(numbers: Tensor, shape: Shape) -> Tensor:
    """Decides for each image whether to flip it, with probability 1/2: (n,)."""
    return numbers[:, 0] < 0.5


def _flipped(pixels: Tensor, levels: int, flips: Tensor) -> Tensor:
    return to_unit(torch.where(flips[:, None, None, None], pixels.flip(3), pixels), levels)


# By the names that `Trial.warp` returns.
AUGMENTATIONS: Mapping[str, Augmentation] = {
    "mnist": Augmentation(
        numbers=3 + 2 * _TRIES, parameters=_rotation_and_crop, inputs=_rotated_and_cropped
    ),
    "celeba": Augmentation(numbers=1, parameters=_flips, inputs=_flipped),
    "mnist-bilinear": Augmentation(
        numbers=3 + 2 * _TRIES,
        parameters=_bilinear_map,
        inputs=_bilinearly_warped,
        keeps_levels=False,
    ),
}


def augmentation_of(trial: Subject, shape: Shape) -> Augmentation | None:
    """Returns the augmentation of images of a shape; None if the trial has none.

    Raises:
        BadInput: as for `Trial.warp`.
    """
    warp = trial.warp(shape)
    return AUGMENTATIONS[warp] if warp else None
