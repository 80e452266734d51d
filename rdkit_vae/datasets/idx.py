"""MNIST and Fashion-MNIST from their IDX files, gzipped or not. Labels are not read."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from rdkit_vae.datasets import IDX_IMAGES, Request, folder_of
from rdkit_vae.datasets.images import Images, Pixels
from rdkit_vae.errors import BadData

# The files of both datasets have the same names, so only the content tells them apart.
_FINGERPRINTS = {
    "a88c0f4aabd5801737ab1473ed616ef54c0e3c60fc89b035b4b723220d9a2d62": "mnist",
    "047903b228fc1562653cd29d377b0f34fa8fb63c69ed30cd2f599e500a8ed0af": "fashion-mnist",
}
_MAX_INFLATION = 1040  # one byte of a gzip file unpacks to at most this many
_MAGIC = 0x00000803  # unsigned bytes, three dimensions


def load(request: Request) -> Images:
    """Reads the two image files of `mnist` or `fashion-mnist`.

    Raises:
        BadData: a file is missing or damaged, or belongs to the other dataset.
    """
    folder = folder_of(request, f"{' and '.join(IDX_IMAGES.values())} (.gz)")
    train, test = (read_idx(plain_or_gz(folder, name)) for name in IDX_IMAGES.values())
    rule = "the published train and t10k files"
    images = Images(name=request.name, train=train, test=test, split_rule=rule)
    actual = _FINGERPRINTS.get(images.sha256, request.name)
    if actual != request.name:
        raise BadData(f"{request.name}: the files in {folder} are those of {actual}")
    return images


def plain_or_gz(folder: Path, name: str) -> Path:
    """The file of a name in a folder, or the gzipped one."""
    plain = folder / name
    return plain if plain.exists() else folder / f"{name}.gz"


def read_idx(path: Path) -> Pixels:
    """Reads an IDX file of images as (N, 1, H, W).

    Raises:
        BadData: the file is not an IDX file of images, or its length contradicts its header.
    """
    open_file = gzip.open if path.suffix == ".gz" else open
    try:
        with open_file(path, "rb") as file:
            header = file.read(16)
            if len(header) < 16:
                raise BadData(f"{path}: too short to be an IDX file")
            magic, count, height, width = struct.unpack(">4I", header)
            if magic != _MAGIC:
                raise BadData(f"{path}: not an IDX file of images (magic number {magic:#010x})")
            size = count * height * width
            most = path.stat().st_size * (_MAX_INFLATION if path.suffix == ".gz" else 1)
            if size > most:
                raise BadData(
                    f"{path}: its header claims {count} images of {height}x{width}, "
                    f"but it holds at most {most:,} bytes"
                )
            body = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{path}: cannot be read ({error})") from error
    except (MemoryError, OverflowError) as error:
        raise BadData(f"{path}: its header claims {count}x{height}x{width} pixels") from error
    if len(body) != size or size == 0:
        raise BadData(
            f"{path}: its header claims {count} images of {height}x{width}, "
            f"but {'it holds more' if len(body) > size else f'it holds {len(body):,} bytes'}"
        )
    return np.frombuffer(body, np.uint8).reshape(count, 1, height, width)
