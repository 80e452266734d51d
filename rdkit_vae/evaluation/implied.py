"""The weight that a trained model's KL really had, read back from its weights.

Training sees one number, tau = beta x s2. At its optimum the loss does not change with a shift b_j
of the log variance of latent j, so with rec = sse/(2 s2)

    E[d rec/d b_j] = (beta/2) (1 - E[sigma_j^2]),    d rec/d b_j = (d rec/d z_j) sigma_j eps_j / 2,

which gives tau for each latent that is in use. Where they disagree, training had not converged, or
the model was trained with another loss; early in training they can agree on another value. With a
reconstruction loss that has no scale, such as the cross-entropy, the same gives beta itself.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdkit_vae.config import seeds
from rdkit_vae.config.trial import Trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.evaluation.checkpoints import Measuring, images_of, named_if_not_finite
from rdkit_vae.evaluation.evaluate import SPLITS, encoded, evaluated_images
from rdkit_vae.evaluation.forward import decode, evaluating
from rdkit_vae.objectives.losses import objective_of
from rdkit_vae.scoring.statistics import ACTIVE, Array
from rdkit_vae.store.checkpoints import load_checkpoint
from rdkit_vae.system.devices import choose_device
from rdkit_vae.text import one_of

# Reconstruction losses per image of (B, C, H, W) images and decoder outputs, (B,) each.
Reconstruction = Callable[[Tensor, Tensor], Tensor]
RECONSTRUCTIONS: Mapping[str, Reconstruction] = {
    "sse": lambda x, decoded: (x - decoded).square().flatten(1).sum(dim=1) / 2,
    "bce": lambda x, decoded: (
        F.binary_cross_entropy(decoded, x, reduction="none").flatten(1).sum(1)
    ),
    "l1": lambda x, decoded: (x - decoded).abs().flatten(1).sum(dim=1),
}
AGREEING = 0.05  # most scatter of the latents' values beyond their errors, as a share of tau
# Posterior samples come in pairs of mirror images, which cancels most of their noise: so many over
# all images, as far as that takes no more than so many for each.
_PAIRS, _MOST_PAIRS = 10_000, 64
_AT_ONCE = 128  # images


@dataclass(frozen=True, kw_only=True)
class ImpliedWeight:
    """What the weights of a model say of the weight of its KL.

    Attributes:
        tau: beta x s2, squared pixels (of a loss without a scale: beta); NaN where no latent is
            active.
        beta: tau over the variance of training: the constant one, or the one that was fitted; of a
            loss without a scale, tau.
        standard_error: of tau, over images.
        per_latent: (L,) tau of each latent; NaN where it is not active.
        per_latent_se: (L,) their standard errors.
        chi2, degrees: of the latents' values about tau, and their number less one.
        scatter: of the latents' values beyond their errors, as a share of tau.
    """

    tau: float
    beta: float
    standard_error: float
    per_latent: Array
    per_latent_se: Array
    chi2: float
    degrees: int
    scatter: float

    @property
    def beta_at_half(self) -> float:
        """The beta that a constant variance of 1/2 makes of tau."""
        return 2 * self.tau

    @property
    def converged(self) -> bool:
        """Whether several latents agree, as they do at an optimum and hardly anywhere else."""
        return self.degrees >= 1 and self.scatter <= AGREEING


def implied_weight(
    model: nn.Module | str | Path,
    images: Images | None = None,
    trial: Trial | None = None,
    *,
    reconstruction: str | Reconstruction = "sse",
    device: str = "auto",
) -> ImpliedWeight:
    """Reads back the weight of the KL, tau = beta x s2, from the weights of a model.

    Args:
        model: path of a checkpoint of rdvae; or a network with `encode` and `decode`, whose
            log variance has a bias of its own for each latent.
        images: those it was trained on; needed with a network, and found by name otherwise.
        trial: its configuration; needed with a network.
        reconstruction: the loss it was trained with, `sse`, `bce` (cross-entropy of pixels and
            outputs in [0, 1]) or `l1`, or a function of images and outputs that gives (B,).
        device: `auto`, `cpu` or `cuda`.

    Raises:
        BadInput: a network without images or trial, or one whose outputs do not suit them.
        BadData: no checkpoint, or its images are missing.
        NotFinite: an output is not finite.
    """
    if isinstance(model, str | Path):
        return implied_weight_of(
            Path(model), Measuring(images=images, device=device), reconstruction
        )
    device = choose_device(device)
    if images is None or trial is None:
        raise BadInput("implied_weight needs the images and the trial of a network")
    if isinstance(reconstruction, str):
        known = one_of(reconstruction, RECONSTRUCTIONS, "reconstruction")
        reconstruction = RECONSTRUCTIONS[known]
    squared = reconstruction is RECONSTRUCTIONS["sse"]
    weighted = squared and trial.train_sigma2 is None and objective_of(trial.objective).per_image
    passed = _passes(model.to(device), images, trial, device, reconstruction, weighted)
    slopes, slacks, means, mse = passed
    active = (means.var(axis=0) > ACTIVE) & (slacks.mean(axis=0) > ACTIVE)
    sigma2 = (mse if trial.train_sigma2 is None else trial.train_sigma2) if squared else 1.0
    return _pooled(slopes, slacks, active, sigma2)


def implied_weight_of(
    path: Path, measuring: Measuring, reconstruction: str | Reconstruction = "sse"
) -> ImpliedWeight:
    """As `implied_weight`, of a checkpoint whose images are found as `measuring` says."""
    checkpoint = load_checkpoint(path)
    images = images_of(path, checkpoint, measuring)
    with named_if_not_finite(path):
        return implied_weight(
            checkpoint.model(),
            images,
            checkpoint.trial,
            reconstruction=reconstruction,
            device=measuring.device,
        )


def _passes(
    model: nn.Module,
    images: Images,
    trial: Trial,
    device: str,
    reconstruction: Reconstruction,
    weighted: bool,
) -> tuple[Array, Array, Array, float]:
    """Over the train split: (n, L) slopes, (n, L) 1 - sigma^2, (n, L) means, and the mse.

    The slope of latent j is (d rec/d z_j) sigma_j eps_j, averaged over posterior samples; each
    weighted by the mean squared error over the image's own, where its variance was its own.
    """
    count = len(evaluated_images(images, "train", trial))
    pairs = min(_MOST_PAIRS, -(-_PAIRS // count))
    draws = seeds.generator(trial.seed, "draws", SPLITS.index("train"))
    slopes, slacks, means, errors = [], [], [], []
    with evaluating(model, device):
        for x, mean, log_var in encoded(model, images, "train", trial, device, _AT_ONCE):
            shape = (pairs, *mean.shape)
            noise = torch.from_numpy(draws.standard_normal(shape, dtype=np.float32)).to(device)
            noise = torch.cat([noise, -noise])
            slope, sse = _slopes(model, x, mean, log_var, noise, reconstruction)
            if weighted:
                slope = slope / sse[..., None]
            slopes.append(slope.mean(dim=0).cpu())
            errors.append(sse.mean(dim=0).cpu())
            slacks.append(-log_var.double().expm1().cpu())
            means.append(mean.double().cpu())
    mse = float(torch.cat(errors).mean()) / images.dims
    scaled = torch.cat(slopes) * (mse * images.dims if weighted else 1.0)
    return scaled.numpy(), torch.cat(slacks).numpy(), torch.cat(means).numpy(), mse


def _slopes(
    model: nn.Module,
    x: Tensor,
    mean: Tensor,
    log_var: Tensor,
    noise: Tensor,
    reconstruction: Reconstruction,
) -> tuple[Tensor, Tensor]:
    """(K, B, L) slopes and (K, B) sums of squared errors, float64, at K posterior samples."""
    slopes, errors = [], []
    sigma = (log_var / 2).exp()
    for epsilon in noise:
        with torch.inference_mode(False), torch.enable_grad():
            z = (mean + sigma * epsilon).clone().requires_grad_()
            decoded = decode(model, z, (x.shape[1], x.shape[2], x.shape[3]))
            (gradient,) = torch.autograd.grad(reconstruction(x.clone(), decoded).sum(), z)
        slopes.append(gradient.double() * (sigma * epsilon).double())
        errors.append((x - decoded.detach()).double().square().flatten(1).sum(dim=1))
    return torch.stack(slopes), torch.stack(errors)


def _pooled(
    slopes: Array, slacks: Array, active: npt.NDArray[np.bool_], sigma2: float
) -> ImpliedWeight:
    """The ratios of means over images, by latent and over all active ones, with their errors."""
    latents = slopes.shape[1]
    per_latent, errors = np.full(latents, math.nan), np.full(latents, math.nan)
    for j in np.flatnonzero(active):
        per_latent[j], errors[j] = _ratio(slopes[:, j], slacks[:, j])
    if not active.any():
        nan = math.nan
        return ImpliedWeight(
            **{"tau": nan, "beta": nan, "standard_error": nan, "chi2": nan, "scatter": nan},
            per_latent=per_latent,
            per_latent_se=errors,
            degrees=0,
        )
    tau, error = _ratio(slopes[:, active].sum(axis=1), slacks[:, active].sum(axis=1))
    weights = 1 / errors[active] ** 2
    centre = float((weights * per_latent[active]).sum() / weights.sum())
    chi2 = float((weights * (per_latent[active] - centre) ** 2).sum())
    degrees = int(active.sum()) - 1
    excess = max(0.0, chi2 - degrees) / weights.sum()
    return ImpliedWeight(
        tau=tau,
        beta=tau / sigma2,
        standard_error=error,
        per_latent=per_latent,
        per_latent_se=errors,
        chi2=chi2,
        degrees=degrees,
        scatter=math.sqrt(excess) / abs(tau),
    )


def _ratio(above: Array, below: Array) -> tuple[float, float]:
    """mean(above) / mean(below) over images, and its standard error."""
    ratio = float(above.mean() / below.mean())
    residual = above - ratio * below
    error = residual.std(ddof=1) / math.sqrt(len(above)) / abs(below.mean())
    return ratio, float(error)
