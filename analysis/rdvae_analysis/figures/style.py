"""The look that all figures share, and how they are saved."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from rdkit_vae.files import write_atomic

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
