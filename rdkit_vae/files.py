"""Files that are whole or not at all, and locks that die with their process."""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rdkit_vae.errors import BadData, BadInput, CannotWrite

SWEEP_FILE = "sweep.json"  # its folder is a sweep
PARTIAL = "partial"  # folder of a sweep for files that are being written


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old one or the whole new one, also after a crash.

    Until it is whole it lies in the folder `partial` of its sweep, where no reader of results
    looks, or under a hidden name beside its own where there is no sweep.

    Raises:
        CannotWrite: it cannot be written.
    """
    part = _partial_name(path)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        _make_folder(path.parent)
        with part.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is renamed: see clear_partial
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise CannotWrite(f"{path}: cannot be written ({error.strerror or error})") from error


def _partial_name(path: Path) -> Path:
    unique = f"{path.name}.{os.getpid()}.part"
    path = path.absolute()
    for folder in path.parents[:3]:
        if path == folder / SWEEP_FILE or (folder / SWEEP_FILE).exists():
            return folder / PARTIAL / unique
    return path.with_name(f".{unique}")  # readers pass over hidden names


def _make_folder(folder: Path) -> None:
    """Makes a folder so that it, too, is there after a crash."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes sure that the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_partial(sweep: Path) -> None:
    """Removes what writers that have died left in a sweep's folder `partial`."""
    for part in (sweep / PARTIAL).glob("*"):
        with contextlib.suppress(OSError), part.open("rb") as file:
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
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error


@contextlib.contextmanager
def locked(folder: Path, *, join: bool = False, alone: bool = False) -> Iterator[None]:
    """Holds the lock of a sweep folder, which the kernel lets go of when the process dies.

    The first comer clears away what dead ones left, then shares the lock, so that others may join.

    Args:
        folder: of the sweep; made if it is not there.
        join: work beside those who hold it already.
        alone: let nobody join.

    Raises:
        BadInput: another process holds it, and it was not to be joined.
        CannotWrite: the folder cannot be written.
    """
    try:
        _make_folder(folder)
        file = (folder / "lock").open("a+")
    except OSError as error:
        raise CannotWrite(f"{folder}: cannot be written ({error.strerror})") from error
    with file:
        first = _try_lock(file.fileno(), fcntl.LOCK_EX)
        if first:
            clear_partial(folder)
            file.truncate(0)
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


def is_locked(folder: Path) -> bool:
    """Whether a sweep is at work in the folder."""
    try:
        with (folder / "lock").open() as file:
            return not _try_lock(file.fileno(), fcntl.LOCK_EX, tries=1)
    except OSError:
        return False


def _try_lock(descriptor: int, kind: int, tries: int = 5) -> bool:
    for attempt in range(tries):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except OSError:
            # `status` holds the lock for an instant when it looks.
            time.sleep(0.1 if attempt + 1 < tries else 0)
    return False


@contextlib.contextmanager
def claimed(file: Path, name: str) -> Iterator[bool]:
    """Claims a name among all processes that use the file; False where another one has it.

    A claim is a lock on one byte of the file, and ends with its process. A process holds one claim
    at a time.
    """
    with file.open("a+b") as held:
        try:
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(name))
        except OSError:
            yield False
        else:
            yield True


def is_claimed(file: Path, name: str) -> bool:
    """Whether a process has claimed the name."""
    try:
        with file.open("rb") as asked:
            fcntl.lockf(asked, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _place(name))
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _place(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
