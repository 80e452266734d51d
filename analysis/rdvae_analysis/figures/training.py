"""The course of training: rate, distortion, ELBO and variance over epochs."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from rdkit_vae.errors import BadInput
from rdkit_vae.store.schema import Status
from rdkit_vae.text import counted
from rdvae_analysis.figures.fit import fit_texts
from rdvae_analysis.figures.key import add_key
from rdvae_analysis.figures.style import dataset_title, log_ticks, new_figure, paper_style
from rdvae_analysis.names import interpretation_name, model_name, models_in_order
from rdvae_analysis.points import without_models
from rdvae_analysis.sound import from_elsewhere, only_sound, warn
from rdvae_analysis.theory import Floats

Panels = Any  # an array of axes

_QUANTITIES = {
    "rate": "rate",
    "distortion": "distortion",
    "elbo": "ELBO",
    "sigma2": r"variance $\sigma^2$",
}
_MODELS_ACROSS = {1: 3, 2: 6}  # by `columns`
_HEIGHT = 1.15  # of a panel, inches
_LOG = 3.0  # variances that span a larger factor get a logarithmic axis
_ENDS = {Status.DIVERGED: "x", Status.CRASHED: "+"}  # markers


def training(
    rows: pd.DataFrame, *, split: str = "test", columns: int = 2, sigma: str = "shared"
) -> Figure:
    """Lines over epochs, a column of panels per objective and C, a colour per beta.

    Points are checkpoints: these numbers are measured only there. If runs have a single checkpoint,
    the title says so. A run that diverged or crashed ends in a red mark at the epoch it reached.
    The panels show the range of the runs that succeeded, without outliers.

    Args:
        rows: results of one setup and split, with all checkpoints and with failed runs.
        split: named in the title.
        columns: width of the figure in columns of a paper, 1 or 2.
        sigma: the interpretation of distortion, ELBO and variance.

    Raises:
        BadInput: no rows of that interpretation, or a column is missing.
    """
    rows = only_sound(rows, ("run_id", "objective", "beta", "epoch", "status", "sigma"))
    rows, notes = without_path(rows)
    warn(notes)
    rows = rows[rows["sigma"] == sigma]
    if rows.empty:
        raise BadInput(f"nothing to draw: no rows of sigma {sigma}")
    models = models_in_order(rows["objective"], rows["train_sigma2"])
    rows = rows.assign(model=list(map(model_name, rows["objective"], rows["train_sigma2"])))
    betas = rows["beta"].unique()
    norm = LogNorm(betas.min(), betas.max() if len(betas) > 1 else 2 * betas.max())
    with paper_style():
        across = min(len(models), _MODELS_ACROSS[columns])
        blocks = -(-len(models) // across)
        figure = new_figure(columns, _HEIGHT * len(_QUANTITIES) * blocks + 0.7)
        panels = _panels(figure, blocks, across)
        for column in panels[len(models) :]:
            for axes in column:
                axes.set_axis_off()
        panels = panels[: len(models)]
        for column, model in zip(panels, models, strict=True):
            part = rows[rows["model"] == model]
            for _, run in part.groupby("run_id", sort=False):
                _draw(column, run, norm)
            column[0].set_title(model)
            column[-1].set_xlabel("epoch")
        _set_axes(panels, across, columns, rows)
        for column, model in zip(panels, models, strict=True):
            for _, run in rows[rows["model"] == model].groupby("run_id", sort=False):
                _mark_end(column, run)
        if len(betas) > 1:
            colours = ScalarMappable(norm, "viridis")
            bar = figure.colorbar(colours, ax=panels, fraction=0.04, pad=0.02, aspect=40)
            bar.set_label(r"$\beta$ of training")
            log_ticks(bar.ax.yaxis, most=9)
        add_key(figure, {"": _keys(rows)})
        name = dataset_title(rows["dataset"].iloc[0])
        runs = counted(rows["run_id"].nunique(), "run")
        title = f"{name}, {split}, interpretation {interpretation_name(sigma)}, in nats: {runs}"
        if rows.groupby("run_id")["epoch"].nunique().max() == 1:
            title += " with one checkpoint each (--checkpoints log writes more)"
        title += rf"; $\beta={betas[0]:g}$" if len(betas) == 1 else ""
        figure.suptitle(title)
        fit_texts(figure)
    return figure


def without_path(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows without those of models from elsewhere, and a note on how many these are."""
    return without_models(rows, from_elsewhere(rows), "whose training was not recorded")


def _panels(figure: Figure, blocks: int, across: int) -> Panels:
    """A column of panels for each model, (models, quantities), in blocks one below the other.

    All panels share the axis of epochs, and those of a quantity its range.
    """
    panels: Panels = figure.subplots(len(_QUANTITIES) * blocks, across, squeeze=False, sharex=True)
    columns = panels.reshape(blocks, len(_QUANTITIES), across).transpose(0, 2, 1)
    columns = columns.reshape(blocks * across, len(_QUANTITIES))
    for place, column in enumerate(columns):
        for axes, first in zip(column, columns[0], strict=True):
            if place:
                axes.sharey(first)
            axes.tick_params(labelleft=place % across == 0, labelbottom=axes is column[-1])
    return columns


def _draw(panels: Panels, run: pd.DataFrame, norm: LogNorm) -> None:
    measured = run[run["status"] == Status.OK].sort_values("epoch")
    colour = mpl.colormaps["viridis"](norm(run["beta"].iloc[0]))
    for axes, quantity in zip(panels, _QUANTITIES, strict=True):
        axes.plot(measured["epoch"], measured[quantity], color=colour, marker="o", markersize=2.5)


def _mark_end(panels: Panels, run: pd.DataFrame) -> None:
    """Marks a failed run at its last value, or on the frame if that value is out of range."""
    measured = run[run["status"] == Status.OK].sort_values("epoch")
    for row in run[run["status"] != Status.OK].drop_duplicates("status").itertuples():
        look: dict[str, Any] = {"marker": _ENDS[row.status], "color": "tab:red", "markersize": 6}
        look |= {"zorder": 4, "clip_on": False, "linewidth": 0.7, "linestyle": ":"}
        for axes, quantity in zip(panels, _QUANTITIES, strict=True):
            low, high = axes.get_ylim()
            height = low if measured.empty else min(max(measured[quantity].iloc[-1], low), high)
            epochs = (
                [max(row.epoch, 1)] if measured.empty else [measured["epoch"].iloc[-1], row.epoch]
            )
            axes.plot(epochs, [height] * len(epochs), markevery=[-1], scaley=False, **look)


def _set_axes(panels: Panels, across: int, columns: int, rows: pd.DataFrame) -> None:
    failed = rows["run_id"].isin(rows.loc[rows["status"] != Status.OK, "run_id"])
    shown = rows if failed.all() else rows[~failed]
    for line, (quantity, label) in zip(panels.T, _QUANTITIES.items(), strict=True):
        if quantity == "sigma2" and "nu" in shown and shown["nu"].notna().any():
            label = "variance, or scale\nof a Student t"
        for axes in line[::across]:
            axes.set_ylabel(label)
        values = shown.loc[np.isfinite(shown[quantity]), quantity].to_numpy(dtype=np.float64)
        for axes in line:
            axes.set_xscale("log")
            log_ticks(axes.xaxis, most=max(2, 4 * columns // across))
            if rows["epoch"].nunique() == 1:
                axes.xaxis.set_major_locator(FixedLocator([rows["epoch"].iloc[0]]))
            if quantity == "sigma2" and len(values) and values.max() > _LOG * values.min():
                axes.set_yscale("log")
                log_ticks(axes.yaxis, most=4)
                axes.set_ylim(*np.exp(_limits(np.log(values))))
            elif len(values):
                axes.set_ylim(*_limits(values))
    panels[0, 0].get_figure().align_ylabels(panels[::across].ravel())


def _limits(values: Floats) -> tuple[float, float]:
    """Limits without outliers: one bad run must not squeeze all others into a line."""
    low, high = np.quantile(values, [0.1, 0.9])
    fence = 1.5 * (high - low)
    low, high = max(low - fence, values.min()), min(high + fence, values.max())
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _keys(rows: pd.DataFrame) -> list[Line2D]:
    keys = [Line2D([], [], color="0.4", marker="o", markersize=2.5, label="checkpoint")]
    for status, marker in _ENDS.items():
        runs = rows.loc[rows["status"] == status, "run_id"].nunique()
        if runs:
            label = f"{status} ({counted(runs, 'run')})"
            keys.append(Line2D([], [], color="tab:red", marker=marker, ls="", label=label))
    return keys
