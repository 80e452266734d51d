"""MNIST and Fashion-MNIST from their IDX files, gzipped or not. Labels are not read."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from rdkit_vae.datasets import DATASETS, IDX_IMAGES, Request
from rdkit_vae.datasets.images import Images, Pixels
from rdkit_vae.errors import BadData

# Both datasets have files of the same names, so each is told by its content.
_FINGERPRINTS = {
    "a88c0f4aabd5801737ab1473ed616ef54c0e3c60fc89b035b4b723220d9a2d62": "mnist",
    "047903b228fc1562653cd29d377b0f34fa8fb63c69ed30cd2f599e500a8ed0af": "fashion-mnist",
}
_MOST_DEFLATED = 1040  # no byte of a gzip stands for more
_MAGIC = 0x00000803  # unsigned bytes, three dimensions


def load(request: Request) -> Images:
    """Reads the two image files of `mnist` or `fashion-mnist`.

    Raises:
        BadData: a file is missing or damaged, or holds the other dataset.
    """
    folder = DATASETS[request.name].find(request)
    if folder is None:
        places = ", ".join(str(root) for root in request.roots) or "no folder was given"
        raise BadData(
            f"{request.name}: {' and '.join(IDX_IMAGES.values())} (.gz) not found in: {places}; "
            "use --data-dir or set RDVAE_DATA"
        )
    train, test = (read_idx(_plain_or_gz(folder, name)) for name in IDX_IMAGES.values())
    rule = "the published train and t10k files"
    images = Images(name=request.name, train=train, test=test, split_rule=rule)
    actual = _FINGERPRINTS.get(images.sha256, request.name)
    if actual != request.name:
        raise BadData(f"{request.name}: the files in {folder} are those of {actual}")
    return images


def _plain_or_gz(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.exists() else folder / f"{name}.gz"


def read_idx(path: Path) -> Pixels:
    """Reads an IDX file of images as (N, 1, H, W).

    Raises:
        BadData: not an IDX image file, or shorter or longer than its header says.
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
            most = path.stat().st_size * (_MOST_DEFLATED if path.suffix == ".gz" else 1)
            if size > most:
                raise BadData(
                    f"{path}: its header claims {count} images of {height}x{width}, "
                    f"its data ends after at most {most:,} bytes"
                )
            body = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{path}: cannot be read ({error})") from error
    except (MemoryError, OverflowError) as error:
        raise BadData(f"{path}: its header claims {count}x{height}x{width} pixels") from error
    if len(body) != size or size == 0:
        raise BadData(
            f"{path}: its header claims {count} images of {height}x{width}, "
            f"its data {'is longer' if len(body) > size else f'ends after {len(body):,} bytes'}"
        )
    return np.frombuffer(body, np.uint8).reshape(count, 1, height, width)
