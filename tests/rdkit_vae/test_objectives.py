import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from rdkit_vae import objectives
from rdkit_vae.objectives import OBJECTIVES, Setting


def _setting(name: str, beta: float = 0.7, sigma2: float = 0.2) -> Setting:
    return Setting(
        beta=beta, dims=12, sigma2=sigma2 if OBJECTIVES[name].has_sigma2 else None, floor=1e-6
    )


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 8, generator=generator, dtype=torch.float64).add(0.1).unbind(0)  # type: ignore[return-value]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_rate_counts_beta_times(name: str) -> None:
    sse, kl = _pair()
    loss = OBJECTIVES[name].loss
    difference = loss(sse, kl + 1, _setting(name)) - loss(sse, kl, _setting(name))
    assert difference.shape == sse.shape
    torch.testing.assert_close(difference, torch.full_like(sse, 0.7))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_larger_error_costs_more(name: str) -> None:
    sse, kl = _pair()
    loss = OBJECTIVES[name].loss
    assert (loss(2 * sse, kl, _setting(name)) > loss(sse, kl, _setting(name))).all()


def test_constant_is_eq_3() -> None:
    sse, kl = _pair()
    expected = sse / (2 * 0.2) + 0.7 * kl
    torch.testing.assert_close(objectives.constant(sse, kl, _setting("constant")), expected)


def test_optimal_is_eq_6() -> None:
    sse, kl = _pair()
    expected = 12 / 2 * ((2 * math.pi * sse / 12).log() + 1) + 0.7 * kl
    torch.testing.assert_close(objectives.optimal(sse, kl, _setting("optimal")), expected)


def test_the_optimal_variance_is_the_best_one() -> None:
    sse, kl = _pair()
    best = objectives.optimal(sse, kl, _setting("optimal"))
    for factor in (0.5, 0.99, 1.01, 2):
        other = objectives.gaussian_nll(sse, factor * sse / 12, 12) + 0.7 * kl
        assert (best < other).all()


def test_optimal_stays_finite_at_a_perfect_reconstruction() -> None:
    sse = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    loss = objectives.optimal(sse, torch.zeros(3), _setting("optimal")).sum()
    loss.backward()
    assert loss.isfinite()
    assert sse.grad is not None
    assert sse.grad.isfinite().all()


def test_eq_5_beta_and_variance_are_one_number() -> None:
    """The gradient of L_beta at variance C is beta times that of -ELBO at variance beta C."""
    for beta, c in ((0.01, 0.5), (3.0, 0.02), (100.0, 1.0)):
        sse, kl = (value.requires_grad_() for value in _pair())
        weighted = objectives.constant(sse, kl, _setting("constant", beta, c)).sum()
        negative_elbo = (objectives.gaussian_nll(sse, torch.tensor(beta * c), 12) + kl).sum()
        left = torch.autograd.grad(weighted, (sse, kl))
        right = torch.autograd.grad(negative_elbo, (sse, kl))
        for a, b in zip(left, right, strict=True):
            torch.testing.assert_close(a, beta * b, rtol=1e-7, atol=0)


def test_gaussian_nll_against_torch() -> None:
    x = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sigma2 = torch.tensor(0.3, dtype=torch.float64)
    expected = -Independent(Normal(torch.zeros_like(x), sigma2.sqrt()), 1).log_prob(x)
    torch.testing.assert_close(objectives.gaussian_nll(x.square().sum(1), sigma2, 12), expected)


def test_kl_against_torch() -> None:
    generator = torch.Generator().manual_seed(2)
    mean, log_var = torch.randn(2, 6, 4, dtype=torch.float64, generator=generator).unbind(0)
    posterior = Independent(Normal(mean, (log_var / 2).exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    expected = kl_divergence(posterior, prior)
    torch.testing.assert_close(objectives.kl_divergence(mean, log_var), expected)
