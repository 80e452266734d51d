"""Decodes image files to pixels, in several processes."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rdkit_vae.datasets import Progress
from rdkit_vae.datasets.images import Pixels
from rdkit_vae.errors import BadData
from rdkit_vae.system.processes import end_children, live_as_child, start_child

_CHUNK = 256  # images per task, enough to hide the cost of sending it to a process
_LEAST_FOR_POOL = 4 * _CHUNK
GREY = {"1", "L", "LA"}
COLOUR = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an image file becomes an array.

    Attributes:
        mode: `L` for one channel, `RGB` for three.
        crop: side of the centred square that is cut out first; None: no crop.
        size: side of the square to which the image is resized; None: no resizing.
    """

    mode: str
    crop: int | None = None
    size: int | None = None


def decode(
    paths: Sequence[Path], recipe: Recipe, progress: Progress | None = None
) -> Iterator[Pixels]:
    """Decodes the files in their order and yields them in chunks, each (n, C, H, W).

    Raises:
        BadData: a file cannot be decoded, or differs in size from the others of its chunk.
    """
    chunks = [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]
    done = 0
    for pixels in _decoded(chunks, recipe, len(paths)):
        done += len(pixels)
        if progress:
            progress(done, len(paths))
        yield pixels


def _decoded(chunks: list[Sequence[Path]], recipe: Recipe, total: int) -> Iterator[Pixels]:
    if total < _LEAST_FOR_POOL:
        yield from (_decode_chunk(chunk, recipe) for chunk in chunks)
        return
    count = min(os.cpu_count() or 1, len(chunks))
    children = [start_child(_decode_share, chunks[i::count], recipe) for i in range(count)]
    try:
        for i in range(len(chunks)):
            yield _received(children[i % count][1])
    finally:
        end_children(children)


def _decode_share(
    connection: "Connection[Any, Any]", chunks: list[Sequence[Path]], recipe: Recipe
) -> None:
    """Sends the pixels of each chunk, or the error message as text."""
    live_as_child()
    for chunk in chunks:
        try:
            connection.send(_decode_chunk(chunk, recipe))
        except BadData as error:
            connection.send(str(error))
            return


def _received(connection: "Connection[Any, Any]") -> Pixels:
    try:
        message = connection.recv()
    except (EOFError, OSError) as error:
        raise BadData(
            "a process that decodes images has died, perhaps for lack of memory; close other "
            "programs and try again"
        ) from error
    if isinstance(message, str):
        raise BadData(message)
    pixels: Pixels = message
    return pixels


def _decode_chunk(paths: Sequence[Path], recipe: Recipe) -> Pixels:
    images = [_decode_one(path, recipe) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise BadData(
                f"{path}: {_size(image)} pixels, but {paths[0].name} has {_size(images[0])}; "
                "give --image-size to resize them all"
            )
    return np.ascontiguousarray(np.stack(images))


def _size(image: Pixels) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"


def _decode_one(path: Path, recipe: Recipe) -> Pixels:
    with _opened(path) as file:
        image = file.convert(recipe.mode)
    if recipe.crop:
        image = _centre(image, recipe.crop)
    if recipe.size:
        image = resized_to(image, recipe.size)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)  # (C, H, W)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens an image file with 8 bits per channel; any problem with it becomes `BadData`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                if file.mode not in GREY | COLOUR:
                    raise BadData(
                        f"{path}: mode {file.mode} is not 8 bits per channel; convert the file"
                    )
                yield file
    except BadData:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise BadData(f"{path}: claims to have too many pixels to decode") from None
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise BadData(f"{path}: not a readable image ({reason})") from None


def resized_to(image: Image.Image, size: int) -> Image.Image:
    """Cuts out the largest centred square, and resizes it with Pillow's bilinear filter."""
    square = _centre(image, min(image.size))
    return square.resize((size, size), Image.Resampling.BILINEAR)


def _centre(image: Image.Image, side: int) -> Image.Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def mode_of(paths: Sequence[Path]) -> str:
    """Returns `L` if every file is a grey image, otherwise `RGB`; reads only headers.

    Raises:
        BadData: a file is not an image with 8 bits per channel.
    """
    grey = True
    for path in paths:
        with _opened(path) as file:
            grey = grey and file.mode in GREY
    return "L" if grey else "RGB"
