import math

import mpmath
import numpy as np
import pytest
from scipy import integrate

from rdkit_vae.scoring.mixture import MIXTURE_S, mixture_nll


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_mixture_integrates_to_one(dims: int) -> None:
    sphere = 2 * math.pi ** (dims / 2) / math.gamma(dims / 2)

    def density(log_radius: float) -> float:
        sse = np.array([[math.exp(2 * log_radius)]])
        nll = float(mixture_nll(sse, dims)[0, 0])
        return sphere * math.exp(dims * log_radius - nll)

    assert integrate.quad(density, -30, 4, limit=400)[0] == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("dims", [1, 64, 12288])
@pytest.mark.parametrize("sse", [1e-12, 1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("s", [MIXTURE_S, (0.3, 0.31), (1e-9, 1e9), (1e-9, 1e-8), (1e6, 1e8)])
def test_the_mixture_against_arbitrary_precision(
    dims: int, sse: float, s: tuple[float, float]
) -> None:
    with mpmath.workdps(60):
        half = mpmath.mpf(sse) / 2
        integral = mpmath.gammainc(
            mpmath.mpf(dims) / 2, half / mpmath.mpf(s[1]) ** 2, half / mpmath.mpf(s[0]) ** 2
        )
        span = mpmath.log(mpmath.mpf(s[1]) / mpmath.mpf(s[0]))
        log_p = mpmath.log(integral / (2 * span)) - dims / 2 * mpmath.log(2 * mpmath.pi * half)
    found = float(mixture_nll(np.array([[sse]]), dims, s)[0, 0])
    assert found == pytest.approx(float(-log_p), rel=1e-11, abs=1e-11)


def test_the_mixture_of_a_perfect_reconstruction_is_finite() -> None:
    assert np.isfinite(mixture_nll(np.zeros((1, 1)), 784)).all()


@pytest.mark.parametrize("s", [(1e-100, 1e-90), (1e-100, 1e100), (1e90, 1e100), (1.0, 1 + 1e-9)])
@pytest.mark.parametrize("sse", [1e-12, 1.0, 1e6])
def test_the_mixture_is_finite_over_any_range_that_can_be_named(
    s: tuple[float, float], sse: float
) -> None:
    assert np.isfinite(mixture_nll(np.array([[sse]]), 12288, s)).all()
