"""Classifiers in the package and in the cache."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rdkit_vae import load_dataset
from rdkit_vae.datasets import load_labels
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.generation import stored
from rdkit_vae.generation.classifier import accuracy, recipe
from rdkit_vae.generation.stored import classifier_of, read_classifier, shipped


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("a classifier is trained although there is one")


def test_those_of_the_package_are_few_bytes_of_this_recipe() -> None:
    assert [path.stem for path in shipped()] == ["digits", "mnist"]
    assert sum(path.stat().st_size for path in shipped()) < 500_000
    for path in shipped():
        with np.load(path, allow_pickle=False) as arrays:
            assert arrays["recipe"] == recipe()


def test_the_one_of_digits_is_as_good_as_it_says(
    digits: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "train_classifier", _refuse)
    classifier, notes = classifier_of(digits)
    assert notes == ()
    assert classifier.accuracy >= 0.99
    assert accuracy(classifier.network, digits, load_labels("digits")[1]) == classifier.accuracy


def test_the_one_of_mnist_is_as_good_as_it_says(
    mnist_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash of the images counts, not their name."""
    monkeypatch.setattr(stored, "train_classifier", _refuse)
    images = load_dataset("mnist", data_dir=mnist_folder)
    classifier, _ = classifier_of(replace(images, name="npz:copy"))
    assert classifier.accuracy >= 0.99
    labels = load_labels("mnist", data_dir=mnist_folder)[1]
    assert accuracy(classifier.network, images, labels) == pytest.approx(
        classifier.accuracy,
        abs=2e-4,  # an image on the border between two classes
    )


def test_another_dataset_is_learned_once(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = load_dataset("mnist", data_dir=labelled)
    first, notes = classifier_of(images, data_dir=labelled)
    assert notes == ()
    (file,) = (labelled.parent / "cache" / "classifiers").iterdir()
    assert file.name == f"{images.sha256}-{recipe()}.npz"
    monkeypatch.setattr(stored, "train_classifier", _refuse)
    again, notes = classifier_of(images)  # without its labels
    assert (again.sha256, again.accuracy, notes) == (first.sha256, first.accuracy, ())


def test_resized_images_have_the_labels_of_their_originals(labelled: Path) -> None:
    images = replace(load_dataset("mnist", data_dir=labelled).resized(12), name="mnist at 12x12")
    classifier, _ = classifier_of(images, data_dir=labelled)
    assert classifier.data_sha256 == images.sha256


def _with_array(name: str, array: np.ndarray | None):
    def change(path: Path) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            changed = {**arrays}
        changed.pop(name, None)
        if array is not None:
            changed[name] = array
        np.savez(path, **changed)

    return change


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _inflating(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("head.bias.npy", bytes(2**25))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b""), "not a zip"),
        (lambda path: path.write_bytes(b"garbage" * 100), "not a zip"),
        (lambda path: path.write_bytes(bytes(2**24 + 1)), "too large"),
        (_cut, "not a zip"),
        (_inflating, "too large"),
        (_with_array("head.bias", None), "it has other weights"),
        (_with_array("head.more", np.zeros(2, np.float16)), "it has other weights"),
        (_with_array("head.bias", np.zeros(9, np.float16)), "head.bias has another shape"),
        (_with_array("head.bias", np.zeros(10)), "head.bias has another shape or type"),
        (_with_array("head.bias", np.full(10, np.nan, np.float16)), "head.bias is not finite"),
        (_with_array("head.bias", np.array([{}])), "Object arrays cannot be loaded"),
        (_with_array("accuracy", np.array(1.5)), "accuracy is not between 0 and 1"),
        (_with_array("accuracy", np.array("good")), "accuracy is not between 0 and 1"),
        (_with_array("recipe", None), "recipe"),
    ],
)
def test_a_damaged_file_is_refused_and_replaced(
    damage, reason: str, digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RDVAE_CACHE", str(tmp_path))
    intact, _ = classifier_of(digits)
    monkeypatch.setattr(stored, "shipped", list)
    monkeypatch.setattr(stored, "train_classifier", lambda *_: intact)
    classifier_of(digits)
    (file,) = (tmp_path / "classifiers").iterdir()
    assert read_classifier(file, digits) is not None
    damage(file)
    with pytest.raises(BadData, match=reason):
        read_classifier(file, digits)
    _, notes = classifier_of(digits)
    assert len(notes) == 1
    assert notes[0].startswith(f"{file}: not a classifier of rdvae (")
    assert notes[0].endswith("a new classifier was trained")
    assert classifier_of(digits)[1] == ()


def test_a_classifier_of_other_images_is_not_taken(digits: Images, tiny: Images) -> None:
    file = next(path for path in shipped() if path.stem == "digits")
    assert read_classifier(file, replace(digits, sha256="0" * 64)) is None


def test_a_cache_that_cannot_be_written_is_said(
    labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (labelled.parent / "file").write_text("no folder")
    monkeypatch.setenv("RDVAE_CACHE", str(labelled.parent / "file"))
    _, (note,) = classifier_of(load_dataset("mnist", data_dir=labelled), data_dir=labelled)
    assert note.startswith("the classifier is not kept for the next time: ")


@pytest.mark.parametrize("name", ["npz:tiny", "gaussian", "folder:mnist at 8x8"])
def test_images_without_labels_name_what_else_to_use(tiny: Images, name: str) -> None:
    with pytest.raises(BadInput, match=r"only digits, mnist, fashion-mnist have\. Use inception"):
        classifier_of(replace(tiny, name=name))
