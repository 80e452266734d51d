"""The Parquet files: results, bounds and statistics; written whole, checked when read.

Never imports torch, so that results and statistics are read in a moment.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.scoring.statistics import RateSplit, Statistics
from rdkit_vae.store.schema import BOUNDS, COLUMNS, Column
from rdkit_vae.store.tables import (
    about_of,
    encoded,
    file_metadata,
    read_table,
    write_table,
)
from rdkit_vae.system.files import Write, write_atomic
from rdkit_vae.text import is_plain_name, shown

RESULTS_KIND, BOUNDS_KIND = b"rdvae-results", b"rdvae-bounds"
STATISTICS_KIND = b"rdvae-statistics"
_FEW_ROWS = 200


def write_results(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    *,
    write: Write = write_atomic,
) -> None:
    """Writes the results of one trial; `about` (JSON) goes into the file's metadata."""
    write(path, _encoded_rows(rows, COLUMNS, RESULTS_KIND, about))


def encode_results(frame: Any, about: Mapping[str, Any]) -> bytes:
    """The bytes of one results file with the rows of a DataFrame of all columns."""
    import pyarrow as pa

    schema = _schema_of(COLUMNS).with_metadata(file_metadata(RESULTS_KIND, about))
    return encoded(pa.Table.from_pandas(frame, schema, preserve_index=False).cast(schema))


def write_bounds(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    *,
    write: Write = write_atomic,
) -> None:
    """Writes bounds, with the columns of `BOUNDS`."""
    write(path, _encoded_rows(rows, BOUNDS, BOUNDS_KIND, about))


def _encoded_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Column],
    kind: bytes,
    about: Mapping[str, Any],
) -> bytes:
    import pyarrow as pa

    schema = _schema_of(columns).with_metadata(file_metadata(kind, about))
    arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in schema]
    # A few hundred rows of many columns: what counts is how soon thousands of such files are read.
    texts = [name for name, column in columns.items() if column.type == "string"]
    quick: dict[str, Any] = {
        "compression": "snappy",
        "use_dictionary": texts,
        "write_statistics": False,
    }
    return encoded(pa.Table.from_arrays(arrays, schema=schema), **quick)


def _schema_of(columns: Mapping[str, Column]) -> Any:
    import pyarrow as pa

    return pa.schema(
        pa.field(name, column.type, metadata={"unit": column.unit, "meaning": column.meaning})
        for name, column in columns.items()
    )


@functools.cache
def _results_schema(columns: tuple[str, ...]) -> Any:
    return _schema_of({name: COLUMNS[name] for name in columns})


def read_results(path: Path, columns: Sequence[str] = tuple(COLUMNS)) -> Any:
    """Reads one results file as an Arrow table; columns younger than the file are null.

    Args:
        path: of the file.
        columns: those that are wanted; fewer are read sooner.

    Raises:
        BadData: it is damaged, not rdvae's, or of a newer schema.
    """
    import pyarrow as pa

    wanted = _results_schema(tuple(columns))
    table = read_table(path, RESULTS_KIND, columns)
    if table.schema.equals(wanted):
        return _with_plain_names(table, path)
    table = read_table(path, RESULTS_KIND)
    schema = int(table.schema.metadata[b"schema"])
    there = set(table.column_names)
    for name, column in COLUMNS.items():
        if column.since > schema and name not in there:
            values = pa.nulls(len(table), column.type)
            if name == "setup":  # what is compared hangs on it, and the trial knows it
                values = pa.array([_setup_of(table, path)] * len(table), column.type)
            table = table.append_column(name, values)
            there.add(name)
    missing = [name for name in COLUMNS if name not in there]
    if missing:
        raise BadData(f"{path}: damaged (no column {', '.join(missing)})")
    table = table.select(list(columns))
    # The checksums are of the pages alone; a flipped bit in the footer can change a type.
    other = [f.name for f, w in zip(table.schema, wanted, strict=True) if f.type != w.type]
    if other:
        raise BadData(f"{path}: damaged (another type of column {', '.join(other)})")
    return _with_plain_names(table, path)


def _with_plain_names(table: Any, path: Path) -> Any:
    """The table, if every run in it has a name that can be a file's.

    Raises:
        BadData: one has not; it could lead out of the sweep.
    """
    if "run_id" in table.column_names:
        column = table["run_id"]
        few = len(column) < _FEW_ROWS  # where a kernel of Arrow's takes longer to call than to do
        for run_id in {*(column if few else column.unique()).to_pylist()}:
            if not is_plain_name(run_id):
                raise BadData(f"{path}: damaged ({shown(str(run_id))} names no run)")
    return table


def _setup_of(table: Any, path: Path) -> str | None:
    """The setup of the trial that a file of an early schema holds; None if it does not say."""
    trial = about_of(table).get("trial")
    try:
        return None if trial is None else Trial.from_dict(trial).setup
    except (BadInput, AttributeError) as error:
        raise BadData(f"{path}: damaged ({error})") from error


def write_statistics(
    path: Path, statistics: Mapping[str, Statistics], about: Mapping[str, Any]
) -> None:
    """Writes the statistics of one checkpoint: a row per split, image and draw."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {
        name: [] for name in ("split", "image", "draw", "kl", "sse", "log_ratio")
    }
    for split, measured in statistics.items():
        n, k = measured.sse.shape
        columns["split"].append(np.full(n * k, split))
        columns["image"].append(np.repeat(measured.image, k))
        columns["draw"].append(np.tile(np.arange(k), n))
        columns["kl"].append(np.repeat(measured.kl, k))
        columns["sse"].append(measured.sse.ravel())
        columns["log_ratio"].append(measured.log_ratio.ravel())
        if isinstance(measured.own_sigma2, np.ndarray):
            columns.setdefault("own_sigma2", []).append(measured.own_sigma2.ravel())
    splits = {split: _facts_of(measured) for split, measured in statistics.items()}
    facts = {**about, "splits": splits}
    arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
    table = pa.table(arrays).replace_schema_metadata(file_metadata(STATISTICS_KIND, facts))
    write_table(path, table)


def read_statistics(path: Path) -> tuple[dict[str, Statistics], dict[str, Any]]:
    """Reads what `write_statistics` wrote: the statistics by split, and `about`.

    Raises:
        BadData: damaged, not rdvae's, or of a newer schema.
    """
    table = read_table(path, STATISTICS_KIND)
    about = about_of(table)
    try:
        columns = {name: table[name].to_numpy() for name in table.column_names}
        splits = about.get("splits") or _splits_of_schema_1(about)
        statistics = {
            split: _statistics_of(columns, split, facts) for split, facts in splits.items()
        }
    except Exception as error:  # what is wrong with a column shows itself in many ways
        raise BadData(f"{path}: damaged ({' '.join(str(error).split())[:120]})") from error
    return statistics, about


def _facts_of(measured: Statistics) -> dict[str, Any]:
    """What is not a number per image and draw."""
    split, own = measured.split_of_rate, measured.own_sigma2
    return {
        "dims": measured.dims,
        "levels": measured.levels,
        "own_sigma2": None if isinstance(own, np.ndarray) else own,
        "split_of_rate": split and {k: np.asarray(v).tolist() for k, v in asdict(split).items()},
    }


def _splits_of_schema_1(about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    unknown = {"levels": None, "split_of_rate": None}
    return {
        split: {"dims": dims, "own_sigma2": about["own_sigma2"][split], **unknown}
        for split, dims in about["dims"].items()
    }


def _statistics_of(columns: Mapping[str, Any], split: str, facts: dict[str, Any]) -> Statistics:
    rows = np.flatnonzero(columns["split"] == split)
    draws = int(columns["draw"][rows].max()) + 1
    shape = (len(rows) // draws, draws)
    dims, levels = facts["dims"], facts["levels"]
    rate, own = facts["split_of_rate"], facts["own_sigma2"]
    if type(dims) is not int or not 0 < dims < 2**40:
        raise ValueError(f"dims is {dims!r}"[:60])
    if levels is not None and (type(levels) is not int or levels < 2):
        raise ValueError(f"levels is {levels!r}"[:60])
    if own is not None and (not isinstance(own, int | float) or not 0 < own < math.inf):
        raise ValueError(f"own_sigma2 is {own!r}"[:60])

    def of(name: str) -> Any:
        return np.asarray(columns[name][rows], np.float64).reshape(shape)

    return Statistics(
        image=np.asarray(columns["image"][rows], np.int64).reshape(shape)[:, 0],
        kl=of("kl")[:, 0],
        sse=of("sse"),
        log_ratio=of("log_ratio"),
        dims=dims,
        levels=levels,
        own_sigma2=of("own_sigma2") if "own_sigma2" in columns else own,
        split_of_rate=rate and RateSplit(**{k: _numbers(v) for k, v in rate.items()}),
    )


def _numbers(value: Any) -> Any:
    return np.array(value, np.float64) if isinstance(value, list) else float(value)
