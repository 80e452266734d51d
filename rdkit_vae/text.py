"""Names, numbers and lists as users type and read them. Imports nothing heavy."""

import difflib
import math
import re
from collections.abc import Iterable

from rdkit_vae.errors import BadInput

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MOST_POINTS = 10_000


def positive(text: str, what: str) -> float:
    """Reads a positive finite number in plain or scientific notation.

    Raises:
        BadInput: anything else, including `nan`, `inf`, `1_0` and numbers that round to 0 or
            infinity.
    """
    text = text.strip()
    if not text:
        raise BadInput(f"{what}: a number is missing")
    if not _NUMBER.fullmatch(text):
        raise BadInput(f"{what}: {shown(text)} is not a number such as 0.1 or 1e-4")
    value = float(text)
    if not 0 < value < math.inf:
        raise BadInput(
            f"{what}: must be positive and finite in double precision, got {shown(text)}"
        )
    return value


def whole(text: str, what: str, *, least: int, most: int = _MOST_POINTS) -> int:
    """Reads a whole number from `least` to `most`.

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
        BadInput: it is not; the message lists the known names and suggests the closest.
    """
    known = list(known)
    if name not in known:
        raise BadInput(unknown(name, known, what))
    return name


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """Returns the message for an unknown name; it suggests the closest and lists all known."""
    known = list(known)
    close = difflib.get_close_matches(name[:100].lower(), known, n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown {what} {shown(name)}{meant}; known: {', '.join(known)}"


def few(names: Iterable[str], most: int = 3) -> str:
    """Joins the first names and says how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def are(count: int) -> str:
    """`is` for one, otherwise `are`."""
    return "is" if count == 1 else "are"


def megabytes(count: float) -> str:
    """`0.4 MB`, `12 MB`, `3.4 GB`."""
    if count < 1e9:
        return f"{count / 1e6:.{0 if count >= 1e7 else 1}f} MB"
    return f"{count / 1e9:.1f} GB"


def shown(text: str) -> str:
    """Returns the text quoted on one line, shortened if it is long."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 except tab and newline, DEL, C1
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # line separators, marks of text direction
    "\ud800-\udfff]"  # surrogates, with which Python also represents bytes that are not UTF-8
)


def printable(text: str) -> str:
    """Replaces control characters with visible escapes, so that no text can control a terminal.

    Tabs and newlines are kept.
    """
    return _CONTROL.sub(_escape, text)


def _escape(match: "re.Match[str]") -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # the byte that could not be decoded
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


_LONGEST_NAME = 200  # bytes; file systems allow 255, and a suffix is added


def is_plain_name(name: object) -> bool:
    """Whether this can name a run: printable, and usable as the name of a file or folder."""
    if not isinstance(name, str) or not name.isprintable():
        return False
    return "/" not in name and name not in ("", ".", "..") and len(name.encode()) <= _LONGEST_NAME
