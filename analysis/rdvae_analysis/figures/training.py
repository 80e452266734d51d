"""How runs came to be what they are: rate, distortion, ELBO and variance over epochs."""

import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rdkit_vae.errors import BadInput
from rdkit_vae.grammar import counted
from rdvae_analysis.figures.style import new_figure, paper_style, plain_log_ticks
from rdvae_analysis.names import dataset_name, in_order, objective_name, reading_name

_QUANTITIES = {
    "rate": "rate  (nats)",
    "distortion": "distortion  (nats)",
    "elbo": "ELBO  (nats)",
    "sigma2": r"variance $\sigma^2$",
}
_ENDS = {"diverged": "x", "crashed": "+"}  # markers


def training(
    rows: pd.DataFrame, *, split: str = "test", columns: int = 2, sigma: str = "shared"
) -> Figure:
    """Lines over epochs, a column of panels per objective, a colour per beta.

    Points are checkpoints, where alone these numbers are measured; where runs have but one, the
    title says so. A run that diverged or crashed ends in a red mark at the epoch it had reached.

    Args:
        rows: results of one setup and split, of all checkpoints and of failed runs too.
        split: named in the title.
        columns: of a paper that the figure is as wide as, 1 or 2.
        sigma: the interpretation of distortion, ELBO and variance.

    Raises:
        BadInput: no rows of that interpretation.
    """
    rows = rows[rows["sigma"] == sigma]
    if rows.empty:
        raise BadInput(f"nothing to draw: no rows of sigma {sigma}")
    objectives = in_order(rows["objective"])
    betas = rows["beta"].unique()
    norm = LogNorm(betas.min(), betas.max() if len(betas) > 1 else 2 * betas.max())
    with paper_style():
        figure = new_figure(columns, 1.25 * len(_QUANTITIES) + 0.9)
        panels = figure.subplots(
            len(_QUANTITIES), len(objectives), squeeze=False, sharex=True, sharey="row"
        )
        for column, objective in zip(panels.T, objectives, strict=True):
            part = rows[rows["objective"] == objective]
            for _, run in part.groupby("run_id", sort=False):
                _draw(column, run, norm)
            width = 60 * columns // len(objectives)
            column[0].set_title(textwrap.fill(objective_name(objective), width // 2))
            column[-1].set_xlabel("epoch")
        _axes(panels, rows)
        colours = ScalarMappable(norm, "viridis")
        bar = figure.colorbar(colours, ax=panels, fraction=0.04, pad=0.02, aspect=40)
        bar.set_label(r"$\beta$ of training")
        figure.legend(handles=_keys(rows), loc="outside lower center", ncols=3)
        name = dataset_name(rows["dataset"].iloc[0])
        runs = counted(rows["run_id"].nunique(), "run")
        title = f"{name}, {split} split, read with {reading_name(sigma)}: {runs}"
        if rows.groupby("run_id")["epoch"].nunique().max() == 1:
            title += " of one checkpoint each (--checkpoints log makes more)"
        figure.suptitle(title)
    return figure


def _draw(panels: Any, run: pd.DataFrame, norm: LogNorm) -> None:
    run = run.sort_values("epoch")
    fine, failed = run[run["status"] == "ok"], run[run["status"] != "ok"]
    colour = mpl.colormaps["viridis"](norm(run["beta"].iloc[0]))
    for axes, quantity in zip(panels, _QUANTITIES, strict=True):
        axes.plot(fine["epoch"], fine[quantity], color=colour, marker="o", markersize=2.5)
        for row in failed.drop_duplicates("status").itertuples():
            look: dict[str, Any] = {
                "marker": _ENDS[row.status],
                "color": "tab:red",
                "markersize": 6,
                "zorder": 4,
            }
            if fine.empty:  # nothing was ever measured: the mark stands on the axis
                axes.plot([max(row.epoch, 1)], [0.04], transform=axes.get_xaxis_transform(), **look)
                continue
            height = fine[quantity].iloc[-1]
            line: dict[str, Any] = {"color": "tab:red", "linewidth": 0.7, "linestyle": ":"}
            axes.plot([fine["epoch"].iloc[-1], row.epoch], [height, height], **line)
            axes.plot([row.epoch], [height], **look)


def _axes(panels: Any, rows: pd.DataFrame) -> None:
    for line, (quantity, label) in zip(panels, _QUANTITIES.items(), strict=True):
        line[0].set_ylabel(label)
        for axes in line:
            axes.set_xscale("log")
            plain_log_ticks(axes.xaxis, few=panels.shape[1] > 2)
            if quantity == "sigma2" and rows[quantity].notna().any():
                axes.set_yscale("log")
            else:
                _robust_limits(axes, rows[quantity], rows["epoch"])
    figure = panels[0, 0].get_figure()
    figure.align_ylabels(panels[:, 0])


def _robust_limits(axes: Axes, values: "pd.Series[float]", epochs: "pd.Series[int]") -> None:
    """Keeps a first wild checkpoint from pressing all later ones flat."""
    later = values[(epochs > 1) & np.isfinite(values)]
    if len(later) < 2 or later.max() == later.min():
        return
    margin = 0.15 * (later.max() - later.min())
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, later.min() - margin), min(high, later.max() + margin))


def _keys(rows: pd.DataFrame) -> list[Line2D]:
    keys = [Line2D([], [], color="0.4", marker="o", markersize=2.5, label="checkpoint")]
    for status, marker in _ENDS.items():
        runs = rows.loc[rows["status"] == status, "run_id"].nunique()
        if runs:
            label = f"{status} ({counted(runs, 'run')})"
            keys.append(Line2D([], [], color="tab:red", marker=marker, ls="", label=label))
    return keys
