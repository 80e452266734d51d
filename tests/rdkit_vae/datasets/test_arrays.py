"""`Images` from what people have in Python, and at another size."""

import math
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import rdkit_vae as rdv
from rdkit_vae.datasets.arrays import _BLOCK, RoundedPixels
from rdkit_vae.datasets.images import EVERY_FIFTH, share, shared
from rdkit_vae.errors import BadData, BadInput

GREY = np.random.default_rng(0).integers(0, 256, (10, 6, 7), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (10, 3, 6, 7), np.uint8)
UNIT = COLOUR.astype(np.float32) / 255
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALISED = (UNIT - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))


class Items(Dataset[Any]):
    """A dataset of given items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Endless(IterableDataset[Tensor]):
    """A dataset without a length."""

    def __iter__(self) -> Iterator[Tensor]:
        yield torch.zeros(1, 3, 3)


def _images(train: Any, test: Any = None, **given: Any) -> rdv.Images:
    """Images from data of which nothing may be rounded."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return rdv.Images.from_data(train, test, name="npz:x", **given)


# The same ten images in every form.
SAME: dict[str, tuple[Any, dict[str, Any]]] = {
    "array": (COLOUR, {}),
    "channels last": (COLOUR.transpose(0, 2, 3, 1), {}),
    "floats": (UNIT, {}),
    "doubles": (COLOUR / 255, {}),
    "half": (UNIT.astype(np.float16), {}),
    "tensor": (torch.from_numpy(COLOUR), {}),
    "float tensor": (torch.from_numpy(UNIT).requires_grad_(), {}),
    "signed": (2 * UNIT - 1, {"pixel_range": (-1, 1)}),
    "centred": (UNIT - 0.5, {"pixel_range": (-0.5, 0.5)}),
    "bytes as floats": (COLOUR.astype(np.float32), {"pixel_range": (0, 255)}),
    "mean and std": ((UNIT - 0.4) / 0.3, {"pixel_range": (0.4, 0.3)}),
    "by channel": (NORMALISED.astype(np.float32), {"pixel_range": (MEAN, STD)}),
    "dataset": (TensorDataset(torch.from_numpy(UNIT), torch.arange(10)), {}),
    "dataset of images": (TensorDataset(torch.from_numpy(COLOUR)), {}),
    "dataset without labels": (Items(list(COLOUR)), {}),
    "pillow": (
        Items([(Image.fromarray(image.transpose(1, 2, 0)), 7, "label") for image in COLOUR]),
        {},
    ),
    "list": (list(COLOUR), {}),
}


@pytest.mark.parametrize("name", SAME)
def test_every_form_of_the_same_images_is_the_same(name: str) -> None:
    data, given = SAME[name]
    images = _images(data, data, **given)
    assert images.train.dtype == np.uint8
    assert np.array_equal(images.train, COLOUR)
    assert images.sha256 == _images(COLOUR, COLOUR).sha256
    assert images.levels == 256


def test_without_a_test_split_every_fifth_image_is_test(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", GREY)
    images, stored = _images(GREY), rdv.load_dataset(f"npz:{tmp_path / 'x.npz'}")
    assert images.split_rule == EVERY_FIFTH
    assert images.sha256 == stored.sha256
    assert np.array_equal(images.test[:, 0], GREY[4::5])


def test_uint8_is_used_in_place() -> None:
    tensor = torch.from_numpy(COLOUR.copy())
    for data in (COLOUR, tensor, GREY):
        images = _images(data, data)
        assert np.shares_memory(images.train, np.asarray(data))


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_memory_map_is_not_read_into_memory(tmp_path: Path, channels_last: bool) -> None:
    shape = (4000, 48, 48, 3) if channels_last else (4000, 3, 48, 48)
    path = tmp_path / "x.npy"
    stored = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    stored[:] = np.random.default_rng(0).integers(0, 256, shape[1:], np.uint8)
    stored.flush()
    mapped = np.load(path, mmap_mode="r")
    tracemalloc.start()
    images = _images(mapped, mapped[:100])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < stored.nbytes / 3
    assert np.shares_memory(images.train, mapped)
    # Other processes see the same pixels, wherever the channels are in the file.
    (tmp_path / "shared").mkdir()
    again = shared(share(images, tmp_path / "shared"))
    assert np.array_equal(again.train[::500], images.train[::500])
    assert np.array_equal(again.test[::50], images.test[::50])


def test_few_levels() -> None:
    levels = np.arange(10 * 16, dtype=np.uint8).reshape(10, 4, 4) % 17
    images = _images(levels, levels=17)
    assert images.levels == 17
    assert images.sha256 == _images(levels / 16, levels=17).sha256
    mask = levels > 8
    binary = [
        _images(mask),
        _images(mask.astype(np.uint8), levels=2),
        _images(mask * 1.0, levels=2),
    ]
    assert {one.sha256 for one in [*binary, _images(torch.from_numpy(mask))]} == {binary[0].sha256}
    assert binary[0].levels == 2
    assert _images(mask, levels=256).train.max() == 255


def test_the_largest_rounding_is_said() -> None:
    floats = UNIT.copy()
    floats[3, 1, 2, 2] = (100 + 0.3) / 255
    with pytest.warns(RoundedPixels, match=f"npz:x: .* by {0.3 / 255:.2g} at most"):
        images = rdv.Images.from_data(floats, name="npz:x")
    assert images.train[3, 1, 2, 2] == 100
    with pytest.warns(RoundedPixels, match="npz:x, test"):
        rdv.Images.from_data(torch.from_numpy(UNIT), Items(list(floats)), name="npz:x")


def test_blank_images_in_a_dataset_are_images() -> None:
    """Blocks of items are converted one by one, but only all of them tell the range."""
    shape = (100, 100)
    assert 300 * math.prod(shape) > _BLOCK
    items = [np.zeros(shape, np.uint8)] * 300 + [np.full(shape, 200, np.uint8)]
    assert _images(Items(items)).train.max() == 200
    with pytest.raises(BadData, match="levels=2"):
        _images(Items(items[:300]))


WRONG: dict[str, tuple[Any, str]] = {
    "nan": (np.where(UNIT[7, 0, 0, 0] == UNIT, np.nan, UNIT), "image [0-7] has nan"),
    "bytes as floats": (COLOUR.astype(np.float32), r"look like 0\.\.255: divide by 255"),
    "signed": (2 * UNIT - 1, r"pixel_range=\(-1, 1\)"),
    "another range": (UNIT * 7, "give their pixel_range"),
    "sizes": (Items([*COLOUR, COLOUR[0, :, :5]]), "image 10 is 3x5x7 uint8, but image 0 is 3x6x7"),
    "types": (Items([COLOUR[0], UNIT[0]]), "image 1 is 3x6x7 float32, but image 0"),
    "empty": (Items([]), "Items is empty"),
    "no images": (COLOUR[:0], "empty"),
    "objects": (np.array([None] * 8).reshape(2, 2, 2), "type object"),
    "integers": (COLOUR.astype(np.int64), "type int64: must be uint8, bool or float"),
    "endless": (Endless(), "Endless is no array or tensor and has no length"),
    "dictionaries": (Items([{"image": COLOUR[0]}]), "item 0 holds a dict"),
    "a dictionary": ({"train": COLOUR}, "gives no item 0"),
    "text": ("images.npz", "item 0 holds a str"),
    "nothing": (None, "NoneType is no array"),
    "16 bits": (Items([Image.new("I;16", (4, 4))]), "image 0 has mode I;16"),
    "vectors": (Items([UNIT[0].ravel()]), "image 0 has the shape 126"),
    "axes": (np.zeros((5, 8, 8, 8), np.uint8), "which axis"),
    "black": ((COLOUR > 99).astype(np.uint8), "say levels=2"),
    "one image": (COLOUR[:1], "too few images"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_images_is_refused_in_one_line(name: str) -> None:
    data, reason = WRONG[name]
    with pytest.raises(BadData, match=rf"^npz:x.*{reason}") as refused:
        _images(data, COLOUR)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {"levels": 1},
        {"levels": 257},
        {"levels": 2.5},
        {"pixel_range": (0.5, 0)},
        {"pixel_range": (0.5, -1)},
        {"pixel_range": 255},
        {"pixel_range": ("a", "b")},
        {"pixel_range": (float("nan"), 1)},
        {"pixel_range": ((0.1, 0.2), (0.1, 0.2, 0.3))},
    ],
)
def test_levels_and_ranges_that_make_no_sense(given: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(given))):
        _images(UNIT, **given)


def test_a_range_of_other_channels_or_levels_is_refused() -> None:
    with pytest.raises(BadData, match="of 2 channels, the images have 3"):
        _images(UNIT, pixel_range=((0.1, 0.2), (1, 1)))
    with pytest.raises(BadData, match="17 levels are 0 to 16, got"):
        _images(COLOUR, levels=17)
    with pytest.raises(BadData, match="is it the range of these images"):
        _images(UNIT, pixel_range=(0.5, 2))


def test_torch_is_never_imported() -> None:
    program = (
        "import sys, numpy as np, rdkit_vae as rdv\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (10, 8, 8), np.uint8)\n"
        "rdv.Images.from_data(pixels, list(pixels / 255), name='npz:x').resized(4)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("size", [3, 5, 12])
def test_resized_has_the_bytes_of_pillow(size: int) -> None:
    square = COLOUR[:, :, :, :6]
    images = _images(square, square[:2]).resized(size)
    assert images.shape == (3, size, size)
    assert f"resized to {size}x{size}" in images.split_rule
    for image, original in zip(images.train, square, strict=True):
        picture = Image.fromarray(original.transpose(1, 2, 0))
        expected = picture.resize((size, size), Image.Resampling.BILINEAR)
        assert np.array_equal(image.transpose(1, 2, 0), np.asarray(expected))


@pytest.mark.parametrize("pixels", [GREY, COLOUR])
def test_resized_has_the_bytes_of_a_folder_read_at_that_size(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    for i, image in enumerate(pixels):
        Image.fromarray(image if image.ndim == 2 else image.transpose(1, 2, 0)).save(
            tmp_path / f"{i}.png"
        )
    folder = rdv.load_dataset(f"folder:{tmp_path}", image_size=4)
    images = _images(pixels)
    resized = images.resized(4)
    assert resized.sha256 == folder.sha256 != images.sha256
    assert resized.resized(4) is resized


def test_what_cannot_be_resized_is_refused() -> None:
    with pytest.raises(BadInput, match="only images of 256 grey levels"):
        _images(GREY % 17, levels=17).resized(4)
    for size in (0, 5000, 3.5, True):
        with pytest.raises(BadInput, match="size must be a whole number"):
            _images(GREY).resized(size)  # type: ignore[arg-type]
