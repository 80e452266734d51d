"""The rung `two-stage`: a second VAE, whose data are the latents of the first."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rdkit_vae.scoring.cross_entropy import Gaussian, Posteriors
from rdkit_vae.scoring.statistics import Array

_WIDTH, _STEPS, _BATCH, _RATE = 128, 2000, 256, 2e-3


class SecondStage(nn.Module):
    """A VAE of vectors w in R^L: w ~ N(decode(u), s2 I) with one trained s2, u ~ N(0, I) in R^L."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.encoder = _perceptron(latents, 2 * latents)
        self.decoder = _perceptron(latents, latents)
        self.log_sigma2 = nn.Parameter(torch.tensor(-3.0))  # so that it does not collapse early

    def elbo(self, w: Tensor, noise: Tensor) -> Tensor:
        """A lower bound of log p(w) by one draw, (n,) nats, of (n, L) vectors."""
        mean, log_var = self.encoder(w).chunk(2, dim=1)
        u = mean + (log_var / 2).exp() * noise
        sse = (w - self.decoder(u)).square().sum(dim=1)
        normaliser = w.shape[1] * (self.log_sigma2 + math.log(2 * math.pi))
        likelihood = -(sse * (-self.log_sigma2).exp() + normaliser) / 2
        kl = (mean.square() + log_var.exp() - log_var - 1).sum(dim=1) / 2
        elbo: Tensor = likelihood - kl
        return elbo

    def sample(self, u: Tensor, noise: Tensor) -> Tensor:
        """Vectors (n, L) from standard normal numbers, (n, L) each."""
        mean: Tensor = self.decoder(u)
        return mean + (self.log_sigma2 / 2).exp() * noise


class TwoStagePrior:
    """The second VAE, as `scoring.priors.Prior` asks for; it sees the latents whitened."""

    components, is_bound, note = 1, True, ""

    def __init__(self, whitening: Gaussian, vae: SecondStage) -> None:
        self._whitening, self._vae = whitening, vae

    def log_density(self, z: Array, rng: np.random.Generator) -> Array:
        """Lower bounds of the log densities of (n, L) latents, (n,) nats: ELBOs by one draw."""
        w = self._whitening.whitened(z)
        with torch.no_grad():
            elbo: Array = self._vae.elbo(_tensor(w), _normal(w.shape, rng)).double().numpy()
        return elbo - self._whitening.log_volume

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """Draws (count, L) latents."""
        shape = (count, len(self._whitening.mean))
        with torch.no_grad():
            w = self._vae.sample(_normal(shape, rng), _normal(shape, rng))
        return self._whitening.coloured(w.double().numpy())


def fit_two_stage(
    posteriors: Posteriors,
    rng: np.random.Generator,
    *,
    whitening: Gaussian,
) -> TwoStagePrior:
    """Trains the second VAE on draws of the posteriors.

    Source: Dai and Wipf 2019, section 4; the latents are whitened first, so that it starts close
    to the Gaussian.

    Args:
        posteriors: to fit to.
        rng: makes the weights and the draws.
        whitening: a Gaussian fitted to them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        vae = SecondStage(len(whitening.mean))
    with _one_thread():
        _train(vae, lambda: whitening.whitened(posteriors[_rows(rng, posteriors)].draw(rng)), rng)
    return TwoStagePrior(whitening, vae.requires_grad_(False))


def _train(vae: SecondStage, draw: Callable[[], Array], rng: np.random.Generator) -> None:
    """Maximises the ELBO of vectors that are drawn anew for each step."""
    networks = [*vae.encoder.parameters(), *vae.decoder.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": networks},
        {"params": [vae.log_sigma2], "lr": 10 * _RATE},  # one number, which has far to go
    ]
    optimiser = torch.optim.Adam(groups, lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    for _ in range(_STEPS):
        w = draw()
        loss = -vae.elbo(_tensor(w), _normal(w.shape, rng)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def _rows(rng: np.random.Generator, posteriors: Posteriors) -> "np.ndarray[Any, Any]":
    return rng.integers(len(posteriors), size=_BATCH)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread meanwhile: the products are so small that several only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, _WIDTH),
        nn.SiLU(),
        nn.Linear(_WIDTH, _WIDTH),
        nn.SiLU(),
        nn.Linear(_WIDTH, outputs),
    )


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
