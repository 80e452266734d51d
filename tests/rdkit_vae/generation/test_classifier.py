from dataclasses import replace

import numpy as np
import pytest
import torch

from rdkit_vae.datasets import load_labels
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData
from rdkit_vae.generation import classifier
from rdkit_vae.generation.classifier import DIMS, Network, accuracy, recipe, train_classifier


def test_digits_are_learned(digits: Images) -> None:
    labels = load_labels("digits")
    steps: list[tuple[int, int]] = []
    trained = train_classifier(digits, labels, lambda *step: steps.append(step))
    assert trained.accuracy >= 0.97
    assert trained.accuracy == accuracy(trained.network, digits, labels[1])
    assert trained.data_sha256 == digits.sha256
    assert steps == [(n, len(steps)) for n in range(1, len(steps) + 1)]


def test_a_training_gives_the_same_weights_again(
    digits: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever random numbers the program has drawn; and it leaves them alone."""
    monkeypatch.setattr(classifier, "_STEPS", 60)
    labels = load_labels("digits")
    torch.manual_seed(1)
    first = train_classifier(digits, labels)
    state = torch.get_rng_state()
    assert train_classifier(digits, labels).sha256 == first.sha256
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 5, 9)])
def test_the_network_is_small_and_takes_any_size(shape: tuple[int, int, int]) -> None:
    network = Network(shape).eval()
    assert sum(weights.numel() for weights in network.parameters()) < 150_000
    features = network(torch.rand(4, *shape))
    assert features.shape == (4, DIMS)
    assert (features >= 0).all()


def test_another_recipe_has_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe()
    monkeypatch.setattr(classifier, "_RATE", 1e-3)
    assert recipe() != before


def test_labels_that_do_not_fit_are_refused(digits: Images) -> None:
    train, test = load_labels("digits")
    with pytest.raises(BadData, match="1,437 labels of 1,438 train images"):
        train_classifier(digits, (train[:-1], test))
    with pytest.raises(BadData, match="1 label of 359 test images"):
        train_classifier(digits, (train, test[:1]))
    with pytest.raises(BadData, match="from 0 to 9"):
        train_classifier(digits, (train, test + np.uint8(1)))


def test_labels_of_other_images_are_not_learned(
    digits: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "_STEPS", 60)
    shuffled = np.random.default_rng(0).permutation(digits.train)
    with pytest.raises(BadData, match="are they those of these images"):
        train_classifier(replace(digits, train=shuffled, sha256=""), load_labels("digits"))
