"""One file per figure: a function from a table to a matplotlib figure, which the caller saves."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Figures of the results of one setup. The module and the function of each have its name.
FIGURES: Mapping[str, str] = {
    "elbo-vs-beta": "the ELBO of the same models under every interpretation, and the spread",
    "concept": "the plane of beta and variance: lines of constant beta x C, and the path of BS-VAE",
    "training": "rate, distortion, ELBO and variance over epochs",
    "units": "where the rate goes: information, marginal KL, active units",
}

# Figures of the tables of `shares`, not of results.
MEASURED_FIGURES: Mapping[str, str] = {
    "blur": "distance of samples against distance of reconstructions, and the share of the prior",
    "priors": "the rate of the same models under better and better priors",
}


def draw(name: str, rows: "pd.DataFrame", *, split: str, columns: int, **options: Any) -> "Figure":
    """Draws a figure of `FIGURES` from results of one setup and split.

    Args:
        name: of the figure.
        rows: results, as the figure's function takes them.
        split: named in the title.
        columns: width of the figure in columns of a paper, 1 or 2.
        **options: further arguments of the figure's function.

    Raises:
        BadInput: the figure has nothing to draw.
    """
    name = name.replace("-", "_")
    function = getattr(importlib.import_module(f"rdvae_analysis.figures.{name}"), name)
    figure: Figure = function(rows, split=split, columns=columns, **options)
    return figure
