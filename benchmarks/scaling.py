"""How wall clock and memory of `rdvae sweep` grow with trials, images, draws and latents.

    python benchmarks/scaling.py [--quick]

Trains the linear network, cheap enough that what is left is overhead, for an epoch with its last
checkpoint, as a command of its own for each size. Prints a table for each of:

- trials, 1 to 256 betas on digits: the seconds of each further trial, which should be below 0.3;
- images, 1,000 to 100,000 of 1x8x8 from an .npz (every fifth is test);
- draws, 1 to 64 on digits; and latents, 2 to 256 on digits.

`growth` is how much longer it took than the size before, over how much larger it is: 1 is in
proportion. Memory is the peak resident set (VmHWM of /proc, which counts the pages of mapped files
too) of the command's process and of the largest process below it, looked at every 0.05 s. `--quick`
runs the smallest two sizes of each.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import RDVAE, watch

TARGET = 0.3  # seconds of a further trial
_QUICK = 2  # sizes

Options = Callable[[int, Path], list[str]]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What grows.

    Attributes:
        name: in words.
        sizes: rising.
        options: of the sweep, from a size and a folder to make data in.
        per: what the seconds of a further one are printed for; empty: they are not.
    """

    name: str
    sizes: tuple[int, ...]
    options: Options
    per: str = ""


def _trials(size: int, folder: Path) -> list[str]:
    return ["--betas", f"1e-3..1e3:{size}" if size > 1 else "1"]


def _images(size: int, folder: Path) -> list[str]:
    pixels = np.random.default_rng(0).integers(0, 256, (size, 1, 8, 8), np.uint8)
    np.savez(folder / "images.npz", images=pixels)
    return ["--betas", "1", "--dataset", f"npz:{folder / 'images.npz'}"]


def _draws(size: int, folder: Path) -> list[str]:
    return ["--betas", "1", "--draws", str(size)]


def _latents(size: int, folder: Path) -> list[str]:
    return ["--betas", "1", "--latents", str(size)]


AXES = (
    Axis(name="trials", sizes=(1, 4, 16, 64, 256), options=_trials, per="trial"),
    Axis(name="images", sizes=(1_000, 3_000, 10_000, 30_000, 100_000), options=_images),
    Axis(name="draws", sizes=(1, 4, 16, 64), options=_draws),
    Axis(name="latents", sizes=(2, 8, 32, 128, 256), options=_latents),
)


def measure(axis: Axis, size: int) -> tuple[float, float, float]:
    """Seconds of one sweep, and the peak MB of its process and of the largest worker."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(*RDVAE, "sweep", "--architecture", "linear", "--objectives", "optimal"),
            *("--epochs", "1", "--checkpoints", "last", "--device", "cpu"),
            *("--out", f"{folder}/sweep", *axis.options(size, Path(folder))),
        ]
        seconds, memory = watch(command, "VmHWM")
    return seconds, memory.peaks[memory.root], max(memory.below(), default=0.0)


def rows(axis: Axis, sizes: tuple[int, ...]) -> Iterator[str]:
    """The lines of an axis's table, each as it is measured."""
    header = f"{axis.name:>8} {'seconds':>8} {'growth':>7} {'parent MB':>10} {'worker MB':>10}"
    yield header + (f" {'s per further ' + axis.per:>19}" if axis.per else "")
    before = None
    for size in sizes:
        seconds, parent, worker = measure(axis, size)
        growth, each = "-", "-"
        if before:
            growth = f"{seconds / before[1] / (size / before[0]):.2f}"
            each = f"{(seconds - before[1]) / (size - before[0]):.3f}"
        last = f" {each:>19}" if axis.per else ""
        yield f"{size:8,} {seconds:8.2f} {growth:>7} {parent:10.0f} {worker:10.0f}{last}"
        before = size, seconds


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="the smallest two sizes of each")
    args = parser.parse_args()
    print(f"a further trial should take less than {TARGET} s")
    for axis in AXES:
        print()
        for row in rows(axis, axis.sizes[:_QUICK] if args.quick else axis.sizes):
            print(row, flush=True)


if __name__ == "__main__":
    main()
