"""The layout of the zip archives that `torch.save` writes, checked record by record."""

import io
import struct
import zipfile

_LOCAL = struct.Struct("<4s2x2H4x3I2H")  # mark, flags, method, checksum, sizes, lengths
_END = struct.Struct("<4s4x2H2IH")  # mark, records here and in all, size and place, comment
_LOCATOR_64 = struct.Struct("<4s4xQI")  # mark, place of the next one, files
_END_64 = struct.Struct("<4sQ12x4Q")  # mark, size, then as the short one
_HAS_DESCRIPTOR = 0x8


class Foreign(ValueError):
    """A file that is no damaged one: another program's, or made to do harm."""


def check_records(records: list[zipfile.ZipInfo], size: int) -> None:
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
            raise Foreign(f"{record.filename} is compressed, which PyTorch's records are not")
        if record.file_size != record.compress_size:
            raise ValueError(f"{record.filename} has two sizes")
    if sum(record.file_size for record in records) > size:
        raise Foreign(f"it claims to hold more than its {size:,} bytes")


def check_layout(file: io.FileIO, records: list[zipfile.ZipInfo], table: int, size: int) -> None:
    """Checks that the file is its records, one after the other, their table and its end; no more.

    Otherwise another reader may find other records in it.

    Args:
        file: the archive, of `size` bytes.
        records: as its table lists them.
        table: where that was found.

    Raises:
        Foreign: it is more, or its parts contradict each other.
    """
    place = 0
    for record in sorted(records, key=lambda record: record.header_offset):
        if record.header_offset != place:
            raise Foreign("there is something before or between its records")
        place = _end_of_record(file, record)
    length = sum(46 + len(_name(r)) + len(r.extra) + len(r.comment) for r in records)
    facts = _facts_of_end(file, size)
    if facts != (len(records), len(records), length, place, place + length) or table != place:
        raise Foreign("its table of records is not where it says, or not the only one")


def _end_of_record(file: io.FileIO, record: zipfile.ZipInfo) -> int:
    file.seek(record.header_offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size:
        raise ValueError("it is cut short")
    mark, flags, method, *sums, name, extra = _LOCAL.unpack(head)
    told = [record.CRC, record.compress_size, record.file_size]
    later = flags & _HAS_DESCRIPTOR and sums == [0, 0, 0]
    agree = (mark, flags, method) == (b"PK\x03\x04", record.flag_bits, record.compress_type)
    if not agree or file.read(name) != _name(record) or not (later or sums == told):
        raise Foreign(f"what it says of {record.filename} is there twice, and differs")
    end: int = record.header_offset + _LOCAL.size + name + extra + record.file_size
    if not flags & _HAS_DESCRIPTOR:
        return end
    file.seek(end)
    found = file.read(24)
    for form in ("<4s3I", "<4sI2Q"):
        length = struct.calcsize(form)
        if found[:4] == b"PK\x07\x08" and [*struct.unpack(form, found[:length])[1:]] == told:
            return end + length
    raise Foreign(f"what it says of {record.filename} is there twice, and differs")


def _name(record: zipfile.ZipInfo) -> bytes:
    name = record.orig_filename.encode("utf-8" if record.flag_bits & 0x800 else "cp437")
    if b"\0" in name:
        raise Foreign(f"{record.filename} has a longer name")
    return name


def _facts_of_end(file: io.FileIO, size: int) -> tuple[int, ...]:
    """What the end says: records here and in all, size and place of their table; and its start."""
    start = size - _END.size
    file.seek(start)
    mark, *facts, comment = _END.unpack(file.read(_END.size))
    if mark != b"PK\x05\x06" or comment:
        raise Foreign("there is something after its records")
    long = start - _LOCATOR_64.size - _END_64.size
    if long < 0:
        return (*facts, start)
    file.seek(long)
    mark, length, *facts_64 = _END_64.unpack(file.read(_END_64.size))
    if _LOCATOR_64.unpack(file.read(_LOCATOR_64.size)) != (b"PK\x06\x07", long, 1):
        return (*facts, start)
    for short, found, most in zip(facts, facts_64, (2**16, 2**16, 2**32, 2**32), strict=True):
        if short not in (found, most - 1):
            raise Foreign("its end is there twice, and differs")
    if (mark, length) != (b"PK\x06\x06", _END_64.size - 12):
        raise Foreign("its end is not one of PyTorch's")
    return (*facts_64, long)
