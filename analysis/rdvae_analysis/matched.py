"""Other objectives against constant variance, where the two can be compared.

At the same rate; and at beta_const = 2 beta s2, where constant variance has the same gradients.

Functions from results of last checkpoints on one split to tables; only models of one setup are
compared. Rates, distortions and ELBOs in nats per image.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator

from rdkit_vae.text import counted
from rdvae_analysis.curves import COLLAPSED
from rdvae_analysis.interpolation import (
    FEWEST,
    common_rates,
    elbo_curve,
    elbos_at,
    error_near,
    errors_at_rates,
    leave_one_out_errors,
)
from rdvae_analysis.intervals import mean_interval
from rdvae_analysis.sound import only_sound

# Interpretations that are fitted to every model in the same way, so that models compare.
NEEDED_SIGMAS = ("optimal", "shared", "mixture")
_OPTIONAL_SIGMAS = ("student",)  # rows of schema 4 and older lack it
COMPARED_SIGMAS = (*NEEDED_SIGMAS, *_OPTIONAL_SIGMAS)
_NEEDS = (
    *("dataset", "setup", "objective", "train_sigma2", "beta", "seed"),
    *("sigma", "rate", "elbo"),
)
_RATES = 9  # at which matched curves are compared
_SAME_BETA = 0.02  # in log beta: a constant model this close was trained at beta_const


def matched_rate(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The gain of each objective over constant variance at the same rate, by interpretation.

    For each seed both curves ELBO(rate) are interpolated monotonically (PCHIP) and subtracted at
    common rates; the interval is over seeds (Student's t, 95%).

    Args:
        rows: as for `consistency.spread`.

    Returns:
        A row per dataset, setup, objective, sigma and rate: `gain`, `low`, `high` (nats, NaN for
        one seed), `seeds`, and `miss`: the sum of both curves' interpolation errors near that rate,
        from leaving out their inner points (nats, mean over seeds; NaN if curves are too short to
        say). And notes on what was left out and how accurate the interpolation is.

    Raises:
        BadInput: a column is missing.
    """
    rows, notes = _complete(only_sound(rows, _NEEDS))
    tables: list[pd.DataFrame] = []
    for key, (objective, part, base) in _against_constant(rows):
        seeds = _seeds(part, base)
        if not seeds:
            notes.append(f"{objective}: no seed in common with constant variance")
            continue
        gains = [_gains(part, base, seeds, sigma) for sigma in _compared(part)]
        known = [table for table in gains if table is not None]
        if len(known) < len(gains):
            notes.append(
                f"{objective}: no rates in common with {FEWEST} or more constant models of a rate "
                f"above {COLLAPSED:g}"
            )
            continue
        notes += [*_error_of_constant(key["dataset"], base), *_same_gains(known)]
        tables += [table.assign(**key, objective=objective) for table in known]
    columns = ["dataset", "setup", "objective", "sigma", "seeds", "rate", "gain", "low", "high"]
    columns.append("miss")
    table = pd.concat(tables) if tables else pd.DataFrame(columns=columns)
    return table[columns], list(dict.fromkeys(notes))


def _complete(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows without those of an optional interpretation that some models of the setup lack.

    So all interpretations are compared on the same models. The second result says what is left out.
    """
    notes = []
    for (dataset, setup), group in rows.groupby(["dataset", "setup"]):
        model = ["objective", "train_sigma2", "beta", "seed"]
        counts = group.drop_duplicates(["sigma", *model])["sigma"].value_counts()
        count = int(counts.get("shared", 0))
        for sigma in _OPTIONAL_SIGMAS:
            has = int(counts.get(sigma, 0))
            if 0 < has < count:
                here = (rows["dataset"] == dataset) & (rows["setup"] == setup)
                rows = rows[~(here & (rows["sigma"] == sigma))]
                notes.append(
                    f"{dataset}: {sigma} is left out, since {count - has} of "
                    f"{counted(count, 'model')} have no row of it; rdvae verify --repair adds it"
                )
    return rows, notes


def _compared(rows: pd.DataFrame) -> list[str]:
    """The interpretations to compare: the needed ones, and the others that `_complete` left."""
    return [*NEEDED_SIGMAS, *(sigma for sigma in _OPTIONAL_SIGMAS if sigma in set(rows["sigma"]))]


def _gains(
    part: pd.DataFrame, base: pd.DataFrame, seeds: Sequence[int], sigma: str
) -> pd.DataFrame | None:
    """An objective's gains over constant variance at common rates; None if there are none."""
    pairs = [(elbo_curve(part, sigma, seed), elbo_curve(base, sigma, seed)) for seed in seeds]
    pairs = [pair for pair in pairs if min(len(rates) for rates, _ in pair) >= FEWEST]
    rates = common_rates([curve for pair in pairs for curve in pair], _RATES)
    if not len(rates):
        return None
    gains = np.array(
        [elbos_at(test, rates) - elbos_at(constant, rates) for test, constant in pairs]
    )
    gain, low, high = mean_interval(gains)
    errors = [errors_at_rates(a, rates) + errors_at_rates(b, rates) for a, b in pairs]
    columns = {"sigma": sigma, "seeds": len(pairs), "rate": rates, "miss": np.mean(errors, axis=0)}
    return pd.DataFrame({**columns, "gain": gain, "low": low, "high": high})


def overlay(rows: pd.DataFrame) -> pd.DataFrame:
    """Each objective against the constant variance that has its gradients: beta_const = 2 beta s2.

    A fitted variance that all images share has the gradients of a constant variance of 1/2 with
    this beta (s2 from the train split). BS-VAE has one variance per image, and would have these
    gradients if the images shared it. So the variance does not explain what differs at the same
    beta_const: under `shared` it is the weighting of images and the optimisation, under `optimal`
    the interpretation as well. The constant curve is interpolated over log beta, so it is exact
    only where a model was trained at beta_const.

    Args:
        rows: as for `consistency.spread`.

    Returns:
        A row per dataset, setup, objective and beta: `beta_const`, its own `rate` and `mse`; minus
        those of the constant curve at beta_const, `more_rate` and `more_log_mse`; for each of
        `COMPARED_SIGMAS` that all models have, `gain_SIGMA` with the interval over seeds
        `low_SIGMA` to `high_SIGMA`; `per_image`: gain_optimal - gain_shared; `miss`: the error at
        the nearest inner point of the constant curve's ELBO when it is left out (nats; that is an
        interpolation over twice the distance). Models beyond the betas of the constant curve, and
        those without rows of one of `NEEDED_SIGMAS`, are left out.

    Raises:
        BadInput: a column is missing.
    """
    rows, _ = _complete(only_sound(rows, (*_NEEDS, "sigma2", "mse")))
    records = []
    for key, (objective, part, base) in _against_constant(rows):
        for beta, models in part.groupby("beta"):
            by_seed = [_differences(models, base, seed) for seed in _seeds(models, base)]
            known = [differences for differences in by_seed if differences is not None]
            if known:
                setting = {**key, "objective": objective, "beta": beta, "seeds": len(known)}
                records.append(setting | _over_seeds(known))
    table = pd.DataFrame(records)
    if records:
        table["per_image"] = table["gain_optimal"] - table["gain_shared"]
    return table


def _over_seeds(differences: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each number, and intervals for the gains."""
    row = {name: float(np.mean([d[name] for d in differences])) for name in differences[0]}
    for sigma in (sigma for sigma in COMPARED_SIGMAS if f"gain_{sigma}" in row):
        _, low, high = mean_interval(np.array([[d[f"gain_{sigma}"]] for d in differences]))
        row |= {f"low_{sigma}": float(low[0]), f"high_{sigma}": float(high[0])}
    return row


def best(rows: pd.DataFrame) -> pd.DataFrame:
    """The best ELBO over beta of each objective, by interpretation, with its beta.

    Args:
        rows: as for `consistency.spread`.

    Returns:
        A row per dataset, setup, objective, C and sigma: `elbo` (nats per image, mean over seeds at
        the best beta), `sd` over seeds (of the population; NaN for one seed), `beta`, `rate`,
        `seeds`.

    Raises:
        BadInput: a column is missing.
    """
    keys = ["dataset", "setup", "objective", "train_sigma2", "sigma"]
    rows, _ = _complete(only_sound(rows, _NEEDS))
    compared = rows[rows["sigma"].isin(COMPARED_SIGMAS)]
    table = compared.groupby([*keys, "beta"], dropna=False).agg(
        elbo=("elbo", "mean"),
        sd=("elbo", _deviation),
        rate=("rate", "mean"),
        seeds=("seed", "nunique"),
    )
    table = table.reset_index().sort_values("elbo", ascending=False)
    return table.drop_duplicates(keys).sort_values(keys, ignore_index=True)


def _deviation(values: "pd.Series[float]") -> float:
    return float(values.std(ddof=0)) if len(values) > 1 else math.nan


def constant_curve(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of constant variance; if there are several C, those of the C with most betas."""
    constant = rows[rows["objective"] == "constant"]
    if constant.empty:
        return constant
    betas = constant.groupby("train_sigma2")["beta"].nunique()
    if betas.empty:  # no row has a C
        return constant.iloc[:0]
    return constant[constant["train_sigma2"] == betas.idxmax()]


def _against_constant(
    rows: pd.DataFrame,
) -> Iterator[tuple[dict[str, str], tuple[str, pd.DataFrame, pd.DataFrame]]]:
    """Each setup and objective, with its rows and those of `constant_curve`."""
    for (dataset, setup), group in rows.groupby(["dataset", "setup"]):
        base = constant_curve(group)
        if base.empty:
            continue
        for objective, part in group[group["objective"] != "constant"].groupby("objective"):
            yield {"dataset": dataset, "setup": setup}, (str(objective), part, base)


def _seeds(part: pd.DataFrame, base: pd.DataFrame) -> list[int]:
    return sorted(set(part["seed"]) & set(base["seed"]))


def _same_gains(tables: list[pd.DataFrame]) -> list[str]:
    """A note if the gains under `mixture` and `optimal` are the same.

    They are where both differ by a constant: where variances lie well within the mixture's range.
    """
    by_sigma = {table["sigma"].iloc[0]: table for table in tables}
    difference = by_sigma["optimal"][["rate", "gain"]] - by_sigma["mixture"][["rate", "gain"]]
    if difference.abs().max(axis=None) > 1e-3:
        return []
    return [
        "for all these models, mixture is optimal minus the same constant: here a comparison under "
        "optimal is also one of densities"
    ]


def _error_of_constant(dataset: str, base: pd.DataFrame) -> list[str]:
    """A note on how accurate the interpolation of the constant curve is."""
    curves = [elbo_curve(base, "shared", seed) for seed in sorted(set(base["seed"]))]
    errors = np.concatenate([leave_one_out_errors(curve) for curve in curves])
    if not len(errors):
        return []
    return [
        f"{dataset}: interpolating a point of the constant-variance curve from its neighbours is "
        f"off by {np.median(errors):.2f} nats (median; {errors.max():.2f} at most)"
    ]


def _differences(models: pd.DataFrame, base: pd.DataFrame, seed: int) -> dict[str, float] | None:
    """A model minus the constant curve of its seed at beta_const; None beyond the curve."""
    own = models[models["seed"] == seed].set_index("sigma")
    if not set(NEEDED_SIGMAS) <= set(own.index):
        return None
    model = own.loc["shared"]
    beta_const = 2 * float(model["beta"]) * float(model["sigma2"])
    log_beta = math.log(beta_const)
    # Weights depend on beta x C alone, so a curve of another C is one of beta x 2 C.
    curve = base[base["seed"] == seed]
    curve = curve.assign(x=np.log(2 * curve["beta"] * curve["train_sigma2"])).sort_values("x")
    sigmas = _compared(models)
    curves = {sigma: curve[curve["sigma"] == sigma] for sigma in sigmas}
    if any(
        len(c) < FEWEST or not c["x"].min() <= log_beta <= c["x"].max() for c in curves.values()
    ):
        return None

    def constant(sigma: str, value: Callable[[pd.DataFrame], "pd.Series[float]"]) -> float:
        points = curves[sigma]
        return float(PchipInterpolator(points["x"], value(points))(log_beta))

    shared = (curves["shared"]["x"].to_numpy(), curves["shared"]["elbo"].to_numpy())
    gains = {
        f"gain_{sigma}": float(own.loc[sigma, "elbo"]) - constant(sigma, lambda r: r["elbo"])
        for sigma in sigmas
    }
    return {
        "beta_const": beta_const,
        "miss": error_near(shared, log_beta, _SAME_BETA),
        "rate": float(model["rate"]),
        "mse": float(model["mse"]),
        "more_rate": float(model["rate"]) - constant("shared", lambda r: r["rate"]),
        "more_log_mse": math.log(model["mse"]) - constant("shared", lambda r: np.log(r["mse"])),
        **gains,
    }
