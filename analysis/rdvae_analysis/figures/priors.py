"""What the latents cost under better priors than N(0, I): rate by prior against beta."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.priors import PRIORS
from rdvae_analysis.figures.fit import fit_texts
from rdvae_analysis.figures.key import add_key
from rdvae_analysis.figures.series import whiskers
from rdvae_analysis.figures.style import (
    beta_axis,
    dataset_title,
    log_ticks,
    model_axis,
    new_panels,
    paper_style,
    seeds_in_words,
    series_look,
)
from rdvae_analysis.names import is_model, model_name, models_in_order, plain
from rdvae_analysis.points import with_beta
from rdvae_analysis.sound import warn

_DECADE = 10.0
_ELSEWHERE = "models from elsewhere"


def priors(table: pd.DataFrame, *, split: str = "test", columns: int = 2) -> Figure:
    """Rate under each prior against beta, a panel per objective and C.

    The rate under N(0, I) is the rate of training. Models from elsewhere, if the rows are of these
    alone, stand side by side in one panel.

    Args:
        table: as `prior_rates` returns it, of one setup.
        split: named in the title.
        columns: width of the figure in columns of a paper, 1 or 2.

    Raises:
        BadInput: there are no rates.
    """
    by_model = len(table) > 0 and table["objective"].map(is_model).all()
    if not by_model:
        table, notes = with_beta(table.assign(run_id=table["objective"]))
        warn(notes)
    if table.empty:
        raise BadInput("nothing to draw: no rates under priors; rdvae describe --priors has them")
    names = list(map(model_name, table["objective"], table["train_sigma2"]))
    points = table.assign(model=names, runs=table["seeds"])
    models = models_in_order(table["objective"], table["train_sigma2"])
    panels = [_ELSEWHERE] if by_model else models
    with paper_style():
        figure, axes_of = new_panels(columns, len(panels))
        for axes, name in zip(axes_of, panels, strict=True):
            if by_model:
                points = _side_by_side(axes, points, models)
            part = points if by_model else points[points["model"] == name]
            _draw(axes, part, points, across="place" if by_model else "beta")
            axes.set_title(name)
        _scale(axes_of, points)
        add_key(figure, {"prior": _key(points)}, rows=2)
        name, seeds = dataset_title(table["dataset"].iloc[0]), seeds_in_words(points)
        figure.suptitle(f"Rate of the posteriors by prior: {name}, {split} split, {seeds}")
        fit_texts(figure)
    return figure


def _draw(axes: Axes, part: pd.DataFrame, points: pd.DataFrame, *, across: str) -> None:
    for prior in _rungs(points):
        line = part[part["prior"] == prior].sort_values(across)
        look = _look(prior, points) | ({"linestyle": ""} if across == "place" else {})
        ranges = whiskers(line, "rate")
        axes.errorbar(line[across], line["rate"], yerr=ranges, elinewidth=0.7, capsize=1.5, **look)
    if across == "beta":
        beta_axis(axes)


def _side_by_side(axes: Axes, points: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """Makes an axis of models from elsewhere; the points with their `place` on it."""
    firsts = points.drop_duplicates("model").set_index("model")
    model_axis(axes, models, list(firsts.loc[models, "beta"]))
    return points.assign(place=points["model"].map(models.index))


def _scale(panels: list[Axes], points: pd.DataFrame) -> None:
    """The same axis of rates in all panels, logarithmic if they span more than a decade."""
    low, high = float(points["rate_low"].min()), float(points["rate_high"].max())
    logarithmic = low > 0 and high > _DECADE * low
    for axes in panels:
        if logarithmic:
            margin = 1.25 * math.exp(0.02 * math.log(high / low))
            axes.set(yscale="log", ylim=(low / margin, high * margin))
            log_ticks(axes.yaxis)
        else:
            margin = 0.06 * (high - low) or 1.0
            axes.set_ylim(low - margin, high + margin)
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axes.set_ylabel("rate  (nats / image)")


def _rungs(points: pd.DataFrame) -> list[str]:
    """The priors of these points from the simplest to the most flexible, others last."""
    there = set(points["prior"])
    return [*(p for p in PRIORS if p in there), *sorted(there - set(PRIORS))]


def _look(prior: str, points: pd.DataFrame) -> dict[str, Any]:
    """The same look for a prior in every figure, whichever others there are."""
    place = [*PRIORS, *sorted({prior, *points["prior"]} - set(PRIORS))].index(prior)
    return series_look(place, place)


def _key(points: pd.DataFrame) -> list[Line2D]:
    entries = []
    bounds = set(points.loc[points["is_bound"], "prior"])
    for prior in _rungs(points):
        about = "  (at most)" if prior in bounds else ""
        look = _look(prior, points)
        entries.append(Line2D([], [], label=plain(prior) + about, **look))
    return entries
