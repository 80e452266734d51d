"""Scoring stored statistics against evaluating the model again: 10,000 images x 8 draws of 28x28.

    python benchmarks/rescore.py

Prints the seconds of both, and their ratio. Nothing is trained: an untrained network is evaluated.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rdkit_vae import evaluate, make_trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.scoring.bounds import score_bounds
from rdkit_vae.scoring.interpretations import INTERPRETATIONS, SIGMAS
from rdkit_vae.scoring.scores import interpret, score
from rdkit_vae.store.evaluations import read_statistics, write_statistics
from rdkit_vae.training.state import build_model

_IMAGES, _DRAWS, _REPEATS = 10_000, 8, 5


def _seconds(work: Callable[[], object], repeats: int = _REPEATS) -> float:
    """The median of a few runs."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return float(np.median(found))


def main() -> None:
    """Measures and prints."""
    pixels = np.random.default_rng(0).integers(0, 256, (_IMAGES, 1, 28, 28), np.uint8)
    images = Images(name="npz:random", train=pixels[:100], test=pixels, split_rule="made up")
    trial = make_trial("npz:random", architecture="mlp", latents=32, epochs=1, draws=_DRAWS)
    model = build_model(trial, images.shape).eval()
    evaluated = _seconds(lambda: evaluate(model, images, trial), repeats=1)
    densities = [name for name in SIGMAS if INTERPRETATIONS[name].is_density]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "statistics.parquet")
        write_statistics(path, evaluate(model, images, trial), {})
        read = _seconds(lambda: read_statistics(path))
        statistics, _ = read_statistics(path)
    scored = _seconds(lambda: score(statistics, trial, SIGMAS))
    every = range(1, _DRAWS + 1)
    bounded = _seconds(lambda: score_bounds(interpret(statistics, trial, densities), every, {}))
    print(f"evaluate the model            {evaluated:8.3f} s")
    print(f"read the stored statistics    {read:8.3f} s")
    print(f"score all interpretations     {scored:8.3f} s")
    print(f"IWAE-1..{_DRAWS} of all densities   {bounded:8.3f} s")
    print(f"ratio, evaluate / read + score {evaluated / (read + scored):7.0f}")


if __name__ == "__main__":
    main()
