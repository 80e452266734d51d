"""Files that are whole or not at all, and locks that die with their process."""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from rdkit_vae.errors import BadData, BadInput, CannotWrite, cause_of

SWEEP_FILE = "sweep.json"  # its folder is a sweep
PARTIAL = "partial"  # folder of a sweep for files that are being written


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old one or the whole new one, also after a crash.

    Until it is whole it lies in the folder `partial` of its sweep, where no reader of results
    looks, or under a hidden name beside its own where there is no sweep.

    Raises:
        CannotWrite: it cannot be written.
    """
    part = None
    try:
        _make_folder(path.parent)
        part = _partial_name(path)
        with part.open("wb") as file:
            with contextlib.suppress(OSError):  # not every file system has locks
                fcntl.flock(file, fcntl.LOCK_EX)  # until it is renamed: see clear_partial
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        raise CannotWrite(f"{path}: cannot be written ({cause_of(error)})") from error


def _partial_name(path: Path) -> Path:
    unique = f"{path.name}.{platform.node()}-{os.getpid()}.part"
    path = path.absolute()
    for folder in path.parents[:3]:
        if path == folder / SWEEP_FILE or (folder / SWEEP_FILE).exists():
            partial = folder / PARTIAL
            partial.mkdir(exist_ok=True)
            if partial.stat().st_dev == path.parent.stat().st_dev:  # else it is a link elsewhere
                return partial / unique
    return path.with_name(f".{unique}")  # readers pass over hidden names


def _make_folder(folder: Path) -> None:
    """Makes a folder so that it, too, is there after a crash."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk.

    Raises:
        OSError: it cannot be opened or flushed.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_partial(sweep: Path) -> None:
    """Removes what writers that have died left in a sweep's folder `partial`."""
    for part in (sweep / PARTIAL).glob("*"):
        with contextlib.suppress(OSError), part.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused where its writer lives
            part.unlink()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes JSON, whole or not at all."""
    write_atomic(path, json.dumps(values, indent=1).encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        BadData: missing, unreadable or no JSON object.
    """
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadData(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(values, dict):
        raise BadData(f"{path}: not a JSON object")
    return values


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes.

    Raises:
        BadData: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({cause_of(error)})") from error


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
        CannotWrite: the folder cannot be written, or has no locks.
    """
    with _opened(folder / "lock") as file:
        if _try_lock(file):
            clear_partial(folder)
            file.truncate(0)
            first()
        elif not join:
            file.seek(0)
            holders = ", ".join(file.read().split("\n")).strip(", ")
            raise BadInput(
                f"{folder}: another rdvae is at work there ({holders}); wait for its end"
                + ("" if alone else ", or --join it to share the trials")
            )
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        if not alone:
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[str]]:
    """Opens a file to lock, and tells of what goes wrong.

    Raises:
        CannotWrite: it cannot be opened, or locks do not work there.
    """
    try:
        _make_folder(file.parent)
        opened = file.open("a+")
    except OSError as error:
        raise CannotWrite(f"{file.parent}: cannot be written ({cause_of(error)})") from error
    with opened:
        yield opened


def is_locked(folder: Path) -> bool:
    """Whether a sweep is at work in the folder."""
    lock = folder / "lock"
    try:
        with lock.open("r+" if os.access(lock, os.W_OK) else "r") as file:
            return not _try_lock(file, tries=2)
    except (OSError, CannotWrite):
        return False  # nobody was ever there, or nobody could lock it


def _try_lock(file: IO[str], tries: int = 5) -> bool:
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


def _claim(file: IO[str], name: str) -> bool:
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
        with file.open("rb") as asked:
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
