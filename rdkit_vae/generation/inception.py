"""The Inception-v3 network of the Fréchet inception distance (FID), with weights from a file.

Source of the network: Szegedy et al. 2016, as TensorFlow released it on 2015-12-05. Heusel et al.
2017 defined FID by its last average pool. The released graph differs from the paper's network: the
average pools of the blocks leave out the padding, and the last block has a maximum pool. Weights
have the names of torchvision's `inception_v3`, as in the files of pytorch-fid and torch-fidelity.
"""

import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.models.precision import products
from rdkit_vae.store.weights import load_weights, read_weights, what_it_is

PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
_PUBLISHED_SHA256 = "6726825d"  # its first digits; the names of PyTorch's hub end with them
_INSTEAD = f"the weights to use are in {PUBLISHED}, published by pytorch-fid"
_MOST_BYTES = 2**29  # of a file; the published one has 96 MB
_DIMS, _SIDE, _CHUNK = 2048, 299, 32
_EPSILON, _COUNTER = 0.001, ".num_batches_tracked"  # of batch normalisation


@dataclass(frozen=True, kw_only=True)
class Inception:
    """The network with its weights.

    Attributes:
        network: maps (n, C, H, W) pictures in [0, 1], C = 1 or 3, to (n, dims) features.
        sha256: hash of the file of weights.
        dims: number of features.
        note: for the user, if these are not the published weights; otherwise empty.
    """

    network: nn.Module
    sha256: str
    dims: int = _DIMS
    note: str = ""


def load_inception(path: Path) -> Inception:
    """Reads the weights without running code from the file.

    Args:
        path: a state dict, in either format of `torch.save` or as safetensors. The classifier, the
            auxiliary classifier and the counters of batch normalisation are not used.

    Raises:
        BadData: the file is missing or damaged, or holds other weights.
    """
    _check_size(path)
    if what_it_is(path) == "a TorchScript archive":
        raise BadData(
            f"{path}: a TorchScript archive is code, which rdvae does not run; {_INSTEAD}"
        )
    try:
        weights = read_weights(path)
    except BadData as error:
        raise BadData(f"{error}; {_INSTEAD}") from error
    used = {name: w for name, w in weights.tensors.items() if not name.endswith(_COUNTER)}
    with torch.device("meta"):  # no memory, and no initial values to draw
        empty = FidInception()
    network = empty.to_empty(device="cpu").requires_grad_(False).eval()
    try:
        load_weights(network, replace(weights, tensors=used))
        _check_numbers(network)
    except BadData as error:
        raise BadData(
            f"{path}: these are not weights of the Inception-v3 of FID ({error}); {_INSTEAD}"
        ) from error
    published = weights.sha256.startswith(_PUBLISHED_SHA256)
    note = "" if published else f"not the published FID weights (SHA-256 {weights.sha256[:12]}...)"
    return Inception(network=network, sha256=weights.sha256, note=note)


def _check_size(path: Path) -> None:
    """Refuses a file that is too large before memory is taken for it."""
    try:
        status = path.stat()
    except OSError:
        return  # the reader says why
    if stat.S_ISREG(status.st_mode) and status.st_size > _MOST_BYTES:
        raise BadData(
            f"{path}: {status.st_size:,} bytes are too many for the Inception-v3 of FID; {_INSTEAD}"
        )


def _check_numbers(network: nn.Module) -> None:
    """Checks what the weights became in float32."""
    for name, tensor in network.state_dict().items():
        if not tensor.isfinite().all():
            raise BadData(f"{name} holds numbers that are too large for float32")
        if name.endswith("running_var") and (tensor < 0).any():
            raise BadData(f"{name} holds variances below 0")


class _Conv(NamedTuple):
    """One convolution of a block, with as many rows and columns of padding as keep the size.

    Attributes:
        name: in the state dict.
        width: channels that it makes.
        kernel: rows and columns.
        stride: with 2, there is no padding.
    """

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1

    def after(self, width: int) -> "ConvNorm":
        """Makes the layer for an input of `width` channels."""
        rows, columns = self.kernel
        padding = (rows // 2, columns // 2) if self.stride == 1 else (0, 0)
        return ConvNorm(width, self.width, self.kernel, stride=self.stride, padding=padding)


_Step = tuple[_Conv, ...]  # convolutions of the same input; their outputs are concatenated
_Branch = tuple[_Step, ...]

_SQUARE, _FIVE, _ROW, _COLUMN = (3, 3), (5, 5), (1, 7), (7, 1)


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self,
        width: int,
        out: int,
        kernel: tuple[int, int],
        *,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=_EPSILON)
        self.bn.num_batches_tracked = None  # only training needs it

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, H, W) to (n, out, H', W')."""
        y: Tensor = self.bn(self.conv(x)).relu_()
        return y


class Mixed(nn.Module):
    """An Inception block: branches side by side, the last of them after a pool.

    Attributes:
        width: channels that it makes.
        pool: of the last branch.
    """

    def __init__(
        self, width: int, branches: Sequence[_Branch], pool: nn.Module, pooled: _Branch = ()
    ) -> None:
        """Makes the layers.

        Args:
            width: channels of the input.
            branches: each a chain of steps from the input.
            pool: before the last branch.
            pooled: the last branch.
        """
        super().__init__()
        self.pool = pool
        self._branches, self._pooled = tuple(branches), pooled
        ends = [self._add(branch, width) for branch in (*self._branches, pooled)]
        self.width = sum(ends)

    def _add(self, branch: _Branch, width: int) -> int:
        """Makes the layers of a branch; returns the number of channels at its end."""
        for step in branch:
            for conv in step:
                self.add_module(conv.name, conv.after(width))
            width = sum(conv.width for conv in step)
        return width

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, width, H', W')."""
        ends = [self._run(branch, x) for branch in self._branches]
        return torch.cat([*ends, self._run(self._pooled, self.pool(x))], dim=1)

    def _run(self, branch: _Branch, x: Tensor) -> Tensor:
        for step in branch:
            x = torch.cat([self.get_submodule(conv.name)(x) for conv in step], dim=1)
        return x


def _average() -> nn.Module:
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


def _chain(*convs: _Conv) -> _Branch:
    return tuple((conv,) for conv in convs)


def _block_a(width: int, pooled: int) -> Mixed:
    """35x35: 1x1, 5x5 and twice 3x3."""
    branches = (
        _chain(_Conv("branch1x1", 64)),
        _chain(_Conv("branch5x5_1", 48), _Conv("branch5x5_2", 64, _FIVE)),
        _chain(
            _Conv("branch3x3dbl_1", 64),
            _Conv("branch3x3dbl_2", 96, _SQUARE),
            _Conv("branch3x3dbl_3", 96, _SQUARE),
        ),
    )
    return Mixed(width, branches, _average(), _chain(_Conv("branch_pool", pooled)))


def _block_b(width: int) -> Mixed:
    """From 35x35 to 17x17."""
    branches = (
        _chain(_Conv("branch3x3", 384, _SQUARE, 2)),
        _chain(
            _Conv("branch3x3dbl_1", 64),
            _Conv("branch3x3dbl_2", 96, _SQUARE),
            _Conv("branch3x3dbl_3", 96, _SQUARE, 2),
        ),
    )
    return Mixed(width, branches, nn.MaxPool2d(3, stride=2))


def _block_c(width: int, inner: int) -> Mixed:
    """17x17: 1x1, 7x7 and twice 7x7, each 7x7 as a row and a column."""
    branches = (
        _chain(_Conv("branch1x1", 192)),
        _chain(
            _Conv("branch7x7_1", inner),
            _Conv("branch7x7_2", inner, _ROW),
            _Conv("branch7x7_3", 192, _COLUMN),
        ),
        _chain(
            _Conv("branch7x7dbl_1", inner),
            _Conv("branch7x7dbl_2", inner, _COLUMN),
            _Conv("branch7x7dbl_3", inner, _ROW),
            _Conv("branch7x7dbl_4", inner, _COLUMN),
            _Conv("branch7x7dbl_5", 192, _ROW),
        ),
    )
    return Mixed(width, branches, _average(), _chain(_Conv("branch_pool", 192)))


def _block_d(width: int) -> Mixed:
    """From 17x17 to 8x8."""
    branches = (
        _chain(_Conv("branch3x3_1", 192), _Conv("branch3x3_2", 320, _SQUARE, 2)),
        _chain(
            _Conv("branch7x7x3_1", 192),
            _Conv("branch7x7x3_2", 192, _ROW),
            _Conv("branch7x7x3_3", 192, _COLUMN),
            _Conv("branch7x7x3_4", 192, _SQUARE, 2),
        ),
    )
    return Mixed(width, branches, nn.MaxPool2d(3, stride=2))


def _block_e(width: int, pool: nn.Module) -> Mixed:
    """8x8: 1x1, 3x3 and twice 3x3, the last 3x3 of each as a row beside a column."""

    def both(name: str) -> _Step:
        return _Conv(f"{name}a", 384, (1, 3)), _Conv(f"{name}b", 384, (3, 1))

    branches = (
        _chain(_Conv("branch1x1", 320)),
        (*_chain(_Conv("branch3x3_1", 384)), both("branch3x3_2")),
        (
            *_chain(_Conv("branch3x3dbl_1", 448), _Conv("branch3x3dbl_2", 384, _SQUARE)),
            both("branch3x3dbl_3"),
        ),
    )
    return Mixed(width, branches, pool, _chain(_Conv("branch_pool", 192)))


class FidInception(nn.Module):
    """From pictures to the 2,048 features of FID; without the classifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, _SQUARE, stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, _SQUARE)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, _SQUARE, padding=(1, 1))
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, _SQUARE)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(768, 128)
        self.Mixed_6c = _block_c(768, 160)
        self.Mixed_6d = _block_c(768, 160)
        self.Mixed_6e = _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, _average())
        self.Mixed_7c = _block_e(_DIMS, nn.MaxPool2d(3, stride=1, padding=1))
        self.pool = nn.MaxPool2d(3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (n, 2048) features of (n, C, H, W) pictures in [0, 1]; C is 1 or 3.

        The pictures are rounded to 8 bits, as FID is defined on files of them. Those of one channel
        count as grey. Memory does not grow with n, apart from the result.

        Raises:
            BadInput: the pictures have another number of channels.
        """
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            shape = "x".join(map(str, x.shape))
            raise BadInput(f"Inception-v3 needs pictures of 1 or 3 channels, (n, C, H, W): {shape}")
        with torch.no_grad(), products("float32", x.device):
            return torch.cat([self._features(prepared(part)) for part in torch.split(x, _CHUNK)])

    def _features(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))  # (n, 32, 147, 147)
        x = self.pool(self.Conv2d_2b_3x3(x))  # (n, 64, 73, 73)
        x = self.pool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))  # (n, 192, 35, 35)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # (n, 288, 35, 35)
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))  # (n, 768, 17, 17)
        x = self.Mixed_6e(self.Mixed_6d(x))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (n, 2048, 8, 8)
        return x.mean(dim=(2, 3))


def prepared(x: Tensor) -> Tensor:
    """Returns what the first layer sees: (n, 3, 299, 299), about [-1, 1], of 8-bit pictures.

    Args:
        x: (n, C, H, W) in [0, 1]; C is 1 or 3.
    """
    pixels = (x.float() * 255).round().clamp(0, 255)
    resized = resize(pixels, _SIDE)
    return ((resized - 128) / 128).expand(-1, 3, -1, -1)


def resize(x: Tensor, side: int) -> Tensor:
    """Resizes (n, C, H, W) to (n, C, side, side), bilinearly, as TensorFlow 1 does.

    Pixel i of the result is at i H / side in the input, not at (i + 1/2) H / side - 1/2, and a
    smaller result is not smoothed: two pixels along each axis make one. Source: `resize_bilinear`
    of TensorFlow 1 with `align_corners=False`.
    """
    return _resize_axis(_resize_axis(x, side, 3), side, 2)


def _resize_axis(x: Tensor, side: int, axis: int) -> Tensor:
    length = x.shape[axis]
    scale = torch.tensor(length / side, dtype=torch.float32)  # as TensorFlow rounds it
    place = torch.arange(side, dtype=torch.float32) * scale
    lower = place.long()
    upper = (lower + 1).clamp_max(length - 1)
    shape = [-1 if each == axis else 1 for each in range(x.ndim)]
    share = (place - lower).reshape(shape).to(x)
    below, above = (x.index_select(axis, index.to(x.device)) for index in (lower, upper))
    return below + (above - below) * share
