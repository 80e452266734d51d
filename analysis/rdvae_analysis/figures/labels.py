"""Small labels beside points, where there is room for them."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

Floats = npt.NDArray[np.float64]

SIZE = 6.5  # of the type, points
_WIDTH, _HEIGHT = 0.63 * SIZE, 0.95 * SIZE  # of a character
_AWAY = (3.0, 7.0)  # from the point to the label, points; the nearer if it is free
_MARKER = 1.2  # half of what of a marker a label must not cover, points
_STEP = 3.0  # between the samples of a line, points


@dataclass(frozen=True)
class Label:
    """A text for the point (x, y) of the data, to be written above or else below."""

    text: str
    x: float
    y: float
    above: bool = False


def place_labels(axes: Axes, labels: Sequence[Label], lines: Sequence[Floats]) -> None:
    """Writes each label on the first free side of its point; none where no side is free.

    Call it when the axes have their limits.

    Args:
        axes: where to write.
        labels: the more important first.
        lines: (n, 2) arrays of data points that are joined, which labels must not cover.
    """
    scale = 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    taken = _along([axes.transData.transform(line) * scale for line in lines])
    frame = axes.get_window_extent()
    low = np.array([frame.x0, frame.y0]) * scale
    high = np.array([frame.x1, frame.y1]) * scale
    boxes: list[tuple[Floats, Floats]] = []
    for label in labels:
        at = axes.transData.transform((label.x, label.y)) * scale
        if (at < low).any() or (at > high).any():
            continue
        size = np.array([_WIDTH * len(label.text), _HEIGHT])
        for offset in _offsets(size, label.above):
            a, b = at + offset - size / 2, at + offset + size / 2
            outside = (a < low).any() or (b > high).any()
            covered = ((taken > a - _MARKER) & (taken < b + _MARKER)).all(axis=1).any()
            overlaps = any((a < d).all() and (c < b).all() for c, d in boxes)
            if not (outside or covered or overlaps):
                boxes.append((a, b))
                _write(axes, label, offset)
                break


def _offsets(size: Floats, above: bool) -> Iterator[Floats]:
    for away in _AWAY:
        x, y = size / 2 + away
        for side in (1, -1) if above else (-1, 1):
            yield np.array([0, side * y])
            yield np.array([x, side * y * 0.6])
            yield np.array([-x, side * y * 0.6])
        yield np.array([x + 1, 0])
        yield np.array([-x - 1, 0])


def _along(lines: Sequence[Floats]) -> Floats:
    """Points at small steps along lines."""
    parts = [np.empty((0, 2))]
    for line in lines:
        parts.append(line)
        for a, b in itertools.pairwise(line):
            steps = int(min(np.hypot(*(b - a)) / _STEP, 2000)) + 1
            parts.append(a + (b - a) * np.linspace(0, 1, steps)[:, None])
    return np.concatenate(parts)


def _write(axes: Axes, label: Label, offset: Floats) -> None:
    axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(float(offset[0]), float(offset[1])),
        textcoords="offset points",
        fontsize=SIZE,
        ha="center",
        va="center",
        color="0.2",
        path_effects=[withStroke(linewidth=1.5, foreground="white")],
    )
