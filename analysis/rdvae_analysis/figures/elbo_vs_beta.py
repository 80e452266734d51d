"""The ELBO of the same models under every interpretation, and how much the values differ."""

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
    interpretation_look,
    log_ticks,
    model_axis,
    new_panels,
    paper_style,
    series_look,
)
from rdvae_analysis.names import in_order, interpretation_name, is_model, objective_name
from rdvae_analysis.points import with_beta
from rdvae_analysis.sound import warn

Limits = tuple[float, float]

_MARGIN = 0.08
# With C = 1/2, `own` equals `half`: it is drawn larger and below, so that both can be seen.
_DRAWN_BELOW: dict[str, dict[str, Any]] = {"own": {"markersize": 6, "zorder": 1.8}}
_PANEL = ["objective", "train_sigma2"]


def elbo_vs_beta(rows: pd.DataFrame, *, split: str = "test", columns: int = 2) -> Figure:
    """ELBO against beta by interpretation, a panel per objective and C; the spread in the last.

    Models from elsewhere, if the rows are of these alone, stand side by side in one panel, since
    no curve joins them.

    Args:
        rows: results of last checkpoints, of one setup and split; seeds are averaged.
        split: named in the title.
        columns: width of the figure in columns of a paper, 1 or 2.

    Raises:
        BadInput: rows of several splits or checkpoints, or a column is missing.
    """
    table = by_beta(spread(rows))
    if table["objective"].map(is_model).all():
        return _elbo_by_model(table, split, columns)
    table, notes = with_beta(table.assign(run_id=table["objective"]))
    warn(notes)
    names_c = table["train_sigma2"].nunique() > 1
    groups = {key: part for key, part in table.groupby(_PANEL, sort=False, dropna=False)}
    parts = {
        _name(str(name), c if names_c else math.nan): part
        for objective in in_order(table["objective"])
        for (name, c), part in groups.items()
        if name == objective
    }
    beta_half = interpretation_name("beta-half", c=math.nan if names_c else DEFAULT_SIGMA2)
    with paper_style():
        figure, panels = new_panels(columns, len(parts) + 1)
        for axes, (name, part) in zip(panels, parts.items(), strict=False):
            limits = limits_of(table, _sigmas(table))
            _draw_sigmas(axes, part, limits, beta_half)
            axes.set_title("\n".join([name, *range_note(part, limits, beta_half)]))
            if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
                axes.set_ylabel("ELBO  (nats / image)")
        _draw_spreads(panels[-1], parts)
        handles: dict[str, Any] = {}
        for axes in panels[:-1]:
            artists, labels = axes.get_legend_handles_labels()
            handles |= dict(zip(labels, artists, strict=True))
        models = panels[-1].get_legend_handles_labels()[0]
        add_key(figure, {"interpretation": [*handles.values()], "trained with": models}, rows=3)
        _finish(figure, table, split)
    return figure


def _finish(figure: Figure, table: pd.DataFrame, split: str) -> None:
    name = dataset_title(table["dataset"].iloc[0])
    figure.suptitle(f"The same weights under every interpretation: {name}, {split}")
    fit_texts(figure)


def _elbo_by_model(table: pd.DataFrame, split: str, columns: int) -> Figure:
    """The figure of models from elsewhere: their ELBOs side by side, and the spreads."""
    table = table.sort_values("objective", ignore_index=True)
    names = [objective_name(name) for name in table["objective"]]
    others = table["train_sigma2"].dropna() != DEFAULT_SIGMA2
    beta_half = interpretation_name("beta-half", c=math.nan if others.any() else DEFAULT_SIGMA2)
    limits = limits_of(table, _sigmas(table))
    with paper_style():
        figure, panels = new_panels(columns, 2, height=2.4 if len(names) < 6 else 3.4)
        for sigma in _sigmas(table):
            label = beta_half if sigma == "beta-half" else interpretation_name(sigma)
            look = interpretation_look(sigma, _sigmas(table)) | _DRAWN_BELOW.get(sigma, {})
            panels[0].plot(table.index, table[sigma], label=label, **look | {"linestyle": ""})
        panels[0].set(ylim=limits, ylabel="ELBO  (nats / image)")
        title = ["models from elsewhere", *range_note(table, limits, beta_half)]
        panels[0].set_title("\n".join(title))
        panels[1].plot(table.index, table["spread"], color="0.15", marker="o", linestyle="")
        panels[1].set_ylim(0, 1.1 * table["spread"].max() or 1.0)
        panels[1].set_title("spread: highest ELBO minus lowest  (nats)")
        for axes in panels:
            model_axis(axes, names, list(table["beta"]))
        key = panels[0].get_legend_handles_labels()[0]
        add_key(figure, {"interpretation": key}, rows=2)
        _finish(figure, table, split)
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
    axes.set_title("spread: highest ELBO minus lowest  (nats)")


def _sigmas(table: pd.DataFrame) -> list[str]:
    """The columns that are interpretations."""
    return [c for c in table if c in SIGMAS or str(c).startswith((CONSTANT, MIXTURE, "shared-"))]


def limits_of(table: pd.DataFrame, sigmas: Sequence[str]) -> Limits:
    """Limits for an axis of ELBOs; they ignore `beta-half`, whose ELBO falls like 1/beta."""
    steady = table[[sigma for sigma in sigmas if sigma != "beta-half"]]
    steady = table[["beta-half"]] if steady.empty else steady
    low, high = steady.min(axis=None), steady.max(axis=None)
    margin = _MARGIN * (high - low) or 1.0
    return low - margin, high + margin


def range_note(part: pd.DataFrame, limits: Limits, beta_half: str) -> list[str]:
    """A line that says how far `beta-half` falls below the limits, if it does."""
    if "beta-half" not in part or not part["beta-half"].min() < limits[0]:
        return []
    lowest = f"{part['beta-half'].min():,.0f}".replace("-", "\N{MINUS SIGN}")
    return [f"{beta_half} falls to {lowest}"]


def _draw_sigmas(axes: Axes, part: pd.DataFrame, limits: Limits, beta_half: str) -> None:
    """Draws a line per interpretation."""
    part = part.sort_values("beta")
    for sigma in _sigmas(part):
        if part[sigma].isna().all():
            continue
        label = beta_half if sigma == "beta-half" else interpretation_name(sigma)
        look = interpretation_look(sigma, _sigmas(part)) | _DRAWN_BELOW.get(sigma, {})
        axes.plot(part["beta"], part[sigma], label=label, **look)
    beta_axis(axes)
    axes.set(ylim=limits)
