import pytest
import torch

from rdkit_vae.models.variance import VARIANCES, variance_of


@pytest.mark.parametrize("name", VARIANCES)
def test_a_variance_starts_at_one_and_never_falls_below_its_floor(name: str) -> None:
    module = VARIANCES[name](4, 1e-3)
    z = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    assert module(z).shape == (7,)
    torch.testing.assert_close(module(z), torch.full((7,), 1.001))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(-3.0)
    sigma2 = module(z)
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
        assert (len(module(z).unique()) > 1) == (name == "image")


def test_a_network_without_a_variance_has_none() -> None:
    assert variance_of(torch.nn.Linear(2, 2), torch.zeros(1, 2)) is None
