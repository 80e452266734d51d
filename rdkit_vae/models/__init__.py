"""The networks. Any module with the methods of `VAE` can be trained. Loads torch when it builds."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rdkit_vae.errors import BadInput
from rdkit_vae.system.imports import Imported, is_import_name
from rdkit_vae.text import one_of

if TYPE_CHECKING:
    from torch import Tensor, nn

Shape = tuple[int, int, int]  # channels, height, width


class VAE(Protocol):
    """A Gaussian VAE: z | x ~ N(mean, diag exp(log_var)), x | z ~ N(mu(z), s2 I).

    If its architecture `stacks`, its weights may be those of T networks, of shape (T, ...); then
    all inputs and outputs are (T, B, ...).
    """

    def encode(self, x: "Tensor") -> tuple["Tensor", "Tensor"]:
        """Maps (B, C, H, W) images in [0, 1] to the posterior mean and log variance, (B, L)."""
        ...

    def decode(self, z: "Tensor") -> "Tensor":
        """Maps (B, L) latents to the decoder mean mu(z), (B, C, H, W).

        A network that is only evaluated may return the mean and a variance, as in `adapt`.
        """
        ...


def _keep_weights(model: "nn.Module") -> None:
    """Leaves the initial weights unchanged."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A registry entry.

    Attributes:
        about: one line for the user.
        build: makes the network from the shape of the images, the number of latents and its own
            options by name.
        start_as_reference: changes the initial weights to those of the paper's reference code.
        normalises_batches: needs at least two images per batch.
        stacks: accepts weights of T networks at once and inputs (T, B, ...), as do networks whose
            layers are all `models.dense.Dense`, without buffers. (Stacked convolutions are slower
            than one network after the other, at least on a CPU.)
    """

    about: str
    build: Callable[..., "nn.Module"]
    start_as_reference: Callable[["nn.Module"], None] = _keep_weights
    normalises_batches: bool = False
    stacks: bool = False


def _build_conv(shape: Shape, latents: int) -> "nn.Module":
    from rdkit_vae.models.conv import ConvVAE

    return ConvVAE(shape, latents)


def _start_conv(model: "nn.Module") -> None:
    from rdkit_vae.models.conv import start_as_reference

    start_as_reference(model)


def _build_mlp(shape: Shape, latents: int, width: int | None = None) -> "nn.Module":
    from rdkit_vae.models.mlp import MLPVAE

    return MLPVAE(shape, latents, width)


def _build_linear(shape: Shape, latents: int) -> "nn.Module":
    from rdkit_vae.models.linear import LinearVAE

    return LinearVAE(shape, latents)


ARCHITECTURES: Mapping[str, Architecture] = {
    "conv": Architecture(
        about="the residual convolutions of the paper; the depth depends on the image size",
        build=_build_conv,
        start_as_reference=_start_conv,
        normalises_batches=True,
    ),
    "mlp": Architecture(
        about="two hidden layers each way; the width depends on the image size or is given",
        build=_build_mlp,
        stacks=True,
    ),
    "linear": Architecture(
        about="affine maps and one posterior variance for all images (probabilistic PCA)",
        build=_build_linear,
        stacks=True,
    ),
}

_IMPORTED = Imported(
    "architecture",
    Architecture,
    lambda factory: Architecture(about="your own network", build=factory),
    "factory(shape, latents)",
)


def check_architecture(name: str) -> None:
    """Refuses a name that no network can have. Imports nothing.

    Raises:
        BadInput: the name is neither registered nor of the form `package.module:factory`.
    """
    if not is_import_name(name):
        one_of(name, ARCHITECTURES, "architecture")


def architecture_of(name: str) -> Architecture:
    """Returns the entry of a network, registered or imported by `import_architecture`.

    Raises:
        BadInput: the name is unknown, or the user's own network was not imported.
    """
    check_architecture(name)
    return ARCHITECTURES[name] if name in ARCHITECTURES else _IMPORTED[name]


def import_architecture(name: str) -> None:
    """Imports a network of the user; a registered name needs no import.

    `package.module:factory` names an `Architecture`, or a callable that makes the network as
    `factory(shape, latents, **options)`.

    Raises:
        BadInput: it cannot be imported, or is neither.
    """
    check_architecture(name)
    if name not in ARCHITECTURES:
        _IMPORTED.load(name)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuses options that a network does not take.

    Raises:
        BadInput: an option is unknown or missing; the message lists the known ones.
    """
    try:
        signature = inspect.signature(architecture_of(name).build)
    except ValueError:  # some callables have no signature
        return
    try:
        signature.bind((1, 1, 1), 1, **options)
    except TypeError as error:
        takes = [*signature.parameters][2:]
        known = f"its options are {', '.join(takes)}" if takes else "it has no options"
        raise BadInput(f"architecture {name}: {error}; {known}") from error
