"""How far each objective is ahead of constant variance at the same rate, by interpretation."""

import pandas as pd
from matplotlib.figure import Figure

from rdkit_vae.errors import BadInput
from rdkit_vae.text import counted
from rdvae_analysis.figures.fit import fit_texts
from rdvae_analysis.figures.key import add_key
from rdvae_analysis.figures.style import (
    dataset_title,
    interpretation_look,
    log_ticks,
    new_figure,
    paper_style,
)
from rdvae_analysis.names import in_order, interpretation_name, objective_name

_MARKER_SIZES = {"optimal": 6}  # larger than those of `mixture`, which often cover it


def matched(table: pd.DataFrame, *, split: str = "test") -> Figure:
    """Gain in ELBO against rate, a panel per objective.

    Coloured bands are intervals over seeds. The grey band around zero is the interpolation error of
    the curves: a gain inside it means nothing.

    Args:
        table: as `matched.matched_rate` returns it, of one setup.
        split: named in the title.

    Raises:
        BadInput: the table is empty.
    """
    if table.empty:
        raise BadInput("nothing to draw: no curves to compare")
    objectives = in_order(table["objective"])
    with paper_style():
        figure = new_figure(2, 2.7)
        panels = figure.subplots(1, len(objectives), squeeze=False, sharey=True)[0]
        for axes, objective in zip(panels, objectives, strict=True):
            axes.axhline(0, color="0.4", linewidth=0.8)
            miss = table[table["objective"] == objective].groupby("rate")["miss"].max()
            label = "interpolation error"
            axes.fill_between(miss.index, -miss, miss, color="0.87", label=label, zorder=0)
            for sigma, part in table[table["objective"] == objective].groupby("sigma", sort=False):
                look = interpretation_look(str(sigma))
                name = interpretation_name(str(sigma))
                size = _MARKER_SIZES.get(str(sigma), 3)
                axes.plot(part["rate"], part["gain"], markersize=size, label=name, **look)
                colour = look["color"]
                axes.fill_between(part["rate"], part["low"], part["high"], color=colour, alpha=0.15)
            axes.set(xscale="log", xlabel="rate  (nats / image)")
            log_ticks(axes.xaxis, most=9 // len(objectives) + 1)
            seeds = table.loc[table["objective"] == objective, "seeds"].iloc[0]
            axes.set_title(f"{objective_name(objective)}, {counted(seeds, 'seed')}")
        panels[0].set_ylabel("gain in ELBO  (nats)")
        add_key(figure, {"": panels[0].get_legend_handles_labels()[0]})
        name = dataset_title(table["dataset"].iloc[0])
        figure.suptitle(f"Gain over constant variance at the same rate: {name}, {split}")
        fit_texts(figure)
    return figure
