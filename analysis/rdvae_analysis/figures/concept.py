"""The plane of beta and the decoder variance, and where trained models lie in it (Fig. 2)."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from rdkit_vae.errors import BadInput
from rdvae_analysis.curves import COLLAPSED
from rdvae_analysis.figures.labels import Label, place_labels
from rdvae_analysis.figures.style import (
    beta_axis,
    dataset_title,
    finish,
    log_ticks,
    panel,
    paper_style,
    root_figure,
)
from rdvae_analysis.names import is_model, objective_name, short
from rdvae_analysis.sound import Mask, from_elsewhere, is_in, only_sound

MARKERS = {"constant": "o", "optimal": "D", "learned": "*"}
_FLAT_LABEL = 0.45  # inches; where models are closer than this, labels are written upwards
_SIZES = {"constant": 18, "optimal": 22, "learned": 70}


def has_place(rows: pd.DataFrame) -> Mask:
    """Which rows are of models that have a place in the plane.

    Those of the objectives of `MARKERS`, and models from elsewhere whose beta and constant variance
    are known.
    """
    known = rows["beta"].notna() & rows["train_sigma2"].notna()
    placed: Mask = is_in(rows["objective"], MARKERS) | (from_elsewhere(rows) & np.array(known))
    return placed


def plane(rows: pd.DataFrame) -> pd.DataFrame:
    """Where models lie in the plane: beta and the variance that they were trained or fitted with.

    Args:
        rows: results of last checkpoints, of one setup and split.

    Returns:
        A row per objective, C and beta, averaged over seeds: `trained` (C in squared pixels; NaN if
        training fits the variance), `sigma2` (squared pixels, of `shared`: E[sse]/D on the train
        split; of `own` for the objective `learned`) and `rate` (nats per image).

    Raises:
        BadInput: a column is missing.
    """
    rows = only_sound(rows, ("objective", "train_sigma2", "beta", "sigma", "sigma2", "rate"))
    rows = rows[has_place(rows)]
    sigma = np.where(rows["objective"] == "learned", "own", "shared")
    models = rows[rows["sigma"] == sigma].groupby(
        ["objective", "train_sigma2", "beta"], dropna=False, as_index=False
    )
    table = models.agg(sigma2=("sigma2", "mean"), rate=("rate", "mean"))
    return table.rename(columns={"train_sigma2": "trained"})


def concept(
    rows: pd.DataFrame, *, split: str = "test", columns: int = 2, ax: Axes | None = None
) -> Figure:
    """Lines of constant beta x C, and where constant variance, BS-VAE and learned variance end up.

    A model trained with (beta, C) has the same weights as one trained anywhere else on its line
    beta x C. A grey line leads from there to the point on that line whose variance is the fitted
    one: only there is the claimed variance true. BS-VAE has one point per beta, learned variance
    with beta = 1 is a single point. Models from elsewhere with a constant variance have their name
    beside them. Colour shows the rate.

    Args:
        rows: results of last checkpoints, of one setup and split.
        split: named in the title.
        columns: width of the figure in columns of a paper, 1 or 2.
        ax: axes to draw into, with the legend inside and the colour bar beside them; their size and
            layout are yours. By default a new figure is made.

    Returns:
        The new figure, or that of `ax`.

    Raises:
        BadInput: there are no models of these objectives, or a column is missing.
    """
    table = plane(rows)
    if table.empty:
        raise BadInput(f"nothing to draw: no models of {', '.join(MARKERS)}")
    norm = LogNorm(COLLAPSED, max(2 * COLLAPSED, table["rate"].max()), clip=True)
    with paper_style():
        axes = panel(ax, columns, 3.5 if columns == 2 else 2.9)
        for objective in MARKERS:
            part = table[table["objective"] == objective].sort_values("beta")
            if len(part):
                _draw(axes, str(objective), part, norm)
        others = table[table["objective"].map(is_model)]
        if len(others):
            _draw_constant(axes, others, "models from elsewhere", _colours(others, norm), "^")
        beta_axis(axes)
        axes.set(yscale="log", ylabel=r"decoder variance $\sigma^2$  (squared pixel)")
        log_ticks(axes.yaxis)
        axes.margins(x=0.08, y=0.08 if columns == 2 else 0.24)
        _draw_lines(axes)
        _add_rate_bar(axes, norm)
        name = dataset_title(rows["dataset"].iloc[0])
        axes.set_title(rf"The plane of $\beta$ and $\sigma^2$: {name}, {split}; numbers are βC")
        figure = finish(axes, {"": axes.get_legend_handles_labels()[0]}, rows=2, ax=ax)
        _label(axes, table)
    return figure


def _add_rate_bar(axes: Axes, norm: LogNorm) -> None:
    """Puts a colour bar right of the axes, as a part of them: no other axes give way."""
    beside = axes.inset_axes((1.02, 0, 0.03, 1))
    mapped = ScalarMappable(norm, "viridis")
    bar = root_figure(axes).colorbar(mapped, cax=beside, label="rate  (nats / image)")
    log_ticks(bar.ax.yaxis)


def _draw(axes: Axes, objective: str, part: pd.DataFrame, norm: LogNorm) -> None:
    look: dict[str, Any] = {"marker": MARKERS[objective], "s": _SIZES[objective], "zorder": 3}
    colours = _colours(part, norm)
    name = objective_name(objective)
    if objective == "constant":
        _draw_constant(axes, part, name, colours, MARKERS[objective])
        return
    path: dict[str, Any] = {"color": "0.3", "linewidth": 0.9, "zorder": 2}
    if objective == "learned":  # the ELBO itself, at β = 1, is one point; other betas are a path
        others = f"{name} at other β" if len(part) > 1 else None
        axes.plot(part["beta"], part["sigma2"], linestyle="--", marker=".", label=others, **path)
        part, label = part[part["beta"] == 1], f"{name}: one point at β = 1"
        colours |= {"c": part["rate"]}
        if part.empty:
            return
    else:
        axes.plot(part["beta"], part["sigma2"], **path)
        label = f"{name}: one variance for each β"
    axes.scatter(part["beta"], part["sigma2"], edgecolors="k", label=label, **look, **colours)


def _colours(part: pd.DataFrame, norm: LogNorm) -> dict[str, Any]:
    return {"c": part["rate"], "cmap": "viridis", "norm": norm, "linewidths": 0.5}


def _draw_constant(
    axes: Axes, part: pd.DataFrame, name: str, colours: dict[str, Any], marker: str
) -> None:
    """Draws models where they were trained and at their fitted variance, joined by a line."""
    look: dict[str, Any] = {"s": _SIZES["constant"], "zorder": 3, **colours}
    fitted = part["beta"] * part["trained"] / part["sigma2"]
    label = f"{name}: trained at (β, C)"
    axes.scatter(part["beta"], part["trained"], marker=marker, edgecolors="k", label=label, **look)
    label = "the same models at their fitted variance"
    axes.scatter(fitted, part["sigma2"], marker="s", edgecolors="0.5", label=label, **look)
    ends = np.stack([part[["beta", "trained"]], np.stack([fitted, part["sigma2"]], 1)], 1)
    for line in ends:
        axes.plot(*line.T, color="0.6", linewidth=0.8, zorder=1.5)
    axes.plot([], [], color="0.6", linewidth=0.8, label="equal β x C: equal weights")


def _draw_lines(axes: Axes) -> None:
    """Draws faint lines of constant beta x s2, one per decade."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    first, last = np.floor(np.log10(left * low)), np.ceil(np.log10(right * high))
    x = np.array([left, right])
    for product in 10.0 ** np.arange(first, last + 1):
        axes.plot(x, product / x, color="0.9", linewidth=0.6, zorder=0.5)
    axes.grid(False)
    axes.set(xlim=(left, right), ylim=(low, high))


def _label(axes: Axes, table: pd.DataFrame) -> None:
    """Writes beta x C beside the models of constant variance, and names those from elsewhere."""
    others = table["objective"].map(is_model)
    constant = table[(table["objective"] == "constant") | others].sort_values("beta")
    width = axes.get_window_extent().width / root_figure(axes).dpi  # inches
    upright = width < _FLAT_LABEL * constant["beta"].nunique()
    labels = []
    for p in constant.itertuples():
        product = p.beta * p.trained
        ends = np.array([(p.beta, p.trained), (product / p.sigma2, p.sigma2)])
        at = (p.beta, p.trained)
        name = f"{objective_name(p.objective)}: " if is_model(p.objective) else ""
        text = name + short(product)
        labels.append(Label(text=text, at=at, own=ends, above=True, upright=upright))
    markers = [np.asarray(marks.get_offsets()) for marks in axes.collections]
    paths = [np.asarray(line.get_xydata()) for line in axes.lines if line.get_zorder() > 1]
    place_labels(axes, labels, np.concatenate(markers), paths)
