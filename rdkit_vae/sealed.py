"""Arrow tables in Parquet files whose every byte is under one checksum.

Never imports torch.
"""

import base64
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rdkit_vae.errors import BadData, Newer, OtherKind
from rdkit_vae.files import write_atomic
from rdkit_vae.schema import SCHEMA


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


def copy_of_rows(table: Any) -> dict[str, str]:
    """The rows of a table as `encoded` takes them beside it."""
    import pyarrow as pa

    # Units and meanings are in the Parquet schema; here they would cost more than the rows.
    bare = pa.schema([(f.name, f.type) for f in table.schema], table.schema.metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, bare) as writer:
        writer.write_table(pa.Table.from_arrays(table.columns, schema=bare))
    return {_ROWS: base64.b64encode(zlib.compress(sink.getvalue())).decode()}


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
