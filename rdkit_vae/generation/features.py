"""What distances between pictures are measured in: features of a network, or plain pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput, NotFinite, in_line
from rdkit_vae.generation.names import INCEPTION, check_features
from rdkit_vae.models.adapted import device_of
from rdkit_vae.scoring.statistics import Array
from rdkit_vae.system.imports import import_name, is_import_name

_MOST_DIMS = 4096  # a covariance of them, and its eigenvalues, are computed many times
Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True, kw_only=True)
class Features:
    """A function from pictures to vectors.

    Attributes:
        name: `classifier`, `inception`, `pixels` or the user's `package.module:factory`.
        sha256: hash of the network; of nothing for a function without weights.
        dims: d, the length of a vector.
        function: maps (n, C, H, W) pictures in [0, 1] to (n, d).
        device: where the function runs.
        note: what to know about it, for the user.
    """

    name: str
    sha256: str
    dims: int
    function: Callable[[Tensor], Tensor]
    device: str = "cpu"
    note: str = ""

    def __call__(self, pictures: Tensor) -> Array:
        """Maps (n, C, H, W) pictures in [0, 1] to (n, d) float64.

        Raises:
            BadInput: the function fails, or gives another shape.
            NotFinite: it gives a number that is not finite.
        """
        try:
            with torch.inference_mode():
                values = self.function(pictures.to(self.device)).double().cpu()
        except Exception as error:  # the user's own code can raise anything
            raise BadInput(f"features {self.name} fail: {in_line(error)}") from error
        if values.shape != (len(pictures), self.dims):
            raise BadInput(
                f"features {self.name} have the shape {tuple(values.shape)}, not "
                f"{(len(pictures), self.dims)}"
            )
        if not values.isfinite().all():
            raise NotFinite(f"features {self.name} are not finite")
        array: Array = values.numpy()
        return array


def features_of(
    asked: str,
    images: Images,
    *,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Features:
    """Makes the features that a user asks for.

    Args:
        asked: `classifier`, `inception:FILE`, `pixels` or `package.module:factory`, which is called
            with the shape (C, H, W) of the images and returns a module or function from
            (n, C, H, W) pictures in [0, 1] to (n, d).
        images: the dataset that is compared with.
        data_dir: folder with its labels, if the classifier has to be trained.
        device: where networks run.
        progress: called as `progress(done, total)` with epochs, if one is trained.

    Raises:
        BadInput: they are unknown, or cannot be made for these images.
        BadData: a file is missing or damaged.
    """
    check_features(asked)
    if asked == "pixels":
        return _pixels(images)
    if asked == "classifier":
        return _classifier(images, data_dir, device, progress)
    if asked.startswith(INCEPTION):
        from rdkit_vae.generation.inception import load_inception

        loaded = load_inception(Path(asked.removeprefix(INCEPTION)))
        return Features(
            name="inception",
            sha256=loaded.sha256,
            dims=loaded.dims,
            function=loaded.network.to(device),
            device=device,
            note=loaded.note,
        )
    return _own(asked, images, device)


def _pixels(images: Images) -> Features:
    if images.dims > _MOST_DIMS:
        raise BadInput(
            f"features pixels: {images.dims:,} values of an image are more than {_MOST_DIMS:,}; "
            "use other features"
        )
    return Features(name="pixels", sha256="", dims=images.dims, function=lambda x: x.flatten(1))


def _classifier(
    images: Images, data_dir: str | Path | None, device: str, progress: Progress | None
) -> Features:
    from rdkit_vae.evaluation.foreign import hash_of_weights
    from rdkit_vae.generation.classifier import FEATURES, classifier_of

    classifier = classifier_of(images, data_dir=data_dir, progress=progress)
    network = classifier.network.to(device)
    return Features(
        name="classifier",
        sha256=hash_of_weights(network),
        dims=FEATURES,
        function=network.features,
        device=device,
        note=f"a classifier of {images.name} that labels {classifier.accuracy:.2%} of its test "
        "images correctly",
    )


def _own(name: str, images: Images, device: str) -> Features:
    """Features of the user's own, whose code is imported because the user names it."""
    from rdkit_vae.evaluation.foreign import hash_of_weights

    assert is_import_name(name)
    factory: Any = import_name(name, "features")
    try:
        function = factory(images.shape)
    except Exception as error:
        raise BadInput(f"features {name}: {in_line(error)}") from error
    if not callable(function):
        raise BadInput(f"features {name}: factory(shape) must return a module or a function")
    sha256 = ""
    if isinstance(function, nn.Module):
        function = function.eval().to(device)
        sha256 = hash_of_weights(function)
        device = str(device_of(function))
    probe = Features(name=name, sha256="", dims=0, function=function, device=device)
    dims = _dims_of(probe, torch.zeros(2, *images.shape))
    return Features(name=name, sha256=sha256, dims=dims, function=function, device=device)


def _dims_of(features: Features, pictures: Tensor) -> int:
    """The length of the vectors of a function, from a trial run."""
    try:
        with torch.inference_mode():
            values = features.function(pictures.to(features.device))
    except Exception as error:
        raise BadInput(f"features {features.name} fail: {in_line(error)}") from error
    if not isinstance(values, Tensor) or values.dim() != 2 or len(values) != len(pictures):
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise BadInput(f"features {features.name}: must be (n, d) for n pictures, got {shape}")
    if not 0 < values.shape[1] <= _MOST_DIMS:
        raise BadInput(
            f"features {features.name}: {values.shape[1]:,} values are more than {_MOST_DIMS:,}"
        )
    return int(values.shape[1])
