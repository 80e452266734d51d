"""The look that all figures share, and how they are saved."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, Locator, MaxNLocator, NullLocator

from rdkit_vae.scoring.interpretations import SIGMAS
from rdkit_vae.system.files import write_output
from rdvae_analysis.names import dataset_name

# The palette "colorblind" of seaborn, whose import would take a second.
_COLOURS = (
    *("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"),
    *("#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"),
)
# Nine of the one to four of the other: no pair comes twice in 36 shapes.
_MARKERS = ("o", "D", "^", "s", "v", "P", "X", "<", "*")
_LINES = ("-", "--", ":", "-.")
WIDTHS = {1: 3.4, 2: 7.0}  # inches: one column of a paper, and both
_RC: dict[Any, Any] = {
    "pdf.fonttype": 42,  # TrueType, embedded, so that text stays text
    "svg.fonttype": "path",  # an SVG has no fonts of its own: outlines look the same everywhere
    "svg.hashsalt": "rdvae",
    "figure.dpi": 250,
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 8.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "text.color": "0.15",
    "axes.labelcolor": "0.15",
    "axes.edgecolor": "0.15",
    "axes.axisbelow": True,
    "axes.linewidth": 0.7,
    "xtick.color": "0.15",
    "ytick.color": "0.15",
    "grid.color": "0.8",
    "lines.solid_capstyle": "round",
    "axes.grid": True,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Settings within which a figure is made."""
    with mpl.rc_context(_RC):
        yield


def new_figure(columns: int, height: float) -> Figure:
    """An empty figure as wide as so many columns of a paper; text is of 7 to 8.5 points there.

    Args:
        columns: 1 or 2.
        height: inches.
    """
    figure = Figure(figsize=(WIDTHS[columns], height), layout="constrained")
    FigureCanvasAgg(figure)  # keeps what measures text, which is made for each text otherwise
    return figure


def new_panels(columns: int, count: int, height: float = 2.1) -> tuple[Figure, list[Axes]]:
    """As `new_figure`, with panels in rows of two or three, or below each other in one column.

    Args:
        columns: 1 or 2.
        count: panels.
        height: of a panel, inches.
    """
    across = 1 if columns == 1 else 2 if count in (2, 4) else min(count, 3)
    rows = -(-count // across)
    figure = new_figure(columns, height * rows + 0.3)
    panels = list(figure.subplots(rows, across, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]


def beta_axis(axes: Axes) -> None:
    """A logarithmic axis of betas."""
    axes.set(xscale="log", xlabel=r"$\beta$")
    log_ticks(axes.xaxis, most=7)


def series_look(colour: int, shape: int) -> dict[str, Any]:
    """Look of a series: a colour that the colour-blind tell apart, a marker and a line style.

    Args:
        colour, shape: numbers of the two things that the look tells, from 0.
    """
    return {
        "color": _COLOURS[colour % len(_COLOURS)],
        "marker": _MARKERS[shape % len(_MARKERS)],
        "linestyle": _LINES[shape % len(_LINES)],
    }


def reading_look(sigma: str, present: Iterable[str] = ()) -> dict[str, Any]:
    """Look of an interpretation, the same in every figure that tells them by colour.

    Args:
        sigma: its name.
        present: all that a figure shows; those that a user named come after the others.
    """
    rank = [*SIGMAS, *sorted({sigma, *present} - set(SIGMAS))].index(sigma)
    return series_look(rank, rank)


def dataset_title(dataset: str) -> str:
    """The name of a dataset in a title, with nothing in it that would be typeset."""
    return dataset_name(dataset).replace("$", r"\$")


def log_ticks(axis: Axis, *, most: int = 6) -> None:
    """Ticks of a logarithmic axis: decades, or 1, 2, 5 of each, or even steps in a short range.

    Args:
        axis: of a logarithmic scale.
        most: ticks that there is room for.
    """
    axis.set_major_locator(_LogTicks(most))
    axis.set_major_formatter(_LogNumbers())
    axis.set_minor_locator(NullLocator())


class _LogTicks(Locator):
    def __init__(self, most: int) -> None:
        self._most = most

    def __call__(self) -> Sequence[float]:
        assert self.axis is not None
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        low, high = sorted((vmin, vmax))
        if not (low > 0 and np.isfinite(high)):
            return []
        places = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        for digits, fewest in (((1,), 3), ((1, 2, 5), 2)):
            ticks = np.outer(10.0**places, digits).ravel()
            inside = ticks[(ticks >= low) & (ticks <= high)]
            if len(inside) >= fewest:
                return list(inside[:: -(-len(inside) // self._most)])
        even = MaxNLocator(self._most - 1, steps=[1, 2, 5, 10]).tick_values(low, high)
        return [float(tick) for tick in even if low <= tick <= high]


class _LogNumbers(Formatter):
    def __call__(self, x: float, pos: int | None = None) -> str:
        assert self.axis is not None
        low, high = self.axis.get_view_interval()
        power = np.log10(x)
        if power == np.round(power) and (high > 3e4 * low or not 1e-3 <= x < 1e5):
            return f"$10^{{{power:.0f}}}$"
        return f"{x:g}"


def save(figure: Figure, path: Path) -> None:
    """Writes a figure in the format of the suffix, as `system.files.write_output` writes.

    Raises:
        BadData: the file cannot be written.
    """
    buffer = io.BytesIO()
    kind = path.suffix.removeprefix(".")
    dated = {"pdf": "CreationDate", "svg": "Date"}.get(kind)
    with mpl.rc_context(_RC):
        figure.savefig(buffer, format=kind, metadata={dated: None} if dated else None)
    write_output(path, buffer.getvalue())
