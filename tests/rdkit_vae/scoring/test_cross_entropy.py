"""The rate under other priors than N(0, I)."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from rdkit_vae.scoring.cross_entropy import (
    Gaussian,
    Posteriors,
    fit_gaussian,
    fit_per_unit,
    has_collapsed,
    rate_under,
    standard,
)

RNG = np.random.default_rng(0)


def posteriors(n=50, latents=3, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((latents, latents))
    return Posteriors(
        rng.standard_normal((n, latents)) @ mixing + 0.5, rng.uniform(0.05, 0.5, (n, latents))
    )


def test_under_the_standard_prior_it_is_the_kl():
    some = posteriors()
    assert_allclose(standard(3).rate(some), some.kl, rtol=1e-12)


@pytest.mark.parametrize("full", [True, False])
def test_the_closed_form_is_the_mean_over_draws(full):
    some = posteriors(n=4)
    gaussian = fit_gaussian(some) if full else fit_per_unit(some, range(3))
    rng = np.random.default_rng(1)
    draws = [some.draw(rng) for _ in range(40_000)]
    q = stats.norm(some.mean, np.sqrt(some.variance))
    values = [q.logpdf(z).sum(axis=1) - gaussian.log_density(z) for z in draws]
    error = np.std(values, axis=0) / 200
    assert (np.abs(gaussian.rate(some) - np.mean(values, axis=0)) < 5 * error).all()


def test_the_density_is_that_of_scipy():
    gaussian = fit_gaussian(posteriors())
    z = RNG.standard_normal((10, 3))
    expected = stats.multivariate_normal(gaussian.mean, gaussian.covariance).logpdf(z)
    assert_allclose(gaussian.log_density(z), expected, rtol=1e-10)
    assert_allclose(gaussian.coloured(gaussian.whitened(z)), z, atol=1e-12)


def test_each_rung_costs_the_posteriors_it_is_fitted_to_no_more_than_the_one_below():
    some = posteriors()
    rates = [
        prior.rate(some).mean()
        for prior in (standard(3), fit_per_unit(some, "aab"), fit_per_unit(some, "abc"))
    ]
    rates.append(fit_gaussian(some).rate(some).mean())
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1] + 0.1


@pytest.mark.parametrize("fit", [fit_gaussian, lambda some: fit_per_unit(some, range(3))])
def test_no_gaussian_of_its_kind_is_cheaper(fit):
    some = posteriors()
    best = fit(some)
    least = best.rate(some).mean()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scale = 1 + 0.1 * rng.standard_normal(3)
        other = best.covariance * (np.outer(scale, scale) if best.covariance.ndim == 2 else scale)
        moved = Gaussian(mean=best.mean + 0.05 * rng.standard_normal(3), covariance=np.abs(other))
        if best.covariance.ndim == 2:
            moved = Gaussian(mean=moved.mean, covariance=other)
        assert moved.rate(some).mean() >= least


def test_positions_of_a_channel_share_mean_and_variance():
    some = posteriors(latents=4)
    prior = fit_per_unit(some, ["a", "a", "b", "b"])
    pooled = some.mean[:, :2]
    assert_allclose(prior.mean[:2], pooled.mean())
    expected = np.square(pooled - pooled.mean()).mean() + some.variance[:, :2].mean()
    assert_allclose(prior.covariance[:2], expected)


class Shifted:
    """A Gaussian that is not known to be one, so that it is scored by draws."""

    components, is_bound, note = 1, False, ""

    def __init__(self, gaussian):
        self.gaussian = gaussian

    def log_density(self, z, rng):
        return self.gaussian.log_density(z)

    def sample(self, count, rng):
        raise NotImplementedError


def test_draws_estimate_the_rate_without_bias_and_with_less_error_than_without_control():
    some = posteriors(n=300)
    control = fit_gaussian(some)
    other = Gaussian(mean=control.mean + 0.1, covariance=control.covariance * 1.2)
    exact = other.rate(some)
    rng = np.random.default_rng(2)
    estimate = rate_under(Shifted(other), some, control, draws=4, rng=rng)
    error = (estimate - exact).std() / np.sqrt(300)
    assert abs((estimate - exact).mean()) < 4 * error
    z = some.draw(rng)
    q = stats.norm(some.mean, np.sqrt(some.variance)).logpdf(z).sum(axis=1)
    assert (estimate - exact).std() < 0.5 * (q - other.log_density(z) - exact).std()


def test_latents_that_hold_nothing_are_told():
    collapsed = Posteriors(np.full((20, 4), 1e-3), np.ones((20, 4)))
    assert has_collapsed(collapsed)
    assert not has_collapsed(posteriors())
    assert_allclose(fit_gaussian(collapsed).rate(collapsed), 0, atol=1e-5)


def test_a_direction_that_never_varies_is_degenerate_and_still_has_a_rate():
    mean = RNG.standard_normal((30, 2)) @ np.array([[1.0, 1.0], [0, 0]])
    some = Posteriors(mean, np.full((30, 2), 1e-14))
    gaussian = fit_gaussian(some)
    assert "degenerate" in gaussian.note
    assert np.isfinite(gaussian.rate(some)).all()
