"""Child processes that import nothing from the working directory and end with their parent."""

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
_STARTING = threading.Lock()  # what a child is started with is shared by all threads
_STOPPING = (signal.SIGINT, signal.SIGTERM)  # sent by a terminal or scheduler to stop a sweep


def start_child(
    target: Callable[..., None], *args: Any
) -> "tuple[BaseProcess, Connection[Any, Any]]":
    """Starts `target(connection, *args)` in a process; returns it and our end of the connection.

    The target must call `live_as_child` first. The child does not run the main script again, so
    scripts need no `if __name__ == "__main__"`.
    """
    with _STARTING, _safe_path(), _no_main_module():
        resource_tracker.ensure_running()  # it unblocks signals when it starts its process
        with _signals_blocked():
            here, there = _SPAWN.Pipe()
            process = _SPAWN.Process(target=target, args=(there, *args), daemon=True)
            process.start()
    there.close()
    return process, here


def end_children(children: "Iterable[tuple[BaseProcess, Connection[Any, Any]]]") -> None:
    """Kills children at once, which is safe since files are written completely or not at all."""
    children = list(children)
    for process, connection in children:
        connection.close()
        process.kill()
    for process, _ in children:
        process.join(timeout=5)


def live_as_child() -> None:
    """Called first in a child: ignores interrupts, and exits when the parent does."""
    for number in _STOPPING:  # a terminal or scheduler sends them to every process
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


class Interrupts:
    """Counts SIGINT and SIGTERM while the context is open, so that the program can wait for them.

    An exception raised by a signal handler can strike anywhere, even where Python loses it. Here a
    handler only counts, and the program looks at the count when it is ready.

    Attributes:
        pipe: becomes readable at a signal; `multiprocessing.connection.wait` accepts it.
    """

    def __init__(self) -> None:
        self.pipe, self._write = _SPAWN.Pipe(duplex=False)
        self._count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # only it can set handlers
            for number in _STOPPING:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self._write.send_bytes(b".")

    def ask_to_stop(self) -> None:
        """Makes the pipe readable, as a first signal does, without counting as one."""
        self._write.send_bytes(b"")

    def count(self) -> int:
        """Returns the number of signals so far."""
        while self.pipe.poll():
            self._count += len(self.pipe.recv_bytes())
        return self._count


def keep_freed_memory() -> None:
    """Makes this process keep freed memory for reuse instead of returning it to the system.

    A training step frees and allocates the same hundreds of megabytes; getting them from the system
    each time costs 5 to 10% of the step. This has an effect only with glibc.
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
    """In this context, a new interpreter does not import from the working directory."""
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
    """In this context, a new process has no main module to import."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Blocks Ctrl-C and SIGTERM; a child that starts in this context never receives them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
