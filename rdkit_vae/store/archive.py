"""Checks the layout of the zip archives that `torch.save` writes."""

import io
import struct
import zipfile

_LOCAL = struct.Struct("<4s2x2H4x3I2H")  # mark, flags, method, checksum, sizes, lengths
_END = struct.Struct("<4s4x2H2IH")  # mark, records here and in all, size and place, comment
_LOCATOR_64 = struct.Struct("<4s4xQI")  # mark, place of the next one, files
_END_64 = struct.Struct("<4sQ12x4Q")  # mark, size, then as the short one
_HAS_DESCRIPTOR = 0x8


class Foreign(ValueError):
    """A file of another program, or one that was made to do harm; not merely a damaged file."""


def check_records(records: list[zipfile.ZipInfo], size: int) -> None:
    """Checks that the records of an archive of `size` bytes are stored uncompressed and fit in it.

    Raises:
        Foreign: a record is compressed, or the records are larger than the file.
        ValueError: the sizes of a record differ.
    """
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
            raise Foreign(f"{record.filename} is compressed, but PyTorch does not compress records")
        if record.file_size != record.compress_size:
            raise ValueError(f"{record.filename} has two sizes")
    if sum(record.file_size for record in records) > size:
        raise Foreign(f"it claims to hold more than its {size:,} bytes")


def check_layout(file: io.FileIO, records: list[zipfile.ZipInfo], table: int, size: int) -> None:
    """Checks that the file consists of its records, their table and the end record, with no gaps.

    Otherwise another reader could find different records in it.

    Args:
        file: the archive, of `size` bytes.
        records: the records in its table.
        table: position of the table.

    Raises:
        Foreign: the file contains anything else, or its parts contradict each other.
    """
    place = 0
    for record in sorted(records, key=lambda record: record.header_offset):
        if record.header_offset != place:
            raise Foreign("it has extra data before or between its records")
        place = _end_of_record(file, record)
    length = sum(46 + len(_name(r)) + len(r.extra) + len(r.comment) for r in records)
    facts = _facts_of_end(file, size)
    if facts != (len(records), len(records), length, place, place + length) or table != place:
        raise Foreign("its table of records is misplaced, or there is more than one")


def _end_of_record(file: io.FileIO, record: zipfile.ZipInfo) -> int:
    file.seek(record.header_offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size:
        raise ValueError("it is cut short")
    mark, flags, method, *sums, name, extra = _LOCAL.unpack(head)
    in_table = [record.CRC, record.compress_size, record.file_size]
    later = flags & _HAS_DESCRIPTOR and sums == [0, 0, 0]
    agree = (mark, flags, method) == (b"PK\x03\x04", record.flag_bits, record.compress_type)
    if not agree or file.read(name) != _name(record) or not (later or sums == in_table):
        raise Foreign(f"two descriptions of {record.filename} contradict each other")
    end: int = record.header_offset + _LOCAL.size + name + extra + record.file_size
    if not flags & _HAS_DESCRIPTOR:
        return end
    file.seek(end)
    descriptor = file.read(24)
    for form in ("<4s3I", "<4sI2Q"):
        length = struct.calcsize(form)
        if (
            descriptor[:4] == b"PK\x07\x08"
            and [*struct.unpack(form, descriptor[:length])[1:]] == in_table
        ):
            return end + length
    raise Foreign(f"two descriptions of {record.filename} contradict each other")


def _name(record: zipfile.ZipInfo) -> bytes:
    name = record.orig_filename.encode("utf-8" if record.flag_bits & 0x800 else "cp437")
    if b"\0" in name:
        raise Foreign(f"the name of {record.filename} contains a null byte")
    return name


def _facts_of_end(file: io.FileIO, size: int) -> tuple[int, ...]:
    """Reads the end record: records here and in all, size and place of the table; and its start."""
    start = size - _END.size
    file.seek(start)
    mark, *facts, comment = _END.unpack(file.read(_END.size))
    if mark != b"PK\x05\x06" or comment:
        raise Foreign("it has extra data at its end")
    long = start - _LOCATOR_64.size - _END_64.size
    if long < 0:
        return (*facts, start)
    file.seek(long)
    mark, length, *facts_64 = _END_64.unpack(file.read(_END_64.size))
    if _LOCATOR_64.unpack(file.read(_LOCATOR_64.size)) != (b"PK\x06\x07", long, 1):
        return (*facts, start)
    for short, long_fact, most in zip(facts, facts_64, (2**16, 2**16, 2**32, 2**32), strict=True):
        if short not in (long_fact, most - 1):
            raise Foreign("its two end records contradict each other")
    if (mark, length) != (b"PK\x06\x06", _END_64.size - 12):
        raise Foreign("its end record is not like that of PyTorch")
    return (*facts_64, long)
