"""Rate-distortion curves (Beta-Sigma VAE, Fig. 3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from rdkit_vae.grammar import SIGMAS
from rdvae_analysis.curves import rd_points
from rdvae_analysis.figures.style import look, paper_style

Bounds = tuple[float, float]

_OBJECTIVES = {"constant": "constant variance", "optimal": "BS-VAE"}
_SIGMAS = {"half": r"$\sigma^2=1/2$", "beta-half": r"$\sigma^2=\beta C$"}
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

    Where the reading sigma^2 = beta C runs off by orders of magnitude, the left panel is linear
    over the range of the other readings and logarithmic beyond it.

    Args:
        points: as `rd_points` gives them; a row of panels for each dataset.
        distortion: what their `value` is: `nll`, `mse` or `psnr`.
        split: named in the title.
        xlim, ylim: bounds of the left panels.
    """
    datasets = list(dict.fromkeys(points["dataset"]))
    series = _series(points)
    with paper_style():
        figure = Figure(figsize=(9.5, 4.2 * len(datasets) + 0.7), layout="constrained")
        rows = figure.subplots(len(datasets), 2, squeeze=False)
        for (full, low), dataset in zip(rows, datasets, strict=True):
            part = points[points["dataset"] == dataset]
            for axes in (full, low):
                _draw(axes, part, series)
                axes.set_xlabel(r"rate  $E\,KL(q(z|x)\,\|\,p(z))$  (nats / image)")
            full.set_title(f"{dataset}, {split} split; labels are " + r"$\beta$")
            full.set_ylabel(_AXES[distortion])
            low.set_title("the same at low rates")
            full.margins(x=0.07)
            _scale(full, part)
            full.set(**{name: v for name, v in (("xlim", xlim), ("ylim", ylim)) if v})
            _zoom(low, part)
            for axes in (full, low):
                _label_betas(axes, part, series)
        handles = {handle.get_label(): handle for a in rows.flat for handle in a.containers}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    return figure


def _series(points: pd.DataFrame) -> dict[tuple[str, str], dict[str, object]]:
    """Look and label of each (curve, sigma), objective by objective, in the order of `SIGMAS`.

    The same label has the same look in every panel.
    """
    order = [*SIGMAS, *sorted(set(points["sigma"]) - SIGMAS.keys())]
    firsts = points.drop_duplicates(["curve", "sigma"])
    firsts = firsts.assign(rank=firsts["sigma"].map(order.index))
    firsts = firsts.sort_values(["objective", "curve", "rank"], kind="stable")
    settings = _settings(points)
    labels = {
        (point.curve, point.sigma): _label(point, settings[point.curve])
        for point in firsts.itertuples()
    }
    places = {label: place for place, label in enumerate(dict.fromkeys(labels.values()))}
    return {key: {"label": label, **look(places[label])} for key, label in labels.items()}


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
    objective = _OBJECTIVES.get(point.objective, point.objective)
    sigma = f", {_SIGMAS.get(point.sigma, point.sigma)}" if point.sigma else ""
    return f"{objective} ({settings}){sigma}" if settings else f"{objective}{sigma}"


def _draw(
    axes: Axes, points: pd.DataFrame, series: dict[tuple[str, str], dict[str, object]]
) -> None:
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
            **properties,  # type: ignore[arg-type]
        )


def _whiskers(line: pd.DataFrame, name: str) -> list["pd.Series[float]"] | None:
    if (line["runs"] < 2).all():
        return None
    return [line[name] - line[f"{name}_low"], line[f"{name}_high"] - line[name]]


def _steady(points: pd.DataFrame) -> pd.DataFrame:
    """The points without the reading that grows without bound as beta goes to 0."""
    steady = points[points["sigma"] != "beta-half"]
    return points if steady.empty else steady


def _scale(axes: Axes, points: pd.DataFrame) -> None:
    usual = _steady(points)["value"].abs().max()
    if points["value"].abs().max() <= 5 * usual:
        return
    axes.set_yscale("symlog", linthresh=usual, linscale=2.5)
    axes.axhline(usual, color="0.6", linewidth=0.7, linestyle=":")
    axes.annotate(
        "logarithmic above",
        (1, usual),
        xycoords=("axes fraction", "data"),
        xytext=(-3, 3),
        textcoords="offset points",
        ha="right",
        fontsize=7,
        color="0.4",
    )
    ticks = MaxNLocator(6).tick_values(points["value"].min(), usual)
    decades = 10.0 ** np.arange(np.ceil(np.log10(usual)), np.ceil(np.log10(points["value"].max())))
    axes.yaxis.set_major_locator(FixedLocator([*ticks[ticks <= usual], *decades]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}".replace("-", "\N{MINUS SIGN}"))
    )


def _zoom(axes: Axes, points: pd.DataFrame) -> None:
    right = points["rate"].max() * _LOW_RATE
    inside = _steady(points)
    inside = inside[inside["rate"] <= right]
    if inside.empty or right <= 0:
        return
    low, high = inside["value"].min(), inside["value"].max()
    margin = 0.12 * (high - low) or 1.0
    axes.set_xlim(-0.07 * right, right)
    axes.set_ylim(low - margin, high + margin)


def _label_betas(
    axes: Axes, points: pd.DataFrame, series: dict[tuple[str, str], dict[str, object]]
) -> None:
    """Writes beta along each curve; points too close to tell apart share a label.

    Labels go below the lowest reading of the first curve and above the highest of the second.
    """
    curves = [curve for _, curve in points.groupby("curve", sort=False)]
    for index, curve in enumerate(curves):
        below = index % 2 == 0
        by_beta = curve.groupby("beta")["value"]
        line = curve.loc[by_beta.idxmin() if below else by_beta.idxmax()].sort_values("beta")
        colour = series[line["curve"].iloc[0], line["sigma"].mode().iloc[0]]["color"]
        for low, high, x, y in _clusters(axes, line):
            axes.annotate(
                f"{low:g}" if low == high else f"{low:g}–{high:g}",
                (x, y),
                xytext=(0, -11 if below else 6),
                textcoords="offset points",
                fontsize=6.5,
                ha="center",
                color=colour,
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
