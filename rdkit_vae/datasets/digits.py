"""The UCI optical digits that come with the package; see data/ATTRIBUTION.md."""

from importlib import resources

import numpy as np

from rdkit_vae.datasets import Request
from rdkit_vae.datasets.images import Images, split_by_rule


def load(request: Request) -> Images:
    """Reads 1,797 images of 1x8x8 with 17 grey levels; every fifth, 359 in total, is test."""
    with resources.files("rdkit_vae.datasets").joinpath("data", "digits.npz").open("rb") as file:
        images = np.load(file, allow_pickle=False)["images"]
    return split_by_rule(request.name, images[:, None], levels=17)
