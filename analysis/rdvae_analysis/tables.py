"""Tables of results, and their plain text."""

import pandas as pd

from rdkit_vae.grammar import SIGMAS
from rdvae_analysis.points import final_rows


def elbo_table(frame: pd.DataFrame, *, split: str = "test") -> tuple[pd.DataFrame, list[str]]:
    """The ELBO of every finished run under every interpretation, seeds averaged.

    Args:
        frame: results, as `load_results` gives them.
        split: `train` or `test`.

    Returns:
        A row per curve and beta: objective, beta, seeds (how many), rate (nats), mse, then a column
        of ELBOs in nats per image for each interpretation, empty where it does not apply; and in
        words what was left out.
    """
    rows, notes = final_rows(frame)
    rows = rows[rows["split"] == split]
    keys = ["dataset", "curve", "objective", "beta"]
    facts = rows.groupby(keys).agg(
        seeds=("seed", "nunique"), rate=("rate", "mean"), mse=("mse", "mean")
    )
    elbos = rows.pivot_table(index=keys, columns="sigma", values="elbo", aggfunc="mean")
    named = [name for name in SIGMAS if name in elbos]
    elbos = elbos[[*named, *(name for name in elbos if name not in named)]]
    table = facts.join(elbos).reset_index()
    constant = [key for key in ("dataset", "seeds") if table[key].nunique() == 1]
    if not table.duplicated(["dataset", "objective", "beta"]).any():
        constant.append("curve")
    return table.drop(columns=constant), notes


def to_text(table: pd.DataFrame) -> str:
    """A table as aligned plain text; numbers get the digits that a reader can use."""
    text = table.copy()
    for name in text.columns:
        if pd.api.types.is_float_dtype(text[name]):
            text[name] = [_number(value, str(name)) for value in text[name]]
    return str(text.to_string(index=False))


_SIGNIFICANT = ("beta", "beta_const", "sigma2", "train_sigma2", "C", "product", "distance", "mse")


def _number(value: float, column: str) -> str:
    if pd.isna(value):
        return "-"
    if column in _SIGNIFICANT:
        return f"{value:.4g}"
    return f"{value:.4f}" if column.endswith(("bits_per_dim", "_bits")) else f"{value:.2f}"
