"""Text that fits: broken into lines where a figure is narrower than the words."""

import re
import textwrap

from matplotlib.figure import Figure
from matplotlib.text import Text

_FEWEST = 6  # letters of a line
_FORMULA, _HELD = re.compile(r"\$[^$]*\$"), "\ue000"  # a space that is none while lines are made
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


def wrapped(text: str, letters: int) -> str:
    """A text in lines of at most so many letters, broken at spaces, but never within a formula."""
    whole = _FORMULA.sub(lambda found: found[0].replace(" ", _HELD), text)
    lines = [
        textwrap.fill(
            line, max(letters, _FEWEST), break_on_hyphens=False, break_long_words="$" not in line
        )
        for line in whole.split("\n")
    ]
    return "\n".join(lines).replace(_HELD, " ")


def _break(text: Text, room: float, *, upright: bool = False) -> bool:
    """Breaks a text into lines no longer than so many pixels, or as short as they get.

    Returns:
        Whether that changed it.
    """

    def length() -> float:
        box = text.get_window_extent()
        return float(box.height if upright else box.width)

    words, first = text.get_text(), length()
    if first <= room or not words.strip():
        return False
    longest = max(map(len, words.split("\n")))
    best, shorter = "", words
    for letters in range(min(longest - 1, int(1.3 * longest * room / first)), _FEWEST - 1, -1):
        shorter = wrapped(words, letters)
        if best and shorter.count("\n") > best.count("\n"):
            break
        text.set_text(shorter)
        if best or length() <= room:
            best = shorter  # of as few lines, that with the most even ones
    text.set_text(best or shorter)
    return text.get_text() != words
