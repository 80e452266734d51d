"""The class of each image, where a dataset has classes."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from rdkit_vae.datasets import DATASETS, IDX_IMAGES, IDX_LABELS, load_labels
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, BadInput

LABELS = np.arange(12, dtype=np.uint8) % 10


def idx(array: np.ndarray, magic: int | None = None) -> bytes:
    head = 0x800 + array.ndim if magic is None else magic
    return struct.pack(f">{1 + array.ndim}I", head, *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """MNIST in small: 12 + 12 images of 5x4 and their labels."""
    for split in ("train", "test"):
        (tmp_path / IDX_IMAGES[split]).write_bytes(idx(np.zeros((12, 5, 4), np.uint8)))
        (tmp_path / IDX_LABELS[split]).write_bytes(idx(LABELS))
    return tmp_path


def test_digits_are_split_like_their_images(digits: Images) -> None:
    train, test = load_labels("digits")
    assert (train.shape, test.shape, train.dtype) == ((1438,), (359,), np.uint8)
    # The published file begins with the digits 0 to 9, in this order.
    assert [*train[:4], test[0], *train[4:8], test[1]] == list(range(10))
    ones = digits.train[train == 1].mean(axis=0)[0]
    assert ones[:, 3:5].sum() > 0.5 * ones.sum()  # a stroke in the middle


@pytest.mark.parametrize("zipped", [False, True])
def test_labels_of_idx_files(folder: Path, zipped: bool) -> None:
    if zipped:
        path = folder / IDX_LABELS["test"]
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    for labels in load_labels("mnist", data_dir=folder):
        assert np.array_equal(labels, LABELS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too short"),
        (idx(LABELS)[:-1], "claims 12 labels, but it holds (at most 19|11) bytes"),
        (idx(LABELS) + b"\0", "it holds more"),
        (idx(LABELS, magic=0x803), "not an IDX file of labels .magic number 0x00000803"),
        (struct.pack(">2I", 0x801, 2**32 - 1), "claims 4294967295 labels"),
        (idx(LABELS[:0]), "claims 0 labels"),
        (idx(LABELS[:7]), "holds 7 labels of 12 images"),
        (idx(LABELS + np.uint8(9)), "from 0 to 9, got 18"),
    ],
)
def test_damaged_labels_are_named_with_the_reason(folder: Path, data: bytes, reason: str) -> None:
    path = folder / IDX_LABELS["train"]
    path.write_bytes(data)
    with pytest.raises(BadData, match=reason) as refused:
        load_labels("mnist", data_dir=folder)
    assert str(refused.value).startswith(str(path))


def test_missing_labels_are_named(folder: Path) -> None:
    (folder / IDX_LABELS["test"]).unlink()
    with pytest.raises(BadData, match="t10k-labels-idx1-ubyte"):
        load_labels("mnist", data_dir=folder)


@pytest.mark.parametrize("name", [n for n, source in DATASETS.items() if not source.has_labels])
def test_a_dataset_without_labels_names_those_with(name: str) -> None:
    with pytest.raises(BadInput, match="digits, mnist, fashion-mnist"):
        load_labels(name)


def test_real_mnist_has_its_labels(mnist_folder: Path) -> None:
    train, test = load_labels("mnist", data_dir=mnist_folder)
    assert [*train[:5]] == [5, 0, 4, 1, 9]
    # The published counts of test digits.
    assert [*np.bincount(test)] == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
