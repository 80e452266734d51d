"""Legends with headings: below the panels of a figure, or inside one of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rdvae_analysis.figures.fit import wrapped

Groups = Mapping[str, Sequence[Any]]  # labelled artists by the heading above them

_LETTERS = (60, 30, 22, 16)  # of a line, tried in turn until the legend fits
_WIDEST = 0.98  # share of the width of a figure


def add_key(figure: Figure, groups: Groups, *, rows: int = 1) -> None:
    """Puts a legend below the panels; the figure grows by its height, so that no panel shrinks.

    Args:
        figure: with its final width.
        groups: each gets its own columns below its heading; empty groups are skipped. A single
            group may have the heading "", which is not written.
        rows: below the headings, at least.
    """
    groups = {heading: list(artists) for heading, artists in groups.items() if artists}
    legend = None
    for rows_now, letters in _shapes(groups, rows):
        if legend is not None:
            legend.remove()
        handles, columns = _columns(groups, rows_now)
        labels = [wrapped(str(handle.get_label()), letters) for handle in handles]
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        if legend.get_window_extent().width <= _WIDEST * figure.bbox.width:
            break
    if legend is not None:
        height = legend.get_window_extent().height / figure.dpi
        figure.set_figheight(figure.get_figheight() + height)


def add_key_inside(axes: Axes, groups: Groups) -> None:
    """Puts the legend of `add_key` inside axes, where it covers least, a column per heading."""
    groups = {heading: list(artists) for heading, artists in groups.items() if artists}
    if groups:
        handles, columns = _columns(groups, max(map(len, groups.values())))
        labels = [wrapped(str(handle.get_label()), _LETTERS[1]) for handle in handles]
        axes.legend(handles, labels, loc="best", ncols=columns)


def _shapes(groups: Groups, rows: int) -> Iterator[tuple[int, int]]:
    """Rows and line lengths to try; lines get shorter only when more rows do not help."""
    longest = max(map(len, groups.values()), default=0)
    for letters in _LETTERS:
        for rows_now in range(min(rows, longest), longest + 1):
            yield rows_now, letters


def _columns(groups: Groups, rows: int) -> tuple[list[Any], int]:
    """The entries column by column, each padded to the same length, and the number of columns."""
    columns = []
    for heading, artists in groups.items():
        for start in range(0, len(artists), rows):
            part = list(artists[start : start + rows])
            head = [_text("" if start else heading)] if any(groups) else []
            columns.append([*head, *part, *(_text("") for _ in range(rows - len(part)))])
    return [entry for column in columns for entry in column], len(columns)


def _text(text: str) -> Line2D:
    return Line2D([], [], linestyle="", label=text or " ")
