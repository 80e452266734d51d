"""From statistics to scores: rate, distortion and ELBO under each interpretation of the variance.

All numbers are computed from the `Statistics` of one evaluation with NumPy alone, in float64 and
nats per image. D is the number of values in an image, K that of posterior samples.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.interpretations import (
    ON_ITSELF,
    SIGMAS,
    Interpretation,
    Trained,
    interpretation,
    parse_sigma,
)
from rdkit_vae.scoring.statistics import Array, Statistics, standard_error

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Score:
    """Rate, distortion and ELBO of one split under one interpretation.

    Attributes:
        split, sigma: the split and the interpretation.
        sigma2: the variance, squared pixels; the mean if it differs by image or posterior sample;
            the scale of a Student t.
        nu: degrees of freedom of a Student t; None if it is not one.
        s_min, s_max: range of the mixture, pixels; None if it is not a mixture.
        is_density: whether p(x|z) is normalised, so that its ELBO bounds a log-likelihood.
        caveat: what a reader must know before comparing the score; may be "".
        rate, distortion, elbo: nats per image; elbo = -(rate + distortion).
        rate_se, distortion_se, elbo_se: standard errors over images, given the fitted variance.
            NaN for a single image.
        mse, psnr: E[sse]/D and -10 log10 of it; they do not depend on the variance.
        bits_per_dim: -elbo / (D ln 2), for the density of x in [0, 1]^D.
        floored: share of (image, sample) pairs whose fitted variance was raised to the floor; for
            `student`, whose sse/D was, on the train split.
        sigma2_floor: that floor; None if nothing is fitted.
        n_images, n_draws, dims: n, K and D.
    """

    split: str
    sigma: str
    sigma2: float
    nu: float | None
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


class Scores(list[Score]):
    """A list of scores, one per split and applicable interpretation."""

    def to_frame(self) -> "pd.DataFrame":
        """Returns a row per score, with the attributes of `Score` as columns."""
        import pandas as pd

        return pd.DataFrame([asdict(score) for score in self])


def gaussian_nll(sse: Array, sigma2: "Array | float", dims: int) -> Array:
    """Returns -log N(x; mu, sigma2 I) = sse/(2 sigma2) + (D/2) log(2 pi sigma2), nats."""
    return sse / (2 * sigma2) + dims / 2 * np.log(2 * np.pi * np.asarray(sigma2))


def dequantized_nll(sse: Array, sigma2: "Array | float", dims: int, levels: int) -> Array:
    """Returns E_u of -log N(x + u; mu, sigma2 I) per bin, nats: a likelihood of discrete pixels.

    u is uniform over the bin of x, of width w = 1/(levels - 1) in every pixel. The expectation is
    exact: u adds D w^2/12 to the squared error. It is an upper bound of -log of the mass of the bin
    (Theis et al. 2016, "A note on the evaluation of generative models", section 3.1).
    """
    width = 1 / (levels - 1)
    return gaussian_nll(sse + dims * width**2 / 12, sigma2, dims) - dims * math.log(width)


@dataclass(frozen=True, kw_only=True)
class Interpreted:
    """The likelihoods of a split under one interpretation, by image and posterior sample.

    Attributes:
        split, sigma: the split, and the name of the interpretation.
        interpretation: its registry entry.
        statistics: of the split.
        sigma2: the variance after applying the floor, one number or (n, K), squared pixels; the
            scale of a Student t.
        nu: degrees of freedom of a Student t; None if it is not one.
        nll: (n, K) -log p(x|z), nats.
        is_gaussian: whether it is that of a Gaussian with the variance `sigma2`.
        floored: share of pairs whose variance was raised to the floor.
        caveat: what a reader must know before comparing; may be "".
    """

    split: str
    sigma: str
    interpretation: Interpretation
    statistics: Statistics
    sigma2: "Array | float"
    nu: float | None
    nll: Array
    is_gaussian: bool
    floored: float
    caveat: str

    def facts(self) -> dict[str, Any]:
        """Returns the columns that scores and bounds share."""
        images, draws = self.statistics.sse.shape
        scales = self.interpretation.scales
        return {
            "split": self.split,
            "sigma": self.sigma,
            "sigma2": float(np.mean(self.sigma2)),
            "nu": self.nu,
            "s_min": scales[0] if scales else None,
            "s_max": scales[1] if scales else None,
            "is_density": self.interpretation.is_density,
            "caveat": self.caveat,
            "n_images": images,
            "n_draws": draws,
            "dims": self.statistics.dims,
        }


def interpret(
    statistics: Mapping[str, Statistics], trial: Trained, sigmas: Iterable[str] = SIGMAS
) -> list[Interpreted]:
    """Computes the likelihoods of every split under every applicable interpretation.

    Args:
        statistics: by split; `shared` and `student` are fitted on `train`.
        trial: the trial, or any other object with beta, variance and floor.
        sigmas: names of interpretations; one that does not apply, such as `own` for a model
            without a variance or `beta-half` for an unknown beta, is skipped.

    Raises:
        BadInput: an interpretation is unknown, or lacks the statistics of the train split.
        NotFinite: a number of the statistics is not finite.
    """
    for split, measured in statistics.items():
        measured.check_finite(split)
    names = list(sigmas)
    fits = {sigma: _fit(sigma, statistics.get("train"), trial) for sigma in names}
    each = (
        _interpret(split, sigma, measured, trial, fits[sigma])
        for split, measured in statistics.items()
        for sigma in names
    )
    return [interpreted for interpreted in each if interpreted is not None]


def _fit(sigma: str, train: Statistics | None, trial: Trained) -> Any:
    """What an interpretation fits to the train split; None if it fits nothing."""
    fit = interpretation(sigma).fit
    if fit is None:
        return None
    if train is None:
        raise BadInput(f"sigma {sigma} is fitted on the train split, whose statistics are missing")
    return fit(train, trial)


def _interpret(
    split: str, sigma: str, statistics: Statistics, trial: Trained, fit: Any
) -> Interpreted | None:
    entry = interpretation(sigma)
    decoder = entry.decoder(statistics, trial, fit)
    if decoder is None:
        return None
    nll = decoder.nll
    if nll is None:
        nll = gaussian_nll(statistics.sse, decoder.sigma2, statistics.dims)
    on_itself = ON_ITSELF if entry.fit and split == "train" else ""
    return Interpreted(
        split=split,
        sigma=parse_sigma(sigma),
        interpretation=entry,
        statistics=statistics,
        sigma2=decoder.sigma2,
        nu=decoder.nu,
        nll=nll,
        is_gaussian=decoder.nll is None,
        floored=decoder.floored,
        caveat="; ".join(filter(None, (entry.caveat, on_itself, decoder.caveat))),
    )


def score(
    statistics: Mapping[str, Statistics], trial: Trained, sigmas: Iterable[str] = SIGMAS
) -> Scores:
    """Scores every split under every applicable interpretation.

    Arguments and errors are those of `interpret`.
    """
    return Scores(score_one(each, trial) for each in interpret(statistics, trial, sigmas))


def score_one(interpreted: Interpreted, trial: Trained) -> Score:
    """Averages the likelihoods of a split over images and samples."""
    statistics = interpreted.statistics
    distortion = interpreted.nll.mean(axis=1)  # (n,): each image's mean over its samples
    rate, mse = float(statistics.kl.mean()), float(statistics.sse.mean()) / statistics.dims
    elbo = -(rate + float(distortion.mean()))
    return Score(
        **interpreted.facts(),
        rate=rate,
        distortion=float(distortion.mean()),
        elbo=elbo,
        rate_se=standard_error(statistics.kl),
        distortion_se=standard_error(distortion),
        elbo_se=standard_error(statistics.kl + distortion),
        mse=mse,
        psnr=math.inf if mse == 0 else -10 * math.log10(mse),
        bits_per_dim=-elbo / (statistics.dims * math.log(2)),
        floored=interpreted.floored,
        sigma2_floor=trial.sigma2_floor if interpreted.interpretation.fitted else None,
    )
