"""Decoder variances that are trained with a network: maps from z to s2, never below a floor.

A Student t has two trained numbers, its scale s2 and its degrees of freedom nu.

s2 = floor + exp(.) instead of a clamp, whose gradient would vanish below the floor.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rdkit_vae.models.dense import Dense

# Adam moves a parameter by about the learning rate per step, whatever its gradient. log s2 must
# move further than a weight, so its parameter is multiplied by this factor.
_LOG_SCALE = 10.0
_WIDTH = 64


class SharedVariance(nn.Module):
    """One variance for all images; about 1 before training."""

    def __init__(self, latents: int, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.scaled_log = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        """Maps (B, L) latents to (B,) variances in squared pixels."""
        sigma2 = self.floor + (_LOG_SCALE * self.scaled_log).exp()
        return sigma2.unsqueeze(-1).expand(z.shape[:-1])


class StudentScale(SharedVariance):
    """The scale and the degrees of freedom of a Student t, for all images; 1 before training."""

    def __init__(self, latents: int, floor: float) -> None:
        super().__init__(latents, floor)
        self.scaled_log_nu = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        """Maps (B, L) latents to (B, 2): the scale s2 in squared pixels, and nu."""
        nu = (_LOG_SCALE * self.scaled_log_nu).exp()
        return torch.stack([super().forward(z), nu.unsqueeze(-1).expand(z.shape[:-1])], dim=-1)


class ImageVariance(nn.Module):
    """s2(z), one number per image (Beta-Sigma VAE, section 2); about 1 before training."""

    def __init__(self, latents: int, floor: float) -> None:
        super().__init__()
        self.floor = floor
        last = Dense(_WIDTH, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(Dense(latents, _WIDTH), nn.SiLU(), last)

    def forward(self, z: Tensor) -> Tensor:
        """Maps (B, L) latents to (B,) variances in squared pixels."""
        log: Tensor = self.head(z)
        return self.floor + log[..., 0].exp()


VARIANCES: Mapping[str, type[SharedVariance] | type[ImageVariance]] = {
    "shared": SharedVariance,
    "student": StudentScale,
    "image": ImageVariance,
}


def trained_terms(model: nn.Module, z: Tensor) -> Tensor | None:
    """Returns what the loss takes of a model's trained variance at (B, L) latents.

    (B,) variances, (B, 2) for a Student t, or None if the model has none. An attribute `variance`
    that is not one of `VARIANCES` means something else and is ignored.
    """
    variance = getattr(model, "variance", None)
    if not isinstance(variance, SharedVariance | ImageVariance):
        return None
    terms: Tensor = variance(z)
    return terms


def variance_of(model: nn.Module, z: Tensor) -> Tensor | None:
    """Returns the (B,) trained variances of a Gaussian decoder at (B, L) latents; None: no such."""
    is_student = isinstance(getattr(model, "variance", None), StudentScale)
    return None if is_student else trained_terms(model, z)


def student_of(model: nn.Module) -> tuple[float, float] | None:
    """Returns s2 in squared pixels and nu of a Student-t decoder; None if it is none."""
    variance = getattr(model, "variance", None)
    if not isinstance(variance, StudentScale):
        return None
    sigma2, nu = variance(variance.scaled_log.new_zeros((1, 1)))[0].tolist()
    return sigma2, nu
