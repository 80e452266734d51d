"""What every interpretation claims for the same models, and how far the claims lie apart."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rdkit_vae.grammar import SIGMAS
from rdvae_analysis.figures.style import (
    objective_name,
    paper_style,
    reading_look,
    reading_name,
    series_look,
)

_STEADY = [sigma for sigma in SIGMAS if sigma != "beta-half"]  # that one falls like 1/beta
_MARGIN = 0.08


def spread(table: pd.DataFrame, *, split: str = "test") -> Figure:
    """ELBO against beta by interpretation, a panel per objective; in the last one their spread.

    Args:
        table: as `consistency.by_beta` gives it, of one setup.
        split: named in the title.
    """
    objectives = list(dict.fromkeys(table["objective"]))
    with paper_style():
        figure = Figure(figsize=(3.4 * (len(objectives) + 1), 3.6), layout="constrained")
        panels = figure.subplots(1, len(objectives) + 1)
        for axes, objective in zip(panels, objectives, strict=False):
            left = _draw_readings(axes, table[table["objective"] == objective], _limits(table))
            axes.set_title("\n".join([objective_name(objective), left]).strip(), fontsize=9)
        panels[0].set_ylabel("ELBO  (nats / image)")
        for place, objective in enumerate(objectives):
            part = table[table["objective"] == objective].sort_values("beta")
            look = series_look(place, place)
            label = objective_name(objective)
            panels[-1].plot(part["beta"], part["spread"], markersize=4, label=label, **look)
        panels[-1].set(xscale="log", yscale="log", xlabel=r"$\beta$")
        panels[-1].set_title("highest claim less lowest  (nats)", fontsize=9)
        panels[-1].legend(fontsize=7.5)
        handles: dict[str, Any] = {}
        for axes in panels[:-1]:
            artists, labels = axes.get_legend_handles_labels()
            handles |= dict(zip(labels, artists, strict=True))
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=6)
        figure.suptitle(f"The same weights, read differently: {table['dataset'].iloc[0]}, {split}")
    return figure


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """Over all readings but the one that leaves the picture."""
    steady = table[[sigma for sigma in _STEADY if sigma in table]]
    low, high = steady.min(axis=None), steady.max(axis=None)
    margin = _MARGIN * (high - low)
    return low - margin, high + margin


def _draw_readings(axes: Axes, part: pd.DataFrame, limits: tuple[float, float]) -> str:
    """Draws a line per interpretation; says in words what leaves the picture."""
    part = part.sort_values("beta")
    for sigma in SIGMAS:
        if sigma not in part or part[sigma].isna().all():
            continue
        look = reading_look(sigma)
        axes.plot(part["beta"], part[sigma], markersize=4, label=reading_name(sigma), **look)
    axes.set(xscale="log", xlabel=r"$\beta$", ylim=limits)
    if "beta-half" not in part:
        return ""
    below = part["beta-half"][part["beta-half"] < limits[0]]
    return f"{reading_name('beta-half')} falls to {below.min():,.0f}" if len(below) else ""
