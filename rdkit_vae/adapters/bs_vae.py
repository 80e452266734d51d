"""Models of the reference code of Beta-Sigma VAE, github.com/overnap/BS-VAE.

Their network is `models.conv.ConvVAE`, under other names, but for the last layer: a transposed
convolution of stride 1, which is a convolution with the kernel turned round.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from rdkit_vae.adapters import Loaded
from rdkit_vae.adapters.reading import build_bounded, put_into, shape_of
from rdkit_vae.config.trial import Option
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.models.adapted import adapt
from rdkit_vae.models.conv import ConvVAE
from rdkit_vae.store.weights import Weights, read_weights

_NETWORK = "the reference network of Beta-Sigma VAE"
_SIZES = {3: 28, 4: 64}  # of the images, by the number of stages
_FIRST = "encoder.0.0.conv1.0.weight"
_OBJECTIVE = (
    "The file records neither beta nor the objective; pass --reconstruction sse (constant "
    "variance) or log-sse (optimal) to read the weight of the KL back."
)


def load(path: Path, options: Mapping[str, Option]) -> Loaded:
    """Reads a state dict. Its images are 28x28 or 64x64 unless the option `image_size` says else.

    Raises:
        BadInput: the network takes no images of that size.
        BadData: these are not weights of this network.
    """
    weights = read_weights(path)
    channels = shape_of(_FIRST, 4, weights, path, _NETWORK)[1]
    stages = _stages(weights, path)
    last = f"encoder.{stages}.4.weight"
    latents = shape_of(last, 2, weights, path, _NETWORK)[0] // 2
    image_size = _image_size(stages, options)
    shape = (channels, image_size, image_size)
    module = build_bounded(lambda: ConvVAE(shape, latents), weights, path)
    notes = _put_into(module, stages, weights, path)
    return Loaded(
        model=adapt(module, image_size=image_size),
        sha256=weights.sha256,
        weights=path.name,
        architecture="bs-vae.BetaVAE",
        notes=(*notes, _OBJECTIVE),
    )


def _stages(weights: Weights, path: Path) -> int:
    pattern = re.compile(r"(?:.*\.)?encoder\.(\d{1,3})\.0\.conv1\.0\.weight")
    stages = len({match[1] for name in weights.tensors if (match := pattern.fullmatch(name))})
    if stages not in _SIZES:
        raise BadData(f"{path}: {_NETWORK} has three or four stages, this one has {stages}")
    return stages


def _image_size(stages: int, options: Mapping[str, Option]) -> int:
    image_size = options.get("image_size", _SIZES[stages])
    most = 4 << stages  # a feature map of 4x4 after the last stage
    if type(image_size) is not int or not most // 2 < image_size <= most:
        raise BadInput(
            f"image_size must be a whole number from {most // 2 + 1} to {most} for this network, "
            f"got {image_size!r}"
        )
    return image_size


def _put_into(own: ConvVAE, stages: int, weights: Weights, path: Path) -> tuple[str, ...]:
    """Loads the weights into the same layers under the names that they have there."""
    last = cast(nn.Conv2d, own.decoder[-1])
    there = nn.ConvTranspose2d(last.in_channels, last.out_channels, 3, 1, 1)
    notes = put_into(_under_their_names(own, stages, there), weights, path)
    with torch.no_grad():
        last.weight.copy_(there.weight.transpose(0, 1).flip(2, 3))
        cast(Tensor, last.bias).copy_(cast(Tensor, there.bias))
    return notes


def _under_their_names(own: ConvVAE, stages: int, last: nn.Module) -> nn.Module:
    encoder, decoder = list(own.encoder), list(own.decoder)
    down = [nn.Sequential(*map(_block, _layers(stage))) for stage in encoder[:stages]]
    to_latents = nn.Sequential(nn.Flatten(), *_layers(encoder[-2]), encoder[-1])
    from_latents = nn.Sequential(*_layers(decoder[0]), decoder[1], _block(decoder[2]))
    up = decoder[3:-2]
    to_image = nn.Sequential(*_layers(decoder[-2]), last)
    return nn.ModuleDict(
        {
            "encoder": nn.Sequential(*down, to_latents),
            "decoder": nn.Sequential(from_latents, *up, to_image),
        }
    )


def _block(block: nn.Module) -> nn.Module:
    body = _layers(block.get_submodule("body"))
    return nn.ModuleDict(
        {
            "conv1": nn.Sequential(*body[:3]),
            "conv2": nn.Sequential(*body[3:]),
            "identity": block.get_submodule("shortcut"),
        }
    )


def _layers(module: nn.Module) -> list[nn.Module]:
    return list(module.children())
