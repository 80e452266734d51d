import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from rdkit_vae import Trial, evaluate, train
from rdkit_vae.datasets.images import Images
from rdkit_vae.evaluation.rate import rate_terms_of


def _posteriors(n: int, latents: int, spread: float) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(n)
    mean = spread * torch.randn(n, latents, generator=generator)
    log_var = torch.randn(n, latents, generator=generator) - 1
    z = mean + (log_var / 2).exp() * torch.randn(n, latents, generator=generator)
    return mean, log_var, z


def test_against_a_mixture_of_torch_distributions() -> None:
    mean, log_var, z = (t.double() for t in _posteriors(50, 3, 1.0))
    posterior = Independent(Normal(mean, (log_var / 2).exp()), 1)
    aggregate = MixtureSameFamily(Categorical(torch.ones(50, dtype=torch.float64)), posterior)
    expected = posterior.log_prob(z) - aggregate.log_prob(z)
    found = rate_terms_of(mean, log_var, z)
    assert found.mutual_information == pytest.approx(float(expected.mean()), rel=1e-12)
    assert found.mutual_information_se == pytest.approx(float(expected.std()) / 50**0.5, rel=1e-10)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    rate = kl_divergence(posterior, prior).mean()
    assert found.mutual_information + found.marginal_kl == pytest.approx(float(rate), rel=1e-12)


def test_posteriors_that_are_all_the_prior_carry_nothing() -> None:
    zeros = torch.zeros(40, 2)
    found = rate_terms_of(zeros, zeros, torch.randn(40, 2))
    assert found.mutual_information == pytest.approx(0, abs=1e-12)
    assert found.marginal_kl == pytest.approx(0, abs=1e-12)
    assert found.active_units == 0


@pytest.mark.parametrize("log_var", [-8.0, -30.0])
def test_posteriors_far_apart_carry_log_n_and_no_more(log_var: float) -> None:
    mean = torch.arange(64.0)[:, None].expand(64, 2)
    variances = torch.full((64, 2), log_var)
    generator = torch.Generator().manual_seed(0)
    z = mean + math.exp(log_var / 2) * torch.randn(64, 2, generator=generator)
    found = rate_terms_of(mean, variances, z)
    assert found.mutual_information == pytest.approx(math.log(64), rel=1e-6)


def test_the_ceiling_holds_image_by_image() -> None:
    for n in (2, 30, 500):
        assert rate_terms_of(*_posteriors(n, 4, 3.0)).mutual_information <= math.log(n) + 1e-9


def test_units_that_do_not_move_are_not_active() -> None:
    mean, log_var, z = _posteriors(200, 5, 1.0)
    mean[:, 2] *= 0.05  # a variance of 0.0025
    found = rate_terms_of(mean, log_var, z)
    assert found.active_units == 4
    np.testing.assert_allclose(found.unit_variance, mean.double().numpy().var(axis=0), rtol=1e-12)


def test_an_evaluation_splits_its_own_rate(tiny: Images, tiny_trial: Trial) -> None:
    for statistics in evaluate(train(tiny_trial, tiny), tiny, tiny_trial).values():
        found = statistics.rate_terms
        assert found is not None
        assert found.unit_rate.sum() == pytest.approx(statistics.kl.mean(), rel=1e-9)
        total = found.mutual_information + found.marginal_kl
        assert total == pytest.approx(statistics.kl.mean(), rel=1e-9)


def test_of_many_images_some_draws_are_taken_against_all_posteriors() -> None:
    mean, log_var, z = _posteriors(2600, 2, 1.0)
    found = rate_terms_of(mean, log_var, z)
    posterior = Independent(Normal(mean.double(), (log_var.double() / 2).exp()), 1)
    aggregate = MixtureSameFamily(Categorical(torch.ones(2600, dtype=torch.float64)), posterior)
    every = posterior.log_prob(z.double()) - aggregate.log_prob(z.double())
    error = found.mutual_information - float(every.mean())
    assert 0 < abs(error) < 4 * found.mutual_information_se
    assert found.mutual_information_se == pytest.approx(float(every.std()) / 2000**0.5, rel=0.05)


@pytest.mark.parametrize("log_var", [-10.0, -18.0])
def test_images_that_are_all_the_same_carry_nothing(log_var: float) -> None:
    """However narrow their posteriors: what cancels must not look like a distance."""
    mean = torch.full((30, 4), 10.0) + torch.tensor([0.0, 3.0, -8.0, 20.0])
    variances = torch.full((30, 4), log_var)
    z = mean + math.exp(log_var / 2) * torch.randn(
        30, 4, generator=torch.Generator().manual_seed(1)
    )
    assert rate_terms_of(mean, variances, z).mutual_information == pytest.approx(0, abs=1e-4)
