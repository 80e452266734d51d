"""What the rate consists of: information about x, mismatch with the prior; and active units."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rdkit_vae.errors import BadInput
from rdkit_vae.text import counted
from rdvae_analysis.figures.fit import fit_texts
from rdvae_analysis.figures.key import add_key
from rdvae_analysis.figures.style import (
    beta_axis,
    dataset_title,
    model_axis,
    new_panels,
    paper_style,
    series_look,
)
from rdvae_analysis.names import is_model, model_name, models_in_order
from rdvae_analysis.points import with_beta
from rdvae_analysis.sound import only_sound, warn

_PARTS = {
    "rate": "rate",
    "mutual_information": r"information $I_q(x;\,z)$",
    "marginal_kl": r"$KL(q(z)\,\|\,p(z))$",
}
_IN_SIGHT = 2.0  # the ceiling is shown if it is at most this many times the highest rate


def units(rows: pd.DataFrame, *, split: str = "test", columns: int = 2) -> Figure:
    """The rate and its parts against beta, a panel per objective and C; active units in the last.

    Models from elsewhere, if the rows are of these alone, stand side by side in one panel.

    Args:
        rows: results of last checkpoints, of one setup and split; seeds are averaged.
        split: named in the title.
        columns: width of the figure in columns of a paper, 1 or 2.

    Raises:
        BadInput: no run has these numbers (results of old versions lack them), or a column is
            missing.
    """
    rows = only_sound(rows, ("run_id", "objective", "beta", "rate", "n_images", "latents"))
    by_model = rows["objective"].map(is_model).all()
    if not by_model:
        rows, notes = with_beta(rows)
        warn(notes)
    runs = rows.drop_duplicates("run_id")
    known = runs[runs["mutual_information"].notna()]
    if known.empty:
        raise BadInput(
            "nothing to draw: these results do not say where the rate goes (schema 1); "
            "rdvae rescore --evaluate --out FILE.parquet measures it"
        )
    unknown = len(runs) - len(known)
    left_out = f"; {counted(unknown, 'run')} without these numbers left out" if unknown else ""
    names = [*_PARTS, "active_units"]
    known = known.assign(model=list(map(model_name, known["objective"], known["train_sigma2"])))
    models = models_in_order(known["objective"], known["train_sigma2"])
    table = known.groupby(["model", "beta"], sort=False, as_index=False, dropna=False)[names].mean()
    ceiling, highest = math.log(known["n_images"].max()), table["rate"].max()
    top = max(highest, ceiling) if ceiling < _IN_SIGHT * highest else highest
    with paper_style():
        figure, panels = new_panels(columns, 2 if by_model else len(models) + 1)
        if by_model:
            latents = known.groupby("model")["latents"].first()
            _draw_by_model(panels, table.sort_values("model", ignore_index=True), latents, ceiling)
        else:
            for axes, model in zip(panels, models, strict=False):
                _draw_parts(axes, table[table["model"] == model], ceiling)
                axes.set_title(model)
            _draw_units(panels[-1], table, models, int(known["latents"].max()))
        for axes in panels[:-1]:
            if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
                axes.set_ylabel("nats / image")
            axes.set_ylim(-0.03 * top, 1.05 * top or 1.0)
        key = {"the rate and its parts": panels[0].get_legend_handles_labels()[0]}
        add_key(figure, key | {"active units": panels[-1].get_legend_handles_labels()[0]}, rows=2)
        name = dataset_title(rows["dataset"].iloc[0])
        figure.suptitle(f"Where the rate goes: {name}, {split}{left_out}")
        fit_texts(figure)
    return figure


def _draw_parts(axes: Axes, part: pd.DataFrame, ceiling: float) -> None:
    part = part.sort_values("beta")
    for place, (column, label) in enumerate(_PARTS.items()):
        axes.plot(part["beta"], part[column], label=label, **series_look(place, place))
    _draw_ceiling(axes, ceiling)
    beta_axis(axes)


def _draw_ceiling(axes: Axes, ceiling: float) -> None:
    label = rf"$\log\,n={ceiling:.1f}$, the ceiling"
    axes.axhline(ceiling, color="0.5", linewidth=0.8, linestyle=":", label=label)


def _draw_by_model(
    panels: list[Axes], table: pd.DataFrame, latents: "pd.Series[int]", ceiling: float
) -> None:
    """Draws models from elsewhere side by side: the parts of their rates, and their units."""
    for place, (column, label) in enumerate(_PARTS.items()):
        look = series_look(place, place) | {"linestyle": ""}
        panels[0].plot(table.index, table[column], label=label, **look)
    _draw_ceiling(panels[0], ceiling)
    panels[0].set_title("models from elsewhere")
    share = table["active_units"] / table["model"].map(latents)
    panels[1].plot(table.index, share, color="0.15", marker="o", linestyle="")
    panels[1].set_ylim(-0.04, 1.04)
    panels[1].set_title("active units as a share of all")
    for axes in panels:
        model_axis(axes, list(table["model"]), list(table["beta"]))


def _draw_units(axes: Axes, table: pd.DataFrame, models: list[str], latents: int) -> None:
    for place, model in enumerate(models):
        part = table[table["model"] == model].sort_values("beta")
        look = series_look(0, place) | {"color": str(0.1 + 0.5 * place / len(models))}
        axes.plot(part["beta"], part["active_units"], label=model, **look)
    axes.set_ylim(-0.04 * latents, 1.04 * latents)
    axes.set_title(f"active units of {latents}")
    beta_axis(axes)
