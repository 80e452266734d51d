"""Features of pictures, in which distances between sets of them are measured."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput, NotFinite
from rdkit_vae.evaluation.forward import evaluating
from rdkit_vae.generation import inception
from rdkit_vae.generation.classifier import DIMS, Progress
from rdkit_vae.generation.factory import checked, made_by
from rdkit_vae.generation.names import MODULE, check_features
from rdkit_vae.generation.stored import classifier_of
from rdkit_vae.models import Shape

_MOST_PIXELS = 4096  # a covariance of so many dimensions takes 134 MB
_BATCH, _LARGE_BATCH = 500, 32  # pictures at once; of a network that takes much memory


@dataclass(frozen=True, kw_only=True)
class Features:
    """A function from pictures to vectors.

    Attributes:
        name: `classifier`, `inception`, `pixels` or `package.module:factory`.
        sha256: identity: of the weights, of their file, or of the name; empty for `pixels`.
        dims: values of a vector.
        notes: what the user should know, in words.
        shape: C, H, W of the pictures.
        compute: maps a batch of pictures to a tensor of their vectors.
        batch: pictures that are computed at once.
    """

    name: str
    sha256: str
    dims: int
    notes: tuple[str, ...] = ()
    shape: Shape
    compute: Callable[[Tensor], Tensor] = field(repr=False)
    batch: int = _BATCH

    def __call__(self, pictures: Tensor) -> npt.NDArray[np.float64]:
        """Maps float32 (n, C, H, W) pictures in [0, 1] to (n, dims) features, in small batches.

        Raises:
            BadInput: the pictures or their features have another shape.
            NotFinite: a feature is not finite.
        """
        if pictures.shape[1:] != self.shape:
            raise BadInput(
                f"features {self.name}: made for pictures of {_text(self.shape)}, "
                f"got {_text(pictures.shape)}"
            )
        features = np.empty((len(pictures), self.dims))
        for start in range(0, len(pictures), self.batch):
            part = pictures[start : start + self.batch]
            with torch.inference_mode():
                features[start : start + len(part)] = self._checked(self.compute(part), len(part))
        return features

    def _checked(self, values: Tensor, count: int) -> npt.NDArray[np.float64]:
        if values.shape != (count, self.dims):
            raise BadInput(
                f"features {self.name}: {count} pictures must have {count} x {self.dims} features, "
                f"got {_text(values.shape)}"
            )
        numbers: npt.NDArray[np.float64] = values.double().cpu().numpy()
        if not np.isfinite(numbers).all():
            bad = int((~np.isfinite(numbers)).sum())
            raise NotFinite(
                f"features {self.name}: {bad:,} of {numbers.size:,} numbers are not finite"
            )
        return numbers


def features_of(
    asked: str,
    images: Images,
    *,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Features:
    """Makes the features that the user asks for, for pictures like these images.

    Args:
        asked: see `names.FEATURES`.
        images: the dataset of the pictures.
        data_dir: folder with its files, for the labels; searched before RDVAE_DATA.
        device: where the features are computed, `cpu` or `cuda`.
        progress: called as `progress(done, total)` while a classifier is trained.

    Raises:
        BadInput: there are no such features, or they do not fit the images.
        BadData: a file of weights or labels is missing, damaged or another one.
    """
    kind, argument = check_features(asked)
    if kind == "classifier":
        return _classifier(images, data_dir, device, progress)
    if kind == "inception:FILE":
        return _inception(argument, images, device)
    return _own(argument, images, device) if kind == MODULE else _pixels(images)


def _classifier(
    images: Images, data_dir: str | Path | None, device: str, progress: Progress | None
) -> Features:
    classifier, notes = classifier_of(images, data_dir=data_dir, progress=progress)
    about = f"classifier of {images.name}, test accuracy {classifier.accuracy:.2%}"
    return Features(
        name="classifier",
        sha256=classifier.sha256,
        dims=DIMS,
        notes=(about, *notes),
        shape=images.shape,
        compute=_on(device, classifier.network),
    )


def _inception(file: str, images: Images, device: str) -> Features:
    channels = images.shape[0]
    if channels not in (1, 3):
        raise BadInput(
            f"features inception: takes pictures of 1 or 3 channels, {images.name} has {channels}"
        )
    network, sha256, notes = inception.load_inception(Path(file))
    if channels == 1:
        notes = (*notes, "grey pictures are repeated in the three channels of Inception")
    return Features(
        name="inception",
        sha256=sha256,
        dims=inception.DIMS,
        notes=notes,
        shape=images.shape,
        compute=_on(device, network),
        batch=_LARGE_BATCH,
    )


def _pixels(images: Images) -> Features:
    dims = images.dims
    if dims > _MOST_PIXELS:
        raise BadInput(
            f"features pixels: {images.name} has {dims:,} values in an image, and their covariance "
            f"is computed for at most {_MOST_PIXELS:,}; use other features"
        )

    def flat(pictures: Tensor) -> Tensor:
        return pictures.flatten(1)

    return Features(name="pixels", sha256="", dims=dims, shape=images.shape, compute=flat)


def _own(name: str, images: Images, device: str) -> Features:
    function, sha256, notes = made_by(name, images.shape)
    if isinstance(function, nn.Module):
        function = _on(device, function)
    compute = checked(name, function)
    probe = torch.from_numpy(images.train[:2].copy()).float() / (images.levels - 1)
    with torch.inference_mode():
        dims = compute(probe).shape[-1]
    return Features(
        name=name, sha256=sha256, dims=dims, notes=notes, shape=images.shape, compute=compute
    )


def _on(device: str, module: nn.Module) -> Callable[[Tensor], Tensor]:
    """A network on a device, in evaluation mode and float32."""
    module = module.to(device)

    def compute(pictures: Tensor) -> Tensor:
        with evaluating(module, device):
            features: Tensor = module(pictures.to(device))
        return features

    return compute


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
