"""Ground truth: closed forms for Gaussian data and linear VAEs.

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
    """The optimum that a linear VAE must reach in training.

    Attributes:
        sigma2: decoder variance, squared pixels; 0 if the loss has no lower bound as it goes to 0.
        tau: beta sigma2, the water level.
        active: number of latents in use, those whose eigenvalue is above tau.
        rate: nats per image.
        sse: expected squared error, squared pixels per image.
        distortion: under `sigma2`, nats per image; infinite if that is 0.
        elbo: under `sigma2`, nats per image; NaN if that is 0.
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

    Args:
        eigenvalues: (D,) of the covariance, squared pixels, in any order.
        tau: squared pixels.

    Returns:
        Rate (nats per image) and expected squared error (squared pixels per image).

    Raises:
        BadInput: tau is not positive.
    """
    values = _checked(eigenvalues)
    if not tau > 0:
        raise BadInput(f"tau must be positive, got {tau}")
    return _rate(values, tau), float(np.minimum(values, tau).sum())


def rate_distortion(eigenvalues: npt.ArrayLike, sse: float) -> float:
    """R(D) of a Gaussian: the lowest rate with an expected squared error of `sse`.

    Exact, by reverse water-filling: with k components above the water level, tau = (sse - the sum
    of the others) / k.

    Args:
        eigenvalues: (D,) of the covariance, squared pixels, in any order.
        sse: squared pixels per image.

    Returns:
        Nats per image.

    Raises:
        BadInput: sse is not positive.
    """
    values = _checked(eigenvalues)
    if not sse > 0:
        raise BadInput(f"sse must be positive, got {sse}")
    if sse >= values.sum():
        return 0.0
    rest = np.cumsum(values[::-1])[::-1] - values  # (D,): at k-1, the sum of all but the first k
    levels = (sse - rest) / np.arange(1, len(values) + 1)
    # The water level is the only one with exactly its own k components above it.
    k = int(np.flatnonzero(values > levels)[-1]) + 1
    return _rate(values[:k], float(levels[k - 1]))


def gaussian_curve(dataset: str, points: int = 400) -> pd.DataFrame | None:
    """The rate-distortion function of a dataset with known covariance; None for all others.

    Args:
        dataset: its name; only `gaussian` has a known covariance.
        points: of the curve.

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
    """The best linear VAE with a constant variance (Lucas et al., with tau = beta sigma2).

    Latent i <= q has the posterior variance min(1, tau/l_i); so the rate is the sum of
    1/2 log+(l_i/tau), and the squared error is that of min(l_i, tau) for i <= q and l_i beyond.

    Args:
        eigenvalues: (D,) of the covariance, squared pixels, in any order.
        latents: q.
        beta: weight of the rate.
        sigma2: decoder variance, squared pixels.

    Raises:
        BadInput: the eigenvalues are not those of a covariance.
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
    """The best linear VAE with one fitted variance: BS-VAE with a shared variance.

    It is stationary where sse(beta s2) = D s2. With k latents in use, s2 is the sum of all l_i with
    i > k, divided by D - beta k. As sse(tau)/tau falls with tau, there is exactly one such k, and
    it is the minimum. So k latents can be in use only if beta < D/k; any more must collapse. If the
    q latents can explain all variance of the data, and beta < D/rank, the loss falls without bound
    as s2 goes to 0 (`sigma2` is 0).

    Args:
        eigenvalues: (D,) of the covariance, squared pixels, in any order.
        latents: q.
        beta: weight of the rate.

    Raises:
        BadInput: the eigenvalues are not those of a covariance.
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
    """The beta from which BS-VAE with a shared variance uses no latent: l_1 / (mean of all l_i)."""
    values = _checked(eigenvalues)
    return float(values[0] / values.mean())


def implied_beta(sigma2: float, *, dims: int, rate: float) -> float:
    """The beta that a variance implies, after the paper: 2 s2 + D s2 log(2 pi s2) / R.

    With it, sse + beta R is 2 s2 times the negative ELBO.

    Args:
        sigma2: s2, squared pixels.
        dims: D.
        rate: R, nats per image; the result is NaN if it is 0.
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
    # Needs only the determinant and inverse of a q x q matrix (Tipping and Bishop, Eq. 9 onwards).
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
    """The eigenvalues in falling order, float64.

    Raises:
        BadInput: there are none, one is negative or not finite, or all are zero.
    """
    values = np.sort(np.asarray(eigenvalues, dtype=np.float64).ravel())[::-1]
    if not len(values) or not np.isfinite(values).all() or values[-1] < 0 or values[0] == 0:
        raise BadInput("eigenvalues must be finite, not negative and not all zero")
    return values
