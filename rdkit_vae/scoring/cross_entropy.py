"""The rate of a trained model under any prior, and the priors that are Gaussian.

The rate against N(0, I) is what training weighs. What a latent costs under a prior r that fits the
posteriors better is the cross-entropy rate E_q[log q(z|x) - log r(z)]. Pure NumPy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from rdkit_vae.scoring.statistics import Array

_LOG_2PI = math.log(2 * math.pi)
_SINGULAR = 1e-10  # least over largest eigenvalue of a covariance that counts as regular
_COLLAPSED = 0.01  # nats per image of all latents together, below which they hold nothing
_ROWS = 4096  # posteriors whose draws are in memory at once


@dataclass(frozen=True)
class Posteriors:
    """Diagonal Gaussian posteriors of n images.

    Attributes:
        mean, variance: (n, L).
    """

    mean: Array
    variance: Array

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, rows: Any) -> "Posteriors":
        return Posteriors(self.mean[rows], self.variance[rows])

    def draw(self, rng: np.random.Generator) -> Array:
        """A draw from each, (n, L)."""
        return self.mean + np.sqrt(self.variance) * rng.standard_normal(self.mean.shape)

    @property
    def kl(self) -> Array:
        """KL(q(z|x) || N(0, I)) of each, (n,) nats."""
        terms = np.square(self.mean) + self.variance - np.log(self.variance) - 1
        kl: Array = terms.sum(axis=1) / 2
        return kl


class Prior(Protocol):
    """A density of latents.

    Attributes:
        components: of a mixture; 1 if it is none.
        is_bound: `log_density` is a lower bound, so the rate is at most what it says.
        note: what to know about the fit; empty: nothing.
    """

    @property
    def components(self) -> int: ...
    @property
    def is_bound(self) -> bool: ...
    @property
    def note(self) -> str: ...

    def log_density(self, z: Array, rng: np.random.Generator) -> Array:
        """Maps (n, L) latents to (n,) log densities in nats; `rng` for those that are estimates."""
        ...

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """Draws (count, L) latents."""
        ...


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """A Gaussian over L latents.

    Attributes:
        mean: (L,).
        covariance: (L, L), or (L,) variances of independent latents.
        note: what to know about the fit.
    """

    mean: Array
    covariance: Array
    note: str = ""

    components, is_bound = 1, False

    @cached_property
    def factor(self) -> Array:
        """The lower triangular C with C C' = covariance, (L, L), or deviations (L,)."""
        if self.covariance.ndim == 1:
            return np.asarray(np.sqrt(self.covariance))
        return np.asarray(np.linalg.cholesky(self.covariance), np.float64)

    def whitened(self, z: Array) -> Array:
        """(n, L) latents as N(0, I) would have them."""
        from scipy.linalg import solve_triangular

        if self.covariance.ndim == 1:
            return np.asarray((z - self.mean) / self.factor)
        white: Array = solve_triangular(self.factor, (z - self.mean).T, lower=True).T
        return white

    def coloured(self, white: Array) -> Array:
        """The inverse of `whitened`."""
        if self.covariance.ndim == 1:
            return np.asarray(self.mean + white * self.factor)
        return np.asarray(self.mean + white @ self.factor.T)

    @property
    def log_volume(self) -> float:
        """log det C."""
        diagonal = self.factor if self.covariance.ndim == 1 else np.diagonal(self.factor)
        return float(np.log(diagonal).sum())

    def log_density(self, z: Array, rng: np.random.Generator | None = None) -> Array:
        """(n,) log densities of (n, L) latents, nats."""
        square = np.square(self.whitened(z)).sum(axis=1)
        return np.asarray(-(square + z.shape[1] * _LOG_2PI) / 2 - self.log_volume)

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """Draws (count, L) latents."""
        return self.coloured(rng.standard_normal((count, len(self.mean))))

    def rate(self, posteriors: Posteriors) -> Array:
        """E_q[log q(z|x) - log r(z)] of each posterior in closed form, (n,) nats."""
        if self.covariance.ndim == 1:
            precision = 1 / self.covariance
        else:
            inverse = np.linalg.inv(self.factor)
            precision = np.square(inverse).sum(axis=0)  # the diagonal of the inverse covariance
        square = np.square(self.whitened(posteriors.mean)).sum(axis=1)
        terms = posteriors.variance @ precision - np.log(posteriors.variance).sum(axis=1)
        return np.asarray((square + terms - posteriors.mean.shape[1]) / 2 + self.log_volume)


def standard(latents: int) -> Gaussian:
    """N(0, I)."""
    return Gaussian(mean=np.zeros(latents), covariance=np.ones(latents))


def fit_per_unit(posteriors: Posteriors, units: Sequence[object]) -> Gaussian:
    """The Gaussian of independent latents that the posteriors cost least under.

    Args:
        posteriors: to fit to.
        units: (L,) a name per latent; latents of one name, such as the positions of a channel,
            share their mean and variance.
    """
    names = list(dict.fromkeys(units))
    place = {name: i for i, name in enumerate(names)}
    index = np.array([place[name] for name in units])
    count = np.bincount(index)
    centre = (np.bincount(index, posteriors.mean.mean(axis=0)) / count)[index]  # (L,)
    spread = np.square(posteriors.mean - centre).mean(axis=0) + posteriors.variance.mean(axis=0)
    return Gaussian(mean=centre, covariance=(np.bincount(index, spread) / count)[index])


def fit_gaussian(posteriors: Posteriors) -> Gaussian:
    """The Gaussian that the posteriors cost least under: mean and covariance of their mixture."""
    mean = posteriors.mean.mean(axis=0)
    centred = posteriors.mean - mean
    covariance = centred.T @ centred / len(posteriors) + np.diag(posteriors.variance.mean(axis=0))
    values = np.linalg.eigvalsh(covariance)
    notes = []
    if len(posteriors) <= len(mean):
        notes.append(f"{len(posteriors)} posteriors for {len(mean)} latents: badly determined")
    if values[0] < _SINGULAR * values[-1]:
        notes.append("degenerate: some direction of the latents hardly varies")
        covariance += np.diag(np.full(len(mean), _SINGULAR * values[-1]))
    return Gaussian(mean=mean, covariance=covariance, note="; ".join(notes))


def rate_under(
    prior: Prior, posteriors: Posteriors, control: Gaussian, *, draws: int, rng: np.random.Generator
) -> Array:
    """The cross-entropy rate E_q[log q(z|x) - log r(z)] of each posterior, (n,) nats.

    Exact under a Gaussian. Under any other prior, the difference from a Gaussian is averaged over
    draws, which varies much less than the rate itself and is unbiased.

    Args:
        prior: r.
        posteriors: of n images.
        control: a Gaussian close to r.
        draws: per image.
        rng: makes the draws.
    """
    if isinstance(prior, Gaussian):
        return prior.rate(posteriors)
    rate = control.rate(posteriors)
    for start in range(0, len(posteriors), _ROWS):
        rows = slice(start, start + _ROWS)
        part = posteriors[rows]
        for _ in range(draws):
            z = part.draw(rng)
            rate[rows] += (control.log_density(z) - prior.log_density(z, rng)) / draws
    return rate


def has_collapsed(posteriors: Posteriors) -> bool:
    """Whether all latents are the prior for every image, so that there is nothing to fit."""
    return float(posteriors.kl.mean()) < _COLLAPSED
