"""How much disk space a trial takes, and how much memory it takes to train."""

import gc
import io
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from rdkit_vae.config.trial import Trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.evaluation.evaluate import SPLITS, evaluated_images
from rdkit_vae.models import ARCHITECTURES
from rdkit_vae.training.networks import LossTerms, is_stacked
from rdkit_vae.training.state import Training, build_model

_BYTES_PER_DRAW = 20  # of a statistics file, compressed
_COPIES = 6  # of a weight: itself, gradient, two moments; the last finite one, and the next
_MOST_ON_CPU = 2**29  # bytes for a pack; larger packs are not faster
_SHARE_OF_GPU = 0.8  # of the free memory


def bytes_of(training: Training) -> float:
    """Approximate bytes of the checkpoints and statistics of a trial, once it has ended."""
    stored = evaluated(training) * training.trial.draws * _BYTES_PER_DRAW
    return len(training.trial.checkpoints) * (_bytes_of_weights(training) + stored)


def evaluated(training: Training) -> int:
    """The number of images that each checkpoint is evaluated on."""
    images, trial = training.images, training.trial
    return sum(len(evaluated_images(images, split, trial)) for split in SPLITS)


def _bytes_of_weights(training: Training) -> int:
    weights = io.BytesIO()  # of copies, as the weights in a pack are views of larger tensors
    torch.save({name: w.clone() for name, w in training.model.state_dict().items()}, weights)
    return weights.tell()


def packs_that_fit(
    trials: Sequence[Trial], images: Images, device: str, jobs: int = 1
) -> list[list[Trial]]:
    """Divides trials into packs, as equal as possible, that fit into the memory.

    On a CPU, packs of networks that cannot be stacked gain nothing, so each trial gets its own.

    Args:
        trials: with the same `Trial.pack_key`.
        images: to train on.
        device: a torch device.
        jobs: processes that share the device.
    """
    stacked = is_stacked(trials[0], images.shape, torch.device(device))
    if not stacked and device == "cpu":
        return [[trial] for trial in trials]
    state, activations = bytes_in_training(trials[0], images)
    if stacked:
        state, activations = state + activations, 0
    free = float(_MOST_ON_CPU)
    if device != "cpu":
        gc.collect()  # memory of earlier packs
        torch.cuda.empty_cache()
        free = _SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0] / jobs
    most = max(1, int((free - activations) // state))
    packs = -(-len(trials) // most)
    return [list(trials[start::packs]) for start in range(packs)]


def bytes_in_training(trial: Trial, images: Images) -> tuple[int, int]:
    """Approximate bytes that the training of a trial takes: always, and in addition within a step.

    Counted on a network on the meta device: its weights, the noise of an epoch, its images and
    their warps, and what its layers save for the gradients.
    """
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    own = trial.architecture not in ARCHITECTURES
    with torch.device("cpu" if own else "meta"):
        network = LossTerms(build_model(trial, images.shape))
        x = torch.empty((trial.batch_size, *images.shape))
        noise = torch.empty((trial.batch_size, trial.latents))
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            network(x, noise)
    weights = sum(weight.nbytes for weight in network.parameters())
    drawn = 2 * len(images.train) * (trial.latents + 2) * noise.element_size()
    return _COPIES * weights + drawn + 4 * x.nbytes, 2 * kept
