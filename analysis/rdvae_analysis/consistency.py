"""The ELBOs that different interpretations of the variance give the same weights.

Functions from results (`load_results`) to tables, which figures draw. A setup is all that trials
have in common apart from objective, beta, variance and seed; only models of one setup are compared.
Rates, distortions and ELBOs in nats per image. `matched.py` compares models under one
interpretation.
"""

import math
from collections.abc import Mapping

import pandas as pd

from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.interpretations import SIGMAS
from rdvae_analysis.sound import only_sound


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """The ELBO of each model under every interpretation, and the range of these ELBOs.

    Args:
        rows: results of last checkpoints on one split.

    Returns:
        A row per run: its settings, `rate`, `mse` (squared pixel), a column of ELBOs per
        interpretation, `lowest` and `highest` (names of interpretations), `spread` (highest ELBO
        minus lowest, nats) and `spread_bits` (the same in bits per dimension).

    Raises:
        BadInput: rows of several splits or checkpoints, or a column is missing.
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
    """The table of `spread` averaged over seeds: a row per setup, objective, C and beta."""
    keys = ["dataset", "setup", "objective", "train_sigma2", "beta"]
    numbers = table.drop(columns=["run_id", "lowest", "highest", "dims", "seed"])
    means = numbers.groupby(keys, dropna=False, as_index=False).mean()
    seeds = table.groupby(keys, dropna=False, as_index=False).agg(seeds=("seed", "nunique"))
    return means.merge(seeds, on=keys)


def pairs(rows: pd.DataFrame, distances: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """Models with the same product beta x C, which have the same weights, and their ELBOs.

    These are the lines of Fig. 2A of Beta-Sigma VAE.

    Args:
        rows: as for `spread`.
        distances: relative distance between the weights of two runs, by their ids.

    Returns:
        A row per model on a line of two or more: `product` (beta x C), `distance` of its weights
        from those of the first model of the line, `rate`, `mse` (squared pixel), and its ELBO under
        C itself (`own`), `half`, `beta-half`, `optimal`, `shared` and `student`.

    Raises:
        BadInput: as for `spread`.
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
    sigmas = ("own", "half", "beta-half", "optimal", "shared", "student")
    return table[["run_id", *facts, *(name for name in sigmas if name in table)]]


def on_lines(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """The pairs of runs whose weights `pairs` compares, as (first of the line, other)."""
    table = pairs(rows, {})
    lines = table.groupby(["dataset", "setup", "seed", "product"])["run_id"]
    return [(ids.iloc[0], other) for _, ids in lines for other in ids.iloc[1:]]
