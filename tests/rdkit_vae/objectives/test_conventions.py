"""Each convention is written out in torch, and its gradient compared with what it decodes to."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rdkit_vae.errors import BadInput
from rdkit_vae.objectives.conventions import CONVENTIONS, decode_loss
from rdkit_vae.objectives.losses import Setting, constant, gaussian_nll, kl_divergence

BATCH, DIMS, LATENTS = 6, 12288, 4
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """By hand, (B, L)."""
    return -0.5 * (1 + log_var - mean.pow(2) - log_var.exp())


# As users write them: x, y (B, D), mean, log_var (B, L) to a number.
WRITTEN: dict[str, Loss] = {
    "bs-vae": lambda x, y, m, v: (x - y).pow(2).sum(1).mean() + 1 * _kl(m, v).sum(1).mean(),
    "kld-weight": lambda x, y, m, v: F.mse_loss(y, x) + 0.00025 * _kl(m, v).sum(1).mean(),
    "sum-sum": lambda x, y, m, v: F.mse_loss(y, x, reduction="sum") + _kl(m, v).sum(),
    "batch-mean": lambda x, y, m, v: (
        F.mse_loss(y, x, reduction="sum") / len(x) + _kl(m, v).sum(1).mean()
    ),
    "half-sum": lambda x, y, m, v: 0.5 * (x - y).pow(2).sum(1).mean() + _kl(m, v).sum(1).mean(),
    "mean-mean": lambda x, y, m, v: F.mse_loss(y, x) + _kl(m, v).mean(),
    "mean-sum": lambda x, y, m, v: F.mse_loss(y, x) + _kl(m, v).sum(1).mean(),
}
# The same with reductions that run over the batch as well.
OVER_THE_BATCH: dict[tuple[str, str], Loss] = {
    ("mean", "sum"): lambda x, y, m, v: F.mse_loss(y, x) + _kl(m, v).sum(),
    ("sum", "mean"): lambda x, y, m, v: F.mse_loss(y, x, reduction="sum") + _kl(m, v).mean(),
    ("sum", "sum"): lambda x, y, m, v: F.mse_loss(y, x, reduction="sum") + _kl(m, v).sum(),
    ("mean", "mean"): lambda x, y, m, v: F.mse_loss(y, x) + _kl(m, v).mean(),
    ("sum", "weight:0.3"): lambda x, y, m, v: (
        F.mse_loss(y, x, reduction="sum") + 0.3 * _kl(m, v).sum(1).mean()
    ),
    ("mean", "weight:0.3"): lambda x, y, m, v: F.mse_loss(y, x) + 0.3 * _kl(m, v).sum(1).mean(),
}


def _gradients(loss: Loss) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, BATCH, DIMS, generator=generator, dtype=torch.float64)
    m, v = torch.randn(2, BATCH, LATENTS, generator=generator, dtype=torch.float64)
    found = torch.autograd.grad(
        loss(x, y.requires_grad_(), m.requires_grad_(), v.requires_grad_()), (y, m, v)
    )
    return torch.cat([part.flatten() for part in found])


def _same_direction(one: Tensor, other: Tensor) -> bool:
    scaled = other * (one.norm() / other.norm())
    return bool((one - scaled).norm() < 1e-12 * one.norm())


def _decoded(beta: float, sigma2: float) -> Loss:
    def loss(x: Tensor, y: Tensor, m: Tensor, v: Tensor) -> Tensor:
        setting = Setting(beta=beta, dims=DIMS, floor=1e-6)
        return constant((x - y).square().sum(1), kl_divergence(m, v), sigma2, setting).mean()

    return loss


def _negative_elbo(sigma2: float) -> Loss:
    def loss(x: Tensor, y: Tensor, m: Tensor, v: Tensor) -> Tensor:
        variance = torch.tensor(sigma2, dtype=torch.float64)
        nll = gaussian_nll((x - y).square().sum(1), variance, DIMS)
        return (nll + kl_divergence(m, v)).mean()

    return loss


def test_every_convention_is_written_out() -> None:
    assert WRITTEN.keys() == CONVENTIONS.keys()


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_convention_has_the_gradients_of_what_it_decodes_to(name: str) -> None:
    arguments = {"dims": DIMS, "latents": LATENTS, **CONVENTIONS[name].arguments}
    found = decode_loss(**arguments)  # type: ignore[arg-type]
    written = _gradients(WRITTEN[name])
    assert found.product == pytest.approx(found.beta * found.sigma2, rel=1e-15)
    assert _same_direction(written, _gradients(_decoded(found.beta, found.sigma2)))
    assert _same_direction(written, _gradients(_decoded(found.beta_at_half, 0.5)))
    assert _same_direction(written, _gradients(_negative_elbo(found.product)))
    assert not _same_direction(written, _gradients(_decoded(1.1 * found.beta, found.sigma2)))
    # Taken per image, the weights are those that are written: nothing is scaled in silence.
    if name != "sum-sum":
        torch.testing.assert_close(written, _gradients(_decoded(found.beta, found.sigma2)))


@pytest.mark.parametrize(("reconstruction", "kl"), OVER_THE_BATCH)
def test_reductions_over_the_batch(reconstruction: str, kl: str) -> None:
    found = decode_loss(
        reconstruction=reconstruction, kl=kl, dims=DIMS, latents=LATENTS, batch=BATCH
    )
    written = _gradients(OVER_THE_BATCH[reconstruction, kl])
    assert _same_direction(written, _gradients(_decoded(found.beta, found.sigma2)))


def test_the_well_known_weight_of_0_00025_is_a_beta_of_3() -> None:
    found = decode_loss(reconstruction="mean", kl="weight:0.00025", dims=12288)
    assert (found.beta, found.sigma2) == (0.00025, 6144)
    assert found.beta_at_half == pytest.approx(3.072, rel=1e-12)
    assert not found.is_elbo


@pytest.mark.parametrize(
    "arguments",
    [
        {"dims": 0},
        {"dims": 4, "factor": -1},
        {"dims": 4, "factor": float("nan")},
        {"dims": 4, "kl": "mean"},
        {"dims": 4, "kl": "weight:0"},
        {"dims": 4, "kl": "none"},
        {"dims": 4, "reconstruction": "none"},
        {"dims": 4, "batch": 0},
    ],
)
def test_what_cannot_be_decoded_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        decode_loss(**arguments)  # type: ignore[arg-type]
