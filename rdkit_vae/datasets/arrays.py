"""Images from arrays, tensors and datasets of PyTorch. Never imports torch itself."""

import math
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rdkit_vae.datasets.images import Images, Pixels, split_by_rule
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.pixels import Number
from rdkit_vae.pixels import pixel_range as read_range

Array = npt.NDArray[Any]
MOST_LEVELS = 256
_EXACT = 1e-6  # the distance from a grey level at which a float is on it
_BLOCK = 2**21  # values that are converted at once


class RoundedPixels(UserWarning):
    """Float pixels that lie between the grey levels were rounded to them."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How numbers become grey levels: x = shift + scale y is in [0, 1], and levels - 1 is white.

    Attributes:
        shift, scale: a number, or one per channel, of shape (C, 1, 1).
        levels: number of grey levels.
    """

    shift: Array | float = 0.0
    scale: Array | float = 1.0
    levels: int = MOST_LEVELS

    @property
    def is_unit(self) -> bool:
        """Whether the numbers are in [0, 1] themselves."""
        return bool(np.all(np.equal(self.shift, 0)) and np.all(np.equal(self.scale, 1)))


def images_from_data(
    train: Any,
    test: Any = None,
    *,
    name: str,
    levels: int | None = None,
    pixel_range: tuple[Number, Number] = (0, 1),
) -> Images:
    """`Images.from_data`."""
    if levels is None:
        kinds = {_kind(data) for data in (train, test) if data is not None}
        levels = 2 if kinds == {"bool"} else MOST_LEVELS
    if not isinstance(levels, int) or not 2 <= levels <= MOST_LEVELS:
        raise BadInput(f"levels must be a whole number from 2 to {MOST_LEVELS}, got {levels!r}")
    scale = _scale(pixel_range, levels)
    if test is None:
        return split_by_rule(name, _converted(train, scale, name), levels=levels)
    return Images(
        name=name,
        train=_converted(train, scale, f"{name}, train"),
        test=_converted(test, scale, f"{name}, test"),
        levels=levels,
        split_rule="train and test as they were given",
    )


def as_pixels(array: Any) -> Pixels:
    """Converts an array of images to uint8 (N, C, H, W).

    Floats in [0, 1] are rounded to 256 levels.

    Args:
        array: (N, H, W), (N, H, W, C) or (N, C, H, W) with C from 1 to 4.

    Raises:
        BadData: the shape or type does not fit, or a float is outside [0, 1].
    """
    if not isinstance(array, np.ndarray):
        raise BadData("holds something that is not an array")
    pixels, _ = _pixels(array, Scale())
    _check_visible(pixels, array.dtype, MOST_LEVELS)
    return pixels


def _kind(data: Any) -> str:
    """The type of the numbers of an array or tensor; "" for anything else."""
    return str(getattr(data, "dtype", "")).removeprefix("torch.")


def _scale(given: tuple[Number, Number], levels: int) -> Scale:
    """How numbers in a `pixel_range` become grey levels."""
    own = read_range(given)
    shift, scale = (
        np.array(numbers).reshape(-1, 1, 1) if len(numbers) > 1 else numbers[0]
        for numbers in (own.shift, own.scale)
    )
    return Scale(shift=shift, scale=scale, levels=levels)


def _converted(data: Any, scale: Scale, what: str) -> Pixels:
    """The pixels of an array, a tensor or a dataset; warns if they had to be rounded."""
    try:
        if isinstance(data, np.ndarray) or _is_tensor(data):
            array = data if isinstance(data, np.ndarray) else _from_tensor(data)
            pixels, rounding = _pixels(array, scale, is_torch=array is not data)
            _check_visible(pixels, array.dtype, scale.levels)
        else:
            pixels, rounding = _from_dataset(data, scale)
    except BadData as error:
        raise BadData(f"{what}: {error}") from None
    if rounding:
        warnings.warn(
            f"{what}: float pixels between the {scale.levels} grey levels were rounded to them, by "
            f"{rounding:.2g} at most",
            RoundedPixels,
            stacklevel=4,  # the caller of `Images.from_data`
        )
    return pixels


def _is_tensor(data: Any) -> bool:
    torch = sys.modules.get("torch")  # loaded, if anyone has a tensor
    return torch is not None and isinstance(data, torch.Tensor)


def _from_tensor(tensor: Any) -> Array:
    """The numbers of a tensor on any device; in place, if it is on the CPU."""
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":  # which NumPy does not have
        tensor = tensor.float()
    array: Array = tensor.numpy()
    return array


def _from_dataset(data: Any, scale: Scale) -> tuple[Pixels, float]:
    """The images of anything with a length and items."""
    try:
        count = len(data)
    except (TypeError, NotImplementedError):
        raise BadData(
            f"{type(data).__name__} is no array or tensor and has no length; collect its images "
            "in an array first"
        ) from None
    if not count:
        raise BadData(f"{type(data).__name__} is empty")
    out: Pixels | None = None
    start, largest = 0, 0.0
    for images, is_torch in _blocks_of_items(data, count):
        pixels, rounding = _pixels(images, scale, is_torch=is_torch, start=start)
        if out is None:
            out = np.empty((count, *pixels.shape[1:]), np.uint8)
        out[start : start + len(pixels)] = pixels
        start, largest = start + len(pixels), max(largest, rounding)
    assert out is not None
    _check_visible(out, images.dtype, scale.levels)
    return out, largest


def _blocks_of_items(data: Any, count: int) -> Iterator[tuple[Array, bool]]:
    """Stacks of images, all of one shape and type, and whether they are tensors."""
    first, is_torch = _image(data, 0)
    step = max(1, _BLOCK // max(1, first.size))
    for start in range(0, count, step):
        images = []
        for index in range(start, min(start + step, count)):
            image, is_torch = _image(data, index)
            if (image.shape, image.dtype) != (first.shape, first.dtype):
                raise BadData(
                    f"image {index} is {_shape(image.shape)} {image.dtype}, but image 0 is "
                    f"{_shape(first.shape)} {first.dtype}; they must all be alike"
                )
            images.append(image)
        yield np.stack(images), is_torch


def _image(data: Any, index: int) -> tuple[Array, bool]:
    """The image in an item, without its label, and whether it is a tensor."""
    try:
        item = data[index]
    except (NotImplementedError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise BadData(f"{type(data).__name__} gives no item {index} ({reason})") from error
    image = item[0] if isinstance(item, (tuple, list)) and len(item) else item
    if _is_tensor(image):
        array, is_torch = _from_tensor(image), True
    elif isinstance(image, np.ndarray):
        array, is_torch = image, False
    else:
        array, is_torch = _from_picture(image, index), False
    if array.ndim not in (2, 3):
        raise BadData(
            f"image {index} has the shape {_shape(array.shape)}; it must have 2 or 3 axes"
        )
    return array, is_torch


def _from_picture(image: Any, index: int) -> Pixels:
    """The pixels of an image of Pillow, as they would be read from a file."""
    from PIL import Image

    from rdkit_vae.datasets.decode import COLOUR, GREY

    if not isinstance(image, Image.Image):
        raise BadData(
            f"item {index} holds a {type(image).__name__}; it must be an image or (image, label, "
            "...), with a tensor, an array or a Pillow image"
        )
    if image.mode not in GREY | COLOUR:
        raise BadData(f"image {index} has mode {image.mode}, which is not 8 bits per channel")
    return np.asarray(image.convert("L" if image.mode in GREY else "RGB"), dtype=np.uint8)


def _pixels(
    array: Array, scale: Scale, *, is_torch: bool = False, start: int = 0
) -> tuple[Pixels, float]:
    """Converts an array of images to levels (N, C, H, W); uint8 is not copied if need not be.

    Args:
        is_torch: where two axes could be the channels, whether they are the first, as in PyTorch.
        start: the number of the first image, for messages.

    Returns:
        The pixels, and by how much floats were rounded at most (0: all were on levels).
    """
    array = _channels_first(array, is_torch)
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
        return (array if scale.levels == 2 else array * np.uint8(scale.levels - 1)), 0.0
    if array.dtype == np.uint8:
        if scale.levels < MOST_LEVELS and array.max() >= scale.levels:
            raise BadData(
                f"uint8 images of {scale.levels} levels are 0 to {scale.levels - 1}, got "
                f"{array.max()}"
            )
        in_place = array.flags.c_contiguous or isinstance(array, np.memmap)
        return (array if in_place else np.ascontiguousarray(array)), 0.0
    if not np.issubdtype(array.dtype, np.floating):
        raise BadData(f"array of type {array.dtype}: must be uint8, bool or float")
    out = np.empty(array.shape, np.uint8)
    step = max(1, _BLOCK // math.prod(array.shape[1:]))
    largest = 0.0
    for first in range(0, len(array), step):
        block = array[first : first + step]
        out[first : first + step], rounding = _levels(block, scale, start + first)
        largest = max(largest, rounding)
    return out, largest if largest > max(_EXACT, float(np.finfo(array.dtype).eps)) else 0.0


def _channels_first(array: Array, is_torch: bool) -> Array:
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4:
        first, last = array.shape[1] <= 4, array.shape[3] <= 4
        if first == last and not (first and is_torch):
            raise BadData(f"array of shape {array.shape}: cannot tell which axis is the channels")
        array = array if first else np.moveaxis(array, 3, 1)
    else:
        raise BadData(f"array of shape {array.shape}: must have 3 or 4 dimensions")
    if 0 in array.shape:
        raise BadData(f"array of shape {array.shape} is empty")
    return array


def _check_visible(pixels: Pixels, kind: "np.dtype[Any]", levels: int) -> None:
    if kind == np.uint8 and levels > 2 and pixels.max() <= 1:
        raise BadData(
            "uint8 images of only 0 and 1 would be black: multiply them by 255, or say levels=2"
        )


def _levels(block: Array, scale: Scale, start: int) -> tuple[Pixels, float]:
    """The grey levels nearest to floats, and the largest distance to them in [0, 1]."""
    x = block.astype(np.float64)
    if not np.isfinite(x).all():
        index = start + int(np.argmin(np.isfinite(x).all(axis=(1, 2, 3))))
        raise BadData(f"pixels must be finite, but image {index} has nan or infinite ones")
    if not scale.is_unit:
        if np.size(scale.shift) > 1 and np.size(scale.shift) != block.shape[1]:
            raise BadData(
                f"pixel_range is of {np.size(scale.shift)} channels, the images have "
                f"{block.shape[1]}"
            )
        x = scale.shift + scale.scale * x
    low, high = float(x.min()), float(x.max())
    if low < -_EXACT or high > 1 + _EXACT:
        raise BadData(_out_of_range(low, high, scale))
    values = np.clip(x, 0, 1) * (scale.levels - 1)
    nearest = np.rint(values)
    return nearest.astype(np.uint8), float(np.abs(values - nearest).max()) / (scale.levels - 1)


def _out_of_range(low: float, high: float, scale: Scale) -> str:
    if not scale.is_unit:
        return (
            f"with this pixel_range, pixels must lie in [0, 1], got {low:g} to {high:g}: is it the "
            "range of these images?"
        )
    advice = "give their pixel_range"
    if low >= 0 and 50 < high <= 255:
        advice = "they look like 0..255: divide by 255, or give uint8"
    elif low >= -1 and high <= 1:
        advice = "they look like -1..1: give pixel_range=(-1, 1)"
    return f"float images must lie in [0, 1], got {low:g} to {high:g}; {advice}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
