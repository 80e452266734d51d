"""A small fully connected VAE."""

import math

import torch
from torch import Tensor, nn

from rdkit_vae.errors import BadInput
from rdkit_vae.models import Shape
from rdkit_vae.models.dense import Dense

_NARROWEST, _WIDEST = 64, 512


class MLPVAE(nn.Module):
    """Two hidden layers in the encoder and in the decoder, SiLU, linear output.

    The default width of the hidden layers is the number of values in an image, limited to
    64 to 512.
    """

    def __init__(self, shape: Shape, latents: int, width: int | None = None) -> None:
        super().__init__()
        self.shape = shape
        dims = math.prod(shape)
        if width is None:
            width = min(max(dims, _NARROWEST), _WIDEST)
        if type(width) is not int or width < 1:
            raise BadInput(f"architecture mlp: width must be a whole number > 0, got {width!r}")
        self.encoder = _layers(dims, width, 2 * latents)
        self.decoder = _layers(latents, width, dims)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `models.VAE`."""
        mean, log_var = self.encoder(x.flatten(-3)).chunk(2, dim=-1)
        return mean, log_var

    def decode(self, z: Tensor) -> Tensor:
        """See `models.VAE`."""
        return torch.unflatten(self.decoder(z), -1, self.shape)


def _layers(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        Dense(inputs, width),
        nn.SiLU(),
        Dense(width, width),
        nn.SiLU(),
        Dense(width, outputs),
    )
