"""Ground truth: what is known in closed form of Gaussian data and linear VAEs.

Data x has covariance eigenvalues l_1 >= ... >= l_D (squared pixels); a linear VAE has q latents, a
weight beta and a decoder variance s2. tau = beta s2. Rates in nats, squared errors in squared
pixels, both per image.

Sources: Cover and Thomas, "Elements of Information Theory", 10.3.3 (reverse water-filling); Tipping
and Bishop 1999, "Probabilistic Principal Component Analysis"; Lucas et al. 2019, "Don't Blame the
ELBO!"; Beta-Sigma VAE.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from rdkit_vae.datasets.gaussian import EIGENVALUES
from rdkit_vae.errors import BadInput

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """Where a linear VAE must arrive.

    Attributes:
        sigma2: decoder variance, squared pixels; 0 where the loss falls without bound towards it.
        tau: beta sigma2, the water level.
        active: latents in use, those whose eigenvalue is above tau.
        rate, sse: of the posterior, nats and squared pixels per image.
        distortion, elbo: under `sigma2`, nats per image; infinite where that is 0.
    """

    sigma2: float
    tau: float
    active: int
    rate: float
    sse: float
    distortion: float
    elbo: float


def water_filling(eigenvalues: npt.ArrayLike, tau: float) -> tuple[float, float]:
    """Rate and squared error of the Gaussian's rate-distortion function at the water level tau.

    Raises:
        BadInput: tau is not positive.
    """
    values = _checked(eigenvalues)
    if not tau > 0:
        raise BadInput(f"tau must be positive, got {tau}")
    return _rate(values, tau), float(np.minimum(values, tau).sum())


def rate_distortion(eigenvalues: npt.ArrayLike, sse: float) -> float:
    """R(D) of a Gaussian: the fewest nats that leave an expected squared error of `sse`.

    Reverse water-filling, exact: with k components above the water, tau = (sse - the rest) / k.

    Raises:
        BadInput: sse is not positive.
    """
    values = _checked(eigenvalues)
    if not sse > 0:
        raise BadInput(f"sse must be positive, got {sse}")
    if sse >= values.sum():
        return 0.0
    rest = np.cumsum(values[::-1])[::-1] - values  # (D,): at k-1 the sum of all but the first k
    levels = (sse - rest) / np.arange(1, len(values) + 1)
    # The water stands at the only level that keeps exactly its own k components dry.
    k = int(np.flatnonzero(values > levels)[-1]) + 1
    return _rate(values[:k], float(levels[k - 1]))


def gaussian_curve(dataset: str, points: int = 400) -> pd.DataFrame | None:
    """The rate-distortion function of a dataset whose covariance is known; None for all others.

    Returns:
        `rate` (nats, rising from 0) and `sse` (squared pixels), per image.
    """
    if dataset != "gaussian":
        return None
    levels = np.geomspace(EIGENVALUES.max(), 1e-4 * EIGENVALUES.min(), points)
    curve = [water_filling(EIGENVALUES, float(tau)) for tau in levels]
    return pd.DataFrame(curve, columns=["rate", "sse"])


def linear_optimum(
    eigenvalues: npt.ArrayLike, *, latents: int, beta: float, sigma2: float
) -> Optimum:
    """The best linear VAE of a constant variance: Lucas et al., with tau = beta sigma2.

    Latent i <= q has the posterior variance min(1, tau/l_i); so the rate is the sum of
    1/2 log+(l_i/tau), and the squared error keeps min(l_i, tau) of it and all of l_i beyond q.
    """
    values = _checked(eigenvalues)
    tau, kept = beta * sigma2, values[:latents]
    sse = float(np.minimum(kept, tau).sum() + values[latents:].sum())
    rate, dims = _rate(kept, tau), len(values)
    distortion = sse / (2 * sigma2) + dims / 2 * math.log(2 * math.pi * sigma2)
    return Optimum(
        sigma2=sigma2,
        tau=tau,
        active=int((kept > tau).sum()),
        rate=rate,
        sse=sse,
        distortion=distortion,
        elbo=-(rate + distortion),
    )


def shared_optimum(eigenvalues: npt.ArrayLike, *, latents: int, beta: float) -> Optimum:
    """The best linear VAE whose one variance is fitted too: BS-VAE with a shared variance.

    Stationary where sse(beta s2) = D s2. With k latents in use, s2 is the sum of the l beyond k,
    over D - beta k; sse(tau)/tau falls in tau, so there is one such k, and it is the minimum. So k
    latents can be in use only if beta < D/k: more must collapse. Where the q latents hold all the
    variance there is, and beta < D/rank, nothing stops s2 on its way to 0: the loss diverges
    (`sigma2` is 0).
    """
    values = _checked(eigenvalues)
    dims = len(values)
    for k in range(min(latents, int((values > 0).sum())), -1, -1):
        if beta * k >= dims:
            continue
        sigma2 = float(values[k:].sum()) / (dims - beta * k)
        if k == 0 or values[k - 1] > beta * sigma2:
            break
    if sigma2 == 0:
        infinite = {"rate": math.inf, "distortion": -math.inf, "elbo": math.nan}
        return Optimum(sigma2=0.0, tau=0.0, active=k, sse=0.0, **infinite)
    return linear_optimum(values, latents=latents, beta=beta, sigma2=sigma2)


def collapse_beta(eigenvalues: npt.ArrayLike) -> float:
    """The beta from which BS-VAE with a shared variance uses no latent: l_1 / mean l."""
    values = _checked(eigenvalues)
    return float(values[0] / values.mean())


def implied_beta(sigma2: float, *, dims: int, rate: float) -> float:
    """The beta that the paper reads into a model of variance s2: 2 s2 + D s2 log(2 pi s2) / R.

    With it, sse + beta R is 2 s2 times the negative ELBO. NaN where the rate is 0.
    """
    if rate == 0:
        return math.nan
    return 2 * sigma2 + dims * sigma2 * math.log(2 * math.pi * sigma2) / rate


def linear_log_likelihood(x: Floats, weights: Floats, bias: Floats, sigma2: float) -> Floats:
    """log p(x) of z ~ N(0, I), x | z ~ N(W z + b, sigma2 I): N(b, W W^T + sigma2 I), nats.

    Args:
        x: (n, D) images.
        weights: (D, q).
        bias: (D,).
        sigma2: squared pixels.

    Returns:
        (n,).
    """
    dims, latents = weights.shape
    # By the determinant and inverse of a q x q matrix only (Tipping and Bishop, Eq. 9 and below).
    inner = weights.T @ weights + sigma2 * np.eye(latents)
    log_det = (dims - latents) * math.log(sigma2) + float(np.linalg.slogdet(inner)[1])
    centred = x - bias
    projected = centred @ weights  # (n, q)
    explained = (projected * np.linalg.solve(inner, projected.T).T).sum(axis=1)
    mahalanobis = ((centred**2).sum(axis=1) - explained) / sigma2
    return np.asarray(-(dims * math.log(2 * math.pi) + log_det + mahalanobis) / 2)


def _rate(values: Floats, tau: float) -> float:
    with np.errstate(divide="ignore"):
        return float(np.maximum(np.log(values / tau) / 2, 0).sum())


def _checked(eigenvalues: npt.ArrayLike) -> Floats:
    """In falling order, float64.

    Raises:
        BadInput: none, one negative, or all zero.
    """
    values = np.sort(np.asarray(eigenvalues, dtype=np.float64).ravel())[::-1]
    if not len(values) or not np.isfinite(values).all() or values[-1] < 0 or values[0] == 0:
        raise BadInput("eigenvalues must be finite, not negative and not all zero")
    return values
