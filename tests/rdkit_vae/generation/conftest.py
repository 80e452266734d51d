"""A dataset that has labels but no classifier in the package, and a cache of its own."""

import struct
from pathlib import Path

import numpy as np
import pytest

from rdkit_vae.datasets import IDX_IMAGES, IDX_LABELS, load_labels
from rdkit_vae.datasets.images import Images
from rdkit_vae.generation import classifier


@pytest.fixture
def labelled(tmp_path: Path, digits: Images, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the digits as if they were MNIST; classifiers are trained for seconds."""
    monkeypatch.setenv("RDVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(classifier, "_STEPS", 60)
    folder = tmp_path / "data"
    folder.mkdir()
    for split, labels in zip(("train", "test"), load_labels("digits"), strict=True):
        pixels = digits.split(split)[:, 0] * 15
        for name, array in ((IDX_IMAGES[split], pixels), (IDX_LABELS[split], labels)):
            head = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
            (folder / name).write_bytes(head + np.ascontiguousarray(array).tobytes())
    return folder
