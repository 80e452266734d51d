"""The training objectives: loss per image from (sse, kl). Pure functions of torch tensors.

sse is the sum of squared errors over the D pixels of an image, kl the closed-form divergence of
its posterior from the prior, in nats; both of shape (B,), or (T, B) of T models at once. Losses are
minimised, in nats per image.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from rdkit_vae.errors import BadInput
from rdkit_vae.system.imports import import_name, is_import_name
from rdkit_vae.text import one_of

if TYPE_CHECKING:
    from torch import Tensor

Variance = Union["Tensor", float, None]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a loss depends on beside the images and the model.

    Attributes:
        beta: weight of the rate; (T, 1) for T models at once.
        dims: D, values in an image.
        floor: least variance that a fitted one may take, in squared pixels.
    """

    beta: "float | Tensor"
    dims: int
    floor: float


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A registry entry: the loss, and where its decoder variance comes from.

    Attributes:
        about: one line for the user.
        loss: (B,) from sse, kl, the decoder variance (the constant, the one that the model carries,
            or None where the loss finds its own) and the setting. Its mean is minimised.
        has_sigma2: takes a constant decoder variance.
        variance: the part of the model that gives the variance, a name in `models.variance`.
        per_image: each image has a variance of its own, so that no constant one has its gradients.
    """

    about: str
    loss: Callable[["Tensor", "Tensor", Variance, Setting], "Tensor"]
    has_sigma2: bool = False
    variance: str | None = None
    per_image: bool = False


def gaussian_nll(sse: "Tensor", sigma2: "Tensor", dims: int) -> "Tensor":
    """-log N(x; mu, sigma2 I) in nats, from sse = |x - mu|^2; shapes as they broadcast."""
    return sse / (2 * sigma2) + dims / 2 * (2 * math.pi * sigma2).log()


def kl_divergence(mean: "Tensor", log_var: "Tensor") -> "Tensor":
    """KL( N(mean, diag exp(log_var)) || N(0, I) ) in nats; (B, L) each to (B,)."""
    return (mean.square() + log_var.expm1() - log_var).sum(dim=-1) / 2


def constant(sse: "Tensor", kl: "Tensor", sigma2: Variance, setting: Setting) -> "Tensor":
    """beta-VAE with a constant variance C: sse/(2C) + beta KL (Beta-Sigma VAE, Eq. 3-5). (B,)"""
    assert sigma2 is not None  # `Trial` sees to it
    return sse / (2 * sigma2) + setting.beta * kl


def optimal(sse: "Tensor", kl: "Tensor", sigma2: Variance, setting: Setting) -> "Tensor":
    """BS-VAE: the optimal variance sse/D of each image (Beta-Sigma VAE, Eq. 6). (B,)

    Above the floor the first term is (D/2)[log(2 pi sse/D) + 1].
    """
    fitted = (sse / setting.dims).clamp_min(setting.floor)
    return gaussian_nll(sse, fitted, setting.dims) + setting.beta * kl


def optimal_batch(sse: "Tensor", kl: "Tensor", sigma2: Variance, setting: Setting) -> "Tensor":
    """The optimal variance of the batch, mean sse/D, for all its images. (B,)

    Source: sigma-VAE, Rybkin et al. 2021, "Simple and Effective VAE Training with Calibrated
    Decoders", with a weight beta.
    """
    fitted = (sse.mean(dim=-1, keepdim=True) / setting.dims).clamp_min(setting.floor)
    return gaussian_nll(sse, fitted, setting.dims) + setting.beta * kl


def learned(sse: "Tensor", kl: "Tensor", sigma2: Variance, setting: Setting) -> "Tensor":
    """A variance that is trained: sse/(2 s2) + (D/2) log(2 pi s2) + beta KL. (B,)

    s2 of shape () or (B,): Sigma_x(z) = s2(z) I (Beta-Sigma VAE, section 2).
    """
    assert sigma2 is not None
    assert not isinstance(sigma2, float)
    return gaussian_nll(sse, sigma2, setting.dims) + setting.beta * kl


OBJECTIVES: Mapping[str, Objective] = {
    "constant": Objective(
        about="beta-VAE: sse/(2C) + beta KL, one constant variance C",
        loss=constant,
        has_sigma2=True,
    ),
    "optimal": Objective(
        about="BS-VAE: the optimal variance of each image, + beta KL",
        loss=optimal,
        per_image=True,
    ),
    "optimal-batch": Objective(
        about="sigma-VAE: the optimal variance of each batch, + beta KL",
        loss=optimal_batch,
    ),
    "learned": Objective(
        about="one trained variance, + beta KL",
        loss=learned,
        variance="shared",
    ),
    "learned-image": Objective(
        about="a trained variance s2(z) from a head on z, + beta KL",
        loss=learned,
        variance="image",
        per_image=True,
    ),
}

# Names of the literature.
ALIASES: Mapping[str, str] = {
    "beta-vae": "constant",
    "bs-vae": "optimal",
    "sigma-vae": "optimal-batch",
}
_IMPORTED: dict[str, Objective] = {}


def objective_name(name: str) -> str:
    """The name under which an objective is registered; `package.module:loss` stays as it is.

    Raises:
        BadInput: an unknown name.
    """
    name = ALIASES.get(name, name)
    return name if is_import_name(name) else one_of(name, [*OBJECTIVES, *ALIASES], "objective")


def objective_of(name: str) -> Objective:
    """The registry entry of an objective, or that of a user's own that `import_objective` made.

    Raises:
        BadInput: an unknown name, or the name of a user's own loss that was not imported: files
            never choose which code runs.
    """
    name = objective_name(name)
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    if name not in _IMPORTED:
        raise BadInput(
            f"objective {name} is not a loss of rdvae; if you trust it, name it again: "
            f"--objective {name}"
        )
    return _IMPORTED[name]


def import_objective(name: str) -> None:
    """Imports a loss that the user names; a registered name needs nothing.

    `package.module:loss` names an `Objective`, or a function `loss(sse, kl, sigma2, setting)` as
    `Objective.loss` describes it, without a decoder variance of its own.

    Raises:
        BadInput: it cannot be imported, or is neither.
    """
    name = objective_name(name)
    if name in OBJECTIVES or name in _IMPORTED:
        return
    loss = import_name(name, "objective")
    if not isinstance(loss, Objective):
        if not callable(loss):
            raise BadInput(f"objective {name}: it cannot be called as loss(sse, kl, sigma2, ...)")
        loss = Objective(about="your own loss", loss=loss, per_image=True)
    _IMPORTED[name] = loss
