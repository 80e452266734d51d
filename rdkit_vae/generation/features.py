"""Features of pictures, in which distances between sets of them are measured."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from rdkit_vae.datasets.images import Images

Progress = Callable[[int, int], None]  # (steps done, steps in total)


@dataclass(frozen=True, kw_only=True)
class Features:
    """A function from pictures to vectors.

    Attributes:
        name: `classifier`, `inception`, `pixels` or `package.module:factory`.
        sha256: identity: of the weights, of their file, or of the name; empty for `pixels`.
        dims: values of a vector.
        notes: what the user should know, in words.
    """

    name: str
    sha256: str
    dims: int
    notes: tuple[str, ...] = ()

    def __call__(self, pictures: Tensor) -> npt.NDArray[np.float64]:
        """Maps float32 (n, C, H, W) pictures in [0, 1] to (n, dims) features, in small batches.

        Raises:
            BadInput: the features have another shape.
            NotFinite: a feature is not finite.
        """
        raise NotImplementedError


def features_of(
    asked: str,
    images: Images,
    *,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Features:
    """Makes the features that the user asks for, for pictures like these images.

    Args:
        asked: see `names.FEATURES`.
        images: the dataset of the pictures.
        data_dir: folder with its files, for the labels; searched before RDVAE_DATA.
        device: where the features are computed, `cpu` or `cuda`.
        progress: called as `progress(done, total)` while a classifier is trained.

    Raises:
        BadInput: there are no such features, or they do not fit the images.
        BadData: a file of weights or labels is missing, damaged or another one.
    """
    raise NotImplementedError
