"""The training objectives: loss per image from (sse, kl). Pure functions of torch tensors.

sse is the sum of squared errors over the D values of an image, kl the closed-form divergence of
its posterior from the prior, in nats; both of shape (B,), or (T, B) for T models at once. Losses
are minimised, in nats per image.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from rdkit_vae.system.imports import Imported, is_import_name
from rdkit_vae.text import one_of

if TYPE_CHECKING:
    from torch import Tensor

Variance = Union["Tensor", float, None]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The settings of a loss.

    Attributes:
        beta: weight of the rate; (T, 1) for T models at once.
        dims: D, values in an image.
        floor: least value of a fitted variance, in squared pixels.
        log_offset: if not 0, it is added inside the logarithm of `optimal`, instead of the floor.
    """

    beta: "float | Tensor"
    dims: int
    floor: float
    log_offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A registry entry: the loss, and the source of its decoder variance.

    Attributes:
        about: one line for the user.
        loss: maps sse, kl, the decoder variance (constant, trained, or None if the loss fits it)
            and the setting to (B,) losses, whose mean is minimised. The variance of a Student t is
            (B, 2): its scale s2 and its degrees of freedom nu.
        has_sigma2: takes a constant decoder variance.
        variance: name in `models.variance` of the trained variance; None if there is none.
        per_image: each image has its own variance, so no constant variance has the same gradients.
    """

    about: str
    loss: Callable[["Tensor", "Tensor", Variance, Setting], "Tensor"]
    has_sigma2: bool = False
    variance: str | None = None
    per_image: bool = False


def gaussian_nll(sse: "Tensor", sigma2: "Tensor", dims: int) -> "Tensor":
    """-log N(x; mu, sigma2 I) in nats, from sse = |x - mu|^2; shapes broadcast."""
    return sse / (2 * sigma2) + dims / 2 * (2 * math.pi * sigma2).log()


def kl_divergence(mean: "Tensor", log_var: "Tensor") -> "Tensor":
    """KL( N(mean, diag exp(log_var)) || N(0, I) ) in nats; (B, L) each to (B,)."""
    return (mean.square() + log_var.expm1() - log_var).sum(dim=-1) / 2


def constant(sse: "Tensor", kl: "Tensor", sigma2: Variance, setting: Setting) -> "Tensor":
    """beta-VAE with a constant variance C: sse/(2C) + beta KL (Beta-Sigma VAE, Eq. 3-5). (B,)"""
    assert sigma2 is not None  # checked by `Trial`
    return sse / (2 * sigma2) + setting.beta * kl


def optimal(sse: "Tensor", kl: "Tensor", sigma2: Variance, setting: Setting) -> "Tensor":
    """BS-VAE: the optimal variance sse/D of each image (Beta-Sigma VAE, Eq. 6). (B,)

    Above the floor, the first term is (D/2)[log(2 pi sse/D) + 1]. The paper's reference code has
    (D/2)[log(2 pi sse/D + 1e-5) + 1] everywhere.
    """
    if setting.log_offset:
        log = (2 * math.pi * sse / setting.dims + setting.log_offset).log()
        return setting.dims / 2 * (log + 1) + setting.beta * kl
    fitted = (sse / setting.dims).clamp_min(setting.floor)
    return gaussian_nll(sse, fitted, setting.dims) + setting.beta * kl


def optimal_batch(sse: "Tensor", kl: "Tensor", sigma2: Variance, setting: Setting) -> "Tensor":
    """sigma-VAE: the optimal variance of the batch, mean sse/D, for all its images. (B,)

    Source: Rybkin et al. 2021, "Simple and Effective VAE Training with Calibrated
    Decoders"; here with a weight beta.
    """
    fitted = (sse.mean(dim=-1, keepdim=True) / setting.dims).clamp_min(setting.floor)
    return gaussian_nll(sse, fitted, setting.dims) + setting.beta * kl


def learned(sse: "Tensor", kl: "Tensor", sigma2: Variance, setting: Setting) -> "Tensor":
    """A trained variance s2: sse/(2 s2) + (D/2) log(2 pi s2) + beta KL. (B,)

    s2 has shape () or (B,): Sigma_x(z) = s2(z) I (Beta-Sigma VAE, section 2).
    """
    assert sigma2 is not None
    assert not isinstance(sigma2, float)
    return gaussian_nll(sse, sigma2, setting.dims) + setting.beta * kl


def student_nll(sse: "Tensor", sigma2: "Tensor", nu: "Tensor", dims: int) -> "Tensor":
    """-log p(x|z) of the multivariate Student t with a scalar scale s2, nats; shapes broadcast."""
    half_nu, half_sum = nu.double() / 2, (nu.double() + dims) / 2
    constant = half_nu.lgamma() - half_sum.lgamma() + dims / 2 * (nu * math.pi * sigma2).log()
    return (half_sum * (sse / (nu * sigma2)).log1p() + constant).to(sse.dtype)


def student(sse: "Tensor", kl: "Tensor", sigma2: Variance, setting: Setting) -> "Tensor":
    """A Student-t decoder with two trained numbers, its scale s2 and nu, plus beta KL. (B,)

    Source: Takahashi et al. 2018, "Student-t Variational Autoencoder for Robust Density
    Estimation", with one scale for all values; here with a weight beta. As nu falls to 0, its
    gradient in sse becomes that of `optimal`, D/(2 sse): BS-VAE is its improper limit.
    """
    assert sigma2 is not None
    assert not isinstance(sigma2, float)
    scale, nu = sigma2.unbind(dim=-1)
    return student_nll(sse, scale, nu, setting.dims) + setting.beta * kl


OBJECTIVES: Mapping[str, Objective] = {
    "constant": Objective(
        about="beta-VAE: sse/(2C) + beta KL with a constant variance C",
        loss=constant,
        has_sigma2=True,
    ),
    "optimal": Objective(
        about="BS-VAE: the optimal variance of each image, plus beta KL",
        loss=optimal,
        per_image=True,
    ),
    "optimal-batch": Objective(
        about="sigma-VAE: the optimal variance of each batch, plus beta KL",
        loss=optimal_batch,
    ),
    "learned": Objective(
        about="one trained variance, plus beta KL",
        loss=learned,
        variance="shared",
    ),
    "learned-image": Objective(
        about="a trained variance s2(z), computed from z by a small network, plus beta KL",
        loss=learned,
        variance="image",
        per_image=True,
    ),
    "student": Objective(
        about="a Student t with a trained scale and degrees of freedom, plus beta KL",
        loss=student,
        variance="student",
        per_image=True,
    ),
}

# Names in the literature.
ALIASES: Mapping[str, str] = {
    "beta-vae": "constant",
    "bs-vae": "optimal",
    "sigma-vae": "optimal-batch",
}
_IMPORTED = Imported(
    "objective",
    Objective,
    lambda loss: Objective(about="your own loss", loss=loss, per_image=True),
    "loss(sse, kl, sigma2, setting)",
)


def objective_name(name: str) -> str:
    """Returns the registered name for a name or alias; `package.module:loss` is unchanged.

    Raises:
        BadInput: the name is unknown.
    """
    name = ALIASES.get(name, name)
    return name if is_import_name(name) else one_of(name, [*OBJECTIVES, *ALIASES], "objective")


def objective_of(name: str) -> Objective:
    """Returns the entry of an objective, registered or imported by `import_objective`.

    Raises:
        BadInput: the name is unknown, or the user's own loss was not imported.
    """
    name = objective_name(name)
    return OBJECTIVES[name] if name in OBJECTIVES else _IMPORTED[name]


def import_objective(name: str) -> None:
    """Imports a loss of the user; a registered name needs no import.

    `package.module:loss` names an `Objective`, or a function `loss(sse, kl, sigma2, setting)` as
    described in `Objective.loss`, for models without a trained decoder variance.

    Raises:
        BadInput: it cannot be imported, or is neither.
    """
    name = objective_name(name)
    if name not in OBJECTIVES:
        _IMPORTED.load(name)
