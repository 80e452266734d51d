"""How far each objective is ahead of constant variance at the same rate, by interpretation."""

import pandas as pd
from matplotlib.figure import Figure

from rdkit_vae.errors import BadInput
from rdkit_vae.grammar import counted
from rdvae_analysis.figures.style import (
    dataset_title,
    new_figure,
    paper_style,
    plain_log_ticks,
    reading_look,
)
from rdvae_analysis.names import in_order, objective_name, reading_name

_MARKER_SIZES = {"optimal": 6}  # `mixture` often lies right on it, and must not hide it


def matched(table: pd.DataFrame, *, split: str = "test") -> Figure:
    """Gain in ELBO against rate, a panel per objective, with the intervals over seeds as bands.

    Args:
        table: as `matched.matched_rate` gives it, of one setup.
        split: named in the title.

    Raises:
        BadInput: the table is empty.
    """
    if table.empty:
        raise BadInput("nothing to draw: no curves in common")
    objectives = in_order(table["objective"])
    with paper_style():
        figure = new_figure(2, 2.8)
        panels = figure.subplots(1, len(objectives), squeeze=False, sharey=True)[0]
        for axes, objective in zip(panels, objectives, strict=True):
            axes.axhline(0, color="0.4", linewidth=0.8)
            for sigma, part in table[table["objective"] == objective].groupby("sigma", sort=False):
                look = reading_look(str(sigma))
                name = reading_name(str(sigma))
                size = _MARKER_SIZES.get(str(sigma), 3)
                axes.plot(part["rate"], part["gain"], markersize=size, label=name, **look)
                colour = look["color"]
                axes.fill_between(part["rate"], part["low"], part["high"], color=colour, alpha=0.15)
            axes.set(xscale="log", xlabel="rate  (nats / image)")
            plain_log_ticks(axes.xaxis)
            seeds = table.loc[table["objective"] == objective, "seeds"].iloc[0]
            axes.set_title(f"{objective_name(objective)}, {counted(seeds, 'seed')}")
        panels[0].set_ylabel("ELBO gained on constant variance  (nats)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        figure.suptitle(
            f"At the same rate, read alike: {dataset_title(table['dataset'].iloc[0])}, {split}"
        )
    return figure
