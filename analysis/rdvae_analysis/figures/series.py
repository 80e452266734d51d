"""The series of a rate-distortion figure: their names, their looks, and the legend."""

from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from rdkit_vae.grammar import SIGMAS
from rdkit_vae.trial import DEFAULT_SIGMA2
from rdvae_analysis.figures.style import series_look
from rdvae_analysis.names import OBJECTIVE_NAMES, in_order, objective_name, reading_name

Series = dict[tuple[str, str], dict[str, Any]]  # by (curve, sigma): label and look

_TELLING = ("architecture", "latents", "epochs", "protocol", "train_sigma2")
_ROWS = 7  # of a legend, unless there are more readings


def series_of(points: pd.DataFrame) -> Series:
    """Label and look of each (curve, sigma): a colour per interpretation, a marker per objective.

    They are the same in every figure, but for curves that differ in a further setting.
    """
    order = [*SIGMAS, *sorted(set(points["sigma"]) - SIGMAS.keys())]
    objectives = in_order([*OBJECTIVE_NAMES, *points["objective"]])
    firsts = points.drop_duplicates(["curve", "sigma"])
    firsts = firsts.assign(
        rank=firsts["sigma"].map(order.index), group=firsts["objective"].map(objectives.index)
    ).sort_values(["group", "curve", "rank"], kind="stable")
    settings = _settings(points)
    shapes = dict.fromkeys((objective, "") for objective in objectives)
    shapes |= dict.fromkeys((p.objective, settings[p.curve]) for p in firsts.itertuples())
    places = {shape: place for place, shape in enumerate(shapes)}
    found = {}
    for p in firsts.itertuples():
        model, reading = _model(p, settings), _reading(p)
        shape = places[p.objective, settings[p.curve]]
        colour = p.rank if p.sigma else shape  # mse and psnr have no reading to tell
        label = f"{model}, {reading}" if reading else model
        found[p.curve, p.sigma] = {"label": label, **series_look(colour, shape)}
    return found


def legend(points: pd.DataFrame, series: Series, *further: Line2D) -> dict[str, Any]:
    """The two keys of a figure side by side: readings by colour, models by line and marker.

    Args:
        points: as drawn.
        series: as `series_of` gives them.
        further: lines that are no model.

    Returns:
        What `Figure.legend` takes.
    """
    settings = _settings(points)
    readings: dict[str, Line2D] = {}
    models: dict[str, Line2D] = {}
    firsts = {
        (p.curve, p.sigma): p for p in points.drop_duplicates(["curve", "sigma"]).itertuples()
    }
    for key, look in series.items():
        p = firsts[key]
        if p.sigma:
            line = Line2D([], [], color=look["color"], linewidth=2.5, label=_reading(p))
            readings.setdefault(_reading(p), line)
        shape = {"marker": look["marker"], "linestyle": look["linestyle"]}
        colour = "0.25" if p.sigma else look["color"]
        model = _model(p, settings)
        models.setdefault(model, Line2D([], [], color=colour, label=model, **shape))
    rows = max(_ROWS, len(readings))
    shown = [*(models[label] for label in models), *further]
    columns = [[_text("read with"), *readings.values()]] if readings else []
    for start in range(0, len(shown), rows):
        columns.append([_text("" if start else "trained with"), *shown[start : start + rows]])
    longest = max(len(column) for column in columns)
    padded = [line for column in columns for line in [*column, *_blanks(longest - len(column))]]
    return {"handles": padded, "ncols": len(columns)}


def _text(text: str) -> Line2D:
    return Line2D([], [], linestyle="", label=text or " ")


def _blanks(count: int) -> list[Line2D]:
    return [_text("") for _ in range(count)]


def _settings(points: pd.DataFrame) -> dict[str, str]:
    """By curve, in words, what tells it from the others of its dataset and objective."""
    told = {}
    for _, group in points.groupby(["dataset", "objective"]):
        curves = group.drop_duplicates("curve")
        varying = [name for name in _TELLING if curves[name].nunique(dropna=False) > 1]
        for _, row in curves.iterrows():
            told[row["curve"]] = " ".join(f"{name}={row[name]}" for name in varying)
        words = [told[curve] for curve in curves["curve"]]
        for curve in curves["curve"]:
            if words.count(told[curve]) > 1:  # they differ elsewhere: their names tell
                told[curve] = f"{told[curve]} {curve[-4:]}".strip()
    return told


def _model(point: Any, settings: dict[str, str]) -> str:
    name, told = objective_name(point.objective), settings[point.curve]
    return f"{name} ({told})" if told else name


def _reading(point: Any) -> str:
    c = DEFAULT_SIGMA2 if pd.isna(point.train_sigma2) else point.train_sigma2
    return reading_name(point.sigma, c=c)
