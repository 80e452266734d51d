"""Small labels beside points, where there is room for them."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text

Floats = npt.NDArray[np.float64]

SIZE = 6.5  # of the type, points
_AWAY = (1.0, 3.0, 5.0)  # from the point to the label, points; the nearest that is free
_AROUND = tuple(range(0, 360, 30))  # directions of a label from its point, degrees
_MARKER = 2.6  # half of a marker, which no label may cover, points
_CLEAR = 0.8  # from a line to a label, points
_CLEARER = 2.0  # by how much another's point must be further from a label than its own
_SAME_PLACE = 1.5  # points that lie nearer to each other are one to the eye
_STEP = 2.0  # between the samples of a line, points


@dataclass(frozen=True, kw_only=True)
class Label:
    """A text for a point of the data.

    Attributes:
        text: what is written.
        at: (x, y) of the point.
        own: (n, 2), all points that the text is true of; of any other, the label stays away.
        above: to be written above the point rather than below, if there is room.
        colour: of the text.
        upright: to be read from below, where points are close together.
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
    """Writes each label where it is clear whose it is; none where there is no such place.

    A label covers no point and no line, nor text that the axes have already, and its own point is
    the nearest to it. Call it when the axes have their limits and their place.

    Args:
        axes: where to write.
        labels: the more important first.
        markers: (n, 2), the points of the data.
        lines: (n, 2) arrays of data points that are joined.
    """
    room = _Room(axes, markers, lines)
    for label in labels:
        at = room.of_data(np.array([label.at]))[0]
        if not room.inside(at, at):
            continue
        text = _write(axes, label)
        size = room.size(text)
        others = room.without(label.own)
        for offset in _offsets(size, label.above):
            low, high = at + offset - size / 2, at + offset + size / 2
            nearest = _distances(others, low, high).min(initial=np.inf)
            clear = nearest > _distances(at[None], low, high)[0] + _CLEARER
            if clear and room.is_free(low, high):
                room.take(low, high)
                text.set_position((float(offset[0]), float(offset[1])))
                break
        else:
            text.remove()


def settle(axes: Axes, text: Text, markers: Floats, lines: Sequence[Floats]) -> None:
    """Moves a text along its axes to where it covers nothing, if there is such a place."""
    room = _Room(axes, markers, lines, but=text)
    box = text.get_window_extent()
    size, start = room.size(text), np.array([box.x0, box.y0]) * room.scale
    for left in np.linspace(start[0], room.low[0] + 3, 40):
        low = np.array([left, start[1]])
        if room.is_free(low, low + size):
            text.set_position((text.get_position()[0] + float(left - start[0]), 3))
            return


class _Room:
    """What is taken of axes, in points (1/72 inch) of the figure."""

    def __init__(
        self, axes: Axes, markers: Floats, lines: Sequence[Floats], but: Text | None = None
    ) -> None:
        self._axes = axes
        self.scale = 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
        frame = axes.get_window_extent()
        self.low = np.array([frame.x0, frame.y0]) * self.scale
        self._high = np.array([frame.x1, frame.y1]) * self.scale
        self._markers = self.of_data(markers)
        self._lines = _along([self.of_data(line) for line in lines])
        boxes = [text.get_window_extent() for text in axes.texts if text is not but]
        self._boxes = [
            (np.array([box.x0, box.y0]) * self.scale, np.array([box.x1, box.y1]) * self.scale)
            for box in boxes
        ]

    def of_data(self, points: Floats) -> Floats:
        return np.asarray(self._axes.transData.transform(points.reshape(-1, 2)) * self.scale)

    def size(self, text: Text) -> Floats:
        box = text.get_window_extent()
        return np.array([box.width, box.height]) * self.scale

    def without(self, own: Floats) -> Floats:
        """The points that are not those, nor hidden behind them."""
        mine = self.of_data(own)
        apart = np.abs(self._markers[:, None] - mine[None]).max(axis=2).min(axis=1)
        return np.asarray(self._markers[apart > _SAME_PLACE])

    def inside(self, low: Floats, high: Floats) -> bool:
        return bool((low >= self.low).all() and (high <= self._high).all())

    def is_free(self, low: Floats, high: Floats) -> bool:
        return (
            self.inside(low, high)
            and not _within(self._markers, low - _MARKER, high + _MARKER)
            and not _within(self._lines, low - _CLEAR, high + _CLEAR)
            and not any((low < b).all() and (a < high).all() for a, b in self._boxes)
        )

    def take(self, low: Floats, high: Floats) -> None:
        self._boxes.append((low, high))


def _within(points: Floats, low: Floats, high: Floats) -> bool:
    return bool(((points > low) & (points < high)).all(axis=1).any())


def _distances(points: Floats, low: Floats, high: Floats) -> Floats:
    """From each point to a box."""
    beyond = np.maximum(np.maximum(low - points, points - high), 0)
    return np.asarray(np.hypot(beyond[:, 0], beyond[:, 1]))


def _offsets(size: Floats, above: bool) -> Iterator[Floats]:
    """From a point to the middle of a label, the nearest and those on the wanted side first."""
    up = 90 if above else 270
    directions = sorted(_AROUND, key=lambda angle: (abs((angle - up + 180) % 360 - 180), angle))
    for away in _AWAY:
        for angle in directions:
            towards = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
            reach = towards / np.abs(towards).max()  # to the edge of a square about the point
            yield np.round(reach, 9) * size / 2 + towards * (away + _MARKER)


def _along(lines: Sequence[Floats]) -> Floats:
    """Points at small steps along lines."""
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
