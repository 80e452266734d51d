"""Arrow tables in Parquet files, with a checksum over the whole file. Never imports torch."""

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

MAX_BYTES = 2**32  # of a file; statistics of a million images with 127 draws almost reach it


def about_of(table: Any) -> dict[str, Any]:
    """Returns the `about` that was written with a table."""
    values: dict[str, Any] = json.loads(table.schema.metadata[b"about"])
    return values


def file_metadata(kind: bytes, about: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Returns the metadata of a file: its kind, its schema and `about`."""
    return {
        b"kind": kind,
        b"schema": str(SCHEMA).encode(),
        b"about": json.dumps(about).encode(),
    }


def write_table(path: Path, table: Any, **options: Any) -> None:
    """Writes an Arrow table atomically, with checksums of the file and of its pages.

    Args:
        path: the file.
        table: the rows, with metadata from `file_metadata`.
        **options: as for `encoded`.

    Raises:
        BadData: the file cannot be written.
    """
    write_atomic(path, encoded(table, **options))


def encoded(table: Any, *, compression: str = "zstd", **options: Any) -> bytes:
    """Returns the bytes of the file that `write_table` writes.

    Args:
        table: the rows, with metadata from `file_metadata`.
        compression: compression of the pages.
        **options: as for `pyarrow.parquet.ParquetWriter`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression=compression, write_page_checksum=True, **options
    ) as writer:
        writer.write_table(table)
        metadata = {_SEAL: _OPEN.decode()}
        if not options.get("store_schema", True):  # which would have brought these along
            metadata |= {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
        writer.add_key_value_metadata(metadata)
    return _sealed(sink.getvalue().to_pybytes())


# A checksum of the whole file including the footer, which page checksums do not cover. It is stored
# in the metadata of the footer, and computed with zeros in its place.
_SEAL, _OPEN = "rdvae-crc32", b"00000000"
_SEAL_MARK = _SEAL.encode() + b"\x18\x08"  # Thrift: a binary field of 8 bytes follows
_SEALED_SINCE = 3
_LARGE = 2**26  # bytes; rdvae writes such files without holes


def _sealed(data: bytes) -> bytes:
    at = _seal_in(data)
    if at is None:
        raise AssertionError("the metadata that was just written is not in the file")
    return data[:at] + b"%08x" % zlib.crc32(data) + data[at + len(_OPEN) :]


def _seal_in(data: bytes) -> int | None:
    mark = data.rfind(_SEAL_MARK)
    return None if mark < 0 else mark + len(_SEAL_MARK)


def _is_whole(data: bytes) -> bool | None:
    """Whether the checksum of a file is right; None if it has none."""
    at = _seal_in(data)
    if at is None:
        return None
    end, checksum = at + len(_OPEN), zlib.crc32(data[:at])
    checksum = zlib.crc32(memoryview(data)[end:], zlib.crc32(_OPEN, checksum))
    return data[at:end] == b"%08x" % checksum


def read_table(
    path: Path, kind: bytes, columns: Sequence[str] | None = None, *, most: int = MAX_BYTES
) -> Any:
    """Reads an Arrow table that rdvae wrote, and verifies its checksums.

    Args:
        path: the file.
        kind: the kind that its metadata must name.
        columns: columns to read, if present; the whole file is checked anyway.
        most: maximal size of the file in bytes.

    Raises:
        BadData: the file is damaged, of another kind or newer schema, or implausibly large.
    """
    import pyarrow as pa

    try:
        data = file_of(path, most)
        whole = _is_whole(data)
        if whole is False:
            raise BadData(f"{path}: damaged (wrong checksum)")
        table = read_parquet(
            data,
            columns,
            check=lambda metadata: _check_metadata(path, metadata, kind, sealed=bool(whole)),
            verify=not whole,  # the checksum of the file covers the pages
        )
        if not isinstance(about_of(table), dict):
            raise ValueError("its metadata is damaged")
    except (OSError, pa.ArrowException, LookupError, ValueError, RecursionError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise BadData(f"{path}: not a readable Parquet file ({reason[:120]})") from error
    return table


def file_of(path: Path, most: int = MAX_BYTES) -> bytes:
    """Returns the bytes of a file of plausible size.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
        ValueError: the file is too large, or large and with holes.
    """
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        if size > most:
            raise ValueError(f"{size:,} bytes are too many")
        if size > _LARGE and hasattr(os, "SEEK_HOLE") and file.seek(0, os.SEEK_HOLE) < size:
            raise ValueError(f"{size:,} bytes, some of which are holes")
        file.seek(0)
        return file.read(size)


def _check_metadata(
    path: Path, metadata: Mapping[bytes, bytes] | None, kind: bytes, *, sealed: bool
) -> None:
    metadata = metadata or {}
    if metadata.get(b"kind") != kind:
        ours = metadata.get(b"kind", b"").startswith(b"rdvae-")
        error = OtherKind if ours else BadData
        raise error(f"{path}: a Parquet file, but not {kind.decode()}")
    schema = metadata.get(b"schema", b"").decode("ascii", "replace")
    if not re.fullmatch(r"\d{1,9}", schema):
        raise BadData(f"{path}: damaged (its schema is {schema!r})")
    if int(schema) > SCHEMA:
        raise Newer(f"{path}: written by a newer rdvae (schema {schema}); upgrade rdvae")
    if not sealed and int(schema) >= _SEALED_SINCE:
        raise BadData(f"{path}: damaged (it has lost its checksum)")
