"""The pass that makes the statistics: encoder once, decoder for K draws, sums in float64.

The network computes in float32, whatever precision it was trained in.
"""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rdkit_vae.config import seeds
from rdkit_vae.config.trial import Trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.evaluation.forward import decode, encode, evaluating
from rdkit_vae.evaluation.grey_levels import discretized_nll
from rdkit_vae.evaluation.rate import rate_terms_of
from rdkit_vae.models.variance import variance_of
from rdkit_vae.objectives.losses import kl_divergence, objective_of
from rdkit_vae.scoring.statistics import Array, Statistics
from rdkit_vae.training.inputs import augmentation_of, to_unit

SPLITS = ("train", "test")
_MOST_DECODED = 1024  # images times draws in a pass
_MOST_VALUES = 2**21  # pixels in them; a layer takes many times as much memory


def evaluate(
    model: nn.Module,
    images: Images,
    trial: Trial,
    *,
    device: str = "cpu",
    batch_size: int | None = None,
) -> dict[str, Statistics]:
    """Makes the statistics of both splits.

    The draws depend on the seed, the split and the image's position among those evaluated, never
    on the batch size, which only changes float32 rounding in the network.

    Args:
        model: a network with `encode` and `decode`, on `device`; runs in evaluation mode.
        images: the dataset.
        trial: sets the draws, the seed, the protocol and how many training images are used.
        device: where the model is.
        batch_size: images per pass of the encoder; None: chosen by the number of draws.

    Raises:
        BadInput: the model has another number of latents than the trial, its output does not have
            the shape of the images, or the protocol has no warp for the images.
        NotFinite: it gives a number that is not finite.
    """
    size = batch_size or _images_at_once(trial, images.dims)
    with evaluating(model, device):
        return {
            split: _evaluate_split(model, images, split, trial, device, size) for split in SPLITS
        }


def environment(device: str) -> dict[str, Any]:
    """What the last bits of the results depend on, besides configuration and seed."""
    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _images_at_once(trial: Trial, dims: int) -> int:
    """How many images a pass encodes, such that the decoder can take all their draws."""
    return max(1, min(_MOST_DECODED, _MOST_VALUES // dims) // trial.draws)


def evaluated_images(
    images: Images, split: str, trial: Trial
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Positions of the images to evaluate: all, or evenly spaced ones of the train split."""
    n = len(images.split(split))
    if split == "test" or trial.train_images == "all" or n <= len(images.test):
        return np.arange(n, dtype=np.int64)
    return np.linspace(0, n - 1, len(images.test)).round().astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """One batch of an evaluation: B images, K draws of L latents each.

    Attributes:
        x: (B, C, H, W) images.
        mean, log_var: (B, L) of the posterior.
        noise, z: (B, K, L) standard normal noise, and the draws made from it.
        decoded: (B, K, C, H, W) decoder means.
    """

    x: Tensor
    mean: Tensor
    log_var: Tensor
    noise: Tensor
    z: Tensor
    decoded: Tensor


def _passes(
    model: nn.Module, images: Images, split: str, trial: Trial, device: str, batch_size: int
) -> Iterator[_Pass]:
    """The batches of a split, with the trial's draws."""
    draws = seeds.generator(trial.seed, "draws", SPLITS.index(split))
    for x, mean, log_var in encoded(model, images, split, trial, device, batch_size):
        shape = (len(x), trial.draws, trial.latents)
        noise = torch.from_numpy(draws.standard_normal(shape, dtype=np.float32)).to(device)
        z = mean[:, None] + (log_var[:, None] / 2).exp() * noise
        decoded = decode(model, z.flatten(0, 1), images.shape)
        decoded = torch.unflatten(decoded, 0, z.shape[:2])
        yield _Pass(x=x, mean=mean, log_var=log_var, noise=noise, z=z, decoded=decoded)


def encoded(
    model: nn.Module, images: Images, split: str, trial: Trial, device: str, batch_size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The evaluated images of a split, warped as the protocol says, and their posteriors.

    Yields:
        Batches of (B, C, H, W) images, and of means and log variances, (B, L) each.
    """
    pixels, chosen = images.split(split), evaluated_images(images, split, trial)
    augmentation = augmentation_of(trial, images.shape)
    warps = None
    if augmentation:
        uniform = seeds.generator(trial.seed, "augment-split", SPLITS.index(split))
        numbers = uniform.random((len(chosen), augmentation.numbers))
        warps = augmentation.parameters(torch.from_numpy(numbers))
    for start in range(0, len(chosen), batch_size):
        batch = chosen[start : start + batch_size]
        x = to_unit(torch.from_numpy(pixels[batch]).to(device), images.levels)
        if augmentation and warps is not None:
            x = augmentation.apply(x, warps[start : start + batch_size].to(device))
        yield x, *encode(model, x, trial.latents)


def _evaluate_split(
    model: nn.Module, images: Images, split: str, trial: Trial, device: str, batch_size: int
) -> Statistics:
    parts, posteriors, variances = [], [], []
    for batch in _passes(model, images, split, trial, device, batch_size):
        parts.append(_measure(batch))
        posteriors.append((batch.mean, batch.log_var, batch.z[:, 0]))
        variance = variance_of(model, batch.z.flatten(0, 1))
        if variance is not None:
            variances.append(torch.unflatten(variance.double(), 0, batch.z.shape[:2]).cpu())
    kl, sse, log_ratio = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    mean, log_var, z = (torch.cat(part) for part in zip(*posteriors, strict=True))
    statistics = Statistics(
        image=evaluated_images(images, split, trial),
        kl=kl,
        sse=sse,
        log_ratio=log_ratio,
        dims=images.dims,
        levels=images.levels,
        own_sigma2=_own_sigma2(trial, torch.cat(variances).numpy() if variances else None),
        rate_terms=rate_terms_of(mean, log_var, z),
    )
    statistics.check_finite(split)
    return statistics


def _own_sigma2(trial: Trial, trained: Array | None) -> "float | Array | None":
    """The variance of training: one number, or one per draw if trained per image."""
    if trained is None:
        return trial.train_sigma2
    return trained if objective_of(trial.objective).per_image else float(trained.flat[0])


def _measure(batch: _Pass) -> tuple[Tensor, Tensor, Tensor]:
    """kl (B,), sse (B, K) and log p(z) - log q(z|x) (B, K), float64."""
    sse = (batch.x[:, None] - batch.decoded).double().square().flatten(2).sum(dim=2)
    noise, z, log_var = batch.noise.double(), batch.z.double(), batch.log_var.double()
    # The 2 pi of the two densities cancel.
    log_ratio = (noise.square() + log_var[:, None] - z.square()).sum(dim=2) / 2
    return kl_divergence(batch.mean.double(), log_var), sse, log_ratio


def evaluate_discretized(
    model: nn.Module,
    images: Images,
    trial: Trial,
    sigma2: Mapping[str, Mapping[str, "float | Array"]],
    *,
    device: str = "cpu",
) -> dict[str, dict[str, Array]]:
    """-log P(x|z) of the discretised Gaussian, for the trial's draws.

    Args:
        model, images, trial, device: as for `evaluate`.
        sigma2: variances by split and name, one number or (n, K) each, in squared pixels.

    Returns:
        By split and name, (n, K) in nats, summed over the D pixels.

    Raises:
        BadInput: as for `evaluate`; or the protocol warps the images, so that their pixels are no
            longer on grey levels.
    """
    if augmentation_of(trial, images.shape):
        raise BadInput(
            f"protocol {trial.protocol} warps its images, so their pixels have no grey levels"
        )
    size = _images_at_once(trial, images.dims)
    with evaluating(model, device):
        return {
            split: _discretized_split(model, images, split, trial, device, size, named)
            for split, named in sigma2.items()
        }


def _discretized_split(
    model: nn.Module,
    images: Images,
    split: str,
    trial: Trial,
    device: str,
    batch_size: int,
    sigma2: Mapping[str, "float | Array"],
) -> dict[str, Array]:
    n, done = len(evaluated_images(images, split, trial)), 0
    variances = {
        name: torch.from_numpy(np.broadcast_to(value, (n, trial.draws)).copy())
        for name, value in sigma2.items()
    }
    parts: dict[str, list[Tensor]] = {name: [] for name in sigma2}
    for batch in _passes(model, images, split, trial, device, batch_size):
        x, mean = batch.x.double().flatten(1)[:, None], batch.decoded.double().flatten(2)
        for name, values in variances.items():
            variance = values[done : done + len(x), :, None].to(device)  # (B, K, 1)
            nll = discretized_nll(x, mean, variance, images.levels)  # (B, K, D)
            parts[name].append(nll.sum(dim=2).cpu())
        done += len(x)
    return {name: torch.cat(each).numpy() for name, each in parts.items()}
