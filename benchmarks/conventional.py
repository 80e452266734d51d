"""The yardstick: VAEs trained the way it is usually written, one model after another.

    python benchmarks/conventional.py --data-dir DIR [--epochs 1] [--betas 0.1,1] [--images N]
        [--device cpu|cuda] [--max-steps N] [--objective optimal] [--json PATH]

Prints a line a model, and at the end the images trained per second over all of them. PyTorch as
tutorials use it: a DataLoader of two lasting worker processes whose dataset opens and warps one PIL
image at a time, contiguous float32, the library's threads, eager, AdamW as it comes, `loss.item()`
each step. Network, batch size, learning rate and its annealing, loss and warps are those of
`rdvae sweep --dataset mnist --protocol paper`, so that the models are the same. Like it, the test
images are warped too, each once.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts
from torch.utils.data import DataLoader, Dataset

from rdkit_vae import load_dataset
from rdkit_vae.config.trial import DEFAULT_SIGMA2, SIGMA2_FLOOR
from rdkit_vae.datasets.images import Pixels
from rdkit_vae.models.conv import ConvVAE, start_as_reference
from rdkit_vae.objectives.losses import OBJECTIVES, Setting, kl_divergence

SHAPE, DIMS, LATENTS, BATCH = (1, 28, 28), 784, 32, 512
LOG_OFFSET = 1e-5  # of the reference's `optimal`
_DEGREES, _SCALE, _RATIO, _TRIES = 10.0, (0.9, 1.0), (0.9, 1.1), 10


class Digits(Dataset[Tensor]):
    """(N, 1, 28, 28) uint8 pixels as one warped float32 image (1, 28, 28) in [0, 1] at a time."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        image = crop(rotate(Image.fromarray(self.pixels[index, 0])))
        return torch.from_numpy(np.asarray(image, np.float32)[None] / 255)


def rotate(image: Image.Image) -> Image.Image:
    """Turns by an angle of +-10 degrees, to the nearest pixel."""
    angle = random.uniform(-_DEGREES, _DEGREES)
    return image.rotate(angle, resample=Image.Resampling.NEAREST)


def crop(image: Image.Image) -> Image.Image:
    """Cuts out 0.9-1 of the area at a ratio of 0.9-1.1, and resizes that to the old size."""
    width, height = image.size
    for _ in range(_TRIES):
        area = width * height * random.uniform(*_SCALE)
        ratio = math.exp(random.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if w <= width and h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            cut = image.crop((left, top, left + w, top + h))
            return cut.resize(image.size, Image.Resampling.BILINEAR)
    return image


def losses(
    model: nn.Module, x: Tensor, objective: str, beta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, rate (nats) and squared error of each image, (B,), at one draw."""
    mean, log_var = model.encode(x)  # type: ignore[operator]
    z = mean + (log_var / 2).exp() * torch.randn_like(mean)
    sse = (x - model.decode(z)).square().flatten(1).sum(dim=1)  # type: ignore[operator]
    rate = kl_divergence(mean, log_var)
    entry = OBJECTIVES[objective]
    sigma2 = DEFAULT_SIGMA2 if entry.has_sigma2 else None
    setting = Setting(beta=beta, dims=DIMS, floor=SIGMA2_FLOOR, log_offset=LOG_OFFSET)
    return entry.loss(sse, rate, sigma2, setting), rate, sse


def train_one(
    objective: str,
    beta: float,
    train_pixels: Pixels,
    test_pixels: Pixels,
    epochs: int,
    device: str,
    *,
    seed: int = 0,
    workers: int = 2,
    max_steps: int | None = None,
) -> dict[str, float]:
    """Trains one model and evaluates it on the test images.

    Args:
        objective: `optimal` or `constant`.
        beta: weight of the rate.
        train_pixels, test_pixels: uint8 (N, 1, 28, 28).
        epochs: over all training images but those that fill no last batch.
        device: a torch device.
        seed: of weights, order, warps and draws.
        workers: processes of each DataLoader.
        max_steps: ends the training there, as if it were through.

    Returns:
        `images` trained and the `seconds` that took, from before the model is made;
        `evaluation_seconds`; the mean `loss` of the last epoch, nats; `rate` (nats) and `mse` (a
        pixel), means over the test images.
    """
    start = time.perf_counter()
    torch.manual_seed(seed)
    random.seed(seed)
    loader = DataLoader(
        Digits(train_pixels),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.startswith("cuda"),
    )
    if not len(loader):
        raise SystemExit(f"{len(train_pixels)} images fill no batch of {BATCH}")
    model = ConvVAE(SHAPE, LATENTS)
    start_as_reference(model)
    model = model.to(device)
    steps, loss = fit(model, loader, objective, beta, epochs, device, max_steps)
    trained = time.perf_counter()
    rate, mse = evaluate(model, test_pixels, device, workers=workers)
    return {
        "images": steps * BATCH,
        "seconds": trained - start,
        "evaluation_seconds": time.perf_counter() - trained,
        "loss": loss,
        "rate": rate,
        "mse": mse,
    }


def fit(
    model: nn.Module,
    loader: DataLoader[Tensor],
    objective: str,
    beta: float,
    epochs: int,
    device: str,
    max_steps: int | None,
) -> tuple[int, float]:
    """Trains a model; returns the steps taken and the mean loss of the last epoch, nats."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-5)
    scheduler = CosineAnnealingWarmRestarts(optimizer, epochs * len(loader) // 2 + 1)
    model.train()
    steps = 0
    for _ in range(epochs):
        total, batches = 0.0, 0
        for images in loader:
            x = images.to(device, non_blocking=True)
            loss = losses(model, x, objective, beta)[0].mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            total, batches, steps = total + loss.item(), batches + 1, steps + 1
            if steps == max_steps:
                return steps, total / batches
    return steps, total / batches


@torch.no_grad()
def evaluate(
    model: nn.Module, pixels: Pixels, device: str, *, workers: int = 2
) -> tuple[float, float]:
    """Mean rate (nats) and squared error a pixel over images, warped, each once at one draw."""
    model.eval()
    loader = DataLoader(
        Digits(pixels), batch_size=BATCH, num_workers=workers, pin_memory=device.startswith("cuda")
    )
    rate, sse = 0.0, 0.0
    for images in loader:
        _, rates, errors = losses(model, images.to(device, non_blocking=True), "constant", 1.0)
        rate, sse = rate + rates.sum().item(), sse + errors.sum().item()
    return rate / len(pixels), sse / len(pixels) / DIMS


def main() -> None:
    """Trains a model for each beta, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data-dir", required=True, help="folder of MNIST's IDX files")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--betas", default="0.1,1", help="a list, such as 0.1,1")
    parser.add_argument("--objective", choices=("optimal", "constant"), default="optimal")
    parser.add_argument("--images", type=int, help="train on the first N (default: all)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--max-steps", type=int, help="of each model (default: all)")
    parser.add_argument("--json", type=Path, help="also write what was measured to this file")
    args = parser.parse_args()
    digits = load_dataset("mnist", data_dir=args.data_dir)
    train = digits.train[: args.images]
    found = []
    for beta in map(float, args.betas.split(",")):
        one = train_one(
            args.objective, beta, train, digits.test, args.epochs, args.device,
            max_steps=args.max_steps,
        )  # fmt: skip
        found.append({"beta": beta, **one})
        print(
            f"{args.objective}, beta {beta:g}: {one['images'] / one['seconds']:,.0f} images per "
            f"second; loss {one['loss']:.2f}, rate {one['rate']:.2f}, mse {one['mse']:.4g}; "
            f"evaluated in {one['evaluation_seconds']:.1f} s",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(found), "utf-8")
    images, seconds = (sum(one[key] for one in found) for key in ("images", "seconds"))
    print(f"{images / seconds:,.0f} images per second, trained")


if __name__ == "__main__":
    main()
