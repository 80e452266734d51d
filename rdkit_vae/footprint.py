"""What a trial will write."""

import io

import torch

from rdkit_vae.evaluation import SPLITS, evaluated_images
from rdkit_vae.training import Training

_BYTES_PER_DRAW = 20  # of a statistics file, compressed


def bytes_of(training: Training) -> float:
    """About the bytes of a trial's checkpoints and statistics, from its beginning."""
    trial, checkpoints = training.trial, len(training.trial.checkpoints)
    full, last = _checkpoint_bytes(training)
    stored = evaluated(training) * trial.draws * _BYTES_PER_DRAW
    return full * (checkpoints - 1) + last + stored * checkpoints


def evaluated(training: Training) -> int:
    """How many images each checkpoint is evaluated on."""
    images, trial = training.images, training.trial
    return sum(len(evaluated_images(images, split, trial)) for split in SPLITS)


def _checkpoint_bytes(training: Training) -> tuple[int, int]:
    """Size of a checkpoint with the optimiser's state, and of the last one, without."""
    weights = io.BytesIO()
    torch.save(training.state()["model"], weights)
    return 3 * weights.tell(), weights.tell()  # AdamW has two moments of each weight
