"""The Parquet files: results, bounds and statistics; written whole, checked when read.

Never imports torch, so that results and statistics are read in a moment.
"""

import base64
import functools
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rdkit_vae.errors import BadData, BadInput, Newer, OtherKind
from rdkit_vae.files import write_atomic
from rdkit_vae.schema import BOUNDS, COLUMNS, SCHEMA, Column
from rdkit_vae.statistics import RateSplit, Statistics
from rdkit_vae.trial import Trial

RESULTS_KIND, BOUNDS_KIND = b"rdvae-results", b"rdvae-bounds"
STATISTICS_KIND = b"rdvae-statistics"


def write_results(path: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Writes the results of one trial; `about` (JSON) goes into the file's metadata."""
    _write_rows(path, rows, COLUMNS, RESULTS_KIND, about)


def encoded_results(tables: Sequence[Any], about: Mapping[str, Any]) -> bytes:
    """The bytes of one file with the rows of several, as `read_results` gives them."""
    import pyarrow as pa

    schema = _schema_of(COLUMNS).with_metadata(file_metadata(RESULTS_KIND, about))
    return encoded(pa.concat_tables(tables).combine_chunks().cast(schema))


def write_bounds(path: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Writes bounds, with the columns of `BOUNDS`."""
    _write_rows(path, rows, BOUNDS, BOUNDS_KIND, about)


def _write_rows(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Column],
    kind: bytes,
    about: Mapping[str, Any],
) -> None:
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
    table = pa.Table.from_arrays(arrays, schema=schema)
    write_table(path, table, beside={_ROWS: _rows_as_text(table)}, **quick)


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
        return table
    table = read_table(path, RESULTS_KIND)
    schema = int(table.schema.metadata[b"schema"])
    there = set(table.column_names)
    for name, column in COLUMNS.items():
        if column.since > schema and name not in there:
            values = pa.nulls(len(table), column.type)
            if name == "setup":  # what is compared hangs on it, and the trial knows it
                values = pa.array(_setups_of(table, path), column.type)
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
    return table


def _setups_of(table: Any, path: Path) -> list[str | None]:
    """The setup of the trial that each row is of; None where the file does not tell."""
    about = about_of(table)
    try:
        merged = about.get("runs")
        if merged is None:
            return [_setup_of(about)] * len(table)
        setups = {run_id: _setup_of(said) for run_id, said in merged.items()}
        return [setups.get(run_id) for run_id in table["run_id"].to_pylist()]
    except (BadInput, AttributeError) as error:
        raise BadData(f"{path}: damaged ({error})") from error


def _setup_of(about: Mapping[str, Any]) -> str | None:
    trial = about.get("trial")
    return None if trial is None else Trial.from_dict(trial).setup


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


def about_of(table: Any) -> dict[str, Any]:
    """The `about` that was written with a table."""
    values: dict[str, Any] = json.loads(table.schema.metadata[b"about"])
    return values


def file_metadata(kind: bytes, about: Mapping[str, Any]) -> dict[bytes, bytes]:
    """What stands in a file beside its rows: whose it is, of which schema, and `about`."""
    return {
        b"kind": kind,
        b"schema": str(SCHEMA).encode(),
        b"about": json.dumps(about).encode(),
    }


def write_table(path: Path, table: Any, **options: Any) -> None:
    """Writes an Arrow table, sealed and with page checksums, whole or not at all.

    Args:
        path: of the file.
        table: its rows, with what `file_metadata` makes.
        **options: of `encoded`.

    Raises:
        BadData: the file cannot be written.
    """
    write_atomic(path, encoded(table, **options))


def encoded(
    table: Any,
    *,
    compression: str = "zstd",
    beside: Mapping[str, str] | None = None,
    **options: Any,
) -> bytes:
    """The bytes of the file that `write_table` writes.

    Args:
        table: its rows, with what `file_metadata` makes.
        compression: of its pages.
        beside: what else goes into the footer's metadata.
        **options: of `pyarrow.parquet.ParquetWriter`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression=compression, write_page_checksum=True, **options
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({**(beside or {}), _SEAL: _OPEN.decode()})
    return _sealed(sink.getvalue().to_pybytes())


# A checksum of the whole file, footer too, which no page's checksum covers; it stands in the
# footer's metadata, and is taken over the file with zeros in its place.
_SEAL, _OPEN = "rdvae-crc32", b"00000000"
_SEAL_MARK = _SEAL.encode() + b"\x18\x08"  # Thrift: a binary field of 8 bytes follows
_SEALED_SINCE = 3
_LARGE = 2**20  # bytes of a file
_MOST_OF_FEW_BYTES = 100_000  # rows that fit in fewer bytes than there are rows


def _sealed(data: bytes) -> bytes:
    at = _seal_in(data)
    if at is None:
        raise AssertionError("the metadata that was just written is not in the file")
    return data[:at] + b"%08x" % zlib.crc32(data) + data[at + len(_OPEN) :]


def _seal_in(data: bytes) -> int | None:
    mark = data.rfind(_SEAL_MARK)
    return None if mark < 0 else mark + len(_SEAL_MARK)


def _is_whole(data: bytes) -> bool | None:
    """Whether a file is as it was written; None: it was not sealed."""
    at = _seal_in(data)
    if at is None:
        return None
    end, checksum = at + len(_OPEN), zlib.crc32(data[:at])
    checksum = zlib.crc32(memoryview(data)[end:], zlib.crc32(_OPEN, checksum))
    return data[at:end] == b"%08x" % checksum


# Parquet takes a millisecond to open 43 columns of a few rows, and a sweep has thousands of such
# files. So their footer holds the same rows once more, as one message of Arrow's own format, which
# reads six times as fast. The seal is over both, and other readers pass over the copy.
_ROWS = "rdvae-rows"
_ROWS_MARK = _ROWS.encode() + b"\x18"  # Thrift: a binary field follows, its length as a varint


def _rows_as_text(table: Any) -> str:
    import pyarrow as pa

    # Units and meanings are in the Parquet schema; here they would cost more than the rows.
    bare = pa.schema([(f.name, f.type) for f in table.schema], table.schema.metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, bare) as writer:
        writer.write_table(pa.Table.from_arrays(table.columns, schema=bare))
    return base64.b64encode(zlib.compress(sink.getvalue())).decode()


def _rows_beside(data: bytes) -> Any:
    """The copy of the rows in a file's footer, as an Arrow table; None: it has none."""
    import pyarrow as pa

    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    at = data.rfind(_ROWS_MARK, max(footer, 0))
    if at < 0:
        return None
    at, length, shift = at + len(_ROWS_MARK), 0, 0
    while True:  # the varint: seven bits a byte, the lowest first
        length |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            break
    return pa.ipc.open_stream(zlib.decompress(base64.b64decode(data[at : at + length]))).read_all()


def read_table(path: Path, kind: bytes, columns: Sequence[str] | None = None) -> Any:
    """Reads an Arrow table of a kind that rdvae writes, checksums verified.

    Args:
        path: of the file.
        kind: what it must say of itself.
        columns: only those, as far as they are there. The whole file is checked all the same.

    Raises:
        BadData: damaged, of another kind, or of a newer schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = path.read_bytes()
        whole = _is_whole(data)
        if whole is False:
            raise BadData(f"{path}: damaged (its checksum is another)")
        table = _rows_beside(data) if whole else None
        if table is not None:
            _check_metadata(path, table.schema.metadata, kind, sealed=True)
            names = table.column_names
            if columns and list(columns) != names:
                table = table.select([name for name in columns if name in names])
        else:
            # A seal that was found whole is over the pages too.
            source = pa.BufferReader(data)
            with pq.ParquetFile(source, page_checksum_verification=not whole) as file:
                _check_metadata(path, file.schema_arrow.metadata, kind, sealed=bool(whole))
                rows = file.metadata.num_rows
                if rows > max(len(data), _MOST_OF_FEW_BYTES):
                    raise BadData(
                        f"{path}: damaged (it claims {rows:,} rows in {len(data):,} bytes)"
                    )
                # In small files threads would cost more than they save.
                threads = len(data) > _LARGE
                table = file.read(columns and list(columns), use_threads=threads)
        if not isinstance(about_of(table), dict):
            raise ValueError("what stands beside the rows is damaged")
    except (OSError, pa.ArrowException, KeyError, ValueError, zlib.error, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise BadData(f"{path}: not a readable Parquet file ({reason[:120]})") from error
    return table


def _check_metadata(
    path: Path, metadata: Mapping[bytes, bytes] | None, kind: bytes, *, sealed: bool
) -> None:
    metadata = metadata or {}
    if metadata.get(b"kind") != kind:
        ours = metadata.get(b"kind", b"").startswith(b"rdvae-")
        error = OtherKind if ours else BadData
        raise error(f"{path}: Parquet, but not {kind.decode()}")
    schema = metadata.get(b"schema", b"").decode("ascii", "replace")
    if not re.fullmatch(r"\d{1,9}", schema):
        raise BadData(f"{path}: damaged (its schema is {schema!r})")
    if int(schema) > SCHEMA:
        raise Newer(f"{path}: written by a newer rdvae (schema {schema}); upgrade rdvae")
    if not sealed and int(schema) >= _SEALED_SINCE:
        raise BadData(f"{path}: damaged (it has lost its checksum)")
