"""Rate-distortion curves (Beta-Sigma VAE, Fig. 3)."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from rdkit_vae.errors import BadInput
from rdvae_analysis.figures.bend import bend_above
from rdvae_analysis.figures.fit import fit_texts
from rdvae_analysis.figures.key import add_key
from rdvae_analysis.figures.labels import Label, place_labels, settle
from rdvae_analysis.figures.series import Series, key_of, series_of
from rdvae_analysis.figures.style import dataset_title, new_figure, paper_style
from rdvae_analysis.names import short
from rdvae_analysis.points import rd_points
from rdvae_analysis.sound import warn
from rdvae_analysis.theory import Floats, gaussian_curve

Bounds = tuple[float, float]

_DISTORTIONS = {
    "nll": r"distortion  $E[-\log p(x|z)]$  (nats / image)",
    "mse": "mean squared error  (squared pixel)",
    "psnr": "PSNR  (dB)",
}
_RATES = {
    "nll": r"rate  $E\,KL(q(z|x)\,\|\,p(z))$  (nats / image)",
    "mse": "rate  (bits / pixel and channel)",
    "psnr": "rate  (bits / pixel and channel)",
}
_LOW_RATE = 0.35  # the second panel shows this share of the rates
_CLUSTER = 14  # points; models that lie nearer to each other share the label of their betas
# What a Gaussian's squared error is worth under the readings that have a closed form.
_THEORY: Mapping[str, Callable[[Floats, float], Floats]] = {
    "mse": lambda sse, dims: sse / dims,
    "psnr": lambda sse, dims: -10 * np.log10(sse / dims),
    "half": lambda sse, dims: sse + dims / 2 * math.log(math.pi),
    "shared": lambda sse, dims: dims / 2 * (np.log(2 * math.pi * sse / dims) + 1),
}


def plot_rd(
    frame: pd.DataFrame,
    *,
    distortion: str = "nll",
    split: str = "test",
    columns: int = 2,
    **chosen: Sequence[str],
) -> Figure:
    """`rd` straight from results; `chosen` are the `sigmas` and `objectives` of `rd_points`.

    What is left out is a `LoadWarning`.
    """
    points, notes = rd_points(frame, distortion=distortion, split=split, **chosen)
    warn(notes)
    return rd(points, distortion=distortion, split=split, columns=columns)


def rd(
    points: pd.DataFrame,
    *,
    distortion: str = "nll",
    split: str = "test",
    columns: int = 2,
    xlim: Bounds | None = None,
    ylim: Bounds | None = None,
) -> Figure:
    """Draws rate-distortion points: all of them in one panel, the low rates in another.

    Colours tell the readings, lines and markers the models. Grey verticals join the readings of the
    same weights. Where the reading sigma^2 = beta C runs off, its axis is linear over the range of
    the other readings and logarithmic above it. Of Gaussian data, what theory allows is drawn too.

    Args:
        points: as `rd_points` gives them; panels for each dataset.
        distortion: what their `value` is: `nll`, `mse` or `psnr`. Rates are in nats per image for
            `nll`, else in bits per pixel and channel.
        split: named in the title.
        columns: of a paper that the figure is as wide as, 1 or 2.
        xlim, ylim: bounds instead of the panels' own; there is one panel then.

    Raises:
        BadInput: no point lies within the bounds.
    """
    points = _in_units(points, distortion)
    bounded = xlim is not None or ylim is not None
    _check_bounds(points, xlim, ylim)
    groups = {name: part for name, part in points.groupby("dataset", sort=False)}
    two = not bounded and any(_low_rates(part) is not None for part in groups.values())
    series = series_of(points)
    rows, across = (len(groups), 1 + two) if columns == 2 else (len(groups) * (1 + two), 1)
    with paper_style():
        figure = new_figure(columns, (2.7 if two or columns == 1 else 3.6) * rows)
        panels = figure.subplots(rows, across, squeeze=False).reshape(len(groups), 1 + two)
        notes = []
        for row, (dataset, part) in zip(panels, groups.items(), strict=True):
            _draw(row[0], part, series, distortion)
            row[0].set_title(f"{dataset_title(dataset)}, {split} split; numbers are " + r"$\beta$")
            row[0].set_ylabel(_DISTORTIONS[distortion])
            notes.append(_bound(row[0], part, xlim, ylim))
            if two:
                _draw_low_rates(row[1], part, series, distortion)
        bounds = [_bound_key(distortion)] if "gaussian" in groups else []
        add_key(figure, key_of(points, series, *bounds), rows=7)
        fit_texts(figure)  # labels need to know where the panels end up,
        figure.set_layout_engine("none")  # and the panels stay there
        for row, part, note in zip(panels, groups.values(), notes, strict=True):
            if note is not None:
                settle(row[0], note, *_drawn(part))
            for axes in row:
                _label_betas(axes, part, series)
    return figure


def _in_units(points: pd.DataFrame, distortion: str) -> pd.DataFrame:
    if distortion == "nll":
        return points
    rates = [name for name in points if name.startswith("rate")]
    return points.assign(**{n: points[n] / (points["dims"] * math.log(2)) for n in rates})


def _check_bounds(points: pd.DataFrame, xlim: Bounds | None, ylim: Bounds | None) -> None:
    everything = (-np.inf, np.inf)
    inside = points["rate"].between(*(xlim or everything))
    inside &= points["value"].between(*(ylim or everything))
    if not inside.any():
        spans = [f"{points[c].min():.4g} to {points[c].max():.4g}" for c in ("rate", "value")]
        raise BadInput(
            f"no point lies within those bounds: rates run from {spans[0]}, distortions {spans[1]}"
        )


def _draw(axes: Axes, points: pd.DataFrame, series: Series, distortion: str) -> None:
    axes.set_xlabel(_RATES[distortion])
    for key, properties in series.items():
        line = points[(points["curve"] == key[0]) & (points["sigma"] == key[1])].sort_values("beta")
        if line.empty:
            continue
        axes.errorbar(
            line["rate"],
            line["value"],
            xerr=_whiskers(line, "rate"),
            yerr=_whiskers(line, "value"),
            elinewidth=0.7,
            capsize=1.5,
            **properties,
        )
    same = points.groupby(["curve", "beta"], sort=False)
    low, high = same["value"].min(), same["value"].max()
    axes.vlines(same["rate"].mean(), low, high, color="0.8", linewidth=0.5, zorder=0)
    for line in _theory(points, distortion):
        # An artist and not a plot: the axes show the range of the models.
        axes.add_artist(Line2D(*line.T, color="k", linewidth=0.8, zorder=1.5))


def _theory(points: pd.DataFrame, distortion: str) -> Iterator[Floats]:
    """What the data's rate-distortion function allows, (n, 2), for each reading with a form."""
    bound = gaussian_curve(points["dataset"].iloc[0])
    if bound is None:
        return
    dims, highest = float(points["dims"].iloc[0]), float(points["rate"].max())
    nats = bound["rate"].to_numpy()
    rates = nats if distortion == "nll" else nats / (dims * math.log(2))
    inside = rates <= highest
    for name in sorted(set(points["sigma"])) if distortion == "nll" else [distortion]:
        if name in _THEORY:
            values = _THEORY[name](bound["sse"].to_numpy(), dims)
            yield np.stack([rates, values], axis=1)[inside]


def _bound_key(distortion: str) -> Line2D:
    """What the lines of theory are called: `optimal` is no density, and no bound holds for it."""
    of = r" ($\sigma^2=1/2$, shared)" if distortion == "nll" else ""
    return Line2D([], [], color="k", linewidth=0.8, label=f"bound of the Gaussian data{of}")


def _whiskers(line: pd.DataFrame, name: str) -> list["pd.Series[float]"] | None:
    if (line["runs"] < 2).all():
        return None
    return [line[name] - line[f"{name}_low"], line[f"{name}_high"] - line[name]]


def _bound(
    axes: Axes, points: pd.DataFrame, xlim: Bounds | None, ylim: Bounds | None
) -> Text | None:
    axes.margins(x=0.07)
    note = None
    if ylim:
        axes.set_ylim(*ylim)
    else:
        steady = _steady(points)["value"].max()
        note = bend_above(axes, points["value"].min(), steady, points["value"].max())
    if xlim:
        axes.set_xlim(*xlim)
    return note


def _steady(points: pd.DataFrame) -> pd.DataFrame:
    """The points without the reading that grows without bound as beta goes to 0."""
    steady = points[points["sigma"] != "beta-half"]
    return points if steady.empty else steady


def _low_rates(points: pd.DataFrame) -> float | None:
    """The highest rate of the second panel; None where it would show nothing or nothing new."""
    right = float(points["rate"].max()) * _LOW_RATE
    models = _steady(points).drop_duplicates(["curve", "beta"])
    inside = models["rate"] <= right
    return right if 3 <= inside.sum() < len(models) else None


def _draw_low_rates(axes: Axes, points: pd.DataFrame, series: Series, distortion: str) -> None:
    right = _low_rates(points)
    if right is None:
        axes.set_axis_off()
        return
    _draw(axes, points, series, distortion)
    axes.set_title("the same at low rates")
    steady = _steady(points)
    values = steady.loc[steady["rate"] <= right, "value"]
    margin = 0.12 * (values.max() - values.min()) or 1.0
    axes.set_xlim(-0.07 * right, right)
    axes.set_ylim(values.min() - margin, values.max() + margin)


def _label_betas(axes: Axes, points: pd.DataFrame, series: Series) -> None:
    """Writes beta along each curve where there is room; points too close together share a label.

    Labels go to the lowest reading of every other curve, and to the highest fitted reading of those
    between, in the colour of that reading.
    """
    if not axes.axison:
        return
    labels = []
    for index, (_, curve) in enumerate(points.groupby("curve", sort=False)):
        above = index % 2 == 1
        fitted = curve[~curve["sigma"].isin(["half", "beta-half"])]
        values = (curve if fitted.empty or not above else fitted).groupby("beta")["value"]
        line = curve.loc[values.idxmax() if above else values.idxmin()].sort_values("beta")
        for cluster in _clusters(axes, line):
            first = cluster.iloc[0]
            ends = dict.fromkeys(short(beta) for beta in cluster["beta"].iloc[[0, -1]])
            labels.append(
                Label(
                    text="–".join(ends),
                    at=(first["rate"], first["value"]),
                    own=_places(curve[curve["beta"].isin(cluster["beta"])]),
                    above=above,
                    colour=series[first["curve"], first["sigma"]]["color"],
                )
            )
    place_labels(axes, labels, *_drawn(points))


def _drawn(points: pd.DataFrame) -> tuple[Floats, list[Floats]]:
    """The points, and the lines through them and their whiskers."""
    curves = points.sort_values("beta").groupby(["curve", "sigma"], sort=False)
    lines = [_places(curve) for _, curve in curves]
    for ends in (["rate_low", "value"], ["rate", "value_low"]):  # the whiskers
        others = [name.replace("low", "high") for name in ends]
        whiskers = np.stack([points[ends], points[others]], axis=1).astype(np.float64)
        lines += list(whiskers)
    return _places(points), lines


def _places(points: pd.DataFrame) -> Floats:
    return np.asarray(points[["rate", "value"]], dtype=np.float64)


def _clusters(axes: Axes, line: pd.DataFrame) -> list[pd.DataFrame]:
    """Runs of points that lie within a label of the first of them."""
    inside = line[line["rate"].between(*axes.get_xlim()) & line["value"].between(*axes.get_ylim())]
    points_apart = 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    places = axes.transData.transform(_places(inside)) * points_apart
    firsts: list[int] = []
    for i, place in enumerate(places):
        if not firsts or np.abs(place - places[firsts[-1]]).max() >= _CLUSTER:
            firsts.append(i)
    return [inside.iloc[a:b] for a, b in itertools.pairwise([*firsts, len(inside)])]
