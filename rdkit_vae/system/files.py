"""Files that are written completely or not at all, and safe ways of reading them."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from rdkit_vae.errors import BadData, CannotWrite, cause_of

SWEEP_FILE = "sweep.json"  # marks its folder as a sweep
PARTIAL = "partial"  # folder of a sweep that holds files while they are being written
DAMAGED = "damaged"  # holds damaged files that a repair has set aside
CRASHES = "crashes"  # holds tracebacks
# Folders with a subfolder for each trial.
_BY_RUN = ("checkpoints", "statistics", "samples", "generation", "priors", "tensorboard")

Write = Callable[[Path, bytes], None]  # `write_atomic` or `write_output`

SCHEMES = ("s3", "gs", "az", "file")  # of URLs of object stores
_NOT_FOLLOWED = "a link, and links are not followed here"
_MAX_JSON_BYTES = 2**24
_MAX_JSON_VALUES = 500_000


def open_regular(
    path: Path, mode: str = "rb", *, follow: bool = True, buffering: int = -1
) -> IO[bytes]:
    """Opens a regular file. A FIFO or device, on which a reader could wait for ever, is refused.

    Args:
        path: the file.
        mode, buffering: as for `open`.
        follow: whether to follow links. Use False for files that only rdvae writes: in a folder
            received from somebody else, a link may lead anywhere.

    Raises:
        OSError: the file cannot be opened, is not a regular file, or is a link and `follow` is
            False.
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
    """Writes a file that the user named with `--out`.

    A link is followed and its target is replaced, completely or not at all. Data for a FIFO or
    device is written straight to it.

    Raises:
        CannotWrite: the file cannot be written.
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
    except FileNotFoundError:  # or a dangling link
        return True


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that readers see either the old or the complete new one, even after a crash.

    Inside a sweep the data first goes to the folder `partial`, where no reader of results looks;
    elsewhere it goes to a hidden file in the same folder. The file is then renamed.

    Raises:
        CannotWrite: the file cannot be written.
    """
    part = None
    try:
        make_folder(path.parent)
        part = _partial_name(path)
        part.unlink(missing_ok=True)  # left by a dead process with the same id
        with open_regular(part, "xb", follow=False) as file:
            with contextlib.suppress(OSError):  # not every file system has locks
                fcntl.flock(file, fcntl.LOCK_EX)  # until the rename; see `clear_partial`
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
    # Threads may write files of one name into several folders.
    unique = f"{path.name}.{threading.get_native_id()}{_suffix(os.getpid())}"
    path = path.absolute()
    for folder in path.parents[:3]:
        if path == folder / SWEEP_FILE or (folder / SWEEP_FILE).exists():
            run = path.parent if path.parent.parent.parent == folder else None
            if run and run.is_symlink():
                raise OSError(errno.ELOOP, f"{run}: {_NOT_FOLLOWED}")
            partial = own_folder(folder / PARTIAL)
            if (
                partial.stat().st_dev == path.parent.stat().st_dev
            ):  # otherwise the rename would cross disks
                return partial / unique
    return path.with_name(f".{unique}")  # readers ignore hidden files


def _suffix(process: int) -> str:
    return f".{platform.node()}-{process}.part"


def own_folder(folder: Path) -> Path:
    """Makes a folder in which rdvae moves and removes files, so it must not be a link.

    Raises:
        OSError: the path is a link or a file, or the folder cannot be made.
    """
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"{folder}: {_NOT_FOLLOWED}")
    folder.mkdir(exist_ok=True)
    return folder


def make_folder(folder: Path) -> None:
    """Makes a folder and its parents so that they survive a crash."""
    if folder.is_dir():
        return
    if folder.parts[0] in [f"{scheme}:" for scheme in SCHEMES]:  # a URL taken for a path
        reason = "only sweeps can be written to an object store; give a local folder"
        raise OSError(errno.EINVAL, reason)
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Flushes the list of names in a folder to the disk.

    Raises:
        OSError: the folder cannot be opened or flushed.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_partial(sweep: Path, process: int | None = None) -> None:
    """Removes unfinished files of dead processes from the folder `partial` of a sweep.

    While other processes can write there, name the dead one: a file that is just being made is not
    yet locked by its writer.

    Args:
        sweep: the folder.
        process: of this machine; of all if None.
    """
    for part in left_partial(sweep):
        if process is not None and not part.name.endswith(_suffix(process)):
            continue
        with contextlib.suppress(OSError), open_regular(part, "r+b", follow=False) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the writer is alive
            part.unlink()


def left_partial(sweep: Path) -> list[Path]:
    """Returns the sorted files in the folder `partial` of a sweep; none if that is a link."""
    partial = sweep / PARTIAL
    if partial.is_symlink():
        return []
    return sorted(path for path in partial.glob("*") if stat.S_ISREG(path.lstat().st_mode))


def check_places(sweep: Path) -> None:
    """Refuses a sweep whose links could make rdvae move or remove files of other folders.

    The sweep folder and its folders of results, statistics, checkpoints and samples may be links,
    for example to another disk.

    Raises:
        CannotWrite: any other folder is a link, or a link leads into another sweep.
    """
    here = sweep.resolve()
    for name in (PARTIAL, DAMAGED, CRASHES):
        _check_no_link(sweep / name)
    for folder in (sweep / name for name in ("results", *_BY_RUN)):
        if not folder.is_dir():
            continue
        target = folder.resolve()
        if target.parent != here and (target.parent / SWEEP_FILE).exists():
            raise CannotWrite(f"{folder}: is a link into another sweep ({target}); remove it")
        if folder.name in _BY_RUN:
            for run in folder.iterdir():
                _check_no_link(run)


def _check_no_link(path: Path) -> None:
    if path.is_symlink():
        raise CannotWrite(f"{path}: {_NOT_FOLLOWED}; remove it")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes JSON, completely or not at all."""
    write_atomic(path, as_json(values))


def as_json(values: Mapping[str, Any]) -> bytes:
    """The bytes that `write_json` writes."""
    return json.dumps(values, indent=1).encode() + b"\n"


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        BadData: the file is missing, unreadable, implausibly large, or not a JSON object.
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
    """Returns the bytes of a JSON file whose parsed values will fit in memory.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is too large.
    """
    with open_regular(path) as file:
        data = file.read(_MAX_JSON_BYTES + 1)
    if len(data) > _MAX_JSON_BYTES:
        raise ValueError(f"more than {_MAX_JSON_BYTES:,} bytes")
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > _MAX_JSON_VALUES:
        raise ValueError(f"more than {_MAX_JSON_VALUES:,} values")
    return data


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file.

    Raises:
        BadData: the file cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({cause_of(error)})") from error
