"""The pass that makes the statistics: encoder once, decoder for K draws, sums in float64."""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from rdkit_vae import seeds
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.inputs import augmentation_of, to_unit
from rdkit_vae.models import VAE
from rdkit_vae.objectives import kl_divergence
from rdkit_vae.sigma import Statistics
from rdkit_vae.trial import Trial

SPLITS = ("train", "test")
_DECODED_AT_ONCE = 1024  # images times draws


def evaluate(
    model: nn.Module,
    images: Images,
    trial: Trial,
    *,
    device: str = "cpu",
    batch_size: int | None = None,
) -> dict[str, Statistics]:
    """Makes the statistics of both splits.

    The draws are a function of the seed, the split and the image's place among those evaluated,
    never of the batch size; what a batch size changes is float32 rounding in the network.

    Args:
        model: a network with `encode` and `decode`, on `device`. Evaluated in evaluation mode.
        images: the dataset.
        trial: names the draws, the seed, the protocol and how many training images are taken.
        device: where the model is.
        batch_size: images per pass of the encoder; chosen by the number of draws if None.

    Raises:
        BadInput: the model has another number of latents than the trial.
    """
    was_training = model.training
    model.eval()
    try:
        size = batch_size or max(1, _DECODED_AT_ONCE // trial.draws)
        return {
            split: _evaluate_split(model, images, split, trial, device, size) for split in SPLITS
        }
    finally:
        model.train(was_training)


def evaluated_images(
    images: Images, split: str, trial: Trial
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Positions of the images that are evaluated: all, or evenly spaced ones of the train split."""
    n = len(images.split(split))
    if split == "test" or trial.train_images == "all" or n <= len(images.test):
        return np.arange(n, dtype=np.int64)
    return np.linspace(0, n - 1, len(images.test)).round().astype(np.int64)


@torch.inference_mode()
def _evaluate_split(
    model: nn.Module, images: Images, split: str, trial: Trial, device: str, batch_size: int
) -> Statistics:
    pixels, chosen = images.split(split), evaluated_images(images, split, trial)
    index = SPLITS.index(split)
    draws = seeds.generator(trial.seed, "draws", index)
    augmentation = augmentation_of(trial)
    warps = (
        augmentation.draw(seeds.generator(trial.seed, "augment-split", index), len(chosen))
        if augmentation
        else None
    )
    parts = []
    for start in range(0, len(chosen), batch_size):
        batch = chosen[start : start + batch_size]
        x = to_unit(pixels[batch], images.levels, torch.device(device))
        if augmentation and warps is not None:
            drawn = torch.from_numpy(warps[start : start + batch_size])
            x = augmentation.apply(x, drawn.to(device))
        shape = (len(batch), trial.draws, trial.latents)
        noise = torch.from_numpy(draws.standard_normal(shape, dtype=np.float32))
        parts.append(_measure(cast(VAE, model), x, noise.to(device)))
    kl, sse, log_ratio = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return Statistics(
        image=chosen,
        kl=kl,
        sse=sse,
        log_ratio=log_ratio,
        dims=images.dims,
        own_sigma2=trial.train_sigma2,
    )


def _measure(model: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """kl (B,), sse (B, K) and log p(z) - log q(z|x) (B, K), float64, for noise of (B, K, L)."""
    mean, log_var = model.encode(x.contiguous(memory_format=torch.channels_last))
    if mean.shape[1] != noise.shape[2]:
        raise BadInput(f"the model has {mean.shape[1]} latents, the trial {noise.shape[2]}")
    z = mean[:, None] + (log_var[:, None] / 2).exp() * noise  # (B, K, L)
    decoded = torch.unflatten(model.decode(z.flatten(0, 1)), 0, z.shape[:2])  # (B, K, C, H, W)
    sse = (x[:, None] - decoded).double().square().flatten(2).sum(dim=2)
    # The 2 pi of the two densities cancel.
    log_ratio = (noise.double().square() + log_var.double()[:, None] - z.double().square()).sum(
        2
    ) / 2
    return kl_divergence(mean.double(), log_var.double()), sse, log_ratio
