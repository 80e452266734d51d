"""Files that are whole or not at all."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from rdkit_vae.errors import BadData, CannotWrite, cause_of

SWEEP_FILE = "sweep.json"  # its folder is a sweep
PARTIAL = "partial"  # folder of a sweep for files that are being written
DAMAGED = "damaged"  # that for files which a repair has put aside
CRASHES = "crashes"  # that for tracebacks
_BY_RUN = ("checkpoints", "statistics", "samples", "tensorboard")  # with a folder for each trial

Write = Callable[[Path, bytes], None]  # `write_atomic` or `write_output`

_NOT_FOLLOWED = "a link, which is not followed here"
_MOST_JSON = 2**24  # bytes of a file
_MOST_VALUES = 500_000  # in it


def open_regular(
    path: Path, mode: str = "rb", *, follow: bool = True, buffering: int = -1
) -> IO[bytes]:
    """Opens a file that is a file: never one that lets a reader wait, or that never ends.

    Args:
        path: of the file.
        mode, buffering: of `open`.
        follow: False for files that rdvae writes by itself: in a folder that comes from somebody
            else a link may lead anywhere.

    Raises:
        OSError: it cannot be opened, is no regular file, or is a link that is not followed.
    """
    safe = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)

    def opener(name: str, flags: int) -> int:
        try:
            descriptor = os.open(name, flags | safe, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP and not follow:
                raise OSError(errno.ELOOP, _NOT_FOLLOWED) from error
            if error.errno == errno.ENXIO:
                raise OSError(errno.EINVAL, "not a regular file") from error
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")

    file: IO[bytes] = open(path, mode, buffering, opener=opener)  # noqa: SIM115
    return file


def write_output(path: Path, data: bytes) -> None:
    """Writes the file that a user named: `--out`.

    A link is followed and what it leads to is replaced, whole or not at all. What is no regular
    file, such as a FIFO, is written to as it is.

    Raises:
        CannotWrite: it cannot be written.
    """
    try:
        if _is_regular_or_new(path):
            write_atomic(path.resolve() if path.is_symlink() else path, data)
            return
        with path.open("wb") as file:
            file.write(data)
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be written ({error.strerror or error})") from error


def _is_regular_or_new(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:  # also a link to what is not there
        return True


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old one or the whole new one, also after a crash.

    Until it is whole it lies in the folder `partial` of its sweep, where no reader of results
    looks, or under a hidden name beside its own where there is no sweep.

    Raises:
        CannotWrite: it cannot be written.
    """
    part = None
    try:
        make_folder(path.parent)
        part = _partial_name(path)
        part.unlink(missing_ok=True)  # of a process that died and had this one's number
        with open_regular(part, "xb", follow=False) as file:
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
            run = path.parent if path.parent.parent.parent == folder else None
            if run and run.is_symlink():
                raise OSError(errno.ELOOP, f"{run}: {_NOT_FOLLOWED}")
            partial = own_folder(folder / PARTIAL)
            if partial.stat().st_dev == path.parent.stat().st_dev:  # else it is a link elsewhere
                return partial / unique
    return path.with_name(f".{unique}")  # readers pass over hidden names


def own_folder(folder: Path) -> Path:
    """Makes a folder in which rdvae moves and removes files: no link to another one.

    Raises:
        OSError: it is a link or a file, or cannot be made.
    """
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"{folder}: {_NOT_FOLLOWED}")
    folder.mkdir(exist_ok=True)
    return folder


def make_folder(folder: Path) -> None:
    """Makes a folder so that it, too, is there after a crash."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
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
    for part in left_partial(sweep):
        with contextlib.suppress(OSError), open_regular(part, "r+b", follow=False) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused where its writer lives
            part.unlink()


def left_partial(sweep: Path) -> list[Path]:
    """The files in a sweep's folder `partial`, in order. A link in the place of it has none."""
    partial = sweep / PARTIAL
    if partial.is_symlink():
        return []
    return sorted(path for path in partial.glob("*") if stat.S_ISREG(path.lstat().st_mode))


def check_places(sweep: Path) -> None:
    """Refuses a sweep folder whose links would have files of other folders moved or removed.

    The sweep itself, and its folders of results, statistics, checkpoints and samples, may be links
    to another disk.

    Raises:
        CannotWrite: one of the others is a link, or one leads into another sweep.
    """
    here = sweep.resolve()
    for name in (PARTIAL, DAMAGED, CRASHES):
        _check_no_link(sweep / name)
    for folder in (sweep / name for name in ("results", *_BY_RUN)):
        if not folder.is_dir():
            continue
        target = folder.resolve()
        if target.parent != here and (target.parent / SWEEP_FILE).exists():
            raise CannotWrite(f"{folder}: a link into another sweep ({target}); remove it")
        if folder.name in _BY_RUN:
            for run in folder.iterdir():
                _check_no_link(run)


def _check_no_link(path: Path) -> None:
    if path.is_symlink():
        raise CannotWrite(f"{path}: {_NOT_FOLLOWED}; remove it")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes JSON, whole or not at all."""
    write_atomic(path, json.dumps(values, indent=1).encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        BadData: missing, unreadable, of a size that none of rdvae has, or no JSON object.
    """
    try:
        values = json.loads(_sane_json(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadData(f"{path}: cannot be read as JSON ({reason})") from error
    if not isinstance(values, dict):
        raise BadData(f"{path}: not a JSON object")
    return values


def _sane_json(path: Path) -> bytes:
    """The bytes of a JSON file, if what they can become is not out of all proportion.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too large.
    """
    with open_regular(path) as file:
        data = file.read(_MOST_JSON + 1)
    if len(data) > _MOST_JSON:
        raise ValueError(f"more than {_MOST_JSON:,} bytes")
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES:,} values")
    return data


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes.

    Raises:
        BadData: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({cause_of(error)})") from error
