"""Curves that can be compared: frontier, hull, interpolation, slope, area, means over seeds.

A curve is a DataFrame with a row per model: `rate` (nats per image) and a distortion of which less
is better, in the column that `value` names. For PSNR give its negative. Functions say in words, as
their second result, how many points they left out and why. Points of several readings, splits or
datasets are refused, and where a curve is wanted those of several objectives or seeds.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.interpolate import PchipInterpolator

from rdkit_vae.errors import BadInput
from rdkit_vae.text import counted
from rdvae_analysis.intervals import mean_interval
from rdvae_analysis.theory import Floats

Notes = list[str]

# The reading under which a model was trained: in its distortion, -dD/dR is beta.
TRAINING_SIGMA = {
    "constant": "own",
    "optimal": "optimal",
    "optimal-batch": "shared",
    "learned": "own",
    "learned-image": "own",
}
COLLAPSED = 0.5  # nats; below, models ignore x and a curve is a pile of points
_SAME_DISTORTION = ("dataset", "split", "sigma")  # one value each on a curve


def frontier(points: pd.DataFrame, value: str = "distortion") -> tuple[pd.DataFrame, Notes]:
    """The lower frontier: the points that no other beats or equals in rate and distortion both.

    Returns:
        Its rows by rising rate, the distortion strictly falling; and what was left out.
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
    """The lower convex hull: what mixing models at random would reach (Andrew's monotone chain).

    Returns:
        The frontier's rows on it by rising rate; and what was left out.
    """
    curve, notes = frontier(points, value)
    at = curve[["rate", value]].to_numpy(dtype=np.float64)
    chain: list[int] = []
    for i in range(len(at)):
        while len(chain) > 1 and _turns_up(at[chain[-2]], at[chain[-1]], at[i]):
            chain.pop()
        chain.append(i)
    return curve.iloc[chain], [*notes, *omitted(len(at) - len(chain), "above the hull")]


def at_rate(
    points: pd.DataFrame, rates: npt.ArrayLike, value: str = "distortion"
) -> tuple[pd.DataFrame, Notes]:
    """The frontier at wanted rates, monotone between its points (PCHIP).

    Returns:
        A row per rate: `rate`, the distortion, and the `beta` that reaches it (log-interpolated)
        where points have one; NaN beyond the ends of the curve; and what was left out.

    Raises:
        BadInput: the frontier has fewer than two points, or the points are of several curves.
    """
    one_curve(points)
    curve, notes = frontier(points, value)
    wanted = np.atleast_1d(np.asarray(rates, dtype=np.float64))
    found = pd.DataFrame({"rate": wanted, value: _line(curve, value)(wanted)})
    if "beta" in curve:
        betas = curve["beta"].astype(float)
        known = curve[np.isfinite(betas) & (betas > 0)]
        notes += omitted(len(curve) - len(known), "of no positive beta, in its interpolation")
        found["beta"] = _betas_at(known, wanted)
    return found, [*notes, *_beyond(found[value])]


def _betas_at(curve: pd.DataFrame, rates: Floats) -> Floats:
    if len(curve) < 2:
        return np.full(len(rates), np.nan)
    return np.asarray(np.exp(pchip(curve["rate"], np.log(curve["beta"].astype(float)))(rates)))


def at_distortion(
    points: pd.DataFrame, distortions: npt.ArrayLike, value: str = "distortion"
) -> tuple[pd.DataFrame, Notes]:
    """As `at_rate`, for wanted distortions: the same curve, read the other way."""
    one_curve(points)
    curve, notes = frontier(points, value)
    line, wanted = _line(curve, value), np.atleast_1d(np.asarray(distortions, dtype=np.float64))
    rates = [_first(line.solve(d, extrapolate=False)) for d in wanted]
    found, _ = at_rate(curve, rates, value)
    found[value] = wanted
    return found, [*notes, *_beyond(found["rate"])]


def slopes(points: pd.DataFrame, value: str = "distortion") -> tuple[pd.DataFrame, Notes]:
    """The local slope -dD/dR at each inner point of the frontier, to be seen beside its beta.

    Where every model minimises D + beta R the two agree, in the distortion of the variance that it
    was trained with (`TRAINING_SIGMA`): a check of training. The curve is then convex, and beta
    lies between the slopes of the chords to its neighbours whatever their distance; `slope` is
    the geometric interpolation of these two.

    Returns:
        The frontier's rows with `flatter` (chord to the next), `steeper` (chord to the last) and
        `slope`, NaN at the ends; and what was left out.
    """
    one_curve(points)
    curve, notes = frontier(points, value)
    steps = np.diff(curve["rate"].to_numpy(dtype=np.float64))
    chords = -np.diff(curve[value].to_numpy(dtype=np.float64)) / steps
    flatter, steeper = (np.full(len(curve), np.nan) for _ in range(2))
    slope = np.full(len(curve), np.nan)
    if len(curve) > 2:
        flatter[:-1], steeper[1:] = chords, chords
        before, after = steps[:-1], steps[1:]  # a chord's slope is that of the middle of its step
        weighted = np.log(chords[:-1]) * after + np.log(chords[1:]) * before
        slope[1:-1] = np.exp(weighted / (before + after))
    return curve.assign(flatter=flatter, steeper=steeper, slope=slope), notes


def shared_range(curves: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """The rates that all curves span.

    Raises:
        BadInput: there are none.
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

    Returns:
        A row per curve (`by`): `low` and `high` rate, `area` and its `mean` distortion, the area by
        high - low; and what was left out.

    Raises:
        BadInput: the curves share no range of rates.
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
    found = pd.DataFrame(rows)
    return found.assign(mean=found["area"] / (high - low)), notes


def over_seeds(
    rows: pd.DataFrame,
    by: Sequence[str],
    columns: Sequence[str],
    *,
    confidence: float = 0.95,
) -> tuple[pd.DataFrame, Notes]:
    """Means over seeds with their standard deviations and Student's t intervals.

    Args:
        rows: a row per model; `by` and `seed` tell them apart.
        by: what a mean is taken within.
        columns: numbers to average.
        confidence: of the intervals.

    Returns:
        A row per group: `seeds`, and for each column its mean under its own name, `_sd` (over
        seeds, of the sample: it divides by seeds - 1), `_low`, `_high` (NaN for one seed); and how
        many rows were left out as not finite.

    Raises:
        BadInput: a seed comes twice in a group.
    """
    finite = rows[np.isfinite(rows[list(columns)].astype(float)).all(axis=1)]
    if finite.duplicated([*by, "seed"]).any():
        raise BadInput(f"several rows of one seed: {', '.join(by)} do not tell them apart")
    found = []
    for name, part in finite.groupby(list(by), sort=False, dropna=False):
        n = len(part)
        row = {**dict(zip(by, name, strict=True)), "seeds": n}
        values = part[list(columns)].to_numpy(dtype=np.float64)  # (n, columns)
        mean, low, high = mean_interval(values, confidence)
        sd = values.std(axis=0, ddof=1) if n > 1 else np.full(len(columns), np.nan)
        for i, column in enumerate(columns):
            numbers = {"": mean, "_sd": sd, "_low": low, "_high": high}
            row |= {f"{column}{end}": float(each[i]) for end, each in numbers.items()}
        found.append(row)
    return pd.DataFrame(found), omitted(len(rows) - len(finite), "not finite")


def one_curve(points: pd.DataFrame) -> None:
    """Refuses points that are no curve.

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
    """In words, how many points a function left out; nothing if there are none."""
    return [f"left out {counted(count, 'point')} {why}"] if count else []


def _beyond(values: "pd.Series[float]") -> Notes:
    count = int(values.isna().sum())
    return [f"{counted(count, 'value')} beyond the ends of the curve"] if count else []


def _turns_up(a: Floats, b: Floats, c: Floats) -> bool:
    """Whether b lies on or above the chord from a to c."""
    return bool((b[0] - a[0]) * (c[1] - a[1]) <= (b[1] - a[1]) * (c[0] - a[0]))


def pchip(x: npt.ArrayLike, y: npt.ArrayLike) -> PchipInterpolator:
    """Monotone between its points, NaN beyond them."""
    return PchipInterpolator(np.asarray(x), np.asarray(y), extrapolate=False)


def _line(curve: pd.DataFrame, value: str) -> PchipInterpolator:
    if len(curve) < 2:
        raise BadInput(f"a curve needs two points on its frontier, this one has {len(curve)}")
    return pchip(curve["rate"], curve[value])


def _first(roots: Floats) -> float:
    return float(roots[0]) if len(roots) else float("nan")
