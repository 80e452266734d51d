"""Breaks titles and labels into lines where they are wider than the figure allows."""

import re
import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

_FORMULA = re.compile(r"(?<!\\)\$.*?(?<!\\)\$")
_SPACE = "\0"  # stands for a space at which no line may be broken
_FEWEST = 6  # letters of a line
_LAYOUTS = 4  # at most; broken text takes more room and leaves less to other text


def fit_texts(figure: Figure) -> None:
    """Breaks the titles and axis labels that are longer than their panel or figure.

    Call it once the figure has its size and all of its text; it runs the layout again.
    """
    for _ in range(_LAYOUTS):
        engine = figure.get_layout_engine()
        assert engine is not None
        engine.execute(figure)
        if not _break_all(figure):
            break


def fit_texts_of(axes: Axes) -> bool:
    """Breaks the title and labels of axes that are too long for their size as it is now.

    Returns:
        Whether any was.
    """
    frame = axes.get_window_extent()
    broken = [
        _break(axes.title, frame.width),
        _break(axes.xaxis.label, frame.width),
        _break(axes.yaxis.label, frame.height, upright=True),
    ]
    return any(broken)


def _break_all(figure: Figure) -> bool:
    """Breaks all text that is too long for the panels, which makes them smaller; whether any."""
    broken = [fit_texts_of(axes) for axes in figure.axes]
    title: Text | None = figure._suptitle  # type: ignore[attr-defined]
    if title is not None:
        broken.append(_break(title, 0.98 * figure.bbox.width))
    return any(broken)


def wrapped(text: str, letters: int, *, inside_words: bool = False) -> str:
    """Wraps a text at spaces outside formulas.

    Args:
        text: with formulas between dollar signs.
        letters: of a line at most; a longer word gets its own line.
        inside_words: breaks longer words too.
    """
    whole = _FORMULA.sub(lambda formula: formula[0].replace(" ", _SPACE), text)
    lines = [
        textwrap.fill(line, max(letters, 1), break_on_hyphens=False, break_long_words=inside_words)
        for line in whole.split("\n")
    ]
    return "\n".join(lines).replace(_SPACE, " ")


def _break(text: Text, room: float, *, upright: bool = False) -> bool:
    """Breaks a text into lines of at most `room` pixels, or as short as they can be.

    Returns:
        Whether that changed the text.
    """

    def fits(words: str) -> bool:
        text.set_text(words)
        box = text.get_window_extent()
        return bool((box.height if upright else box.width) <= room)

    words = text.get_text()
    if not words.strip() or fits(words):
        return False
    longest = max(map(len, words.split("\n")))
    for inside_words in (False, True):
        lines = [
            wrapped(words, letters, inside_words=inside_words)
            for letters in range(longest - 1, _FEWEST - 1, -1)
        ]
        fitting = [line for line in dict.fromkeys(lines) if fits(line)]
        if fitting:  # prefer as few lines as possible, then the most even ones
            fewest = [line for line in fitting if line.count("\n") == fitting[0].count("\n")]
            text.set_text(min(fewest, key=lambda line: max(map(len, line.split("\n")))))
            break
    return text.get_text() != words
