"""The networks. Any module with these two methods can be trained; modules load when asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

Shape = tuple[int, int, int]  # channels, height, width


class VAE(Protocol):
    """A Gaussian VAE: z | x ~ N(mean, diag exp(log_var)), x | z ~ N(mu(z), s2 I).

    Where its architecture `stacks`, its weights may be those of T networks, (T, ...) each; all that
    comes in and goes out is (T, B, ...) then.
    """

    def encode(self, x: "Tensor") -> tuple["Tensor", "Tensor"]:
        """(B, C, H, W) images in [0, 1] to the posterior's mean and log variance, (B, L) each."""
        ...

    def decode(self, z: "Tensor") -> "Tensor":
        """(B, L) latents to the decoder mean mu(z), (B, C, H, W)."""
        ...


def _as_it_is(model: "nn.Module") -> None:
    """Leaves the initial weights of a network."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A registry entry.

    Attributes:
        about: one line for the user.
        build: the network for images of a shape and a number of latents.
        start_as_reference: gives the network that was built initial weights as the paper's
            reference code has them, where they differ.
        normalises_batches: needs two images a batch.
        stacks: takes one more dimension of all, T: weights of T networks and (T, B, ...) inputs. So
            do networks whose layers are `models.dense.Dense`, without buffers; convolutions of many
            networks at once take longer than one after the other, at least on a CPU.
    """

    about: str
    build: Callable[[Shape, int], "nn.Module"]
    start_as_reference: Callable[["nn.Module"], None] = _as_it_is
    normalises_batches: bool = False
    stacks: bool = False


def _build_conv(shape: Shape, latents: int) -> "nn.Module":
    from rdkit_vae.models.conv import ConvVAE

    return ConvVAE(shape, latents)


def _start_conv(model: "nn.Module") -> None:
    from rdkit_vae.models.conv import start_as_reference

    start_as_reference(model)


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
        start_as_reference=_start_conv,
        normalises_batches=True,
    ),
    "mlp": Architecture(
        about="two hidden layers each way; width by image size", build=_build_mlp, stacks=True
    ),
    "linear": Architecture(
        about="affine maps and one posterior variance for all images (probabilistic PCA)",
        build=_build_linear,
        stacks=True,
    ),
}
