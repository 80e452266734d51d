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

_FEW = 20_000  # squared errors on which all local maxima are searched
_LARGEST_FACTOR = 1e38  # the product of eight is finite
_AT_ONCE = 2**14  # squared errors in memory, so that they stay in the cache
_LEAST_NU, _MOST_NU_OVER_D = 1e-3, 2000.0  # the range of the search
_STEP = 0.5  # of the search, in log t
_MOST_STEPS = 20
_CLOSE = 1e-12  # tolerance of the solution, in log t
_LEAST_GAIN = 1e-6  # nats over the Gaussian; with less, the result is the Gaussian

Bracket = tuple[float, float]


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
    from scipy.special import betaln  # slow to import

    # lgamma(nu/2) - lgamma((nu+D)/2), without the cancellation of large numbers
    constant = float(betaln(nu / 2, dims / 2)) - math.lgamma(dims / 2)
    scaled = dims / 2 * np.log(nu * math.pi * sigma2)
    return np.asarray((nu + dims) / 2 * np.log1p(sse / (nu * sigma2)) + scaled + constant)


def fit_student(sse: Array, dims: int, floor: float) -> tuple[float, float]:
    """Returns nu and s2 with the largest likelihood of all squared errors, in any order.

    With r = t sse and t = 1/(nu s2), the likelihood is stationary where
        mean(r/(1 + r)) = D/(nu + D) and digamma((nu+D)/2) - digamma(nu/2) = mean(log(1 + r)).
    The first gives nu for each t, and the second has one or several roots in log t. The first also
    shows that D s2 lies between the least and the mean sse.

    Args:
        sse: squared pixels, of any shape.
        dims: D.
        floor: least sse/D, squared pixels: smaller ones count as if they were that, since an sse of
            0 alone would make the likelihood infinite. So s2 is never below it.

    Returns:
        nu = inf and s2 = mean sse/D if no Student t has a larger likelihood than that Gaussian, as
        where sse varies no more than under a Gaussian with one variance.
    """
    sse = np.sort(np.maximum(np.ravel(sse), dims * floor))
    few = sse[:: max(1, len(sse) // _FEW)]
    gaussian = math.inf, float(sse.mean()) / dims
    maxima = [(_maximum(few, dims, bracket), bracket) for bracket in _brackets(few, dims)]
    if not maxima:
        return gaussian
    _, bracket = min(
        maxima, key=lambda candidate: float(student_nll(few, dims, *candidate[0]).mean())
    )
    student = _maximum(sse, dims, bracket)
    gain = student_nll(sse, dims, *gaussian).mean() - student_nll(sse, dims, *student).mean()
    return student if gain > _LEAST_GAIN else gaussian


def _brackets(sse: Array, dims: int) -> list[Bracket]:
    """Returns intervals of log t that hold one local maximum of the likelihood each."""
    low = -math.log(float(sse.mean()) * _MOST_NU_OVER_D)
    high = -math.log(float(sse[0]) / dims * _LEAST_NU)
    grid = np.arange(low, high + _STEP, _STEP).tolist()
    gaps = [_gap(log_t, sse, dims) for log_t in grid]
    return [(grid[i], grid[i + 1]) for i in range(len(grid) - 1) if gaps[i] <= 0 < gaps[i + 1]]


def _maximum(sse: Array, dims: int, bracket: Bracket) -> tuple[float, float]:
    """Returns nu and s2 at the local maximum in or next to an interval of log t."""
    from scipy.optimize import brentq  # slow to import

    low, high = bracket  # of fewer squared errors, so this one's may be just outside
    for _ in range(_MOST_STEPS):
        below, above = (_gap(log_t, sse, dims) for log_t in (low, high))
        if below <= 0 < above:
            break
        low, high = low - _STEP * (below > 0), high + _STEP * (above <= 0)
    log_t = brentq(_gap, low, high, args=(sse, dims), xtol=_CLOSE)
    nu, _ = _stationary(log_t, sse, dims)
    return nu, math.exp(-log_t) / nu


def _gap(log_t: float, sse: Array, dims: int) -> float:
    """Rises through 0 at a local maximum of the likelihood, and falls through it at a minimum."""
    from scipy.special import digamma  # slow to import

    nu, log = _stationary(log_t, sse, dims)
    return float(digamma((nu + dims) / 2) - digamma(nu / 2)) - log


def _stationary(log_t: float, sse: Array, dims: int) -> tuple[float, float]:
    """Returns the nu that makes the likelihood stationary in s2 at this t, and mean(log(1 + r))."""
    rest = log = 0.0  # sums of 1/(1 + r) and log(1 + r)
    for start in range(0, len(sse), _AT_ONCE):
        more = 1 + math.exp(log_t) * sse[start : start + _AT_ONCE]
        rest += float((1 / more).sum())
        log += _sum_of_logs(more)
    return dims * rest / (len(sse) - rest), log / len(sse)


def _sum_of_logs(rising: Array) -> float:
    """Returns the sum of log over rising numbers of at least 1, as logs of products of eight."""
    total = 0.0
    for _ in range(3 if rising[-1] < _LARGEST_FACTOR else 0):
        half = len(rising) // 2
        total += float(np.log(rising[2 * half :]).sum())
        rising = rising[:half] * rising[half : 2 * half]
    return total + float(np.log(rising).sum())
