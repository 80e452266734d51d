"""Which distances are comparable: those of one extractor, reference and number of samples."""

from collections.abc import Iterator

import pandas as pd

from rdkit_vae.errors import BadInput
from rdkit_vae.text import counted, few
from rdvae_analysis.names import plain
from rdvae_analysis.points import comparable, last_checkpoints

STRETCHED = "stretched"
# What distances must share to be compared, besides the number of samples.
MEASUREMENT = ["features", "features_sha256", "split", "pixels"]


def features_name(features: str, sha256: str) -> str:
    """Features as they are written beside every distance: their name and the start of their hash.

    For example `classifier 3f2a9c1b`.
    """
    return plain(f"{features} {sha256[:8]}".strip())


def pictures_name(features: str, sha256: str, pixels: str) -> str:
    """As `features_name`, and that the pictures were stretched if they were."""
    stretched = ", stretched pictures" if pixels == STRETCHED else ""
    return features_name(features, sha256) + stretched


def compared(
    generation: pd.DataFrame, *, features: str = "", split: str = ""
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of last checkpoints that can be compared: one measurement for each dataset.

    That is the one with most rows; of several, that against the test split, of pictures that are
    not stretched, and of most samples.

    Args:
        generation: distances, as `load_generation` returns them.
        features: only these: a name, or a name and the start of a hash.
        split: only distances from this split.

    Returns:
        The rows, models from elsewhere named as in `final_rows`; and notes on what was left out.

    Raises:
        BadInput: there are no rows of these features and split.
    """
    rows, notes = last_rows(generation)
    rows = rows.fillna(dict.fromkeys(("features_sha256", "prior"), ""))
    chosen = rows[_named(rows, features) & ((rows["split"] == split) | (not split))]
    if len(rows) and chosen.empty:
        there = few(
            sorted(
                {" against ".join(pair) for pair in zip(_names(rows), rows["split"], strict=True)}
            )
        )
        asked = " against ".join(filter(None, [features or "any features", split]))
        raise BadInput(f"no distances in {asked}; there are distances in {there}")
    parts = []
    for dataset, part in chosen.groupby("dataset", sort=False):
        kept = _one_measurement(part)
        others = sorted(set(_described(part)) - set(_described(kept)))
        if others:
            shown = _described(kept[kept["source"] == "prior"])[:1] or _described(kept)[:1]
            notes.append(f"{dataset}: of {shown[0]}; left out {few(others)}")
        parts.append(kept)
    return (pd.concat(parts) if parts else chosen), notes


def of_checkpoints(rows: pd.DataFrame, measured: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The measurements of exactly the checkpoints that were scored, and a note on other ones.

    Args:
        rows: results of last checkpoints.
        measured: distances or rates of priors.
    """
    scored = rows.drop_duplicates("run_id").set_index("run_id")["checkpoint_sha256"]
    here = measured[measured["run_id"].isin(scored.index)]
    here = here[here["epoch"] == here["epochs"]]
    expected = here["run_id"].map(scored)  # null in results of old versions
    stale = expected.notna() & (here["checkpoint_sha256"] != expected)
    if not stale.any():
        return here, []
    count = counted(here.loc[stale, "run_id"].nunique(), "model")
    what = "distances" if "features" in measured else "rates under priors"
    why = "they are of other checkpoints; measure them again"
    return here[~stale], [f"left out the {what} of {count}: {why}"]


def last_rows(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of last checkpoints, for rows of models that have a file only if they are ok."""
    rows, loose = comparable(rows)
    last, notes = last_checkpoints(rows.assign(status="ok"))
    return last.drop(columns="status"), [*loose, *notes]


def _named(rows: pd.DataFrame, features: str) -> "pd.Series[bool]":
    names = pd.Series(_names(rows), index=rows.index, dtype=object)
    whole = names.map(lambda name: name.startswith(features) and " " in features)
    return (
        (rows["features"] == features) | (names == features) | whole.astype(bool) | (not features)
    )


def _names(rows: pd.DataFrame) -> list[str]:
    return [
        features_name(str(name), str(sha256))
        for name, sha256 in zip(rows["features"], rows["features_sha256"], strict=True)
    ]


def _described(rows: pd.DataFrame) -> list[str]:
    """Each measurement once, in words."""
    firsts = rows.drop_duplicates([*MEASUREMENT, "n_samples"]).itertuples()
    return [
        f"{pictures_name(row.features, row.features_sha256, row.pixels)}, "
        f"{counted(int(row.n_samples), 'picture')} against {row.split}"
        for row in firsts
    ]


def _one_measurement(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the largest measurement of samples, and those that belong to it."""
    samples = rows[rows["source"] == "prior"]
    kept = _largest(rows if samples.empty else samples)
    of_it = rows[(rows[MEASUREMENT] == kept.iloc[0][MEASUREMENT]).all(axis=1)]
    parts = [kept, *_others(of_it, kept)]
    return pd.concat(parts)


def _others(rows: pd.DataFrame, kept: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The rows of other sources, of as many pictures if there are such."""
    for _, part in rows[~rows["source"].isin(kept["source"])].groupby("source"):
        same = part[part["n_samples"] == kept["n_samples"].iloc[0]]
        yield _largest(part) if same.empty else same


def _largest(rows: pd.DataFrame) -> pd.DataFrame:
    groups = [part for _, part in rows.groupby([*MEASUREMENT, "n_samples"])]
    return max(groups, key=_preference)


def _preference(rows: pd.DataFrame) -> tuple[int, bool, bool, int]:
    first = rows.iloc[0]
    is_test, is_plain = first["split"] == "test", first["pixels"] != STRETCHED
    return len(rows), bool(is_test), bool(is_plain), int(first["n_samples"])
