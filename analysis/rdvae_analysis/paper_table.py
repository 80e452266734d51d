"""The paper's Table 1: test and train bounds by model and beta, over seeds."""

import math
from collections.abc import Mapping

import pandas as pd

from rdkit_vae.config.trial import DEFAULT_SIGMA2
from rdkit_vae.errors import BadInput
from rdvae_analysis import paper
from rdvae_analysis.intervals import over_seeds
from rdvae_analysis.names import in_order, model_name
from rdvae_analysis.points import RUN_COLUMNS, comparable, last_checkpoints
from rdvae_analysis.sound import sound_rows

# Quantities and whether higher is better; metrics are shown if the results have them.
BOUNDS: Mapping[str, bool] = {"test": True, "train": True}
METRICS: Mapping[str, bool] = {"fid": False}
_MODEL = ["dataset", "setup", "objective", "train_sigma2", "beta"]


def table1(frame: pd.DataFrame, *, sigma: str = paper.SIGMA) -> tuple[pd.DataFrame, list[str]]:
    """Bounds under one interpretation: mean, standard deviation and interval over seeds.

    Args:
        frame: results, as `load_results` returns them, optionally with columns of `METRICS`.
        sigma: the interpretation; the paper's table uses `optimal`, which is no density.

    Returns:
        A row per dataset, setup, objective, C and beta (NaN if it is not known): `model` in words,
        `seeds` (how many), `sigma`, and for `test`, `train` (nats per image) and each metric: its
        mean, `_sd` (sample standard deviation, divides by seeds - 1; the paper divides by seeds),
        `_low` and `_high` (Student's t, 95%), `_best` (whether it is the best of its dataset and
        setup) and, if dataset and protocol are the paper's, `_paper`. And notes on what was left
        out and why values differ from the paper's.

    Raises:
        BadInput: no finished run has rows of that interpretation, or a column is missing.
    """
    frame, notes = sound_rows(frame, (*RUN_COLUMNS, "split", "sigma", "elbo"))
    rows, left_out = last_checkpoints(frame)
    notes += left_out
    rows, not_comparable = comparable(rows)
    notes += not_comparable
    available = sorted(set(rows["sigma"]))
    rows = rows[rows["sigma"] == sigma].reset_index(drop=True)
    if rows.empty:
        known = f"there are rows of {', '.join(available)}" if available else "; ".join(notes)
        raise BadInput(f"no finished run has rows of sigma {sigma}; {known or 'there are none'}")
    parts = {split: rows[rows["split"] == split] for split in BOUNDS}
    parts = {split: part.assign(**{split: part["elbo"]}) for split, part in parts.items()}
    parts |= {name: parts["test"] for name in METRICS if name in frame}
    table = pd.DataFrame()
    for name, part in parts.items():
        if part.empty:
            notes.append(f"no rows of the {name} split")
            continue
        means, left_out = over_seeds(part, _MODEL, [name])
        notes += [f"{name}: {note}" for note in left_out]
        table = means if table.empty else _joined(table, means)
    table = _ordered(table).assign(sigma=sigma)
    table = table.assign(**_paper_columns(table, rows, sigma), **_best_columns(table))
    if not any(name.endswith("_paper") for name in table):
        notes.append(
            f"no column of the paper's values: they are for {', '.join(paper.LATENTS)} with "
            f"--protocol paper (conv, 50 epochs) and sigma {paper.SIGMA}"
        )
    return table, notes + _caveats(table)


def _joined(table: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Both tables side by side; `seeds` is the larger of the two."""
    both = table.merge(means, on=_MODEL, how="outer", suffixes=("", "_other"))
    seeds = both[["seeds", "seeds_other"]].max(axis=1)
    return both.assign(seeds=seeds).drop(columns="seeds_other")


def quantities(table: pd.DataFrame) -> dict[str, bool]:
    """The quantities of a table, and whether higher is better for each."""
    return {name: more for name, more in {**BOUNDS, **METRICS}.items() if name in table}


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    table = table.assign(model=list(map(model_name, table["objective"], table["train_sigma2"])))
    rank = {name: place for place, name in enumerate(in_order(table["objective"]))}
    table = table.assign(rank=table["objective"].map(rank))
    keys = ["dataset", "setup", "rank", "train_sigma2", "beta"]
    return table.sort_values(keys, ignore_index=True).drop(columns="rank")


def _paper_columns(
    table: pd.DataFrame, rows: pd.DataFrame, sigma: str
) -> dict[str, "pd.Series[float]"]:
    """The paper's value for each measured one, where the setups are the same."""
    if sigma != paper.SIGMA or not {"latents", *paper.SETUP} <= set(rows.columns):
        return {}
    same = rows["latents"] == rows["dataset"].map(paper.LATENTS)
    for name, value in paper.SETUP.items():
        same &= rows[name] == value
    setups = set(rows.loc[same, "setup"])
    plain = table["train_sigma2"].isna() | (table["train_sigma2"] == DEFAULT_SIGMA2)
    matching = table["setup"].isin(setups) & plain
    keys = zip(table["dataset"], table["objective"], table["beta"], strict=True)
    printed = [
        paper.TABLE_1.get(key, {}) if matches else {}
        for key, matches in zip(keys, matching, strict=True)
    ]
    if not any(printed):
        return {}
    return {
        f"{name}_paper": pd.Series([values.get(name, math.nan) for values in printed])
        for name in quantities(table)
    }


def _caveats(table: pd.DataFrame) -> list[str]:
    """Notes on the paper's values, if the table has any."""
    printed = table.filter(like="_paper").notna().any(axis=1)
    shown = set(table.loc[printed, "dataset"])
    return [f"{name}: {words}" for name, words in paper.CAVEATS.items() if name in shown]


def _best_columns(table: pd.DataFrame) -> dict[str, "pd.Series[bool]"]:
    groups = table.groupby(["dataset", "setup"], dropna=False)
    return {
        f"{name}_best": table[name] == groups[name].transform("max" if more else "min")
        for name, more in quantities(table).items()
    }
