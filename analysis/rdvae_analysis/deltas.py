"""Bjøntegaard deltas: by how much two rate-distortion curves differ."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rdkit_vae.errors import BadInput
from rdkit_vae.text import counted
from rdvae_analysis.curves import COLLAPSED, frontier, omitted, one_curve, pchip
from rdvae_analysis.theory import Floats

_FEWEST = 4  # points of each curve
_OVERLAP = 0.5  # least share of the shorter of two ranges


@dataclass(frozen=True, kw_only=True)
class Delta:
    """How one curve differs from another (Bjøntegaard, VCEG-M33).

    Attributes:
        rate: mean difference of rate at equal distortion, percent; lower is better.
        distortion: mean difference of distortion at equal log rate, in its unit; lower is better.
        rates: range of rates of the mean, nats per image.
        distortions: range of distortions of the mean.
        notes: on points that were left out.
    """

    rate: float
    distortion: float
    rates: tuple[float, float]
    distortions: tuple[float, float]
    notes: tuple[str, ...]


def bjontegaard(anchor: pd.DataFrame, test: pd.DataFrame, value: str = "distortion") -> Delta:
    """Bjøntegaard deltas of `test` against `anchor`, over the common range of their frontiers.

    Curves are interpolated monotonically (PCHIP) over log rate. Collapsed models, with rates below
    `COLLAPSED`, are left out: in the logarithm they would make up most of the curve.

    Args:
        anchor: points of the curve to compare with, a row per model with `rate` in nats per image.
        test: points of the other curve.
        value: the column with the distortion, lower is better; for PSNR, pass its negative.

    Returns:
        `rate` in percent and `distortion` in its unit; negative if `test` is better.

    Raises:
        BadInput: one of them is not a single curve, or has fewer than four points on its frontier;
            or the two have less than half of the shorter range in common.
    """
    curves, notes = [], []
    for name, points in (("anchor", anchor), ("test", test)):
        one_curve(points)
        curve, left_out = frontier(points, value)
        kept = curve[curve["rate"] >= COLLAPSED]
        left_out += omitted(len(curve) - len(kept), f"collapsed (rate below {COLLAPSED:g})")
        notes += [f"{name}: {note}" for note in left_out]
        if len(kept) < _FEWEST:
            why = f" ({'; '.join(left_out)})" if left_out else ""
            raise BadInput(
                f"the {name} curve has {counted(len(kept), 'point')}, {_FEWEST} are needed{why}"
            )
        curves.append((np.log(kept["rate"].to_numpy()), kept[value].to_numpy()))
    (rate_a, value_a), (rate_b, value_b) = curves
    rates, values = _overlap(rate_a, rate_b, "rate"), _overlap(value_a, value_b, value)
    more_value = _mean_between((rate_b, value_b), rates) - _mean_between((rate_a, value_a), rates)
    falling_a, falling_b = ((v[::-1], r[::-1]) for r, v in curves)
    more_rate = _mean_between(falling_b, values) - _mean_between(falling_a, values)
    return Delta(
        rate=100 * float(np.expm1(more_rate)),
        distortion=more_value,
        rates=(float(np.exp(rates[0])), float(np.exp(rates[1]))),
        distortions=values,
        notes=tuple(notes),
    )


def _overlap(a: Floats, b: Floats, what: str) -> tuple[float, float]:
    low, high = max(a.min(), b.min()), min(a.max(), b.max())
    share = (high - low) / min(np.ptp(a), np.ptp(b))
    if share < _OVERLAP:
        raise BadInput(
            f"the curves overlap in {max(share, 0):.0%} of the shorter one's range of {what}, "
            f"{_OVERLAP:.0%} is needed"
        )
    return float(low), float(high)


def _mean_between(curve: tuple[Floats, Floats], ends: tuple[float, float]) -> float:
    return float(pchip(*curve).integrate(*ends)) / (ends[1] - ends[0])
