"""Classifiers that come with rdvae or were trained before, so that they need no training."""

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rdkit_vae.datasets import DATASETS, load_labels
from rdkit_vae.datasets.images import Images
from rdkit_vae.datasets.npz import read_array
from rdkit_vae.errors import BadData, BadInput, CannotWrite, in_line
from rdkit_vae.generation.classifier import (
    Classifier,
    Network,
    Progress,
    put_into,
    recipe,
    train_classifier,
    weights_of,
)
from rdkit_vae.store.mirror import cache_folder
from rdkit_vae.system.files import open_regular, write_atomic

_MOST_BYTES = 2**24  # of a file; those of rdvae have less than 2**18
_FACTS = ("data_sha256", "accuracy", "recipe")
_LABELLED = tuple(name for name, source in DATASETS.items() if source.has_labels)


def classifier_of(
    images: Images, *, data_dir: str | Path | None = None, progress: Progress | None = None
) -> tuple[Classifier, tuple[str, ...]]:
    """Returns the classifier of a dataset: the one in the package, in the cache, or a new one.

    Args:
        images: the dataset; its hash decides which classifier is its own.
        data_dir: folder with its files of labels; searched before RDVAE_DATA.
        progress: called as `progress(done, total)` while a new one is trained.

    Returns:
        The classifier, and notes for the user.

    Raises:
        BadInput: the dataset has no labels.
        BadData: its labels are missing or damaged.
    """
    for path in shipped():
        classifier = read_classifier(path, images)
        if classifier is not None:
            return classifier, ()
    path = cache_folder() / "classifiers" / f"{images.sha256}-{recipe()}.npz"
    cached, notes = _cached(path, images)
    if cached is not None:
        return cached, notes
    labels = load_labels(_labelled(images.name), data_dir=data_dir)
    classifier = train_classifier(images, labels, progress)
    return classifier, (*notes, *_kept(path, classifier))


def shipped() -> list[Path]:
    """The files of classifiers in the package."""
    return sorted((Path(__file__).parent / "weights").glob("*.npz"))


def _labelled(name: str) -> str:
    """The dataset whose labels are those of images of this name, which may have been resized."""
    dataset = name.partition(" at ")[0]
    if dataset not in _LABELLED:
        raise BadInput(
            f"features classifier: {name} has no labels to train one on; only "
            f"{', '.join(_LABELLED)} have. Use inception:FILE, pixels or MODULE:FACTORY"
        )
    return dataset


def _cached(path: Path, images: Images) -> tuple[Classifier | None, tuple[str, ...]]:
    if not path.exists():
        return None, ()
    try:
        return read_classifier(path, images), ()
    except BadData as error:
        return None, (f"{error}; a new classifier was trained",)


def _kept(path: Path, classifier: Classifier) -> Iterator[str]:
    try:
        write_classifier(path, classifier)
    except CannotWrite as error:
        yield f"the classifier is not kept for the next time: {error}"


def write_classifier(path: Path, classifier: Classifier) -> None:
    """Writes a classifier as an .npz file of its weights and facts, completely or not at all.

    Raises:
        CannotWrite: the file cannot be written.
    """
    arrays: dict[str, Any] = {
        **weights_of(classifier.network),
        "data_sha256": np.array(classifier.data_sha256),
        "accuracy": np.array(classifier.accuracy),
        "recipe": np.array(recipe()),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def read_classifier(path: Path, images: Images) -> Classifier | None:
    """Reads the classifier of a dataset; None if the file holds that of another one.

    Raises:
        BadData: the file is damaged, or not of a classifier.
    """
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > _MOST_BYTES:
                raise ValueError("it is too large")
            arrays = _arrays(file)
        data_sha256, accuracy, made = (arrays.pop(name).item() for name in _FACTS)
        if (data_sha256, made) != (images.sha256, recipe()):
            return None
        return _classifier(arrays, images, accuracy)
    except Exception as error:  # NumPy and zipfile raise all kinds of errors on damaged files
        raise BadData(f"{path}: not a classifier of rdvae ({in_line(error)})") from error


def _arrays(file: Any) -> dict[str, Any]:
    """Reads arrays of numbers and texts, once it is known that they are small."""
    with zipfile.ZipFile(file) as archive:
        if sum(record.file_size for record in archive.infolist()) > _MOST_BYTES:
            raise ValueError("it is too large")
        return {name.removesuffix(".npy"): read_array(archive, name) for name in archive.namelist()}


def _classifier(arrays: dict[str, Any], images: Images, accuracy: object) -> Classifier:
    """Raises `ValueError` if the arrays are not the weights of a classifier of these images."""
    network = Network(images.shape)
    expected = weights_of(network)
    if arrays.keys() != expected.keys():
        raise ValueError("it has other weights")
    for name, array in arrays.items():
        if (array.shape, array.dtype) != (expected[name].shape, np.float16):
            raise ValueError(f"{name} has another shape or type")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    if not isinstance(accuracy, float) or not 0 <= accuracy <= 1:
        raise ValueError("its accuracy is not between 0 and 1")
    put_into(network, arrays)
    return Classifier(network=network, accuracy=accuracy, data_sha256=images.sha256)
