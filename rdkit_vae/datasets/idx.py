"""MNIST and Fashion-MNIST from their IDX files, gzipped or not."""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rdkit_vae.datasets import IDX_IMAGES, IDX_LABELS, Request, folder_of
from rdkit_vae.datasets.images import Images, Labels, Pixels
from rdkit_vae.errors import BadData

# The files of both datasets have the same names, so only the content tells them apart.
_FINGERPRINTS = {
    "a88c0f4aabd5801737ab1473ed616ef54c0e3c60fc89b035b4b723220d9a2d62": "mnist",
    "047903b228fc1562653cd29d377b0f34fa8fb63c69ed30cd2f599e500a8ed0af": "fashion-mnist",
}
_MAX_INFLATION = 1040  # one byte of a gzip file unpacks to at most this many
_UNITS = {3: "images", 1: "labels"}  # by the number of dimensions
_CLASSES = 10


def load(request: Request) -> Images:
    """Reads the two image files of `mnist` or `fashion-mnist`.

    Raises:
        BadData: a file is missing or damaged, or belongs to the other dataset.
    """
    folder = folder_of(request, f"{' and '.join(IDX_IMAGES.values())} (.gz)")
    train, test = (read_idx(_plain_or_gz(folder, name)) for name in IDX_IMAGES.values())
    rule = "the published train and t10k files"
    images = Images(name=request.name, train=train, test=test, split_rule=rule)
    actual = _FINGERPRINTS.get(images.sha256, request.name)
    if actual != request.name:
        raise BadData(f"{request.name}: the files in {folder} are those of {actual}")
    return images


def load_labels(request: Request) -> tuple[Labels, Labels]:
    """Reads the two label files beside the image files of `mnist` or `fashion-mnist`.

    Raises:
        BadData: a file is missing or damaged, or does not fit its images.
    """
    folder = folder_of(request, f"{' and '.join(IDX_IMAGES.values())} (.gz)")
    train, test = (_labels_of(split, folder) for split in ("train", "test"))
    return train, test


def _labels_of(split: str, folder: Path) -> Labels:
    path = _plain_or_gz(folder, IDX_LABELS[split])
    labels = _read(path, dims=1)
    if labels.max() >= _CLASSES:
        raise BadData(f"{path}: labels must be from 0 to {_CLASSES - 1}, got {labels.max()}")
    images = len(read_idx(_plain_or_gz(folder, IDX_IMAGES[split])))
    if images != len(labels):
        raise BadData(f"{path}: holds {len(labels):,} labels of {images:,} images")
    return labels


def _plain_or_gz(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.exists() else folder / f"{name}.gz"


def read_idx(path: Path) -> Pixels:
    """Reads an IDX file of images as (N, 1, H, W).

    Raises:
        BadData: the file is not an IDX file of images, or its length contradicts its header.
    """
    return _read(path, dims=3)[:, None]


def _read(path: Path, dims: int) -> Pixels:
    """Reads an IDX file of unsigned bytes whose array has so many dimensions."""
    open_file = gzip.open if path.suffix == ".gz" else open
    try:
        with open_file(path, "rb") as file:
            shape = _shape(file.read(4 * (1 + dims)), path, dims)
            body = file.read(math.prod(shape) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{path}: cannot be read ({error})") from error
    except (MemoryError, OverflowError) as error:
        raise BadData(f"{path}: its header claims {'x'.join(map(str, shape))} bytes") from error
    if len(body) != math.prod(shape) or not body:
        held = "more" if len(body) > math.prod(shape) else f"{len(body):,} bytes"
        raise BadData(f"{path}: its header claims {_claim(shape)}, but it holds {held}")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _shape(header: bytes, path: Path, dims: int) -> tuple[int, ...]:
    """Returns what a header claims, if a file of this size can hold it."""
    if len(header) < 4 * (1 + dims):
        raise BadData(f"{path}: too short to be an IDX file")
    magic, *shape = struct.unpack(f">{1 + dims}I", header)
    if magic != 0x00000800 + dims:  # unsigned bytes
        raise BadData(f"{path}: not an IDX file of {_UNITS[dims]} (magic number {magic:#010x})")
    most = path.stat().st_size * (_MAX_INFLATION if path.suffix == ".gz" else 1)
    if math.prod(shape) > most:
        raise BadData(
            f"{path}: its header claims {_claim(shape)}, but it holds at most {most:,} bytes"
        )
    return tuple(shape)


def _claim(shape: Sequence[int]) -> str:
    """`12 images of 5x4`, `12 labels`."""
    count, *sides = shape
    size = f" of {'x'.join(map(str, sides))}" if sides else ""
    return f"{count} {_UNITS[len(shape)]}{size}"
