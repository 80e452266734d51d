"""The interpretations: what a checkpoint's likelihood is under each reading of its variance.

One evaluation pass leaves `Statistics`; every number here follows from them by NumPy alone. All
sums are float64, in nats per image. D is the number of values in an image, K of posterior draws.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rdkit_vae.config.parsing import CONSTANT, MIXTURE, mixture_range, parse_sigma
from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.mixture import MIXTURE_S, mixture_nll
from rdkit_vae.scoring.statistics import Array, Statistics, standard_error


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
        s_min, s_max: range of the mixture, pixels; None where there is none.
        is_density: whether p(x|z) is normalised, so that its ELBO bounds a log-likelihood.
        caveat: what a reader must know before comparing it; "" if nothing.
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
    s_min: float | None
    s_max: float | None
    is_density: bool
    caveat: str
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
        sigma2: the variance of a split's images, one number or (n, K), from its statistics, the
            training and the statistics of the train split (None: not there). It gives None where
            the interpretation does not apply to the model; NaN where there is no single variance.
        fitted: the variance is fitted to images, so the floor applies.
        caveat: what a reader must know before comparing it.
        is_density: whether p(x|z) is normalised.
        scales: s_min and s_max of a mixture over scales, pixels, in place of a variance.
    """

    sigma2: Callable[[Statistics, Trained, Statistics | None], "Array | float | None"]
    fitted: bool = False
    caveat: str = ""
    is_density: bool = True
    scales: tuple[float, float] | None = None

    def nll(self, sse: Array, sigma2: "Array | float", dims: int) -> Array:
        """-log p(x|z), nats, of the shape of sse."""
        if self.scales:
            return mixture_nll(sse, dims, self.scales)
        return gaussian_nll(sse, sigma2, dims)


_ON_ITSELF = "optimistic: fitted on the images it scores"


def gaussian_nll(sse: Array, sigma2: "Array | float", dims: int) -> Array:
    """-log N(x; mu, sigma2 I) = sse/(2 sigma2) + (D/2) log(2 pi sigma2), nats."""
    return sse / (2 * sigma2) + dims / 2 * np.log(2 * np.pi * np.asarray(sigma2))


def dequantized_nll(sse: Array, sigma2: "Array | float", dims: int, levels: int) -> Array:
    """E_u of -log N(x + u; mu, sigma2 I), per volume of a bin, nats: a likelihood of pixels.

    u is uniform over the bin of x, which is w = 1/(levels - 1) wide in every pixel. The expectation
    is exact: u adds D w^2/12 to the squared error. It bounds from above the -log of the mass of
    the bin (Theis et al. 2016, "A note on the evaluation of generative models", section 3.1).
    """
    width = 1 / (levels - 1)
    return gaussian_nll(sse + dims * width**2 / 12, sigma2, dims) - dims * math.log(width)


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


def _shared_oracle(statistics: Statistics, trained: Trained, train: Statistics | None) -> float:
    return float(statistics.sse.mean()) / statistics.dims


def _own(
    statistics: Statistics, trained: Trained, train: Statistics | None
) -> "Array | float | None":
    return statistics.own_sigma2


def _mixture(scales: tuple[float, float]) -> Interpretation:
    return Interpretation(sigma2=lambda *_: math.nan, scales=scales)


INTERPRETATIONS: Mapping[str, Interpretation] = {
    "half": Interpretation(sigma2=_half),
    "beta-half": Interpretation(sigma2=_beta_half),
    "optimal": Interpretation(
        sigma2=_optimal, fitted=True, is_density=False, caveat="not a density: it looks at x"
    ),
    "shared": Interpretation(sigma2=_shared, fitted=True),
    "own": Interpretation(sigma2=_own),
    "mixture": _mixture(MIXTURE_S),
    "shared-oracle": Interpretation(sigma2=_shared_oracle, fitted=True, caveat=_ON_ITSELF),
}


def interpretation(sigma: str) -> Interpretation:
    """The entry for a name, `constant:V` and `mixture:A..B` included.

    Raises:
        BadInput: unknown name, or numbers that are not positive or out of order.
    """
    name = parse_sigma(sigma)
    if name.startswith(CONSTANT):
        value = float(name.removeprefix(CONSTANT))
        return Interpretation(sigma2=lambda *_: value)
    if name.startswith(MIXTURE):
        return _mixture(mixture_range(name))
    return INTERPRETATIONS[name]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A split under one interpretation, image by image and draw by draw.

    Attributes:
        split, sigma: what was read, and how.
        how: the interpretation.
        statistics: of the split.
        sigma2: the variance, floor applied: one number or (n, K), squared pixels.
        nll: (n, K) -log p(x|z), nats.
        floored: share of pairs whose variance was raised to the floor.
    """

    split: str
    sigma: str
    how: Interpretation
    statistics: Statistics
    sigma2: "Array | float"
    nll: Array
    floored: float

    def facts(self) -> dict[str, Any]:
        """What every score of the reading says of it, by column."""
        images, draws = self.statistics.sse.shape
        fitted_on_itself = self.sigma == "shared" and self.split == "train"
        return {
            "split": self.split,
            "sigma": self.sigma,
            "sigma2": float(np.mean(self.sigma2)),
            "s_min": self.how.scales[0] if self.how.scales else None,
            "s_max": self.how.scales[1] if self.how.scales else None,
            "is_density": self.how.is_density,
            "caveat": _ON_ITSELF if fitted_on_itself else self.how.caveat,
            "n_images": images,
            "n_draws": draws,
            "dims": self.statistics.dims,
        }


def readings(
    statistics: Mapping[str, Statistics], sigmas: Iterable[str], trained: Trained
) -> list[Reading]:
    """Reads every split under every interpretation that applies to the model.

    Args:
        statistics: by split; `shared` takes its variance from the one named `train`.
        sigmas: names of interpretations; one that does not apply (`own` of a model without a
            variance) gives nothing.
        trained: the trial, or whatever else knows beta, variance and floor.

    Raises:
        BadInput: unknown interpretation, or `shared` without statistics of the train split.
        NotFinite: a number of the statistics is not finite.
    """
    for split, measured in statistics.items():
        measured.check_finite(split)
    names = list(sigmas)
    train = statistics.get("train")
    found = (
        _read(split, sigma, measured, trained, train)
        for split, measured in statistics.items()
        for sigma in names
    )
    return [reading for reading in found if reading is not None]


def _read(
    split: str, sigma: str, statistics: Statistics, trained: Trained, train: Statistics | None
) -> Reading | None:
    how, floor = interpretation(sigma), trained.sigma2_floor
    raw = how.sigma2(statistics, trained, train)
    if raw is None:
        return None
    sigma2 = np.maximum(raw, floor) if how.fitted else raw
    return Reading(
        split=split,
        sigma=parse_sigma(sigma),
        how=how,
        statistics=statistics,
        sigma2=sigma2,
        nll=how.nll(statistics.sse, sigma2, statistics.dims),
        floored=float(np.mean(np.asarray(raw) < floor)) if how.fitted else 0.0,
    )


def score(
    statistics: Mapping[str, Statistics], sigmas: Iterable[str], trained: Trained
) -> list[Score]:
    """Scores every split under every interpretation that applies to the model.

    Args and errors are those of `readings`.
    """
    return [score_reading(reading, trained) for reading in readings(statistics, sigmas, trained)]


def score_reading(reading: Reading, trained: Trained) -> Score:
    """The score of one reading, averaged over images and draws."""
    statistics = reading.statistics
    distortion = reading.nll.mean(axis=1)  # (n,): each image's mean over its draws
    rate, mse = float(statistics.kl.mean()), float(statistics.sse.mean()) / statistics.dims
    elbo = -(rate + float(distortion.mean()))
    return Score(
        **reading.facts(),
        rate=rate,
        distortion=float(distortion.mean()),
        elbo=elbo,
        rate_se=standard_error(statistics.kl),
        distortion_se=standard_error(distortion),
        elbo_se=standard_error(statistics.kl + distortion),
        mse=mse,
        psnr=math.inf if mse == 0 else -10 * math.log10(mse),
        bits_per_dim=-elbo / (statistics.dims * math.log(2)),
        floored=reading.floored,
        sigma2_floor=trained.sigma2_floor if reading.how.fitted else None,
    )
