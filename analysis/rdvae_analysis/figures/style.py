"""The style that all figures share, the panels they are drawn in, and how they are saved."""

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, Locator, MaxNLocator, NullLocator

from rdkit_vae.scoring.interpretations import SIGMAS
from rdkit_vae.system.files import write_output
from rdkit_vae.text import counted
from rdvae_analysis.figures.fit import fit_texts, fit_texts_of, wrapped
from rdvae_analysis.figures.key import Groups, add_key, add_key_inside
from rdvae_analysis.names import dataset_name

# The palette "colorblind" of seaborn, whose import would take a second.
_COLOURS = (
    *("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"),
    *("#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"),
)
# Nine markers and four line styles: the pairs repeat only after 36 shapes.
_MARKERS = ("o", "D", "^", "s", "v", "P", "X", "<", "*")
_LINES = ("-", "--", ":", "-.")
WIDTHS = {1: 3.4, 2: 7.0}  # inches: one column of a paper, and both
# Names below an axis of models: letters in an inch, the least that a line may have, and the most
# that a name written upwards keeps.
_LETTERS_PER_INCH, _FEWEST_LETTERS, _LONGEST_NAME = 15, 9, 20
_RC: dict[Any, Any] = {
    "pdf.fonttype": 42,  # TrueType, embedded, so that text stays text
    "svg.fonttype": "path",  # an SVG has no fonts of its own: outlines look the same everywhere
    "svg.hashsalt": "rdvae",
    "figure.dpi": 250,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
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
    """Matplotlib settings for drawing a figure; the user's own are restored afterwards."""
    with mpl.rc_context(_RC):
        yield


def new_figure(columns: int, height: float) -> Figure:
    """An empty figure for print, with text of 7 to 8.5 points.

    Args:
        columns: width in columns of a paper, 1 or 2.
        height: inches.
    """
    figure = Figure(figsize=(WIDTHS[columns], height), layout="constrained")
    FigureCanvasAgg(figure)  # keeps one renderer to measure text, instead of one per text
    return figure


def panel(ax: Axes | None, columns: int, height: float) -> Axes:
    """The panel of a figure that has only one: `ax` if the user gave one, else in a new figure.

    Args:
        ax: the user's axes.
        columns, height: as for `new_figure`.
    """
    return new_figure(columns, height).subplots() if ax is None else ax


def finish(axes: Axes, groups: Groups, *, rows: int, ax: Axes | None) -> Figure:
    """Adds the legend and breaks long titles and labels into lines.

    Args:
        axes: a panel of the figure.
        groups: entries of the legend by heading, as for `add_key`.
        rows: of the legend, at least.
        ax: the axes that the user gave, if any. Then the legend goes inside them, and nothing else
            in their figure is changed.

    Returns:
        The figure.
    """
    figure = root_figure(axes)
    if ax is None:
        add_key(figure, groups, rows=rows)
        fit_texts(figure)
    else:
        add_key_inside(ax, groups)
        fit_texts_of(ax)
    return figure


def root_figure(axes: Axes) -> Figure:
    """The figure that axes belong to, also through subfigures."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def new_panels(columns: int, count: int, height: float = 2.1) -> tuple[Figure, list[Axes]]:
    """A new figure with panels in rows of two or three, or one below the other in one column.

    Args:
        columns: width in columns of a paper, 1 or 2.
        count: number of panels.
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
    """Makes the x axis a logarithmic axis of beta."""
    axes.set(xscale="log", xlabel=r"$\beta$")
    log_ticks(axes.xaxis, most=7)


def model_axis(axes: Axes, names: Sequence[str], betas: Sequence[float]) -> None:
    """Makes the x axis one of models from elsewhere at 0, 1, ..., each with its name and beta."""
    width = axes.get_window_extent().width / root_figure(axes).dpi  # inches
    letters = int(width * _LETTERS_PER_INCH / len(names))
    flat = letters >= _FEWEST_LETTERS
    if not flat:
        names = [n if len(n) <= _LONGEST_NAME else n[: _LONGEST_NAME - 1] + "…" for n in names]
    labels = [
        name if math.isnan(beta) else rf"{name}, $\beta={beta:g}$"
        for name, beta in zip(names, betas, strict=True)
    ]
    shown = [wrapped(label, letters, inside_words=True) if flat else label for label in labels]
    axes.set_xticks(range(len(shown)), shown, rotation=0 if flat else 90)
    axes.set_xlim(-0.6, len(shown) - 0.4)
    axes.grid(visible=True, axis="x")


def series_look(colour: int, shape: int) -> dict[str, Any]:
    """The look of a series: a colour of a colour-blind-safe palette, a marker and a line style.

    Args:
        colour: number of the colour, from 0.
        shape: number of the marker and line style, from 0.
    """
    return {
        "color": _COLOURS[colour % len(_COLOURS)],
        "marker": _MARKERS[shape % len(_MARKERS)],
        "linestyle": _LINES[shape % len(_LINES)],
    }


def interpretation_look(sigma: str, present: Iterable[str] = ()) -> dict[str, Any]:
    """The look of an interpretation, the same in every figure that has a colour for each.

    Args:
        sigma: its name.
        present: all interpretations in the figure; those without a fixed place come last.
    """
    rank = [*SIGMAS, *sorted({sigma, *present} - set(SIGMAS))].index(sigma)
    return series_look(rank, rank)


def dataset_title(dataset: str) -> str:
    """The name of a dataset for a title, escaped so that it is not taken for a formula."""
    return dataset_name(dataset).replace("$", r"\$")


def seeds_in_words(points: pd.DataFrame) -> str:
    """`1 seed`, `3 seeds` or `1 to 3 seeds`: how many `runs` each point is a mean of."""
    fewest, most = int(points["runs"].min()), int(points["runs"].max())
    return f"{fewest} to {most} seeds" if fewest < most else counted(most, "seed")


def log_ticks(axis: Axis, *, most: int = 6) -> None:
    """Ticks of a logarithmic axis: decades, or 1, 2, 5 of each, or even steps in a short range.

    Args:
        axis: with a logarithmic scale.
        most: number of ticks at most.
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
    """Writes a figure in the format of its suffix (.png, .pdf or .svg), whole or not at all.

    Raises:
        BadData: the file cannot be written.
    """
    buffer = io.BytesIO()
    kind = path.suffix.removeprefix(".")
    dated = {"pdf": "CreationDate", "svg": "Date"}.get(kind)
    with mpl.rc_context(_RC):
        figure.savefig(buffer, format=kind, metadata={dated: None} if dated else None)
    write_output(path, buffer.getvalue())
