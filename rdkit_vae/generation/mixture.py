"""The rung `mixture`: Gaussians with full covariances, fitted by scikit-learn."""

import warnings
from functools import cached_property
from typing import Any

import numpy as np

from rdkit_vae.scoring.cross_entropy import Posteriors, fit_gaussian, has_collapsed
from rdkit_vae.scoring.statistics import Array

_MOST_COMPONENTS = 32
_POSTERIORS_PER_LATENT = 10  # that a component needs at least, or its covariance fits noise
_ITERATIONS, _LEAST_GAIN = 100, 0.01  # nats per latent vector; a fit ends below that
_LEAST_VARIANCE = 1e-6  # relative to the variance of all latents; added to every component


class GaussianMixture:
    """A mixture of Gaussians, as `scoring.priors.Prior` asks for."""

    is_bound = False

    def __init__(self, weights: Array, means: Array, covariances: Array, note: str = "") -> None:
        self.weights = weights  # (K,)
        self.means = means  # (K, L)
        self.covariances = covariances  # (K, L, L)
        self.note = note

    @property
    def components(self) -> int:
        """K."""
        return len(self.weights)

    @cached_property
    def _factors(self) -> Array:
        return np.asarray(np.linalg.cholesky(self.covariances), np.float64)

    def log_density(self, z: Array, rng: np.random.Generator | None = None) -> Array:
        """(n,) log densities of (n, L) latents, nats."""
        from scipy.linalg import solve_triangular
        from scipy.special import logsumexp

        logs = np.empty((len(z), self.components))
        for k, (mean, factor) in enumerate(zip(self.means, self._factors, strict=True)):
            white = solve_triangular(factor, (z - mean).T, lower=True)
            peak = np.log(self.weights[k]) - np.log(np.diagonal(factor)).sum()
            logs[:, k] = peak - np.square(white).sum(axis=0) / 2
        density: Array = logsumexp(logs, axis=1) - z.shape[1] * np.log(2 * np.pi) / 2
        return density

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """Draws (count, L) latents."""
        chosen = rng.choice(self.components, count, p=self.weights)
        noise = rng.standard_normal((count, self.means.shape[1]))
        z = self.means[chosen]
        for k in range(self.components):
            z[chosen == k] += noise[chosen == k] @ self._factors[k].T
        return z


def fit_mixture(posteriors: Posteriors, rng: np.random.Generator) -> GaussianMixture:
    """Fits a mixture to one draw from each posterior, by expectation maximisation.

    The number of components is 1, 2, 4, ... up to 32: the last that makes the draws of every fifth
    posterior, left out for that, likelier. There are at most so many that each has ten posteriors
    per latent. A single one is the Gaussian of all posteriors, in closed form.
    """
    n, latents = posteriors.mean.shape
    most = max(1, min(_MOST_COMPONENTS, n // (_POSTERIORS_PER_LATENT * latents)))
    z, seed = posteriors.draw(rng), int(rng.integers(2**31))
    left_out = np.arange(n) % 5 == 4
    components, best = 1, -np.inf
    while components <= most and n > 5 and not has_collapsed(posteriors):
        likelihood = float(_fit(z[~left_out], components, seed).score(z[left_out]))
        if likelihood <= best:
            break
        components, best = 2 * components, likelihood
    if components <= 2:
        one = fit_gaussian(posteriors)
        return GaussianMixture(np.ones(1), one.mean[None], one.covariance[None], one.note)
    fit = _fit(z, components // 2, seed)
    note = "" if fit.converged_ else f"not converged after {_ITERATIONS} iterations"
    return GaussianMixture(fit.weights_, fit.means_, fit.covariances_, note)


def _fit(z: Array, components: int, seed: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Fit

    fit = Fit(
        components,
        covariance_type="full",
        reg_covar=_LEAST_VARIANCE * float(z.var()),
        max_iter=_ITERATIONS,
        tol=_LEAST_GAIN,
        init_params="k-means++",
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the note says so
        return fit.fit(z)
