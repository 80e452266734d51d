"""The look that all figures share, and how they are saved."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
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
_RC: dict[Any, Any] = {
    "pdf.fonttype": 42,  # fonts are embedded as text that can be edited
    "svg.fonttype": "none",
    "svg.hashsalt": "rdvae",
    "figure.dpi": 200,
    "axes.grid": True,
    "grid.alpha": 0.35,
    "legend.frameon": False,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Settings within which a figure is made."""
    with mpl.rc_context(
        {**sns.axes_style("ticks"), **sns.plotting_context("paper", font_scale=1.1), **_RC}
    ):
        yield


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
        figure.savefig(
            buffer, format=kind, bbox_inches="tight", metadata={dated: None} if dated else None
        )
    write_atomic(path, buffer.getvalue())
