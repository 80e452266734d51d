"""Rate-distortion curves (Beta-Sigma VAE, Fig. 3)."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from rdkit_vae.errors import BadInput
from rdkit_vae.text import few
from rdvae_analysis.figures.bend import bend_above
from rdvae_analysis.figures.beta_labels import drawn_places, label_betas
from rdvae_analysis.figures.labels import settle
from rdvae_analysis.figures.series import Series, key_of, series_of, whiskers
from rdvae_analysis.figures.style import (
    dataset_title,
    finish,
    new_figure,
    paper_style,
    seeds_in_words,
)
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
# The distortion of a Gaussian's squared error, where it has a closed form.
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
    ax: Axes | None = None,
    sigmas: Sequence[str] = (),
    objectives: Sequence[str] = (),
) -> Figure:
    """Draws rate-distortion curves straight from results: `rd` of `rd_points`.

    Args:
        frame: results, as `load_results` returns them.
        distortion: `nll` (nats per image), `mse` (squared pixel) or `psnr` (dB).
        split: `train` or `test`.
        columns: width of the figure in columns of a paper, 1 or 2.
        ax: axes to draw into, as for `rd`.
        sigmas: interpretations; by default those of `points.DEFAULT_SIGMAS`.
        objectives: training objectives; by default all.

    Warns:
        LoadWarning: rows or runs were left out.

    Raises:
        BadInput: nothing is left to draw, or sigmas are chosen for `mse` or `psnr`.
    """
    points, notes = rd_points(
        frame, distortion=distortion, split=split, sigmas=sigmas, objectives=objectives
    )
    warn(notes)
    return rd(points, distortion=distortion, split=split, columns=columns, ax=ax)


def rd(
    points: pd.DataFrame,
    *,
    distortion: str = "nll",
    split: str = "test",
    columns: int = 2,
    xlim: Bounds | None = None,
    ylim: Bounds | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws rate-distortion points: all of them in one panel, the low rates in another.

    A colour stands for an interpretation, a line and marker for a model; a model from elsewhere is
    a single, larger marker. Grey verticals connect the
    interpretations of the same weights. Where the interpretation sigma^2 = beta C leaves the range
    of the others, the axis is logarithmic above that range. For Gaussian data the theoretical bound
    is drawn too.

    Args:
        points: as `rd_points` returns them; each dataset gets its own panels.
        distortion: what `value` holds: `nll`, `mse` or `psnr`. Rates are drawn in nats per image
            for `nll`, else in bits per pixel and channel.
        split: named in the title.
        columns: width of the figure in columns of a paper, 1 or 2.
        xlim, ylim: bounds of the axes; there is one panel then.
        ax: axes to draw into, in one panel and with the legend inside; their size and layout are
            yours. By default a new figure is made.

    Returns:
        The new figure, or that of `ax`.

    Raises:
        BadInput: no point lies within the bounds, or points of several datasets for one `ax`.
    """
    points = _in_units(points, distortion)
    _check_bounds(points, xlim, ylim)
    groups = {str(name): part for name, part in points.groupby("dataset", sort=False)}
    one_panel = xlim is not None or ylim is not None or ax is not None
    two = not one_panel and any(_low_rates(part) is not None for part in groups.values())
    series = series_of(points)
    with paper_style():
        panels = _panels(list(groups), two, columns, ax)
        notes = []
        for row, (dataset, part) in zip(panels, groups.items(), strict=True):
            _draw(row[0], part, series, distortion)
            where = f"{dataset_title(dataset)}, {split} split, {seeds_in_words(part)}"
            row[0].set_title(rf"{where}; numbers are $\beta$")
            row[0].set_ylabel(_DISTORTIONS[distortion])
            notes.append(_bound(row[0], part, xlim, ylim))
            if two:
                _draw_low_rates(row[1], part, series, distortion)
        bounds = [_bound_key(distortion)] if "gaussian" in groups else []
        figure = finish(panels[0][0], key_of(points, series, *bounds), rows=7, ax=ax)
        if ax is None:  # labels depend on where the panels are, so the panels must stay there
            figure.set_layout_engine(None)
        for row, part, note in zip(panels, groups.values(), notes, strict=True):
            if note is not None:
                settle(row[0], note, *drawn_places(part))
            for axes in row:
                label_betas(axes, part, series)
    return figure


def _panels(datasets: Sequence[str], two: bool, columns: int, ax: Axes | None) -> list[list[Axes]]:
    """The panels of each dataset: one, or two for all rates and for the low ones."""
    if ax is not None:
        if len(datasets) > 1:
            raise BadInput(f"one ax takes one dataset, these points are of {few(datasets)}")
        return [[ax]]
    across = 1 + two
    rows, width = (len(datasets), across) if columns == 2 else (len(datasets) * across, 1)
    figure = new_figure(columns, (2.7 if two or columns == 1 else 3.6) * rows)
    panels = figure.subplots(rows, width, squeeze=False).reshape(len(datasets), across)
    return [list(row) for row in panels]


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
            f"no point lies within those bounds: rates run from {spans[0]}, distortions from "
            f"{spans[1]}"
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
            xerr=whiskers(line, "rate"),
            yerr=whiskers(line, "value"),
            elinewidth=0.7,
            capsize=1.5,
            **properties,
        )
    same = points.groupby(["curve", "beta"], sort=False, dropna=False)
    low, high = same["value"].min(), same["value"].max()
    axes.vlines(same["rate"].mean(), low, high, color="0.8", linewidth=0.5, zorder=0)
    for line in _theory(points, distortion):
        # Not `plot`, so that the limits of the axes follow the models alone.
        axes.add_artist(Line2D(*line.T, color="k", linewidth=0.8, zorder=1.5))


def _theory(points: pd.DataFrame, distortion: str) -> Iterator[Floats]:
    """The data's rate-distortion function, (n, 2), for each interpretation with a closed form."""
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
    """The legend entry of the theory; no bound holds for `optimal`, which is no density."""
    sigmas = r" ($\sigma^2=1/2$, shared)" if distortion == "nll" else ""
    return Line2D([], [], color="k", linewidth=0.8, label=f"bound for Gaussian data{sigmas}")


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
    """The points without the interpretation that grows without bound as beta goes to 0."""
    steady = points[points["sigma"] != "beta-half"]
    return points if steady.empty else steady


def _low_rates(points: pd.DataFrame) -> float | None:
    """The highest rate of the second panel; None if it would show too little or nothing new."""
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
    axes.set_title("the same, low rates only")
    steady = _steady(points)
    values = steady.loc[steady["rate"] <= right, "value"]
    margin = 0.12 * (values.max() - values.min()) or 1.0
    axes.set_xlim(-0.07 * right, right)
    axes.set_ylim(values.min() - margin, values.max() + margin)
