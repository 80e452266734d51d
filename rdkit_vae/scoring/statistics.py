"""The statistics of a checkpoint, from which all its scores are computed."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rdkit_vae.errors import BadInput, NotFinite

Array = npt.NDArray[np.float64]

ACTIVE = 0.01  # a unit is active if its posterior mean has more variance over images


@dataclass(frozen=True, kw_only=True)
class RateTerms:
    """The rate by unit, and as the sum of mutual information and mismatch with the prior.

    R = I_q(x; z) + KL(q(z) || p(z)), where q(z) is the mean of the posteriors of the n images
    (Hoffman and Johnson 2016, "ELBO surgery"). I_q is at most log n; if it is close to that, more
    images would give a larger value.

    Attributes:
        unit_variance: (L,) variance over images of each unit's posterior mean.
        unit_rate: (L,) mean KL of each unit, nats.
        mutual_information: I_q(x; z), nats.
        mutual_information_se: its standard error over images.
    """

    unit_variance: Array
    unit_rate: Array
    mutual_information: float
    mutual_information_se: float

    @property
    def marginal_kl(self) -> float:
        """KL(q(z) || p(z)): the rate minus the mutual information, nats."""
        return float(self.unit_rate.sum()) - self.mutual_information

    @property
    def active_units(self) -> int:
        """Number of units with a variance above 0.01 (Burda et al. 2016, section 5.2)."""
        return int((self.unit_variance > ACTIVE).sum())


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What one evaluation measures on one split.

    Attributes:
        image: (n,) position of each image in its split.
        kl: (n,) KL(q(z|x) || N(0, I)) in closed form, nats.
        sse: (n, K) sum over the D values of (x - mu(z))^2, squared pixels.
        log_ratio: (n, K) log p(z) - log q(z|x), nats.
        dims: D.
        levels: grey levels of a pixel; None if unknown.
        own_sigma2: the variance that the model was trained with, squared pixels: one number, or
            (n, K) if it depends on z (its mean over the values if it differs between them); None
            if the model has none. The scale s2 of a Student t.
        own_nu: degrees of freedom of the Student t that the model was trained with; None: none.
        own_nll: (n, K) -log p(x|z) under the model's own variance, nats, where that differs
            between the values of an image; else None.
        rate_terms: the parts of the rate; None if not measured.
    """

    image: npt.NDArray[np.int64]
    kl: Array
    sse: Array
    log_ratio: Array
    dims: int
    levels: int | None = None
    own_sigma2: "float | Array | None" = None
    own_nu: float | None = None
    own_nll: Array | None = None
    rate_terms: RateTerms | None = None

    def __post_init__(self) -> None:
        if self.sse.ndim != 2 or 0 in self.sse.shape:
            raise BadInput(f"statistics: sse must be (n, K) and not empty, got {self.sse.shape}")
        if self.log_ratio.shape != self.sse.shape or not (
            self.kl.shape == self.image.shape == self.sse.shape[:1]
        ):
            raise BadInput("statistics: the shapes of image, kl, sse and log_ratio do not match")
        own = self.own_sigma2
        if isinstance(own, np.ndarray) and own.shape != self.sse.shape:
            raise BadInput("statistics: the shapes of own_sigma2 and sse do not match")
        if self.own_nu is not None and not (
            isinstance(own, float) and self.own_nll is None and 0 < self.own_nu < math.inf
        ):
            raise BadInput("statistics: own_nu must be positive, beside a scalar own_sigma2 alone")
        if self.own_nll is not None and self.own_nll.shape != self.sse.shape:
            raise BadInput("statistics: the shapes of own_nll and sse do not match")

    @property
    def finite(self) -> bool:
        """Whether every number is finite."""
        return all(bool(np.isfinite(values).all()) for values in self._numbers().values())

    def check_finite(self, split: str) -> None:
        """Refuses numbers that are not finite.

        Raises:
            NotFinite: a number is not finite; the message names it and the split.
        """
        for name, values in self._numbers().items():
            bad = values[~np.isfinite(values)]
            if len(bad):
                share = f"{len(bad)} of {values.size} numbers"
                raise NotFinite(f"{name} of the {split} split is not finite: {bad[0]:g} in {share}")

    def _numbers(self) -> dict[str, Array]:
        numbers: dict[str, Array | float] = {
            "kl": self.kl,
            "sse": self.sse,
            "log_ratio": self.log_ratio,
        }
        if self.own_sigma2 is not None:
            numbers["own_sigma2"] = self.own_sigma2
        if self.own_nu is not None:
            numbers["own_nu"] = self.own_nu
        if self.own_nll is not None:
            numbers["own_nll"] = self.own_nll
        if self.rate_terms is not None:
            numbers["unit_variance"] = self.rate_terms.unit_variance
            numbers["mutual_information"] = self.rate_terms.mutual_information
        return {name: np.atleast_1d(values) for name, values in numbers.items()}


def standard_error(per_image: Array) -> float:
    """Returns the standard error of the mean of (n,) values; NaN for a single value."""
    if len(per_image) < 2:
        return math.nan
    return float(per_image.std(ddof=1) / math.sqrt(len(per_image)))
