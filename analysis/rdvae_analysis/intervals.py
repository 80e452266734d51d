"""Intervals over seeds."""

import numpy as np
from scipy import stats

from rdvae_analysis.theory import Floats


def mean_interval(values: Floats, confidence: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """The mean over seeds, and the bounds of Student's t interval for it.

    Exact for normal values, with two seeds as with many; a bootstrap over so few covers far less
    than it says.

    Args:
        values: (seeds, ...).
        confidence: of the interval.

    Returns:
        Mean, lower and upper bound, each (...); the bounds are NaN for one seed.
    """
    mean, seeds = values.mean(axis=0), len(values)
    if seeds < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = stats.t.ppf((1 + confidence) / 2, seeds - 1) * stats.sem(values, axis=0)
    return mean, mean - half, mean + half
