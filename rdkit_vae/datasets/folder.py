"""A folder of images of the user."""

from pathlib import Path

import numpy as np

from rdkit_vae.datasets import Request
from rdkit_vae.datasets.decode import Recipe, decode, mode_of
from rdkit_vae.datasets.images import Images, Pixels, split_by_rule
from rdkit_vae.errors import BadData

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}


def load(request: Request) -> Images:
    """Reads the images below a folder, in the order of their paths.

    Raises:
        BadData: the folder does not exist or holds too few images, or an image is unreadable or
            differs in size.
    """
    root = request.path
    assert root is not None  # `request_for` sets it for datasets that take a path
    if not root.is_dir():
        raise BadData(f"{root}: no such folder")
    parts = [root / "train", root / "test"]
    if all(part.is_dir() for part in parts):
        train_paths, test_paths = (_images_below(part) for part in parts)
        pixels = _decode(train_paths + test_paths, request)
        return Images(
            name=request.name,
            train=pixels[: len(train_paths)],
            test=pixels[len(train_paths) :],
            split_rule="the folder's train/ and test/",
        )
    return split_by_rule(request.name, _decode(_images_below(root), request))


def _images_below(root: Path) -> list[Path]:
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise BadData(f"{root}: contains no images ({', '.join(sorted(_SUFFIXES))})")
    return paths


def _decode(paths: list[Path], request: Request) -> Pixels:
    recipe = Recipe(mode=mode_of(paths), size=request.image_size)
    chunks = list(decode(paths, recipe, request.progress))
    for chunk in chunks:
        if chunk.shape[1:] != chunks[0].shape[1:]:
            raise BadData(f"{request.path}: the images differ in size; give --image-size")
    return np.concatenate(chunks)
