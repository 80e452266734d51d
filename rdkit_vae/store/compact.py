"""One file of results in the place of many, while readers go on reading.

Never imports torch.
"""

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdkit_vae.errors import BadData
from rdkit_vae.store.paths import OK, Sweep
from rdkit_vae.store.results import encoded_results, read_results, write_results
from rdkit_vae.store.tables import about_of
from rdkit_vae.system.files import locked, sync_folder, write_atomic

_MERGED = "merged-"  # begins the names of merged files; a run_id begins with its dataset's name
# A reader may have opened the old folder just before the exchange and list it just after. A name
# that it lists cannot be opened, which it tells; but a folder emptied under it reads as no rows at
# all. So the old one keeps its files for a while.
_GRACE = 0.5  # seconds
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What became of the results of one sweep.

    Attributes:
        merged: the file that holds all trials that ended well; None: there was nothing to merge.
        trials: how many it holds.
        files: how many files it took the place of.
        unfinished: files of trials that failed or have not ended, which stay as they are.
        others: files that are no results of one trial, left where they are: why, in words.
    """

    merged: Path | None
    trials: int
    files: int
    unfinished: int
    others: tuple[str, ...]


def compact(sweep: Sweep) -> Compacted:
    """Merges the results of all trials that have ended well into one file.

    A reader sees each row once before, during and after; one that lists the folder first and opens
    its files later may have to do so again, when one that it has listed is gone. A process that is
    killed leaves either the files as they were or the merged one, and what else it leaves is
    cleaned by the next call.

    Raises:
        BadData: a sweep is at work in the folder, or it cannot be written.
    """
    with locked(sweep.root, alone=True):
        results = (sweep.root / "results").resolve()  # it may be a link to another disk
        if not results.is_dir():
            return Compacted(merged=None, trials=0, files=0, unfinished=0, others=())
        try:
            _settle(results)
            return _compact(results)
        except OSError as error:
            raise BadData(f"{results}: cannot be compacted ({error.strerror or error})") from error


def merged_runs(results: Path) -> Mapping[str, dict[str, Any]]:
    """The trials in the merged files of a folder of results: by run_id, what its file said of it.

    Of the rows it reads the names alone.

    Raises:
        BadData: one of them is damaged.
    """
    try:
        facts = results.stat()
    except OSError:
        return {}
    return _runs_below(results, facts.st_ino, facts.st_mtime_ns)


@functools.lru_cache(maxsize=16)  # of a sweep each trial is asked for
def _runs_below(results: Path, inode: int, mtime_ns: int) -> Mapping[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(results.glob(f"{_MERGED}*.parquet")):
        found |= _abouts(path, read_results(path, ["run_id"]))
    return found


def _compact(results: Path) -> Compacted:
    tables: dict[str, Any] = {}
    abouts: dict[str, dict[str, Any]] = {}
    replaced: list[Path] = []
    singles, unfinished, others = 0, 0, []
    files = [path for path in results.glob("*.parquet") if not path.name.startswith((".", "_"))]
    # A trial's own file, if it is there too, comes after the merged one and takes its place.
    for path in sorted(files, key=lambda path: (not is_merged(path), path.name)):
        try:
            table = read_results(path)
            held = _abouts(path, table)
        except BadData as error:
            others.append(str(error))
            continue
        if not (is_merged(path) or _ended(table)):
            unfinished += 1
            continue
        singles += not is_merged(path)
        replaced.append(path)
        abouts |= held
        tables |= by_run(table)
    name = None
    if singles and len(replaced) > 1:
        # In the order that the files had by name.
        run_ids = sorted(tables, key="{}.parquet".format)
        about = {"runs": {run_id: abouts[run_id] for run_id in run_ids}}
        merged = encoded_results([tables[run_id] for run_id in run_ids], about)
        name = f"{_MERGED}{hashlib.sha256(merged).hexdigest()[:12]}.parquet"
        _replace(results, name, merged, {path.name for path in replaced})
    return Compacted(
        merged=results / name if name else None,
        trials=len(tables),
        files=len(replaced) if name else 0,
        unfinished=unfinished,
        others=tuple(others),
    )


def is_merged(path: Path) -> bool:
    """Whether a file of results has the name of one that `compact` made."""
    return path.name.startswith(_MERGED)


def _abouts(path: Path, table: Any) -> dict[str, dict[str, Any]]:
    """What a file says of each of its trials, by run_id.

    Raises:
        BadData: it is neither the results of one trial, under its name, nor a merged file.
    """
    about, runs = about_of(table), set(table["run_id"].to_pylist())
    if not is_merged(path):
        if runs != {path.stem}:
            raise BadData(f"{path}: not the results of one trial, under its name")
        return {path.stem: about}
    held: dict[str, dict[str, Any]] = about.get("runs", {})
    if set(held) != runs:
        raise BadData(f"{path}: not a merged file (it names other trials than its rows)")
    return held


def split(sweep: Sweep) -> list[Path]:
    """Gives every trial of the merged files its own file again; returns the files that were merged.

    Raises:
        BadData: one of them is damaged.
        CannotWrite: the folder cannot be written.
    """
    merged = sorted((sweep.root / "results").glob(f"{_MERGED}*.parquet"))
    for path in merged:
        table = read_results(path)
        held = _abouts(path, table)
        for run_id, rows in by_run(table).items():
            if not sweep.results(run_id).exists():
                write_results(sweep.results(run_id), rows.to_pylist(), held[run_id])
        path.unlink()
    return merged


def _ended(table: Any) -> bool:
    """Whether a trial has nothing left to do: no row failed, and its last epoch is there."""
    epochs = set(table["epoch"].to_pylist())
    return set(table["status"].to_pylist()) == {OK} and epochs >= set(table["epochs"].to_pylist())


def by_run(table: Any) -> dict[str, Any]:
    """The rows of each trial of a table, in which they stand together."""
    runs = table["run_id"].to_pylist()
    starts = [i for i, run_id in enumerate(runs) if i == 0 or run_id != runs[i - 1]]
    ends = [*starts[1:], len(runs)]
    return {
        runs[start]: table.slice(start, end - start)
        for start, end in zip(starts, ends, strict=True)
    }


def _replace(results: Path, name: str, merged: bytes, replaced: Set[str]) -> None:
    """Puts a merged file in the place of others, in one step where the system has one."""
    gone = replaced - {name}
    try:
        _swap(results, name, merged, gone)
    except OSError:
        # Links and exchanges are what Linux has on its own disks. Elsewhere rows are for a moment
        # there twice, of which `scan` counts one; never are they missing.
        write_atomic(results / name, merged)
        for other in sorted(gone):
            (results / other).unlink(missing_ok=True)
        sync_folder(results)
    finally:
        _settle(results)


def _swap(results: Path, name: str, merged: bytes, gone: Set[str]) -> None:
    """Makes the new folder beside the old one, and swaps their names.

    Raises:
        OSError: the system or the disk cannot; the folder is as it was.
        BadData: the merged file cannot be written.
    """
    beside = _beside(results)
    stay = [path for path in results.iterdir() if path.name not in gone]
    if any(path.is_dir() for path in stay):
        raise OSError("a folder cannot be in two places at once")
    beside.mkdir()
    shutil.copymode(results, beside)
    for path in stay:
        os.link(path, beside / path.name, follow_symlinks=False)
    write_atomic(beside / name, merged)
    _exchange(beside, results)
    sync_folder(results.parent)
    time.sleep(_GRACE)


def _settle(results: Path) -> None:
    """Removes the folder beside: a new one half made or, after the exchange, the old one.

    Files there that are neither in the folder of results nor in its merged files are moved there:
    they came while the new one was made, or what was merged of them cannot be read again.
    """
    beside = _beside(results)
    if beside.is_symlink():
        raise OSError(errno.ELOOP, f"{beside.name} is a link, which is not followed here")
    if beside.exists():
        merged: Mapping[str, Any] = {}
        with contextlib.suppress(BadData):
            merged = merged_runs(results)
        for path in beside.iterdir():
            there = (results / path.name).exists() or path.stem in merged
            if not (there or is_merged(path) or path.suffix == ".part"):
                path.rename(results / path.name)
        shutil.rmtree(beside)
        sync_folder(results)
        sync_folder(results.parent)
    for part in results.glob(f".{_MERGED}*.part"):
        part.unlink()


def _beside(results: Path) -> Path:
    return results.with_name(f".{results.name}.compact")


def _exchange(one: Path, other: Path) -> None:
    """Swaps two names in one step.

    Raises:
        OSError: the system or the disk cannot.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError("no renameat2")
    names = (os.fsencode(one), os.fsencode(other))
    if call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
