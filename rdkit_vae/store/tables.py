"""Arrow tables in Parquet files whose every byte is under one checksum.

Never imports torch.
"""

import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rdkit_vae.errors import BadData, Newer, OtherKind
from rdkit_vae.store.pages import read_parquet
from rdkit_vae.store.schema import SCHEMA
from rdkit_vae.system.files import open_regular, write_atomic

MOST_BYTES = 2**32  # of a file; statistics of a million images and 127 draws come near


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
    **options: Any,
) -> bytes:
    """The bytes of the file that `write_table` writes.

    Args:
        table: its rows, with what `file_metadata` makes.
        compression: of its pages.
        **options: of `pyarrow.parquet.ParquetWriter`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression=compression, write_page_checksum=True, **options
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_SEAL: _OPEN.decode()})
    return _sealed(sink.getvalue().to_pybytes())


# A checksum of the whole file, footer too, which no page's checksum covers; it stands in the
# footer's metadata, and is taken over the file with zeros in its place.
_SEAL, _OPEN = "rdvae-crc32", b"00000000"
_SEAL_MARK = _SEAL.encode() + b"\x18\x08"  # Thrift: a binary field of 8 bytes follows
_SEALED_SINCE = 3
_LARGE = 2**26  # bytes of a file, which is then written without holes


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


def read_table(
    path: Path, kind: bytes, columns: Sequence[str] | None = None, *, most: int = MOST_BYTES
) -> Any:
    """Reads an Arrow table of a kind that rdvae writes, checksums verified.

    Args:
        path: of the file.
        kind: what it must say of itself.
        columns: only those, as far as they are there. The whole file is checked all the same.
        most: bytes that such a file may have.

    Raises:
        BadData: damaged, of another kind, of a newer schema, or of a size that none of rdvae has.
    """
    import pyarrow as pa

    try:
        data = file_of(path, most)
        whole = _is_whole(data)
        if whole is False:
            raise BadData(f"{path}: damaged (its checksum is another)")
        table = read_parquet(
            data,
            columns,
            check=lambda metadata: _check_metadata(path, metadata, kind, sealed=bool(whole)),
            verify=not whole,  # the seal covers the pages too
        )
        if not isinstance(about_of(table), dict):
            raise ValueError("what stands beside the rows is damaged")
    except (OSError, pa.ArrowException, LookupError, ValueError, RecursionError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise BadData(f"{path}: not a readable Parquet file ({reason[:120]})") from error
    return table


def file_of(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file of rows, if they can be that.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is larger than such a file is, or large and mostly holes.
    """
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        if size > most:
            raise ValueError(f"of {size:,} bytes")
        if size > _LARGE and hasattr(os, "SEEK_HOLE") and file.seek(0, os.SEEK_HOLE) < size:
            raise ValueError(f"of {size:,} bytes, not all of which are there")
        file.seek(0)
        return file.read(size)


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
