"""The augmentations of the paper, against torchvision's own results and Pillow itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rdkit_vae.training.augmentation import (
    AUGMENTATIONS,
    crop_of,
    resized_crop,
    rotated,
    rotation_of,
    to_unit,
)

# Made by data/make_torchvision.py.
TORCHVISION = Path(__file__).parent / "data" / "torchvision.npz"


def uniform(n: int, name: str = "mnist") -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (n, AUGMENTATIONS[name].numbers)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", ["28x28", "20x31"])
def test_rotation_and_crop_are_those_of_torchvision_in_every_pixel(size: str) -> None:
    with np.load(TORCHVISION) as stored:
        images, angles, boxes, turned, cropped = (
            torch.from_numpy(stored[f"{size}/{name}"])
            for name in ("images", "angles", "boxes", "rotated", "cropped")
        )
    ours = rotated(images[:, None], rotation_of(angles, (1, *images.shape[1:])))
    assert torch.equal(ours[:, 0], turned)
    assert torch.equal(resized_crop(ours, boxes.int())[:, 0], cropped)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (2, 7, 40)])
def test_drawn_warps_are_those_of_pillow_in_every_pixel(shape: tuple[int, int, int]) -> None:
    n, (channels, height, width) = 50, shape
    images = np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)
    numbers, warp = uniform(n), AUGMENTATIONS["mnist"]
    boxes = warp.parameters(numbers, shape)[:, 6:].tolist()
    found = warp.inputs(torch.from_numpy(images), 256, warp.parameters(numbers, shape))
    for image, drawn, (top, left, rows, columns), ours in zip(
        images, numbers, boxes, found, strict=True
    ):
        angle = 20 * float(drawn[0]) - 10
        for channel in range(channels):
            box = (left, top, left + columns, top + rows)
            turned = Image.fromarray(image[channel]).rotate(angle, Image.Resampling.NEAREST)
            theirs = turned.crop(box).resize((width, height), Image.Resampling.BILINEAR)
            expected = to_unit(torch.from_numpy(np.array(theirs)), 256)
            assert torch.equal(ours[channel], expected)


def test_crops_have_the_areas_and_ratios_of_the_paper() -> None:
    n, side = 20_000, 1000  # so large that rounding to whole pixels hardly matters
    _, areas, ratios, places = uniform(n).split([1, 10, 10, 2], dim=1)
    top, left, height, width = crop_of(areas, ratios, places, (1, side, side)).double().T / side
    area, ratio = height * width, width / height
    assert area.min() > 0.899
    assert (ratio.min() > 0.899, ratio.max() < 1.101) == (True, True)
    assert min(top.min(), left.min()) == 0
    assert (top + height).max() == (left + width).max() == 1
    # Ratios above 1 and below are alike: log-uniform, and a crop fits either way round.
    assert abs(ratio.log().mean()) < 4 * ratio.log().std() / n**0.5 + 0.0025
    # A place is uniform among those that leave the crop inside.
    room = 1 - height
    assert (top / room)[room > 0.02].mean() == pytest.approx(0.5, abs=0.02)


def test_the_first_pair_that_fits_is_used() -> None:
    areas, ratios = torch.ones(1, 10, dtype=torch.float64), torch.zeros(1, 10, dtype=torch.float64)
    areas[0, 3] = 0.0  # area 0.9; the others are the whole area with a ratio other than 1
    ratios[0, 3] = np.log(1 / 0.9) / np.log(1.1 / 0.9)  # a ratio of 1
    (box,) = crop_of(areas, ratios, torch.zeros(1, 2), (1, 100, 100)).tolist()
    assert box == [0, 0, 95, 95]  # 95 = round(100 sqrt(0.9))


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((1, 28, 28), [0, 0, 28, 28]),
        ((1, 28, 70), [0, 19, 28, 31]),  # as wide as 1.1 times its height
        ((1, 70, 28), [19, 0, 31, 28]),  # as wide as 0.9 times its height
    ],
)
def test_where_no_pair_fits_the_crop_is_central(
    shape: tuple[int, int, int], box: list[int]
) -> None:
    # The whole area at a ratio of 0.9, which fits into none of these.
    whole, narrow = torch.ones(1, 10, dtype=torch.float64), torch.zeros(1, 10, dtype=torch.float64)
    assert crop_of(whole, narrow, torch.zeros(1, 2), shape).tolist() == [box]


def test_what_is_rotated_out_of_an_image_is_lost_and_corners_become_0() -> None:
    white = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    turned = rotated(white, rotation_of(torch.tensor([10.0], dtype=torch.float64), (1, 28, 28)))
    assert set(turned.unique().tolist()) == {0, 255}
    assert turned[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 0, 0, 0]
    still = rotated(white, rotation_of(torch.tensor([0.0], dtype=torch.float64), (1, 28, 28)))
    assert torch.equal(still, white)


def test_the_warp_of_older_releases_is_one_bilinear_map() -> None:
    """A rotation of at most 10 degrees and a crop inside the image."""
    theta = AUGMENTATIONS["mnist-bilinear"].parameters(uniform(2000), (1, 28, 28)).double().numpy()
    width, height = (np.hypot(theta[:, 0, k], theta[:, 1, k]) for k in (0, 1))
    angle = np.rad2deg(np.arctan2(theta[:, 1, 0], theta[:, 0, 0]))
    assert 9.5 < np.abs(angle).max() <= 10
    assert (width * height).min() >= 0.9 - 1e-6
    assert max(width.max(), height.max()) <= 1 + 1e-6
    assert (width / height).min() >= 0.9 - 1e-6
    centre = theta[:, :, 2]
    assert (np.hypot(centre[:, 0], centre[:, 1]) <= np.hypot(1 - width, 1 - height) + 1e-6).all()


def test_a_flip_is_exact() -> None:
    flip = AUGMENTATIONS["celeba"]
    x = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    flips = flip.parameters(torch.tensor([[0.6], [0.4]]), (3, 4, 5))
    flipped = flip.inputs(x, 256, flips)
    assert torch.equal(flipped[0], to_unit(x[0], 256))
    assert torch.equal(flipped[1], to_unit(x[1].flip(2), 256))


@pytest.mark.parametrize("name", ["mnist", "celeba"])
def test_warped_pixels_are_grey_levels(name: str) -> None:
    """With 17 levels too: what Pillow rounds to are whole levels."""
    warp, x = AUGMENTATIONS[name], torch.randint(0, 17, (8, 1, 9, 9), dtype=torch.uint8)
    levels = warp.inputs(x, 17, warp.parameters(uniform(8, name), (1, 9, 9))) * 16
    assert torch.allclose(levels, levels.round(), atol=1e-5)
    assert warp.keeps_levels
