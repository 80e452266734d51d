"""Curves of ELBO against rate, interpolated between their points, and how far off that may be."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator

from rdvae_analysis.curves import COLLAPSED
from rdvae_analysis.theory import Floats

Curve = tuple[Floats, Floats]  # x, rising, and ELBOs in nats per image

FEWEST = 3  # points that make a curve


def elbo_curve(rows: pd.DataFrame, sigma: str, seed: int) -> Curve:
    """Rates, rising, and ELBOs of the models of one seed, without those that collapsed."""
    models = rows[(rows["sigma"] == sigma) & (rows["seed"] == seed) & (rows["rate"] > COLLAPSED)]
    models = models.drop_duplicates("rate").sort_values("rate")
    return models["rate"].to_numpy(), models["elbo"].to_numpy()


def common_rates(curves: Sequence[Curve], count: int) -> Floats:
    """Log-spaced rates that all curves span; none if there is no such range."""
    if not curves:
        return np.empty(0)
    low, high = max(rates[0] for rates, _ in curves), min(rates[-1] for rates, _ in curves)
    return np.geomspace(low, high, count) if low < high else np.empty(0)


def elbos_at(curve: Curve, x: Floats) -> Floats:
    """The curve at x, monotone between its points (PCHIP) and constant beyond its ends."""
    return np.asarray(PchipInterpolator(*curve)(np.clip(x, curve[0][0], curve[0][-1])))


def leave_one_out_errors(curve: Curve) -> Floats:
    """By how much each inner point is missed when it is left out, nats: an upper estimate.

    Returns:
        (n - 2,) for n points; empty if too few points are left to interpolate.
    """
    x, elbos = curve
    if len(x) < FEWEST + 1:
        return np.empty(0)
    inner = range(1, len(x) - 1)
    others = [(np.delete(x, i), np.delete(elbos, i)) for i in inner]
    estimates = [elbos_at(other, x[i : i + 1])[0] for other, i in zip(others, inner, strict=True)]
    return np.abs(np.array(estimates) - elbos[1:-1])


def errors_at_rates(curve: Curve, rates: Floats) -> Floats:
    """The error at each rate, interpolated between those of the inner points; NaN if unknown."""
    errors = leave_one_out_errors(curve)
    if not len(errors):
        return np.full_like(rates, math.nan)
    return np.interp(np.log(rates), np.log(curve[0][1:-1]), errors)


def error_near(curve: Curve, x: float, same: float) -> float:
    """The error at the inner point next to x; 0 if a point is within `same` of x; NaN if unknown.

    Args:
        curve: to interpolate.
        x: where.
        same: distance up to which a point counts as being at x.
    """
    errors = leave_one_out_errors(curve)
    if np.isclose(curve[0], x, rtol=0, atol=same).any():
        return 0.0
    return float(errors[np.abs(curve[0][1:-1] - x).argmin()]) if len(errors) else math.nan
