"""Results made by hand: two objectives, three betas, two seeds, two checkpoints."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rdkit_vae.store.generation import GENERATION_FILES, PRIOR_FILES, Kind, add_rows, rows_frame
from rdkit_vae.store.paths import Sweep
from rdkit_vae.store.schema import COLUMNS, GENERATION


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


_MODEL_COLUMNS = [name for name in GENERATION if name in COLUMNS and name != "split"]
RUNGS = {"standard": 1.0, "per-latent": 0.95, "gaussian": 0.85, "mixture": 0.7, "two-stage": 0.72}


def made_generation(frame: pd.DataFrame, **facts: object) -> list[dict[str, Any]]:
    """Distances as of real models: U-shaped in beta, closer for a better prior and for BS-VAE."""
    rows = []
    for run in _runs(frame):
        place = math.log10(run["beta"]) - (run["objective"] == "optimal")
        noise = 1 + 0.05 * run["seed"]
        best = (
            noise * (8 + 4 * place**2) * {"optimal": 0.6, "student": 0.5}.get(run["objective"], 1)
        )
        rebuilt = noise * (1 + 12 * 10 ** (0.4 * place))
        shared = run | {
            **{"features": "classifier", "features_sha256": "3f2a9c1b" * 8, "feature_dims": 64},
            **{"split": "test", "pixels": "clipped", "sample_seed": 0, "n_samples": 1000},
            **{"n_reference": 500, "kid_se": 0.01, "precision": 0.7, "recall": 0.4},
            **{"density": 1.1, "coverage": 0.5, "prior": "", "note": ""},
        }
        share = 15 * 10 ** (-0.25 * place)
        for prior, scale in RUNGS.items():
            distance = best + rebuilt + share * (scale - 0.6)
            rows.append(shared | {"source": "prior", "prior": prior, **_distances(distance)})
        rebuilt_row = {"source": "reconstruction", "n_samples": 500, **_distances(rebuilt)}
        rows.append(shared | rebuilt_row | {"psnr": 20 - place, "ssim": 0.8})
        rows.append(shared | {"source": "images", **_distances(0.8)})
    return [row | facts for row in rows]


def _distances(frechet: float) -> dict[str, float]:
    return {"frechet": frechet, "frechet_infinite": 0.98 * frechet, "kid": frechet / 100}


def made_priors(frame: pd.DataFrame, **facts: object) -> list[dict[str, Any]]:
    """Rates under the ladder of priors, falling with beta."""
    rows = []
    for run in _runs(frame):
        rate = (40 + run["seed"]) / run["beta"] ** 0.25
        for prior, scale in RUNGS.items():
            row = run | {
                **{"prior": prior, "split": "test", "rate": rate * (0.4 + 0.6 * scale)},
                **{"rate_se": 0.2, "is_bound": prior == "two-stage", "rate_held_out": None},
                **{"bits_per_dim": rate / 64, "bits_per_latent": rate / 4, "folds": 0},
                **{"rate_fitted": rate * scale, "components": 1, "fit_seed": 0, "n_fitted": 900},
                **{"n_images": 100, "n_draws": 4, "dims": 64, "note": ""},
            }
            rows.append(row | facts)
    return rows


def _runs(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The columns that say which model it is, of each run's last checkpoint."""
    last = frame[frame["epoch"] == frame["epochs"]].drop_duplicates("run_id")
    last = last.astype(object).fillna({"checkpoint_sha256": "ab" * 32, "step": 10})
    rows = last.where(last.notna(), None).to_dict("records")
    kept = [*_MODEL_COLUMNS, "checkpoint_sha256"]
    return [{str(name): value for name, value in row.items() if name in kept} for row in rows]


def write_measured(sweep: Path, rows: list[dict[str, Any]], kind: Kind = GENERATION_FILES) -> None:
    """Writes rows into a sweep, a file per run and epoch, as the commands do."""
    for (run, epoch), part in itertools.groupby(
        rows, key=lambda row: (row["run_id"], row["epoch"])
    ):
        add_rows(Sweep(sweep).measured(kind.folder, run, epoch), kind, list(part))


@pytest.fixture(scope="session")
def distances_of() -> Callable[..., pd.DataFrame]:
    """Makes distances of the samples of models, from their results."""
    return lambda frame, **facts: rows_frame(made_generation(frame, **facts), GENERATION_FILES)


@pytest.fixture(scope="session")
def rates_of() -> Callable[..., pd.DataFrame]:
    """Makes rates of models under the ladder of priors, from their results."""
    return lambda frame, **facts: rows_frame(made_priors(frame, **facts), PRIOR_FILES)


@pytest.fixture
def generation(frame: pd.DataFrame) -> pd.DataFrame:
    """Distances of the samples of these models."""
    return rows_frame(made_generation(frame), GENERATION_FILES)


@pytest.fixture
def priors(frame: pd.DataFrame) -> pd.DataFrame:
    """Rates of these models under the ladder of priors."""
    return rows_frame(made_priors(frame), PRIOR_FILES)


@pytest.fixture(scope="session")
def measured_into() -> Callable[[Path, pd.DataFrame], None]:
    """Writes files of distances and of priors for the models of these results into a sweep."""

    def write(sweep: Path, frame: pd.DataFrame) -> None:
        write_measured(sweep, made_generation(frame))
        write_measured(sweep, made_priors(frame), PRIOR_FILES)

    return write


@pytest.fixture
def measured(
    frame: pd.DataFrame, tmp_path: Path, measured_into: Callable[[Path, pd.DataFrame], None]
) -> Path:
    """A sweep with the files of both, and no results."""
    sweep = tmp_path / "runs" / "made"
    measured_into(sweep, frame)
    return sweep
