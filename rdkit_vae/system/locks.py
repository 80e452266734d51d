"""Locks on a sweep folder and claims of single trials; both end with the process."""

import contextlib
import fcntl
import hashlib
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from rdkit_vae.errors import BadInput, CannotWrite, cause_of
from rdkit_vae.system.files import check_places, clear_partial, make_folder, open_regular

_MAX_HOLDER_BYTES = 10_000  # of a lock file, for the error message


@contextlib.contextmanager
def locked(
    folder: Path,
    *,
    join: bool = False,
    alone: bool = False,
    first: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Holds the lock of a sweep folder; the kernel releases it when the process dies.

    The first process removes the unfinished files of dead ones and then shares the lock, so that
    others can join.

    Args:
        folder: the sweep; made if it does not exist.
        join: share the lock with the processes that hold it.
        alone: let no other process join.
        first: called by the first process before others can join.

    Raises:
        BadInput: another process holds the lock and `join` is False.
        CannotWrite: the folder cannot be written or locked, or `check_places` refuses a link in it.
    """
    check_places(folder)
    with _opened(folder / "lock") as file:
        if _try_lock(file):
            clear_partial(folder)
            file.truncate(0)
            first()
        elif not join:
            file.seek(0)
            holders = ", ".join(file.read(_MAX_HOLDER_BYTES).decode("utf-8", "replace").split("\n"))
            holders = holders.strip(", ")
            raise BadInput(
                f"{folder}: another rdvae is using this folder ({holders}); wait until it ends"
                + ("" if alone else ", or --join it to share the trials")
            )
        file.write(f"process {os.getpid()} on {platform.node()}\n".encode())
        file.flush()
        if not alone:
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Opens a file that will be locked.

    Raises:
        CannotWrite: the file cannot be opened.
    """
    try:
        make_folder(file.parent)
        opened = open_regular(file, "a+b", follow=False)
    except OSError as error:
        raise CannotWrite(f"{file}: cannot be written ({cause_of(error)})") from error
    with opened:
        yield opened


def is_locked(folder: Path) -> bool:
    """Whether a running process holds the lock of the folder."""
    lock = folder / "lock"
    try:
        mode = "r+b" if os.access(lock, os.W_OK) else "rb"
        with open_regular(lock, mode, follow=False) as file:
            return not _try_lock(file, tries=2)
    except (OSError, CannotWrite):
        return False  # never locked, or impossible to lock


def _try_lock(file: IO[bytes], tries: int = 5) -> bool:
    for attempt in range(tries):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            # `is_locked` in another process takes the lock for an instant.
            time.sleep(0.1 if attempt + 1 < tries else 0)
        except OSError as error:
            raise _no_locks(file.name, error) from error
    return False


def _no_locks(name: str, error: OSError) -> CannotWrite:
    return CannotWrite(f"{name}: locks do not work on this file system ({cause_of(error)})")


@contextlib.contextmanager
def claimed(file: Path, names: Iterable[str]) -> Iterator[list[str]]:
    """Claims names among the processes that use the file; yields those that this process got.

    A claim is a lock on one byte of the file and ends with its process. A process must not nest
    claims on the same file.

    Raises:
        CannotWrite: the file cannot be opened or locked.
    """
    with _opened(file) as claims:
        yield [name for name in names if _claim(claims, name)]


def _claim(file: IO[bytes], name: str) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(name))
    except (BlockingIOError, PermissionError):  # both mean that another process holds it
        return False
    except OSError as error:
        raise _no_locks(file.name, error) from error
    return True


def is_claimed(file: Path, name: str) -> bool:
    """Whether a process has claimed the name."""
    try:
        with open_regular(file, follow=False) as claims:
            return _is_byte_locked(claims, name)
    except OSError:
        return False  # never claimed, or impossible to lock


def _is_byte_locked(file: IO[bytes], name: str) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _place(name))
    except (BlockingIOError, PermissionError):
        return True
    return False


def _place(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
