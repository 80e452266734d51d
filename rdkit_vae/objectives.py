"""The training objectives: loss per image from (sse, kl). Pure functions of torch tensors.

sse is the sum of squared errors over the D pixels of an image, kl the closed-form divergence of
its posterior from the prior, in nats; both of shape (B,). Losses are minimised, in nats per image.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a loss depends on beside the images.

    Attributes:
        beta: weight of the rate.
        dims: D, values in an image.
        sigma2: the decoder variance C of `constant`, in squared pixels; None elsewhere.
        floor: least variance that a fitted one may take, in squared pixels.
    """

    beta: float
    dims: int
    sigma2: float | None
    floor: float


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A registry entry: the loss, and what it needs of the user."""

    about: str
    loss: Callable[["Tensor", "Tensor", Setting], "Tensor"]
    has_sigma2: bool = False  # takes a constant decoder variance


def gaussian_nll(sse: "Tensor", sigma2: "Tensor", dims: int) -> "Tensor":
    """-log N(x; mu, sigma2 I) in nats, from sse = |x - mu|^2; shapes as they broadcast."""
    return sse / (2 * sigma2) + dims / 2 * (2 * math.pi * sigma2).log()


def kl_divergence(mean: "Tensor", log_var: "Tensor") -> "Tensor":
    """KL( N(mean, diag exp(log_var)) || N(0, I) ) in nats; (B, L) each to (B,)."""
    return (mean.square() + log_var.expm1() - log_var).sum(dim=1) / 2


def constant(sse: "Tensor", kl: "Tensor", setting: Setting) -> "Tensor":
    """beta-VAE with a constant variance C: sse/(2C) + beta KL (Beta-Sigma VAE, Eq. 3-5). (B,)"""
    assert setting.sigma2 is not None  # `Trial` sees to it
    return sse / (2 * setting.sigma2) + setting.beta * kl


def optimal(sse: "Tensor", kl: "Tensor", setting: Setting) -> "Tensor":
    """BS-VAE: the optimal variance sse/D of each image (Beta-Sigma VAE, Eq. 6). (B,)

    Above the floor the first term is (D/2)[log(2 pi sse/D) + 1].
    """
    sigma2 = (sse / setting.dims).clamp_min(setting.floor)
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
    ),
}
