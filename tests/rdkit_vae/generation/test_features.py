"""What holds for all features."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData, BadInput, NotFinite
from rdkit_vae.generation.features import Features, features_of
from rdkit_vae.generation.inception import Inception
from rdkit_vae.generation.names import FEATURES


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(Inception().state_dict(), path)
    return path


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_halves.py").write_text(
        "def halves(shape):\n    return lambda x: x[:, 0, 0] / 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "own_halves:halves"


@pytest.fixture(params=FEATURES)
def features(request: pytest.FixtureRequest, digits: Images, weights: Path, own: str) -> Features:
    asked = request.param.replace("FILE", str(weights)).replace("MODULE:FACTORY", own)
    return features_of(asked, digits)


def _pictures(count: int, shape: tuple[int, int, int] = (1, 8, 8)) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


def test_they_are_finite_float64_of_the_size_they_say(features: Features) -> None:
    values = features(_pictures(5))
    assert (values.shape, values.dtype) == ((5, features.dims), np.float64)
    assert np.isfinite(values).all()
    assert features(_pictures(0)).shape == (0, features.dims)
    assert features.name == "pixels" or len(features.sha256) == 64


def test_they_do_not_depend_on_the_batch(features: Features) -> None:
    pictures = _pictures(5)
    together = features(pictures)
    for alone in (replace(features, batch=2), replace(features, batch=1)):
        np.testing.assert_allclose(alone(pictures), together, rtol=1e-4, atol=1e-5)


def test_pictures_of_another_shape_are_refused(features: Features) -> None:
    with pytest.raises(BadInput, match="made for pictures of 1x8x8, got 5x3x8x8"):
        features(_pictures(5, (3, 8, 8)))


def test_a_number_that_is_not_finite_is_refused(digits: Images) -> None:
    pictures = _pictures(3)
    pictures[1, 0, 2, 2] = torch.nan
    with pytest.raises(NotFinite, match="features pixels: 1 of 192 numbers are not finite"):
        features_of("pixels", digits)(pictures)


def test_pixels_are_the_pixels(digits: Images) -> None:
    features, pictures = features_of("pixels", digits), _pictures(3)
    assert np.array_equal(features(pictures), pictures.reshape(3, 64).double())
    assert (features.name, features.sha256, features.dims) == ("pixels", "", 64)


def test_pixels_of_large_images_are_refused() -> None:
    large = np.zeros((3, 3, 64, 64), np.uint8)
    images = Images(name="npz:large", train=large, test=large, split_rule="by hand")
    with pytest.raises(BadInput, match=r"12,288 values in an image.*at most 4,096"):
        features_of("pixels", images)


def test_a_classifier_says_how_good_it_is(digits: Images) -> None:
    features = features_of("classifier", digits)
    assert features.notes == ("classifier of digits, test accuracy 99.72%",)


def test_digits_of_a_class_are_near_each_other_in_the_classifier(digits: Images) -> None:
    from rdkit_vae.datasets import load_labels

    classes = load_labels("digits")[1]
    values = features_of("classifier", digits)(torch.from_numpy(digits.test / 16).float())
    within = np.mean([values[classes == k].var(axis=0).sum() for k in range(10)])
    assert within < 0.3 * values.var(axis=0).sum()


def test_grey_pictures_and_inception(digits: Images, weights: Path) -> None:
    features = features_of(f"inception:{weights}", digits)
    assert any("repeated in the three channels" in note for note in features.notes)
    four = np.zeros((3, 4, 8, 8), np.uint8)
    images = Images(name="npz:four", train=four, test=four, split_rule="by hand")
    with pytest.raises(BadInput, match="takes pictures of 1 or 3 channels, npz:four has 4"):
        features_of(f"inception:{weights}", images)


def test_what_is_not_there_is_said(digits: Images, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"x\.pth: cannot be read"):
        features_of(f"inception:{tmp_path / 'x.pth'}", digits)
    with pytest.raises(BadInput, match=r"unknown features 'clasifier'.*did you mean classifier"):
        features_of("clasifier", digits)
