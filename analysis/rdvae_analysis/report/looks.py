"""The look of a report's charts: colours, shapes, ranges, ticks and labels."""

import math
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from rdkit_vae.config.trial import DEFAULT_SIGMA2
from rdvae_analysis.figures.style import interpretation_look
from rdvae_analysis.names import is_model, models_in_order
from rdvae_analysis.points import DEFAULT_SIGMAS

WIDTH, HEIGHT = 620, 330  # of a chart, pixels
_MARGIN = 0.06  # beyond the outermost points, as a share of their range
_SHAPES = ("circle", "diamond", "square", "triangle-up", "cross")
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [4, 4])
# Labels of beta must be this far apart, on a chart as wide as a narrow screen allows; in pixels.
_NARROW, _APART_ACROSS, _APART_UP = 300, 26, 12


def sigma_labels(rows: pd.DataFrame) -> dict[str, str]:
    """How interpretations are written, if not by their name: beta/2 is beta C for another C."""
    other_c = rows["train_sigma2"].dropna() != DEFAULT_SIGMA2
    beta_half = "σ² = βC" if other_c.any() else "σ² = β/2"
    return {"half": "σ² = 1/2", "beta-half": beta_half, "optimal": "optimal (no density)"}


def looks(rows: pd.DataFrame, sigmas: list[str], *, lines: bool = False) -> dict[str, Any]:
    """Encodings: a colour per interpretation, a shape or dash per model, as in the figures.

    Args:
        rows: of the chart.
        sigmas: all interpretations of the chart.
        lines: dashes, else shapes.
    """
    colours = [interpretation_look(sigma, sigmas)["color"] for sigma in sigmas]
    labels = " : ".join(f"datum.value === {s!r} ? {t!r}" for s, t in sigma_labels(rows).items())
    legend = alt.Legend(title="interpretation", labelExpr=f"{labels} : datum.value")
    scale = alt.Scale(domain=sigmas, range=colours)
    color = alt.Color("sigma:N", scale=scale, legend=legend)
    models = models_in_order(rows["objective"], rows["train_sigma2"])
    choices: tuple[Any, ...] = _DASHES if lines else _SHAPES
    forms = [choices[place % len(choices)] for place in range(len(models))]
    scale = alt.Scale(domain=models, range=forms)
    title = heading(rows)
    if lines:
        dash = alt.StrokeDash("model:N", scale=scale, title=title)
        return {"color": color, "strokeDash": dash}
    return {"color": color, "shape": alt.Shape("model:N", scale=scale, title=title)}


def heading(rows: pd.DataFrame) -> str:
    """What stands above the names of models: those from elsewhere are no objectives."""
    return "model" if rows["objective"].map(is_model).any() else "trained with"


def steady(rows: pd.DataFrame) -> pd.DataFrame:
    """All rows except those of `beta-half`, whose values have no bound as beta goes to 0."""
    others = rows[rows["sigma"] != "beta-half"]
    return rows if others.empty else others


def domain(values: "pd.Series[float]") -> list[float]:
    """The range of an axis: that of the values with a margin."""
    low, high = float(values.min()), float(values.max())
    margin = _MARGIN * (high - low) or 1.0
    return [low - margin, high + margin]


def beta_ticks(betas: "pd.Series[float]") -> list[float]:
    """Decades, or the betas themselves if they span less than two decades."""
    betas = betas.dropna()
    low, high = np.log10(betas.min()), np.log10(betas.max())
    decades = [float(f"1e{power}") for power in range(math.ceil(low), math.floor(high) + 1)]
    return decades if len(decades) > 1 else sorted(float(beta) for beta in set(betas))


def labelled_models(points: pd.DataFrame) -> set[tuple[str, float]]:
    """The (curve, beta) whose labels do not cover each other, for the default interpretations."""
    shown = points[points["sigma"].isin(DEFAULT_SIGMAS["constant"])]
    means = shown.groupby(["curve", "beta", "sigma"], as_index=False)[["rate", "distortion"]].mean()
    lowest = means.groupby(["curve", "beta"], as_index=False).min()
    (left, right), (low, high) = domain(points["rate"]), domain(steady(points)["distortion"])
    places: dict[tuple[str, float], tuple[float, float]] = {}
    for p in lowest.itertuples():
        x = _NARROW * (p.rate - left) / (right - left)
        y = HEIGHT * (p.distortion - low) / (high - low)
        if all(abs(x - a) > _APART_ACROSS or abs(y - b) > _APART_UP for a, b in places.values()):
            places[p.curve, p.beta] = x, y
    return set(places)
