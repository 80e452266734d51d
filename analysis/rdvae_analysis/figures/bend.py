"""A y axis that is linear where most of the data lies, and logarithmic above."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

Floats = npt.NDArray[np.float64]

# All as shares of the height of the linear part.
_LOG_PART = 0.35  # height of the logarithmic part
_BELOW = 0.1  # room below the lowest value
_TICK_DISTANCE = 0.11  # between ticks above the bend, at least: the height of a number


def bend_above(axes: Axes, low: float, bend: float, high: float) -> Text | None:
    """Makes a y axis linear from `low` to `bend` and logarithmic from there to `high`.

    Does nothing unless the range above the bend is larger than the one below it.

    Args:
        axes: whose y axis it is.
        low, bend, high: in data units.

    Returns:
        The note on the line where the axis bends, which may be moved along that line.
    """
    span = bend - low
    if high - bend <= span or span <= 0:
        return None
    slope = _LOG_PART / np.log1p((high - bend) / span)

    def forward(value: Floats) -> Floats:
        linear = (np.asarray(value) - low) / span
        bent = 1 + slope * np.log1p(np.maximum(linear - 1, 0))
        return np.asarray(np.where(linear <= 1, linear, bent))

    def inverse(height: Floats) -> Floats:
        above = np.maximum(np.asarray(height) - 1, 0)
        linear = np.where(above > 0, 1 + np.expm1(above / slope), height)
        return np.asarray(low + span * linear)

    axes.set_yscale("function", functions=(forward, inverse))
    axes.set_ylim(low - _BELOW * span, float(inverse(np.array(1.06 + _LOG_PART))))
    axes.axhline(bend, color="0.6", linewidth=0.7, linestyle=":", zorder=0)
    note = axes.annotate(
        "logarithmic above",
        (1, bend),
        xycoords=("axes fraction", "data"),
        xytext=(-3, 3),
        textcoords="offset points",
        ha="right",
        fontsize=7,
        color="0.4",
    )
    ticks = np.asarray(MaxNLocator(6).tick_values(low, bend))
    kept = [*ticks[(ticks >= low - _BELOW * span) & (ticks <= bend)]]
    decades = 10.0 ** np.arange(-3, 16)
    for decade in decades[(decades > bend) & (decades <= 1.2 * high)]:
        if not kept or forward(decade) - forward(kept[-1]) > _TICK_DISTANCE:
            kept.append(decade)
    axes.yaxis.set_major_locator(FixedLocator(kept))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    return note


def _tick(value: float, place: int | None) -> str:
    return f"{value:,.10g}".replace("-", "\N{MINUS SIGN}")
