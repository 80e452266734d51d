"""The paper's Table 1: test and train bounds by model and beta, over seeds."""

import math

import pandas as pd

from rdkit_vae.config.trial import DEFAULT_SIGMA2
from rdkit_vae.errors import BadInput
from rdkit_vae.store.generation import PRIOR_FILES, rows_frame
from rdkit_vae.text import counted
from rdvae_analysis import paper
from rdvae_analysis.distance_columns import FID, distances, with_distances
from rdvae_analysis.intervals import over_seeds
from rdvae_analysis.names import model_name
from rdvae_analysis.points import RUN_COLUMNS, comparable, last_checkpoints
from rdvae_analysis.shares import MODEL, in_table_order
from rdvae_analysis.sound import sound_rows

BOUNDS = ("test", "train")


def table1(
    frame: pd.DataFrame,
    *,
    sigma: str = paper.SIGMA,
    generation: pd.DataFrame | None = None,
    priors: pd.DataFrame | None = None,
    features: str = "",
) -> tuple[pd.DataFrame, list[str]]:
    """Bounds under one interpretation: mean, standard deviation and interval over seeds.

    Args:
        frame: results, as `load_results` returns them.
        sigma: the interpretation; the paper's table uses `optimal`, which is no density.
        generation: distances of samples, as `load_generation` returns them.
        priors: rates under fitted priors, as `load_priors` returns them.
        features: those of the distances, as for `measurements.compared`.

    Returns:
        A row per dataset, setup, objective, C and beta (NaN if it is not known): `model` in words,
        `seeds` (how many), `sigma`, and for `test`, `train` (nats per image) and each distance: its
        mean, `_sd` (population standard deviation, which divides by seeds as the paper's does; NaN
        for one seed), `_low` and `_high` (Student's t, 95%) and `_best` (whether it is the best of
        its dataset and setup). If dataset, network and protocol are the paper's: `epochs`, for each
        quantity `_paper`, and for the bounds `_minus_loss`, -(distortion + beta x rate), which is
        what the paper's code reports (apart from its 1e-5 inside the logarithm), with `_sd`, `_low`
        and `_high`; `about_paper` says how to compare them. The columns of
        `distance_columns.with_distances`, if there are distances of these models, and `FID
        (paper)` beside them. And notes on what was left out.

    Raises:
        BadInput: no finished run has rows of that interpretation, there are no distances in these
            features, or a column is missing.
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
    table = pd.DataFrame()
    for name, part in parts.items():
        if part.empty:
            notes.append(f"no rows of the {name} split")
            continue
        means, left_out = over_seeds(part, MODEL, [name])
        notes += [f"{name}: {note}" for note in left_out]
        table = means if table.empty else _joined(table, means)
    table = _ordered(table).assign(sigma=sigma)
    if generation is not None and len(generation):
        none = rows_frame([], PRIOR_FILES) if priors is None else priors
        table, left_out = with_distances(table, rows, generation, none, features)
        notes += left_out
    table = _with_paper(table, rows, sigma).assign(**_best_columns(table))
    if not any(name.endswith("_paper") for name in table):
        notes.append(
            f"no column of the paper's values: they are for {', '.join(paper.LATENTS)} with "
            f"--protocol paper (conv) and sigma {paper.SIGMA}"
        )
    return table, notes + _caveats(table, rows)


def _joined(table: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Both tables side by side; `seeds` is the larger of the two."""
    both = table.merge(means, on=MODEL, how="outer", suffixes=("", "_other"))
    seeds = both[["seeds", "seeds_other"]].max(axis=1)
    return both.assign(seeds=seeds).drop(columns="seeds_other")


def quantities(table: pd.DataFrame) -> dict[str, bool]:
    """The quantities of a table, and whether higher is better for each."""
    bounds = {name: True for name in BOUNDS if name in table}
    return bounds | dict.fromkeys(distances(table), False)


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    names = list(map(model_name, table["objective"], table["train_sigma2"]))
    return in_table_order(table.assign(model=names))


def _with_paper(table: pd.DataFrame, rows: pd.DataFrame, sigma: str) -> pd.DataFrame:
    """The table with the paper's values and what compares with them, where setups are the same."""
    if sigma != paper.SIGMA or not {"latents", "rate", "distortion", *paper.SETUP} <= set(rows):
        return table
    same = rows["latents"] == rows["dataset"].map(paper.LATENTS)
    for name, value in paper.SETUP.items():
        same &= rows[name] == value
    of_setup = rows[same].groupby("setup")["epochs"].first()
    plain = table["train_sigma2"].isna() | (table["train_sigma2"] == DEFAULT_SIGMA2)
    matching = table["setup"].isin(of_setup.index) & plain
    keys = zip(table["dataset"], table["objective"], table["beta"], strict=True)
    printed = [
        paper.TABLE_1.get(key, {}) if matches else {}
        for key, matches in zip(keys, matching, strict=True)
    ]
    if not any(printed):
        return table
    columns = {f"{name}_paper": name for name in BOUNDS if name in table}
    columns |= {FID: "fid"} if distances(table) else {}
    values = {
        column: pd.Series([values.get(name, math.nan) for values in printed])
        for column, name in columns.items()
    }
    shown = pd.Series([bool(values) for values in printed])
    table = table.assign(**values, epochs=table["setup"].map(of_setup).where(shown))
    return _with_minus_loss(table, rows[same])


def _with_minus_loss(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The table with minus the training loss on each split, beside the paper's values alone."""
    shown = table.loc[table["epochs"].notna(), MODEL]
    rows = rows.merge(shown, on=MODEL)
    minus_loss = -(rows["distortion"] + rows["beta"] * rows["rate"])
    for split in BOUNDS:
        here = (rows["split"] == split).to_numpy()
        if here.any():
            name = f"{split}_minus_loss"
            means, _ = over_seeds(rows[here].assign(**{name: minus_loss[here]}), MODEL, [name])
            table = table.merge(means.drop(columns="seeds"), on=MODEL, how="left")
    return table


def about_paper(table: pd.DataFrame) -> list[str]:
    """How to compare a table with the paper's values in it; nothing if there are none.

    Args:
        table: as `table1` returns it.
    """
    if "epochs" not in table:
        return []
    shown = table[table["epochs"].notna()]
    notes = [
        f"{'' if table['dataset'].nunique() == 1 else dataset + ': '}these models were trained for "
        f"{_counts(part['epochs'], 'epoch')} with {_counts(part['seeds'], 'seed')}; the paper's "
        f"for {counted(paper.EPOCHS, 'epoch')} with {counted(paper.SEEDS, 'seed')}"
        for dataset, part in shown.groupby("dataset", sort=False)
    ]
    is_constant = (shown["objective"] == "constant").any()
    return [*notes, paper.COMPARE, *([paper.COMPARE_CONSTANT] if is_constant else [])]


def _counts(values: "pd.Series[float]", noun: str) -> str:
    """`5 epochs`; where they differ, `5 or 10 epochs`."""
    *others, last = sorted(set(values.astype(int)))
    return " or ".join([*map(str, others), counted(last, noun)])


def _caveats(table: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Notes on results of older releases, if the paper's values stand beside them."""
    if "epochs" not in table or "n_images" not in rows:
        return []
    shown = set(table.loc[table["epochs"].notna(), "setup"])
    rows = rows[rows["setup"].isin(shown) & (rows["split"] == "test")]
    older = rows["n_images"] == rows["dataset"].map(paper.OLDER_TEST_IMAGES)
    return [f"{name}: {paper.CAVEATS[name]}" for name in rows.loc[older, "dataset"].unique()]


def _best_columns(table: pd.DataFrame) -> dict[str, "pd.Series[bool]"]:
    groups = table.groupby(["dataset", "setup"], dropna=False)
    return {
        f"{name}_best": table[name] == groups[name].transform("max" if more else "min")
        for name, more in quantities(table).items()
    }
