"""The networks. Any module with these two methods can be trained; modules load when asked for."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rdkit_vae.errors import BadInput
from rdkit_vae.system.imports import import_name, is_import_name
from rdkit_vae.text import one_of

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
        build: the network, from the shape of the images, the number of latents, and options of its
            own by name.
        start_as_reference: gives the network that was built initial weights as the paper's
            reference code has them, where they differ.
        normalises_batches: needs two images a batch.
        stacks: takes one more dimension of all, T: weights of T networks and (T, B, ...) inputs. So
            do networks whose layers are `models.dense.Dense`, without buffers; convolutions of many
            networks at once take longer than one after the other, at least on a CPU.
    """

    about: str
    build: Callable[..., "nn.Module"]
    start_as_reference: Callable[["nn.Module"], None] = _as_it_is
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
        about="the paper's residual convolutions; depth by image size",
        build=_build_conv,
        start_as_reference=_start_conv,
        normalises_batches=True,
    ),
    "mlp": Architecture(
        about="two hidden layers each way; width by image size, or the option width",
        build=_build_mlp,
        stacks=True,
    ),
    "linear": Architecture(
        about="affine maps and one posterior variance for all images (probabilistic PCA)",
        build=_build_linear,
        stacks=True,
    ),
}

_IMPORTED: dict[str, Architecture] = {}


def architecture_of(name: str) -> Architecture:
    """The registry entry of a network, or that of a user's own that `import_architecture` made.

    Raises:
        BadInput: an unknown name, or the name of a user's own network that was not imported: files
            never choose which code runs.
    """
    if is_import_name(name):
        if name not in _IMPORTED:
            raise BadInput(
                f"architecture {name} is not a network of rdvae; if you trust it, name it again: "
                f"--architecture {name}"
            )
        return _IMPORTED[name]
    return ARCHITECTURES[one_of(name, ARCHITECTURES, "architecture")]


def check_architecture(name: str) -> None:
    """Refuses what can name no network. Nothing is imported.

    Raises:
        BadInput: neither a registered name nor of the form `package.module:factory`.
    """
    if not is_import_name(name):
        one_of(name, ARCHITECTURES, "architecture")


def import_architecture(name: str) -> None:
    """Imports a network that the user names; a registered name needs nothing.

    `package.module:factory` names an `Architecture`, or whatever makes the network when it is
    called as `factory(shape, latents, **options)`.

    Raises:
        BadInput: it cannot be imported, or is neither.
    """
    if not is_import_name(name) or name in _IMPORTED:
        return check_architecture(name)
    factory = import_name(name, "architecture")
    if not isinstance(factory, Architecture):
        if not callable(factory):
            raise BadInput(f"architecture {name}: it cannot be called as factory(shape, latents)")
        factory = Architecture(about="your own network", build=factory)
    _IMPORTED[name] = factory
    return None


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuses options that a network does not take.

    Raises:
        BadInput: it takes others.
    """
    try:
        signature = inspect.signature(architecture_of(name).build)
    except ValueError:  # some callables do not say what they take
        return
    try:
        signature.bind((1, 1, 1), 1, **options)
    except TypeError as error:
        takes = [*signature.parameters][2:]
        known = f"its options are {', '.join(takes)}" if takes else "it has no options"
        raise BadInput(f"architecture {name}: {error}; {known}") from error
