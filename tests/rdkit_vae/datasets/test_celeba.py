"""CelebA on images made here, in the published layout: img_align_celeba/000001.jpg and the list."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdkit_vae import load_dataset
from rdkit_vae.errors import BadData

PARTITION = {0: "012345", 1: "67", 2: "89a"}


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for number, part in enumerate(k for k, members in PARTITION.items() for _ in members):
        coarse = rng.integers(0, 256, (22, 18, 3), np.uint8)
        image = Image.fromarray(coarse).resize((178, 218), Image.Resampling.BICUBIC)
        image.save(folder / f"{number + 1:06d}.jpg", quality=95)
        lines.append(f"{number + 1:06d}.jpg {part}\n")
    (tmp_path / "celeba" / "list_eval_partition.txt").write_text("".join(lines))
    return tmp_path


def test_partition_crop_and_resize(layout: Path) -> None:
    images = load_dataset("celeba", data_dir=layout)
    assert images.train.shape == (6, 3, 64, 64)
    assert images.test.shape == (3, 3, 64, 64)
    # The same by other means: crop by slicing, then average the area that a pixel covers.
    with Image.open(layout / "celeba" / "img_align_celeba" / "000009.jpg") as file:
        square = np.asarray(file.convert("RGB"))[35:183, 15:163]
    expected = Image.fromarray(square).resize((64, 64), Image.Resampling.BOX)
    difference = images.test[0].astype(int) - np.asarray(expected).transpose(2, 0, 1)
    assert np.abs(difference).mean() < 3


def test_the_images_are_decoded_once(layout: Path) -> None:
    done: list[tuple[int, int]] = []
    first = load_dataset("celeba", data_dir=layout, progress=lambda *at: done.append(at))
    assert done[-1] == (9, 9)
    for jpg in (layout / "celeba" / "img_align_celeba").iterdir():
        jpg.unlink()
    second = load_dataset("celeba", data_dir=layout)
    assert isinstance(second.train, np.memmap)
    assert np.array_equal(first.train, second.train)
    assert first.sha256 == second.sha256


def test_a_changed_partition_is_decoded_anew(layout: Path) -> None:
    before = load_dataset("celeba", data_dir=layout)
    partition = layout / "celeba" / "list_eval_partition.txt"
    partition.write_text(partition.read_text().replace("000001.jpg 0", "000001.jpg 2"))
    after = load_dataset("celeba", data_dir=layout)
    assert (len(after.train), len(after.test)) == (5, 4)
    assert after.sha256 != before.sha256


@pytest.mark.parametrize("damage", ["missing", "cut", "text"])
def test_a_damaged_image_is_named_and_nothing_is_left_behind(layout: Path, damage: str) -> None:
    jpg = layout / "celeba" / "img_align_celeba" / "000003.jpg"
    content = jpg.read_bytes()
    jpg.unlink()
    if damage != "missing":
        jpg.write_bytes(content[: len(content) // 2] if damage == "cut" else b"no picture")
    with pytest.raises(BadData, match=r"000003\.jpg"):
        load_dataset("celeba", data_dir=layout)
    assert sorted(path.name for path in (layout / "celeba").iterdir()) == [
        "img_align_celeba",
        "list_eval_partition.txt",
    ]


@pytest.mark.parametrize("line", ["000001.jpg", "000001.jpg 3", "../000001.jpg 0", "a b c"])
def test_a_damaged_partition_is_named_with_the_line(layout: Path, line: str) -> None:
    partition = layout / "celeba" / "list_eval_partition.txt"
    partition.write_text(f"000002.jpg 0\n{line}\n")
    with pytest.raises(BadData, match=r"list_eval_partition\.txt:2"):
        load_dataset("celeba", data_dir=layout)


def test_a_damaged_cache_is_named(layout: Path) -> None:
    load_dataset("celeba", data_dir=layout)
    cache = layout / "celeba" / "rdvae-celeba-148-64.npy"
    cache.write_bytes(cache.read_bytes()[:1000])
    with pytest.raises(BadData, match="delete it"):
        load_dataset("celeba", data_dir=layout)
