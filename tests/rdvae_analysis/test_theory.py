import math

import numpy as np
import pytest
from scipy import optimize, stats

from rdkit_vae.errors import BadInput
from rdvae_analysis.theory import (
    Floats,
    collapse_beta,
    implied_beta,
    linear_log_likelihood,
    linear_optimum,
    rate_distortion,
    shared_optimum,
    water_filling,
)

SPECTRUM = np.array([0.5, 0.3, 0.12, 0.04, 0.01, 0.003])
BETAS = [0.05, 0.3, 0.9, 1.0, 1.4, 2.0, 2.9, 3.05, 5.0, 40.0]


def _blahut_arimoto(p: Floats, squared: Floats, slope: float) -> tuple[float, float]:
    """(rate, distortion) where the rate-distortion curve has this slope -dR/dD.

    Source: Blahut 1972, "Computation of channel capacity and rate-distortion functions".
    """
    kernel = np.exp(-slope * squared)
    q = np.full(squared.shape[1], 1 / squared.shape[1])
    for _ in range(500):
        joint = kernel * q / (kernel @ q)[:, None]  # q(y|x)
        q = p @ joint
    tiny = 1e-300
    ratio = np.log(np.maximum(joint, tiny) / np.maximum(q, tiny))
    rate = np.sum(p[:, None] * joint * ratio)
    return float(rate), float(np.sum(p[:, None] * joint * squared))


@pytest.mark.parametrize("distortion", [0.5, 0.2, 0.05])
def test_one_dimension_against_blahut_arimoto(distortion: float) -> None:
    x = np.linspace(-5, 5, 251)
    p = stats.norm.pdf(x)
    rate, reached = _blahut_arimoto(p / p.sum(), (x[:, None] - x) ** 2, 1 / (2 * distortion))
    assert reached == pytest.approx(distortion, rel=2e-3)
    assert rate_distortion([1.0], reached) == pytest.approx(rate, abs=2e-3)


@pytest.mark.parametrize("tau", [1e-4, 0.002, 0.02, 0.2, 0.49, 3.0])
def test_water_filling_and_the_rate_distortion_function_are_one(tau: float) -> None:
    rate, sse = water_filling(SPECTRUM, tau)
    assert rate_distortion(SPECTRUM, sse) == pytest.approx(rate, rel=1e-12, abs=1e-15)


def test_the_slope_of_the_rate_distortion_function_is_the_water_level() -> None:
    for tau in (0.002, 0.02, 0.2):
        _, sse = water_filling(SPECTRUM, tau)
        step = 1e-6 * sse
        difference = rate_distortion(SPECTRUM, sse + step) - rate_distortion(SPECTRUM, sse - step)
        assert -difference / (2 * step) == pytest.approx(1 / (2 * tau), rel=1e-5)


def _loss(log_posterior: Floats, beta: float, sigma2: float, latents: int) -> float:
    """sse/(2 s2) + beta rate of a linear VAE along the eigenvectors, decoder fitted.

    With posterior variances v_i and encoders a_i x, the best decoder is the regression of x on z.
    """
    a, log_v = log_posterior[:latents], log_posterior[latents:]
    v, kept = np.exp(log_v), SPECTRUM[:latents]
    signal = a**2 * kept
    sse = np.sum(kept * v / (signal + v)) + SPECTRUM[latents:].sum()
    rate = np.sum(signal + v - 1 - log_v) / 2
    return float(sse / (2 * sigma2) + beta * rate)


@pytest.mark.parametrize("latents", [2, 4, 6])
@pytest.mark.parametrize("beta", [0.1, 1.0, 4.0])
def test_the_linear_optimum_against_a_minimiser(latents: int, beta: float) -> None:
    sigma2 = 0.03
    exact = linear_optimum(SPECTRUM, latents=latents, beta=beta, sigma2=sigma2)
    start = np.concatenate([np.full(latents, 1.5), np.full(latents, -1.0)])
    minimum = optimize.minimize(_loss, start, args=(beta, sigma2, latents), tol=1e-14)
    assert exact.sse / (2 * sigma2) + beta * exact.rate == pytest.approx(minimum.fun, rel=1e-6)
    assert exact.elbo == -(exact.rate + exact.distortion)


@pytest.mark.parametrize("latents", [1, 3, 5])
@pytest.mark.parametrize("beta", BETAS)
def test_the_shared_optimum_against_a_minimiser(latents: int, beta: float) -> None:
    """The loss at the best linear VAE of each s2, minimised over s2."""

    def loss(log_sigma2: float) -> float:
        optimum = linear_optimum(SPECTRUM, latents=latents, beta=beta, sigma2=math.exp(log_sigma2))
        return optimum.distortion + beta * optimum.rate

    exact = shared_optimum(SPECTRUM, latents=latents, beta=beta)
    best = optimize.minimize_scalar(
        loss, bounds=(-16, 2), method="bounded", options={"xatol": 1e-10}
    )
    assert exact.distortion + beta * exact.rate == pytest.approx(best.fun, abs=1e-8)
    assert math.log(exact.sigma2) == pytest.approx(best.x, abs=1e-4)
    # Invariant 6: s2* = sum_{i>k} l_i / (D - beta k) with k = #{l_i > tau}.
    k = exact.active
    assert exact.sigma2 == pytest.approx(SPECTRUM[k:].sum() / (6 - beta * k), rel=1e-12)
    assert k == (SPECTRUM[:latents] > exact.tau).sum()
    assert beta * k < 6


def test_too_much_beta_must_collapse() -> None:
    edge = collapse_beta(SPECTRUM)
    assert shared_optimum(SPECTRUM, latents=4, beta=1.001 * edge).active == 0
    assert shared_optimum(SPECTRUM, latents=4, beta=0.999 * edge).active == 1


def test_a_variance_that_nothing_holds_runs_to_zero() -> None:
    for values, latents in ((SPECTRUM, 6), ([0.5, 0.2, 0, 0], 2)):
        rank = np.count_nonzero(values)
        below, above = (
            shared_optimum(values, latents=latents, beta=f * len(values) / rank) for f in (0.9, 1.1)
        )
        assert (below.sigma2, below.rate) == (0, math.inf)
        assert above.sigma2 > 0
        assert above.active < rank


def test_the_likelihood_of_the_linear_model_against_scipy() -> None:
    rng = np.random.default_rng(0)
    weights, bias, x = rng.normal(size=(6, 2)), rng.normal(size=6), rng.normal(size=(9, 6))
    exact = stats.multivariate_normal(bias, weights @ weights.T + 0.3 * np.eye(6)).logpdf(x)
    np.testing.assert_allclose(linear_log_likelihood(x, weights, bias, 0.3), exact, rtol=1e-11)


def test_at_beta_one_the_elbo_of_the_optimum_is_the_likelihood_of_ppca() -> None:
    """Lucas et al. 2019: the ELBO of a linear VAE has the stationary points of PPCA."""
    optimum = shared_optimum(SPECTRUM, latents=3, beta=1.0)
    assert optimum.sigma2 == pytest.approx(SPECTRUM[3:].mean(), rel=1e-12)
    covariance = np.diag([*SPECTRUM[:3], *[optimum.sigma2] * 3])
    # The mean log-density of data of covariance diag(SPECTRUM) under it.
    expected = (
        -(
            6 * math.log(2 * math.pi)
            + np.linalg.slogdet(covariance)[1]
            + np.trace(np.linalg.solve(covariance, np.diag(SPECTRUM)))
        )
        / 2
    )
    assert optimum.elbo == pytest.approx(expected, rel=1e-12)


def test_the_implied_beta_makes_the_loss_the_elbo() -> None:
    exact = linear_optimum(SPECTRUM, latents=3, beta=0.5, sigma2=0.02)
    beta = implied_beta(0.02, dims=6, rate=exact.rate)
    assert exact.sse + beta * exact.rate == pytest.approx(-2 * 0.02 * exact.elbo, rel=1e-12)
    assert math.isnan(implied_beta(0.02, dims=6, rate=0.0))


@pytest.mark.parametrize("values", [[], [1.0, -0.1], [0.0, 0.0], [math.nan]])
def test_no_spectrum_is_refused(values: list[float]) -> None:
    with pytest.raises(BadInput, match="eigenvalues"):
        water_filling(values, 0.1)
    with pytest.raises(BadInput, match="sse"):
        rate_distortion([1.0], 0.0)
