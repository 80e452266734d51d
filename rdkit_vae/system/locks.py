"""Locks and claims that die with their process."""

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

_MOST_HOLDERS = 10_000  # bytes of a lock file that are shown


@contextlib.contextmanager
def locked(
    folder: Path,
    *,
    join: bool = False,
    alone: bool = False,
    first: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Holds the lock of a sweep folder, which the kernel lets go of when the process dies.

    The first comer clears away what dead ones left, then shares the lock, so that others may join.

    Args:
        folder: of the sweep; made if it is not there.
        join: work beside those who hold it already.
        alone: let nobody join.
        first: called by the first comer before others can join.

    Raises:
        BadInput: another process holds it, and it was not to be joined.
        CannotWrite: the folder cannot be written, or has no locks, or links that `check_places`
            refuses.
    """
    check_places(folder)
    with _opened(folder / "lock") as file:
        if _try_lock(file):
            clear_partial(folder)
            file.truncate(0)
            first()
        elif not join:
            file.seek(0)
            holders = ", ".join(file.read(_MOST_HOLDERS).decode("utf-8", "replace").split("\n"))
            holders = holders.strip(", ")
            raise BadInput(
                f"{folder}: another rdvae is at work there ({holders}); wait for its end"
                + ("" if alone else ", or --join it to share the trials")
            )
        file.write(f"process {os.getpid()} on {platform.node()}\n".encode())
        file.flush()
        if not alone:
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Opens a file to lock, and tells of what goes wrong.

    Raises:
        CannotWrite: it cannot be opened, or locks do not work there.
    """
    try:
        make_folder(file.parent)
        opened = open_regular(file, "a+b", follow=False)
    except OSError as error:
        raise CannotWrite(f"{file}: cannot be written ({cause_of(error)})") from error
    with opened:
        yield opened


def is_locked(folder: Path) -> bool:
    """Whether a sweep is at work in the folder."""
    lock = folder / "lock"
    try:
        mode = "r+b" if os.access(lock, os.W_OK) else "rb"
        with open_regular(lock, mode, follow=False) as file:
            return not _try_lock(file, tries=2)
    except (OSError, CannotWrite):
        return False  # nobody was ever there, or nobody could lock it


def _try_lock(file: IO[bytes], tries: int = 5) -> bool:
    for attempt in range(tries):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            # `status` holds the lock for an instant when it looks.
            time.sleep(0.1 if attempt + 1 < tries else 0)
        except OSError as error:
            raise _no_locks(file.name, error) from error
    return False


def _no_locks(name: str, error: OSError) -> CannotWrite:
    return CannotWrite(f"{name}: locks do not work on this file system ({cause_of(error)})")


@contextlib.contextmanager
def claimed(file: Path, names: Iterable[str]) -> Iterator[list[str]]:
    """Claims names among all processes that use the file; yields those that no other one has.

    A claim is a lock on one byte of the file, and ends with its process. A process claims once at
    a time.

    Raises:
        CannotWrite: the file cannot be opened, or has no locks.
    """
    with _opened(file) as held:
        yield [name for name in names if _claim(held, name)]


def _claim(file: IO[bytes], name: str) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(name))
    except (BlockingIOError, PermissionError):  # the two errors that mean another's lock
        return False
    except OSError as error:
        raise _no_locks(file.name, error) from error
    return True


def is_claimed(file: Path, name: str) -> bool:
    """Whether a process has claimed the name."""
    try:
        with open_regular(file, follow=False) as asked:
            return _is_held(asked, name)
    except OSError:
        return False  # nobody was ever there, or it cannot be known


def _is_held(file: IO[bytes], name: str) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _place(name))
    except (BlockingIOError, PermissionError):
        return True
    return False


def _place(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
