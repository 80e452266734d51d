"""The networks. Any module with these two methods can be trained; modules load when asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

Shape = tuple[int, int, int]  # channels, height, width


class VAE(Protocol):
    """A Gaussian VAE: z | x ~ N(mean, diag exp(log_var)), x | z ~ N(mu(z), s2 I)."""

    def encode(self, x: "Tensor") -> tuple["Tensor", "Tensor"]:
        """(B, C, H, W) images in [0, 1] to the posterior's mean and log variance, (B, L) each."""
        ...

    def decode(self, z: "Tensor") -> "Tensor":
        """(B, L) latents to the decoder mean mu(z), (B, C, H, W)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A registry entry: builds the network for images of a shape and a number of latents."""

    about: str
    build: Callable[[Shape, int], "nn.Module"]
    normalises_batches: bool = False


def _build_conv(shape: Shape, latents: int) -> "nn.Module":
    from rdkit_vae.models.conv import ConvVAE

    return ConvVAE(shape, latents)


def _build_mlp(shape: Shape, latents: int) -> "nn.Module":
    from rdkit_vae.models.mlp import MLPVAE

    return MLPVAE(shape, latents)


def _build_linear(shape: Shape, latents: int) -> "nn.Module":
    from rdkit_vae.models.linear import LinearVAE

    return LinearVAE(shape, latents)


ARCHITECTURES: Mapping[str, Architecture] = {
    "conv": Architecture(
        about="the paper's residual convolutions; depth by image size",
        build=_build_conv,
        normalises_batches=True,
    ),
    "mlp": Architecture(about="two hidden layers each way; width by image size", build=_build_mlp),
    "linear": Architecture(
        about="affine maps and one posterior variance for all images (probabilistic PCA)",
        build=_build_linear,
    ),
}
