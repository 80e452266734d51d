"""The Inception network of the FID: TensorFlow's `inception-2015-12-05`, up to its last pooling.

Szegedy et al. 2016 (arXiv:1512.00567), with what the file of the FID (Heusel et al. 2017,
arXiv:1706.08500) does differently: averages leave out the padding, and the last block takes a
maximum. Weights have the names of pytorch-fid, torch-fidelity and torchvision.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdkit_vae.adapters.reading import build_bounded, put_into
from rdkit_vae.errors import BadData
from rdkit_vae.store.weights import Weights, read_weights, what_it_is

DIMS = 2048
SIDE = 299  # pixels of the pictures that the network takes
PUBLISHED = "6726825d"  # how the SHA-256 of the published state dict begins
_CLASSES = 1008  # of the layer `fc`, which the features do not need
_FILE = f"pt_inception-2015-12-05-{PUBLISHED}.pth"


@dataclass(frozen=True, kw_only=True)
class _Conv:
    """A convolution: its name, output channels, kernel, and stride.

    With `same`, a picture keeps its size.
    """

    name: str
    width: int
    kernel: tuple[int, int]
    stride: int = 1
    same: bool = True


_Stage = tuple[_Conv, ...]  # side by side; their outputs are concatenated
_Branch = tuple[_Stage, ...]  # one after the other


def _conv(name: str, width: int, kernel: int | tuple[int, int] = 1) -> _Stage:
    size = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    return (_Conv(name=name, width=width, kernel=size),)


def _smaller(name: str, width: int, kernel: int = 3, stride: int = 2) -> _Stage:
    """A convolution without padding."""
    return tuple(replace(c, stride=stride, same=False) for c in _conv(name, width, kernel))


def _fork(name: str, width: int) -> _Stage:
    return _conv(f"{name}a", width, (1, 3)) + _conv(f"{name}b", width, (3, 1))


def _chain(name: str, *parts: tuple[int, int | tuple[int, int]]) -> _Branch:
    """Convolutions `name_1`, `name_2`, ... of these widths and kernels."""
    return tuple(_conv(f"{name}_{n}", *part) for n, part in enumerate(parts, 1))


class Convolution(nn.Module):
    """A convolution, batch normalisation and rectifier."""

    def __init__(self, channels: int, spec: _Conv) -> None:
        super().__init__()
        height, width = spec.kernel
        padding = (height // 2, width // 2) if spec.same else (0, 0)
        self.conv = nn.Conv2d(
            channels, spec.width, spec.kernel, spec.stride, padding=padding, bias=False
        )
        self.bn = nn.BatchNorm2d(spec.width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, width, H', W')."""
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Branches side by side, and one that pools.

    Args:
        channels: of the input.
        branches: of convolutions.
        pool: `average` or `maximum` of 3x3, each followed by a convolution; or `halve`, a maximum
            with stride 2.
        pooled: channels of that convolution.
    """

    def __init__(
        self, channels: int, *branches: _Branch, pool: str = "average", pooled: int = 192
    ) -> None:
        super().__init__()
        self.branches, self.pool = branches, pool
        self.width = channels if pool == "halve" else pooled
        for branch in branches:
            self.width += self._add(branch, channels)
        if pool != "halve":
            self._add((_conv("branch_pool", pooled),), channels)

    def _add(self, branch: _Branch, channels: int) -> int:
        for stage in branch:
            for spec in stage:
                self.add_module(spec.name, Convolution(channels, spec))
            channels = sum(spec.width for spec in stage)
        return channels

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, width, H', W')."""
        return torch.cat(
            [*(self._along(branch, x) for branch in self.branches), self._pooled(x)], 1
        )

    def _along(self, branch: _Branch, x: Tensor) -> Tensor:
        for stage in branch:
            x = torch.cat([self.get_submodule(spec.name)(x) for spec in stage], 1)
        return x

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "halve":
            return F.max_pool2d(x, 3, 2)
        if self.pool == "average":
            x = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        else:
            x = F.max_pool2d(x, 3, 1, 1)
        pooled: Tensor = self.get_submodule("branch_pool")(x)
        return pooled


def _block_5(channels: int, pooled: int) -> Block:
    return Block(
        channels,
        (_conv("branch1x1", 64),),
        _chain("branch5x5", (48, 1), (64, 5)),
        _chain("branch3x3dbl", (64, 1), (96, 3), (96, 3)),
        pooled=pooled,
    )


def _block_6a(channels: int) -> Block:
    double = _chain("branch3x3dbl", (64, 1), (96, 3))
    return Block(
        channels,
        (_smaller("branch3x3", 384),),
        (*double, _smaller("branch3x3dbl_3", 96)),
        pool="halve",
    )


def _block_6(channels: int, width: int) -> Block:
    row, column = (1, 7), (7, 1)
    double = [(width, kernel) for kernel in (column, row, column)]
    return Block(
        channels,
        (_conv("branch1x1", 192),),
        _chain("branch7x7", (width, 1), (width, row), (192, column)),
        _chain("branch7x7dbl", (width, 1), *double, (192, row)),
    )


def _block_7a(channels: int) -> Block:
    seven = _chain("branch7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)))
    return Block(
        channels,
        (_conv("branch3x3_1", 192), _smaller("branch3x3_2", 320)),
        (*seven, _smaller("branch7x7x3_4", 192)),
        pool="halve",
    )


def _block_7(channels: int, pool: str) -> Block:
    double = _chain("branch3x3dbl", (448, 1), (384, 3))
    return Block(
        channels,
        (_conv("branch1x1", 320),),
        (_conv("branch3x3_1", 384), _fork("branch3x3_2", 384)),
        (*double, _fork("branch3x3dbl_3", 384)),
        pool=pool,
    )


def _layers() -> Iterator[tuple[str, nn.Module]]:
    """The layers in their order, with their names; two of the poolings have none in the files."""
    stem = (
        *_smaller("Conv2d_1a_3x3", 32),
        *_smaller("Conv2d_2a_3x3", 32, stride=1),
        *_conv("Conv2d_2b_3x3", 64, 3),
        *_smaller("Conv2d_3b_1x1", 80, 1, stride=1),
        *_smaller("Conv2d_4a_3x3", 192, stride=1),
    )
    channels = 3
    for spec in stem:
        yield spec.name, Convolution(channels, spec)
        channels = spec.width
        if spec.name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
            yield f"pool_after_{spec.name}", nn.MaxPool2d(3, 2)
    for name, pooled in (("5b", 32), ("5c", 64), ("5d", 64)):
        yield f"Mixed_{name}", (block := _block_5(channels, pooled))
        channels = block.width
    yield "Mixed_6a", (block := _block_6a(channels))
    for name, width in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        yield f"Mixed_{name}", (block := _block_6(block.width, width))
    yield "Mixed_7a", (block := _block_7a(block.width))
    yield "Mixed_7b", (block := _block_7(block.width, "average"))
    yield "Mixed_7c", _block_7(block.width, "maximum")


class Inception(nn.Module):
    """The network from 8-bit pictures of any size to its 2,048 features."""

    def __init__(self) -> None:
        super().__init__()
        for name, layer in _layers():
            self.add_module(name, layer)

    def forward(self, pictures: Tensor) -> Tensor:
        """Maps (B, 1 or 3, H, W) pictures in [0, 1] to (B, 2048) features."""
        x = (pictures.clamp(0, 1) * 255).round()
        x = (resized(x.expand(-1, 3, -1, -1)) - 128) / 128  # (B, 3, 299, 299)
        for layer in self.children():
            x = layer(x)
        return x.mean(dim=(2, 3))  # (B, 2048, 8, 8) -> (B, 2048)


def resized(x: Tensor) -> Tensor:
    """Resizes (B, C, H, W) to 299x299 as TensorFlow 1 does: bilinear, from source = target * H/299.

    Torch takes pixels' centres instead, which moves the picture by up to half a pixel.
    """
    for dim in (3, 2):
        side = x.shape[dim]
        places = torch.arange(SIDE, device=x.device) * torch.tensor(side / SIDE)
        low = places.long()
        share = (places - low).reshape(-1, *(1,) * (3 - dim))
        below, above = (x.index_select(dim, n) for n in (low, (low + 1).clamp(max=side - 1)))
        x = below + (above - below) * share
    return x


def load_inception(path: Path) -> tuple[Inception, str, tuple[str, ...]]:
    """Reads the weights from a state dict.

    Returns:
        The network, the SHA-256 of its file, and notes for the user.

    Raises:
        BadData: the file cannot be read, or holds the weights of another network.
    """
    if what_it_is(path) == "a TorchScript archive":
        raise BadData(
            f"{path}: a TorchScript archive, and reading it would run its code; give the state "
            f"dict {_FILE} of pytorch-fid or torch-fidelity instead"
        )
    weights = read_weights(path)
    _check_head(weights, path)
    network = build_bounded(Inception, weights, path)
    try:
        put_into(network, weights, path)
    except BadData as error:
        raise BadData(f"{error}; give {_FILE}, the weights of the FID's Inception") from error
    if weights.sha256.startswith(PUBLISHED):
        return network, weights.sha256, ()
    note = f"{path.name} is not the published file of FID weights, {_FILE}: compare its distances "
    return network, weights.sha256, (f"{note}only with those from the same file",)


def _check_head(weights: Weights, path: Path) -> None:
    """Refuses torchvision's own weights, whose names and shapes are otherwise the same."""
    for name, weight in weights.tensors.items():
        classes = weight.shape[0] if name.endswith("fc.weight") and weight.dim() else _CLASSES
        if classes != _CLASSES or "AuxLogits." in name:
            raise BadData(
                f"{path}: weights of another Inception, such as torchvision's, as {name[:80]} "
                f"shows; give {_FILE}, those of the FID's"
            )
