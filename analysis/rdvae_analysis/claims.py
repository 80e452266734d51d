"""Reported likelihoods: which of them can be compared, which cannot, and why.

A claim is a model's ELBO or log-likelihood on some data, with what is said of the decoder variance.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.text import few
from rdvae_analysis.load import scan
from rdvae_analysis.points import RUN_COLUMNS, final_rows

# What columns may be called, by what they mean; the first that is there is taken.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "model": ("model", "run_id", "name", "method"),
    "beta": ("beta",),
    "value": ("elbo", "value", "log_likelihood", "loglikelihood", "ll", "log_px", "lower_bound"),
    "nll": ("nll", "negative_log_likelihood"),
    "bits": ("bits_per_dim", "bpd"),
    "reading": ("sigma", "interpretation", "reading"),
    "sigma2": ("sigma2", "variance", "s2", "decoder_variance", "var"),
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
# Claims that differ in one of these are of different things, and never compare.
_SAME = ("dataset", "split", "dims", "likelihood", "bound", "unit")
_UNSTATED = "not stated"
_OF_PIXELS = ("discretized", "dequantized", "discrete")
_NUMBERS = ("value", "nll", "bits", "beta", "sigma2", "rate", "distortion", "k")
_TRUTHS = {"true": True, "yes": True, "1": True, "1.0": True} | {
    "false": False,
    "no": False,
    "0": False,
    "0.0": False,
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Why claims do not compare, or what to know of those that do.

    Attributes:
        rule: its name.
        claims: how many it is about.
        message: in words.
        hinders: the claims do not compare; else they do, with this in mind.
    """

    rule: str
    claims: int
    message: str
    hinders: bool = True


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found in a table of claims.

    Attributes:
        groups: the claims that compare with each other, by what they have in common.
        findings: why the rest, or the groups among each other, do not.
    """

    groups: Mapping[str, pd.DataFrame]
    findings: tuple[Finding, ...]


def read_claims(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Reads a results folder, or any .parquet or .csv with claims, as `lint` takes them.

    Returns:
        A row per claim, and in words what was left out.

    Raises:
        BadData: not readable, or without a column for the model or for the claim.
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
    good &= claims["status"].isna() | (claims["status"] == "ok")
    if not good.all():
        models = few(claims.loc[~good, "model"].unique())
        notes.append(f"left out {int((~good).sum())} rows without a finite claim: {models}")
    if not good.any():
        raise BadData(f"{path}: no claims in it" + "".join(f"; {note}" for note in notes))
    return claims[good].reset_index(drop=True), notes


def chosen_claims(claims: pd.DataFrame, split: str | None, sigmas: Sequence[str]) -> pd.DataFrame:
    """The claims on a split and of some readings; of all, where none is named.

    Raises:
        BadInput: there is none.
    """
    chosen = claims
    for column, wanted in (("split", [split] if split else []), ("reading", list(sigmas))):
        # The reading `own` has each model's variance in its name.
        kinds = chosen[column].str.replace(r"^own .*", "own", regex=True)
        if wanted and not kinds.isin(wanted).any():
            there = few(kinds.unique(), 10)
            raise BadInput(f"no claim has {column} {', '.join(wanted)}; there are {there}")
        chosen = chosen[kinds.isin(wanted)] if wanted else chosen
    return chosen.reset_index(drop=True)


def _read_file(path: Path) -> pd.DataFrame:
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if path.suffix not in readers:
        raise BadData(f"{path}: must be a folder of runs, a .parquet or a .csv")
    try:
        with path.open("rb") as file:  # pandas would take ./~ for the user's own folder
            frame: pd.DataFrame = readers[path.suffix](file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise BadData(f"{path}: cannot be read ({reason})") from error
    return frame


def _canonical(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with a column for each name of `_ALIASES`, and the claims in `value` and `unit`."""
    named = {str(column).strip().lower().replace(" ", "_"): column for column in frame.columns}
    found = {
        meaning: frame[next(named[alias] for alias in aliases if alias in named)]
        for meaning, aliases in _ALIASES.items()
        if any(alias in named for alias in aliases)
    }
    if not found.keys() & {"value", "nll", "bits"}:
        raise BadData(f"{path}: no column with a claim (elbo, log_likelihood, nll or bits_per_dim)")
    if "model" not in found:
        raise BadData(f"{path}: no column that names the model (model or run_id)")
    claims = pd.DataFrame(found, index=frame.index).reindex(columns=list(_ALIASES))
    for name in ("dataset", "split"):
        claims[name] = claims[name].map(lambda v: v.strip().lower() if isinstance(v, str) else v)
    claims["reading"] = claims["reading"].where(claims["reading"].notna(), _words(claims["sigma2"]))
    for name in _NUMBERS:
        claims[name] = _numbers(claims[name])
    claims["unit"] = "nats"
    if "value" not in found and "nll" in found:
        claims["value"] = -claims["nll"]
    elif "value" not in found:
        claims["value"], claims["unit"] = -claims["bits"], "bits per dimension"
    ks = claims["k"].map("iwae-{:.0f}".format)
    claims["bound"] = claims["bound"].astype(object).where(claims["k"].isna(), ks)
    claims["reading"] = _readings(claims)
    claims["density"] = _densities(claims, path)
    for name in (*_SAME, "model"):
        claims[name] = claims[name].map(lambda v: _UNSTATED if pd.isna(v) else str(v))
    return claims


def _readings(claims: pd.DataFrame) -> pd.Series:
    """How each claim reads the variance: as it says, or as the number that it gives tells.

    A number in place of an interpretation is a standard deviation.
    """
    scale = _numbers(claims["reading"])
    sigma2 = claims["sigma2"].where(claims["sigma2"].notna(), scale**2)
    follows = np.isclose(sigma2, claims["beta"] / 2, rtol=1e-3)
    follows &= (claims["beta"] != 1) | bool(follows[sigma2.notna()].all())
    number = sigma2.map("{:g}".format)
    names = ("constant:" + number).where(~np.isclose(sigma2, 0.5, rtol=1e-3), "half")
    names = names.where(~follows, "beta-half").where(sigma2.notna(), _UNSTATED)
    said = claims["reading"].astype(object).where(scale.isna() & claims["reading"].notna())
    # Each model's own variance is a reading of its own.
    said = said.where((said != "own") | sigma2.isna(), "own " + number)
    said = said.mask(said.astype(str).str.contains("optimal", case=False), "optimal")
    # The mass of pixels is what it is, whatever density it comes from.
    pixels = claims["likelihood"].isin(_OF_PIXELS) & said.isna() & sigma2.isna()
    return said.mask(pixels, "pixels").where(said.notna() | pixels, names).astype(str)


def _numbers(column: pd.Series) -> pd.Series:
    """Numbers, also with thousands separated by commas; NaN for what is none."""
    plain = column.map(lambda v: v.replace(",", "") if isinstance(v, str) else v)
    return pd.to_numeric(plain, errors="coerce").astype(float)


def _words(column: pd.Series) -> pd.Series:
    """What in a column of variances is no number: the name of a reading."""
    return column.where(column.notna() & _numbers(column).isna())


def _densities(claims: pd.DataFrame, path: Path) -> pd.Series:
    """Whether each claim is of a density, where it says so; else all but `optimal` are."""
    said = claims["density"].map(lambda v: None if pd.isna(v) else str(v).strip().lower())
    odd = sorted(set(said.dropna()) - _TRUTHS.keys())
    if odd:
        raise BadData(f"{path}: is_density must be yes or no, got {odd[0]!r}")
    told = said.map(_TRUTHS).astype(object)
    density = told.where(told.notna(), claims["reading"] != _UNSTATED)
    return density.astype(bool) & (claims["reading"] != "optimal")


def lint(claims: pd.DataFrame) -> Report:
    """Sorts claims, as `read_claims` gives them, into groups that compare, and says why others do
    not."""
    weighted = _weighted(claims)
    sound = claims[claims["density"] & ~weighted & (claims["reading"] != _UNSTATED)]
    varying = [name for name in _SAME if claims[name].nunique() > 1]
    groups = {
        ", ".join([*(f"{n} {v}" for n, v in zip(varying, key[:-1], strict=True)), str(key[-1])]): g
        for key, g in sound.groupby([*varying, "reading"], sort=False)
    }
    return Report(groups=groups, findings=tuple(_findings(claims, weighted)))


def _weighted(claims: pd.DataFrame) -> "pd.Series[bool]":
    """Claims that are the beta-weighted loss with its sign turned, and not the ELBO."""
    elbo = -(claims["distortion"] + claims["rate"])
    loss = -(claims["distortion"] + claims["beta"] * claims["rate"])
    close = pd.Series(np.isclose(claims["value"], loss, rtol=1e-4), index=claims.index)
    return close & ~np.isclose(elbo, loss, rtol=1e-3)


def _about(
    rule: str, claims: pd.DataFrame, text: str, *, hinders: bool = True
) -> Iterator[Finding]:
    """A finding on some claims, with the models that they are of; none if there are none."""
    if len(claims):
        message = f"{few(claims['model'].unique(), 1)}: {text}"
        yield Finding(rule=rule, claims=len(claims), message=message, hinders=hinders)


def _findings(claims: pd.DataFrame, weighted: "pd.Series[bool]") -> Iterator[Finding]:
    for name in _SAME:
        values = claims[name].unique()
        if len(values) < 2:
            continue
        # A model that is told on train and on test is compared with others on each of them.
        on_each = name == "split" and (claims.groupby("model")[name].nunique() == len(values)).all()
        how = "compare within each" if on_each else "never compare"
        message = f"claims are of different {name} ({few(values)}): {how}"
        rule = f"different-{name}"
        yield Finding(rule=rule, claims=len(claims), message=message, hinders=not on_each)
    yield from _about(
        "weighted-loss",
        claims[weighted],
        "the claim is -(distortion + beta rate), the training loss; an ELBO never weights the rate",
    )
    stated = claims["reading"] != _UNSTATED
    yield from _about(
        "no-variance",
        claims[~stated],
        "neither a decoder variance nor a likelihood of pixels (likelihood: discretized) is "
        "stated, so the claim could be any",
    )
    looking = claims[~claims["density"] & stated]
    yield from _about(
        "not-a-density",
        looking,
        f"read as {few(looking['reading'].unique())}, whose variance looks at x; it bounds no "
        "likelihood, so it compares with no density",
    )
    yield from _of_readings(claims[claims["density"] & stated])


def _of_readings(read: pd.DataFrame) -> Iterator[Finding]:
    """Findings on densities by how they are read."""
    following = read[read["reading"] == "beta-half"]
    if following["beta"].nunique() > 1:
        text = "the variance is beta C, so a ranking by beta ranks variances too"
        yield from _about("variance-follows-beta", following, text, hinders=False)
    on_train = (read["reading"] == "shared") & (read["split"] == "train")
    optimistic = read[on_train | (read["reading"] == "shared-oracle")]
    text = "the variance was fitted on the images it scores"
    yield from _about("fitted-on-itself", optimistic, text, hinders=False)
    if read["reading"].nunique() < 2:
        return
    weights = read.groupby(["model", "beta", "seed", "epoch", *_SAME], dropna=False)
    spread = (weights["value"].max() - weights["value"].min())[weights["reading"].nunique() > 1]
    size = (
        f"; the same weights differ by {spread.median():.4g} {read['unit'].iloc[0]} in the median, "
        f"{spread.max():.4g} at most"
        if len(spread)
        else ""
    )
    yield Finding(
        rule="different-readings",
        claims=len(read),
        message=f"densities of different variances ({few(read['reading'].unique(), 6)}) compare as "
        f"whole models only: part of any difference is the reading{size}",
    )
