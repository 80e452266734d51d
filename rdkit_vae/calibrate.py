"""How long a sweep will take and how much it will write, from a short measurement."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from rdkit_vae.datasets.images import Images
from rdkit_vae.evaluation import evaluate
from rdkit_vae.footprint import bytes_of, evaluated
from rdkit_vae.inputs import to_unit
from rdkit_vae.training import Training
from rdkit_vae.trial import Trial

_SECONDS = 2.0  # of training steps that are timed
_IMAGES = 128  # that are evaluated for the timing
_START_UP = 5.0  # seconds until the workers have loaded torch and the data


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds of wall clock and bytes on disk, both to be taken as "about"."""

    seconds: float
    bytes: float


def estimate(trials: Sequence[Trial], images: Images, *, jobs: int, device: str) -> Estimate:
    """Times a few steps and a small evaluation of the first trial, and extrapolates to all."""
    torch.set_num_threads(1)
    trial = replace(trials[0], beta=1.0, learning_rate=1e-9)  # as fast, and never diverges
    training = Training(trial, images, device)
    per_step = _seconds_per_step(training)
    per_image = _seconds_per_image(training, device)
    steps, checkpoints = training.steps_per_epoch * trial.epochs, len(trial.checkpoints)
    seconds = steps * per_step + checkpoints * evaluated(training) * per_image
    rounds = -(-len(trials) // jobs)
    return Estimate(seconds=_START_UP + rounds * seconds, bytes=len(trials) * bytes_of(training))


def _seconds_per_step(training: Training) -> float:
    noise = torch.Generator(training.device)
    batch = next(training.batches())
    x = to_unit(training.images.train[batch], training.images.levels, training.device)
    training.optimise(x, noise)  # the first one also sets things up
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < _SECONDS:
        training.optimise(x, noise)
        done += 1
    return (time.perf_counter() - start) / done


def _seconds_per_image(training: Training, device: str) -> float:
    images = training.images
    few = replace(
        images,
        train=images.train[:_IMAGES],
        test=images.test[:_IMAGES],
        sha256="sample",
    )
    start = time.perf_counter()
    evaluate(training.model, few, training.trial, device=device)
    return (time.perf_counter() - start) / (len(few.train) + len(few.test))
