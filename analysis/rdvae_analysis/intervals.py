"""Intervals over seeds."""

import numpy as np
from scipy import stats

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
    half = stats.t.ppf((1 + confidence) / 2, seeds - 1) * stats.sem(values, axis=0)
    return mean, mean - half, mean + half
