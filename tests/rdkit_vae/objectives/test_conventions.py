"""Each convention is written out in torch, and its gradient compared with what it decodes to."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rdkit_vae.errors import BadInput
from rdkit_vae.objectives.conventions import CONVENTIONS, LOSSES, DecodedLoss, decode_loss
from rdkit_vae.objectives.losses import Setting, constant, gaussian_nll, kl_divergence

BATCH, DIMS, LATENTS, STEPS = 6, 12288, 4, 2
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """By hand, (B, L)."""
    return -0.5 * (1 + log_var - mean.pow(2) - log_var.exp())


def _perceptual(x: Tensor, y: Tensor) -> Tensor:
    """Any distance of features that are not linear in the pixels, (B,)."""
    weights = torch.randn(DIMS, 8, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    return ((x @ weights / 100).tanh() - (y @ weights / 100).tanh()).square().mean(1)


def _signed(pixels: Tensor) -> Tensor:
    """The same pixels in [-1, 1]."""
    return 2 * pixels - 1


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
    "no-half": lambda x, y, m, v: (
        F.mse_loss(y, x, reduction="sum") + (m**2 + v.exp() - v - 1).sum()
    ),
    "mean-time": lambda x, y, m, v: (
        (x - y).pow(2).sum(1) + _kl(m, v).view(BATCH, STEPS, -1).sum(2).mean(1)
    ).mean(),
    "tanh-mean": lambda x, y, m, v: F.mse_loss(_signed(y), _signed(x)) + _kl(m, v).sum(1).mean(),
    "bce-sum": lambda x, y, m, v: F.binary_cross_entropy(y, x, reduction="sum") + _kl(m, v).sum(),
    "bce-mean": lambda x, y, m, v: F.binary_cross_entropy(y, x) + _kl(m, v).sum(1).mean(),
    "l1-sum": lambda x, y, m, v: F.l1_loss(y, x, reduction="sum") + _kl(m, v).sum(),
    "l1-mean": lambda x, y, m, v: F.l1_loss(y, x) + _kl(m, v).sum(1).mean(),
    "ldm-l1": lambda x, y, m, v: (
        (_signed(x) - _signed(y)).abs().sum() / len(x) + 1e-6 * _kl(m, v).sum() / len(x)
    ),
    "ldm": lambda x, y, m, v: (
        ((_signed(x) - _signed(y)).abs() + _perceptual(x, y)[:, None]).sum() / len(x)
        + 1e-6 * _kl(m, v).sum() / len(x)
    ),
    "mse-lpips": lambda x, y, m, v: (
        F.mse_loss(y, x) + _perceptual(x, y).mean() + 1e-6 * _kl(m, v).sum(1).mean()
    ),
}
# Reconstructions that are no likelihood, per image.
RECONSTRUCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ldm": lambda x, y: 2 * (x - y).abs().sum(1) + DIMS * _perceptual(x, y),
    "mse-lpips": lambda x, y: (x - y).square().mean(1) + _perceptual(x, y),
}
_LIKELIHOODS = {
    name: LOSSES[str(convention.arguments.get("loss", "squared"))]
    for name, convention in CONVENTIONS.items()
}
WITH_SCALE = [name for name, kind in _LIKELIHOODS.items() if kind in ("gaussian", "laplace")]
PERCEPTUAL = [name for name, kind in _LIKELIHOODS.items() if kind == "none"]
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


def _laplace(beta: float, scale: float) -> Loss:
    def loss(x: Tensor, y: Tensor, m: Tensor, v: Tensor) -> Tensor:
        nll = -torch.distributions.Laplace(y, scale).log_prob(x).sum(1)
        return (nll + beta * kl_divergence(m, v)).mean()

    return loss


def _bernoulli(beta: float) -> Loss:
    def loss(x: Tensor, y: Tensor, m: Tensor, v: Tensor) -> Tensor:
        # Not checked for being 0 or 1: the loss is used with grey pixels too.
        nll = -torch.distributions.Bernoulli(y, validate_args=False).log_prob(x).sum(1)
        return (nll + beta * kl_divergence(m, v)).mean()

    return loss


def _as_written(reconstruction: Callable[[Tensor, Tensor], Tensor], beta: float) -> Loss:
    return lambda x, y, m, v: (reconstruction(x, y) + beta * kl_divergence(m, v)).mean()


def _form(name: str, loss: DecodedLoss, times: float = 1.0) -> Loss:
    """What a convention decodes to, with `times` its beta."""
    beta = times * loss.beta
    if loss.sigma2 is not None:
        return _decoded(beta, loss.sigma2)
    if loss.scale is not None:
        return _laplace(beta, loss.scale)
    if loss.likelihood == "bernoulli":
        return _bernoulli(beta)
    return _as_written(RECONSTRUCTIONS[name], beta)


def _convention(name: str) -> DecodedLoss:
    sizes = {"dims": DIMS, "latents": LATENTS, "steps": STEPS}
    return decode_loss(**{**sizes, **CONVENTIONS[name].arguments})  # type: ignore[arg-type]


def test_every_convention_is_written_out() -> None:
    assert WRITTEN.keys() == CONVENTIONS.keys()
    assert RECONSTRUCTIONS.keys() == set(PERCEPTUAL)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_convention_has_the_gradients_of_what_it_decodes_to(name: str) -> None:
    decoded, written = _convention(name), _gradients(WRITTEN[name])
    assert _same_direction(written, _gradients(_form(name, decoded)))
    # The KL of a weight of 1e-6 is a small part of the gradient, so look at it by itself.
    kl_part = slice(BATCH * DIMS, None)
    changed = _gradients(_form(name, decoded, times=1.1))[kl_part]
    scale = written[: BATCH * DIMS].norm() / _gradients(_form(name, decoded))[: BATCH * DIMS].norm()
    torch.testing.assert_close(changed * scale, 1.1 * written[kl_part])


@pytest.mark.parametrize("name", WITH_SCALE)
def test_weights_are_those_that_are_written(name: str) -> None:
    """Nothing is scaled in silence, once the sum over a batch is divided by its images."""
    images = BATCH if name in ("sum-sum", "no-half", "l1-sum") else 1
    written = _gradients(WRITTEN[name]) / images
    torch.testing.assert_close(written, _gradients(_form(name, _convention(name))))


@pytest.mark.parametrize("name", WITH_SCALE)
def test_training_sees_the_product_only(name: str) -> None:
    decoded, written = _convention(name), _gradients(WRITTEN[name])
    if decoded.sigma2 is None:
        assert decoded.beta_at_half is None
        assert _same_direction(written, _gradients(_laplace(1, decoded.product)))
        return
    assert decoded.product == pytest.approx(decoded.beta * decoded.sigma2, rel=1e-15)
    assert decoded.beta_at_half is not None
    assert _same_direction(written, _gradients(_decoded(decoded.beta_at_half, 0.5)))
    assert _same_direction(written, _gradients(_negative_elbo(decoded.product)))


@pytest.mark.parametrize("name", PERCEPTUAL)
def test_a_perceptual_loss_has_the_gradients_of_no_likelihood_of_pixels(name: str) -> None:
    decoded = _convention(name)
    assert (decoded.sigma2, decoded.scale, decoded.is_elbo) == (None, None, False)
    pixels = slice(0, BATCH * DIMS)
    written = _gradients(WRITTEN[name])[pixels]
    for likelihood in (_decoded(1, 0.5), _laplace(1, 1), _bernoulli(1)):
        assert not _same_direction(written, _gradients(likelihood)[pixels])


def test_every_loss_has_a_convention() -> None:
    losses = {convention.arguments.get("loss", "squared") for convention in CONVENTIONS.values()}
    assert losses == set(LOSSES)


@pytest.mark.parametrize("loss", ["squared", "absolute"])
def test_pixels_in_another_range_change_the_scale_alone(loss: str) -> None:
    plain = decode_loss(loss=loss, reconstruction="sum")
    signed = decode_loss(loss=loss, reconstruction="sum", pixel_range=(-1, 1))
    bytes_ = decode_loss(loss=loss, reconstruction="sum", pixel_range=(0, 255))
    power = 2 if loss == "squared" else 1
    assert plain.product / signed.product == 2**power
    assert plain.product / bytes_.product == pytest.approx(255**power, rel=1e-12)
    assert plain.beta == signed.beta == bytes_.beta


def test_a_factor_of_the_kl_is_a_weight() -> None:
    weighted = decode_loss(dims=DIMS, kl="weight:0.3")
    assert decode_loss(dims=DIMS, kl="sum", kl_factor=0.3) == weighted


@pytest.mark.parametrize(("reconstruction", "kl"), OVER_THE_BATCH)
def test_reductions_over_the_batch(reconstruction: str, kl: str) -> None:
    found = decode_loss(
        reconstruction=reconstruction, kl=kl, dims=DIMS, latents=LATENTS, batch=BATCH
    )
    written = _gradients(OVER_THE_BATCH[reconstruction, kl])
    assert found.sigma2 is not None
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
        {},
        {"loss": "huber", "dims": 4},
        {"dims": 4, "kl": "mean-time"},
        {"dims": 4, "kl_factor": 0},
        {"dims": 4, "pixel_range": (1, -1)},
        {"dims": 4, "pixel_range": (0, float("nan"))},
        {"dims": 4, "loss": "cross-entropy", "pixel_range": (-1, 1)},
    ],
)
def test_what_cannot_be_decoded_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        decode_loss(**arguments)  # type: ignore[arg-type]
