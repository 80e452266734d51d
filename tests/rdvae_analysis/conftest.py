"""Results made by hand: two objectives, three betas, two seeds, two checkpoints."""

import itertools
import math

import pandas as pd
import pytest

from rdkit_vae.store.schema import COLUMNS


@pytest.fixture
def frame() -> pd.DataFrame:
    rows = []
    sigmas = ("half", "beta-half", "optimal", "shared")
    axes = itertools.product(("constant", "optimal"), (0.1, 1.0, 10.0), (0, 1), (1, 5), sigmas)
    for objective, beta, seed, epoch, sigma in axes:
        rate = 10 / beta**0.5 + seed + (5 - epoch)
        distortion = 30 - rate + {"half": 20, "beta-half": 400 * beta}.get(sigma, 0)
        rows.append(
            {
                "run_id": f"{objective}-{beta}-{seed}",
                "curve": f"{objective}-abcd",
                "setup": "efgh",
                "dataset": "digits",
                "architecture": "linear",
                "latents": 4,
                "dims": 64,
                "objective": objective,
                "train_sigma2": 0.5 if objective == "constant" else None,
                "beta": beta,
                "seed": seed,
                "epoch": epoch,
                "epochs": 5,
                "split": "test",
                "sigma": sigma,
                "sigma2": {"half": 0.5, "beta-half": beta / 2}.get(sigma, 1 / rate),
                "rate": rate,
                "distortion": distortion,
                "elbo": -(rate + distortion),
                "mse": 1 / rate,
                "psnr": rate,
                "mutual_information": rate / 2,
                "marginal_kl": rate / 2,
                "active_units": 4 - (beta > 1),
                "n_images": 100,
                "status": "ok",
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _model(rows: pd.DataFrame, name: str, beta: float, c: float) -> pd.DataFrame:
    """The rows of one run, as those of a model from elsewhere."""
    sigmas = [
        *("half", "optimal", "shared"),
        *([] if math.isnan(beta) else ["beta-half"]),
    ]
    known = {"model": name, "run_id": f"{name}-0123456789", "beta": beta, "train_sigma2": c}
    own = {"curve": f"{name}-0123456789", "setup": f"{name}-0123456789", "objective": "unknown"}
    rows = rows[rows["sigma"].isin(sigmas)]
    return rows.assign(**known, **own, architecture="theirs.VAE", epoch=0, epochs=0)


@pytest.fixture
def with_models(frame: pd.DataFrame) -> pd.DataFrame:
    """The same and three models from elsewhere: two of known beta, one of them named `optimal`."""
    run = frame[(frame["run_id"] == "constant-1.0-0") & (frame["epoch"] == 5)]
    nan = math.nan
    models = (("mine", 2.0, 0.5), ("friend's VAE", nan, nan), ("optimal", 4.0, nan))
    return pd.concat([frame, *(_model(run, *model) for model in models)], ignore_index=True)
