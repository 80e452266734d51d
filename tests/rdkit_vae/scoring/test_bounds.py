import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from rdkit_vae import make_trial
from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.bounds import (
    _over_all_subsets,
    _over_orders,
    elbo,
    iwae,
    iwae_of_all,
    score_bounds,
)
from rdkit_vae.scoring.interpretations import INTERPRETATIONS, SIGMAS
from rdkit_vae.scoring.scores import interpret
from rdkit_vae.scoring.statistics import Statistics
from rdvae_analysis.theory import Floats, linear_log_likelihood

Stats = dict[str, Statistics]
DENSITIES = [name for name in SIGMAS if INTERPRETATIONS[name].is_density] + ["constant:0.03"]


def _weights(n: int, draws: int) -> Floats:
    return np.random.default_rng(3).normal(scale=4, size=(n, draws))


@pytest.mark.parametrize("draws", [1, 2, 5, 8])
def test_iwae_is_the_mean_over_all_subsets(draws: int) -> None:
    nll, log_ratio = -_weights(6, draws), np.zeros((6, draws))
    for bound in iwae(nll, log_ratio):
        assert bound.k is not None
        per_image = [
            np.mean(
                [
                    logsumexp(-nll[i, list(subset)]) - math.log(bound.k)
                    for subset in itertools.combinations(range(draws), bound.k)
                ]
            )
            for i in range(6)
        ]
        assert bound.value == pytest.approx(np.mean(per_image), rel=1e-12)
        assert bound.se == pytest.approx(stats.sem(per_image), rel=1e-9)


@pytest.mark.parametrize("sigma", DENSITIES)
@pytest.mark.parametrize("draws", [4, 30])
def test_iwae_rises_with_k_on_every_sample(statistics: Stats, sigma: str, draws: int) -> None:
    if draws != 4:
        rng = np.random.default_rng(draws)
        wide = {"sse": rng.gamma(3.0, 0.2, (20, draws)), "log_ratio": rng.normal(size=(20, draws))}
        statistics = {split: replace(s, **_first(s, wide)) for split, s in statistics.items()}
    reading = interpret(statistics, make_trial(beta=0.3), [sigma])[-1]
    log_ratio = reading.statistics.log_ratio
    values = [b.value for b in iwae(reading.nll, log_ratio)]
    assert len(values) == draws
    assert (np.diff(values) >= 0).all()
    assert values[-1] > values[0]
    # Up to 12 draws by themselves; beyond, what moves them to rise moves them by little.
    over = _over_all_subsets if draws <= 12 else _over_orders
    plain = over(log_ratio - reading.nll).mean(axis=0)
    np.testing.assert_allclose(values, plain, atol=1e-12 if draws <= 12 else 0.03)


def _first(s: Statistics, wide: dict[str, Floats]) -> dict[str, Floats]:
    return {name: values[: len(s.kl)] for name, values in wide.items()}


def test_many_draws_stand_for_all_their_subsets() -> None:
    weights = _weights(200, 10)
    exact, sampled = _over_all_subsets(weights).mean(0), _over_orders(weights).mean(0)
    np.testing.assert_allclose(sampled[[0, -1]], exact[[0, -1]], rtol=1e-12)
    np.testing.assert_allclose(sampled, exact, atol=0.02)


@pytest.mark.parametrize("draws", [6, 40])
def test_iwae_stays_finite_where_weights_are_thousands_of_nats_apart(draws: int) -> None:
    weights = np.linspace(-1e5, 1e4, 3 * draws).reshape(3, draws)
    values = [bound.value for bound in iwae(-weights, np.zeros_like(weights))]
    assert np.isfinite(values).all()
    assert values[0] == pytest.approx(weights.mean(), rel=1e-12)
    assert values[-1] == pytest.approx(weights.max(axis=1).mean() - math.log(draws), rel=1e-9)


def _linear_model() -> tuple[Floats, Floats, Floats, float]:
    """Images (n, D), decoder weights and bias, variance."""
    rng = np.random.default_rng(8)
    weights, bias = rng.normal(size=(5, 2)), rng.normal(size=5)
    x = bias + rng.normal(size=(400, 2)) @ weights.T + 0.5 * rng.normal(size=(400, 5))
    return x, weights, bias, 0.25


def _draw(widen: float, draws: int) -> tuple[Floats, Floats, Floats, float]:
    """nll and log_ratio (n, K) and kl (n,) for posteriors `widen` times as wide as the true ones;
    and the exact mean log-likelihood."""
    x, weights, bias, sigma2 = _linear_model()
    covariance = sigma2 * np.linalg.inv(weights.T @ weights + sigma2 * np.eye(2))
    mean = (x - bias) @ weights @ covariance / sigma2
    wide, rng = widen**2 * covariance, np.random.default_rng(9)
    z = mean[:, None] + rng.normal(size=(400, draws, 2)) @ np.linalg.cholesky(wide).T
    q = stats.multivariate_normal(np.zeros(2), wide)
    p = stats.multivariate_normal(np.zeros(2), np.eye(2))
    residual = x[:, None] - bias - z @ weights.T
    nll = (residual**2).sum(2) / (2 * sigma2) + 5 / 2 * math.log(2 * math.pi * sigma2)
    kl = (np.trace(wide) + (mean**2).sum(1) - 2 - np.linalg.slogdet(wide)[1]) / 2
    exact = linear_log_likelihood(x, weights, bias, sigma2).mean()
    return nll, p.logpdf(z) - q.logpdf(z - mean[:, None]), kl, float(exact)


def test_the_tightest_bound_is_the_last_one() -> None:
    nll, log_ratio = -_weights(6, 7), np.zeros((6, 7))
    last, alone = iwae(nll, log_ratio)[-1], iwae_of_all(nll, log_ratio)
    assert alone.k == last.k == 7
    assert alone.value == pytest.approx(last.value, rel=1e-13)
    assert alone.se == pytest.approx(last.se, rel=1e-10)


def test_with_the_true_posterior_every_bound_is_the_likelihood() -> None:
    nll, log_ratio, kl, exact = _draw(widen=1, draws=6)
    for bound in iwae(nll, log_ratio):
        assert bound.value == pytest.approx(exact, rel=1e-10)
    noise = (nll - log_ratio).std(axis=1).max()
    assert noise < 1e-9
    # The closed-form rate leaves the noise of the draws in the distortion.
    assert elbo(nll, kl).value == pytest.approx(exact, abs=0.1)


def test_with_a_wrong_posterior_iwae_closes_in_from_below() -> None:
    nll, log_ratio, _, exact = _draw(widen=1.6, draws=64)
    values = [bound.value for bound in iwae(nll, log_ratio)]
    assert values[0] < exact - 0.3
    assert values[7] < values[63] < exact + 0.02
    assert exact - values[63] < 0.1 * (exact - values[0])


def test_the_elbo_of_the_bounds_is_that_of_the_scores(statistics: Stats) -> None:
    from rdkit_vae import score

    trial = make_trial(beta=0.3)
    bounds = score_bounds(interpret(statistics, trial, DENSITIES), None, {})
    for bound, row in zip(bounds, score(statistics, trial, DENSITIES), strict=True):
        assert (bound.split, bound.sigma, bound.k) == (row.split, row.sigma, None)
        assert bound.value == pytest.approx(row.elbo, rel=1e-13)
        assert bound.value_se == pytest.approx(row.elbo_se, rel=1e-12)
        assert bound.bits_per_dim == pytest.approx(row.bits_per_dim, rel=1e-13)


def test_what_bounds_nothing_is_refused(statistics: Stats) -> None:
    trial = make_trial()
    with pytest.raises(BadInput, match="not a density"):
        score_bounds(interpret(statistics, trial, ["optimal"]), [1], {})
    with pytest.raises(BadInput, match="K = 5: 4 posterior samples are stored"):
        score_bounds(interpret(statistics, trial, ["half"]), [5], {})
