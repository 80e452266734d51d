"""Child processes that take no module from the working directory and end with their parent."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

_SPAWN = multiprocessing.get_context("spawn")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_STOPPING = (signal.SIGINT, signal.SIGTERM)  # what a terminal, or a scheduler, stops a sweep with


def start_child(
    target: Callable[..., None], *args: Any
) -> "tuple[BaseProcess, Connection[Any, Any]]":
    """Starts `target(connection, *args)` in a process; returns it and our end of the connection.

    The target calls `live_as_child` first. The program that called us is not run again in the
    child, so scripts need no guard around what they do.
    """
    with _safe_path(), _no_main_module():
        resource_tracker.ensure_running()  # which lets signals in where it starts its process
        with _signals_blocked():
            here, there = _SPAWN.Pipe()
            process = _SPAWN.Process(target=target, args=(there, *args), daemon=True)
            process.start()
    there.close()
    return process, here


def end_children(children: "Iterable[tuple[BaseProcess, Connection[Any, Any]]]") -> None:
    """Ends children at once; files are whole or not at all, so any moment will do."""
    children = list(children)
    for process, connection in children:
        connection.close()
        process.kill()
    for process, _ in children:
        process.join(timeout=5)


def live_as_child() -> None:
    """Called first in a child: leaves signals to the parent, and ends when the parent does."""
    for number in _STOPPING:  # a terminal or scheduler sends them to all
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


class Interrupts:
    """SIGINT and SIGTERM as something to wait for, while the context lasts.

    An exception raised by a signal's handler can come anywhere, also where Python loses it; these
    are only counted, and read where the program is ready for them.

    Attributes:
        pipe: a file descriptor's object that `multiprocessing.connection.wait` takes.
    """

    def __init__(self) -> None:
        self.pipe, self._write = _SPAWN.Pipe(duplex=False)
        self._count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # others cannot have handlers
            for number in _STOPPING:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.interrupt()

    def interrupt(self) -> None:
        """Counts as one of them."""
        self._write.send_bytes(b".")

    def count(self) -> int:
        """How many there were so far."""
        while self.pipe.poll():
            self.pipe.recv_bytes()
            self._count += 1
        return self._count


def keep_freed_memory() -> None:
    """Makes this process use freed memory again, rather than give it back and have it zeroed anew.

    A training step frees and takes the same hundreds of megabytes; to get them from the system each
    time costs 5 to 10% of it. Where the C library is not glibc, nothing changes.
    """
    with contextlib.suppress(OSError, AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(_M_MMAP_MAX, 0)
        set_option(_M_TRIM_THRESHOLD, 2**31 - 1)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Within it, a new interpreter does not look for modules in the working directory."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Within it, a new process has no main module to import."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Holds Ctrl-C and SIGTERM back for a moment; a child that starts in it never gets one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
