"""Loads results into one table; files that cannot be read are named, never drawn."""

import contextlib
import os
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pyarrow as pa

from rdkit_vae.errors import BadData, OtherKind
from rdkit_vae.store.mirror import local
from rdkit_vae.store.parts import is_part, results_in
from rdkit_vae.store.results import read_results
from rdkit_vae.store.schema import COLUMNS
from rdkit_vae.text import counted, few
from rdvae_analysis.sound import IDENTITY, LoadWarning, sound_rows, warn

__all__ = ["LoadWarning", "load_results", "parquet_files", "scan"]

# Folders of a sweep that hold no results, or results that a repair has moved aside.
_OTHER_KINDS = {
    *("statistics", "checkpoints", "samples", "generation", "priors"),
    *("partial", "damaged", "tensorboard"),
}
_READERS = 2  # threads; more wait for each other on files this small
_NAMED = 10  # damaged or foreign files that are listed with the reason


def load_results(path: str | Path) -> pd.DataFrame:
    """Loads all results at or below a path, or URL of an object store, as one tidy table.

    Its columns are those of `store.schema.COLUMNS`. A `LoadWarning` names each file that is left
    out, and the rows that cannot be used.

    Raises:
        BadData: there is no such folder, or no results below it.
    """
    frame, notes = scan(local(str(path)))
    warn(notes)
    return frame


def scan(*paths: Path, columns: Sequence[str] = tuple(COLUMNS)) -> tuple[pd.DataFrame, list[str]]:
    """As `load_results`, but returns notes on what was left out instead of warning.

    Args:
        paths: files or folders of results.
        columns: those to read, besides the ones that identify a row; fewer are faster.

    Raises:
        BadData: as `load_results`.
    """
    for path in paths:
        if not path.exists():
            raise BadData(f"{path}: no such file or folder")
    names = [name for name in COLUMNS if name in {*columns, *IDENTITY, "n_draws"}]
    tables, damaged, others = [], [], []
    for result in _read_all(paths, names):
        if isinstance(result, OtherKind):
            others.append(str(result))  # bounds or pictures, which are drawn elsewhere
        elif isinstance(result, BadData):
            damaged.append(str(result))
        else:
            tables.append(result)
    notes = [f"left out {error}" for error in damaged[:_NAMED]]
    if len(damaged) > _NAMED:
        rest = [Path(error.partition(":")[0]).name for error in damaged[_NAMED:]]
        notes.append(f"left out {counted(len(rest), 'more file')}: {few(rest, most=20)}")
    if not tables:
        reason = f"; {[*notes, *others][0]}" if notes or others else ""
        raise BadData(f"{few(map(str, paths))}: no results of rdvae below it{reason}")
    frame, unsound = sound_rows(pa.concat_tables(tables).to_pandas())
    notes += unsound
    usual = frame.groupby(["run_id", "epoch", "split"])["n_draws"].transform("first")
    other = frame["n_draws"].notna() & (frame["n_draws"] != usual)
    if other.any():
        rows = counted(int(other.sum()), "row")
        notes.append(f"left out {rows} with another number of posterior samples than their run")
    return frame[~other].reset_index(drop=True), notes


def _read_all(paths: Sequence[Path], columns: Sequence[str]) -> "list[pa.Table | BadData]":
    """What each file at or below the paths holds, or why it cannot be read."""
    # A sweep's own files come before copies of their rows, so that the copies are the repeats.
    files = sorted(
        dict.fromkeys(file for path in paths for file in parquet_files(path, _OTHER_KINDS)),
        key=lambda file: file.parent.name != "results",
    )
    for folder in {file.parent for file in files if is_part(file)}:
        with contextlib.suppress(BadData):  # the part is named when it is read
            kept = {*results_in(folder)}
            files = [file for file in files if file.parent != folder or file in kept]
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda file: _read(file, columns), files))


def _read(file: Path, columns: Sequence[str]) -> "pa.Table | BadData":
    try:
        return read_results(file, columns)
    except BadData as error:
        return error


def parquet_files(path: Path, skipped: Set[str]) -> Iterator[Path]:
    """The file, or all Parquet files below a folder except in subfolders of these names.

    Skips hidden names, and names that begin with an underscore.
    """
    if path.is_file():
        yield path
        return
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = sorted(
            name for name in subfolders if name not in skipped and not name.startswith(".")
        )
        for name in sorted(names):
            if name.endswith(".parquet") and not name.startswith((".", "_")):
                yield Path(folder, name)
