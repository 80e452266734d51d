"""Models from elsewhere: evaluation against the bare forward pass, and memory on many images.

    python benchmarks/foreign.py [--images 1000] [--repeats 5] [--streamed 10000]

Takes a convolutional VAE that is not ours, for 3x64x64 pixels in [-1, 1] with latents of 8x8x8, as
people write them. Prints first, for 1 and 8 posterior samples, the images per second of the whole
evaluation (so many random images in each of two splits) over those of the same batches through the
encoder once and the decoder K times with nothing else, as median (min..max) over repeats that take
turns. Then the peak of the anonymous memory (RssAnon) of a process that evaluates so many images in
each split from a memory map, with 1 posterior sample, and reads back the weight of the KL, beside
its time; it should stay below 1.5 GB. One thread.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from evaluation import forward
from measure import against_forward, watch
from torch import nn

import rdkit_vae as rdv
from rdkit_vae.evaluation.foreign import evaluate_prepared, prepared

TARGET = 1.5  # GB
_SHAPE, _DRAWS, _DECODED_AT_ONCE = (3, 64, 64), (1, 8), 170  # the last as `evaluate` chooses
_CHUNK = 1000


class Foreign(nn.Module):
    """Three strided convolutions each way; the latents are 8 maps of 8x8."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(64, 16, 4, 2, 1),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(8, 64, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 4, 2, 1),
            nn.Tanh(),
        )

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance, (B, 8, 8, 8) each."""
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        return mean, log_var

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """(B, 3, 64, 64) pixels in [-1, 1]."""
        decoded: torch.Tensor = self.decoder(z)
        return decoded


def images_of(train: np.ndarray, test: np.ndarray) -> rdv.Images:
    """The arrays as a dataset."""
    return rdv.Images.from_data(train, test, name="random")


def compare(images: rdv.Images, draws: int, repeats: int) -> None:
    """Prints the evaluation over the bare forward pass."""
    model = Foreign().eval()
    ready = prepared(rdv.adapt(model, pixel_range=(-1, 1)), images, draws=draws)
    size, count = _DECODED_AT_ONCE // draws, len(images.train)
    x, z = torch.rand(size, *_SHAPE), torch.randn(size * draws, 8, 8, 8)

    def evaluated() -> None:
        evaluate_prepared(ready, device="cpu")

    def passed() -> None:
        for _ in ("train", "test"):
            forward(model, count, draws, x, z)

    forward(model, size, draws, x, z)  # warms up
    ratio = against_forward(evaluated, passed, 2 * count, repeats)
    print(f"{draws} samples: {ratio}", flush=True)


def stream(folder: Path) -> None:
    """Evaluates the images of the memory maps in a folder."""
    torch.set_num_threads(1)
    maps = (np.load(folder / f"{split}.npy", mmap_mode="r") for split in ("train", "test"))
    images = images_of(*maps)
    model = rdv.adapt(Foreign(), pixel_range=(-1, 1))
    ready = prepared(model, images, draws=1, reconstruction="sse")
    evaluate_prepared(ready, device="cpu")


def measure_memory(count: int) -> None:
    """Prints the peak memory of `stream` in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        for seed, split in enumerate(("train", "test")):
            file = Path(temporary, f"{split}.npy")
            out = np.lib.format.open_memmap(file, "w+", np.uint8, (count, *_SHAPE))
            rng = np.random.default_rng(seed)
            for start in range(0, count, _CHUNK):
                part = out[start : start + _CHUNK]
                part[:] = rng.integers(0, 256, part.shape, np.uint8)
            out.flush()
        seconds, memory = watch([sys.executable, __file__, "--stream", temporary], "RssAnon")
    peak = memory.peaks[memory.root] / 1000
    over = "over" if peak > TARGET else "below"
    print(
        f"{count:,} images of 3x64x64 in each split from memory maps: {peak:.2f} GB, {over} the "
        f"{TARGET} GB aimed at; {seconds:.0f} s"
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=1_000, help="in each of two splits")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--streamed", type=int, default=10_000, help="in each of two splits")
    parser.add_argument("--stream", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stream:
        stream(args.stream)
        return
    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (2 * args.images, *_SHAPE), np.uint8)
    images = images_of(pixels[: args.images], pixels[args.images :])
    for draws in _DRAWS:
        compare(images, draws, args.repeats)
    measure_memory(args.streamed)


if __name__ == "__main__":
    main()
