"""Text that fits: broken into lines where a figure is narrower than the words."""

import re
import textwrap

from matplotlib.figure import Figure
from matplotlib.text import Text

_FORMULA = re.compile(r"(?<!\\)\$.*?(?<!\\)\$")
_SPACE = "\0"  # one that no line is broken at
_FEWEST = 6  # letters of a line
_LAYOUTS = 4  # at most: what was broken needs room, and leaves other text less


def fit_texts(figure: Figure) -> None:
    """Breaks titles and labels of axes that are longer than what they stand beside.

    Call it when the figure has all of its text and its size; the layout is done again.
    """
    for _ in range(_LAYOUTS):
        engine = figure.get_layout_engine()
        assert engine is not None
        engine.execute(figure)
        if not _break_all(figure):
            break


def _break_all(figure: Figure) -> bool:
    """Breaks what is too long where the panels are now, which makes them smaller; whether any."""
    broken = []
    for axes in figure.axes:
        frame = axes.get_window_extent()
        broken.append(_break(axes.title, frame.width))
        broken.append(_break(axes.xaxis.label, frame.width))
        broken.append(_break(axes.yaxis.label, frame.height, upright=True))
    title: Text | None = figure._suptitle  # type: ignore[attr-defined]
    if title is not None:
        broken.append(_break(title, 0.98 * figure.bbox.width))
    return any(broken)


def wrapped(text: str, letters: int, *, inside_words: bool = False) -> str:
    """A text in lines of at most so many letters, broken at spaces that are not of a formula.

    Args:
        text: with formulas between dollar signs.
        letters: of a line; a longer word has a line of its own.
        inside_words: breaks longer words too.
    """
    whole = _FORMULA.sub(lambda found: found[0].replace(" ", _SPACE), text)
    lines = [
        textwrap.fill(line, max(letters, 1), break_on_hyphens=False, break_long_words=inside_words)
        for line in whole.split("\n")
    ]
    return "\n".join(lines).replace(_SPACE, " ")


def _break(text: Text, room: float, *, upright: bool = False) -> bool:
    """Breaks a text into lines no longer than so many pixels, or as short as they get.

    Returns:
        Whether that changed it.
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
        if fitting:  # of as few lines, those that are the most even
            fewest = [line for line in fitting if line.count("\n") == fitting[0].count("\n")]
            text.set_text(min(fewest, key=lambda line: max(map(len, line.split("\n")))))
            break
    return text.get_text() != words
