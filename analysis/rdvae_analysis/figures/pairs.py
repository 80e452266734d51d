"""Models with the same beta x C: equal weights, different ELBOs (Beta-Sigma VAE, Fig. 2A)."""

import math

import pandas as pd
from matplotlib.figure import Figure

from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.interpretations import SIGMAS
from rdvae_analysis.figures.elbo_vs_beta import limits_of, range_note
from rdvae_analysis.figures.fit import fit_texts
from rdvae_analysis.figures.key import add_key
from rdvae_analysis.figures.style import (
    dataset_title,
    interpretation_look,
    log_ticks,
    new_figure,
    paper_style,
)
from rdvae_analysis.names import interpretation_name

_MOST_PANELS = 4


def pairs(table: pd.DataFrame, *, split: str = "test") -> Figure:
    """ELBO against the constant variance C of training by interpretation, a panel per beta x C.

    Args:
        table: as `consistency.pairs` returns it, of one setup; seeds are averaged.
        split: named in the title.

    Raises:
        BadInput: the table is empty.
    """
    if table.empty:
        raise BadInput("nothing to draw: no two models have the same product beta x C")
    lines = sorted(table["product"].unique())
    chosen = [lines[i * (len(lines) - 1) // max(1, _MOST_PANELS - 1)] for i in range(_MOST_PANELS)]
    chosen = list(dict.fromkeys(chosen if len(lines) > _MOST_PANELS else lines))
    limits = limits_of(table, [sigma for sigma in SIGMAS if sigma in table])
    with paper_style():
        figure = new_figure(2, 2.5)
        panels = figure.subplots(1, len(chosen), squeeze=False, sharey=True)[0]
        for axes, product in zip(panels, chosen, strict=True):
            part = table[table["product"] == product]
            means = part.groupby("C").mean(numeric_only=True).reset_index()
            for sigma in SIGMAS:
                if sigma in part:
                    look = interpretation_look(sigma)
                    name = interpretation_name(sigma, c=math.nan)  # C varies along the axis
                    axes.plot(means["C"], means[sigma], label=name, **look)
            axes.set(xscale="log", xlabel="$C$ of training")
            log_ticks(axes.xaxis, most=4)
            axes.set_ylim(*limits)
            unknown = part["distance"].isna().any()
            distance = "not known" if unknown else f"{part['distance'].max():.1g}"
            title = [rf"$\beta C={product:g}$", f"distance of weights {distance}"]
            axes.set_title("\n".join([*title, *range_note(part, limits, r"$\sigma^2=\beta C$")]))
        panels[0].set_ylabel("ELBO  (nats / image)")
        add_key(figure, {"": panels[0].get_legend_handles_labels()[0]})
        some = f" ({len(chosen)} of {len(lines)} products)" if len(chosen) < len(lines) else ""
        name = f"{dataset_title(table['dataset'].iloc[0])}, {split}{some}"
        figure.suptitle(f"Equal βC, equal weights, different ELBOs: {name}")
        fit_texts(figure)
    return figure
