"""The columns of Table 1 that are distances of samples; each is named after its features."""

import pandas as pd

from rdkit_vae.text import counted
from rdvae_analysis import paper
from rdvae_analysis.intervals import over_seeds
from rdvae_analysis.measurements import STRETCHED, compared, of_checkpoints, pictures_name
from rdvae_analysis.names import dataset_name, plain
from rdvae_analysis.shares import MODEL, by_run

_START = "FD "  # of the name of such a column
_BEST = ", best prior"
FID = "FID (paper)"  # of Inception features
# What says how the distances of a row were measured; the column of `by_run`, and its name here.
_FACTS = {
    "best_prior": "best_prior",
    "n_samples": "n_samples",
    "split": "reference",
    "pixels": "pixels",
}


def distances(table: pd.DataFrame) -> list[str]:
    """The columns of a Table 1 that are distances."""
    return [name for name in table if name.startswith(_START) and f"{name}_sd" in table]


def with_distances(
    table: pd.DataFrame,
    rows: pd.DataFrame,
    generation: pd.DataFrame,
    priors: pd.DataFrame,
    features: str,
) -> tuple[pd.DataFrame, list[str]]:
    """A Table 1 with the distances of the samples of its models, where they were measured.

    Args:
        table: a row per model.
        rows: results of last checkpoints behind it.
        generation: distances, as `load_generation` returns them.
        priors: rates, as `load_priors` returns them.
        features: as for `measurements.compared`.

    Returns:
        The table with `FD FEATURES` and, where priors were fitted, `FD FEATURES, best prior` (means
        over seeds), each with `_sd`, `_low` and `_high`, and `best_prior`, `n_samples`, `reference`
        (a split) and `pixels`; and notes on what was left out.
    """
    here, notes = of_checkpoints(rows, generation)
    measured, left_out = compared(here, features=features)
    runs, unknown = by_run(measured, priors)
    notes += [*left_out, *unknown]
    if runs.empty:
        return table, notes
    names = map(pictures_name, runs["features"], runs["features_sha256"], runs["pixels"])
    runs = runs.assign(column=[f"{_START}{name}" for name in names])
    facts = runs.rename(columns=_FACTS).groupby(MODEL, dropna=False, sort=False)
    table = table.merge(facts[[*_FACTS.values()]].first().reset_index(), on=MODEL, how="left")
    for name, part in runs.groupby("column", sort=False):
        for column, values in ((name, "frechet"), (f"{name}{_BEST}", "frechet_best")):
            known = part[part[values].notna()]
            if len(known):
                means, _ = over_seeds(known.assign(**{column: known[values]}), MODEL, [column])
                notes += _fewer(table, means, column)
                table = table.merge(means.drop(columns="seeds"), on=MODEL, how="left")
    return table, notes


def _fewer(table: pd.DataFrame, means: pd.DataFrame, column: str) -> list[str]:
    """A note if some distances are means of fewer seeds than the bounds beside them."""
    both = table[[*MODEL, "seeds"]].merge(means[[*MODEL, "seeds"]], on=MODEL)
    fewer = int((both["seeds_x"] > both["seeds_y"]).sum())
    return [f"{column}: of fewer seeds for {counted(fewer, 'model')}"] if fewer else []


def about_distances(table: pd.DataFrame) -> list[str]:
    """How the distances of a table were measured; nothing if it has none.

    Args:
        table: as `table1` returns it.
    """
    names = distances(table)
    if not names:
        return []
    rows = table[table["n_samples"].notna()]
    several = table["dataset"].nunique() > 1
    notes = []
    for row in rows.drop_duplicates(["dataset", "n_samples", "reference", "pixels"]).itertuples():
        made = "stretched to [0, 1]" if row.pixels == STRETCHED else "clipped to [0, 1]"
        of = f"{plain(dataset_name(row.dataset))}: " if several else ""
        notes.append(
            f"{of}FD is the Fréchet distance of {row.n_samples:,.0f} samples, {made}, from the "
            f"{row.reference} split, in the features named"
        )
    if any(name.endswith(_BEST) for name in names):
        fitted = ", ".join(map(plain, dict.fromkeys(rows["best_prior"].dropna())))
        notes.append(f"best prior: samples of the prior of lowest rate on test images ({fitted})")
    return [*notes, *([paper.COMPARE_FID] if FID in table else [])]
