"""The UCI optical digits that come with the package; see data/ATTRIBUTION.md."""

from importlib import resources

import numpy as np

from rdkit_vae.datasets import Request
from rdkit_vae.datasets.images import Images, Labels, Pixels, every_fifth, split_by_rule


def load(request: Request) -> Images:
    """Reads 1,797 images of 1x8x8 with 17 grey levels; every fifth, 359 in total, is test."""
    return split_by_rule(request.name, _array("images")[:, None], levels=17)


def load_labels(request: Request) -> tuple[Labels, Labels]:
    """Reads the digit that each image shows, split like the images."""
    labels = _array("labels")
    is_test = every_fifth(len(labels))
    return labels[~is_test], labels[is_test]


def _array(name: str) -> Pixels:
    with resources.files("rdkit_vae.datasets").joinpath("data", "digits.npz").open("rb") as file:
        array: Pixels = np.load(file, allow_pickle=False)[name]
    return array
