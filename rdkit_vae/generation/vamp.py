"""The rung `vamp`: a mixture of posteriors at learned inputs (VampPrior)."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rdkit_vae.scoring.cross_entropy import Posteriors
from rdkit_vae.scoring.statistics import Array

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]

_MOST_INPUTS, _IMAGES_PER_INPUT = 100, 10
_STEPS, _BATCH, _RATE = 200, 1024, 0.01


class VampPrior:
    """(1/K) sum_k q(z|u_k), as `scoring.priors.Prior` asks for."""

    is_bound, note = False, ""

    def __init__(self, mean: Tensor, log_var: Tensor) -> None:
        self._mean, self._log_var = mean, log_var  # (K, L) float64, of the posteriors at the inputs

    @property
    def components(self) -> int:
        """K."""
        return len(self._mean)

    def log_density(self, z: Array, rng: np.random.Generator | None = None) -> Array:
        """(n,) log densities of (n, L) latents, nats."""
        density: Array = _log_density(torch.from_numpy(z), self._mean, self._log_var).numpy()
        return density

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """Draws (count, L) latents."""
        chosen = rng.integers(self.components, size=count)
        deviation = (self._log_var / 2).exp().numpy()[chosen]
        z: Array = self._mean.numpy()[chosen] + deviation * rng.standard_normal(deviation.shape)
        return z


def fit_vamp(
    posteriors: Posteriors,
    rng: np.random.Generator,
    *,
    encode: Encode,
    x: Tensor,
) -> VampPrior:
    """Learns the inputs that make the posteriors likeliest; the encoder stays as it is.

    Source: Tomczak and Welling 2018, Eq. 9-10, here for a model that is trained already.

    Args:
        posteriors: to fit to.
        rng: makes the draws.
        encode: maps (B, C, H, W) images in [0, 1] to the mean and log variance, (B, L) each.
        x: (n, C, H, W) the images of the posteriors, on the model's device; some are where the
            inputs start.
    """
    count = max(1, min(_MOST_INPUTS, len(x) // _IMAGES_PER_INPUT))
    start = np.linspace(0, len(x) - 1, count).round().astype(np.int64)
    inputs = x[torch.from_numpy(start)].clone().requires_grad_()
    optimiser = torch.optim.Adam([inputs], lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    for _ in range(_STEPS):
        rows = rng.integers(len(posteriors), size=_BATCH)
        z = torch.from_numpy(posteriors[rows].draw(rng)).to(inputs)
        loss = -_log_density(z, *encode(inputs.clamp(0, 1))).mean()
        (inputs.grad,) = torch.autograd.grad(loss, [inputs])
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        mean, log_var = encode(inputs.clamp(0, 1))
    return VampPrior(mean.detach().double().cpu(), log_var.detach().double().cpu())


def _log_density(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log (1/K) sum_k N(z; mean_k, diag exp(log_var_k)): (n, L), (K, L), (K, L) to (n,)."""
    precision = (-log_var).exp()
    centre = mean.mean(dim=0)
    z, mean = z - centre, mean - centre  # against rounding in the products
    weighted = mean * precision
    square = z.square() @ precision.T - 2 * z @ weighted.T + (mean * weighted).sum(dim=1)
    peak = -(log_var + math.log(2 * math.pi)).sum(dim=1) / 2
    return (peak - square.clamp_min(0) / 2).logsumexp(dim=1) - math.log(len(mean))
