"""The pass that makes the statistics: encoder once, decoder for K draws, sums in float64.

The network computes in float32, whatever precision it was trained in.
"""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rdkit_vae.config import seeds
from rdkit_vae.config.foreign import Subject
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.evaluation.forward import decode, encode, evaluating
from rdkit_vae.evaluation.grey_levels import discretized_nll
from rdkit_vae.evaluation.rate import rate_terms_of
from rdkit_vae.models.variance import student_of
from rdkit_vae.objectives.losses import gaussian_nll, kl_divergence
from rdkit_vae.scoring.statistics import Array, Statistics
from rdkit_vae.training.augmentation import augmentation_of, to_unit

SPLITS = ("train", "test")
Progress = Callable[[int, int], None]  # (images done, images in all)
_MOST_DECODED = 1024  # images times draws in a pass
_MOST_VALUES = 2**21  # pixels in them; a layer takes many times as much memory


def evaluate(
    model: nn.Module,
    images: Images,
    trial: Subject,
    *,
    device: str = "cpu",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Statistics]:
    """Makes the statistics of both splits.

    The draws depend on the seed, the split and the image's position among those evaluated, never
    on the batch size, which only changes float32 rounding in the network.

    Args:
        model: a network with `encode` and `decode`, on `device`; runs in evaluation mode.
        images: the dataset.
        trial: sets the draws, the seed, the protocol and how many training images are used; or the
            record of a model from elsewhere, which does the same.
        device: where the model is.
        batch_size: images per pass of the encoder; None: chosen by the number of draws.
        progress: called as `progress(done, total)` with numbers of images of both splits.

    Raises:
        BadInput: the model has another number of latents than the trial, its output does not have
            the shape of the images, or the protocol has no warp for the images.
        NotFinite: it gives a number that is not finite.
    """
    size = batch_size or _images_at_once(trial, images.dims)
    counts = [len(evaluated_images(images, split, trial)) for split in SPLITS]
    statistics = {}
    with evaluating(model, device):
        for index, split in enumerate(SPLITS):

            def report(done: int, before: int = sum(counts[:index])) -> None:
                if progress:
                    progress(before + done, sum(counts))

            statistics[split] = _evaluate_split(model, images, split, trial, device, size, report)
    return statistics


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


def _images_at_once(trial: Subject, dims: int) -> int:
    """How many images a pass encodes, such that the decoder can take all their draws."""
    return max(1, min(_MOST_DECODED, _MOST_VALUES // dims) // trial.draws)


def evaluated_images(
    images: Images, split: str, trial: Subject
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Positions of the images to evaluate: all, or evenly spaced ones of the train split.

    Under a protocol of full batches, the images of an incomplete last batch are left out.
    """
    n, n_test = (trial.images_evaluated(len(images.split(each))) for each in (split, "test"))
    if split == "test" or trial.train_images == "all" or n <= n_test:
        return np.arange(n, dtype=np.int64)
    return np.linspace(0, n - 1, n_test).round().astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """One batch of an evaluation: B images, K draws of L latents each.

    Attributes:
        x: (B, C, H, W) images.
        mean, log_var: (B, L) of the posterior.
        noise, z: (B, K, L) standard normal noise, and the draws made from it.
        decoded: (B, K, C, H, W) decoder means.
        variance: (B, K, c, h, w) decoder variances, whose last sides may be 1; None: it has none.
    """

    x: Tensor
    mean: Tensor
    log_var: Tensor
    noise: Tensor
    z: Tensor
    decoded: Tensor
    variance: Tensor | None


def _passes(
    model: nn.Module, images: Images, split: str, trial: Subject, device: str, batch_size: int
) -> Iterator[_Pass]:
    """The batches of a split, with the trial's draws."""
    draws = seeds.generator(trial.seed, "draws", SPLITS.index(split))
    for x, mean, log_var in encoded(model, images, split, trial, device, batch_size):
        shape = (len(x), trial.draws, trial.latents)
        noise = torch.from_numpy(draws.standard_normal(shape, dtype=np.float32)).to(device)
        z = mean[:, None] + (log_var[:, None] / 2).exp() * noise
        decoded, variance = decode(model, z.flatten(0, 1), images.shape)
        yield _Pass(
            x=x,
            mean=mean,
            log_var=log_var,
            noise=noise,
            z=z,
            decoded=torch.unflatten(decoded, 0, z.shape[:2]),
            variance=None if variance is None else torch.unflatten(variance, 0, z.shape[:2]),
        )


def encoded(
    model: nn.Module, images: Images, split: str, trial: Subject, device: str, batch_size: int
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
        warps = augmentation.parameters(torch.from_numpy(numbers), images.shape)
    for start in range(0, len(chosen), batch_size):
        batch = chosen[start : start + batch_size]
        taken = torch.from_numpy(pixels[batch]).to(device)
        if augmentation and warps is not None:
            drawn = warps[start : start + batch_size].to(device)
            x = augmentation.inputs(taken, images.levels, drawn)
        else:
            x = to_unit(taken, images.levels)
        yield x, *encode(model, x, trial.latents)


def _evaluate_split(
    model: nn.Module,
    images: Images,
    split: str,
    trial: Subject,
    device: str,
    batch_size: int,
    report: Callable[[int], None],
) -> Statistics:
    parts, posteriors, own, done = [], [], [], 0
    for batch in _passes(model, images, split, trial, device, batch_size):
        done += len(batch.x)
        report(done)
        parts.append(_measure(batch))
        posteriors.append((batch.mean, batch.log_var, batch.z[:, 0]))
        if batch.variance is not None:
            own.append([part.cpu() for part in _own(batch, batch.variance.double())])
    kl, sse, log_ratio = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    mean, log_var, z = (torch.cat(part) for part in zip(*posteriors, strict=True))
    own_sigma2, own_nll = _of_split(own)
    own_sigma2, own_nu = student_of(model) or (own_sigma2, None)
    statistics = Statistics(
        image=evaluated_images(images, split, trial),
        kl=kl,
        sse=sse,
        log_ratio=log_ratio,
        dims=images.dims,
        levels=images.levels,
        own_sigma2=trial.train_sigma2 if own_sigma2 is None else own_sigma2,
        own_nu=own_nu,
        own_nll=own_nll,
        rate_terms=rate_terms_of(mean, log_var, z),
    )
    statistics.check_finite(split)
    return statistics


def _own(batch: _Pass, variance: Tensor) -> list[Tensor]:
    """The decoder's own variance, its mean over the values of an image, (B, K) float64; and where
    it differs between them also (B, K) -log p(x|z)."""
    if variance[0, 0].numel() == 1:
        return [variance.flatten(1)]
    error = (batch.x[:, None] - batch.decoded).double().square()  # (B, K, C, H, W)
    nll = gaussian_nll(error, variance, 1).flatten(2).sum(dim=2)
    return [variance.expand_as(error).flatten(2).mean(dim=2), nll]


def _of_split(own: Sequence[Sequence[Tensor]]) -> "tuple[float | Array | None, Array | None]":
    """The own variances of a split, as one number if they are equal, and its own likelihoods."""
    if not own:
        return None, None
    sigma2, *nll = (torch.cat(part).numpy() for part in zip(*own, strict=True))
    if nll:
        return sigma2, nll[0]
    return float(sigma2.flat[0]) if (sigma2 == sigma2.flat[0]).all() else sigma2, None


def _measure(batch: _Pass) -> tuple[Tensor, Tensor, Tensor]:
    """kl (B,), sse (B, K) and log p(z) - log q(z|x) (B, K), float64."""
    pairs = zip(batch.x, batch.decoded, strict=True)  # by image, so that they stay in the cache
    sse = torch.stack([(x - mu).double().square().flatten(1).sum(dim=1) for x, mu in pairs])
    noise, z, log_var = batch.noise.double(), batch.z.double(), batch.log_var.double()
    # The 2 pi of the two densities cancel.
    log_ratio = (noise.square() + log_var[:, None] - z.square()).sum(dim=2) / 2
    return kl_divergence(batch.mean.double(), log_var), sse, log_ratio


def evaluate_discretized(
    model: nn.Module,
    images: Images,
    trial: Subject,
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
        BadInput: as for `evaluate`; or the images are warped so that their pixels are no longer on
            grey levels.
    """
    augmentation = augmentation_of(trial, images.shape)
    if augmentation and not augmentation.keeps_levels:
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
    trial: Subject,
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
