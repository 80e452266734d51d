"""Trials trained as one against the same trials one after the other, on one thread of a CPU.

    python benchmarks/packed.py [--repeats 5] [--seconds 1]

Prints for each dense architecture, on digits and on random 28x28 images, for 1 to 16 trials: the
steps per second of all trials stacked, over those of a group whose networks step in turn, as median
(min..max) over repeats that take turns.
"""

import argparse
import time
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch
from measure import spread

from rdkit_vae import load_dataset, make_trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.models import ARCHITECTURES
from rdkit_vae.system.processes import keep_freed_memory
from rdkit_vae.training.state import Training
from rdkit_vae.training.steps import Pack

_COUNTS = (1, 2, 4, 8, 16)


def steps_per_second(pack: Pack, seconds: float) -> float:
    """Of all trials together; each epoch is begun anew, with all that this takes."""
    first, start = pack.members[0], time.perf_counter()
    before = first.step
    while time.perf_counter() < start + seconds:
        pack.run_epoch(stop=lambda: time.perf_counter() > start + seconds)
    return (first.step - before) * len(pack.members) / (time.perf_counter() - start)


def groups(images: Images, architecture: str, batch_size: int, count: int) -> tuple[Pack, Pack]:
    """The same trials stacked, and in turn."""
    trials = [
        make_trial(
            images.name,
            architecture=architecture,
            latents=8,
            epochs=10**6,
            batch_size=batch_size,
            checkpoints="last",
            beta=0.1 * (number + 1),
        )
        for number in range(count)
    ]
    stacked = Pack([Training(trial, images) for trial in trials])
    entry = replace(ARCHITECTURES[architecture], stacks=False)
    with patch.dict(ARCHITECTURES, {architecture: entry}):  # type: ignore[arg-type]
        in_turn = Pack([Training(trial, images) for trial in trials])
    return stacked, in_turn


def compare(images: Images, architecture: str, batch_size: int, args: argparse.Namespace) -> None:
    """Prints a line for each number of trials."""
    for count in _COUNTS:
        pair = groups(images, architecture, batch_size, count)
        for pack in pair:
            pack.run_epoch()
        found = []
        for number in range(args.repeats):
            order = pair if number % 2 == 0 else pair[::-1]
            speeds = {group: steps_per_second(group, args.seconds) for group in order}
            found.append((speeds[pair[0]], speeds[pair[1]]))
        ratio = spread([stacked / in_turn for stacked, in_turn in found])
        speed = spread([stacked for stacked, _ in found], 0)
        print(
            f"{images.name:10} {architecture:6} {count:2} trials: stacked / in turn {ratio}; "
            f"{speed} steps per second",
            flush=True,
        )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    pixels = np.random.default_rng(0).integers(0, 256, (2_000, 1, 28, 28), np.uint8)
    larger = Images(name="npz:28x28", train=pixels[500:], test=pixels[:500], split_rule="made up")
    for images, batch_size in ((load_dataset("digits"), 64), (larger, 128)):
        for architecture, entry in ARCHITECTURES.items():
            if entry.stacks:
                compare(images, architecture, batch_size, args)


if __name__ == "__main__":
    main()
