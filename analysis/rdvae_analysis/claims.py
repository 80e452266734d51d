"""Reported likelihoods: which of them can be compared, which cannot, and why.

A claim is a model's ELBO or log-likelihood on some data, with what is said of the decoder variance.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rdkit_vae.errors import BadData
from rdvae_analysis.curves import final_rows
from rdvae_analysis.load import scan

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
}
# Claims that differ in one of these are of different things, and never compare.
_SAME = ("dataset", "split", "dims", "likelihood", "bound", "unit")
_UNSTATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A reason why claims do not compare: the rule, how many claims it is about, and in words."""

    rule: str
    claims: int
    message: str


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
    if path.is_dir():
        frame, notes = scan(path)
        frame, left_out = final_rows(frame)
        notes = [*notes, *left_out]
    else:
        frame, notes = _read_file(path), []
    claims = _canonical(frame, path)
    good = claims["value"].notna() & np.isfinite(claims["value"].astype(float))
    good &= claims["status"].isna() | (claims["status"] == "ok")
    if not good.all():
        notes.append(f"left out {int((~good).sum())} rows that failed or have no finite claim")
    if not good.any():
        raise BadData(f"{path}: no claims in it" + "".join(f"; {note}" for note in notes))
    return claims[good].reset_index(drop=True), notes


def _read_file(path: Path) -> pd.DataFrame:
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if path.suffix not in readers:
        raise BadData(f"{path}: must be a folder of runs, a .parquet or a .csv")
    try:
        frame: pd.DataFrame = readers[path.suffix](path)
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
    claims = pd.DataFrame(found, index=frame.index).reindex(columns=list(_ALIASES))
    claims["unit"] = "nats"
    if "value" not in found and "nll" in found:
        claims["value"] = -claims["nll"]
    elif "value" not in found and "bits" in found:
        claims["value"], claims["unit"] = -claims["bits"], "bits per dimension"
    elif "value" not in found:
        raise BadData(f"{path}: no column with a claim (elbo, log_likelihood, nll or bits_per_dim)")
    if "model" not in found:
        raise BadData(f"{path}: no column that names the model (model or run_id)")
    for name in ("value", "beta", "sigma2", "rate", "distortion"):
        claims[name] = pd.to_numeric(claims[name], errors="coerce")
    ks = pd.to_numeric(claims["k"], errors="coerce")
    claims["bound"] = claims["bound"].where(ks.isna(), "iwae-" + ks.map("{:.0f}".format))
    claims["reading"] = claims["reading"].where(claims["reading"].notna(), _readings(claims))
    known_not = {"optimal": False}
    density = claims["density"].where(claims["density"].notna(), claims["reading"].map(known_not))
    claims["density"] = density.where(density.notna(), claims["reading"] != _UNSTATED).astype(bool)
    for name in (*_SAME, "model"):
        claims[name] = claims[name].map(lambda v: _UNSTATED if pd.isna(v) else str(v))
    return claims


def _readings(claims: pd.DataFrame) -> pd.Series:
    """The reading of each claim that gives its variance as a number only."""
    sigma2, half_beta = claims["sigma2"], claims["beta"] / 2
    names = "constant:" + sigma2.map("{:g}".format)
    follows = np.isclose(sigma2, half_beta, rtol=1e-3)
    follows &= (claims["beta"] != 1) | bool(follows[sigma2.notna()].all())
    names = names.where(~np.isclose(sigma2, 0.5), "half").where(~follows, "beta-half")
    return names.where(sigma2.notna(), _UNSTATED)


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


def _findings(claims: pd.DataFrame, weighted: "pd.Series[bool]") -> Iterator[Finding]:
    for name in _SAME:
        values = claims[name].unique()
        if len(values) > 1:
            yield Finding(
                rule=f"different-{name}",
                claims=len(claims),
                message=f"claims are of different {name} ({', '.join(values[:4])}): never compare",
            )
    if weighted.any():
        yield Finding(
            rule="weighted-loss",
            claims=int(weighted.sum()),
            message=f"{_some(claims[weighted])}: the claim is -(distortion + beta rate), the "
            "training loss; an ELBO never weights the rate",
        )
    unstated = claims[claims["reading"] == _UNSTATED]
    if len(unstated):
        yield Finding(
            rule="no-variance",
            claims=len(unstated),
            message=f"{_some(unstated)}: no decoder variance is stated, so the claim could be any; "
            "state sigma2, or score the checkpoints again",
        )
    open_ = claims[~claims["density"] & (claims["reading"] != _UNSTATED)]
    if len(open_):
        yield Finding(
            rule="not-a-density",
            claims=len(open_),
            message=f"{_some(open_)}: read as {', '.join(open_['reading'].unique())}, whose "
            "variance looks at x; it bounds no likelihood, so it compares with no density",
        )
    yield from _of_readings(claims)


def _of_readings(claims: pd.DataFrame) -> Iterator[Finding]:
    """Findings on densities that are read in different ways."""
    read = claims[claims["density"] & (claims["reading"] != _UNSTATED)]
    following = read[read["reading"] == "beta-half"]
    if following["beta"].nunique() > 1:
        yield Finding(
            rule="variance-follows-beta",
            claims=len(following),
            message=f"{_some(following)}: s2 = beta/2, so a ranking by beta ranks variances too",
        )
    optimistic = read[read["reading"] == "shared-oracle"]
    if len(optimistic):
        yield Finding(
            rule="fitted-on-itself",
            claims=len(optimistic),
            message=f"{_some(optimistic)}: the variance was fitted on the images it scores",
        )
    if read["reading"].nunique() < 2:
        return
    spread = read.groupby(["model", *_SAME])["value"].agg(lambda v: v.max() - v.min())
    known = spread[spread > 0]
    size = (
        f"; the same weights differ by {known.median():.4g} {read['unit'].iloc[0]} in the median, "
        f"{known.max():.4g} at most"
        if len(known)
        else ""
    )
    yield Finding(
        rule="different-readings",
        claims=len(read),
        message=f"densities of different variances ({', '.join(read['reading'].unique()[:6])}) "
        f"compare as whole models only: part of any difference is the reading{size}",
    )


def _some(claims: pd.DataFrame, most: int = 2) -> str:
    models = claims["model"].unique()
    more = f" and {len(models) - most} more" if len(models) > most else ""
    return ", ".join(models[:most]) + more
