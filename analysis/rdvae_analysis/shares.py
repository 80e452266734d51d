"""How much of a distance is due to the prior: samples of N(0, I) less those of the best prior."""

import math

import numpy as np
import pandas as pd

from rdkit_vae.scoring.priors import PRIORS, STANDARD
from rdkit_vae.text import counted, few
from rdvae_analysis.measurements import MEASUREMENT, compared, last_rows
from rdvae_analysis.names import in_order

MODEL = ["dataset", "setup", "objective", "train_sigma2", "beta"]
_METRICS = ["frechet", "frechet_infinite", "kid", "precision", "recall", "density", "coverage"]
# Of reconstructions: the column, and its name in a row per run.
_OF_RECONSTRUCTIONS = {
    **{name: f"{name}_reconstruction" for name in ("frechet", "frechet_infinite", "kid")},
    **{"psnr": "psnr", "ssim": "ssim"},
}
_MEANS = (*_METRICS, *_OF_RECONSTRUCTIONS.values(), "frechet_best", "share", "best_rate", "floor")
_RANGES = ("frechet", "frechet_reconstruction", "frechet_best")
_FACTS = ("curve", "architecture", "latents", "epochs", "protocol", "best_prior")


def prior_shares(
    generation: pd.DataFrame, priors: pd.DataFrame, *, features: str = "", split: str = ""
) -> tuple[pd.DataFrame, list[str]]:
    """The distances of each model's samples and reconstructions, and the share of its prior.

    The prior that fits best is the one with the lowest rate on test posteriors, of those that were
    sampled for every seed of the model; N(0, I) is among them.

    Args:
        generation: distances, as `load_generation` returns them.
        priors: rates, as `load_priors` returns them; without rows, no share is known.
        features, split: as for `measurements.compared`.

    Returns:
        A row per dataset, setup, objective, C and beta (NaN if it is not known), of means over
        seeds: `frechet`, `frechet_infinite`, `kid`, `kid_se`, `precision`, `recall`, `density` and
        `coverage` of samples of N(0, I); `best_prior` (null if not known) with its `best_rate`
        (nats per image) and `frechet_best`; `share`, frechet - frechet_best;
        `frechet_reconstruction`, `frechet_infinite_reconstruction`, `kid_reconstruction`, `psnr`
        and `ssim` of reconstructions; `floor`, the distance of the images of the other split;
        `seeds`, how many; `_low` and `_high`, the range of the seeds; the columns of
        `MEASUREMENT`, `n_samples`, `n_reference` and `n_reconstructions`, which say in what these
        are distances. And notes on what was left out.

    Raises:
        BadInput: there are no rows of these features and split.
    """
    rows, notes = compared(generation, features=features, split=split)
    runs, left_out = by_run(rows, priors)
    models = runs.groupby(MODEL, sort=False, dropna=False)
    means = {name: (name, "mean") for name in _MEANS}
    lows = {f"{name}_low": (name, "min") for name in _RANGES}
    highs = {f"{name}_high": (name, "max") for name in _RANGES}
    sizes = ("n_samples", "n_reference", "n_reconstructions")
    firsts = {name: (name, "first") for name in (*_FACTS, *MEASUREMENT, *sizes)}
    table = models.agg(
        **firsts, seeds=("seed", "nunique"), **means, **lows, **highs, kid_se=("kid_se", _se)
    ).reset_index()
    return in_table_order(table), [*notes, *left_out]


def in_table_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by dataset, setup, objective in the order of all tables, C and beta."""
    rank = {name: place for place, name in enumerate(in_order(table["objective"]))}
    keys = ["dataset", "setup", "rank", "train_sigma2", "beta"]  # sorting by several is stable
    table = table.assign(rank=table["objective"].map(rank))
    return table.sort_values(keys, ignore_index=True).drop(columns="rank")


def by_run(rows: pd.DataFrame, priors: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A row per run with the columns that `prior_shares` averages, and notes.

    Args:
        rows: comparable distances, as `compared` returns them; draws of several seeds are averaged.
        priors: as `load_priors` returns them.
    """
    samples = rows[rows["source"] == "prior"]
    standard = samples[samples["prior"] == STANDARD]
    runs = rows.drop_duplicates("run_id").set_index("run_id")
    without = runs.index.difference(standard["run_id"])
    notes = []
    if len(without):
        named = f"{counted(len(without), 'run')} without samples of the standard prior"
        notes.append(f"left out {named}: {few(without)}")
    runs = runs.loc[runs.index.isin(standard["run_id"])].drop(
        columns=[*_METRICS, "psnr", "ssim", "kid_se", "n_samples", "n_reference"]
    )
    of_standard = standard.groupby("run_id")
    kept = of_standard[[*_METRICS, "n_samples", "n_reference"]].mean()
    rebuilt = rows[rows["source"] == "reconstruction"].groupby("run_id")
    of_reconstructions = rebuilt[[*_OF_RECONSTRUCTIONS, "n_samples"]].mean()
    names = {**_OF_RECONSTRUCTIONS, "n_samples": "n_reconstructions"}
    images = rows[rows["source"] == "images"].groupby("dataset")["frechet"].mean()
    table = runs.join(kept).join(of_reconstructions.rename(columns=names))
    table = table.assign(
        kid_se=of_standard["kid_se"].agg(_se), floor=table["dataset"].map(images).astype(float)
    )
    table, not_known = _with_best(table, samples, _rates(priors, rows))
    return table.reset_index(), [*notes, *not_known]


def _with_best(
    runs: pd.DataFrame, samples: pd.DataFrame, rates: pd.DataFrame
) -> tuple[pd.DataFrame, list[str]]:
    """The runs with the prior that fits each model best, and what it would change."""
    distances = samples.pivot_table(index="run_id", columns="prior", values="frechet")
    best: dict[str, str] = {}
    unsampled: dict[str, str] = {}
    for _, model in runs.groupby(MODEL, sort=False, dropna=False):
        rungs = _means(rates, model.index)
        sampled = rungs[rungs.index.isin(_means(distances, model.index).index)]
        if len(rungs) and rungs.idxmin() not in sampled.index:
            unsampled |= dict.fromkeys(model.index, str(rungs.idxmin()))
        if set(sampled.index) - {STANDARD}:
            best |= dict.fromkeys(model.index, str(sampled.idxmin()))
    of_best = [_at(distances, run, best) for run in runs.index]
    table = runs.assign(
        best_prior=pd.Series([best.get(run) for run in runs.index], runs.index, dtype=object),
        best_rate=[_at(rates, run, best) for run in runs.index],
        frechet_best=of_best,
        share=runs["frechet"] - np.array(of_best),
    )
    notes = []
    if unsampled:
        names, runs_in_words = few(sorted({*unsampled.values()})), counted(len(unsampled), "run")
        notes.append(
            f"{names} fits {runs_in_words} best but was not sampled; the best of the sampled "
            "priors stands for it"
        )
    fitted = set(distances.columns) - {STANDARD}
    if fitted and rates.empty:
        notes.append("which prior fits best is not known: rdvae describe --priors measures it")
    return table, notes


def _means(values: pd.DataFrame, runs: "pd.Index[str]") -> "pd.Series[float]":
    """The mean over runs of each prior that has a value for all of them."""
    means = values.reindex(runs).mean(skipna=False)
    return means.dropna()


def _at(values: pd.DataFrame, run: str, best: dict[str, str]) -> float:
    return float(values.loc[run, best[run]]) if run in best else math.nan


def _rates(priors: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The rate on test posteriors by run and prior, of the checkpoints whose samples these are."""
    keys = ["run_id", "epoch", "checkpoint_sha256"]
    here = priors[priors["split"] == "test"].merge(rows[keys].drop_duplicates(), on=keys)
    return here.pivot_table(index="run_id", columns="prior", values="rate")


def prior_rates(priors: pd.DataFrame, *, split: str = "test") -> tuple[pd.DataFrame, list[str]]:
    """The rate under each prior: means over seeds, with the range of the seeds.

    Args:
        priors: rates, as `load_priors` returns them.
        split: of the posteriors that were scored.

    Returns:
        A row per dataset, setup, objective, C, beta and prior: `rate`, `rate_low`, `rate_high`,
        `rate_se` (over images; nats per image), `bits_per_dim`, `bits_per_latent`, `rate_held_out`,
        `is_bound`, `seeds`. And notes on what was left out.
    """
    rows, notes = last_rows(priors)
    rows = rows[rows["split"] == split]
    numbers = ["rate", "bits_per_dim", "bits_per_latent", "rate_held_out"]
    keys = [*MODEL, "prior", "run_id", "seed"]
    runs = rows.groupby(keys, sort=False, dropna=False, as_index=False).agg(
        {**dict.fromkeys(numbers, "mean"), "rate_se": _se, "is_bound": "any"}
    )
    table = runs.groupby([*MODEL, "prior"], sort=False, dropna=False).agg(
        **{name: (name, "mean") for name in numbers},
        rate_low=("rate", "min"),
        rate_high=("rate", "max"),
        rate_se=("rate_se", _se),
        is_bound=("is_bound", "any"),
        seeds=("seed", "nunique"),
    )
    rungs = [*PRIORS, *sorted(set(rows["prior"]) - set(PRIORS))]
    ladder = table.reset_index().sort_values("prior", key=lambda names: names.map(rungs.index))
    return in_table_order(ladder), notes


def _se(errors: "pd.Series[float]") -> float:
    """The standard error of a mean of values with these standard errors."""
    return float(np.sqrt((errors**2).sum(skipna=False)) / len(errors))
