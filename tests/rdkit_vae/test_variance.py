import math

import pytest
import torch

from rdkit_vae.models.variance import VARIANCES, student_of, trained_terms, variance_of


@pytest.mark.parametrize("name", VARIANCES)
def test_a_variance_starts_at_one_and_never_falls_below_its_floor(name: str) -> None:
    module = VARIANCES[name](4, 1e-3)
    z = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    sigma2 = module(z)[..., 0] if name == "student" else module(z)
    torch.testing.assert_close(sigma2, torch.full((7,), 1.001))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(-3.0)
    sigma2 = module(z)[..., 0] if name == "student" else module(z)
    assert (sigma2 >= 1e-3).all()
    # At the floor there is still a way back.
    sigma2.sum().backward()
    assert any(float(p.grad.abs().max()) > 0 for p in module.parameters() if p.grad is not None)


def test_only_the_variance_of_an_image_depends_on_z() -> None:
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    for name, module in ((name, kind(4, 1e-6)) for name, kind in VARIANCES.items()):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.1)
        assert (len(module(z).unique(dim=0)) > 1) == (name == "image")


def test_a_student_t_has_a_scale_and_degrees_of_freedom_but_no_variance() -> None:
    model = torch.nn.Module()
    model.variance = VARIANCES["student"](4, 1e-3)
    with torch.no_grad():
        model.variance.scaled_log.fill_(-0.2)
        model.variance.scaled_log_nu.fill_(0.1)
    terms = trained_terms(model, torch.zeros(5, 4))
    assert terms is not None
    torch.testing.assert_close(terms, torch.tensor([1e-3 + math.exp(-2), math.e]).expand(5, 2))
    assert student_of(model) == pytest.approx((1e-3 + math.exp(-2), math.e))
    assert variance_of(model, torch.zeros(5, 4)) is None


def test_a_network_without_a_variance_has_none() -> None:
    assert variance_of(torch.nn.Linear(2, 2), torch.zeros(1, 2)) is None
