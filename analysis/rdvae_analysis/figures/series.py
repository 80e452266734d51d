"""The series of a rate-distortion figure: their names, their looks, and the legend."""

from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from rdkit_vae.config.trial import DEFAULT_SIGMA2
from rdkit_vae.scoring.interpretations import SIGMAS
from rdvae_analysis.figures.style import series_look
from rdvae_analysis.names import OBJECTIVE_NAMES, in_order, objective_name, reading_name

Series = dict[tuple[str, str], dict[str, Any]]  # by (curve, sigma): label and look

# What tells curves apart, as it is written in a legend.
_TELLING = {
    "architecture": "{}",
    "latents": "{} latents",
    "epochs": "{} epochs",
    "protocol": "protocol {}",
    "train_sigma2": "C={:g}",
}


def series_of(points: pd.DataFrame) -> Series:
    """Label and look of each (curve, sigma): a colour per interpretation, a marker per objective.

    They are the same in every figure, but for curves that differ in a further setting.
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
    found, c = {}, _any_c(points)
    for p in firsts.itertuples():
        model, reading = _model(p, settings), reading_name(p.sigma, c=c)
        shape = places[p.objective, settings[p.curve]]
        colour = p.rank if p.sigma else shape  # mse and psnr have no reading to tell
        label = f"{model}, {reading}" if reading else model
        found[p.curve, p.sigma] = {"label": label, **series_look(colour, shape)}
    return found


def key_of(points: pd.DataFrame, series: Series, *further: Line2D) -> dict[str, list[Line2D]]:
    """The two keys of a figure: readings by colour, models by line and marker.

    Args:
        points: as drawn.
        series: as `series_of` gives them.
        further: lines that are no model.

    Returns:
        Lines with their labels, by heading.
    """
    settings, c = _settings(points), _any_c(points)
    readings: dict[str, Line2D] = {}
    models: dict[str, Line2D] = {}
    firsts = {
        (p.curve, p.sigma): p for p in points.drop_duplicates(["curve", "sigma"]).itertuples()
    }
    for key, look in series.items():
        p = firsts[key]
        if p.sigma:
            name = reading_name(p.sigma, c=c)
            line = Line2D([], [], color=look["color"], linewidth=2.5, label=name)
            readings.setdefault(name, line)
        shape = {"marker": look["marker"], "linestyle": look["linestyle"]}
        colour = "0.25" if p.sigma else look["color"]
        model = _model(p, settings)
        models.setdefault(model, Line2D([], [], color=colour, label=model, **shape))
    return {"read with": [*readings.values()], "trained with": [*models.values(), *further]}


def _any_c(points: pd.DataFrame) -> float:
    """A constant variance other than 1/2, if some models have one: beta/2 is beta C then."""
    others = points["train_sigma2"].dropna()
    others = others[others != DEFAULT_SIGMA2]
    return DEFAULT_SIGMA2 if others.empty else float(others.iloc[0])


def _settings(points: pd.DataFrame) -> dict[str, str]:
    """By curve, in words, what tells it from the others of its dataset and objective."""
    told = {}
    for _, group in points.groupby(["dataset", "objective"]):
        curves = group.drop_duplicates("curve")
        varying = [name for name in _TELLING if curves[name].nunique(dropna=False) > 1]
        for _, row in curves.iterrows():
            here = [name for name in varying if not pd.isna(row[name])]
            told[row["curve"]] = ", ".join(_TELLING[name].format(row[name]) for name in here)
        words = [told[curve] for curve in curves["curve"]]
        for curve in curves["curve"]:
            if words.count(told[curve]) > 1:  # they differ elsewhere: their names tell
                told[curve] = f"{told[curve]}, curve …{curve[-4:]}".removeprefix(", ")
    return told


def _model(point: Any, settings: dict[str, str]) -> str:
    name, told = objective_name(point.objective), settings[point.curve]
    return f"{name} ({told})" if told else name
