import math
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from rdkit_vae import make_trial
from rdkit_vae.models import ARCHITECTURES, VAE
from rdkit_vae.objectives import losses as objectives
from rdkit_vae.objectives.losses import OBJECTIVES, Setting
from rdkit_vae.scoring.student import student_nll
from rdkit_vae.training.state import build_model

SETTING = Setting(beta=0.7, dims=12, floor=1e-6)


def _loss(name: str, sse: Tensor, kl: Tensor, setting: Setting = SETTING) -> Tensor:
    """With a decoder variance of 0.2 where the objective is given one."""
    sigma2 = 0.2 if OBJECTIVES[name].has_sigma2 else torch.full_like(sse, 0.2)
    if name == "student":
        sigma2 = torch.stack([torch.full_like(sse, 0.2), torch.full_like(sse, 3.0)], dim=-1)
    return OBJECTIVES[name].loss(sse, kl, sigma2, setting)


def _pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 8, generator=generator, dtype=torch.float64).add(0.1).unbind(0)  # type: ignore[return-value]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_rate_counts_beta_times(name: str) -> None:
    sse, kl = _pair()
    difference = _loss(name, sse, kl + 1) - _loss(name, sse, kl)
    assert difference.shape == sse.shape
    torch.testing.assert_close(difference, torch.full_like(sse, 0.7))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_larger_error_costs_more(name: str) -> None:
    sse, kl = _pair()
    assert (_loss(name, 2 * sse, kl) > _loss(name, sse, kl)).all()


def test_constant_is_eq_3() -> None:
    sse, kl = _pair()
    torch.testing.assert_close(_loss("constant", sse, kl), sse / (2 * 0.2) + 0.7 * kl)


def test_optimal_is_eq_6() -> None:
    sse, kl = _pair()
    expected = 12 / 2 * ((2 * math.pi * sse / 12).log() + 1) + 0.7 * kl
    torch.testing.assert_close(_loss("optimal", sse, kl), expected)


def test_student_is_minus_its_log_density() -> None:
    sse, kl = _pair()
    expected = student_nll(sse.numpy(), 12, 3.0, 0.2) + 0.7 * kl.numpy()
    np.testing.assert_allclose(_loss("student", sse, kl), expected, rtol=1e-14)


def test_bs_vae_is_the_limit_of_a_student_t_decoder() -> None:
    """As nu falls, its gradients become those of `optimal`, to first order in nu."""
    trial = make_trial("npz:made", architecture="mlp", latents=3, objective="student", seed=3)
    model = cast(VAE, build_model(trial, (1, 3, 4)))
    x = torch.rand(6, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    mean, log_var = model.encode(x)
    sse = (x - model.decode(mean)).square().flatten(1).sum(dim=1)
    kl = objectives.kl_divergence(mean, log_var)
    weights = [w for name, w in model.named_parameters() if not name.startswith("variance")]
    limit = _gradient(OBJECTIVES["optimal"].loss(sse, kl, None, SETTING).mean(), weights)
    distances = []
    for nu in (1.0, 0.1, 0.01, 1e-6):
        terms = torch.tensor([0.2, nu]).expand(6, 2)
        found = _gradient(OBJECTIVES["student"].loss(sse, kl, terms, SETTING).mean(), weights)
        distances.append(float((found - limit).norm() / limit.norm()))
    assert distances[0] > 0.01
    assert distances[1] / distances[2] == pytest.approx(10, rel=0.2)
    assert distances[3] < 1e-5


def test_optimal_of_the_reference_has_1e_5_inside_the_logarithm() -> None:
    """Its gradient is that of 1/(mse + 1.6e-6), so it is finite at sse = 0."""
    sse, kl = torch.tensor([0.0, 1e-7, 3.0], dtype=torch.float64, requires_grad=True), torch.ones(3)
    trial = make_trial("mnist", protocol="paper", beta=0.3)
    loss = OBJECTIVES["optimal"].loss(sse, kl, None, trial.setting(9))
    expected = 9 / 2 * (torch.log(2 * math.pi * sse / 9 + 1e-5) + 1) + 0.3
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss.sum(), sse)
    torch.testing.assert_close(gradient, 0.5 / (sse.detach() / 9 + 1e-5 / (2 * math.pi)))


def test_optimal_batch_is_eq_6_on_the_mean_over_batch_and_pixels() -> None:
    sse, kl = _pair()
    expected = 12 / 2 * ((2 * math.pi * sse.mean() / 12).log() + 1) + 0.7 * kl.mean()
    torch.testing.assert_close(_loss("optimal-batch", sse, kl).mean(), expected)


@pytest.mark.parametrize("name", ["learned", "learned-image"])
def test_learned_is_minus_the_log_density_at_its_variance(name: str) -> None:
    sse, kl = _pair()
    sigma2 = torch.rand(8, dtype=torch.float64) + 0.1
    found = OBJECTIVES[name].loss(sse, kl, sigma2, SETTING)
    residual = torch.zeros(8, 12, dtype=torch.float64)
    residual[:, 0] = sse.sqrt()
    density = Independent(Normal(residual, sigma2.sqrt()[:, None]), 1)
    torch.testing.assert_close(found, 0.7 * kl - density.log_prob(torch.zeros_like(residual)))


def test_no_variance_beats_the_batch_one_and_that_never_beats_one_an_image() -> None:
    sse, kl = _pair()
    image, batch = (_loss(name, sse, kl).mean() for name in ("optimal", "optimal-batch"))
    assert image < batch
    for factor in (0.5, 0.99, 1.01, 2):
        other = objectives.gaussian_nll(sse, factor * sse.mean() / 12, 12) + 0.7 * kl
        assert batch < other.mean()


def test_the_optimal_variance_is_the_best_one() -> None:
    sse, kl = _pair()
    best = _loss("optimal", sse, kl)
    for factor in (0.5, 0.99, 1.01, 2):
        other = objectives.gaussian_nll(sse, factor * sse / 12, 12) + 0.7 * kl
        assert (best < other).all()


@pytest.mark.parametrize("name", ["optimal", "optimal-batch"])
def test_a_perfect_reconstruction_is_finite(name: str) -> None:
    sse = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    loss = _loss(name, sse, torch.zeros(3)).sum()
    loss.backward()
    assert loss.isfinite()
    assert sse.grad is not None
    assert sse.grad.isfinite().all()


def _terms(architecture: str, seed: int) -> tuple[Tensor, Tensor, list[nn.Parameter]]:
    """sse and kl of a random network in float64 on random images, and its parameters."""
    trial = make_trial("digits", architecture=architecture, latents=3, seed=seed)
    module = build_model(trial, (1, 8, 8)).double()
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(6, 1, 8, 8, generator=generator, dtype=torch.float64)
    model = cast(VAE, module)
    mean, log_var = model.encode(x)
    noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
    decoded = model.decode(mean + (log_var / 2).exp() * noise)
    sse = (x - decoded).square().flatten(1).sum(1)
    return sse, objectives.kl_divergence(mean, log_var), list(module.parameters())


def _gradient(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    found = torch.autograd.grad(loss, parameters, retain_graph=True)
    return torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("beta", "c"), [(0.01, 0.5), (3.0, 0.02), (100.0, 1.0), (1e-4, 7.0)])
def test_eq_5_beta_and_variance_are_one_number(architecture: str, beta: float, c: float) -> None:
    """The gradient of L_beta at variance C is beta times that of -ELBO at variance beta C."""
    sse, kl, parameters = _terms(architecture, seed=int(beta * 100))
    setting = Setting(beta=beta, dims=64, floor=1e-6)
    weighted = _gradient(OBJECTIVES["constant"].loss(sse, kl, c, setting).mean(), parameters)
    variance = torch.tensor(beta * c, dtype=torch.float64)
    negative_elbo = (objectives.gaussian_nll(sse, variance, 64) + kl).mean()
    expected = beta * _gradient(negative_elbo, parameters)
    assert expected.norm() > 0
    assert (weighted - expected).norm() < 1e-11 * expected.norm()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("beta", [0.01, 1.0, 50.0])
def test_a_shared_variance_has_the_gradients_of_beta_const(architecture: str, beta: float) -> None:
    """DESIGN 1, invariant 3: beta_const = 2 beta s2*, up to the factor 1/(2 s2*) of the loss."""
    sse, kl, parameters = _terms(architecture, seed=5)
    setting = Setting(beta=beta, dims=64, floor=1e-6)
    ours = _gradient(OBJECTIVES["optimal-batch"].loss(sse, kl, None, setting).mean(), parameters)
    s2 = sse.mean().item() / 64
    constant = Setting(beta=2 * beta * s2, dims=64, floor=1e-6)
    theirs = _gradient(OBJECTIVES["constant"].loss(sse, kl, 0.5, constant).mean(), parameters)
    assert (ours - theirs / (2 * s2)).norm() < 1e-11 * ours.norm()
    # A variance for each image weights the images otherwise.
    other = _gradient(OBJECTIVES["optimal"].loss(sse, kl, None, setting).mean(), parameters)
    assert (other - ours).norm() > 1e-4 * ours.norm()


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
