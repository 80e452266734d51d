"""Files that are whole or not at all, and a lock on a folder that dies with its process."""

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

from rdkit_vae.errors import BadData


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old one or the whole new one, also after a crash.

    Raises:
        BadData: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # readers pass over hidden names
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        flush(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise BadData(f"{path}: cannot be written ({error.strerror or error})") from error


def flush(folder: Path) -> None:
    """Brings the names in a folder to the disk.

    Raises:
        OSError: it cannot be opened or flushed.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    except (OSError, ValueError) as error:
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
def locked(folder: Path) -> Iterator[None]:
    """Holds the sweep's lock, which the kernel lets go of when the process dies.

    Raises:
        BadData: another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a+")
    except OSError as error:
        raise BadData(f"{folder}: cannot be written ({error.strerror})") from error
    with file:
        if not _try_lock(file.fileno(), fcntl.LOCK_EX):
            file.seek(0)
            raise BadData(f"{folder}: another sweep is at work there ({file.read().strip()})")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def is_locked(folder: Path) -> bool:
    """Whether a sweep is at work in the folder."""
    try:
        with (folder / "lock").open() as file:
            return not _try_lock(file.fileno(), fcntl.LOCK_SH, tries=1)
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
