"""The look that all figures share, and how they are saved."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rdkit_vae.files import write_atomic
from rdkit_vae.grammar import SIGMAS
from rdkit_vae.trial import DEFAULT_SIGMA2

OBJECTIVE_NAMES = {
    "constant": "constant variance",
    "optimal": "BS-VAE",
    "optimal-batch": "one variance a batch",
    "learned": "learned variance",
    "learned-image": "learned variance of z",
}
_READING_NAMES = {"half": r"$\sigma^2=1/2$", "beta-half": r"$\sigma^2=\beta/2$"}

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
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Settings within which a figure is made."""
    with mpl.rc_context({**sns.axes_style("ticks"), **sns.plotting_context("paper"), **_RC}):
        yield


def new_figure(columns: int, height: float) -> Figure:
    """An empty figure as wide as so many columns of a paper; text is of 7 to 8.5 points there.

    Args:
        columns: 1 or 2.
        height: inches.
    """
    return Figure(figsize=(WIDTHS[columns], height), layout="constrained")


def beta_axis(axes: Axes) -> None:
    """A logarithmic axis of betas, in decades."""
    axes.set(xscale="log", xlabel=r"$\beta$")
    axes.xaxis.set_major_locator(LogLocator(numticks=7))
    axes.xaxis.set_minor_formatter(NullFormatter())


def series_look(colour: int, shape: int) -> dict[str, Any]:
    """Look of a series: a colour that the colour-blind tell apart, a marker and a line style.

    Args:
        colour, shape: numbers of the two things that the look tells, from 0.
    """
    colours = sns.color_palette("colorblind")
    return {
        "color": colours[colour % len(colours)],
        "marker": _MARKERS[shape % len(_MARKERS)],
        "linestyle": _LINES[shape % len(_LINES)],
    }


def reading_look(sigma: str) -> dict[str, Any]:
    """Look of an interpretation, the same in every figure that tells them by colour."""
    rank = list(SIGMAS).index(sigma)
    return series_look(rank, rank)


def reading_name(sigma: str, *, c: float = DEFAULT_SIGMA2) -> str:
    """An interpretation as it is written in a legend, for models of the constant variance c."""
    if sigma == "beta-half" and c != DEFAULT_SIGMA2:
        return r"$\sigma^2=\beta C$"
    return _READING_NAMES.get(sigma, sigma)


def dataset_name(dataset: str) -> str:
    """A dataset as it is written in a title: the file of `npz:PATH`, and nothing to typeset."""
    return Path(dataset).name.replace("$", r"\$")


def objective_name(objective: str) -> str:
    """A training objective as it is written in a legend."""
    return OBJECTIVE_NAMES.get(objective, objective)


def plain_log_ticks(axis: Axis) -> None:
    """Ticks 1, 2, 5, 10, ... as plain numbers, for a logarithmic axis of a decade or two."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: Path) -> None:
    """Writes a figure in the format of the suffix, whole or not at all.

    Raises:
        BadData: the file cannot be written.
    """
    buffer = io.BytesIO()
    kind = path.suffix.removeprefix(".")
    dated = {"pdf": "CreationDate", "svg": "Date"}.get(kind)
    with mpl.rc_context(_RC):
        figure.savefig(buffer, format=kind, metadata={dated: None} if dated else None)
    write_atomic(path, buffer.getvalue())
