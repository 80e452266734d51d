"""How long a sweep will take and how much it will write, from a short measurement."""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from rdkit_vae.datasets.images import Images
from rdkit_vae.evaluation import SPLITS, evaluate, evaluated_images
from rdkit_vae.inputs import to_unit
from rdkit_vae.training import Training
from rdkit_vae.trial import Trial

_SECONDS = 2.0  # of training steps that are timed
_IMAGES = 128  # that are evaluated for the timing
_START_UP = 5.0  # seconds until the workers have loaded torch and the data
_BYTES_PER_DRAW = 20  # of a statistics file, compressed


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
    evaluated = sum(len(evaluated_images(images, split, trial)) for split in SPLITS)
    steps, checkpoints = training.steps_per_epoch * trial.epochs, len(trial.checkpoints)
    seconds = steps * per_step + checkpoints * evaluated * per_image
    rounds = -(-len(trials) // jobs)
    return Estimate(seconds=_START_UP + rounds * seconds, bytes=_bytes(training, len(trials)))


def bytes_of(trials: Sequence[Trial], images: Images) -> float:
    """What trials will write, without the time that they take."""
    return _bytes(Training(trials[0], images), len(trials))


def _bytes(training: Training, n_trials: int) -> float:
    trial, images = training.trial, training.images
    checkpoints = len(trial.checkpoints)
    full, last = _checkpoint_bytes(training)
    evaluated = sum(len(evaluated_images(images, split, trial)) for split in SPLITS)
    stored = evaluated * trial.draws * _BYTES_PER_DRAW * checkpoints
    return n_trials * (full * (checkpoints - 1) + last + stored)


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


def _checkpoint_bytes(training: Training) -> tuple[int, int]:
    """Size of a checkpoint with the optimiser's state, and of the last one, without."""
    state = training.state()
    sizes = []
    for content in (state, state["model"]):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        sizes.append(buffer.tell())
    return sizes[0], sizes[1]
