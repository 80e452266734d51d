"""Reads Parquet files, checking their size before they are unpacked. Never imports torch.

A few bytes of Parquet can stand for gigabytes, since pages are compressed and repeated values are
stored once. Files of rdvae unpack to a few times their size, so files whose headers announce much
more are refused.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MOST_UNPACKED = 2**26  # bytes, for small files
_MAX_RATIO = 30  # of unpacked to packed size, for large files
_MAX_ROWS_OF_SMALL = 100_000  # rows, even if the file has fewer bytes
_MAX_LISTED = 256  # columns, or row groups
_LARGE = 2**20  # bytes of a file
_NEGLIGIBLE = 2**16  # bytes of text that need not be counted
_WIDTH = 8  # bytes of a number
_MOST_FIELDS = 16  # of a page's header; Parquet has eight
_TEXTS = ("string", "binary", "large_string", "large_binary")
_ENCODINGS = (0, 2, 3, 8)  # plain, dictionary, run-length: those in files of rdvae


def read_parquet(
    data: bytes,
    columns: Sequence[str] | None = None,
    *,
    check: Callable[[Mapping[bytes, bytes] | None], None] = lambda metadata: None,
    verify: bool = True,
) -> Any:
    """Reads a Parquet file of flat columns as a table.

    Args:
        data: the bytes of the file.
        columns: columns to read, if present.
        check: called with the metadata before any row is read.
        verify: whether to verify page checksums.

    Raises:
        ValueError: the file is not such a file, or unpacks to more than its size allows.
            (`pyarrow.ArrowInvalid` is a ValueError.)
        OSError, pyarrow.ArrowException: the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    options: dict[str, Any] = {
        "thrift_container_size_limit": _MAX_LISTED,
        "page_checksum_verification": verify,
    }
    most = max(MOST_UNPACKED, _MAX_RATIO * len(data))
    # For small files, threads cost more than they save.
    read_options = {"columns": columns and list(columns), "use_threads": len(data) > _LARGE}
    with pq.ParquetFile(pa.BufferReader(data), **options) as file:
        facts, schema = file.metadata, file.schema_arrow
        check(schema.metadata)
        _check_types(schema)
        _check_rows(facts, len(data), most)
        unpacked = _check_pages(facts, data, most)
        if facts.num_rows * unpacked <= most:  # even if every row repeats the longest text
            table = file.read(**read_options)
            table.validate(full=True)
            return table
    texts = [field.name for field in schema if _is_text(field.type)]
    with pq.ParquetFile(
        pa.BufferReader(data), metadata=facts, read_dictionary=texts, **options
    ) as file:
        return _with_texts(file.read(**read_options), schema, most)


def _check_types(schema: Any) -> None:
    import pyarrow as pa

    flat = _flat_types()
    for kind in schema.types:
        if (kind.value_type if pa.types.is_dictionary(kind) else kind).id not in flat:
            raise ValueError(f"a column of type {kind}"[:60])


@functools.cache
def _flat_types() -> frozenset[int]:
    """Returns the ids of the types of numbers, texts and times."""
    import pyarrow as pa

    numbers = (*(f"int{n}" for n in (8, 16, 32, 64)), *(f"uint{n}" for n in (8, 16, 32, 64)))
    names = (*numbers, "float32", "float64", "bool_", "null", "date32", *_TEXTS)
    return frozenset({getattr(pa, name)().id for name in names} | {pa.timestamp("us").id})


def _is_text(kind: Any) -> bool:
    return str(kind) in _TEXTS


def _check_rows(facts: Any, size: int, most: int) -> None:
    rows = sum(facts.row_group(i).num_rows for i in range(facts.num_row_groups))
    if rows != facts.num_rows or not 0 <= rows <= max(size, _MAX_ROWS_OF_SMALL):
        raise ValueError(f"it claims {facts.num_rows:,} rows in {size:,} bytes")
    if rows * facts.num_columns * _WIDTH > most:
        raise ValueError(f"it claims {rows:,} rows of {facts.num_columns} columns")


def _check_pages(facts: Any, data: bytes, most: int) -> int:
    """Returns the number of bytes to which all pages unpack, according to their headers."""
    total, left = 0, 1000 + len(data) // 256  # real pages are larger; more would take long to read
    for i in range(facts.num_row_groups):
        for j in range(facts.num_columns):
            column = facts.row_group(i).column(j)
            at = column.data_page_offset
            if column.has_dictionary_page:
                at = min(at, column.dictionary_page_offset)
            end = at + column.total_compressed_size
            if not 4 <= at <= end <= len(data):
                raise ValueError("a column lies outside the file")
            while at < end and left:
                unpacks_to, at = _page(data, at)
                total, left = total + unpacks_to, left - 1
    if total > most or not left:
        raise ValueError(f"its pages unpack to more than {most:,} bytes, or are too many")
    return total


def _page(data: bytes, at: int) -> tuple[int, int]:
    """Returns the unpacked size of a page, and where the next one begins."""
    header, at = _thrift(data, at)
    unpacks_to, length = header.get(2), header.get(3)
    if not (isinstance(unpacks_to, int) and isinstance(length, int)) or min(unpacks_to, length) < 0:
        raise ValueError("a page without a size")
    for kind, field in ((5, 2), (7, 2), (8, 4)):  # data, dictionary, data of version 2
        if kind in header and header[kind].get(field) not in _ENCODINGS:
            raise ValueError("a page has an unusual encoding")
    return unpacks_to, at + length


def _thrift(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Parses the whole numbers and structures of a structure in Thrift's compact form."""
    fields: dict[int, Any] = {}
    index = 0
    while head := data[at]:
        at += 1
        step, kind = head >> 4, head & 15
        if step:
            index += step
        else:
            index, at = _whole(data, at)
        if (
            index in fields or not 1 <= index < _MOST_FIELDS
        ):  # readers differ in which one they take
            raise ValueError("a page whose header repeats a field")
        if 4 <= kind <= 6:
            value = data[at]
            if value < 0x80:  # almost always; faster than the call
                fields[index], at = (value >> 1) ^ -(value & 1), at + 1
            else:
                fields[index], at = _whole(data, at)
        elif kind == 12 and depth < 3:
            fields[index], at = _thrift(data, at, depth + 1)
        elif kind == 8:
            length, at = _varint(data, at)
            at += length
        elif kind in (3, 7):
            at += 1 if kind == 3 else 8
        elif kind not in (1, 2):  # these are the values false and true themselves
            raise ValueError("a page has a damaged header")
    return fields, at + 1


def _whole(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Reads a whole number, seven bits per byte, lowest first; returns it and its end."""
    value = 0
    for shift in range(0, 70, 7):
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("a number has too many bytes")


def _with_texts(table: Any, schema: Any, most: int) -> Any:
    """Expands the texts of a table, which were read as dictionaries."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for i, field in enumerate(table.schema):
        if not pa.types.is_dictionary(field.type):
            continue
        for chunk in table.column(i).chunks:
            if chunk.dictionary.nbytes * len(chunk) > _NEGLIGIBLE:
                lengths = pc.binary_length(chunk.dictionary)
                most -= pc.sum(pc.take(lengths, chunk.indices)).as_py() or 0
            if most < 0:
                raise ValueError(f"{field.name} repeats a long text too often"[:60])
        written = schema.field(field.name)
        table = table.set_column(i, written, table.column(i).cast(written.type))
    table.validate(full=True)
    return table
