import math

import pandas as pd
import pytest

from rdvae_analysis.implied import Verdict, implied_table, verdict
from rdvae_analysis.points import final_rows

NAN = math.nan


@pytest.mark.parametrize(
    ("beta", "implied", "error", "scatter", "says"),
    [
        (1.0, 1.04, 0.001, 0.02, Verdict.AGREES),
        (1.0, 1.2, 0.1, 0.02, Verdict.AGREES),  # within three standard errors
        (4.0, 1.04, 0.01, 0.02, Verdict.OTHER_BETA),
        (1e-6, 2e-6, 1e-8, 0.0, Verdict.OTHER_BETA),
        (4.0, 1.04, 0.01, 0.3, Verdict.LATENTS_DISAGREE),
        (1.0, 1.04, 0.01, NAN, Verdict.AGREES),  # a single latent is active
        (NAN, 1.04, 0.01, 0.02, Verdict.NOT_CLAIMED),
        (1.0, NAN, NAN, 0.02, Verdict.NO_VARIANCE),
        (1.0, NAN, NAN, 0.3, Verdict.LATENTS_DISAGREE),
    ],
)
def test_the_verdict(
    beta: float, implied: float, error: float, scatter: float, says: Verdict
) -> None:
    assert verdict(beta=beta, implied=implied, error=error, scatter=scatter) is says


def test_a_row_for_each_model_whose_weights_were_measured(with_models: pd.DataFrame) -> None:
    measured = with_models["model"].isin(["mine", "optimal"])
    known = with_models["model"] == "mine"
    frame = with_models.assign(
        implied_tau=pd.Series(0.5, with_models.index).where(measured),
        implied_beta=pd.Series(1.0, with_models.index).where(known),
        implied_beta_se=pd.Series(0.01, with_models.index).where(known),
        implied_scatter=pd.Series(0.01, with_models.index).where(measured),
    )
    table = implied_table(final_rows(frame)[0]).set_index("model")
    assert set(table.index) == {"mine", "optimal"}
    assert table.loc["mine", "verdict"] == Verdict.OTHER_BETA
    assert math.isnan(table.loc["mine", "implied_tau"])  # beta itself is known
    assert table.loc["optimal", "verdict"] == Verdict.NO_VARIANCE
    assert table.loc["optimal", "implied_tau"] == 0.5
    assert implied_table(with_models).empty
