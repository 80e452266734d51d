"""Lower bounds of log p(x) from stored statistics: the ELBO and IWAE-K.

The bounds are computed from -log p(x|z) of shape (n, K), for any interpretation of the variance and
any likelihood: continuous, discretised or dequantised. K is limited by the posterior samples.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.scores import Interpreted, dequantized_nll
from rdkit_vae.scoring.statistics import Array, standard_error
from rdkit_vae.text import are, counted

CONTINUOUS, DISCRETIZED, DEQUANTIZED = "continuous", "discretized", "dequantized"

_MAX_FOR_ALL_SUBSETS = 12  # posterior samples, up to which all their subsets are used
_ORDERS = 128  # orders of the samples that represent their subsets otherwise
_AT_ONCE = 2**21  # numbers in memory while subsets are summed


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A lower bound of the mean log-likelihood of a split.

    Attributes:
        k: number of posterior samples; None: the ELBO with its closed-form rate.
        value, se: nats per image, and the standard error over images given the fitted variance.
    """

    k: int | None
    value: float
    se: float


def elbo(nll: Array, kl: Array) -> Bound:
    """Returns -E[nll] - KL for (n, K) -log p(x|z) and (n,) divergences."""
    per_image = nll.mean(axis=1) + kl
    return Bound(k=None, value=-float(per_image.mean()), se=standard_error(per_image))


def iwae(nll: Array, log_ratio: Array) -> list[Bound]:
    """Returns IWAE-k = E log (1/k) sum_j p(x|z_j) p(z_j) / q(z_j|x) for every k from 1 to K.

    For each image this is the mean over all subsets of k of its K posterior samples. So it uses
    every sample, and the bounds increase with k for any data, not only in expectation. For more
    than 12 samples, random subsets are used, and isotonic regression makes the means increase.

    Source: Burda, Grosse and Salakhutdinov 2016, "Importance Weighted Autoencoders", Eq. 8-9.

    Args:
        nll: (n, K) -log p(x|z), nats, of a normalised density.
        log_ratio: (n, K) log p(z) - log q(z|x), nats.
    """
    from scipy.optimize import isotonic_regression  # slow to import

    log_weights = log_ratio - nll
    over = _over_all_subsets if log_weights.shape[1] <= _MAX_FOR_ALL_SUBSETS else _over_orders
    per_image = over(log_weights)  # (n, K)
    means = isotonic_regression(per_image.mean(axis=0)).x
    return [
        Bound(k=k + 1, value=float(mean), se=standard_error(per_image[:, k]))
        for k, mean in enumerate(means)
    ]


def iwae_of_all(nll: Array, log_ratio: Array) -> Bound:
    """Returns IWAE-K of all K posterior samples: the tightest bound, and the last of `iwae`."""
    draws = nll.shape[1]
    per_image = np.logaddexp.reduce(log_ratio - nll, axis=1) - math.log(draws)
    return Bound(k=draws, value=float(per_image.mean()), se=standard_error(per_image))


@dataclass(frozen=True, kw_only=True)
class BoundScore:
    """A bound of a split under an interpretation; its fields are columns of `schema.BOUNDS`."""

    split: str
    sigma: str
    sigma2: float
    nu: float | None
    s_min: float | None
    s_max: float | None
    is_density: bool
    caveat: str
    likelihood: str
    bound: str
    k: int | None
    value: float
    value_se: float
    bits_per_dim: float
    n_images: int
    n_draws: int
    dims: int
    levels: int | None


def likelihoods(
    interpreted: Interpreted, masses: Mapping[str, Mapping[str, Array]]
) -> dict[str, Array]:
    """Returns the known (n, K) -log p(x|z) by likelihood.

    Args:
        interpreted: a split under a density.
        masses: results of `evaluate_discretized`, by split and interpretation. With a discretised
            likelihood, the dequantised one is included too.

    Raises:
        BadInput: the number of grey levels is unknown.
    """
    nlls = {CONTINUOUS: interpreted.nll}
    mass, measured = (
        masses.get(interpreted.split, {}).get(interpreted.sigma),
        interpreted.statistics,
    )
    if mass is not None:
        if measured.levels is None:
            raise BadInput(
                "the statistics lack the number of grey levels; evaluate the checkpoint again"
            )
        nlls[DISCRETIZED] = mass
        nlls[DEQUANTIZED] = dequantized_nll(
            measured.sse, interpreted.sigma2, measured.dims, measured.levels
        )
    return nlls


def score_bounds(
    interpreted: Iterable[Interpreted],
    ks: Sequence[int] | None,
    masses: Mapping[str, Mapping[str, Array]],
) -> list[BoundScore]:
    """Returns the bounds of splits under normalised densities, for every known likelihood.

    Args:
        interpreted: splits under densities.
        ks: values of K for IWAE-K; None: only the ELBO.
        masses: as for `likelihoods`.

    Raises:
        BadInput: an interpretation is not a density, or a K exceeds the posterior samples.
    """
    return [
        _scored(each, likelihood, bound)
        for each in interpreted
        for likelihood, nll in likelihoods(_checked(each, ks), masses).items()
        for bound in _bounds(each, nll, ks)
    ]


def _checked(interpreted: Interpreted, ks: Sequence[int] | None) -> Interpreted:
    draws = interpreted.statistics.sse.shape[1]
    if not interpreted.interpretation.is_density:
        raise BadInput(
            f"sigma {interpreted.sigma} is not a density, so it gives no bound of a likelihood"
        )
    for k in ks or ():
        if not 1 <= k <= draws:
            samples = counted(draws, "posterior sample")
            raise BadInput(f"K = {k}: {samples} {are(draws)} stored, so K can be 1 to {draws}")
    return interpreted


def _bounds(interpreted: Interpreted, nll: Array, ks: Sequence[int] | None) -> list[Bound]:
    statistics = interpreted.statistics
    bounds = [elbo(nll, statistics.kl)]
    if ks is not None:
        every = iwae(nll, statistics.log_ratio)
        bounds += [every[k - 1] for k in ks]
    return bounds


def _scored(interpreted: Interpreted, likelihood: str, bound: Bound) -> BoundScore:
    statistics = interpreted.statistics
    return BoundScore(
        **interpreted.facts(),
        likelihood=likelihood,
        bound="elbo" if bound.k is None else "iwae",
        k=bound.k,
        value=bound.value,
        value_se=bound.se,
        bits_per_dim=-bound.value / (statistics.dims * math.log(2)),
        levels=statistics.levels,
    )


def _over_all_subsets(log_weights: Array) -> Array:
    """Maps (n, K) to (n, K): [i, k-1] is the mean over subsets of size k of log mean weights."""
    n, draws = log_weights.shape
    sizes = np.array([bin(subset).count("1") for subset in range(2**draws)])
    means = np.empty((n, draws))
    chunk = max(1, _AT_ONCE // 2**draws)
    for start in range(0, n, chunk):
        part = log_weights[start : start + chunk].T  # (K, m)
        sums = np.full((1, part.shape[1]), -np.inf)  # row r is the subset given by the bits of r
        for draw in part:
            sums = np.concatenate([sums, np.logaddexp(sums, draw)])
        for k in range(1, draws + 1):
            means[start : start + chunk, k - 1] = sums[sizes == k].mean(axis=0) - math.log(k)
    return means


def _over_orders(log_weights: Array) -> Array:
    """As `_over_all_subsets`, but over the first k of all rotations of random orders."""
    draws = log_weights.shape[1]
    rng = np.random.default_rng(0)
    total = np.zeros_like(log_weights)
    rounds = -(-_ORDERS // draws)
    for _ in range(rounds):
        order = rng.permutation(draws)
        for shift in range(draws):
            total += np.logaddexp.accumulate(log_weights[:, np.roll(order, shift)], axis=1)
    return np.asarray(total / (rounds * draws) - np.log(np.arange(1, draws + 1)))
