"""Rate-distortion curves (Beta-Sigma VAE, Fig. 3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from rdkit_vae.errors import BadInput
from rdkit_vae.grammar import SIGMAS
from rdvae_analysis.figures.bend import bend_above
from rdvae_analysis.figures.style import OBJECTIVE_NAMES, objective_name, paper_style, series_look
from rdvae_analysis.points import rd_points

Bounds = tuple[float, float]
Series = dict[tuple[str, str], dict[str, Any]]  # by (curve, sigma): label and look

_AXES = {
    "nll": r"distortion  $E[-\log p(x|z)]$  (nats / image)",
    "mse": "mean squared error  (squared pixel)",
    "psnr": "PSNR  (dB)",
}
_TELLING = ("architecture", "latents", "protocol", "train_sigma2")
_LOW_RATE = 0.35  # the right panel shows this share of the rates
_LABEL_POINTS = 18  # room that the label of a beta takes, in points


def plot_rd(
    frame: pd.DataFrame, *, distortion: str = "nll", split: str = "test", **chosen: Sequence[str]
) -> Figure:
    """`rd` straight from results; `chosen` are the `sigmas` and `objectives` of `rd_points`."""
    points, _ = rd_points(frame, distortion=distortion, split=split, **chosen)
    return rd(points, distortion=distortion, split=split)


def rd(
    points: pd.DataFrame,
    *,
    distortion: str = "nll",
    split: str = "test",
    xlim: Bounds | None = None,
    ylim: Bounds | None = None,
) -> Figure:
    """Draws rate-distortion points: all of them on the left, the low rates on the right.

    Grey verticals join the readings of the same weights. Where the reading sigma^2 = beta C runs
    off, the left axis is linear over the range of the other readings and logarithmic above it.

    Args:
        points: as `rd_points` gives them; a row of panels for each dataset.
        distortion: what their `value` is: `nll`, `mse` or `psnr`.
        split: named in the title.
        xlim, ylim: bounds instead of the two panels' own; there is one panel then.

    Raises:
        BadInput: no point lies within the bounds.
    """
    bounded = xlim is not None or ylim is not None
    _check_bounds(points, xlim, ylim)
    groups = {name: part for name, part in points.groupby("dataset", sort=False)}
    two = not bounded and any(_low_rates(part) is not None for part in groups.values())
    series = _series(points)
    with paper_style():
        figure = Figure(figsize=(9.5 if two else 6, 4.2 * len(groups) + 0.9), layout="constrained")
        rows = figure.subplots(len(groups), 1 + two, squeeze=False)
        for row, (dataset, part) in zip(rows, groups.items(), strict=True):
            _draw(row[0], part, series)
            row[0].set_title(f"{_plain(dataset)}, {split} split; labels are " + r"$\beta$")
            row[0].set_ylabel(_AXES[distortion])
            _bound(row[0], part, xlim, ylim)
            if two:
                _draw_low_rates(row[1], part, series)
            for axes in row:
                _label_betas(axes, part, series)
        handles = {handle.get_label(): handle for a in rows.flat for handle in a.containers}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2 + two)
    return figure


def _plain(text: str) -> str:
    """A name in which the typesetter reads nothing."""
    return text.replace("$", r"\$")


def _check_bounds(points: pd.DataFrame, xlim: Bounds | None, ylim: Bounds | None) -> None:
    everything = (-np.inf, np.inf)
    inside = points["rate"].between(*(xlim or everything))
    inside &= points["value"].between(*(ylim or everything))
    if not inside.any():
        spans = [f"{points[c].min():.4g} to {points[c].max():.4g}" for c in ("rate", "value")]
        raise BadInput(
            f"no point lies within those bounds: rates run from {spans[0]}, distortions {spans[1]}"
        )


def _series(points: pd.DataFrame) -> Series:
    """Label and look of each (curve, sigma): a colour per interpretation, a marker per objective.

    They are the same in every figure, but for curves that differ in a further setting.
    """
    order = [*SIGMAS, *sorted(set(points["sigma"]) - SIGMAS.keys())]
    objectives = [*OBJECTIVE_NAMES, *sorted(set(points["objective"]) - OBJECTIVE_NAMES.keys())]
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
        shape = places[p.objective, settings[p.curve]]
        colour = p.rank if p.sigma else shape  # mse and psnr have no reading to tell
        label = _label(p, settings[p.curve])
        found[p.curve, p.sigma] = {"label": label, **series_look(colour, shape)}
    return found


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


def _label(point: Any, settings: str) -> str:
    objective = objective_name(point.objective)
    plain = pd.isna(point.train_sigma2) or point.train_sigma2 == 0.5
    names = {
        "": "",
        "half": r", $\sigma^2=1/2$",
        "beta-half": r", $\sigma^2=\beta/2$" if plain else r", $\sigma^2=\beta C$",
    }
    sigma = names.get(point.sigma, f", {point.sigma}")
    return f"{objective} ({settings}){sigma}" if settings else f"{objective}{sigma}"


def _draw(axes: Axes, points: pd.DataFrame, series: Series) -> None:
    axes.set_xlabel(r"rate  $E\,KL(q(z|x)\,\|\,p(z))$  (nats / image)")
    for key, properties in series.items():
        line = points[(points["curve"] == key[0]) & (points["sigma"] == key[1])].sort_values("beta")
        if line.empty:
            continue
        axes.errorbar(
            line["rate"],
            line["value"],
            xerr=_whiskers(line, "rate"),
            yerr=_whiskers(line, "value"),
            markersize=4.5,
            linewidth=1.2,
            elinewidth=0.8,
            capsize=2,
            **properties,
        )
    for _, readings in points.groupby(["curve", "beta"]):
        if len(readings) > 1:
            low, high = readings["value"].min(), readings["value"].max()
            axes.vlines(readings["rate"].mean(), low, high, color="0.75", linewidth=0.6, zorder=0)


def _whiskers(line: pd.DataFrame, name: str) -> list["pd.Series[float]"] | None:
    if (line["runs"] < 2).all():
        return None
    return [line[name] - line[f"{name}_low"], line[f"{name}_high"] - line[name]]


def _bound(axes: Axes, points: pd.DataFrame, xlim: Bounds | None, ylim: Bounds | None) -> None:
    axes.margins(x=0.07)
    if ylim:
        axes.set_ylim(*ylim)
    else:
        steady = _steady(points)["value"].max()
        bend_above(axes, points["value"].min(), steady, points["value"].max())
    if xlim:
        axes.set_xlim(*xlim)


def _steady(points: pd.DataFrame) -> pd.DataFrame:
    """The points without the reading that grows without bound as beta goes to 0."""
    steady = points[points["sigma"] != "beta-half"]
    return points if steady.empty else steady


def _low_rates(points: pd.DataFrame) -> float | None:
    """The highest rate of the right panel; None where it would show nothing or nothing new."""
    right = float(points["rate"].max()) * _LOW_RATE
    models = _steady(points).drop_duplicates(["curve", "beta"])
    inside = models["rate"] <= right
    return right if 3 <= inside.sum() < len(models) else None


def _draw_low_rates(axes: Axes, points: pd.DataFrame, series: Series) -> None:
    right = _low_rates(points)
    if right is None:
        axes.set_axis_off()
        return
    _draw(axes, points, series)
    axes.set_title("the same at low rates")
    steady = _steady(points)
    values = steady.loc[steady["rate"] <= right, "value"]
    margin = 0.12 * (values.max() - values.min()) or 1.0
    axes.set_xlim(-0.07 * right, right)
    axes.set_ylim(values.min() - margin, values.max() + margin)


def _label_betas(axes: Axes, points: pd.DataFrame, series: Series) -> None:
    """Writes beta along each curve; points too close to tell apart share a label.

    Labels go below the lowest reading of every other curve, and above the highest fitted reading of
    those between.
    """
    if not axes.axison:
        return
    for index, (_, curve) in enumerate(points.groupby("curve", sort=False)):
        below = index % 2 == 0
        fitted = curve[~curve["sigma"].isin(["half", "beta-half"])]
        values = (curve if below or fitted.empty else fitted).groupby("beta")["value"]
        line = curve.loc[values.idxmin() if below else values.idxmax()].sort_values("beta")
        for low, high, x, y in _clusters(axes, line):
            axes.annotate(
                f"{low:g}" if low == high else f"{low:g}–{high:g}",
                (x, y),
                xytext=(0, -12 if below else 6),
                textcoords="offset points",
                fontsize=7.5,
                ha="center",
                color="0.15",
                path_effects=[withStroke(linewidth=2, foreground="white")],
            )


def _clusters(axes: Axes, line: pd.DataFrame) -> list[tuple[float, float, float, float]]:
    """(lowest beta, highest beta, x, y) of runs of points that lie within a label of each other."""
    inside = line[line["rate"].between(*axes.get_xlim()) & line["value"].between(*axes.get_ylim())]
    places = axes.transData.transform(inside[["rate", "value"]].to_numpy())
    points_apart = 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    found: list[list[Any]] = []
    last = None
    for (_, row), place in zip(inside.iterrows(), places, strict=True):
        if last is not None and np.abs(place - last).max() * points_apart < _LABEL_POINTS:
            found[-1][1] = row["beta"]
        else:
            found.append([row["beta"], row["beta"], row["rate"], row["value"]])
            last = place
    return [tuple(cluster) for cluster in found]
