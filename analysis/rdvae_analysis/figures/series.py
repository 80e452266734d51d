"""The series of a rate-distortion figure: their names, their looks, and the legend."""

from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from rdkit_vae.config.trial import DEFAULT_SIGMA2
from rdkit_vae.scoring.interpretations import SIGMAS
from rdvae_analysis.figures.style import series_look
from rdvae_analysis.names import (
    OBJECTIVE_NAMES,
    in_order,
    interpretation_name,
    is_model,
    objective_name,
    plain,
)

# A model from elsewhere is one point, which no line leads to.
_SINGLE: dict[str, Any] = {
    **{"linestyle": "", "markersize": 5.5, "markeredgecolor": "k", "markeredgewidth": 0.7},
    "zorder": 3,
}
Series = dict[tuple[str, str], dict[str, Any]]  # by (curve, sigma): label and look

# Settings that distinguish curves, as they are written in a legend.
_SETTINGS = {
    "architecture": "{}",
    "latents": "{} latents",
    "epochs": "{} epochs",
    "protocol": "protocol {}",
    "train_sigma2": "C={:g}",
}


def series_of(points: pd.DataFrame) -> Series:
    """Label and look of each (curve, sigma): a colour per interpretation, a marker per objective.

    They are the same in every figure, except for curves that differ in a further setting.

    Args:
        points: as `rd_points` returns them.
    """
    order = [*SIGMAS, *sorted(set(points["sigma"]) - set(SIGMAS))]
    objectives = in_order([*OBJECTIVE_NAMES, *points["objective"]])
    firsts = points.drop_duplicates(["curve", "sigma"])
    firsts = firsts.assign(
        rank=firsts["sigma"].map(order.index), group=firsts["objective"].map(objectives.index)
    ).sort_values(["group", "curve", "rank"], kind="stable")
    settings = _settings(points)
    shapes = dict.fromkeys((objective, "") for objective in objectives)
    shapes |= dict.fromkeys((p.objective, settings[p.curve]) for p in firsts.itertuples())
    places = {shape: place for place, shape in enumerate(shapes)}
    series, c = {}, _any_c(points)
    for p in firsts.itertuples():
        model, sigma = _model(p, settings), interpretation_name(p.sigma, c=c)
        shape = places[p.objective, settings[p.curve]]
        colour = p.rank if p.sigma else shape  # mse and psnr have no interpretation
        label = f"{model}, {sigma}" if sigma else model
        look = series_look(colour, shape) | (_SINGLE if is_model(p.objective) else {})
        series[p.curve, p.sigma] = {"label": label, **look}
    return series


def key_of(points: pd.DataFrame, series: Series, *further: Line2D) -> dict[str, list[Line2D]]:
    """The legends of a figure: interpretations by colour, models by line and marker.

    Models from elsewhere have a legend of their own.

    Args:
        points: as drawn.
        series: as `series_of` returns them.
        further: lines that are not models.

    Returns:
        Lines with their labels, by heading.
    """
    settings, c = _settings(points), _any_c(points)
    sigmas: dict[str, Line2D] = {}
    models: dict[str, Line2D] = {}
    others: dict[str, Line2D] = {}  # from elsewhere
    firsts = {
        (p.curve, p.sigma): p for p in points.drop_duplicates(["curve", "sigma"]).itertuples()
    }
    for key, look in series.items():
        p = firsts[key]
        if p.sigma:
            name = interpretation_name(p.sigma, c=c)
            line = Line2D([], [], color=look["color"], linewidth=2.5, label=name)
            sigmas.setdefault(name, line)
        shape = {name: value for name, value in look.items() if name not in ("label", "color")}
        colour = "0.25" if p.sigma else look["color"]
        model = _model(p, settings)
        line = Line2D([], [], color=colour, label=model, **shape)
        (others if is_model(p.objective) else models).setdefault(model, line)
    return {
        "interpretation": [*sigmas.values()],
        "trained with": [*models.values(), *further],
        "from elsewhere": [*others.values()],
    }


def _any_c(points: pd.DataFrame) -> float:
    """A constant variance other than 1/2 if any model has one; beta/2 is called beta C then."""
    others = points["train_sigma2"].dropna()
    others = others[others != DEFAULT_SIGMA2]
    return DEFAULT_SIGMA2 if others.empty else float(others.iloc[0])


def _settings(points: pd.DataFrame) -> dict[str, str]:
    """By curve, how it differs from the others of its dataset and objective, in words."""
    settings = {}
    for _, group in points.groupby(["dataset", "objective"]):
        curves = group.drop_duplicates("curve")
        varying = [name for name in _SETTINGS if curves[name].nunique(dropna=False) > 1]
        for _, row in curves.iterrows():
            known = [name for name in varying if not pd.isna(row[name])]
            settings[row["curve"]] = plain(
                ", ".join(_SETTINGS[name].format(row[name]) for name in known)
            )
        words = [settings[curve] for curve in curves["curve"]]
        for curve in curves["curve"]:
            if words.count(settings[curve]) > 1:  # they differ in something else: add their names
                name = f"curve …{plain(curve[-4:])}"
                settings[curve] = f"{settings[curve]}, {name}".removeprefix(", ")
    return settings


def _model(point: Any, settings: dict[str, str]) -> str:
    name, details = objective_name(point.objective), settings[point.curve]
    return f"{name} ({details})" if details else name


def whiskers(line: pd.DataFrame, name: str) -> list["pd.Series[float]"] | None:
    """How far the range of the seeds reaches below and above each mean; None for one seed.

    Args:
        line: with the columns `name`, its `_low` and `_high`, and `runs`, how many a mean is of.
        name: of a column.
    """
    if (line["runs"] < 2).all():
        return None
    # By rounding, the mean of equal values can lie beyond them.
    low, high = line[name] - line[f"{name}_low"], line[f"{name}_high"] - line[name]
    return [low.clip(lower=0), high.clip(lower=0)]
