"""Models of fitted variance beside the constant-variance curve, at beta_const = 2 beta s2."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rdkit_vae.errors import BadInput
from rdvae_analysis.figures.fit import fit_texts
from rdvae_analysis.figures.key import add_key
from rdvae_analysis.figures.style import (
    dataset_title,
    interpretation_look,
    log_ticks,
    new_figure,
    paper_style,
    series_look,
)
from rdvae_analysis.names import in_order, interpretation_name, objective_name

_SHOWN = ("optimal", "shared")


def overlay(table: pd.DataFrame, constant: pd.DataFrame, *, split: str = "test") -> Figure:
    """Rate against beta_const on the left, gain in ELBO at the same beta_const on the right.

    Args:
        table: as `matched.overlay` returns it, of one setup.
        constant: `consistency.by_beta` of the models of constant variance of that setup.
        split: named in the title.

    Raises:
        BadInput: the table is empty.
    """
    if table.empty:
        raise BadInput("nothing to draw: no model within the range of the constant-variance curve")
    with paper_style():
        figure = new_figure(2, 2.9)
        left, right = figure.subplots(1, 2)
        line = constant.assign(x=2 * constant["beta"] * constant["train_sigma2"]).sort_values("x")
        left.plot(line["x"], line["rate"], color="0.5", marker=".", label="constant variance")
        right.axhline(0, color="0.4", linewidth=0.8)
        with_error = table.dropna(subset="miss").sort_values("beta_const")
        label = "interpolation error of the constant curve"
        x, error = with_error["beta_const"], with_error["miss"]
        band = right.fill_between(x, -error, error, color="0.85", label=label, zorder=0)
        for place, objective in enumerate(in_order(table["objective"])):
            part = table[table["objective"] == objective].sort_values("beta_const")
            look = series_look(0, place) | {"color": "0.1", "linewidth": 0.6}
            name = objective_name(str(objective))
            left.plot(part["beta_const"], part["rate"], label=name, **look)
            _draw_gains(right, part, str(objective), place)
        for axes in (left, right):
            axes.set(xscale="log", xlabel=r"$\beta_{const}=2\beta\sigma^2$")
            log_ticks(axes.xaxis)
        left.set_ylabel("rate  (nats / image)")
        right.set_ylabel("gain in ELBO  (nats)")
        sigmas = [
            Line2D(
                [],
                [],
                color=interpretation_look(s)["color"],
                linewidth=2.5,
                label=interpretation_name(s),
            )
            for s in _SHOWN
        ]
        models = left.get_legend_handles_labels()[0]
        add_key(figure, {"interpretation": sigmas, "trained with": models, " ": [band]}, rows=3)
        name = dataset_title(table["dataset"].iloc[0])
        figure.suptitle(f"Gain over constant variance at the same weighting: {name}, {split}")
        fit_texts(figure)
    return figure


def _draw_gains(axes: Axes, part: pd.DataFrame, objective: str, place: int) -> None:
    for sigma in _SHOWN:
        gain = part[f"gain_{sigma}"]
        whiskers = [gain - part[f"low_{sigma}"], part[f"high_{sigma}"] - gain]
        look = interpretation_look(sigma) | {"marker": series_look(0, place)["marker"]}
        look["linestyle"] = series_look(0, place)["linestyle"]
        yerr = None if part[f"low_{sigma}"].isna().all() else whiskers
        axes.errorbar(part["beta_const"], gain, yerr=yerr, capsize=1.5, **look)
