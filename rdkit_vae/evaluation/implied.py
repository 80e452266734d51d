"""Measures the weight that a trained model's KL really had; `scoring.implied` has the theory."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdkit_vae.config import seeds
from rdkit_vae.config.foreign import ForeignModel, Subject, check_reconstruction, units_of
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.evaluation.checkpoints import Measuring, images_of, named_if_not_finite
from rdkit_vae.evaluation.evaluate import SPLITS, encoded, evaluated_images
from rdkit_vae.evaluation.forward import decode, evaluating, placed
from rdkit_vae.models.adapted import Adapted
from rdkit_vae.models.variance import student_of
from rdkit_vae.objectives.losses import gaussian_nll, objective_of
from rdkit_vae.scoring.implied import ImpliedWeight, pooled
from rdkit_vae.scoring.statistics import ACTIVE, Array
from rdkit_vae.store.checkpoints import load_checkpoint
from rdkit_vae.system.devices import choose_device
from rdkit_vae.system.imports import import_name

# Reconstruction losses per image of (B, C, H, W) images and decoder outputs, (B,) each. The squared
# error is in pixels of [0, 1], all others in the model's own pixels.
Reconstruction = Callable[[Tensor, Tensor], Tensor]


def _cross_entropy(x: Tensor, decoded: Tensor) -> Tensor:
    if not (decoded.min() >= 0 and decoded.max() <= 1):
        low, high = (float(end) for end in decoded.detach().aminmax())
        raise BadInput(
            f"reconstruction bce needs decoder outputs in [0, 1], got {low:.3g} to {high:.3g}: "
            "apply the sigmoid in decode"
        )
    return F.binary_cross_entropy(decoded, x, reduction="none").flatten(1).sum(1)


RECONSTRUCTIONS: Mapping[str, Reconstruction] = {
    "sse": lambda x, decoded: (x - decoded).square().flatten(1).sum(dim=1) / 2,
    "log-sse": lambda x, decoded: (
        x[0].numel() / 2 * (x - decoded).square().flatten(1).sum(dim=1).log()
    ),
    "bce": _cross_entropy,
    "l1": lambda x, decoded: (x - decoded).abs().flatten(1).sum(dim=1),
}
# Posterior samples come in pairs of mirror images, which cancels most of their noise: so many over
# all images, as far as that takes no more than so many for each.
_PAIRS, _MOST_PAIRS = 10_000, 64
_AT_ONCE, _MOST_VALUES = 128, 2**20  # images in a pass, and values in them


def implied_weight(
    model: nn.Module | str | Path,
    images: Images | None = None,
    trial: Subject | None = None,
    *,
    reconstruction: str | Reconstruction = "sse",
    device: str = "auto",
) -> ImpliedWeight:
    """Reads back the weight of the KL, tau = beta x s2, from the weights of a model.

    Args:
        model: path of a checkpoint of rdvae; or a network with `encode` and `decode`, whose
            log variance has a bias of its own for each latent or channel; or what `adapt` made.
        images: those it was trained on; needed with a network, and found by name otherwise.
        trial: its configuration. By default a network counts as a model from elsewhere whose
            training is unknown, which leaves only `beta` open.
        reconstruction: the loss it was trained with: `sse`; `log-sse` (the optimal variance of each
            image); `bce` (cross-entropy of pixels and outputs in [0, 1]); `l1`; or a function of
            images and outputs that gives (B,), or its name `package.module:function`.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        BadInput: a network without images, or one whose outputs do not suit them.
        BadData: no checkpoint, or its images are missing.
        NotFinite: an output is not finite.
    """
    if isinstance(model, str | Path):
        return implied_weight_of(
            Path(model), Measuring(images=images, device=device), reconstruction
        )
    if images is None:
        raise BadInput("implied_weight needs the images that the network was trained on")
    if trial is None:
        from rdkit_vae.evaluation.foreign import prepared

        ready = prepared(model, images)
        model, images, trial = ready.model, ready.images, ready.subject
    if isinstance(model, Adapted) and not model.latent_shapes:
        model.probe(images.shape)
    device, loss = choose_device(device), loss_of(reconstruction, model, trial)
    with placed(model, device):
        measured = _passes(model, images, trial, device, loss)
    sigma2 = _variance(loss, trial, measured)
    weight = pooled(measured.slopes, measured.slacks, measured.active, sigma2)
    if loss.of_own_variance and not math.isnan(measured.own_sigma2):
        return _times(weight, measured.own_sigma2)
    return weight


def _times(weight: ImpliedWeight, sigma2: float) -> ImpliedWeight:
    """The result for a loss that had the decoder's own variance in it, so that tau was beta."""
    return replace(
        weight,
        tau=weight.tau * sigma2,
        standard_error=weight.standard_error * sigma2,
        per_latent=weight.per_latent * sigma2,
        per_latent_se=weight.per_latent_se * sigma2,
    )


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


@dataclass(frozen=True, kw_only=True)
class _Loss:
    """A reconstruction loss.

    Attributes:
        per_image: maps images, decoder means, both in [0, 1], and the decoder's variance (or
            None) to (B,) losses.
        squared: whether it is the squared error.
        of_own_variance: whether it is -log p(x|z) under the decoder's own variance, if it has one.
    """

    per_image: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    squared: bool = False
    of_own_variance: bool = False


def loss_of(reconstruction: str | Reconstruction, model: nn.Module, trial: Subject) -> _Loss:
    """The loss that a network was trained with.

    Raises:
        BadInput: it is unknown, or has no meaning for the network's own pixels.
    """
    if isinstance(reconstruction, str):
        known = check_reconstruction(reconstruction)
        registered = RECONSTRUCTIONS.get(known)
        reconstruction = registered or import_name(known, "reconstruction")
    loss: Reconstruction = reconstruction
    if loss is RECONSTRUCTIONS["sse"]:
        return _squared_error(loss, model, trial)
    if not isinstance(model, Adapted):
        return _Loss(per_image=lambda x, decoded, variance: loss(x, decoded))
    own = model.to_own
    return _Loss(per_image=lambda x, decoded, variance: loss(own(x), own(decoded)))


def _squared_error(loss: Reconstruction, model: nn.Module, trial: Subject) -> _Loss:
    if isinstance(model, Adapted) and len(set(model.pixels.scale)) > 1:
        raise BadInput(
            "the weight of the KL cannot be read back for squared errors of pixels that were "
            f"normalised by several standard deviations ({model.pixels.text})"
        )
    # s2(z), and the variance that a decoder from elsewhere returns, were trained with the network.
    if isinstance(trial, ForeignModel):
        own = trial.train_sigma2 is None
    else:
        own = objective_of(trial.objective).variance == "image"

    def per_image(x: Tensor, decoded: Tensor, variance: Tensor | None) -> Tensor:
        if own and variance is not None:
            return gaussian_nll((x - decoded).square(), variance, 1).flatten(1).sum(dim=1)
        return loss(x, decoded)

    return _Loss(per_image=per_image, squared=True, of_own_variance=own)


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What the passes over n images give, by latent or channel.

    Attributes:
        slopes, slacks, active: as for `pooled`.
        mse: squared pixel.
        own_sigma2: mean of the decoder's own variance, squared pixels; NaN if it has none.
    """

    slopes: Array
    slacks: Array
    active: npt.NDArray[np.bool_]
    mse: float
    own_sigma2: float


def _variance(loss: _Loss, trial: Subject, measured: _Measured) -> float:
    """The training variance, squared pixels; 1 for a loss without one, NaN if unknown."""
    if not loss.squared:
        return 1.0
    if trial.train_sigma2 is not None:
        return trial.train_sigma2
    if loss.of_own_variance:
        return math.nan if math.isnan(measured.own_sigma2) else 1.0
    return measured.mse


def _passes(
    model: nn.Module, images: Images, trial: Subject, device: str, loss: _Loss
) -> _Measured:
    """Passes over the train split.

    Where each image had a variance of its own in training, its slopes are weighted by the mean
    squared error over that variance.
    """
    weighted = (
        loss.squared
        and not loss.of_own_variance
        and not isinstance(trial, ForeignModel)
        and trial.train_sigma2 is None
        and objective_of(trial.objective).per_image
    )
    count = len(evaluated_images(images, "train", trial))
    pairs = min(_MOST_PAIRS, -(-_PAIRS // count))
    at_once = max(1, min(_AT_ONCE, _MOST_VALUES // images.dims))
    draws = seeds.generator(trial.seed, "draws", SPLITS.index("train"))
    groups = _groups(model, trial).to(device)
    slopes, slacks, errors, variances = [], [], [], []
    spread, student = _Spread(), student_of(model)
    with evaluating(model, device):
        for x, mean, log_var in encoded(model, images, "train", trial, device, at_once):
            shape = (pairs, *mean.shape)
            noise = torch.from_numpy(draws.standard_normal(shape, dtype=np.float32)).to(device)
            noise = torch.cat([noise, -noise])
            slope, sse, own = _slopes(model, x, mean, log_var, noise, groups, loss)
            if weighted:
                slope = (
                    slope / _variance_of_each(sse / images.dims, images.dims, student)[..., None]
                )
            slopes.append(slope.mean(dim=0).cpu())
            errors.append(sse.mean(dim=0).cpu())
            variances.append(len(x) * own)
            slacks.append(_by_group(-log_var.double().expm1(), groups).cpu())
            spread.add(mean.double())
    mse = float(torch.cat(errors).mean()) / images.dims
    scaled = torch.cat(slopes) * (mse if weighted else 1.0)
    slack = torch.cat(slacks).numpy()
    sizes = torch.bincount(groups).double()
    varies = _by_group(spread.variance()[None], groups)[0].cpu() / sizes.cpu()
    return _Measured(
        slopes=scaled.numpy(),
        slacks=slack,
        active=(varies.numpy() > ACTIVE) & (slack.mean(axis=0) / sizes.cpu().numpy() > ACTIVE),
        mse=mse,
        own_sigma2=float(np.sum(variances)) / count,
    )


def _variance_of_each(mse: Tensor, dims: int, student: tuple[float, float] | None) -> Tensor:
    """The variance that gives a Gaussian the gradient of each image's likelihood, squared pixels:
    its own sse/D, or (nu s2 + sse)/(nu + D) of a Student t."""
    if student is None:
        return mse
    sigma2, nu = student
    return (nu * sigma2 + dims * mse) / (nu + dims)


def _groups(model: nn.Module, trial: Subject) -> Tensor:
    """(L,) for each latent, the number of the group whose bias it has: itself, or its channel."""
    if not isinstance(model, Adapted):
        return torch.arange(trial.latents)
    names = units_of(model.latent_shapes)
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([number[name] for name in names])


def _by_group(values: Tensor, groups: Tensor) -> Tensor:
    """Sums (..., L) values over the latents of each group."""
    count = int(groups[-1]) + 1
    if count == len(groups):
        return values
    return values.new_zeros(*values.shape[:-1], count).index_add_(-1, groups, values)


class _Spread:
    """The variance over images of each latent's posterior mean, in one pass."""

    def __init__(self) -> None:
        self._count, self._centre = 0, torch.zeros(())
        self._sum, self._squares = torch.zeros(()), torch.zeros(())

    def add(self, mean: Tensor) -> None:
        """Takes (B, L) means, float64."""
        if not self._count:
            self._centre = mean.mean(dim=0)
        shifted = mean - self._centre
        self._count += len(mean)
        self._sum = self._sum.to(mean) + shifted.sum(dim=0)
        self._squares = self._squares.to(mean) + shifted.square().sum(dim=0)

    def variance(self) -> Tensor:
        """(L,) variances."""
        return self._squares / self._count - (self._sum / self._count).square()


def _slopes(
    model: nn.Module,
    x: Tensor,
    mean: Tensor,
    log_var: Tensor,
    noise: Tensor,
    groups: Tensor,
    loss: _Loss,
) -> tuple[Tensor, Tensor, float]:
    """(K, B, G) slopes and (K, B) sums of squared errors at K posterior samples, float64; and the
    mean of the decoder's own variance, NaN if it has none."""
    slopes, errors, own = [], [], 0.0
    sigma = (log_var / 2).exp()
    for epsilon in noise:
        with torch.inference_mode(False), torch.enable_grad():
            z = (mean + sigma * epsilon).clone().requires_grad_()
            decoded, variance = decode(model, z, (x.shape[1], x.shape[2], x.shape[3]))
            if not decoded.requires_grad:
                raise BadInput(
                    "the weight of the KL needs gradients, but decode computes none (no_grad?)"
                )
            value = loss.per_image(x.clone(), decoded, variance)
            (gradient,) = torch.autograd.grad(value.sum(), z)
        slopes.append(_by_group(gradient.double() * (sigma * epsilon).double(), groups))
        errors.append((x - decoded.detach()).double().square().flatten(1).sum(dim=1))
        own += math.nan if variance is None else float(variance.detach().double().mean())
    return torch.stack(slopes), torch.stack(errors), own / len(noise)
