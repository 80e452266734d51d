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
    new_panels,
    paper_style,
    series_look,
)
from rdvae_analysis.names import model_name, models_in_order
from rdvae_analysis.sound import only_sound

_PARTS = {
    "rate": "rate",
    "mutual_information": r"information $I_q(x;\,z)$",
    "marginal_kl": r"$KL(q(z)\,\|\,p(z))$",
}
_IN_SIGHT = 2.0  # the ceiling is shown if it is at most this many times the highest rate


def units(rows: pd.DataFrame, *, split: str = "test", columns: int = 2) -> Figure:
    """The rate and its parts against beta, a panel per objective and C; active units in the last.

    Args:
        rows: results of last checkpoints, of one setup and split; seeds are averaged.
        split: named in the title.
        columns: width of the figure in columns of a paper, 1 or 2.

    Raises:
        BadInput: no run has these numbers (results of old versions lack them), or a column is
            missing.
    """
    rows = only_sound(rows, ("run_id", "objective", "beta", "rate", "n_images", "latents"))
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
    table = known.groupby(["model", "beta"], sort=False, as_index=False)[names].mean()
    models = models_in_order(known["objective"], known["train_sigma2"])
    with paper_style():
        figure, panels = new_panels(columns, len(models) + 1)
        ceiling, highest = math.log(known["n_images"].max()), table["rate"].max()
        top = max(highest, ceiling) if ceiling < _IN_SIGHT * highest else highest
        for axes, model in zip(panels, models, strict=False):
            _draw_parts(axes, table[table["model"] == model], ceiling)
            axes.set_title(model)
            if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
                axes.set_ylabel("nats / image")
            axes.set_ylim(-0.03 * top, 1.05 * top or 1.0)
        _draw_units(panels[-1], table, models, int(known["latents"].max()))
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
    label = rf"$\log\,n={ceiling:.1f}$, the ceiling"
    axes.axhline(ceiling, color="0.5", linewidth=0.8, linestyle=":", label=label)
    beta_axis(axes)


def _draw_units(axes: Axes, table: pd.DataFrame, models: list[str], latents: int) -> None:
    for place, model in enumerate(models):
        part = table[table["model"] == model].sort_values("beta")
        look = series_look(0, place) | {"color": str(0.1 + 0.5 * place / len(models))}
        axes.plot(part["beta"], part["active_units"], label=model, **look)
    axes.set_ylim(-0.04 * latents, 1.04 * latents)
    axes.set_title(f"active units of {latents}")
    beta_axis(axes)
