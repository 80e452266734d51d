"""Distances between sets of features: closed forms, other implementations, a set and itself."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import linalg
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import polynomial_kernel

from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.fidelity import (
    FEWEST,
    Reference,
    fidelity,
    frechet,
    frechet_infinite,
    kernel_distance,
    moments,
    neighbours,
    peak_ratio,
    structural_similarity,
)

RNG = np.random.default_rng(0)


def gaussians(n, mean, factor, seed=0):
    rng = np.random.default_rng(seed)
    return mean + rng.standard_normal((n, len(mean))) @ np.asarray(factor).T


def with_moments(mean, covariance, n=64):
    """Features whose mean and covariance are exactly these."""
    white = gaussians(n, np.zeros(len(mean)), np.eye(len(mean)), seed=3)
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white.T))).T
    values, vectors = np.linalg.eigh(covariance)
    return mean + white @ (vectors * np.sqrt(values.clip(0))).T


def test_commuting_gaussians_have_the_closed_form():
    one, other = np.array([0.5, 2.0, 3.0]), np.array([1.5, 0.1, 3.0])
    shift = np.array([1.0, -2.0, 0.0])
    x = with_moments(shift, np.diag(one))
    y = with_moments(np.zeros(3), np.diag(other))
    expected = 5 + np.square(np.sqrt(one) - np.sqrt(other)).sum()
    assert_allclose(frechet(moments(x), Reference(y)), expected, rtol=1e-9)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_any_rank_agrees_with_the_nuclear_norm(rank):
    """tr (S S')^1/2 of S = A A', S' = B B' is the sum of the singular values of A'B."""
    a, b = RNG.standard_normal((5, rank)), RNG.standard_normal((5, 5))
    x, y = with_moments(np.zeros(5), a @ a.T), with_moments(np.ones(5), b @ b.T)
    nuclear = np.linalg.svd(a.T @ b, compute_uv=False).sum()
    expected = 5 + np.square(a).sum() + np.square(b).sum() - 2 * nuclear
    assert_allclose(frechet(moments(x), Reference(y)), expected, rtol=1e-7)
    assert_allclose(frechet(moments(y), Reference(x)), expected, rtol=1e-7)


def test_agrees_with_the_matrix_square_root():
    x, y = RNG.standard_normal((200, 6)), RNG.standard_normal((300, 6)) ** 2
    root = linalg.sqrtm(np.cov(x.T) @ np.cov(y.T))
    squares = np.square(x.mean(axis=0) - y.mean(axis=0)).sum()
    expected = squares + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root.real)
    assert_allclose(frechet(moments(x), Reference(y)), expected, rtol=1e-9)


def test_fewer_rows_than_features_still_have_a_distance():
    x = RNG.standard_normal((10, 40))
    assert frechet(moments(x), Reference(x)) == pytest.approx(0, abs=1e-6)
    assert np.isnan(frechet_infinite(x, Reference(x)))


def test_a_set_and_itself():
    x = RNG.standard_normal((400, 8))
    result = fidelity(x, Reference(x))
    assert result.frechet == pytest.approx(0, abs=1e-9)
    assert (result.precision, result.recall, result.coverage) == (1, 1, 1)
    assert result.kid < 0  # without the pairs of a row with itself, others are farther
    assert result.density == pytest.approx(1.2)  # itself and its five nearest, among five


def test_extrapolation_removes_the_bias_of_few_samples():
    """Two sets of one Gaussian: the bias is (d + d (d + 1)/4)/n to first order."""
    reference = Reference(gaussians(50_000, np.zeros(16), np.eye(16), seed=1))
    plain, extrapolated = [], []
    for seed in range(8):
        x = gaussians(400, np.zeros(16), np.eye(16), seed=10 + seed)
        plain.append(frechet(moments(x), reference))
        extrapolated.append(frechet_infinite(x, reference))
    assert np.mean(plain) == pytest.approx((16 + 16 * 17 / 4) / 400, rel=0.1)
    assert abs(np.mean(extrapolated)) < 0.15 * np.mean(plain)


def test_the_kernel_distance_is_that_of_the_definition():
    x, y = RNG.standard_normal((50, 7)), RNG.standard_normal((80, 7)) + 0.3
    xx, yy, xy = (polynomial_kernel(a, b, degree=3, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
    expected = (xx.sum() - np.trace(xx)) / (50 * 49) + (yy.sum() - np.trace(yy)) / (80 * 79)
    expected -= 2 * xy.mean()
    value, error = kernel_distance(x, Reference(y))
    assert_allclose(value, expected, rtol=1e-10)
    left_out = [kernel_distance(np.delete(x, i, 0), Reference(y))[0] for i in range(50)]
    others = [kernel_distance(x, Reference(np.delete(y, j, 0)))[0] for j in range(80)]
    variance = 49 * np.var(left_out) + 79 * np.var(others)
    assert_allclose(error, np.sqrt(variance), rtol=1e-8)


def test_the_kernel_distance_is_unbiased_and_its_error_is_right():
    values, errors = [], []
    for seed in range(200):
        x, y = (gaussians(40, np.zeros(4), np.eye(4), seed=s) for s in (seed, 1000 + seed))
        value, error = kernel_distance(x, Reference(y))
        values.append(value)
        errors.append(error)
    spread = np.std(values)
    assert abs(np.mean(values)) < 3 * spread / np.sqrt(200)
    assert spread < np.mean(errors) < 2 * spread  # the jackknife errs on the safe side


def test_neighbours_are_those_of_the_definitions():
    x, y = RNG.standard_normal((60, 3)), RNG.standard_normal((60, 3)) * 1.5
    across = cdist(x, y)

    def radius(rows, k):
        return np.sort(cdist(rows, rows), axis=1)[:, k]  # column 0 is the row itself

    expected = {
        "precision": (across <= radius(y, 3)).any(axis=1).mean(),
        "recall": (radius(x, 3) >= across.T).any(axis=1).mean(),
        "density": (across <= radius(y, 5)).sum() / (5 * 60),
        "coverage": (across.min(axis=0) <= radius(y, 5)).mean(),
    }
    assert neighbours(x, Reference(y)) == pytest.approx(expected)


def test_a_generator_that_has_collapsed_covers_nothing():
    reference = Reference(RNG.standard_normal((300, 5)))
    same = np.repeat(reference.features[:1], 300, axis=0)
    near = neighbours(same, reference)
    assert near["precision"] == 1
    assert near["recall"] <= 1 / 300 + 1e-12
    assert near["coverage"] < 0.1


def test_neighbours_are_among_equally_many():
    """Ten times as many samples must not raise the recall."""
    y = RNG.standard_normal((100, 4))
    x = RNG.standard_normal((1000, 4))
    picked = x[np.linspace(0, 999, 100).round().astype(int)]
    assert fidelity(x, Reference(y)).recall == neighbours(picked, Reference(y))["recall"]


def test_the_order_of_blocks_does_not_matter(monkeypatch):
    x, y = RNG.standard_normal((90, 4)), RNG.standard_normal((70, 4))
    whole = fidelity(x, Reference(y))
    monkeypatch.setattr("rdkit_vae.scoring.fidelity._MOST_PAIRS", 300)
    in_blocks = fidelity(x, Reference(y))
    for name, value in vars(whole).items():
        assert_allclose(getattr(in_blocks, name), value, rtol=1e-9, err_msg=name)


def test_too_few_are_refused():
    with pytest.raises(BadInput, match=f"at least {FEWEST}"):
        Reference(RNG.standard_normal((FEWEST - 1, 2)))
    with pytest.raises(BadInput, match="pictures"):
        fidelity(RNG.standard_normal((3, 2)), Reference(RNG.standard_normal((20, 2))))


def windows_of(image, size):
    """All windows that lie inside an image, by loops over their corners."""
    height, width = image.shape
    return np.array(
        [
            image[i : i + size, j : j + size]
            for i in range(height - size + 1)
            for j in range(width - size + 1)
        ]
    )


def test_structural_similarity_is_that_of_the_definition():
    x, y = RNG.random((2, 1, 17, 15)), RNG.random((2, 1, 17, 15))
    offsets = np.arange(-5, 6)
    weights = np.exp(-np.square(offsets) / (2 * 1.5**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    values = []
    for one, other in zip(x[:, 0], y[:, 0], strict=True):
        a, b = windows_of(one, 11), windows_of(other, 11)
        ma, mb = ((w * weights).sum(axis=(1, 2)) for w in (a, b))
        va, vb, cov = (
            (p * q * weights).sum(axis=(1, 2)) - m * n
            for p, q, m, n in ((a, a, ma, ma), (b, b, mb, mb), (a, b, ma, mb))
        )
        numerator = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4)
        values.append((numerator / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))).mean())
    assert_allclose(structural_similarity(x, y), np.mean(values), rtol=1e-9)


@pytest.mark.parametrize("side", [3, 8, 28])
def test_an_image_is_like_itself(side):
    x = RNG.random((3, 2, side, side))
    assert structural_similarity(x, x) == pytest.approx(1)
    assert structural_similarity(x, 1 - x) < 0.5
    assert peak_ratio(x, x) == np.inf
    assert peak_ratio(x, x + 0.1) == pytest.approx(20)
