"""The linear VAE, whose optimum is known in closed form."""

import math

import torch
from torch import Tensor, nn

from rdkit_vae.models import Shape
from rdkit_vae.models.dense import Dense

_MID_GREY = 0.5


class LinearVAE(nn.Module):
    """Affine encoder and decoder; the posterior variance is the same for every image.

    Both subtract mid-grey from the pixels, which allows the same maps but suits Adam better.

    Source: Lucas et al. 2019, "Don't Blame the ELBO!", section 4.
    """

    def __init__(self, shape: Shape, latents: int) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Dense(math.prod(shape), latents)
        self.log_var = nn.Parameter(torch.zeros(latents))
        self.decoder = Dense(latents, math.prod(shape))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `models.VAE`."""
        mean = self.encoder(x.flatten(-3) - _MID_GREY)
        return mean, self.log_var.unsqueeze(-2).expand_as(mean)

    def decode(self, z: Tensor) -> Tensor:
        """See `models.VAE`."""
        return torch.unflatten(self.decoder(z) + _MID_GREY, -1, self.shape)
