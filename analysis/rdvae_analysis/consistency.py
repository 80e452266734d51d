"""What the readings of the variance claim for the same weights.

Functions from results (`load_results`) to tables, which figures draw. A setup is all that trials
have in common but for objective, beta, variance and seed: only within one is anything compared.
Rates, distortions and ELBOs in nats per image. What is left when they agree: `matched.py`.
"""

import math
from collections.abc import Mapping

import pandas as pd

from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.interpretations import SIGMAS
from rdvae_analysis.sound import only_sound


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """The ELBO of each model under every interpretation, and how far they lie apart.

    Args:
        rows: of one split and of last checkpoints.

    Returns:
        A row per run: what it is, rate, mse, an ELBO per interpretation, `lowest` and `highest` (by
        name), `spread` in nats and `spread_bits` in bits per dimension.

    Raises:
        BadInput: rows of several splits or checkpoints, or a column is not there.
    """
    facts = ["dataset", "setup", "objective", "beta", "train_sigma2", "seed", "rate", "mse", "dims"]
    rows = only_sound(rows, ["run_id", "sigma", "elbo", *facts])
    if rows.duplicated(["run_id", "sigma"]).any():
        raise BadInput("rows of several splits or checkpoints: choose one split and final_rows")
    elbos = rows.pivot(index="run_id", columns="sigma", values="elbo")
    elbos = elbos[[*(s for s in SIGMAS if s in elbos), *(s for s in elbos if s not in SIGMAS)]]
    table = rows.groupby("run_id", sort=False)[facts].first().join(elbos)
    table["lowest"], table["highest"] = elbos.idxmin(axis=1), elbos.idxmax(axis=1)
    table["spread"] = elbos.max(axis=1) - elbos.min(axis=1)
    table["spread_bits"] = table["spread"] / (table["dims"] * math.log(2))
    return table.reset_index()


def by_beta(table: pd.DataFrame) -> pd.DataFrame:
    """`spread`, averaged over seeds: a row per setup, objective, C and beta."""
    keys = ["dataset", "setup", "objective", "train_sigma2", "beta"]
    numbers = table.drop(columns=["run_id", "lowest", "highest", "dims", "seed"])
    means = numbers.groupby(keys, dropna=False, as_index=False).mean()
    seeds = table.groupby(keys, dropna=False, as_index=False).agg(seeds=("seed", "nunique"))
    return means.merge(seeds, on=keys)


def pairs(rows: pd.DataFrame, distances: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """Models on lines of constant beta x C: the same weights, and what each claims (Fig. 2A).

    Args:
        rows: as `spread`.
        distances: relative distance of the weights of two runs, by their ids.

    Returns:
        A row per model on a line of two or more: `product` (beta x C), `distance` of its weights
        from those of the line's first, rate, mse, and its ELBO under C itself (`own`), `half`,
        `beta-half`, `optimal` and `shared`.
    """
    table = spread(rows[rows["objective"] == "constant"])
    table = table.rename(columns={"train_sigma2": "C"})
    table["product"] = [float(f"{p:.9g}") for p in table["beta"] * table["C"]]
    lines = table.groupby(["dataset", "setup", "seed", "product"])
    table = table[lines["C"].transform("nunique") > 1]
    table = table.sort_values(["dataset", "setup", "seed", "product", "C"], ignore_index=True)
    first = table.groupby(["dataset", "setup", "seed", "product"])["run_id"].transform("first")
    table["distance"] = [
        0.0 if a == b else distances.get((a, b), math.nan)
        for a, b in zip(first, table["run_id"], strict=True)
    ]
    facts = ["dataset", "setup", "seed", "product", "beta", "C", "distance", "rate", "mse"]
    claims = ("own", "half", "beta-half", "optimal", "shared")
    return table[["run_id", *facts, *(name for name in claims if name in table)]]


def on_lines(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Runs whose weights `pairs` compares, as (first of the line, other)."""
    table = pairs(rows, {})
    lines = table.groupby(["dataset", "setup", "seed", "product"])["run_id"]
    return [(ids.iloc[0], other) for _, ids in lines for other in ids.iloc[1:]]
