"""Features of the user's own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.evaluation.foreign import hash_of_weights
from rdkit_vae.generation.features import features_of

CODE = """
import torch
from torch import nn


def network(shape):
    torch.manual_seed(3)
    layers = nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5), nn.Dropout()
    return nn.Sequential(*layers)


def arrays(shape):
    return lambda x: x.flatten(1).numpy()[:, :3]


def stateless(shape):
    return nn.Flatten()


def fails(shape):
    raise ValueError(f"no features\\nfor {shape}")


def nothing(shape):
    return None


def fails_later(shape):
    return lambda x: 1 / 0


def flat(shape):
    return lambda x: x.sum(dim=(1, 2, 3))


def fewer(shape):
    return lambda x: x.flatten(1)[1:]


def words(shape):
    return lambda x: "words"


number = 7
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "features_of_mine.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_network_is_evaluated_and_known_by_its_weights(digits: Images) -> None:
    features = features_of("features_of_mine:network", digits)
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    linear = torch.nn.Linear(64, 5)
    with torch.no_grad():
        expected = linear(x.flatten(1)) / (1 + 1e-5) ** 0.5  # a new normalisation does nothing else
    np.testing.assert_allclose(features(x), expected, rtol=1e-5, atol=1e-6)
    torch.manual_seed(3)
    layers = torch.nn.Flatten(), torch.nn.Linear(64, 5), torch.nn.BatchNorm1d(5)
    assert features.sha256 == hash_of_weights(torch.nn.Sequential(*layers))
    assert (features.name, features.dims, features.notes) == ("features_of_mine:network", 5, ())


@pytest.mark.parametrize(("name", "dims"), [("arrays", 3), ("stateless", 64)])
def test_without_weights_they_are_known_by_their_name(name: str, dims: int, digits: Images) -> None:
    features = features_of(f"features_of_mine:{name}", digits)
    assert features.dims == dims
    assert "has no weights to tell its versions apart" in features.notes[0]
    assert features_of(f"features_of_mine:{name}", digits).sha256 == features.sha256


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fails", r"calling it raised ValueError: no features for \(1, 8, 8\)"),
        ("nothing", "it must return a module or a function, got NoneType"),
        ("fails_later", "computing them raised ZeroDivisionError"),
        ("flat", "2 pictures must have 2 x d features, got 2"),
        ("fewer", "2 pictures must have 2 x d features, got 1x64"),
        ("words", "computing them raised TypeError"),
        ("number", r"it cannot be called as factory\(shape\)"),
        ("absent", "features_of_mine has no absent"),
    ],
)
def test_code_that_does_not_fit_is_refused_in_one_line(
    name: str, reason: str, digits: Images
) -> None:
    with pytest.raises(BadInput, match=f"^features features_of_mine:{name}: {reason}") as refused:
        features_of(f"features_of_mine:{name}", digits)
    assert "\n" not in str(refused.value)


def test_a_module_that_is_not_there_is_named(digits: Images) -> None:
    with pytest.raises(BadInput, match="there is no module not_there; set PYTHONPATH"):
        features_of("not_there:features", digits)
