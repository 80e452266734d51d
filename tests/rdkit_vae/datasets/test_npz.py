import zipfile
from pathlib import Path

import numpy as np
import pytest

from rdkit_vae import load_dataset
from rdkit_vae.datasets.npz import as_pixels
from rdkit_vae.errors import BadData

GREY = np.random.default_rng(0).integers(0, 256, (10, 6, 7), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (10, 3, 6, 7), np.uint8)


def test_layouts() -> None:
    assert np.array_equal(as_pixels(GREY), GREY[:, None])
    assert np.array_equal(as_pixels(COLOUR), COLOUR)
    assert np.array_equal(as_pixels(COLOUR.transpose(0, 2, 3, 1)), COLOUR)


def test_floats_that_came_from_bytes_come_back_exactly() -> None:
    for kind in (np.float32, np.float64):
        assert np.array_equal(as_pixels(GREY.astype(kind) / 255), GREY[:, None])


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((5, 3, 3, 3), np.uint8), "which axis"),
        (np.zeros((5, 8, 8, 8), np.uint8), "which axis"),
        (np.zeros((5, 8), np.uint8), "3 or 4 dimensions"),
        (np.zeros((0, 8, 8), np.uint8), "empty"),
        (np.zeros((5, 8, 8), np.int32), "int32"),
        (np.ones((5, 8, 8), np.uint8), "multiply them by 255"),
        (b"bytes", "not an array"),
        (np.full((5, 8, 8), 1.5), r"\[0, 1\]"),
        (np.full((5, 8, 8), np.nan), "nan"),
    ],
)
def test_arrays_that_cannot_be_images(array: np.ndarray, reason: str) -> None:
    with pytest.raises(BadData, match=reason):
        as_pixels(array)


def test_one_array_is_split_and_two_are_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", GREY)
    one = load_dataset(f"npz:{tmp_path / 'one.npz'}")
    assert (len(one.train), len(one.test)) == (8, 2)
    np.savez_compressed(tmp_path / "two.npz", train=GREY, test=GREY[:4], labels=np.arange(10))
    two = load_dataset(f"npz:{tmp_path / 'two.npz'}")
    assert (len(two.train), len(two.test)) == (10, 4)


def test_an_object_array_is_refused_unread(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadData, match="plain arrays"):
        load_dataset(f"npz:{tmp_path / 'x.npz'}")


@pytest.mark.parametrize("cut", [0, 100, -30])
def test_truncated_and_foreign_files(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, GREY)
    path.write_bytes(path.read_bytes()[:cut] if cut else b"text")
    with pytest.raises(BadData, match=r"x\.npz"):
        load_dataset(f"npz:{path}")


def test_an_npy_file_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", GREY)
    with pytest.raises(BadData, match=r"x\.npy: not a readable \.npz"):
        load_dataset(f"npz:{tmp_path / 'x.npy'}")


def test_several_arrays_need_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", GREY, GREY)
    with pytest.raises(BadData, match="2 arrays"):
        load_dataset(f"npz:{tmp_path / 'x.npz'}")


def test_a_header_that_claims_more_than_is_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for save in (np.savez, np.savez_compressed):
        save(path, GREY)
        with zipfile.ZipFile(path) as archive:
            array = archive.read("arr_0.npy")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("arr_0.npy", array.replace(b"(10, 6, 7)", b"(9**9,6,7)"))
        with pytest.raises(BadData, match=r"x\.npz: not a readable"):
            load_dataset(f"npz:{path}")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("arr_0.npy", array.replace(b"(10, 6, 7), }  ", b"(10000000000,), }"))
        with pytest.raises(BadData, match="claims to be"):
            load_dataset(f"npz:{path}")
