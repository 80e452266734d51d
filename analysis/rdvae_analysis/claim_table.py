"""Tables of claims, from a results folder or any .csv or .parquet, in one form.

A claim is a model's ELBO or log-likelihood on some data, with what is stated about the decoder
variance.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.store.pages import read_parquet
from rdkit_vae.store.schema import Status
from rdkit_vae.store.tables import file_of
from rdkit_vae.text import few
from rdvae_analysis.load import scan
from rdvae_analysis.points import RUN_COLUMNS, final_rows

# Names a column may have, by meaning; the first one present is used. A model that has no name in
# one column is named by the next: `model` is empty for the models that rdvae trained itself.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "model": ("model", "run_id", "name", "method"),
    "beta": ("beta",),
    "implied_beta": ("implied_beta",),
    "implied_beta_se": ("implied_beta_se",),
    "implied_scatter": ("implied_scatter",),
    "value": ("elbo", "value", "log_likelihood", "loglikelihood", "ll", "log_px", "lower_bound"),
    "nll": ("nll", "negative_log_likelihood"),
    "bits": ("bits_per_dim", "bpd"),
    "interpretation": ("sigma", "interpretation", "reading"),
    "sigma2": ("sigma2", "variance", "s2", "decoder_variance", "var"),
    "nu": ("nu", "df"),
    "density": ("is_density",),
    "dataset": ("dataset", "data"),
    "split": ("split",),
    "dims": ("dims", "d"),
    "likelihood": ("likelihood",),
    "bound": ("bound",),
    "k": ("k",),
    "rate": ("rate", "kl"),
    "distortion": ("distortion",),
    "status": ("status",),
    "seed": ("seed",),
    "epoch": ("epoch",),
}
# Claims that differ in one of these describe different things and never compare.
SUBJECT = ("dataset", "split", "dims", "likelihood", "bound", "unit")
UNSTATED = "not stated"
_MOST_BYTES = 2**30  # of a table
_OF_PIXELS = ("discretized", "dequantized", "discrete")
_NUMBERS = (
    *("value", "nll", "bits", "beta", "sigma2", "nu", "rate", "distortion", "k"),
    *("implied_beta", "implied_beta_se", "implied_scatter"),
)
_YES_OR_NO = {"true": True, "yes": True, "1": True, "1.0": True} | {
    "false": False,
    "no": False,
    "0": False,
    "0.0": False,
}


def read_claims(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Reads the claims of a results folder, .parquet or .csv, as `claims.lint` takes them.

    Returns:
        A row per claim, and notes on what was left out.

    Raises:
        BadData: the file cannot be read, or has no column for the model or the claim.
    """
    if not path.exists():
        raise BadData(f"{path}: no such file or folder")
    frame, notes = scan(path) if path.is_dir() else (_read_file(path), [])
    if set(frame.columns) >= set(RUN_COLUMNS):
        frame, left_out = final_rows(frame)
        notes = [*notes, *left_out]
    if frame.empty:
        raise BadData(f"{path}: no claims in it" + "".join(f"; {note}" for note in notes))
    claims = _canonical(frame, path)
    good = claims["value"].notna() & np.isfinite(claims["value"].astype(float))
    good &= claims["status"].isna() | (claims["status"] == Status.OK)
    if not good.all():
        models = few(claims.loc[~good, "model"].unique())
        notes.append(f"left out {int((~good).sum())} rows without a finite claim: {models}")
    if not good.any():
        raise BadData(f"{path}: no claims in it" + "".join(f"; {note}" for note in notes))
    return claims[good].reset_index(drop=True), notes


def chosen_claims(claims: pd.DataFrame, split: str | None, sigmas: Sequence[str]) -> pd.DataFrame:
    """The claims on one split and of some interpretations.

    Args:
        claims: as `read_claims` returns them.
        split: None: all splits.
        sigmas: interpretations; none: all.

    Raises:
        BadInput: there are no such claims.
    """
    selected = claims
    for column, names in (("split", [split] if split else []), ("interpretation", list(sigmas))):
        # The name of the interpretation `own` includes each model's variance here.
        kinds = selected[column].str.replace(r"^own .*", "own", regex=True)
        if names and not kinds.isin(names).any():
            available = few(kinds.unique(), 10)
            raise BadInput(f"no claim has {column} {', '.join(names)}; there are {available}")
        selected = selected[kinds.isin(names)] if names else selected
    return selected.reset_index(drop=True)


def _read_file(path: Path) -> pd.DataFrame:
    if path.suffix not in (".csv", ".parquet"):
        raise BadData(f"{path}: must be a folder of runs, a .parquet or a .csv")
    try:
        data = file_of(path, _MOST_BYTES)
        frame: pd.DataFrame = (
            pd.read_csv(io.BytesIO(data))
            if path.suffix == ".csv"
            else read_parquet(data).to_pandas()
        )
    except (OSError, ValueError, LookupError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise BadData(f"{path}: cannot be read ({reason})") from error
    return frame


def _canonical(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with a column for each name of `_ALIASES`, and the claims in `value` and `unit`."""
    columns = _columns_by_meaning(frame, path)
    claims = pd.DataFrame(columns, index=frame.index).reindex(columns=list(_ALIASES))
    for name in ("dataset", "split"):
        claims[name] = claims[name].map(lambda v: v.strip().lower() if isinstance(v, str) else v)
    claims["interpretation"] = claims["interpretation"].where(
        claims["interpretation"].notna(), _words(claims["sigma2"])
    )
    for name in _NUMBERS:
        claims[name] = _numbers(claims[name])
    claims["unit"] = "nats"
    if "value" not in columns and "nll" in columns:
        claims["value"] = -claims["nll"]
    elif "value" not in columns:
        claims["value"], claims["unit"] = -claims["bits"], "bits per dimension"
    iwae = claims["k"].map("iwae-{:.0f}".format)
    claims["bound"] = claims["bound"].astype(object).where(claims["k"].isna(), iwae)
    claims["interpretation"] = _interpretations(claims)
    claims["density"] = _densities(claims, path)
    for name in (*SUBJECT, "model"):
        claims[name] = claims[name].map(lambda v: UNSTATED if pd.isna(v) else str(v))
    return claims


def _columns_by_meaning(frame: pd.DataFrame, path: Path) -> "dict[str, pd.Series]":
    """The columns of `frame` that have a name of `_ALIASES`."""
    names = {str(column).strip().lower().replace(" ", "_"): column for column in frame.columns}
    columns = {
        meaning: frame[next(names[alias] for alias in aliases if alias in names)]
        for meaning, aliases in _ALIASES.items()
        if any(alias in names for alias in aliases)
    }
    if not columns.keys() & {"value", "nll", "bits"}:
        raise BadData(f"{path}: no column with a claim (elbo, log_likelihood, nll or bits_per_dim)")
    if "model" not in columns:
        raise BadData(f"{path}: no column that names the model (model or run_id)")
    columns["model"] = _first_names([frame[names[a]] for a in _ALIASES["model"] if a in names])
    return columns


def _first_names(columns: "Sequence[pd.Series]") -> pd.Series:
    """The first entry of each row that is neither null nor blank."""
    first = columns[0].astype(object)
    for column in columns[1:]:
        is_blank = first.isna() | (first.astype(str).str.strip() == "")
        first = first.where(~is_blank, column)
    return first.where(first.astype(str).str.strip() != "")


def _interpretations(claims: pd.DataFrame) -> pd.Series:
    """The interpretation of each claim: as stated, or else inferred from the variance.

    A number in place of a name is a standard deviation.
    """
    scale = _numbers(claims["interpretation"])
    sigma2 = claims["sigma2"].where(claims["sigma2"].notna(), scale**2)
    follows = np.isclose(sigma2, claims["beta"] / 2, rtol=1e-3)
    known = sigma2.notna() & claims["beta"].notna()
    follows &= (claims["beta"] != 1) | bool(follows[known].all())
    number = sigma2.map("{:g}".format)
    student_t = claims["nu"].notna()
    number = number.where(~student_t, number + ", nu " + claims["nu"].map("{:g}".format))
    inferred = ("constant:" + number).where(~np.isclose(sigma2, 0.5, rtol=1e-3), "half")
    inferred = inferred.where(~follows, "beta-half").where(~student_t, "student t " + number)
    inferred = inferred.where(sigma2.notna(), UNSTATED)
    is_name = scale.isna() & claims["interpretation"].notna()
    stated = claims["interpretation"].astype(object).where(is_name)
    # The own variances of two models are two interpretations.
    stated = stated.where((stated != "own") | sigma2.isna(), "own " + number)
    stated = stated.mask(stated.astype(str).str.contains("optimal", case=False), "optimal")
    # The probability mass of pixels compares, whatever density it was computed from.
    pixels = claims["likelihood"].isin(_OF_PIXELS) & stated.isna() & sigma2.isna()
    return stated.mask(pixels, "pixels").where(stated.notna() | pixels, inferred).astype(str)


def _numbers(column: pd.Series) -> pd.Series:
    """Numbers, also those with commas between thousands; NaN for anything else."""
    plain = column.map(lambda v: v.replace(",", "") if isinstance(v, str) else v)
    return pd.to_numeric(plain, errors="coerce").astype(float)


def _words(column: pd.Series) -> pd.Series:
    """The entries of a column of variances that are no numbers: names of interpretations."""
    return column.where(column.notna() & _numbers(column).isna())


def _densities(claims: pd.DataFrame, path: Path) -> pd.Series:
    """Whether each claim is of a density: as stated; if not stated, all but `optimal` are."""
    answers = claims["density"].map(lambda v: None if pd.isna(v) else str(v).strip().lower())
    unknown = sorted(set(answers.dropna()) - _YES_OR_NO.keys())
    if unknown:
        raise BadData(f"{path}: is_density must be yes or no, got {unknown[0]!r}")
    stated = answers.map(_YES_OR_NO).astype(object)
    density = stated.where(stated.notna(), claims["interpretation"] != UNSTATED)
    return density.astype(bool) & (claims["interpretation"] != "optimal")
