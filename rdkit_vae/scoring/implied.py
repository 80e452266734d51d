"""The weight that a trained model's KL really had, from measurements on the model.

Training sees one number, tau = beta x s2. At its optimum the loss does not change with a shift b_j
of the log variance of latent j, so with rec = sse/(2 s2)

    E[d rec/d b_j] = (beta/2) (1 - E[sigma_j^2]),    d rec/d b_j = (d rec/d z_j) sigma_j eps_j / 2,

which gives tau for each latent that is in use. Where they disagree, training had not converged, or
the model was trained with another loss; early in training they can agree on another value. With a
reconstruction loss that has no scale, such as the cross-entropy, the same gives beta itself.

Latents that share their bias, as the positions of a convolution's channel do, count as one.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rdkit_vae.scoring.statistics import Array

AGREEING = 0.1  # most scatter of the latents' values beyond their errors, as a share of tau


@dataclass(frozen=True, kw_only=True)
class ImpliedWeight:
    """What the weights of a model say about the weight of its KL.

    Attributes:
        tau: beta x s2, squared pixels (of a loss without a scale: beta); NaN where no latent is
            active.
        beta: tau over the training variance: the constant one, or the one that was fitted; of a
            loss without a scale, tau. NaN where the training variance is unknown.
        standard_error: of tau, over images.
        per_latent: (L,) tau of each latent or channel; NaN where it is not active.
        per_latent_se: (L,) their standard errors.
        chi2, degrees: of the latents' values about tau, and their number less one.
        scatter: of the latents' values beyond their errors, as a share of tau.
    """

    tau: float
    beta: float
    standard_error: float
    per_latent: Array
    per_latent_se: Array
    chi2: float
    degrees: int
    scatter: float

    @property
    def beta_at_half(self) -> float:
        """The beta that a constant variance of 1/2 makes of tau."""
        return 2 * self.tau

    @property
    def beta_se(self) -> float:
        """The standard error of beta, over images."""
        return abs(self.standard_error * self.beta / self.tau)

    @property
    def converged(self) -> bool:
        """Whether several latents agree, as they do at an optimum and hardly anywhere else."""
        return self.degrees >= 1 and self.scatter <= AGREEING


def pooled(
    slopes: Array, slacks: Array, active: npt.NDArray[np.bool_], sigma2: float
) -> ImpliedWeight:
    """The ratios of means over images, by latent and over all active ones, with their errors.

    Args:
        slopes: (n, L) (d rec/d z_j) sigma_j eps_j of each image, its mean over posterior samples.
        slacks: (n, L) 1 - sigma_j^2.
        active: (L,) which latents are in use.
        sigma2: the training variance, squared pixels; NaN if unknown.
    """
    latents = slopes.shape[1]
    per_latent, errors = np.full(latents, math.nan), np.full(latents, math.nan)
    for j in np.flatnonzero(active):
        per_latent[j], errors[j] = _ratio(slopes[:, j], slacks[:, j])
    if not active.any():
        nan = math.nan
        return ImpliedWeight(
            **{"tau": nan, "beta": nan, "standard_error": nan, "chi2": nan, "scatter": nan},
            per_latent=per_latent,
            per_latent_se=errors,
            degrees=0,
        )
    tau, error = _ratio(slopes[:, active].sum(axis=1), slacks[:, active].sum(axis=1))
    weights = 1 / errors[active] ** 2
    centre = float((weights * per_latent[active]).sum() / weights.sum())
    chi2 = float((weights * (per_latent[active] - centre) ** 2).sum())
    degrees = int(active.sum()) - 1
    excess = max(0.0, chi2 - degrees) / weights.sum()
    return ImpliedWeight(
        tau=tau,
        beta=tau / sigma2,
        standard_error=error,
        per_latent=per_latent,
        per_latent_se=errors,
        chi2=chi2,
        degrees=degrees,
        scatter=math.sqrt(excess) / abs(tau),
    )


def _ratio(above: Array, below: Array) -> tuple[float, float]:
    """mean(above) / mean(below) over images, and its standard error."""
    ratio = float(above.mean() / below.mean())
    residual = above - ratio * below
    error = residual.std(ddof=1) / math.sqrt(len(above)) / abs(below.mean())
    return ratio, float(error)
