"""Means over seeds, and intervals for them."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from rdkit_vae.errors import BadInput
from rdvae_analysis.curves import Notes, omitted
from rdvae_analysis.theory import Floats


def mean_interval(values: Floats, confidence: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """The mean over seeds, and the bounds of its Student's t interval.

    Exact for normal values with any number of seeds from two; a bootstrap over a few seeds covers
    much less than its nominal confidence.

    Args:
        values: (seeds, ...).
        confidence: probability that the interval covers the mean, below 1.

    Returns:
        Mean, lower and upper bound, each (...); the bounds are NaN for one seed.
    """
    mean, seeds = values.mean(axis=0), len(values)
    if seeds < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    from scipy.special import stdtrit  # slow to import, as is scipy.stats

    standard_error = values.std(axis=0, ddof=1) / math.sqrt(seeds)
    half = stdtrit(seeds - 1, (1 + confidence) / 2) * standard_error
    return mean, mean - half, mean + half


def over_seeds(
    rows: pd.DataFrame,
    by: Sequence[str],
    columns: Sequence[str],
    *,
    confidence: float = 0.95,
) -> tuple[pd.DataFrame, Notes]:
    """Means over seeds with their standard deviations and Student's t intervals.

    Args:
        rows: a row per model, identified by `by` and `seed`.
        by: columns to group by.
        columns: numbers to average.
        confidence: of the intervals, below 1.

    Returns:
        A row per group: `seeds` (how many), and for each column its mean under its own name, `_sd`
        (population standard deviation over seeds, which divides by their number), `_low` and
        `_high`; `_sd` and the bounds are NaN for one seed. And a note on the rows left out because
        a number is not finite.

    Raises:
        BadInput: a group has several rows of one seed.
    """
    finite = rows[np.isfinite(rows[list(columns)].astype(float)).all(axis=1)]
    if finite.duplicated([*by, "seed"]).any():
        raise BadInput(f"several rows of one seed have the same {', '.join(by)}")
    table = [
        {**dict(zip(by, name, strict=True)), **_statistics(part[list(columns)], confidence)}
        for name, part in finite.groupby(list(by), sort=False, dropna=False)
    ]
    return pd.DataFrame(table), omitted(len(rows) - len(finite), "not finite")


def _statistics(values: pd.DataFrame, confidence: float) -> dict[str, float]:
    """The number of seeds, and the mean, deviation and interval of each column."""
    array = values.to_numpy(dtype=np.float64)  # (seeds, columns)
    mean, low, high = mean_interval(array, confidence)
    sd = array.std(axis=0) if len(array) > 1 else np.full_like(mean, np.nan)
    row: dict[str, float] = {"seeds": len(array)}
    for i, column in enumerate(values.columns):
        numbers = {"": mean, "_sd": sd, "_low": low, "_high": high}
        row |= {f"{column}{suffix}": float(each[i]) for suffix, each in numbers.items()}
    return row
