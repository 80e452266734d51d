"""What every interpretation claims for the same models, and how far the claims lie apart."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rdkit_vae.grammar import SIGMAS
from rdkit_vae.trial import DEFAULT_SIGMA2
from rdvae_analysis.figures.style import (
    objective_name,
    paper_style,
    reading_look,
    reading_name,
    series_look,
)

_STEADY = [sigma for sigma in SIGMAS if sigma != "beta-half"]  # that one falls like 1/beta
_MARGIN = 0.08
_PANEL = ["objective", "train_sigma2"]
_ACROSS = 4  # panels


def spread(table: pd.DataFrame, *, split: str = "test") -> Figure:
    """ELBO against beta by interpretation, a panel per objective and C; their spread in the last.

    Args:
        table: as `consistency.by_beta` gives it, of one setup.
        split: named in the title.
    """
    told = table["train_sigma2"].nunique() > 1  # then C stands in every name
    groups = table.groupby(_PANEL, sort=False, dropna=False)
    parts = {_name(str(name), c if told else math.nan): part for (name, c), part in groups}
    beta_half = reading_name("beta-half", c=math.nan if told else DEFAULT_SIGMA2)
    rows = -(-(len(parts) + 1) // _ACROSS)
    across = min(_ACROSS, len(parts) + 1)
    with paper_style():
        figure = Figure(figsize=(3.4 * across, 3.3 * rows + 0.5), layout="constrained")
        panels = figure.subplots(rows, across, squeeze=False).ravel()
        for axes, (name, part) in zip(panels, parts.items(), strict=False):
            left = _draw_readings(axes, part, _limits(table), beta_half)
            axes.set_title("\n".join([name, left]).strip(), fontsize=9)
        _draw_spreads(panels[len(parts)], parts)
        for axes in panels[len(parts) + 1 :]:
            axes.set_axis_off()
        for first in panels[::across]:
            first.set_ylabel("ELBO  (nats / image)")
        handles: dict[str, Any] = {}
        for axes in panels[: len(parts)]:
            artists, labels = axes.get_legend_handles_labels()
            handles |= dict(zip(labels, artists, strict=True))
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=6)
        figure.suptitle(f"The same weights, read differently: {table['dataset'].iloc[0]}, {split}")
    return figure


def _name(objective: str, c: float) -> str:
    return objective_name(objective) + ("" if pd.isna(c) else f", C={c:g}")


def _draw_spreads(axes: Axes, parts: dict[str, pd.DataFrame]) -> None:
    for place, (name, part) in enumerate(parts.items()):
        part = part.sort_values("beta")
        look = series_look(0, place) | {"color": str(0.15 + 0.5 * place / len(parts))}
        axes.plot(part["beta"], part["spread"], markersize=4, label=name, **look)
    axes.set(xscale="log", yscale="log", xlabel=r"$\beta$")
    low, high = axes.get_ylim()
    if high < 10 * low:
        axes.set_ylim((low * high / 10) ** 0.5, (low * high * 10) ** 0.5)
    axes.set_title("highest claim less lowest  (nats)", fontsize=9)
    axes.legend(fontsize=7.5)


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """Over all readings but the one that leaves the picture."""
    steady = table[[sigma for sigma in _STEADY if sigma in table]]
    low, high = steady.min(axis=None), steady.max(axis=None)
    margin = _MARGIN * (high - low)
    return low - margin, high + margin


def _draw_readings(
    axes: Axes, part: pd.DataFrame, limits: tuple[float, float], beta_half: str
) -> str:
    """Draws a line per interpretation; says in words what leaves the picture."""
    part = part.sort_values("beta")
    for sigma in SIGMAS:
        if sigma not in part or part[sigma].isna().all():
            continue
        look = reading_look(sigma)
        label = beta_half if sigma == "beta-half" else reading_name(sigma)
        axes.plot(part["beta"], part[sigma], markersize=4, label=label, **look)
    axes.set(xscale="log", xlabel=r"$\beta$", ylim=limits)
    if "beta-half" not in part:
        return ""
    below = part["beta-half"][part["beta-half"] < limits[0]]
    return f"{beta_half} falls to {below.min():,.0f}" if len(below) else ""
