"""Curves and how to compare them: frontier, hull, interpolation, slope, area.

A curve is a DataFrame with a row per model: `rate` (nats per image) and a distortion, lower is
better, in the column that `value` names. For PSNR, pass its negative. The second result of each
function is a list of notes that say how many points were left out and why. Points of several
interpretations, splits or datasets raise `BadInput`; where a single curve is needed, so do those of
several objectives, constants or seeds.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from rdkit_vae.errors import BadInput
from rdkit_vae.text import counted
from rdvae_analysis.theory import Floats

if TYPE_CHECKING:
    from scipy.interpolate import PchipInterpolator

Notes = list[str]

# The interpretation that a model was trained under: in its distortion, -dD/dR is beta.
TRAINING_SIGMA = {
    "constant": "own",
    "optimal": "optimal",
    "optimal-batch": "shared",
    "learned": "own",
    "learned-image": "own",
    "student": "own",
}
COLLAPSED = 0.5  # nats; with a lower rate, models ignore x and all their points coincide
_SAME_DISTORTION = ("dataset", "split", "sigma")  # a curve has one value of each


def frontier(points: pd.DataFrame, value: str = "distortion") -> tuple[pd.DataFrame, Notes]:
    """The lower frontier: the points that no other point equals or beats in rate and distortion.

    Args:
        points: a row per model.
        value: the column with the distortion.

    Returns:
        The rows on it by rising rate, with strictly falling distortion; and notes.

    Raises:
        BadInput: points of several interpretations, splits or datasets.
    """
    _check_one(points, _SAME_DISTORTION, "their distortions do not compare")
    points = points.astype({"rate": float, value: float})
    finite = points[np.isfinite(points[["rate", value]]).all(axis=1)]
    ordered = finite.sort_values(["rate", value], kind="stable")
    best = ordered[value].cummin().shift(fill_value=np.inf)
    kept = ordered[ordered[value] < best]
    return kept, [
        *omitted(len(points) - len(finite), "not finite"),
        *omitted(len(finite) - len(kept), "not on the frontier"),
    ]


def hull(points: pd.DataFrame, value: str = "distortion") -> tuple[pd.DataFrame, Notes]:
    """The lower convex hull: what choosing between models at random reaches.

    By Andrew's monotone chain.

    Args:
        points: a row per model.
        value: the column with the distortion.

    Returns:
        The rows of the frontier on it by rising rate; and notes.

    Raises:
        BadInput: as for `frontier`.
    """
    curve, notes = frontier(points, value)
    xy = curve[["rate", value]].to_numpy(dtype=np.float64)  # (n, 2)
    chain: list[int] = []
    for i in range(len(xy)):
        while len(chain) > 1 and _turns_up(xy[chain[-2]], xy[chain[-1]], xy[i]):
            chain.pop()
        chain.append(i)
    return curve.iloc[chain], [*notes, *omitted(len(xy) - len(chain), "above the hull")]


def at_rate(
    points: pd.DataFrame, rates: npt.ArrayLike, value: str = "distortion"
) -> tuple[pd.DataFrame, Notes]:
    """The frontier at given rates, interpolated monotonically between its points (PCHIP).

    Args:
        points: of one curve, a row per model.
        rates: nats per image, any shape.
        value: the column with the distortion.

    Returns:
        A row per rate: `rate`, the distortion, and the `beta` that reaches it (interpolated in its
        logarithm) if the points have one; NaN beyond the ends of the curve. And notes.

    Raises:
        BadInput: the frontier has fewer than two points, or the points are of several curves.
    """
    one_curve(points)
    curve, notes = frontier(points, value)
    at = np.asarray(rates, dtype=np.float64).ravel()
    table = pd.DataFrame({"rate": at, value: _line(curve, value)(at)})
    if "beta" in curve:
        betas = curve["beta"].astype(float)
        known = curve[np.isfinite(betas) & (betas > 0)]
        notes += omitted(
            len(curve) - len(known), "without a positive beta from the interpolation of beta"
        )
        table["beta"] = _betas_at(known, at)
    return table, [*notes, *_beyond(table[value])]


def _betas_at(curve: pd.DataFrame, rates: Floats) -> Floats:
    if len(curve) < 2:
        return np.full(len(rates), np.nan)
    return np.asarray(np.exp(pchip(curve["rate"], np.log(curve["beta"].astype(float)))(rates)))


def at_distortion(
    points: pd.DataFrame, distortions: npt.ArrayLike, value: str = "distortion"
) -> tuple[pd.DataFrame, Notes]:
    """The inverse of `at_rate`: the rate and beta that reach given distortions.

    Args:
        points: of one curve, a row per model.
        distortions: in the unit of `value`, any shape.
        value: the column with the distortion.

    Returns:
        A row per distortion, as `at_rate` returns them.

    Raises:
        BadInput: as for `at_rate`.
    """
    one_curve(points)
    curve, notes = frontier(points, value)
    line, at = _line(curve, value), np.asarray(distortions, dtype=np.float64).ravel()
    rates = [_first(line.solve(distortion, extrapolate=False)) for distortion in at]
    table, _ = at_rate(curve, rates, value)
    table[value] = at
    return table, [*notes, *_beyond(table["rate"])]


def slopes(points: pd.DataFrame, value: str = "distortion") -> tuple[pd.DataFrame, Notes]:
    """The local slope -dD/dR at each inner point of the frontier, to compare with its beta.

    They agree if every model minimises D + beta R, with the distortion of the variance that it was
    trained with (`TRAINING_SIGMA`): a check of training. Then the curve is convex, and beta lies
    between the slopes of the chords to both neighbours, however far these are; `slope` is the
    geometric interpolation of the two.

    Args:
        points: of one curve, a row per model.
        value: the column with the distortion.

    Returns:
        The rows of the frontier with `flatter` (slope of the chord to the next point), `steeper`
        (to the one before) and `slope`, all in units of `value` per nat and NaN at the ends; and
        notes.

    Raises:
        BadInput: the points are of several curves.
    """
    one_curve(points)
    curve, notes = frontier(points, value)
    steps = np.diff(curve["rate"].to_numpy(dtype=np.float64))
    chords = -np.diff(curve[value].to_numpy(dtype=np.float64)) / steps
    flatter, steeper = (np.full(len(curve), np.nan) for _ in range(2))
    slope = np.full(len(curve), np.nan)
    if len(curve) > 2:
        flatter[:-1], steeper[1:] = chords, chords
        before, after = steps[:-1], steps[1:]  # the slope of a chord holds in its middle
        weighted = np.log(chords[:-1]) * after + np.log(chords[1:]) * before
        slope[1:-1] = np.exp(weighted / (before + after))
    return curve.assign(flatter=flatter, steeper=steeper, slope=slope), notes


def shared_range(curves: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """The lowest and highest rate that all curves span.

    Raises:
        BadInput: there is no such range, or no curve.
    """
    if not curves:
        raise BadInput("there is no curve")
    low = max(float(curve["rate"].min()) for curve in curves)
    high = min(float(curve["rate"].max()) for curve in curves)
    if not low < high:
        raise BadInput("the curves share no range of rates")
    return low, high


def areas(
    points: pd.DataFrame, by: Sequence[str], value: str = "distortion"
) -> tuple[pd.DataFrame, Notes]:
    """The area under each curve over the rates that all of them span.

    Args:
        points: of several curves, a row per model.
        by: columns with one combination of values per curve.
        value: the column with the distortion.

    Returns:
        A row per curve: the columns of `by`, `low` and `high` (the rates), `area` (rate times
        distortion) and `mean` (the mean distortion, area / (high - low)); and notes.

    Raises:
        BadInput: the curves share no range of rates, or `by` does not separate the curves.
    """
    curves, notes = {}, []
    for name, part in points.groupby(list(by), sort=False, dropna=False):
        one_curve(part)
        curves[name], left_out = frontier(part, value)
        notes += [f"{', '.join(map(str, name))}: {note}" for note in left_out]
    low, high = shared_range(list(curves.values()))
    rows = []
    for name, curve in curves.items():
        area = float(_line(curve, value).integrate(low, high))
        rows.append({**dict(zip(by, name, strict=True)), "low": low, "high": high, "area": area})
    table = pd.DataFrame(rows)
    return table.assign(mean=table["area"] / (high - low)), notes


def one_curve(points: pd.DataFrame) -> None:
    """Checks that points form one curve.

    Raises:
        BadInput: they are of several objectives, constants or seeds.
    """
    _check_one(points, ("objective", "train_sigma2", "seed"), "over_seeds averages seeds")


def _check_one(points: pd.DataFrame, columns: Sequence[str], why: str) -> None:
    for name in columns:
        values = points[name].unique() if name in points else ()
        if len(values) > 1:
            some = ", ".join(str(value) for value in values[:3])
            raise BadInput(f"a curve has one {name}, these points have {some}: {why}")


def omitted(count: int, why: str) -> Notes:
    """A note on how many points were left out; none if there are none."""
    return [f"left out {counted(count, 'point')} {why}"] if count else []


def _beyond(values: "pd.Series[float]") -> Notes:
    count = int(values.isna().sum())
    return [f"{counted(count, 'value')} beyond the ends of the curve"] if count else []


def _turns_up(a: Floats, b: Floats, c: Floats) -> bool:
    """Whether b lies on or above the chord from a to c."""
    return bool((b[0] - a[0]) * (c[1] - a[1]) <= (b[1] - a[1]) * (c[0] - a[0]))


def pchip(x: npt.ArrayLike, y: npt.ArrayLike) -> "PchipInterpolator":
    """Interpolates monotonically between points; NaN beyond them."""
    from scipy.interpolate import PchipInterpolator  # slow to import

    return PchipInterpolator(np.asarray(x), np.asarray(y), extrapolate=False)


def _line(curve: pd.DataFrame, value: str) -> "PchipInterpolator":
    if len(curve) < 2:
        raise BadInput(f"a curve needs two points on its frontier, this one has {len(curve)}")
    return pchip(curve["rate"], curve[value])


def _first(roots: Floats) -> float:
    return float(roots[0]) if len(roots) else float("nan")
