"""What every interpretation claims for the same models, and how far the claims lie apart."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rdkit_vae.config.trial import DEFAULT_SIGMA2
from rdkit_vae.scoring.interpretations import CONSTANT, MIXTURE, SIGMAS
from rdvae_analysis.consistency import by_beta, spread
from rdvae_analysis.figures.fit import fit_texts
from rdvae_analysis.figures.key import add_key
from rdvae_analysis.figures.style import (
    beta_axis,
    dataset_title,
    log_ticks,
    new_panels,
    paper_style,
    reading_look,
    series_look,
)
from rdvae_analysis.names import in_order, objective_name, reading_name

Limits = tuple[float, float]

_MARGIN = 0.08
# For models of C = 1/2 the two are the same: both must be seen.
_UNDER: dict[str, dict[str, Any]] = {"own": {"markersize": 6, "zorder": 1.8}}
_PANEL = ["objective", "train_sigma2"]


def elbo_vs_beta(rows: pd.DataFrame, *, split: str = "test", columns: int = 2) -> Figure:
    """ELBO against beta by interpretation, a panel per objective and C; their spread in the last.

    Args:
        rows: results of one setup and split, of last checkpoints; seeds are averaged.
        split: named in the title.
        columns: of a paper that the figure is as wide as, 1 or 2.
    """
    table = by_beta(spread(rows))
    told = table["train_sigma2"].nunique() > 1  # then C stands in every name
    groups = {key: part for key, part in table.groupby(_PANEL, sort=False, dropna=False)}
    parts = {
        _name(str(name), c if told else math.nan): part
        for objective in in_order(table["objective"])
        for (name, c), part in groups.items()
        if name == objective
    }
    beta_half = reading_name("beta-half", c=math.nan if told else DEFAULT_SIGMA2)
    with paper_style():
        figure, panels = new_panels(columns, len(parts) + 1)
        for axes, (name, part) in zip(panels, parts.items(), strict=False):
            limits = limits_of(table, _readings(table))
            _draw_readings(axes, part, limits, beta_half)
            axes.set_title("\n".join([name, *below(part, limits, beta_half)]))
            if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
                axes.set_ylabel("ELBO  (nats / image)")
        _draw_spreads(panels[-1], parts)
        handles: dict[str, Any] = {}
        for axes in panels[:-1]:
            artists, labels = axes.get_legend_handles_labels()
            handles |= dict(zip(labels, artists, strict=True))
        models = panels[-1].get_legend_handles_labels()[0]
        add_key(figure, {"read with": [*handles.values()], "trained with": models}, rows=3)
        name = dataset_title(table["dataset"].iloc[0])
        figure.suptitle(f"The same weights, read differently: {name}, {split}")
        fit_texts(figure)
    return figure


def _name(objective: str, c: float) -> str:
    return objective_name(objective) + ("" if pd.isna(c) else f", C={c:g}")


def _draw_spreads(axes: Axes, parts: dict[str, pd.DataFrame]) -> None:
    for place, (name, part) in enumerate(parts.items()):
        part = part.sort_values("beta")
        look = series_look(0, place) | {"color": str(0.15 + 0.5 * place / len(parts))}
        axes.plot(part["beta"], part["spread"], label=name, **look)
    beta_axis(axes)
    if max(part["spread"].max() for part in parts.values()) > 0:
        axes.set(yscale="log")
        log_ticks(axes.yaxis)
    low, high = axes.get_ylim()
    if 0 < high < 10 * low:
        axes.set_ylim((low * high / 10) ** 0.5, (low * high * 10) ** 0.5)
    axes.set_title("highest claim less lowest  (nats)")


def _readings(table: pd.DataFrame) -> list[str]:
    """The columns that are interpretations."""
    return [c for c in table if c in SIGMAS or str(c).startswith((CONSTANT, MIXTURE, "shared-"))]


def limits_of(table: pd.DataFrame, readings: Sequence[str]) -> Limits:
    """Of ELBOs, over all readings but the one that leaves the picture, as it falls like 1/beta."""
    steady = table[[sigma for sigma in readings if sigma != "beta-half"]]
    steady = table[["beta-half"]] if steady.empty else steady
    low, high = steady.min(axis=None), steady.max(axis=None)
    margin = _MARGIN * (high - low) or 1.0
    return low - margin, high + margin


def below(part: pd.DataFrame, limits: Limits, beta_half: str) -> list[str]:
    """Says in words what leaves the picture, if anything does."""
    if "beta-half" not in part or not part["beta-half"].min() < limits[0]:
        return []
    lowest = f"{part['beta-half'].min():,.0f}".replace("-", "\N{MINUS SIGN}")
    return [f"{beta_half} falls to {lowest}"]


def _draw_readings(axes: Axes, part: pd.DataFrame, limits: Limits, beta_half: str) -> None:
    """Draws a line per interpretation."""
    part = part.sort_values("beta")
    for sigma in _readings(part):
        if part[sigma].isna().all():
            continue
        label = beta_half if sigma == "beta-half" else reading_name(sigma)
        look = reading_look(sigma, _readings(part)) | _UNDER.get(sigma, {})
        axes.plot(part["beta"], part[sigma], label=label, **look)
    beta_axis(axes)
    axes.set(ylim=limits)
