"""Models of github.com/orybkin/sigma-vae-pytorch (Rybkin et al. 2021, arXiv:2006.13202)."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from rdkit_vae.adapters import Loaded
from rdkit_vae.adapters.reading import build_bounded, put_into, shape_of, shapes_of
from rdkit_vae.config.trial import Option
from rdkit_vae.errors import BadData
from rdkit_vae.models.adapted import adapt
from rdkit_vae.store.weights import Weights, read_weights

_NETWORK = "the network of sigma-vae-pytorch"
_WIDTH = 32
_LEAST_LOG_SIGMA = -6.0  # a soft bound
_LEARNED = "Its decoder variance is learned: one number for all images and pixels."
_UNKNOWN = (
    "The file has no log_sigma: it does not record whether the variance was 1, optimal, or absent "
    "from the loss."
)


class SigmaVAE(nn.Module):
    """Three convolutions, a linear layer, and back.

    Args:
        channels: of the images.
        latents: L.
        side: of the last feature map, a quarter of that of the images.
        log_sigma_dims: dimensions of the learned log standard deviation; None: it is not learned.
    """

    def __init__(self, channels: int, latents: int, side: int, log_sigma_dims: int | None) -> None:
        super().__init__()
        inner = (4 * _WIDTH, side, side)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, _WIDTH, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, 2 * _WIDTH, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(2 * _WIDTH, 4 * _WIDTH, 5, 2, 2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.fc11 = nn.Linear(math.prod(inner), latents)
        self.fc12 = nn.Linear(math.prod(inner), latents)
        self.fc2 = nn.Linear(latents, math.prod(inner))
        self.decoder = nn.Sequential(
            nn.Unflatten(1, inner),
            nn.ConvTranspose2d(4 * _WIDTH, 2 * _WIDTH, 6, 2, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * _WIDTH, _WIDTH, 6, 2, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(_WIDTH, channels, 5, 1, 2),
            nn.Sigmoid(),
        )
        self.log_sigma: nn.Parameter | None = None
        if log_sigma_dims is not None:
            self.log_sigma = nn.Parameter(self.fc2.bias.new_zeros((1,) * log_sigma_dims))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `models.VAE`."""
        features = self.encoder(x)
        return self.fc11(features), self.fc12(features)

    def decode(self, z: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Maps (B, L) latents to the decoder mean, and to the variance if it is learned."""
        mean: Tensor = self.decoder(self.fc2(z))
        if self.log_sigma is None:
            return mean
        log_sigma = _LEAST_LOG_SIGMA + F.softplus(self.log_sigma - _LEAST_LOG_SIGMA)
        return mean, (2 * log_sigma).exp().reshape(())


def load(path: Path, options: Mapping[str, Option]) -> Loaded:
    """Reads a state dict; its own variance is that of the weight `log_sigma`, if it has one.

    Raises:
        BadData: these are not weights of this network.
    """
    weights = read_weights(path)
    module = _network(weights, path)
    notes = put_into(module, weights, path)
    learned = module.log_sigma is not None
    side = module.decoder[0].unflattened_size[1]  # type: ignore[index]
    return Loaded(
        model=adapt(module, image_size=4 * int(side)),
        sha256=weights.sha256,
        weights=path.name,
        architecture="sigma-vae.ConvVAE",
        reconstruction="sse",
        beta=1.0 if learned else None,
        notes=(*notes, _LEARNED if learned else _UNKNOWN),
    )


def _network(weights: Weights, path: Path) -> SigmaVAE:
    channels = shape_of("encoder.0.weight", 4, weights, path, _NETWORK)[1]
    latents, features = shape_of("fc11.weight", 2, weights, path, _NETWORK)
    side = math.isqrt(features // (4 * _WIDTH))
    if features != 4 * _WIDTH * side**2:
        raise BadData(
            f"{path}: these are not weights of {_NETWORK}: fc11.weight has {features} inputs, "
            f"which is not {4 * _WIDTH} times a square"
        )
    dims = _log_sigma_dims(weights, path)
    return build_bounded(lambda: SigmaVAE(channels, latents, side, dims), weights, path)


def _log_sigma_dims(weights: Weights, path: Path) -> int | None:
    shapes = shapes_of("log_sigma", weights)
    if not shapes:
        return None
    shape = shapes.pop()
    if shapes or math.prod(shape) != 1:
        raise BadData(f"{path}: log_sigma must be one number for all images and pixels")
    return len(shape)
