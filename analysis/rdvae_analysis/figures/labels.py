"""Small labels beside points, placed where there is room for them."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text

Floats = npt.NDArray[np.float64]

# Lengths in points, 1/72 inch.
SIZE = 6.5  # of the font
_DISTANCES = (1.0, 3.0, 5.0)  # of a label from its marker, tried in turn
_DIRECTIONS = tuple(range(0, 360, 30))  # of a label from its point, degrees
_MARKER = 2.6  # half the size of a marker, which no label may cover
_LINE_DISTANCE = 0.8  # of a label from any line, at least
_OWN_IS_NEARER = 2.0  # than the points of other labels, by at least this
_SAME_PLACE = 1.5  # points closer to each other than this look like one
_STEP = 2.0  # between the samples of a line


@dataclass(frozen=True, kw_only=True)
class Label:
    """A text for a point of the data.

    Attributes:
        text: to write.
        at: (x, y) of the point.
        own: (n, 2), all points that the text describes; the label keeps away from all others.
        above: whether to prefer a place above the point to one below.
        colour: of the text.
        upright: whether to write upwards, for points that are close together.
    """

    text: str
    at: tuple[float, float]
    own: Floats
    above: bool = False
    colour: str = "0.2"
    upright: bool = False


def place_labels(
    axes: Axes, labels: Sequence[Label], markers: Floats, lines: Sequence[Floats]
) -> None:
    """Writes each label where it is clear which point it belongs to, or not at all.

    A label covers no point, line or other text of the axes, and the point nearest to it is its own.
    Call it once the axes have their limits and their position.

    Args:
        axes: to write into.
        labels: in order of importance.
        markers: (n, 2), the points of the data.
        lines: (n, 2) arrays, each the points of a line.
    """
    room = _Room(axes, markers, lines)
    for label in labels:
        at = room.from_data(np.array([label.at]))[0]
        if not room.inside(at, at):
            continue
        text = _write(axes, label)
        size = room.size(text)
        others = room.without(label.own)
        for offset in _offsets(size, label.above):
            low, high = at + offset - size / 2, at + offset + size / 2
            nearest = _distances(others, low, high).min(initial=np.inf)
            clear = nearest > _distances(at[None], low, high)[0] + _OWN_IS_NEARER
            if clear and room.is_free(low, high):
                room.occupy(low, high)
                text.set_position((float(offset[0]), float(offset[1])))
                break
        else:
            text.remove()


def settle(axes: Axes, text: Text, markers: Floats, lines: Sequence[Floats]) -> None:
    """Moves a text to the left until it covers nothing, if there is such a place."""
    room = _Room(axes, markers, lines, ignored=text)
    box = text.get_window_extent()
    size, start = room.size(text), np.array([box.x0, box.y0]) * room.scale
    for left in np.linspace(start[0], room.low[0] + 3, 40):
        low = np.array([left, start[1]])
        if room.is_free(low, low + size):
            text.set_position((text.get_position()[0] + float(left - start[0]), 3))
            return


class _Room:
    """The free and the occupied places in axes, in points (1/72 inch) of the figure."""

    def __init__(
        self, axes: Axes, markers: Floats, lines: Sequence[Floats], ignored: Text | None = None
    ) -> None:
        self._axes = axes
        self.scale = 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
        frame = axes.get_window_extent()
        self.low = np.array([frame.x0, frame.y0]) * self.scale
        self._high = np.array([frame.x1, frame.y1]) * self.scale
        self._markers = self.from_data(markers)
        self._lines = _along([self.from_data(line) for line in lines])
        boxes = [text.get_window_extent() for text in axes.texts if text is not ignored]
        self._boxes = [
            (np.array([box.x0, box.y0]) * self.scale, np.array([box.x1, box.y1]) * self.scale)
            for box in boxes
        ]

    def from_data(self, points: Floats) -> Floats:
        return np.asarray(self._axes.transData.transform(points.reshape(-1, 2)) * self.scale)

    def size(self, text: Text) -> Floats:
        box = text.get_window_extent()
        return np.array([box.width, box.height]) * self.scale

    def without(self, own: Floats) -> Floats:
        """All points but those, and but the ones hidden behind them."""
        excluded = self.from_data(own)
        distance = np.abs(self._markers[:, None] - excluded[None]).max(axis=2).min(axis=1)
        return np.asarray(self._markers[distance > _SAME_PLACE])

    def inside(self, low: Floats, high: Floats) -> bool:
        return bool((low >= self.low).all() and (high <= self._high).all())

    def is_free(self, low: Floats, high: Floats) -> bool:
        return (
            self.inside(low, high)
            and not _any_inside(self._markers, low - _MARKER, high + _MARKER)
            and not _any_inside(self._lines, low - _LINE_DISTANCE, high + _LINE_DISTANCE)
            and not any((low < b).all() and (a < high).all() for a, b in self._boxes)
        )

    def occupy(self, low: Floats, high: Floats) -> None:
        self._boxes.append((low, high))


def _any_inside(points: Floats, low: Floats, high: Floats) -> bool:
    return bool(((points > low) & (points < high)).all(axis=1).any())


def _distances(points: Floats, low: Floats, high: Floats) -> Floats:
    """The distance of each point from a box."""
    beyond = np.maximum(np.maximum(low - points, points - high), 0)
    return np.asarray(np.hypot(beyond[:, 0], beyond[:, 1]))


def _offsets(size: Floats, above: bool) -> Iterator[Floats]:
    """From a point to the middle of its label; short ones on the preferred side come first."""
    up = 90 if above else 270
    directions = sorted(_DIRECTIONS, key=lambda angle: (abs((angle - up + 180) % 360 - 180), angle))
    for distance in _DISTANCES:
        for angle in directions:
            towards = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
            reach = towards / np.abs(towards).max()  # to the edge of a square about the point
            yield np.round(reach, 9) * size / 2 + towards * (distance + _MARKER)


def _along(lines: Sequence[Floats]) -> Floats:
    """Points in small steps along lines."""
    parts = [np.empty((0, 2))]
    for line in lines:
        parts.append(line)
        for a, b in itertools.pairwise(line):
            steps = int(min(np.hypot(*(b - a)) / _STEP, 2000)) + 1
            parts.append(a + (b - a) * np.linspace(0, 1, steps)[:, None])
    return np.concatenate(parts)


def _write(axes: Axes, label: Label) -> Annotation:
    return axes.annotate(
        label.text,
        label.at,
        xytext=(0, 0),
        textcoords="offset points",
        fontsize=SIZE,
        ha="center",
        va="center",
        color=label.colour,
        rotation=90 if label.upright else 0,
        path_effects=[withStroke(linewidth=1.5, foreground="white")],
    )
