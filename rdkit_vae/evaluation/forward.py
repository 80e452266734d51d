"""Runs a model outside training: in evaluation mode, and with its output checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from rdkit_vae.errors import BadInput, NotFinite
from rdkit_vae.models import VAE, Shape
from rdkit_vae.models.adapted import device_of
from rdkit_vae.models.precision import products
from rdkit_vae.models.variance import variance_of


@contextmanager
def evaluating(model: nn.Module, device: str, *, gradients: bool = False) -> Iterator[None]:
    """Evaluation mode and float32; restores the mode of every module afterwards.

    There are no gradients, unless they are asked for.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(not gradients), products("float32", torch.device(device)):
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def placed(model: nn.Module, device: str) -> Iterator[nn.Module]:
    """A model on a device; afterwards it is where it was."""
    before = device_of(model)
    try:
        yield model.to(device)
    finally:
        model.to(before)


def encode(model: nn.Module, x: Tensor, latents: int) -> tuple[Tensor, Tensor]:
    """The posteriors of (B, C, H, W) images: mean and log variance, (B, L) each.

    Raises:
        BadInput: they have another shape.
        NotFinite: a number in them is not finite.
    """
    mean, log_var = cast(VAE, model).encode(x.contiguous(memory_format=torch.channels_last))
    if mean.dim() == 2 and mean.shape[1] != latents:
        raise BadInput(f"the model has {mean.shape[1]} latents, not {latents}")
    for name, values in (("mean", mean), ("log_var", log_var)):
        _check_shape(f"the encoder's {name}", values, (len(x), latents))
        _check_finite(f"the encoder's {name}", values)
    return mean, log_var


def decode(model: nn.Module, z: Tensor, shape: Shape) -> tuple[Tensor, Tensor | None]:
    """The decoder means of (N, L) latents, and the variances if the decoder has any.

    Args:
        model: a network with `decode`, whose result is the mean, or the mean and the variance.
        z: (N, L) latents.
        shape: C, H, W of the images.

    Returns:
        (N, C, H, W) means; and (N, c, h, w) variances in squared pixels, whose sides are those of
        the images, or 1 where they do not vary.

    Raises:
        BadInput: they have another shape, or a variance is not positive.
        NotFinite: a number in the latents or in what the decoder returns is not finite.
    """
    _check_finite("the latent that is drawn", z)
    output = cast(Any, model).decode(z)
    decoded, variance = output if isinstance(output, tuple) else (output, None)
    size = "x".join(map(str, shape))
    _check_shape(f"the decoder's output for images of {size}", decoded, (len(z), *shape))
    _check_finite("the decoder's output", decoded)
    if variance is None:
        trained = variance_of(model, z)
        return decoded, None if trained is None else trained.reshape(-1, 1, 1, 1)
    _check_finite("the decoder's variance", variance)
    if not (variance > 0).all():
        raise BadInput(f"the decoder's variance must be positive, got {variance.min():g}")
    of_each = (len(z), *(1, 1, 1, *variance.shape)[-3:])
    return decoded, variance.expand(of_each)


def _check_shape(what: str, values: Tensor, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise BadInput(f"{what} has the shape {tuple(values.shape)}, not {shape}")


def _check_finite(what: str, values: Tensor) -> None:
    # A sum is finite only if all its terms are; it can overflow, so then look at each.
    if not values.sum().isfinite() and not values.isfinite().all():
        bad = values[values.isfinite().logical_not()]
        share = f"{len(bad)} of {values.numel()} numbers"
        raise NotFinite(f"{what} is not finite: {bad[0]:g} in {share}")
