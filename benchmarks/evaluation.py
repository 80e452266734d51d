"""Evaluation against the bare forward pass, and scoring by interpretation.

    python benchmarks/evaluation.py [--images 5000] [--repeats 5]

Prints first, for 1 and 8 draws, the images per second of `evaluate` (the paper's network, so many
random 28x28 images in each of two splits) over those of the same batches through encoder once and
decoder K times with nothing else, as median (min..max) over repeats that take turns. Then (image,
draw) pairs per second of `score` for each interpretation by itself, on statistics in memory of
10,000 images x 64 draws in each of two splits, and which stay below 10^7. One thread; an untrained
network.
"""

import argparse
import statistics
from functools import partial

import numpy as np
import torch
from measure import against_forward, seconds_to, spread

from rdkit_vae import evaluate, make_trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.models import VAE
from rdkit_vae.models.conv import ConvVAE
from rdkit_vae.scoring.interpretations import INTERPRETATIONS
from rdkit_vae.scoring.scores import score
from rdkit_vae.scoring.statistics import Statistics
from rdkit_vae.training.state import build_model

_SHAPE, _LATENTS, _DRAWS = (1, 28, 28), 32, (1, 8)
_DECODED_AT_ONCE = 1024  # images times draws, what `evaluate` chooses
_SCORED_IMAGES, _SCORED_DRAWS = 10_000, 64
_TARGET = 1e7  # pairs per second
_NUMBERED = ("constant:0.01", "mixture:0.01..1")


@torch.inference_mode()
def forward(model: VAE, images: int, draws: int, x: torch.Tensor, z: torch.Tensor) -> None:
    """Encodes (B, C, H, W) and decodes (B K, ...) for so many images, and keeps nothing.

    x and z are one batch, taken again for each; of the last, as much as is left.
    """
    for start in range(0, images, len(x)):
        size = min(len(x), images - start)
        model.encode(x[:size])
        model.decode(z[: size * draws])


def compare(images: Images, draws: int, repeats: int) -> None:
    """Prints `evaluate` over the bare forward pass."""
    trial = make_trial("npz:random", latents=_LATENTS, epochs=1, draws=draws)
    model = build_model(trial, images.shape).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert isinstance(model, ConvVAE)
    size, count = _DECODED_AT_ONCE // draws, len(images.train)
    x = torch.rand(size, *_SHAPE).contiguous(memory_format=torch.channels_last)
    z = torch.randn(size * draws, _LATENTS)

    def evaluated() -> None:
        evaluate(model, images, trial, batch_size=size)

    def passed() -> None:
        for _ in ("train", "test"):
            forward(model, count, draws, x, z)

    forward(model, size, draws, x, z)  # warms up
    ratio = against_forward(evaluated, passed, 2 * count, repeats)
    print(f"{draws} draws: {ratio}", flush=True)


def measured(rng: np.random.Generator) -> Statistics:
    """Made-up statistics, with a variance for each pair, so that all interpretations apply."""
    shape = (_SCORED_IMAGES, _SCORED_DRAWS)
    dims = int(np.prod(_SHAPE))
    sse = dims * rng.gamma(4.0, 0.003, shape)
    return Statistics(
        image=np.arange(_SCORED_IMAGES),
        kl=rng.gamma(20.0, 1.0, _SCORED_IMAGES),
        sse=sse,
        log_ratio=-rng.gamma(20.0, 1.0, shape),
        dims=dims,
        levels=256,
        own_sigma2=sse / dims * rng.uniform(0.9, 1.1, shape),
    )


def score_each(repeats: int) -> None:
    """Prints pairs per second of each interpretation, the slowest first."""
    rng = np.random.default_rng(0)
    splits = {"train": measured(rng), "test": measured(rng)}
    pairs = len(splits) * _SCORED_IMAGES * _SCORED_DRAWS
    trial = make_trial("npz:random", latents=_LATENTS, epochs=1, draws=_SCORED_DRAWS)
    speeds = {}
    for name in (*INTERPRETATIONS, *_NUMBERED):
        work = partial(score, splits, trial, [name])
        work()  # warms up
        speeds[name] = [pairs / seconds_to(work) for _ in range(repeats)]
    print(f"(image, draw) pairs scored per second, millions; the target is {_TARGET / 1e6:.0f}")
    for name, found in sorted(speeds.items(), key=lambda item: statistics.median(item[1])):
        below = "  below the target" if statistics.median(found) < _TARGET else ""
        print(f"  {name:>15} {spread([each / 1e6 for each in found], 1)}{below}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=5_000, help="in each of two splits")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (2 * args.images, *_SHAPE), np.uint8)
    train, test = pixels[: args.images], pixels[args.images :]
    images = Images(name="npz:random", train=train, test=test, split_rule="made up")
    for draws in _DRAWS:
        compare(images, draws, args.repeats)
    score_each(args.repeats)


if __name__ == "__main__":
    main()
