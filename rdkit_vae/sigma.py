"""The interpretations: what a checkpoint's likelihood is under each reading of its variance.

One evaluation pass leaves `Statistics`; every number here follows from them by NumPy alone. All
sums are float64, in nats per image. D is the number of values in an image, K of posterior draws.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rdkit_vae.errors import BadInput
from rdkit_vae.grammar import CONSTANT, parse_sigma
from rdkit_vae.mixture import mixture_nll

Array = npt.NDArray[np.float64]


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


class Trained(Protocol):
    """What an interpretation may know of the training; a `Trial` is one.

    Attributes:
        beta: weight of the rate.
        train_sigma2: constant variance C, squared pixels; None where there was none (then C = 1/2).
        sigma2_floor: least value that a fitted variance takes, squared pixels.
    """

    @property
    def beta(self) -> float: ...
    @property
    def train_sigma2(self) -> float | None: ...
    @property
    def sigma2_floor(self) -> float: ...


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
        sigma2: the variance of a split's images, one number or (n, K), from its statistics, the
            training and the statistics of the train split (None: not there). It gives None where
            the interpretation does not apply to the model.
        fitted: the variance is fitted to images, so the floor applies.
        nll: -log p(x|z) of shape (n, K) from (sse, sigma2, D).
    """

    is_density: bool
    sigma2: Callable[[Statistics, Trained, Statistics | None], "Array | float | None"]
    fitted: bool = False
    nll: Callable[[Array, "Array | float", int], Array]


def gaussian_nll(sse: Array, sigma2: "Array | float", dims: int) -> Array:
    """-log N(x; mu, sigma2 I) = sse/(2 sigma2) + (D/2) log(2 pi sigma2), nats."""
    return sse / (2 * sigma2) + dims / 2 * np.log(2 * np.pi * np.asarray(sigma2))


def _half(statistics: Statistics, trained: Trained, train: Statistics | None) -> float:
    return 0.5


def _beta_half(statistics: Statistics, trained: Trained, train: Statistics | None) -> float:
    return trained.beta * (0.5 if trained.train_sigma2 is None else trained.train_sigma2)


def _optimal(statistics: Statistics, trained: Trained, train: Statistics | None) -> Array:
    return statistics.sse / statistics.dims


def _shared(statistics: Statistics, trained: Trained, train: Statistics | None) -> float:
    if train is None:
        raise BadInput("sigma shared is fitted on the train split; its statistics are not there")
    return float(train.sse.mean()) / train.dims


def _own(statistics: Statistics, trained: Trained, train: Statistics | None) -> float | None:
    return statistics.own_sigma2


def _none(statistics: Statistics, trained: Trained, train: Statistics | None) -> float:
    return math.nan  # a mixture has no single variance


INTERPRETATIONS: Mapping[str, Interpretation] = {
    "half": Interpretation(is_density=True, sigma2=_half, nll=gaussian_nll),
    "beta-half": Interpretation(is_density=True, sigma2=_beta_half, nll=gaussian_nll),
    "optimal": Interpretation(is_density=False, sigma2=_optimal, nll=gaussian_nll, fitted=True),
    "shared": Interpretation(is_density=True, sigma2=_shared, nll=gaussian_nll, fitted=True),
    "own": Interpretation(is_density=True, sigma2=_own, nll=gaussian_nll),
    "mixture": Interpretation(
        is_density=True, sigma2=_none, nll=lambda sse, _, dims: mixture_nll(sse, dims)
    ),
}


def interpretation(sigma: str) -> Interpretation:
    """The entry for a name, `constant:V` included.

    Raises:
        BadInput: unknown name, or V not positive.
    """
    name = parse_sigma(sigma)
    if not name.startswith(CONSTANT):
        return INTERPRETATIONS[name]
    value = float(name.removeprefix(CONSTANT))
    return Interpretation(is_density=True, sigma2=lambda *_: value, nll=gaussian_nll)


def score(
    statistics: Mapping[str, Statistics], sigmas: Iterable[str], trained: Trained
) -> list[Score]:
    """Scores every split under every interpretation that applies to the model.

    Args:
        statistics: by split; `shared` takes its variance from the one named `train`.
        sigmas: names of interpretations; one that does not apply (`own` of a model without a
            variance) gives no score.
        trained: the trial, or whatever else knows beta, variance and floor.

    Raises:
        BadInput: unknown interpretation, or `shared` without statistics of the train split.
    """
    names = list(sigmas)
    scores = (
        _score(split, sigma, measured, trained, statistics.get("train"))
        for split, measured in statistics.items()
        for sigma in names
    )
    return [score for score in scores if score is not None]


def _score(
    split: str, sigma: str, statistics: Statistics, trained: Trained, train: Statistics | None
) -> Score | None:
    chosen, floor = interpretation(sigma), trained.sigma2_floor
    raw = chosen.sigma2(statistics, trained, train)
    if raw is None:
        return None
    sigma2 = np.maximum(raw, floor) if chosen.fitted else raw
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
        psnr=math.inf if mse == 0 else -10 * math.log10(mse),
        bits_per_dim=-elbo / (statistics.dims * math.log(2)),
        floored=float(np.mean(np.asarray(raw) < floor)) if chosen.fitted else 0.0,
        sigma2_floor=floor if chosen.fitted else None,
        n_images=statistics.sse.shape[0],
        n_draws=statistics.sse.shape[1],
        dims=statistics.dims,
    )


def _standard_error(per_image: Array) -> float:
    if len(per_image) < 2:
        return math.nan
    return float(per_image.std(ddof=1) / math.sqrt(len(per_image)))
