"""The tables of a report about samples and priors: what they contain, as text."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rdkit_vae.scoring.priors import PRIORS
from rdkit_vae.text import few
from rdvae_analysis.generation import remarks, scan_generation, scan_priors
from rdvae_analysis.measurements import of_checkpoints, pictures_name
from rdvae_analysis.names import model_name, short
from rdvae_analysis.shares import prior_rates, prior_shares

# Columns of distances by their heading, with the column of the standard error if there is one.
_DISTANCES: Mapping[str, tuple[str, str]] = {
    "FD": ("frechet", ""),
    "FD, best prior": ("frechet_best", ""),
    "share of the prior in FD": ("share", ""),
    "FD of reconstructions": ("frechet_reconstruction", ""),
    "FD of real images": ("floor", ""),
    "KID": ("kid", "kid_se"),
    "precision": ("precision", ""),
    "recall": ("recall", ""),
    "density": ("density", ""),
    "coverage": ("coverage", ""),
}
_PICTURES: dict[str, tuple[str, str]] = {"PSNR": ("psnr", ""), "SSIM": ("ssim", "")}
Table = dict[str, Any]


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The distances and the rates of priors below a folder, and notes on what was left out."""
    (generation, notes), (priors, more) = scan_generation(folder), scan_priors(folder)
    return generation, priors, [*notes, *more]


def tables(
    rows: pd.DataFrame, generation: pd.DataFrame, priors: pd.DataFrame
) -> tuple[list[Table], list[str]]:
    """The tables of a section, each with a title, sentences about it, a header and rows.

    Args:
        rows: results of last checkpoints, of one setup.
        generation: distances, as `load_generation` returns them.
        priors: rates, as `load_priors` returns them.

    Returns:
        None, one or two tables; a cell is its text and the number to sort by. And notes.
    """
    distances, stale = of_checkpoints(rows, generation)
    rates, also_stale = of_checkpoints(rows, priors)
    shares, notes = prior_shares(distances, rates)
    ladder, left_out = prior_rates(rates)
    made = [_of_distances(shares)] if len(shares) else []
    made += [_of_rates(ladder, remarks(rates))] if len(ladder) else []
    return made, [*stale, *also_stale, *notes, *left_out]


def _of_distances(shares: pd.DataFrame) -> Table:
    first = shares.iloc[0]
    features = pictures_name(first["features"], first["features_sha256"], first["pixels"])
    columns = {f"{name} ({features})": where for name, where in _DISTANCES.items()} | _PICTURES
    columns = {name: where for name, where in columns.items() if shares[where[0]].notna().any()}
    known = shares["best_prior"].notna().any()
    return {
        "title": f"Generation: distances in the features {features}",
        "about": [
            f"FD is the Fréchet distance, KID the kernel distance ± its standard error, of "
            f"{first['n_samples']:,.0f} samples of N(0, I) from the {first['split']} split; means "
            "over seeds. PSNR and SSIM are of reconstructions.",
            *([_SHARE] if known else []),
        ],
        "header": ["model", "β", "seeds", *(["best prior"] if known else []), *columns],
        "rows": [
            [
                *_model(row),
                *([_cell(row["best_prior"] or "")] if known else []),
                *(_number(row[name], row[se] if se else math.nan) for name, se in columns.values()),
            ]
            for row in shares.to_dict("records")
        ],
    }


_SHARE = (
    "The best prior is the one of lowest rate on the test posteriors. FD less FD of its samples is "
    "the share of the prior. The rest is due to the decoder, to what that prior still misses, and "
    "to the number of samples."
)


def _of_rates(ladder: pd.DataFrame, noted: list[str]) -> Table:
    rungs = [*PRIORS, *sorted(set(ladder["prior"]) - set(PRIORS))]
    there = [name for name in rungs if name in set(ladder["prior"])]
    keys = ["objective", "train_sigma2", "beta"]
    rows = []
    for _, model in ladder.groupby(keys, sort=False, dropna=False):
        by_prior = {str(row["prior"]): row for row in model.to_dict("records")}
        cells = [_rate(by_prior[name]) if name in by_prior else _number(math.nan) for name in there]
        rows.append([*_model(model.to_dict("records")[0]), *cells])
    return {
        "title": "Rate by prior",
        "about": [
            "In nats per image of the test split, ± standard error over images: what the latents "
            "cost under priors that were fitted to the posteriors of the train split; ≤ marks "
            "upper bounds. The rate under the standard prior is that of training.",
            *([f"Remarks: {few(noted, most=6)}."] if noted else []),
        ],
        "header": ["model", "β", "seeds", *there],
        "rows": rows,
    }


def _model(row: Mapping[Any, Any]) -> list[dict[str, Any]]:
    beta = row["beta"]
    return [
        _cell(model_name(row["objective"], row["train_sigma2"])),
        {"text": "" if pd.isna(beta) else short(beta), "value": "" if pd.isna(beta) else beta},
        {"text": f"{row['seeds']}", "value": row["seeds"]},
    ]


def _rate(row: Mapping[Any, Any]) -> dict[str, Any]:
    cell = _number(row["rate"], row["rate_se"])
    return cell | {"text": ("≤ " if row["is_bound"] else "") + cell["text"]}


def _number(value: float, se: float = math.nan) -> dict[str, Any]:
    if pd.isna(value):
        return {"text": "", "value": ""}
    error = "" if pd.isna(se) else f" ± {se:.2g}"
    return {"text": f"{value:.4g}{error}", "value": value}


def _cell(text: str) -> dict[str, Any]:
    """A cell that is sorted by its text."""
    return {"text": text, "value": None}
