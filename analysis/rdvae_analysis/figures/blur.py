"""The two causes of blur: distance of reconstructions against distance of samples."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.priors import STANDARD
from rdvae_analysis.figures.beta_labels import label_betas
from rdvae_analysis.figures.series import Series, key_of, series_of, whiskers
from rdvae_analysis.figures.style import (
    dataset_title,
    finish,
    log_ticks,
    new_figure,
    paper_style,
    seeds_in_words,
)
from rdvae_analysis.measurements import pictures_name
from rdvae_analysis.names import plain
from rdvae_analysis.theory import Floats

_DECADE = 10.0
# Names of features longer than so many letters make the figure higher, to leave room for the axes.
_LETTERS, _PER_LETTER = 25, 0.03  # inches
_BEST: dict[str, Any] = {
    "linestyle": "",
    "markerfacecolor": "white",
    "markeredgewidth": 0.9,
    "zorder": 2.5,
}
_DIAGONAL: dict[str, Any] = {"color": "0.4", "linewidth": 0.8, "linestyle": (0, (5, 3))}
_FLOOR: dict[str, Any] = {"color": "0.15", "linewidth": 0.6, "linestyle": "-"}


def blur(table: pd.DataFrame, *, columns: int = 2) -> Figure:
    """Draws every model by the distances of its reconstructions and of its samples.

    The height above the diagonal is what samples lose against reconstructions. A hollow marker is
    the best-fitting prior; the line to it is the share of the prior. Axes are logarithmic if the
    distances span more than a decade.

    Args:
        table: as `prior_shares` returns it, of one setup.
        columns: width of the figure in columns of a paper, 1 or 2.

    Raises:
        BadInput: no model has both distances.
    """
    points = _points(table)
    series = series_of(points)
    with paper_style():
        features = _features(points)
        longer = max(len(features) - _LETTERS, 0) * _PER_LETTER
        axes = new_figure(columns, (2.9 if columns == 1 else 3.8) + longer).subplots()
        best, lines = _draw(axes, points, series)
        _scale(axes, points)
        further = _references(axes, points)
        _describe(axes, points, features)
        groups = key_of(points, series) | {"samples": [*_priors_key(points), *further]}
        figure = finish(axes, groups, rows=4, ax=None)
        figure.set_layout_engine(None)  # the labels depend on where the panel is
        label_betas(axes, points, series, markers=best, lines=[*lines, *_diagonal(axes)])
    return figure


def _points(table: pd.DataFrame) -> pd.DataFrame:
    """The models as points of a rate-distortion figure: `rate` across and `value` up."""
    known = table[table["frechet"].notna() & table["frechet_reconstruction"].notna()]
    if known.empty:
        raise BadInput(
            "nothing to draw: no model has distances both of samples from N(0, I) and of "
            "reconstructions; rdvae generation measures them"
        )
    names = {"": "", "_low": "_low", "_high": "_high"}
    across = {f"rate{end}": known[f"frechet_reconstruction{end}"] for end in names}
    up = {f"value{end}": known[f"frechet{end}"] for end in names}
    return known.assign(**across, **up, sigma="", runs=known["seeds"])


def _draw(axes: Axes, points: pd.DataFrame, series: Series) -> tuple[Floats, list[Floats]]:
    """Draws the models; the places of the hollow markers, and the lines to them."""
    best, lines = [np.empty((0, 2))], []
    for (curve, _), look in series.items():
        line = points[points["curve"] == curve].sort_values("beta")
        axes.errorbar(
            line["rate"],
            line["value"],
            xerr=whiskers(line, "rate"),
            yerr=whiskers(line, "value"),
            elinewidth=0.7,
            capsize=1.5,
            **look,
        )
        known = line[_has_other(line)]
        ends = known["rate"], known["frechet_best"], known["value"]
        axes.vlines(*ends, color=look["color"], linewidth=0.6, zorder=1.2)
        axes.plot(known["rate"], known["frechet_best"], **look | _BEST | {"label": "_"})
        best.append(known[["rate", "frechet_best"]].to_numpy(dtype=np.float64))
        both = known[["rate", "frechet_best", "rate", "value"]].to_numpy(dtype=np.float64)
        lines += list(both.reshape(-1, 2, 2))
    return np.concatenate(best), lines


def _has_other(points: pd.DataFrame) -> "pd.Series[bool]":
    """Which models are fitted best by another prior than that of training."""
    return points["frechet_best"].notna() & (points["best_prior"] != STANDARD)


def _scale(axes: Axes, points: pd.DataFrame) -> None:
    """Makes both axes logarithmic if either spans more than a decade."""
    axes.margins(0.07)
    across, up = points["rate"], points[["value", "frechet_best"]]
    positive = across.min() > 0 and up.min(axis=None) > 0
    spans = (across.max() / across.min(), up.max(axis=None) / up.min(axis=None)) if positive else ()
    if any(span > _DECADE for span in spans):
        axes.set(xscale="log", yscale="log")
        log_ticks(axes.xaxis, most=7)
        log_ticks(axes.yaxis)
    # Where samples are far worse than reconstructions the diagonal lies below all models.
    axes.update_datalim([(across.max(), across.max())])
    axes.autoscale_view()


def _references(axes: Axes, points: pd.DataFrame) -> list[Line2D]:
    """Draws the diagonal and the level of real images; their entries of the legend."""
    logarithmic = axes.get_yscale() == "log"
    floor = float(points["floor"].iloc[0])
    entries = [Line2D([], [], **_DIAGONAL, label="as good as reconstructions")]
    if floor > 0 or (np.isfinite(floor) and not logarithmic):
        axes.axhline(floor, **_FLOOR, zorder=0.5)
        entries.append(Line2D([], [], **_FLOOR, label="as good as real images"))
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # they follow the models alone
    for diagonal in _diagonal(axes):
        axes.add_artist(Line2D(*diagonal.T, **_DIAGONAL, zorder=0.5))
    return entries


def _diagonal(axes: Axes) -> list[Floats]:
    """The part of the diagonal within the limits of axes, (2, 2); none if it lies outside."""
    limits = axes.get_xlim(), axes.get_ylim()
    low, high = max(low for low, _ in limits), min(high for _, high in limits)
    return [np.array([[low, low], [high, high]])] if low < high else []


def _features(points: pd.DataFrame) -> str:
    first = points.iloc[0]
    return pictures_name(first["features"], first["features_sha256"], first["pixels"])


def _describe(axes: Axes, points: pd.DataFrame, features: str) -> None:
    first = points.iloc[0]
    axes.set_xlabel(f"Fréchet distance of reconstructions ({features})")
    axes.set_ylabel(f"Fréchet distance of samples ({features})")
    where = f"{dataset_title(first['dataset'])}, {first['split']} split"
    counts = f"{first['n_samples']:,.0f} samples"
    if first["n_reconstructions"] != first["n_samples"]:
        counts += f" and {first['n_reconstructions']:,.0f} reconstructions"
    axes.set_title(rf"{where}, {counts}, {seeds_in_words(points)}; numbers are $\beta$")


def _priors_key(points: pd.DataFrame) -> list[Line2D]:
    look: dict[str, Any] = {"color": "0.25", "marker": "o", "linestyle": ""}
    entries = [Line2D([], [], **look, label="of N(0, I)")]
    known = points.loc[_has_other(points), "best_prior"]
    names = [plain(name) for name in dict.fromkeys(known)]
    if names:
        label = f"of the best-fitting prior ({', '.join(names)})"
        entries.append(Line2D([], [], **look | _BEST | {"color": "0.25"}, label=label))
    return entries
