"""The augmentation of protocol `paper` against a training step of the same batch.

    python benchmarks/augmentation.py [--batch 512] [--repeats 10]

Draws the parameters of a batch of MNIST's size and warps it, and takes a step on it without an
augmentation, in turn, on one thread as a worker of a sweep does. Prints the ratio, which should
stay below 0.1.
"""

import argparse

import numpy as np
import torch
from measure import seconds_to, spread

from rdkit_vae import Images, make_trial
from rdkit_vae.training.augmentation import AUGMENTATIONS
from rdkit_vae.training.state import Training
from rdkit_vae.training.steps import Pack


def compare(architecture: str, images: Images, batch: int, repeats: int) -> None:
    """Prints seconds of the augmentation over those of a step."""
    settings = {"architecture": architecture, "batch_size": batch, "epochs": 10**6}
    trial = make_trial(
        "mnist", protocol="paper", augmentation="none", checkpoints="last", **settings
    )
    pack, warp = Pack([Training(trial, images)]), AUGMENTATIONS["mnist"]
    pixels = torch.from_numpy(images.train)

    def augment() -> None:
        numbers = torch.rand((batch, warp.numbers), dtype=torch.float64)
        warp.inputs(pixels, images.levels, warp.parameters(numbers, images.shape))

    ratios, steps, warps = [], [], []
    for _ in range(repeats + 1):
        steps.append(seconds_to(pack.run_epoch))  # an epoch is one step
        warps.append(seconds_to(augment))
        ratios.append(warps[-1] / steps[-1])
    in_ms = [spread([1000 * s for s in seconds[1:]], 1) for seconds in (warps, steps)]  # warmed up
    print(
        f"{architecture}: augmentation / step {spread(ratios[1:], 3)}; ms: augmentation "
        f"{in_ms[0]}, step {in_ms[1]}",
        flush=True,
    )


def main() -> None:
    """Compares for the two networks that the data suit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shape = (arguments.batch, 1, 28, 28)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = Images(name="mnist", train=pixels, test=pixels, split_rule="made up")
    for architecture in ("conv", "mlp"):
        compare(architecture, images, arguments.batch, arguments.repeats)


if __name__ == "__main__":
    main()
