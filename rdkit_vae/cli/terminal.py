"""The edge at which text leaves for a terminal: no control character of a file passes it."""

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

from rdkit_vae.errors import CannotWrite
from rdkit_vae.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment


class _Escaping(io.TextIOBase):
    """A stream on which control characters become visible escapes."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(printable(text))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding


@contextlib.contextmanager
def escaped() -> Iterator[None]:
    """Whatever is printed meanwhile, to standard output or error, is printed without controls.

    Raises:
        CannotWrite: standard output is closed.
    """
    before = sys.stdout, sys.stderr
    _open_closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    out, error = sys.stdout, sys.stderr
    sys.stderr = _Escaping(error)
    try:
        if out is None:
            raise CannotWrite("standard output is closed; > /dev/null discards what is printed")
        sys.stdout = _Escaping(out)
        yield
    finally:
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Keeps the numbers of closed streams from files that are opened later."""
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)


def discard_unwritten() -> None:
    """Lets go of what standard output or error could not take, which Python would try again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def busy(what: str) -> contextlib.AbstractContextManager[object]:
    """Shows on a terminal, meanwhile, that something long is under way."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext()
    return console(stderr=True).status(what)


def console(*, stderr: bool = False) -> "Console":
    """A console of rich, whose own controls reach the terminal and those of its texts do not."""
    from rich.console import Console
    from rich.segment import Segment

    class Escaping(Console):
        def render(
            self, renderable: "RenderableType", options: "ConsoleOptions | None" = None
        ) -> "Iterable[Segment]":
            for text, style, control in super().render(renderable, options):
                plain = style and style.update_link(None)
                yield Segment(text if control else printable(text), plain, control)

    stream = sys.stderr if stderr else sys.stdout
    return Escaping(file=stream.stream if isinstance(stream, _Escaping) else stream)
