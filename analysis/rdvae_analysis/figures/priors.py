"""What the latents cost under better priors than N(0, I): rate by prior against beta."""

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.priors import PRIORS, STANDARD
from rdvae_analysis.figures.fit import fit_texts
from rdvae_analysis.figures.key import add_key
from rdvae_analysis.figures.series import whiskers
from rdvae_analysis.figures.style import (
    beta_axis,
    dataset_title,
    log_ticks,
    model_axis,
    new_figure,
    paper_style,
    seeds_in_words,
    series_look,
)
from rdvae_analysis.names import is_model, model_name, models_in_order, plain
from rdvae_analysis.points import with_beta
from rdvae_analysis.sound import warn

_DECADE = 10.0
_LEAST_RATE = 0.1  # nats; less is nothing, and no share of it is meaningful
_MOST_SHARE = 1.5  # a prior that fits worse than that is off the panel
_ELSEWHERE = "models from elsewhere"


def priors(table: pd.DataFrame, *, split: str = "test", columns: int = 2) -> Figure:
    """Rate under each prior against beta, and as a share of the rate under N(0, I).

    Each objective and C has a panel of both; models from elsewhere, if the rows are of these alone,
    stand side by side. The rate under N(0, I) is the rate of training. Rates below 0.1 nats are off
    the panel of rates where its axis is logarithmic, and have no share.

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
    points = _with_shares(table.assign(model=names, runs=table["seeds"]))
    models = models_in_order(table["objective"], table["train_sigma2"])
    panels = [_ELSEWHERE] if by_model else models
    with paper_style():
        figure, axes_of = new_figure(columns, 2.1 * len(panels) * 2 / columns + 0.3), []
        grid = figure.subplots(2 * len(panels) // columns, columns, squeeze=False)
        for axes, (name, quantity) in zip(
            grid.ravel(), itertools.product(panels, ("rate", "share")), strict=True
        ):
            if by_model:
                points = _side_by_side(axes, points, models)
            part = points if by_model else points[points["model"] == name]
            _draw(axes, part, points, quantity, across="place" if by_model else "beta")
            axes.set_title(name)
            axes_of.append(axes)
        _scale(axes_of[::2], points)
        _scale_shares(axes_of[1::2], points)
        add_key(figure, {"prior": _key(points)}, rows=2)
        name, seeds = dataset_title(table["dataset"].iloc[0]), seeds_in_words(points)
        figure.suptitle(f"Rate of the posteriors by prior: {name}, {split} split, {seeds}")
        fit_texts(figure)
    return figure


def _with_shares(points: pd.DataFrame) -> pd.DataFrame:
    """The points with their rates as shares of the rate under N(0, I); NaN if that is about 0."""
    model = ["model", "beta"]
    plain_rate = points[points["prior"] == STANDARD].groupby(model, dropna=False)["rate"].mean()
    keys = pd.MultiIndex.from_frame(points[model])
    under_standard = plain_rate.reindex(keys).to_numpy()
    under_standard = np.where(under_standard >= _LEAST_RATE, under_standard, np.nan)
    shares = {
        name.replace("rate", "share"): points[name] / under_standard
        for name in ("rate", "rate_low", "rate_high")
    }
    return points.assign(**shares)


def _draw(
    axes: Axes, part: pd.DataFrame, points: pd.DataFrame, quantity: str, *, across: str
) -> None:
    for prior in _rungs(points):
        line = part[part["prior"] == prior].sort_values(across)
        line = line[line[quantity].notna()]
        look = _look(prior, points) | ({"linestyle": ""} if across == "place" else {})
        ranges = whiskers(line, quantity)
        axes.errorbar(
            line[across], line[quantity], yerr=ranges, elinewidth=0.7, capsize=1.5, **look
        )
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
    logarithmic = high > _DECADE * max(low, 0.0) and high > _DECADE * _LEAST_RATE
    low = max(low, _LEAST_RATE) if logarithmic else low
    for axes in panels:
        if logarithmic:
            margin = 1.25 * math.exp(0.02 * math.log(high / low))
            axes.set(yscale="log", ylim=(low / margin, high * margin))
            log_ticks(axes.yaxis)
        else:
            margin = 0.06 * (high - low) or 1.0
            axes.set_ylim(low - margin, high + margin)
        axes.set_ylabel("rate  (nats / image)")


def _scale_shares(panels: list[Axes], points: pd.DataFrame) -> None:
    """The same axis of shares in all panels; it ends at `_MOST_SHARE`, and titles say so."""
    low, high = float(points["share_low"].min()), float(points["share_high"].max())
    low, top = (0.9, 1.1) if np.isnan(low) else (low, min(high, _MOST_SHARE))
    margin = 0.06 * (top - low) or 0.1
    for axes in panels:
        axes.set(ylim=(low - margin, top + margin), ylabel="rate / rate under N(0, I)")
        name = axes.get_title()
        highest = points.loc[points["model"].eq(name) | (name == _ELSEWHERE), "share_high"].max()
        if highest > top:
            axes.set_title(f"{name} (up to {highest:.3g})")


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
