"""Measuring generated samples: seconds of 10,000 samples, and two routes to the Fréchet distance.

    python benchmarks/generation.py [--data-dir DIR]

Samples of an untrained mlp on MNIST (or, without `--data-dir`, on made-up images of its size) are
decoded, turned into features of the classifier and compared with 10,000 test images under every
metric; the bar is 30 s on two cores. Then the Fréchet distance by symmetric eigenvalues against
the matrix square root of the product, of 64, 512 and 2,048 features: a ratio of seconds, and the
difference of the distances.
"""

import time

import click
import numpy as np
import torch
from measure import seconds_to, spread
from scipy import linalg

from rdkit_vae import load_dataset, make_trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.generation.features import features_of
from rdkit_vae.generation.measure import Comparison, Model
from rdkit_vae.scoring.fidelity import Reference, frechet, moments
from rdkit_vae.training.state import build_model

SAMPLES, BAR = 10_000, 30.0
DIMS, REPEATS = (64, 512, 2048), {64: 9, 512: 5, 2048: 1}


def made_up() -> Images:
    """Images of the size and number of MNIST's."""
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8) for n in (60_000, SAMPLES))
    return Images(name="npz:made-up", train=train, test=test, split_rule="made up")


def samples(data_dir: str | None) -> None:
    """Prints the seconds of each part."""
    images = load_dataset("mnist", data_dir=data_dir) if data_dir else made_up()
    trial = make_trial("mnist", architecture="mlp")
    torch.manual_seed(0)
    model = Model(
        network=build_model(trial, images.shape),
        images=images,
        subject=trial,
        epoch=0,
        step=0,
        sha256="",
    )
    features = features_of("classifier" if data_dir else "pixels", images)
    comparison = Comparison(images=images, features=features, n_samples=SAMPLES)
    start = time.perf_counter()
    reference = seconds_to(lambda: (comparison.reference.radii, comparison.reference.kernel_sums))
    made = seconds_to(
        lambda: model.generation_rows(comparison, "prior", "standard", report=lambda what: None)
    )
    total = time.perf_counter() - start
    print(
        f"{SAMPLES:,} samples, features {features.name} ({features.dims}): {total:.1f} s "
        f"(bar {BAR:g} s): reference, once for all models, {reference:.1f} s; samples {made:.1f} s"
    )


def routes(dims: int) -> None:
    """Prints the ratio of two routes to the same distance, which take turns."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((2 * dims, dims)) * scale for scale in (1.0, 1.2))
    seconds, values = [], {}

    def by_eigenvalues() -> None:
        values["eigenvalues"] = frechet(moments(x), Reference(y))

    def by_square_root() -> None:
        (m1, c1), (m2, c2) = moments(x), moments(y)
        root = linalg.sqrtm(c1 @ c2)
        values["root"] = np.square(m1 - m2).sum() + np.trace(c1 + c2 - 2 * root.real)

    for _ in range(REPEATS[dims]):
        seconds.append(seconds_to(by_square_root) / seconds_to(by_eigenvalues))
    difference = abs(values["eigenvalues"] - values["root"]) / values["root"]
    print(
        f"{dims:5} features: square root / eigenvalues {spread(seconds)}; relative difference of "
        f"the distances {difference:.1e}"
    )


@click.command()
@click.option("--data-dir", help="Folder with the files of MNIST.")
def main(data_dir: str | None) -> None:
    """Runs both parts."""
    samples(data_dir)
    for dims in DIMS:
        routes(dims)


if __name__ == "__main__":
    main()
