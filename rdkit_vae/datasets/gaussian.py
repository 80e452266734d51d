"""Gaussian images of known covariance, for comparing trained models with theory."""

import numpy as np
import numpy.typing as npt

from rdkit_vae.datasets import Request
from rdkit_vae.datasets.images import Images

_SIDE, _TRAIN, _TEST = 4, 4096, 1024
EIGENVALUES: npt.NDArray[np.float64] = 0.03 * np.power(
    0.7, np.arange(_SIDE**2), dtype=np.float64
)  # squared pixel


def load(request: Request) -> Images:
    """Draws 5,120 images of 1x4x4 around mid-grey, with 8 bits; the last 1,024 are test.

    The eigenvectors are cosines, the lowest frequency first. Rounding to 8 bits adds 1.3e-6 to each
    eigenvalue.
    """
    k = np.arange(_SIDE)
    cosines = np.cos(np.pi * k[:, None] * (2 * k + 1) / (2 * _SIDE))  # (frequency, pixel)
    cosines /= np.linalg.norm(cosines, axis=1, keepdims=True)
    basis = np.kron(cosines, cosines)  # (D, D), one pair of frequencies per row
    frequency = np.add.outer(k, k).ravel()
    basis = basis[np.argsort(frequency, kind="stable")]
    drawn = np.random.default_rng(0).standard_normal((_TRAIN + _TEST, _SIDE**2))
    x = 0.5 + drawn * np.sqrt(EIGENVALUES) @ basis
    pixels = np.rint(x.clip(0, 1) * 255).astype(np.uint8).reshape(-1, 1, _SIDE, _SIDE)
    return Images(
        name=request.name,
        train=pixels[:_TRAIN],
        test=pixels[_TRAIN:],
        split_rule="the last 1,024 are test",
    )
