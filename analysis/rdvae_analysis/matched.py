"""BS-VAE and its kin against constant variance, where they can be compared.

At the same rate, and at beta_const = 2 beta s2, the constant variance of the same gradients.

Functions from results of one split and of last checkpoints to tables; only models of one setup are
compared. Rates, distortions and ELBOs in nats per image.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator

from rdvae_analysis.curves import COLLAPSED
from rdvae_analysis.intervals import mean_interval
from rdvae_analysis.sound import only_sound
from rdvae_analysis.theory import Floats

READINGS = ("optimal", "shared", "mixture")  # fitted alike to every model, so that they compare
_NEEDS = (
    *("dataset", "setup", "objective", "train_sigma2", "beta", "seed"),
    *("sigma", "rate", "elbo"),
)
_RATES = 9  # at which matched curves are compared
_FEWEST = 3  # points that make a curve
_SAME_BETA = 0.02  # of log beta: the constant model was trained at beta_const


def matched_rate(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """How far each objective is ahead of constant variance at the same rate, by interpretation.

    For each seed both curves ELBO(rate) are interpolated monotonically (PCHIP) and their difference
    is taken at common rates; the interval is over seeds (Student's t, 95%).

    Args:
        rows: as `spread`.

    Returns:
        A row per dataset, setup, objective, sigma and rate: `gain`, `low`, `high` (nats, NaN for
        one seed), `seeds`, and `miss`: by how much both curves together miss their inner points
        about that rate if these are left out (nats, mean over seeds; NaN where curves are too
        short to say); and in words what was left out, and how good the interpolation is.
    """
    rows = only_sound(rows, _NEEDS)
    found: list[pd.DataFrame] = []
    notes: list[str] = []
    for key, (objective, part, base) in _against_constant(rows):
        seeds = _seeds(part, base)
        if not seeds:
            notes.append(f"{objective}: no seed in common with constant variance")
            continue
        tables = [_gains(part, base, seeds, sigma) for sigma in READINGS]
        if any(table is None for table in tables):
            notes.append(
                f"{objective}: no rates in common with {_FEWEST} or more constant models of a rate "
                f"above {COLLAPSED:g}"
            )
            continue
        known = [table.assign(**key, objective=objective) for table in tables if table is not None]
        notes += [*_miss_of_constant(key["dataset"], base), *_same_gains(known)]
        found += known
    columns = ["dataset", "setup", "objective", "sigma", "seeds", "rate", "gain", "low", "high"]
    columns.append("miss")
    table = pd.concat(found) if found else pd.DataFrame(columns=columns)
    return table[columns], list(dict.fromkeys(notes))


def _gains(
    part: pd.DataFrame, base: pd.DataFrame, seeds: Sequence[int], sigma: str
) -> pd.DataFrame | None:
    """An objective's gains on constant variance at common rates; None where there are none."""
    curves = [(_curve(part, sigma, seed), _curve(base, sigma, seed)) for seed in seeds]
    curves = [pair for pair in curves if min(len(pair[0][0]), len(pair[1][0])) >= _FEWEST]
    rates = _common_rates([rate for pair in curves for rate, _ in pair])
    if not len(rates):
        return None
    gains = np.array([_at(ours, rates) - _at(theirs, rates) for ours, theirs in curves])
    gain, low, high = mean_interval(gains)
    misses = [_misses(ours, rates) + _misses(theirs, rates) for ours, theirs in curves]
    columns = {"sigma": sigma, "seeds": len(curves), "rate": rates}
    columns["miss"] = np.mean(misses, axis=0)
    return pd.DataFrame({**columns, "gain": gain, "low": low, "high": high})


def overlay(rows: pd.DataFrame) -> pd.DataFrame:
    """Each objective against the constant variance that has its gradients: beta_const = 2 beta s2.

    A fitted variance that all images share has the gradients of a constant variance of 1/2 with
    this beta (s2 from the train split); BS-VAE, whose images each have their own, would have them
    if they shared it. So what is left at the same beta_const is not the variance: under `shared` it
    is per-image weighting and optimisation, under `optimal` the reading besides. The constant
    curve is interpolated over log beta, so it is exact only where it was trained at beta_const.

    Args:
        rows: as `spread`.

    Returns:
        A row per dataset, setup, objective and beta: `beta_const`, its own `rate`, `mse`, and less
        those of the constant curve at beta_const: `more_rate`, `more_log_mse`, and for each of
        `READINGS` `gain_SIGMA` with `low_SIGMA`, `high_SIGMA` over seeds; `per_image`:
        gain_optimal - gain_shared; `miss`: by how much the nearest inner point of the constant
        curve's ELBO is missed if it is left out (nats, of the interpolation over twice the
        distance). Points beyond the constant curve's betas, and those that lack one of `READINGS`,
        are left out.
    """
    rows, found = only_sound(rows, (*_NEEDS, "sigma2", "mse")), []
    for key, (objective, part, base) in _against_constant(rows):
        for beta, points in part.groupby("beta"):
            each = [
                difference
                for seed in _seeds(points, base)
                if (difference := _differences(points, base, seed)) is not None
            ]
            if not each:
                continue
            means = {name: float(np.mean([d[name] for d in each])) for name in each[0]}
            row = {**key, "objective": objective, "beta": beta, "seeds": len(each), **means}
            for sigma in READINGS:
                _, low, high = mean_interval(np.array([[d[f"gain_{sigma}"]] for d in each]))
                row |= {f"low_{sigma}": float(low[0]), f"high_{sigma}": float(high[0])}
            found.append(row)
    table = pd.DataFrame(found)
    if found:
        table["per_image"] = table["gain_optimal"] - table["gain_shared"]
    return table


def best(rows: pd.DataFrame) -> pd.DataFrame:
    """The best ELBO over beta of each objective, by interpretation, with its beta.

    Returns:
        A row per dataset, setup, objective, C and sigma: `elbo` (mean over seeds at the best beta),
        `sd` over seeds (it divides by seeds - 1), `beta`, `rate`.
    """
    keys = ["dataset", "setup", "objective", "train_sigma2", "sigma"]
    rows = only_sound(rows, _NEEDS)
    chosen = rows[rows["sigma"].isin(READINGS)]
    table = chosen.groupby([*keys, "beta"], dropna=False).agg(
        elbo=("elbo", "mean"), sd=("elbo", "std"), rate=("rate", "mean"), seeds=("seed", "nunique")
    )
    table = table.reset_index().sort_values("elbo", ascending=False)
    return table.drop_duplicates(keys).sort_values(keys, ignore_index=True)


def constant_curve(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of constant variance; where there are several C, of the one with the most betas."""
    constant = rows[rows["objective"] == "constant"]
    if constant.empty:
        return constant
    betas = constant.groupby("train_sigma2")["beta"].nunique()
    if betas.empty:  # none says which
        return constant.iloc[:0]
    return constant[constant["train_sigma2"] == betas.idxmax()]


def _against_constant(
    rows: pd.DataFrame,
) -> Iterator[tuple[dict[str, str], tuple[str, pd.DataFrame, pd.DataFrame]]]:
    """Each setup and objective, with its rows and those of the constant curve of most betas."""
    for (dataset, setup), group in rows.groupby(["dataset", "setup"]):
        base = constant_curve(group)
        if base.empty:
            continue
        for objective, part in group[group["objective"] != "constant"].groupby("objective"):
            yield {"dataset": dataset, "setup": setup}, (str(objective), part, base)


def _seeds(part: pd.DataFrame, base: pd.DataFrame) -> list[int]:
    return sorted(set(part["seed"]) & set(base["seed"]))


def _curve(rows: pd.DataFrame, sigma: str, seed: int) -> tuple[Floats, Floats]:
    """Rates, rising, and ELBOs of a seed's curve where it has not collapsed."""
    chosen = rows[(rows["sigma"] == sigma) & (rows["seed"] == seed) & (rows["rate"] > COLLAPSED)]
    chosen = chosen.drop_duplicates("rate").sort_values("rate")
    return chosen["rate"].to_numpy(), chosen["elbo"].to_numpy()


def _common_rates(rates: Sequence[Floats]) -> Floats:
    """Log-spaced rates that all curves span."""
    if not rates:
        return np.empty(0)
    low, high = max(r[0] for r in rates), min(r[-1] for r in rates)
    return np.geomspace(low, high, _RATES) if low < high else np.empty(0)


def _at(curve: tuple[Floats, Floats], rates: Floats) -> Floats:
    return np.asarray(PchipInterpolator(*curve)(np.clip(rates, curve[0][0], curve[0][-1])))


def _same_gains(tables: list[pd.DataFrame]) -> list[str]:
    """Says where the mixture is the optimal reading less a constant, as it is within its range."""
    by_sigma = {table["sigma"].iloc[0]: table for table in tables}
    apart = by_sigma["optimal"][["rate", "gain"]] - by_sigma["mixture"][["rate", "gain"]]
    if apart.abs().max(axis=None) > 1e-3:
        return []
    return [
        "mixture is optimal less the same constant for all these models: as a comparison, optimal "
        "is one of densities here"
    ]


def _miss_of_constant(dataset: str, base: pd.DataFrame) -> list[str]:
    """In words, how well the constant curve is interpolated."""
    curves = [_curve(base, "shared", seed) for seed in sorted(set(base["seed"]))]
    misses = np.concatenate([_interpolation_error(curve) for curve in curves])
    if not len(misses):
        return []
    return [
        f"{dataset}: a point of the constant curve, left out and interpolated from its neighbours, "
        f"is missed by {np.median(misses):.2f} nats in the median ({misses.max():.2f} at most)"
    ]


def _miss_at(x: Floats, elbos: Floats, at: float) -> float:
    """The interpolation error at the inner point next to `at`; 0 where `at` is a point itself."""
    misses = _interpolation_error((x, elbos))
    if np.isclose(x, at, rtol=0, atol=_SAME_BETA).any():
        return 0.0
    return float(misses[np.abs(x[1:-1] - at).argmin()]) if len(misses) else math.nan


def _misses(curve: tuple[Floats, Floats], rates: Floats) -> Floats:
    """The interpolation error about each rate: that of the inner points on either side."""
    misses = _interpolation_error(curve)
    if not len(misses):
        return np.full_like(rates, math.nan)
    return np.interp(np.log(rates), np.log(curve[0][1:-1]), misses)


def _interpolation_error(curve: tuple[Floats, Floats]) -> Floats:
    """By how much each inner point is missed when it is left out, nats: an upper estimate."""
    rates, elbos = curve
    if len(rates) < _FEWEST + 1:
        return np.empty(0)
    inner = range(1, len(rates) - 1)
    without = [(np.delete(rates, i), np.delete(elbos, i)) for i in inner]
    return np.array(
        [abs(_at(c, rates[i : i + 1])[0] - elbos[i]) for c, i in zip(without, inner, strict=True)]
    )


def _differences(points: pd.DataFrame, base: pd.DataFrame, seed: int) -> dict[str, float] | None:
    """A model against the constant curve of its seed at beta_const; None beyond the curve."""
    ours = points[points["seed"] == seed].set_index("sigma")
    if not set(READINGS) <= set(ours.index):
        return None
    beta_const = 2 * float(ours.loc["shared", "beta"]) * float(ours.loc["shared", "sigma2"])
    curve = base[base["seed"] == seed]
    # beta x C is what counts, so a curve of another C is one of beta x 2 C.
    log_betas = {s: np.log(2 * g["beta"] * g["train_sigma2"]) for s, g in curve.groupby("sigma")}
    if any(len(log_betas.get(sigma, ())) < _FEWEST for sigma in READINGS):
        return None
    at_const = math.log(beta_const)
    if not all(log_betas[s].min() <= at_const <= log_betas[s].max() for s in READINGS):
        return None
    some = log_betas["shared"]

    def at(sigma: str, value: Callable[[pd.DataFrame], "pd.Series[float]"]) -> float:
        rows = curve[curve["sigma"] == sigma].assign(x=log_betas[sigma]).sort_values("x")
        return float(PchipInterpolator(rows["x"], value(rows))(at_const))

    own = ours.loc["shared"]
    shared = curve[curve["sigma"] == "shared"].assign(x=some).sort_values("x")
    return {
        "beta_const": beta_const,
        "miss": _miss_at(shared["x"].to_numpy(), shared["elbo"].to_numpy(), at_const),
        "rate": float(own["rate"]),
        "mse": float(own["mse"]),
        "more_rate": float(own["rate"]) - at("shared", lambda r: r["rate"]),
        "more_log_mse": math.log(own["mse"]) - at("shared", lambda r: np.log(r["mse"])),
        **{f"gain_{s}": float(ours.loc[s, "elbo"]) - at(s, lambda r: r["elbo"]) for s in READINGS},
    }
