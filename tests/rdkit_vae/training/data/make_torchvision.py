"""Makes torchvision.npz: what torchvision's own transforms return for given parameters.

    python make_torchvision.py

Run once with torchvision 0.28.0 and Pillow 13.0.0, in an environment of its own, because rdvae does
not depend on torchvision. The images are random strokes and noise; the parameters include the
extremes of the paper's protocol.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torchvision.transforms import functional as F

rng = np.random.default_rng(0)


def drawn(height: int, width: int) -> Image.Image:
    """Three strokes on black."""
    image = Image.new("L", (width, height))
    for _ in range(3):
        ends = [(int(rng.integers(width)), int(rng.integers(height))) for _ in range(3)]
        ImageDraw.Draw(image).line(ends, fill=int(rng.integers(100, 256)), width=3)
    return image


def arrays(
    height: int, width: int, boxes: list[tuple[int, int, int, int]]
) -> dict[str, np.ndarray]:
    """Images, angles in degrees and boxes (top, left, height, width), and what comes out."""
    images = [drawn(height, width) for _ in boxes]
    images[0] = Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8))
    angles = np.linspace(-10, 10, len(boxes))
    rotated = [F.rotate(image, float(a)) for image, a in zip(images, angles, strict=True)]
    cropped = [
        F.resized_crop(image, *box, [height, width], F.InterpolationMode.BILINEAR, antialias=True)
        for image, box in zip(rotated, boxes, strict=True)
    ]
    name = f"{height}x{width}"
    return {
        f"{name}/images": np.stack(images),
        f"{name}/angles": angles,
        f"{name}/boxes": np.array(boxes),
        f"{name}/rotated": np.stack(rotated),
        f"{name}/cropped": np.stack(cropped),
    }


of_mnist = [(0, 0, 28, 28), (0, 3, 28, 25), (1, 0, 26, 28), (2, 1, 26, 27), (1, 1, 27, 27)]
other = [(0, 0, 20, 31), (1, 2, 19, 29), (1, 0, 18, 31)]
np.savez_compressed(
    Path(__file__).with_name("torchvision.npz"), **arrays(28, 28, of_mnist), **arrays(20, 31, other)
)
