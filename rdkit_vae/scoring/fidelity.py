"""How far a set of pictures is from a reference: distances of their features, pure NumPy.

All sums are float64. Pictures are compared as rows of features, (n, d); see `generation.features`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rdkit_vae.errors import BadInput
from rdkit_vae.text import counted

Array = npt.NDArray[np.float64]

# Neighbours: 3 as Kynkaanniemi et al. 2019 have it, 5 as Naeem et al. 2020.
_K_PRECISION, _K_COVERAGE = 3, 5
FEWEST = _K_COVERAGE + 1  # pictures of a set
_MOST_PAIRS = 2**24  # distances in memory at once
_SAME = (
    1e-12  # squared distance, relative to the norms, below which rounding cannot tell rows apart
)
_PARTS = (1, 2, 4)  # into which samples are split to extrapolate


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Distances between pictures and a reference.

    Attributes:
        frechet: Frechet distance of Gaussians with the same moments, squared features.
        frechet_infinite: the same, extrapolated to infinitely many pictures; NaN if there are too
            few for that.
        kid: squared maximum mean discrepancy with a cubic kernel, unbiased.
        kid_se: its standard error (jackknife over the pictures of both sets).
        precision, recall: shares of pictures near the reference, and the other way round.
        density, coverage: their counterparts that single outliers do not change.
    """

    frechet: float
    frechet_infinite: float
    kid: float
    kid_se: float
    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Reference:
    """The features of the reference, (n, d), and what every comparison with it needs.

    Raises:
        BadInput: there are fewer than `FEWEST`.
    """

    features: Array

    def __post_init__(self) -> None:
        check_count(len(self.features), "reference images")

    @cached_property
    def moments(self) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d)."""
        return moments(self.features)

    @cached_property
    def root(self) -> Array:
        """The symmetric square root of the covariance, (d, d)."""
        return symmetric_root(self.moments[1])

    @cached_property
    def radii(self) -> Array:
        """Distances to the nearest others of the reference, (n, 2); see `neighbour_radii`."""
        return neighbour_radii(self.features)

    @cached_property
    def kernel_sums(self) -> Array:
        """(n,) sum of the kernel over the others of the reference."""
        return _sums_over_others(self.features)

    def first(self, count: int) -> "Reference":
        """The reference cut to evenly spaced rows, if it has more than `count`."""
        n = len(self.features)
        return self if n <= count else Reference(self.features[spaced(n, count)])


def spaced(n: int, count: int) -> npt.NDArray[np.int64]:
    """Positions of at most `count` evenly spaced of `n` rows."""
    return np.linspace(0, n - 1, min(n, count)).round().astype(np.int64)


def check_count(n: int, what: str) -> None:
    """Refuses sets that are too small to have neighbours.

    Raises:
        BadInput: there are fewer than `FEWEST`.
    """
    if n < FEWEST:
        raise BadInput(f"{counted(n, what[:-1])}: at least {FEWEST} are needed for the distances")


def fidelity(features: Array, reference: Reference) -> Fidelity:
    """All distances between pictures and a reference.

    The neighbours (precision, recall, density, coverage) are those among as many pictures as there
    are reference images, or the other way round, since these shares depend on both numbers.

    Args:
        features: (n, d) of the pictures.
        reference: with the same d.

    Raises:
        BadInput: there are too few pictures.
    """
    check_count(len(features), "pictures")
    kid, kid_se = kernel_distance(features, reference)
    equal = reference.first(len(features))
    near = neighbours(features[spaced(len(features), len(equal.features))], equal)
    return Fidelity(
        frechet=frechet(moments(features), reference),
        frechet_infinite=frechet_infinite(features, reference),
        kid=kid,
        kid_se=kid_se,
        **near,
    )


def moments(features: Array) -> tuple[Array, Array]:
    """Mean (d,), and covariance (d, d) which divides by n - 1, of (n, d) features."""
    mean = features.mean(axis=0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def symmetric_root(covariance: Array) -> Array:
    """The square root of a symmetric matrix; eigenvalues that rounding made negative count as 0."""
    values, vectors = np.linalg.eigh(covariance)
    root: Array = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return root


def frechet(sample_moments: tuple[Array, Array], reference: Reference) -> float:
    """|m - m'|^2 + tr(S + S' - 2 (S'^1/2 S S'^1/2)^1/2), between Gaussians.

    The matrix under the root is symmetric and has no negative eigenvalue, so its trace is a sum of
    real square roots for covariances of any rank (the usual root of S S' is neither).

    Source: Dowson and Landau 1982; Heusel et al. 2017 for features of images.

    Args:
        sample_moments: mean and covariance, as `moments` returns them.
        reference: the other set.
    """
    mean, covariance = sample_moments
    mean_of_reference, covariance_of_reference = reference.moments
    between = reference.root @ covariance @ reference.root
    values = np.linalg.eigvalsh((between + between.T) / 2)
    cross = np.sqrt(values.clip(0)).sum()
    squares = float(np.square(mean - mean_of_reference).sum())
    trace = float(np.trace(covariance) + np.trace(covariance_of_reference))
    return max(0.0, squares + trace - 2 * float(cross))


def frechet_infinite(features: Array, reference: Reference) -> float:
    """The Frechet distance extrapolated to infinitely many pictures; NaN if there are too few.

    With n pictures it is too large by about c/n. A line through the distances of all pictures, of
    their halves and of their quarters (means over the parts), against 1/n, meets 0 at infinitely
    many. The bias that a small reference causes remains.

    Source: Chong and Forsyth 2020, with parts that do not overlap.

    Args:
        features: (n, d) of the pictures.
        reference: the other set.
    """
    n, dims = features.shape
    if n // _PARTS[-1] <= dims:  # the covariances of the parts have no full rank
        return float("nan")
    distances = [
        np.mean([frechet(moments(features[part::parts]), reference) for part in range(parts)])
        for parts in _PARTS
    ]
    inverse = np.array(_PARTS) / n
    return float(np.polyfit(inverse, distances, 1)[1])


def kernel_distance(features: Array, reference: Reference) -> tuple[float, float]:
    """The unbiased squared MMD with the kernel (x.y/d + 1)^3, and its standard error.

    The error is that of a delete-one jackknife over both sets, for which row sums are enough.

    Source: Binkowski et al. 2018 (KID); Gretton et al. 2012, Eq. 3.

    Args:
        features: (n, d) of the pictures.
        reference: (m, d).
    """
    n, m = len(features), len(reference.features)
    own, others = _sums_over_others(features), reference.kernel_sums  # (n,), (m,)
    across_rows, across_columns = np.zeros(n), np.zeros(m)
    for rows in _blocks(n, m):
        kernel = _kernel(features[rows], reference.features)
        across_rows[rows] = kernel.sum(axis=1)
        across_columns += kernel.sum(axis=0)
    total_own, total_others, across = own.sum(), others.sum(), across_rows.sum()

    def distance(own: Array, others: Array, across: Array, n: int, m: int) -> Array:
        return own / (n * (n - 1)) + others / (m * (m - 1)) - 2 * across / (n * m)

    value = float(distance(total_own, total_others, across, n, m))
    without_one = distance(total_own - 2 * own, total_others, across - across_rows, n - 1, m)
    without_other = distance(
        total_own, total_others - 2 * others, across - across_columns, n, m - 1
    )
    variance = (n - 1) * without_one.var() + (m - 1) * without_other.var()
    return value, float(np.sqrt(variance))


def neighbour_radii(features: Array) -> Array:
    """Squared distances of (n, d) rows to their third and fifth nearest other row, (n, 2)."""
    n = len(features)
    radii = np.empty((n, 2))
    for rows in _blocks(n, n):
        distances = _squared_distances(features[rows], features)
        distances[np.arange(len(distances)), np.arange(n)[rows]] = -1.0  # itself comes first
        nearest = np.partition(distances, (_K_PRECISION, _K_COVERAGE), axis=1)
        radii[rows] = nearest[:, [_K_PRECISION, _K_COVERAGE]]
    return radii


def neighbours(features: Array, reference: Reference) -> dict[str, float]:
    """Precision and recall, density and coverage.

    A picture is near a reference image if it is no farther from it than its k-th nearest reference
    image (precision, density, coverage), and the other way round (recall).

    Source: Kynkaanniemi et al. 2019, Eq. 1-3 (k = 3); Naeem et al. 2020, Eq. 3-4 (k = 5).

    Args:
        features: (n, d) of the pictures.
        reference: (m, d).
    """
    n, m = len(features), len(reference.features)
    own, radii = neighbour_radii(features)[:, 0], reference.radii  # (n,), (m, 2)
    precise, count = np.zeros(n, bool), 0
    recalled, nearest = np.zeros(m, bool), np.full(m, np.inf)
    for rows in _blocks(n, m):
        distances = _squared_distances(features[rows], reference.features)  # (b, m)
        precise[rows] = (distances <= radii[:, 0]).any(axis=1)
        count += int((distances <= radii[:, 1]).sum())
        recalled |= (distances <= own[rows, None]).any(axis=0)
        nearest = np.minimum(nearest, distances.min(axis=0))
    return {
        "precision": float(precise.mean()),
        "recall": float(recalled.mean()),
        "density": count / (_K_COVERAGE * n),
        "coverage": float((nearest <= radii[:, 1]).mean()),
    }


def structural_similarity(pictures: Array, originals: Array) -> float:
    """The mean SSIM of pictures in [0, 1], channel by channel.

    Gaussian windows of deviation 1.5 and 11 x 11 pixels, of which only those inside the image
    count; in images with a side below 11, all do, and the image is mirrored at its edges.

    Source: Wang et al. 2004, Eq. 13, with K1 = 0.01 and K2 = 0.03.

    Args:
        pictures, originals: (n, C, H, W).
    """
    from scipy.ndimage import gaussian_filter

    def smooth(values: Array) -> Array:
        smoothed: Array = gaussian_filter(values, (0, 0, 1.5, 1.5), truncate=3.5)  # 5 each way
        return smoothed

    c1, c2, edge = 0.01**2, 0.03**2, 5
    total = 0.0
    for start in range(0, len(pictures), 1000):
        x, y = (np.asarray(e[start : start + 1000], np.float64) for e in (pictures, originals))
        mx, my = smooth(x), smooth(y)
        vx, vy, cov = smooth(x * x) - mx * mx, smooth(y * y) - my * my, smooth(x * y) - mx * my
        ssim = (2 * mx * my + c1) * (2 * cov + c2)
        ssim /= (mx * mx + my * my + c1) * (vx + vy + c2)
        if min(ssim.shape[2:]) > 2 * edge:
            ssim = ssim[:, :, edge:-edge, edge:-edge]
        total += float(ssim.mean(axis=(1, 2, 3)).sum())
    return total / len(pictures)


def peak_ratio(pictures: Array, originals: Array) -> float:
    """-10 log10 of the mean squared error of pictures in [0, 1], in dB; infinite if there is none.

    Args:
        pictures, originals: (n, C, H, W).
    """
    mse = float(
        np.mean(
            [np.square(np.float64(p) - o).mean() for p, o in zip(pictures, originals, strict=True)]
        )
    )
    return float("inf") if mse == 0 else -10 * float(np.log10(mse))


def _sums_over_others(features: Array) -> Array:
    """(n,) sums of the kernel of each row with all other rows."""
    n = len(features)
    sums = np.empty(n)
    for rows in _blocks(n, n):
        sums[rows] = _kernel(features[rows], features).sum(axis=1)
    return sums - _cubed(np.square(features).sum(axis=1) / features.shape[1])


def _kernel(x: Array, y: Array) -> Array:
    """(x.y/d + 1)^3 for all pairs of rows, (len(x), len(y))."""
    return _cubed(x @ y.T / x.shape[1])


def _cubed(product: Array) -> Array:
    plus_one = product + 1
    return plus_one * plus_one * plus_one


def _squared_distances(x: Array, y: Array) -> Array:
    """Squared distances of all pairs of rows; 0 if they are the same up to rounding."""
    norms = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)
    distances: Array = norms - 2 * (x @ y.T)
    distances[distances < _SAME * norms] = 0
    return distances


def _blocks(n: int, m: int) -> list[slice]:
    """Slices of n rows, such that their pairs with m others fit into memory."""
    size = max(1, _MOST_PAIRS // m)
    return [slice(start, start + size) for start in range(0, n, size)]
