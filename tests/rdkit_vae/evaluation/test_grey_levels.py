import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from rdkit_vae.evaluation.grey_levels import discretized_nll
from rdkit_vae.scoring.scores import dequantized_nll, gaussian_nll

VARIANCES = [1e-8, 1e-4, 0.01, 0.5, 1e4, 1e9]


def _nll(x: float | np.ndarray, mean: float, sigma2: float, levels: int) -> np.ndarray:
    tensors = (torch.as_tensor(v, dtype=torch.float64) for v in (x, mean, sigma2))
    return discretized_nll(*tensors, levels).numpy()


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("sigma2", VARIANCES)
@pytest.mark.parametrize("mean", [-3.0, 0.0, 0.3333, 1.0, 7.0])
def test_the_bins_of_a_pixel_sum_to_one(levels: int, sigma2: float, mean: float) -> None:
    x = np.arange(levels) / (levels - 1)
    assert np.exp(-_nll(x, mean, sigma2, levels)).sum() == pytest.approx(1, abs=1e-10)


def test_a_bin_is_a_difference_of_cdfs() -> None:
    x = np.arange(256) / 255
    density = stats.norm(0.4, 0.1)
    mass = density.cdf(x + 0.5 / 255) - density.cdf(x - 0.5 / 255)
    found = np.exp(-_nll(x, 0.4, 0.01, 256))
    np.testing.assert_allclose(found[1:-1], mass[1:-1], rtol=1e-9, atol=1e-16)
    assert found[0] == pytest.approx(density.cdf(0.5 / 255), rel=1e-9)
    assert found[-1] == pytest.approx(density.sf(1 - 0.5 / 255), rel=1e-9)


@pytest.mark.parametrize("mean", [-2.0, 3.0])
def test_far_tails_do_not_underflow(mean: float) -> None:
    """Where both cdfs are 0 or 1 to all digits, the mass is that of the tail next to the mean."""
    x, sigma2 = np.arange(1, 255) / 255, 1e-6
    found = _nll(x, mean, sigma2, 256)
    assert np.isfinite(found).all()
    near = (x + 0.5 / 255 - mean) if mean > 1 else (x - 0.5 / 255 - mean)
    expected = -stats.norm.logcdf(-np.abs(near) / math.sqrt(sigma2))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_wide_gaussian_is_flat_over_its_bins() -> None:
    x = np.arange(1, 255) / 255
    for scale in (100.0, 1e4, 1e15, 1e90):
        expected = -stats.norm.logpdf(x, 0.5, scale) + math.log(255)
        np.testing.assert_allclose(_nll(x, 0.5, scale**2, 256), expected, rtol=1e-9)


def test_uniform_noise_is_integrated_exactly() -> None:
    x, mean, sigma2, levels = 3 / 16, 0.4, 0.02, 17
    width = 1 / (levels - 1)

    def nll(u: float) -> float:
        return -stats.norm.logpdf(x + u, mean, math.sqrt(sigma2)) / width

    expected = integrate.quad(nll, -width / 2, width / 2)[0] - math.log(width)
    sse = np.array([[(x - mean) ** 2]])
    assert dequantized_nll(sse, sigma2, 1, levels)[0, 0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("sigma2", [1e-4, 0.01, 0.5])
def test_noise_costs_more_than_the_mass_of_the_bin(sigma2: float) -> None:
    """Jensen: a mean of logs is below the log of the mean."""
    x = np.arange(256) / 255
    mass = _nll(x, 0.3, sigma2, 256)
    noise = dequantized_nll((x - 0.3)[:, None] ** 2, sigma2, 1, 256)[:, 0]
    assert (noise > mass - 1e-12).all()
    inner = slice(60, 90)  # where the bins are narrow against the density, it costs little more
    if sigma2 > 1e-3:
        np.testing.assert_allclose(noise[inner], mass[inner], rtol=1e-3)


def test_bits_per_dimension_of_noise_of_one_level_are_those_of_the_grid() -> None:
    """A continuous density of x, less D log(levels - 1), is one of pixels."""
    sse = np.array([[2.0]])
    difference = dequantized_nll(sse, 0.5, 10, 256) - gaussian_nll(sse, 0.5, 10)
    assert difference[0, 0] == pytest.approx(10 * math.log(255) + 10 / 255**2 / 12, rel=1e-12)
