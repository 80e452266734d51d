"""The log-uniform mixture over scales: a normalised density close to the best single scale."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rdkit_vae.scoring.interpretations import MIXTURE_S

Array = npt.NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def mixture_nll(sse: Array, dims: int, s: tuple[float, float] = MIXTURE_S) -> Array:
    """Returns -log of the log-uniform mixture over scales, nats; finite for any sse >= 0.

    p(x|z) = integral of N(x; mu, s^2 I) ds / (s L) over [s_min, s_max], L = log(s_max/s_min)
           = (pi sse)^(-D/2) Gamma(D/2) [P(D/2, sse/(2 s_min^2)) - P(D/2, sse/(2 s_max^2))] / (2 L)
    with the regularised incomplete gamma function P. Quadrature is used where the difference is
    small, that is, where the best single s is outside the range or near its ends.

    Args:
        sse: squared pixels.
        dims: D.
        s: s_min and s_max, pixels.
    """
    from scipy.special import gammaln  # slow to import

    span = math.log(s[1] / s[0])
    half_sse = np.maximum(sse, np.finfo(np.float64).tiny) / 2
    inside = _gamma_p(dims / 2, half_sse / s[0] ** 2) - _gamma_p(dims / 2, half_sse / s[1] ** 2)
    exact = inside > 0.01
    log_integral = gammaln(dims / 2) - math.log(2) - dims / 2 * np.log(half_sse)
    log_integral[exact] += np.log(inside[exact])
    log_integral[~exact] = _log_integral(half_sse[~exact], dims, s)
    log_p = log_integral - math.log(span) - dims / 2 * math.log(2 * math.pi)
    return np.asarray(-log_p)


def _gamma_p(a: float, x: Array) -> Array:
    """Returns the regularised incomplete gamma function P(a, x) with an absolute error of 1e-17.

    Far from a it is 0 or 1: by Chernoff's bound both tails are at most exp(-(x - a - a log(x/a))).
    So it is computed only where that bound exceeds e^-40.
    """
    from scipy.special import gammainc, lambertw

    low, high = (-a * lambertw(-math.exp(-1 - 40 / a), branch).real for branch in (0, -1))
    p = (x > a).astype(np.float64)
    near = (x > low) & (x < high)
    p[near] = gammainc(a, x[near])
    return p


def _log_integral(half_sse: Array, dims: int, s: tuple[float, float]) -> Array:
    """Returns the log integral of s^-D exp(-half_sse/s^2) ds/s over the range of s; (m,) to (m,).

    In u = log s the logarithm of the integrand is concave. The integral is computed in logs by
    Gauss-Legendre quadrature, over the part of the range where the integrand exceeds e^-60 of its
    maximum.
    """
    half_sse = half_sse[:, None]

    def log_integrand(u: Array) -> Array:
        return -dims * u - half_sse * np.exp(-2 * u)

    low, high = math.log(s[0]), math.log(s[1])
    peak = np.clip(np.log(2 * half_sse / dims) / 2, low, high)  # (m, 1)
    top = log_integrand(peak)
    left = _where_below(log_integrand, peak, np.full_like(peak, low), top - 60)
    right = _where_below(log_integrand, peak, np.full_like(peak, high), top - 60)
    total = np.zeros(len(peak))
    for a, b in ((left, peak), (peak, right)):
        values = log_integrand((a + b) / 2 + (b - a) / 2 * _NODES)  # (m, nodes)
        total += np.exp(values - top) @ _WEIGHTS * ((b - a) / 2)[:, 0]
    # At an end of the range the integrand may be too steep to resolve; there it is
    # exp(top - slope |u - peak|) up to a relative error of 1/slope.
    slope = np.abs(2 * half_sse * np.exp(-2 * peak) - dims)[:, 0]
    steep = slope > 1e10
    total[steep] = 1 / slope[steep]
    return np.asarray(top[:, 0] + np.log(total))


def _where_below(f: Callable[[Array], Array], inside: Array, outside: Array, level: Array) -> Array:
    """Finds, by bisection between peak and end, where the concave f is about `level`."""
    for _ in range(30):
        middle = (inside + outside) / 2
        below = f(middle) < level
        outside = np.where(below, middle, outside)
        inside = np.where(below, inside, middle)
    return outside
