"""Pictures of a model: reconstructions of the first images, and samples from the prior."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rdkit_vae.config import seeds
from rdkit_vae.datasets.images import Images, Pixels
from rdkit_vae.errors import BadData
from rdkit_vae.evaluation.checkpoints import Measuring, images_of, named_if_not_finite
from rdkit_vae.evaluation.forward import decode, encode, evaluating
from rdkit_vae.store.checkpoints import load_checkpoint
from rdkit_vae.store.paths import code_version, find_sweeps, samples_beside, utc_now
from rdkit_vae.store.samples import KINDS, Samples, read_samples, write_samples
from rdkit_vae.system.files import write_atomic, write_output
from rdkit_vae.training.augmentation import to_unit


def sample(
    model: nn.Module,
    images: Images,
    *,
    latents: int,
    n_images: int,
    n_prior: int,
    split: str = "test",
    seed: int = 0,
    device: str = "cpu",
) -> Samples:
    """Reconstructs the first images of a split and decodes latents drawn from the prior.

    Posterior noise and prior latents depend on the seed alone, so models with the same number of
    latents get the same ones. Pictures are decoder means clipped to [0, 1], without noise of the
    decoder's variance. Images come as they are in the dataset, whatever the protocol.

    Args:
        model: a network with `encode` and `decode`, on `device`.
        images: the dataset.
        latents: of the model.
        n_images, n_prior: how many reconstructions (at most all images of the split) and samples
            from the prior.

    Raises:
        BadInput: the model has another number of latents, or its output does not have the shape
            of the images.
        NotFinite: it gives a number that is not finite.
    """
    shown = images.split(split)[:n_images]
    x = to_unit(torch.from_numpy(np.array(shown)).to(device), images.levels)
    noise, prior = (
        _normal(seed, index, (count, latents)).to(device)
        for index, count in enumerate((len(shown), n_prior))
    )
    with evaluating(model, device):
        mean, log_var = encode(model, x, latents)
        z = mean + (log_var / 2).exp() * noise
        return Samples(
            split=split,
            seed=seed,
            original=_pixels(x),
            reconstruction=_pixels(decode(model, z, images.shape)[0]),
            prior=_pixels(decode(model, prior, images.shape)[0]),
        )


def last_checkpoints(path: Path) -> list[Path]:
    """The checkpoint itself, or the last one of each run in the sweeps below a folder.

    Raises:
        BadData: there is none below the folder.
    """
    if not path.is_dir():
        return [path]
    runs = [run for root in find_sweeps(path) for run in sorted(root.glob("checkpoints/*/"))]
    last = [max(run.glob("epoch=*.pt"), default=None) for run in runs]
    checkpoints = [checkpoint for checkpoint in last if checkpoint]
    if not checkpoints:
        raise BadData(f"{path}: there is no checkpoint of a sweep in it")
    return checkpoints


def sample_checkpoint(
    path: Path,
    measuring: Measuring,
    folder: Path | None = None,
    **asked: Any,
) -> Path:
    """Makes the pictures of a checkpoint as `sample` does; returns the file that holds them.

    A file that already holds these pictures of this checkpoint is left as it is.

    Args:
        path: the checkpoint.
        measuring: where its images are, and the device (not `auto`).
        folder: for the file; None: the samples of the sweep around the checkpoint.
        asked: `n_images`, `n_prior`, `split` and `seed` for `sample`.

    Raises:
        BadData: the checkpoint or its images are missing or damaged, the model has diverged, or
            the file cannot be written.
    """
    checkpoint = load_checkpoint(path)
    trial, images, device = (
        checkpoint.trial,
        images_of(path, checkpoint, measuring),
        measuring.device,
    )
    with named_if_not_finite(path):
        pictures = sample(
            checkpoint.model().to(device),
            images,
            latents=trial.latents,
            device=device,
            **asked,
        )
    name = f"{trial.run_id}-epoch={checkpoint.epoch:05d}.parquet"
    target = folder / name if folder else samples_beside(path)
    if not _is_written(target, pictures, checkpoint.sha256):
        about = {
            "trial": trial.to_dict(),
            "epoch": checkpoint.epoch,
            "step": checkpoint.step,
            "checkpoint_sha256": checkpoint.sha256,
            "code_version": code_version(),
            "created_at": utc_now(),
        }
        write_samples(target, pictures, about, write=write_output if folder else write_atomic)
    return target


def _is_written(path: Path, pictures: Samples, sha256: str) -> bool:
    """Whether a file holds exactly these pictures of this checkpoint."""
    try:
        stored, about = read_samples(path)
    except BadData:
        return False
    return (
        (stored.split, stored.seed) == (pictures.split, pictures.seed)
        and about.get("checkpoint_sha256") == sha256
        and all(np.array_equal(getattr(stored, k), getattr(pictures, k)) for k in KINDS)
    )


def _normal(seed: int, index: int, shape: tuple[int, int]) -> Tensor:
    drawn = seeds.generator(seed, "pictures", index).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(drawn)


def _pixels(x: Tensor) -> Pixels:
    return (x.clamp(0, 1) * 255).round().to(torch.uint8).cpu().contiguous().numpy()
