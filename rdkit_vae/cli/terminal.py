"""Printing to the terminal, where control characters from files are always escaped."""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

import click

from rdkit_vae.errors import CannotWrite
from rdkit_vae.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment


class _Escaping(io.TextIOBase):
    """A stream that writes control characters as visible escapes."""

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
    """Escapes control characters in everything printed to standard output or error meanwhile.

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
            raise CannotWrite("standard output is closed; use > /dev/null to discard the output")
        sys.stdout = _Escaping(out)
        yield
    finally:
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Opens closed standard streams, so that no file opened later gets their numbers."""
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)


def discard_unwritten() -> None:
    """Discards output that could not be written, which Python would try to write at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_notes(notes: Iterable[str]) -> None:
    """Prints remarks to standard error, one per line."""
    for note in notes:
        click.echo(f"rdvae: {note}", err=True)


def busy(what: str) -> contextlib.AbstractContextManager[object]:
    """Shows a spinner meanwhile, if standard error is a terminal."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext()
    return console(stderr=True).status(what)


@contextlib.contextmanager
def reporting() -> Iterator[Callable[[str], None]]:
    """Yields a function that shows what is done now, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    with console(stderr=True).status("") as status:
        yield status.update


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar meanwhile, if standard error is a terminal; yields `progress(done, total)`."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def console(*, stderr: bool = False) -> "Console":
    """A rich console. Its own control sequences reach the terminal; those in texts do not."""
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
