"""What an evaluation pass leaves of a checkpoint; everything that is scored follows from it."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rdkit_vae.errors import BadInput, NotFinite

Array = npt.NDArray[np.float64]

ACTIVE = 0.01  # least variance over images of the posterior mean of an active unit


@dataclass(frozen=True, kw_only=True)
class RateTerms:
    """Where the rate goes: by unit, and into information about x and mismatch with the prior.

    R = I_q(x; z) + KL(q(z) || p(z)), where q(z) is the mean of the posteriors of the n images
    (Hoffman and Johnson 2016, "ELBO surgery"). Both are of these n images: I_q is at most log n,
    and where it comes near, more images would give more.

    Attributes:
        unit_variance: (L,) variance over images of each unit's posterior mean.
        unit_rate: (L,) mean KL of each unit, nats.
        mutual_information: I_q(x; z), nats; its standard error over images beside.
    """

    unit_variance: Array
    unit_rate: Array
    mutual_information: float
    mutual_information_se: float

    @property
    def marginal_kl(self) -> float:
        """KL(q(z) || p(z)): the rate less the mutual information, nats."""
        return float(self.unit_rate.sum()) - self.mutual_information

    @property
    def active_units(self) -> int:
        """Units of variance above 0.01 (Burda et al. 2016, section 5.2)."""
        return int((self.unit_variance > ACTIVE).sum())


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What an evaluation pass leaves of one checkpoint on one split.

    Attributes:
        image: (n,) position of each image in its split.
        kl: (n,) KL(q(z|x) || N(0, I)) in closed form, nats.
        sse: (n, K) sum over the D values of (x - mu(z))^2, squared pixels.
        log_ratio: (n, K) log p(z) - log q(z|x), nats.
        dims: D.
        levels: grey levels of a pixel; None where that is not known.
        own_sigma2: the variance that the model was trained with, squared pixels: one number, or
            (n, K) where it depends on z; None: it has none.
        rate_terms: where the rate goes; None where that was not measured.
    """

    image: npt.NDArray[np.int64]
    kl: Array
    sse: Array
    log_ratio: Array
    dims: int
    levels: int | None = None
    own_sigma2: "float | Array | None" = None
    rate_terms: RateTerms | None = None

    def __post_init__(self) -> None:
        if self.sse.ndim != 2 or 0 in self.sse.shape:
            raise BadInput(f"statistics: sse must be (n, K) and not empty, got {self.sse.shape}")
        if self.log_ratio.shape != self.sse.shape or not (
            self.kl.shape == self.image.shape == self.sse.shape[:1]
        ):
            raise BadInput("statistics: image, kl, sse and log_ratio disagree in shape")
        own = self.own_sigma2
        if isinstance(own, np.ndarray) and own.shape != self.sse.shape:
            raise BadInput("statistics: own_sigma2 and sse disagree in shape")

    @property
    def finite(self) -> bool:
        """Whether every number in it is."""
        return all(bool(np.isfinite(values).all()) for values in self._numbers().values())

    def check_finite(self, split: str) -> None:
        """Refuses numbers that are not.

        Raises:
            NotFinite: one is not; the message names it and the split.
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
        if self.rate_terms is not None:
            numbers["unit_variance"] = self.rate_terms.unit_variance
            numbers["mutual_information"] = self.rate_terms.mutual_information
        return {name: np.atleast_1d(values) for name, values in numbers.items()}


def standard_error(per_image: Array) -> float:
    """Of the mean of (n,) values; NaN for a single one."""
    if len(per_image) < 2:
        return math.nan
    return float(per_image.std(ddof=1) / math.sqrt(len(per_image)))
