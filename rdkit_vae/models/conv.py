"""The network of the paper: residual convolutions down, transposed convolutions up."""

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

from rdkit_vae.models import Shape

_FIRST_WIDTH, _MOST_WIDTH = 32, 256
_SMALLEST_SIDE = 4  # stages halve the image until its longer side is this small
_FEWEST_STAGES = 2
_SAFE_CHANNELS = 8  # fill an AVX2 register


class ConvVAE(nn.Module):
    """The network of Beta-Sigma VAE, adapted to the image size.

    Each stage halves the image and doubles the width, from 32 to at most 256: 32-64 for 8x8,
    32-64-128 for 28x28, 32-64-128-256 for 64x64. The output is linear: mu(z) can be any number.
    """

    def __init__(self, shape: Shape, latents: int) -> None:
        super().__init__()
        channels, height, width = shape
        sides = [(height, width)]
        while len(sides) <= _FEWEST_STAGES or max(sides[-1]) > _SMALLEST_SIDE:
            sides.append(tuple(-(-side // 2) for side in sides[-1]))  # type: ignore[arg-type]
        widths = [min(_FIRST_WIDTH << stage, _MOST_WIDTH) for stage in range(len(sides) - 1)]
        inner = (widths[-1], *sides[-1])
        self.encoder = nn.Sequential(
            *(_down(a, b) for a, b in itertools.pairwise([channels, *widths])),
            nn.Flatten(),
            _dense(math.prod(inner), 2 * latents),
            nn.Linear(2 * latents, 2 * latents),
        )
        self.decoder = nn.Sequential(
            _dense(latents, math.prod(inner)),
            nn.Unflatten(1, inner),
            _Residual(widths[-1], widths[-1]),
            *(
                _up(a, b, smaller, larger)
                for (a, b), (smaller, larger) in zip(
                    itertools.pairwise([*widths[::-1], widths[0]]),
                    itertools.pairwise(sides[::-1]),
                    strict=True,
                )
            ),
            nn.Conv2d(widths[0], channels, 3, padding=1),
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `models.VAE`."""
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        return mean, log_var

    def decode(self, z: Tensor) -> Tensor:
        """See `models.VAE`."""
        images: Tensor = self.decoder(z)
        return images


def start_as_reference(model: nn.Module) -> None:
    """Scales the initial weights of the last layer to the range of the reference code.

    There it is a transposed convolution. PyTorch scales the weights of those by the number of
    output instead of input channels, which makes their range sqrt(32/channels) times wider.
    """
    last = model.get_submodule("decoder")[-1]  # type: ignore[index]
    wider = math.sqrt(last.in_channels / last.out_channels)
    for weight in last.parameters():
        weight.data.mul_(wider)


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(_pointwise(inputs, outputs, stride), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        # In place is safe: the gradient of BatchNorm needs its input, not its output.
        return F.leaky_relu(self.body(x).add_(self.shortcut(x)), inplace=True)


class _EverySecond(nn.Conv2d):
    """Equals a 1x1 convolution of stride 2, without its bug; see `_pointwise`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, ::2, ::2])


def _pointwise(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    # For channels-last images with 2 to 5 channels, oneDNN computes the gradient of a 1x1
    # convolution of stride 2 out of bounds, on processors with AVX2 but without AVX-512.
    if stride == 2 and 1 < inputs < _SAFE_CHANNELS:
        return _EverySecond(inputs, outputs, 1)
    return nn.Conv2d(inputs, outputs, 1, stride)


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_Residual(inputs, outputs, stride=2), _Residual(outputs, outputs))


def _up(inputs: int, outputs: int, smaller: tuple[int, ...], larger: tuple[int, ...]) -> nn.Module:
    # Sides of 7 and 8 both become 4; the output padding restores the right one.
    rows, columns = (b - (2 * a - 1) for a, b in zip(smaller, larger, strict=True))
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1, output_padding=(rows, columns)),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(inplace=True),
    )


def _dense(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.LeakyReLU(inplace=True)
    )
