"""The beta of each model, written beside its points on a rate-distortion curve."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rdvae_analysis.figures.labels import Label, place_labels
from rdvae_analysis.figures.series import Series
from rdvae_analysis.figures.style import root_figure
from rdvae_analysis.names import short
from rdvae_analysis.theory import Floats

_CLUSTER = 14  # points (1/72 inch); models closer than this share a label


def label_betas(
    axes: Axes,
    points: pd.DataFrame,
    series: Series,
    *,
    markers: Floats | None = None,
    lines: Sequence[Floats] = (),
) -> None:
    """Writes beta along each curve where there is room; models close together share a label.

    The labels of every other curve stand below its lowest interpretation. Those of the curves
    between stand above their highest fitted interpretation, in its colour.

    Args:
        axes: drawn, with their final limits and position.
        points: what was drawn, with `rate` and `value` in the units of the axes.
        series: look by curve and interpretation, as `series_of` returns it.
        markers: (n, 2), further points that no label may cover.
        lines: further lines, each (n, 2).
    """
    if not axes.axison:
        return
    labels: list[Label] = []
    for index, (_, curve) in enumerate(points.groupby("curve", sort=False)):
        labels += _labels_of(axes, curve, series, above=index % 2 == 1)
    places, curves = drawn_places(points)
    places = places if markers is None else np.concatenate([places, markers])
    place_labels(axes, labels, places, [*curves, *lines])


def drawn_places(points: pd.DataFrame) -> tuple[Floats, list[Floats]]:
    """The points, (n, 2), and the lines through them and of their whiskers, each (n, 2)."""
    curves = points.sort_values("beta").groupby(["curve", "sigma"], sort=False)
    lines = [_places(curve) for _, curve in curves]
    for low in (["rate_low", "value"], ["rate", "value_low"]):
        high = [name.replace("low", "high") for name in low]
        lines += list(np.stack([points[low], points[high]], axis=1).astype(np.float64))
    return _places(points), lines


def _labels_of(axes: Axes, curve: pd.DataFrame, series: Series, *, above: bool) -> Iterator[Label]:
    fitted = curve[~curve["sigma"].isin(["half", "beta-half"])]
    values = (curve if fitted.empty or not above else fitted).groupby("beta")["value"]
    line = curve.loc[values.idxmax() if above else values.idxmin()].sort_values("beta")
    for cluster in _clusters(axes, line):
        first = cluster.iloc[0]
        ends = dict.fromkeys(short(beta) for beta in cluster["beta"].iloc[[0, -1]])
        yield Label(
            text="–".join(ends),
            at=(first["rate"], first["value"]),
            own=_places(curve[curve["beta"].isin(cluster["beta"])]),
            above=above,
            colour=series[first["curve"], first["sigma"]]["color"],
        )


def _clusters(axes: Axes, line: pd.DataFrame) -> list[pd.DataFrame]:
    """Splits a line into runs of points that lie within a label's size of the first of them."""
    inside = line[line["rate"].between(*axes.get_xlim()) & line["value"].between(*axes.get_ylim())]
    points_per_pixel = 72 / root_figure(axes).dpi
    places = axes.transData.transform(_places(inside)) * points_per_pixel
    firsts: list[int] = []
    for i, place in enumerate(places):
        if not firsts or np.abs(place - places[firsts[-1]]).max() >= _CLUSTER:
            firsts.append(i)
    return [inside.iloc[a:b] for a, b in itertools.pairwise([*firsts, len(inside)])]


def _places(points: pd.DataFrame) -> Floats:
    return np.asarray(points[["rate", "value"]], dtype=np.float64)
