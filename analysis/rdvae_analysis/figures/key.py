"""The legend below the panels, as wide as the figure allows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rdvae_analysis.figures.fit import wrapped

Groups = Mapping[str, Sequence[Any]]  # artists with a label, by the heading above them

_LETTERS = (60, 30, 22, 16)  # of a line, tried in turn until the legend fits
_SIDES = 0.98  # of the width of a figure


def add_key(figure: Figure, groups: Groups, *, rows: int = 1) -> None:
    """Puts a legend below the panels; the figure grows by its height, so that no panel shrinks.

    Args:
        figure: as wide as it will be.
        groups: each in columns of its own, below its heading; an empty one takes no place. Where
            there is one group, its heading may be "": it is not written then.
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
        if legend.get_window_extent().width <= _SIDES * figure.bbox.width:
            break
    if legend is not None:
        height = legend.get_window_extent().height / figure.dpi
        figure.set_figheight(figure.get_figheight() + height)


def _shapes(groups: Groups, rows: int) -> Iterator[tuple[int, int]]:
    """Rows and letters of a line to try: lines are broken only where more rows do not help."""
    longest = max(map(len, groups.values()), default=0)
    for letters in _LETTERS:
        for rows_now in range(min(rows, longest), longest + 1):
            yield rows_now, letters


def _columns(groups: Groups, rows: int) -> tuple[list[Any], int]:
    """All entries down the columns, each column filled up, and how many columns there are."""
    columns = []
    for heading, artists in groups.items():
        for start in range(0, len(artists), rows):
            part = list(artists[start : start + rows])
            head = [_text("" if start else heading)] if any(groups) else []
            columns.append([*head, *part, *(_text("") for _ in range(rows - len(part)))])
    return [entry for column in columns for entry in column], len(columns)


def _text(text: str) -> Line2D:
    return Line2D([], [], linestyle="", label=text or " ")
