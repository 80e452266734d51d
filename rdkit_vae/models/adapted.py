"""Models from elsewhere in the form of `models.VAE`: flat latents, pixels in [0, 1]."""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from rdkit_vae.errors import BadInput, in_line
from rdkit_vae.models import Shape
from rdkit_vae.pixels import Number, PixelRange
from rdkit_vae.pixels import pixel_range as read_range

Latents = Tensor | Sequence[Tensor]
Encode = Callable[[Tensor], Any]
Decode = Callable[[Any], Any]


class Adapted(nn.Module):
    """A module from elsewhere as a `models.VAE`; made by `adapt`.

    Attributes:
        module: the user's module, unchanged.
        pixels: the range of its own pixels.
        image_size: side of the square images that it takes; None: any, or unknown.
        latent_shapes: shape of each level of its latents; empty until `probe`.
    """

    def __init__(
        self,
        module: nn.Module,
        encode: Encode,
        decode: Decode,
        pixels: PixelRange,
        image_size: int | None,
    ) -> None:
        super().__init__()
        self.module = module
        self.pixels = pixels
        self.image_size = image_size
        self.latent_shapes: tuple[tuple[int, ...], ...] = ()
        self._encode, self._decode = encode, decode
        self._several_levels = False
        for name, numbers in (("_shift", pixels.shift), ("_scale", pixels.scale)):
            values = torch.tensor(numbers, dtype=torch.float32).reshape(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    @property
    def latents(self) -> int:
        """L, the number of latents of all levels."""
        return sum(math.prod(shape) for shape in self.latent_shapes)

    def probe(self, shape: Shape) -> None:
        """Runs two black images through the module to learn the shapes of its latents.

        Args:
            shape: channels, height and width of the images.

        Raises:
            BadInput: the module does not take such images, its encoder is not Gaussian, or its
                decoder returns images of another shape.
        """
        device = device_of(self.module)
        modes = [(module, module.training) for module in self.modules()]
        self.latent_shapes = ()
        for name in ("_shift", "_scale"):
            setattr(self, name, self._buffer(name).to(device))
        self.eval()
        try:
            with torch.no_grad():
                self._probe(torch.zeros(2, *shape, device=device), shape)
        finally:
            for module, training in modes:
                module.training = training

    def _probe(self, x: Tensor, shape: Shape) -> None:
        size = "x".join(map(str, shape))
        advice = "" if self.image_size else "; if it takes another size, give its image_size"
        own_size = (self.image_size, self.image_size)
        if self.image_size is not None and shape[1:] != own_size:
            raise BadInput(
                f"the model takes images of {self.image_size}x{self.image_size}, these are {size}"
            )
        try:
            mean, _ = self.encode(x)
        except BadInput:
            raise
        except Exception as error:  # a foreign module can raise anything
            raise BadInput(
                f"the encoder fails on images of {size}: {in_line(error)}{advice}"
            ) from error
        try:
            decoded = self.decode(mean)
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(
                f"the decoder fails on latents of {self._latents_in_words()}, as the encoder gives "
                f"them for images of {size}: {in_line(error)}"
            ) from error
        image = decoded[0] if isinstance(decoded, tuple) else decoded
        if image.shape[1:] != shape:
            made = "x".join(map(str, image.shape[1:]))
            if image[0].numel() == math.prod(shape):
                advice = f"; decode must return them as (B, {', '.join(map(str, shape))})"
            raise BadInput(f"the decoder makes images of {made} from images of {size}{advice}")

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `models.VAE`."""
        mean, log_var = _gaussian(self._encode(self.to_own(x)))
        if not self.latent_shapes:
            self._several_levels = not isinstance(mean, Tensor)
            self.latent_shapes = tuple(tuple(level.shape[1:]) for level in _levels(mean))
        return _flat(mean), _flat(log_var)

    def decode(self, z: Tensor) -> "Tensor | tuple[Tensor, Tensor]":
        """Maps (B, L) latents to the mean, and to the variance if the decoder returns one.

        Both are in [0, 1] units, the variance of a shape that broadcasts to that of the mean.
        """
        sizes = [math.prod(shape) for shape in self.latent_shapes]
        levels = [
            torch.unflatten(level, 1, shape)
            for level, shape in zip(torch.split(z, sizes, dim=1), self.latent_shapes, strict=True)
        ]
        decoded = self._decode(levels if self._several_levels else levels[0])
        if isinstance(decoded, Tensor):
            return self.from_own(decoded)
        if not _are_two_tensors(decoded):
            raise BadInput(
                "decode must return the decoder mean or (mean, variance), tensors each, got "
                f"{_kind(decoded)}"
            )
        mean, variance = decoded
        return self.from_own(mean), _as_image(variance, mean) * self._buffer("_scale").square()

    def to_own(self, x: Tensor) -> Tensor:
        """Converts pixels in [0, 1] to the model's own."""
        return x if self.pixels.is_unit else (x - self._buffer("_shift")) / self._buffer("_scale")

    def from_own(self, y: Tensor) -> Tensor:
        """Converts the model's own pixels to [0, 1]."""
        return y if self.pixels.is_unit else y * self._buffer("_scale") + self._buffer("_shift")

    def _buffer(self, name: str) -> Tensor:
        return cast(Tensor, getattr(self, name))

    def _latents_in_words(self) -> str:
        return " and ".join("x".join(map(str, shape)) for shape in self.latent_shapes)


def adapt(
    module: nn.Module,
    *,
    encode: Encode | None = None,
    decode: Decode | None = None,
    pixel_range: tuple[Number, Number] = (0, 1),
    image_size: int | None = None,
) -> Adapted:
    """Makes a model from elsewhere one that rdvae can evaluate, without changing it.

    Args:
        module: the network; its weights are hashed, and it runs in evaluation mode.
        encode: maps images (B, C, H, W) in `pixel_range` to `(mean, log_var)`, the log variance of
            a diagonal Gaussian posterior, or to a `torch.distributions.Normal`. The latents may
            have any shape (B, ...), or be lists of tensors, one per level of a hierarchy. By
            default `module.encode`.
        decode: maps such latents to the decoder mean (B, C, H, W) in `pixel_range`, or to
            `(mean, variance)` with a variance of shape (), (B,), (C, 1, 1) or any that broadcasts
            to (B, C, H, W). By default `module.decode`.
        pixel_range: of the model's own pixels: `(0, 1)`, `(-1, 1)`, `(-0.5, 0.5)`, `(0, 255)`, or
            the `(mean, std)` that normalise pixels in [0, 1], as numbers or one per channel.
        image_size: side of the square images that the model takes, if not that of the dataset.

    Raises:
        BadInput: an argument cannot be used, or the module has no method `encode` or `decode`.
    """
    if not isinstance(module, nn.Module):
        raise BadInput(f"adapt needs a torch.nn.Module, got {_kind(module)}")
    if image_size is not None and (type(image_size) is not int or image_size < 1):
        raise BadInput(f"image_size must be a whole number > 0, got {image_size!r}")
    return Adapted(
        module,
        encode or _method(module, "encode"),
        decode or _method(module, "decode"),
        read_range(pixel_range),
        image_size,
    )


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's first weight; the CPU if it has none."""
    return next((weight.device for weight in module.parameters()), torch.device("cpu"))


def _method(module: nn.Module, name: str) -> Callable[..., Any]:
    method = getattr(module, name, None)
    if not callable(method):
        raise BadInput(f"{type(module).__name__} has no method {name}: give adapt {name}=function")
    return cast(Callable[..., Any], method)


def _gaussian(encoded: Any) -> tuple[Latents, Latents]:
    """The mean and log variance in what an encoder returns.

    Raises:
        BadInput: it is not a Gaussian.
    """
    if isinstance(encoded, Independent):
        encoded = encoded.base_dist
    if isinstance(encoded, Normal):
        return encoded.loc, 2 * encoded.scale.log()
    if isinstance(encoded, Tensor):
        raise BadInput(
            "the encoder returns a single tensor: a deterministic encoder has no rate; encode must "
            "return the mean and the log variance of a Gaussian"
        )
    if not isinstance(encoded, list | tuple) or len(encoded) != 2:
        raise BadInput(f"encode must return (mean, log_var), got {_kind(encoded)}")
    mean, log_var = encoded
    shapes = [[tuple(level.shape) for level in _levels(part)] for part in (mean, log_var)]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise BadInput(
            f"the encoder's mean and log_var have different shapes: {shapes[0]} and {shapes[1]}"
        )
    return mean, log_var


def _levels(latents: Latents) -> list[Tensor]:
    levels = [latents] if isinstance(latents, Tensor) else list(latents)
    for level in levels:
        if not isinstance(level, Tensor) or level.dim() < 2:
            raise BadInput(f"a latent must be a tensor (B, ...), got {_kind(level)}")
    return levels


def _flat(latents: Latents) -> Tensor:
    levels = [level.flatten(1) for level in _levels(latents)]
    return levels[0] if len(levels) == 1 else torch.cat(levels, dim=1)


def _as_image(variance: Tensor, mean: Tensor) -> Tensor:
    """A variance in a shape that broadcasts to (B, C, H, W).

    Raises:
        BadInput: its shape does not.
    """
    if variance.dim() == 1 and variance.shape[0] in (1, len(mean)):
        return variance.reshape(-1, 1, 1, 1)
    try:
        variance.expand_as(mean)
    except RuntimeError as error:
        raise BadInput(
            f"the decoder's variance has the shape {tuple(variance.shape)}, which does not "
            f"broadcast to that of its mean, {tuple(mean.shape)}"
        ) from error
    return variance


def _are_two_tensors(value: Any) -> bool:
    two = isinstance(value, list | tuple) and len(value) == 2
    return two and all(isinstance(part, Tensor) for part in value)


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return f"{len(value)} values"
    return f"a {type(value).__name__}"
