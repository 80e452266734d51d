from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdkit_vae import load_dataset
from rdkit_vae.errors import BadData


def _save(path: Path, side: int = 6, mode: str = "L", seed: int = 0) -> np.ndarray:
    shape = (side, side) if mode == "L" else (side, side, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def test_grey_images_in_the_order_of_their_paths(tmp_path: Path) -> None:
    pixels = [_save(tmp_path / f"{i // 5}" / f"{i}.png", seed=i) for i in range(10)]
    (tmp_path / "notes.txt").write_text("not an image")
    images = load_dataset(f"folder:{tmp_path}")
    assert images.shape == (1, 6, 6)
    assert np.array_equal(images.test[:, 0], [pixels[4], pixels[9]])


def test_one_colour_image_makes_all_of_them_colour(tmp_path: Path) -> None:
    for i in range(6):
        _save(tmp_path / f"{i}.png", mode="RGB" if i == 3 else "L", seed=i)
    images = load_dataset(f"folder:{tmp_path}")
    assert images.shape == (3, 6, 6)
    assert np.array_equal(images.train[0, 0], images.train[0, 2])


def test_train_and_test_folders_are_the_split(tmp_path: Path) -> None:
    for i in range(4):
        _save(tmp_path / "train" / f"{i}.png", seed=i)
    kept = _save(tmp_path / "test" / "x.png", seed=9)
    images = load_dataset(f"folder:{tmp_path}")
    assert (len(images.train), len(images.test)) == (4, 1)
    assert np.array_equal(images.test[0, 0], kept)


def test_more_images_than_one_process_takes(tmp_path: Path) -> None:
    pixels = [_save(tmp_path / f"{i:05d}.png", side=2, seed=i) for i in range(1030)]
    images = load_dataset(f"folder:{tmp_path}")
    assert np.array_equal(images.test[-1, 0], pixels[1029])
    assert np.array_equal(images.train[0, 0], pixels[0])


def test_a_broken_image_among_many_is_named(tmp_path: Path) -> None:
    for i in range(1030):
        _save(tmp_path / f"{i:05d}.png", side=2, seed=i)
    (tmp_path / "00700.png").write_bytes(b"no picture")
    with pytest.raises(BadData, match=r"00700\.png"):
        load_dataset(f"folder:{tmp_path}")


def test_sizes_that_differ_need_a_size(tmp_path: Path) -> None:
    for i in range(6):
        _save(tmp_path / f"{i}.png", side=6 + i)
    with pytest.raises(BadData, match="--image-size"):
        load_dataset(f"folder:{tmp_path}")
    assert load_dataset(f"folder:{tmp_path}", image_size=5).shape == (1, 5, 5)


def test_an_empty_folder_and_a_broken_image(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no images"):
        load_dataset(f"folder:{tmp_path}")
    (tmp_path / "x.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(BadData, match=r"x\.png"):
        load_dataset(f"folder:{tmp_path}")


def test_images_of_sixteen_bits_are_refused_not_clipped(tmp_path: Path) -> None:
    for i in range(6):
        deep = np.linspace(1000, 61_000, 36).reshape(6, 6).astype(np.uint16)
        Image.fromarray(deep).save(tmp_path / f"{i}.png")
    with pytest.raises(BadData, match="mode I;16"):
        load_dataset(f"folder:{tmp_path}")


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    for i in range(6):
        Image.new("1", (14_000, 14_000)).save(tmp_path / f"{i}.png")
    with pytest.raises(BadData, match="too many pixels"):
        load_dataset(f"folder:{tmp_path}")
