"""The multivariate Student t with a scalar scale: a normalised density of an image's sse alone.

-log p(x|z) = lgamma(nu/2) - lgamma((nu+D)/2) + (D/2) log(nu pi s2)
              + ((nu+D)/2) log(1 + sse/(nu s2))

It is a Gaussian N(x; mu, v I) whose variance v is unknown, with s2/v distributed as chi2(nu)/nu
(Takahashi et al. 2018, "Student-t Variational Autoencoder for Robust Density Estimation", with one
scale for all values). As nu grows, v becomes certain, and the density that Gaussian with v = s2. As
nu falls to 0, v becomes arbitrary: up to a number that does not depend on x, -log p(x|z) becomes
(D/2) log sse. So BS-VAE is the improper limit of a Student-t decoder.
"""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_CLOSE = 1e-12  # tolerance of the solution, in log t
_STRIDE, _STRIDE_OF_ALL = 2.0, 0.02  # of the search for an interval that holds it
_FEW = 20_000  # pairs that give the start for all of them
_AT_ONCE = 2**14  # pairs in memory, so that they stay in the cache
# D times the squared coefficient of variation of sse is 2 under a Gaussian. With no more than this
# above it, the fitted nu would exceed D by a factor of 2,000, and the density be that Gaussian.
_LEAST_EXCESS = 1e-3


def student_nll(sse: Array, dims: int, nu: float, sigma2: "Array | float") -> Array:
    """Returns -log p(x|z) of the Student t, nats; finite for any sse >= 0.

    Args:
        sse: squared pixels.
        dims: D.
        nu: degrees of freedom; inf: the Gaussian with the variance `sigma2`.
        sigma2: the scale s2, squared pixels. The variance is s2 nu/(nu - 2) if nu > 2.
    """
    if math.isinf(nu):
        return np.asarray(sse / (2 * sigma2) + dims / 2 * np.log(2 * math.pi * sigma2))
    constant = math.lgamma(nu / 2) - math.lgamma((nu + dims) / 2)
    scaled = dims / 2 * np.log(nu * math.pi * sigma2)
    return np.asarray((nu + dims) / 2 * np.log1p(sse / (nu * sigma2)) + scaled + constant)


def fit_student(sse: Array, dims: int, floor: float) -> tuple[float, float]:
    """Returns nu and s2 with the largest likelihood of all squared errors.

    With r = t sse and t = 1/(nu s2), the likelihood is stationary where
        mean(r/(1 + r)) = D/(nu + D) and digamma((nu+D)/2) - digamma(nu/2) = mean(log(1 + r)).
    The first gives nu for each t, and the root of the second is searched in log t. The first also
    shows that D s2 lies between the least and the mean sse.

    Args:
        sse: squared pixels, of any shape.
        dims: D.
        floor: least sse/D, squared pixels: smaller ones count as if they were that, since an sse of
            0 alone would make the likelihood infinite. So s2 is never below it.

    Returns:
        nu = inf if the likelihood grows with nu without bound: sse varies no more than under a
        Gaussian with one variance, s2 = mean sse/D.
    """
    sse = np.maximum(np.ravel(sse), dims * floor)
    if not _varies(sse, dims):
        return math.inf, float(sse.mean()) / dims
    few = sse[:: max(1, len(sse) // _FEW)]
    log_t = -float(np.log(few).mean())
    if len(few) < len(sse) and _varies(few, dims):  # its solution is close to that of all
        log_t = _solution(few, dims, log_t, _STRIDE)
        log_t = _solution(sse, dims, log_t, _STRIDE_OF_ALL)
    else:
        log_t = _solution(sse, dims, log_t, _STRIDE)
    nu, _ = _stationary(sse, dims, log_t)
    return nu, math.exp(-log_t) / nu


def _varies(sse: Array, dims: int) -> bool:
    """Whether sse varies more than under a Gaussian with one variance."""
    return dims * float(np.square(sse / sse.mean() - 1).mean()) > 2 + _LEAST_EXCESS


def _solution(sse: Array, dims: int, log_t: float, stride: float) -> float:
    """Returns the log t of the largest likelihood, searched from a start in growing strides."""
    from scipy.optimize import brentq  # slow to import
    from scipy.special import digamma

    def gap(log_t: float) -> float:
        """Rises through 0 at the solution."""
        nu, log = _stationary(sse, dims, log_t)
        return float(digamma((nu + dims) / 2) - digamma(nu / 2)) - log

    low, high = log_t - stride, log_t + stride
    while gap(low) > 0:
        stride = min(2 * stride, _STRIDE)
        low -= stride
    while gap(high) <= 0:
        stride = min(2 * stride, _STRIDE)
        high += stride
    return float(brentq(gap, low, high, xtol=_CLOSE))


def _stationary(sse: Array, dims: int, log_t: float) -> tuple[float, float]:
    """Returns the nu that makes the likelihood stationary in s2 at this t, and mean(log(1 + r))."""
    sums, t = np.zeros(3), math.exp(log_t)
    for start in range(0, len(sse), _AT_ONCE):
        r = t * sse[start : start + _AT_ONCE]
        more = 1 + r
        sums += (1 / more).sum(), (r / more).sum(), np.log(more).sum()
    rest, part, log = (sums / len(sse)).tolist()
    return dims * rest / part, log
