"""The weight of the KL that was read back from the weights, beside the one that is claimed."""

import math
from enum import StrEnum

import pandas as pd

from rdkit_vae.scoring.implied import AGREEING
from rdvae_analysis.names import model_name

_SURE = 3.0  # standard errors
_CLOSE = 0.1  # of the claimed beta


class Verdict(StrEnum):
    """What the weights of a model say about the beta that is claimed for it."""

    AGREES = "agrees"
    OTHER_BETA = "the weights imply another beta"
    LATENTS_DISAGREE = (
        "its latents disagree: training had not converged, or a different loss was used"
    )
    NOT_CLAIMED = "its beta is not known"
    NO_VARIANCE = "its training variance is not known, so beta is not either"


def verdict(*, beta: float, implied: float, error: float, scatter: float) -> Verdict:
    """Whether the weights of a model agree with the beta that is claimed for it.

    Args:
        beta: as claimed; NaN if it is not known.
        implied: beta as read back from the weights (`implied_beta`); NaN if it is not known.
        error: standard error of `implied` (`implied_beta_se`); NaN counts as 0.
        scatter: disagreement of the latents, as a share (`implied_scatter`); NaN where a single
            latent is active, which has nothing to disagree with.
    """
    if scatter > AGREEING:
        return Verdict.LATENTS_DISAGREE
    if math.isnan(implied):
        return Verdict.NO_VARIANCE
    if math.isnan(beta):
        return Verdict.NOT_CLAIMED
    allowed = max(_SURE * (0.0 if math.isnan(error) else error), _CLOSE * beta)
    return Verdict.OTHER_BETA if abs(implied - beta) > allowed else Verdict.AGREES


def implied_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The claimed beta of each model, what its weights say, and the verdict.

    Args:
        rows: results of last checkpoints.

    Returns:
        A row per run whose weight of the KL was read back from the weights: `model` (in words),
        `seed`, `beta` (claimed), `implied_beta`, its standard error `beta_se`, `implied_tau` (beta
        x s2, squared pixels) where beta itself is not known, `scatter` of the latents as a share,
        and `verdict` in words. Empty if there is none.
    """
    columns = [
        *("model", "seed", "beta", "implied_beta", "beta_se", "implied_tau", "scatter", "verdict"),
    ]
    if not {"implied_tau", "implied_beta"} <= set(rows):
        return pd.DataFrame(columns=columns)
    measured = rows["implied_tau"].notna() | rows["implied_beta"].notna()
    runs = rows[measured].drop_duplicates("run_id")
    table = runs.rename(columns={"implied_beta_se": "beta_se", "implied_scatter": "scatter"})
    table = table.assign(
        model=list(map(model_name, runs["objective"], runs["train_sigma2"])),
        implied_tau=runs["implied_tau"].where(runs["implied_beta"].isna()),
        verdict=[
            str(verdict(beta=r.beta, implied=r.implied_beta, error=r.beta_se, scatter=r.scatter))
            for r in table.itertuples()
        ],
    )
    return table[columns].reset_index(drop=True)
