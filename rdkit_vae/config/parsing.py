"""What a user types: betas, seeds, sigmas, checkpoints. Nothing heavy is imported."""

import difflib
import itertools
import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import TypeVar

from rdkit_vae.errors import BadInput

T = TypeVar("T")

# The interpretations by name, with the variance that each stands for. `sigma.py` holds their code.
SIGMAS = {
    "half": "1/2",
    "beta-half": "beta/2 (beta x C where the model was trained with a constant variance C)",
    "optimal": "sse/D per image and draw; looks at x, so not a density",
    "shared": "mean sse/D of the train split, frozen",
    "own": "the variance the model was trained with, where it has one",
    "mixture": "log-uniform mixture over s in [1e-3, 1]; its closest single variance is sse/D",
}
# And those that are computed only where they are named.
ON_REQUEST = {
    "shared-oracle": "mean sse/D of the split that is scored; optimistic",
    "mixture:A..B": "the mixture over s in [A, B]",
    "constant:V": "any V > 0, in squared pixels",
}
CONSTANT, MIXTURE = "constant:", "mixture:"

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MOST_POINTS = 10_000


def parse_betas(text: str) -> tuple[float, ...]:
    """Reads `A..B` (a point a decade), `A..B:N` (N log-spaced points) or `a,b,c`; repeats are kept.

    Raises:
        BadInput: a part is empty, not a number, not positive and finite, or a range runs backwards.
    """
    return tuple(beta for part in text.split(",") for beta in _betas_of_part(part.strip()))


def _betas_of_part(part: str) -> list[float]:
    bounds, colon, count = part.partition(":")
    first, dots, last = bounds.partition("..")
    if not dots:
        return [positive(part, "betas")]
    low, high = positive(first, "betas"), positive(last, "betas")
    if low >= high:
        raise BadInput(f"betas: the range {part!r} must run from the smaller to the larger number")
    if colon:
        return _spaced(low, high, whole(count, "betas: the number of points", least=2))
    decades = _decades(Decimal(first.strip()), high)
    return [*decades, high] if decades[-1] < high else decades


def _decades(first: Decimal, high: float) -> list[float]:
    # Decimal shifts keep 1e-4, 1e-3, ... the very numbers that a user would type.
    values = (float(first.scaleb(step)) for step in itertools.count())
    return list(itertools.takewhile(lambda value: value <= high, values))


def _spaced(low: float, high: float, count: int) -> list[float]:
    start, span = math.log10(low), math.log10(high) - math.log10(low)
    inner = [float(f"{10 ** (start + span * i / (count - 1)):.12g}") for i in range(1, count - 1)]
    return [low, *inner, high]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Reads `5` (the five seeds 0 to 4) or a list `0,3,7` (`7,` is the seed 7 alone).

    Raises:
        BadInput: not whole numbers in 0..2^32-1, or no seed at all.
    """
    if "," not in text:
        return tuple(range(whole(text, "seeds: the number of seeds", least=1)))
    parts = text.removesuffix(",").split(",")
    return tuple(whole(part, "seeds", least=0, most=2**32 - 1) for part in parts)


def parse_sigma(text: str) -> str:
    """Checks the name of an interpretation and returns it in canonical form.

    Raises:
        BadInput: the name is unknown, or a number in it is not positive, out of order, or so large
            or small that a likelihood would overflow.
    """
    name = text.strip()
    if name.startswith(CONSTANT):
        return f"{CONSTANT}{_within(name.removeprefix(CONSTANT), name, 1e-200, 1e200)!r}"
    if name.startswith(MIXTURE):
        low, high = mixture_range(name)
        return f"{MIXTURE}{low!r}..{high!r}"
    return one_of(name, [*SIGMAS, *ON_REQUEST], "sigma")


def mixture_range(name: str) -> tuple[float, float]:
    """The A and B of `mixture:A..B`.

    Raises:
        BadInput: not two positive numbers, the smaller first.
    """
    first, dots, last = name.removeprefix(MIXTURE).partition("..")
    if not dots:
        raise BadInput(f"{name}: must be mixture:A..B, such as mixture:1e-3..1")
    low, high = (_within(part, name, 1e-100, 1e100) for part in (first, last))
    if low >= high:
        raise BadInput(f"{name}: the range must run from the smaller to the larger number")
    return low, high


def _within(text: str, what: str, least: float, most: float) -> float:
    value = positive(text, what)
    if not least <= value <= most:
        raise BadInput(f"{what}: must be within {least:g} and {most:g}, got {shown(text)}")
    return value


def parse_checkpoints(text: str, epochs: int) -> tuple[int, ...]:
    """The epochs after which a checkpoint is written; the last epoch is always one.

    Args:
        text: `log` (1, 2, 4, ... epochs), `last`, or a number k (every k epochs).
        epochs: epochs of the whole training.

    Raises:
        BadInput: none of the three forms.
    """
    if text == "log":
        chosen = {2**i for i in range(epochs.bit_length())}
    elif text == "last":
        chosen = set()
    else:
        step = whole(text, "checkpoints: 'log', 'last', or every how many epochs", least=1)
        chosen = set(range(step, epochs, step))
    return tuple(sorted({epoch for epoch in chosen if epoch < epochs} | {epochs}))


def merge_repeats(values: Iterable[T]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """The values once each, in their order, and those that came more than once."""
    kept: dict[T, int] = {}
    for value in values:
        kept[value] = kept.get(value, 0) + 1
    return tuple(kept), tuple(value for value, count in kept.items() if count > 1)


def positive(text: str, what: str) -> float:
    """A positive finite number in plain or scientific notation.

    Raises:
        BadInput: anything else, among it `nan`, `inf`, `1_0` and what rounds to 0 or infinity.
    """
    text = text.strip()
    if not text:
        raise BadInput(f"{what}: a number is missing")
    if not _NUMBER.fullmatch(text):
        raise BadInput(f"{what}: {shown(text)} is not a number such as 0.1 or 1e-4")
    value = float(text)
    if not 0 < value < math.inf:
        raise BadInput(f"{what}: must be positive and finite as a double, got {shown(text)}")
    return value


def whole(text: str, what: str, *, least: int, most: int = _MOST_POINTS) -> int:
    """A whole number in `least..most`.

    Raises:
        BadInput: anything else.
    """
    text = text.strip()
    if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not least <= int(text) <= most:
        raise BadInput(f"{what}: must be a whole number from {least} to {most}, got {shown(text)}")
    return int(text)


def one_of(name: str, known: Iterable[str], what: str) -> str:
    """Returns `name` if it is among `known`.

    Raises:
        BadInput: it is not; the message lists the known ones, after the one that may be meant.
    """
    known = list(known)
    if name not in known:
        raise BadInput(unknown(name, known, what))
    return name


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """Says that a name is not known, which one may be meant, and those that are known."""
    known = list(known)
    close = difflib.get_close_matches(name[:100].lower(), known, n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown {what} {shown(name)}{meant}; known: {', '.join(known)}"


def few(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def are(count: int) -> str:
    """`is` of one, `are` of others."""
    return "is" if count == 1 else "are"


def megabytes(count: float) -> str:
    """`0.4 MB`, `12 MB`, `3.4 GB`."""
    if count < 1e9:
        return f"{count / 1e6:.{0 if count >= 1e7 else 1}f} MB"
    return f"{count / 1e9:.1f} GB"


def shown(text: str) -> str:
    """The text quoted on one line, cut where it is long."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for tab and newline, DEL, C1
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # line ends; what turns the direction of text
    "\ud800-\udfff]"  # halves of characters; Python's stand-ins for bytes that are not UTF-8
)


def printable(text: str) -> str:
    """The text with control characters as visible escapes, so that it moves no terminal.

    Tabs and newlines stay.
    """
    return _CONTROL.sub(_escape, text)


def _escape(found: "re.Match[str]") -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # the byte that could not be decoded
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


_LONGEST_NAME = 200  # bytes; file systems take 255, and it gets a suffix


def is_plain_name(name: object) -> bool:
    """Whether this can be the name of a run: one folder's or file's, and of plain characters."""
    if not isinstance(name, str) or not name.isprintable():
        return False
    return "/" not in name and name not in ("", ".", "..") and len(name.encode()) <= _LONGEST_NAME
