"""The interpretations: what a checkpoint's likelihood is under each reading of its variance.

One evaluation pass leaves `Statistics`; every number here follows from them by NumPy alone. All
sums are float64, in nats per image. D is the number of values in an image, K of posterior draws.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rdkit_vae.errors import BadInput
from rdkit_vae.grammar import CONSTANT, parse_sigma

Array = npt.NDArray[np.float64]

MIXTURE_S = (1e-3, 1.0)  # s_min and s_max of `mixture`, in pixels
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What an evaluation pass leaves of one checkpoint on one split.

    Attributes:
        image: (n,) position of each image in its split.
        kl: (n,) KL(q(z|x) || N(0, I)) in closed form, nats.
        sse: (n, K) sum over the D values of (x - mu(z))^2, squared pixels.
        log_ratio: (n, K) log p(z) - log q(z|x), nats.
        dims: D.
        own_sigma2: the variance that the model was trained with, squared pixels; None: it has none.
    """

    image: npt.NDArray[np.int64]
    kl: Array
    sse: Array
    log_ratio: Array
    dims: int
    own_sigma2: float | None = None

    def __post_init__(self) -> None:
        if self.sse.ndim != 2 or 0 in self.sse.shape:
            raise BadInput(f"statistics: sse must be (n, K) and not empty, got {self.sse.shape}")
        if self.log_ratio.shape != self.sse.shape or not (
            self.kl.shape == self.image.shape == self.sse.shape[:1]
        ):
            raise BadInput("statistics: image, kl, sse and log_ratio disagree in shape")

    @property
    def finite(self) -> bool:
        """Whether every number in it is."""
        return all(bool(np.isfinite(a).all()) for a in (self.kl, self.sse, self.log_ratio))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an interpretation may know beside the statistics.

    Attributes:
        beta: weight of the rate in training.
        train_sigma2: constant variance C of training; None where there was none (then C = 1/2).
        shared_sigma2: E[sse]/D of the train split, squared pixels; None without that split.
        floor: least value that a fitted variance takes, squared pixels.
    """

    beta: float
    train_sigma2: float | None = None
    shared_sigma2: float | None = None
    floor: float = 1e-6


@dataclass(frozen=True, kw_only=True)
class Score:
    """Rate, distortion and ELBO of one split under one interpretation.

    Attributes:
        split, sigma: what was scored, and how.
        sigma2: the variance, squared pixels; its mean where it differs by image or draw.
        is_density: whether p(x|z) is normalised, so that its ELBO bounds a log-likelihood.
        rate, distortion, elbo: nats per image; elbo = -(rate + distortion).
        rate_se, distortion_se, elbo_se: standard errors over images, given the fitted variance.
            NaN for a single image.
        mse, psnr: E[sse]/D and -10 log10 of it; no variance changes them.
        bits_per_dim: -elbo / (D ln 2), of the density of x in [0, 1]^D.
        floored: share of (image, draw) pairs whose fitted variance was raised to the floor.
        sigma2_floor: that floor; None where nothing is fitted.
        n_images, n_draws, dims: n, K and D.
    """

    split: str
    sigma: str
    sigma2: float
    is_density: bool
    rate: float
    distortion: float
    elbo: float
    rate_se: float
    distortion_se: float
    elbo_se: float
    mse: float
    psnr: float
    bits_per_dim: float
    floored: float
    sigma2_floor: float | None
    n_images: int
    n_draws: int
    dims: int


@dataclass(frozen=True, kw_only=True)
class Interpretation:
    """A registry entry.

    Attributes:
        is_density: whether p(x|z) is normalised.
        sigma2: the variance, one number or (n, K); None where it does not apply to the model.
        fitted: the variance is fitted to images, so the floor applies.
        nll: -log p(x|z) of shape (n, K) from (sse, sigma2, D).
    """

    is_density: bool
    sigma2: Callable[[Statistics, Facts], "Array | float | None"]
    fitted: bool = False
    nll: Callable[[Array, "Array | float", int], Array]


def gaussian_nll(sse: Array, sigma2: "Array | float", dims: int) -> Array:
    """-log N(x; mu, sigma2 I) = sse/(2 sigma2) + (D/2) log(2 pi sigma2), nats."""
    return sse / (2 * sigma2) + dims / 2 * np.log(2 * np.pi * np.asarray(sigma2))


def mixture_nll(sse: Array, sigma2: object, dims: int, s: tuple[float, float] = MIXTURE_S) -> Array:
    """-log of the log-uniform mixture over the scale, nats; finite for any sse >= 0.

    p(x|z) = integral of N(x; mu, s^2 I) ds / (s L) over [s_min, s_max], L = log(s_max/s_min)
           = (pi sse)^(-D/2) Gamma(D/2) [P(D/2, sse/(2 s_min^2)) - P(D/2, sse/(2 s_max^2))] / (2 L)
    with the regularised incomplete gamma function P. Where the difference cancels or vanishes, that
    is where the best single s lies outside the range or near its ends, quadrature takes over.

    Args:
        sse: squared pixels.
        sigma2: not used; the mixture has no single variance.
        dims: D.
        s: s_min and s_max, pixels.
    """
    from scipy.special import gammainc, gammaln  # only here, for it loads slowly

    del sigma2
    span = math.log(s[1] / s[0])
    half_sse = np.maximum(sse, np.finfo(np.float64).tiny) / 2
    inside = gammainc(dims / 2, half_sse / s[0] ** 2) - gammainc(dims / 2, half_sse / s[1] ** 2)
    exact = inside > 0.01
    log_integral = gammaln(dims / 2) - math.log(2) - dims / 2 * np.log(half_sse)
    log_integral[exact] += np.log(inside[exact])
    log_integral[~exact] = _log_integral(half_sse[~exact], dims, s)
    log_p = log_integral - math.log(span) - dims / 2 * math.log(2 * math.pi)
    return np.asarray(-log_p)


def _log_integral(half_sse: Array, dims: int, s: tuple[float, float]) -> Array:
    """log of the integral of s^-D exp(-half_sse/s^2) ds/s over the range of s; (m,) to (m,).

    In u = log s the logarithm of the integrand is concave. So the integral is taken, in logs, by
    Gauss-Legendre quadrature over the part of the range where it is within e^-60 of its maximum.
    """
    half_sse = half_sse[:, None]

    def log_integrand(u: Array) -> Array:
        return -dims * u - half_sse * np.exp(-2 * u)

    low, high = math.log(s[0]), math.log(s[1])
    peak = np.clip(np.log(2 * half_sse / dims) / 2, low, high)  # (m, 1)
    top = log_integrand(peak)
    left = _fallen(log_integrand, peak, np.full_like(peak, low), top - 60)
    right = _fallen(log_integrand, peak, np.full_like(peak, high), top - 60)
    total = np.zeros(len(peak))
    for a, b in ((left, peak), (peak, right)):
        values = log_integrand((a + b) / 2 + (b - a) / 2 * _NODES)  # (m, nodes)
        total += np.exp(values - top) @ _WEIGHTS * ((b - a) / 2)[:, 0]
    return np.asarray(top[:, 0] + np.log(total))


def _fallen(f: Callable[[Array], Array], inside: Array, outside: Array, level: Array) -> Array:
    """Between the peak `inside` and the end `outside`, a point where concave f is about `level`."""
    for _ in range(30):
        middle = (inside + outside) / 2
        below = f(middle) < level
        outside = np.where(below, middle, outside)
        inside = np.where(below, inside, middle)
    return outside


def _optimal_sigma2(statistics: Statistics, facts: Facts) -> Array:
    return statistics.sse / statistics.dims


def _beta_half(statistics: Statistics, facts: Facts) -> float:
    return facts.beta * (0.5 if facts.train_sigma2 is None else facts.train_sigma2)


def _shared_sigma2(statistics: Statistics, facts: Facts) -> float:
    if facts.shared_sigma2 is None:
        raise BadInput("sigma shared is fitted on the train split; its statistics are not there")
    return facts.shared_sigma2


INTERPRETATIONS: Mapping[str, Interpretation] = {
    "half": Interpretation(is_density=True, sigma2=lambda _, __: 0.5, nll=gaussian_nll),
    "beta-half": Interpretation(is_density=True, sigma2=_beta_half, nll=gaussian_nll),
    "optimal": Interpretation(
        is_density=False, sigma2=_optimal_sigma2, nll=gaussian_nll, fitted=True
    ),
    "shared": Interpretation(is_density=True, sigma2=_shared_sigma2, nll=gaussian_nll, fitted=True),
    "own": Interpretation(
        is_density=True, sigma2=lambda statistics, _: statistics.own_sigma2, nll=gaussian_nll
    ),
    "mixture": Interpretation(is_density=True, sigma2=lambda _, __: math.nan, nll=mixture_nll),
}


def interpretation(sigma: str) -> Interpretation:
    """The entry for a name, `constant:V` included.

    Raises:
        BadInput: unknown name, or V not positive.
    """
    name = parse_sigma(sigma)
    if name.startswith(CONSTANT):
        value = float(name.removeprefix(CONSTANT))
        return Interpretation(is_density=True, sigma2=lambda _, __: value, nll=gaussian_nll)
    return INTERPRETATIONS[name]


def score(
    statistics: Mapping[str, Statistics],
    sigmas: Iterable[str],
    *,
    beta: float,
    train_sigma2: float | None = None,
    floor: float = 1e-6,
) -> list[Score]:
    """Scores every split under every interpretation that applies to the model.

    Args:
        statistics: by split; `shared` takes its variance from the one named `train`.
        sigmas: names of interpretations; one that does not apply (`own` of a model without a
            variance) gives no score.
        beta, train_sigma2: as the model was trained.
        floor: least value of a fitted variance, squared pixels.

    Raises:
        BadInput: unknown interpretation, or `shared` without statistics of the train split.
    """
    train = statistics.get("train")
    facts = Facts(
        beta=beta,
        train_sigma2=train_sigma2,
        shared_sigma2=None if train is None else float(train.sse.mean()) / train.dims,
        floor=floor,
    )
    scores = (
        score_split(split, statistics[split], sigma, facts)
        for split in statistics
        for sigma in sigmas
    )
    return [score for score in scores if score is not None]


def score_split(split: str, statistics: Statistics, sigma: str, facts: Facts) -> Score | None:
    """Scores one split under one interpretation; None where it does not apply to the model.

    Raises:
        BadInput: as `score`.
    """
    chosen = interpretation(sigma)
    raw = chosen.sigma2(statistics, facts)
    if raw is None:
        return None
    sigma2 = np.maximum(raw, facts.floor) if chosen.fitted else raw
    # (n,): each image's mean over its draws
    distortion = chosen.nll(statistics.sse, sigma2, statistics.dims).mean(axis=1)
    rate, mse = float(statistics.kl.mean()), float(statistics.sse.mean()) / statistics.dims
    elbo = -(rate + float(distortion.mean()))
    return Score(
        split=split,
        sigma=parse_sigma(sigma),
        sigma2=float(np.mean(sigma2)),
        is_density=chosen.is_density,
        rate=rate,
        distortion=float(distortion.mean()),
        elbo=elbo,
        rate_se=_standard_error(statistics.kl),
        distortion_se=_standard_error(distortion),
        elbo_se=_standard_error(statistics.kl + distortion),
        mse=mse,
        psnr=-10 * math.log10(mse) if mse > 0 else math.inf,
        bits_per_dim=-elbo / (statistics.dims * math.log(2)),
        floored=float(np.mean(np.asarray(raw) < facts.floor)) if chosen.fitted else 0.0,
        sigma2_floor=facts.floor if chosen.fitted else None,
        n_images=statistics.sse.shape[0],
        n_draws=statistics.sse.shape[1],
        dims=statistics.dims,
    )


def _standard_error(per_image: Array) -> float:
    if len(per_image) < 2:
        return math.nan
    return float(per_image.std(ddof=1) / math.sqrt(len(per_image)))
